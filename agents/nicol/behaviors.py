"""Records NICOL's episodes with scripted experts, imperfect attempts, play, random actions, and saved policies."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from dream_env.agents.data.behaviors import Behavior, Job, Observation, load_policy
from dream_env.agents.nicol import both_arms
from dream_env.agents.policies.registry import check_encoder, env_kwargs_of, world_model_of
from dream_env.data.episode import Episode
from dream_env.nicol import shift as scenes
from dream_env.nicol import tasks
from dream_env.nicol.constants import SETPOINT_STEP, denormalize
from dream_env.nicol.layout import OBJECTS
from dream_env.nicol.physics import TEXTURES
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks.carry import GRASP_X
from dream_env.nicol.tasks.task import TABLE_Z
from dream_env.observations import ObsType
from dream_env.spec import WorldSpec

TASKS = (*tasks.TASKS, "all")
"""Values of `--task`."""
SCENES = tuple(scenes.SCENES)
"""Values of `--scene`."""
GRASPING = tuple(name for name in tasks.TASKS if name not in ("reach", "push"))
"""Tasks in which the hand has to grasp."""
MIX = "demo:0.15,expert:0.2,misjudge:0.2,attempt:0.2,play:0.2,random:0.05"
"""Default mix of behaviors, meant for fitting world models; few of the episodes are demonstrations."""
DEMO_NOISE = 0.15
"""Standard deviation of the noise on demonstrated actions."""
EXPERT_NOISE = 0.5
"""Largest standard deviation of the noise on the expert's actions; each episode draws a value up to this."""
MISJUDGMENT = 0.025
"""Largest standard deviation of the error of the cube positions in `misjudge` (m); each episode draws a value up to
this."""
RANDOM_NOISE = 0.7
"""Standard deviation of random actions."""
PERSISTENCE = 0.97
"""Correlation of `misjudge`'s position error from one step to the next: it is almost constant in an episode."""
CORRELATION = 0.8
"""Correlation of `expert` and `random` noise from one step (0.1 s) to the next."""


def noise(
    rng: np.random.Generator, std: float, size: int, correlation: float = CORRELATION
) -> Generator[np.ndarray, None, None]:
    """Yields samples `(size,)` of a stationary Ornstein-Uhlenbeck process."""
    value = rng.normal(0, std, size)
    while True:
        yield value
        value = correlation * value + np.sqrt(1 - correlation**2) * rng.normal(0, std, value.shape)


def demo(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Records demonstrations: the scripted expert with slight action noise.

    The noise makes the episodes show how mistakes are corrected; the label is the expert's action without noise (DART,
    Laskey et al. 2017).
    """
    while True:
        yield env.expert_action() + rng.normal(0, DEMO_NOISE, len(obs["proprio"]))


def expert(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Follows the scripted expert with correlated noise, whose strength ranges from none to so much that it fails."""
    for disturbance in noise(rng, rng.uniform(0, EXPERT_NOISE), len(obs["proprio"])):
        yield env.expert_action() + disturbance


def misjudge(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Follows the expert for wrong positions of the cubes, with slight action noise.

    Most episodes end in a near miss: a grasp at the cube's edge, or a push past its side. A world model that was fitted
    without such episodes predicts that every attempt succeeds.
    """
    std, size = rng.uniform(0, MISJUDGMENT), len(obs["proprio"])
    for shift, shake in zip(noise(rng, std, size, PERSISTENCE), noise(rng, DEMO_NOISE, size), strict=True):
        now = env.sim_state()
        error = np.array([*shift[:2], 0.3 * shift[2]])
        ends = None if now.ends is None else now.ends + error
        yield tasks.TASKS[env.task_name].expert(replace(now, objects=now.objects + error, ends=ends)) + shake


def attempt(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Attempts the task imperfectly: goes straight at the cube or next to it, closes early or not at all, lifts early.

    Policies in training act like this long before they act well. The outcomes in physics have to be in the data, or the
    world model will be too optimistic about such policies. Afterwards the hand also moves towards the robot's middle
    (y = 0), so cubes are dragged sideways too, and lifted cubes are swung. In tasks that place a cube, it is carried
    near its goal and released from some height. For tasks with both arms, see `both_arms`.
    """
    if tasks.TASKS[env.task_name].arms == 2:
        yield from both_arms.attempt(env, rng, obs)
    speed, beside = rng.uniform(0.5, 1.0), rng.normal(0, rng.uniform(0.005, 0.035), 2)
    low = TABLE_Z + rng.uniform(0.025, 0.055)
    early, grip, held = rng.uniform(0.01, 0.09), float(rng.random() < 0.85), rng.uniform(0.2, 1.0)
    after = np.array([rng.uniform(0, 0.25), rng.normal(0, 0.05), 0.0] if env.task_name == "push" else [0.0, 0.0, 0.18])
    closes = env.task_name in GRASPING or rng.random() < 0.3
    if env.task_name not in tasks.STANDARD:
        grip *= rng.uniform(0.5, 1.0)
    shake, goal = noise(rng, rng.uniform(0, DEMO_NOISE), len(obs["proprio"])), None
    stops: list[np.ndarray] = []
    while True:
        setpoint = denormalize(obs["proprio"])
        if goal is None:
            truth = env.truth()
            there = np.append(truth["objects"][truth["target"]][:2] + beside, low)
            near = float(np.linalg.norm(there - setpoint[:3])) < early
            target = np.append(there, grip if near and closes else 0.0)
            if (near and not closes) or (closes and setpoint[3] >= min(held, grip)):
                goal = np.append(np.maximum(there, [0, 0, low]) + after, grip if closes else 0.0)
                stops = _way_to_place(env, rng, goal)
        else:
            if stops and np.abs(goal - setpoint)[:3].max() < 0.02:
                goal = stops.pop(0)
            target = goal
        step = (target - setpoint) / SETPOINT_STEP
        obs = yield np.clip(step, -speed, speed) + next(shake)


def _way_to_place(env: Any, rng: np.random.Generator, lifted: np.ndarray) -> list[np.ndarray]:
    """Returns set-points that carry a lifted cube near its goal position and release it; none for standard tasks."""
    if env.task_name in tasks.STANDARD:
        return []
    now = env.sim_state()
    there = now.second[:2] if now.goals is None else now.goals[0]
    over = np.append(there + [GRASP_X, 0] + rng.normal(0, 0.012, 2), lifted[2:])
    down = over - [0, 0, rng.uniform(0.05, 0.14 if now.goals is not None else 0.1), 0]
    return [over, down, down * [1, 1, 1, 0]]


def random(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Draws temporally correlated random actions."""
    yield from noise(rng, RANDOM_NOISE, len(obs["proprio"]))


def play(env: Any, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Plays without a task: repeatedly approaches a random cube, and grasps, drags or lifts it.

    For tasks with both arms, see `both_arms`.
    """
    if tasks.TASKS[env.task_name].arms == 2:
        yield from both_arms.play(env, rng, obs)
    while True:
        objects = env.truth()["objects"]
        cube = objects[rng.integers(len(objects))]
        beside = cube + [*rng.normal(0, 0.025, 2), 0]
        grip = float(rng.random() < 0.7)
        moved = beside + [*rng.normal(0, 0.1, 2), rng.choice([0, 0.05, 0.15])]
        stops = [
            (beside + [0, 0, rng.uniform(0.06, 0.14)], 0.0),
            (beside + [0, 0, rng.uniform(0.0, 0.025)], 0.0),
            (beside, grip),
            (moved, grip),
        ]
        for position, closed in stops[: rng.integers(2, len(stops) + 1)]:
            target, speed = np.append(position, closed), rng.uniform(0.4, 1.0)
            for _ in range(rng.integers(3, 8)):
                step = (target - denormalize(obs["proprio"])) / SETPOINT_STEP
                obs = yield np.clip(step, -speed, speed)
                if np.abs(step).max() < 0.3:
                    break


def policy(env: Any, rng: np.random.Generator, obs: Observation, path: str) -> Behavior:
    """Acts with a saved policy, sampling its actions."""
    import torch

    torch.manual_seed(int(rng.integers(2**63)))
    actor = load_policy(path)
    actor.reset()
    while True:
        obs = yield actor.act({name: value[None] for name, value in obs.items()}, deterministic=False)[0]


def dreamt(env: Any, rng: np.random.Generator, obs: Observation, path: str, world_model: str | None = None) -> Behavior:
    """Executes open-loop the actions that a saved policy takes in a dream with the same initial state.

    In physics, a policy sees the effect of its actions and corrects itself, so it never takes the actions that exploit
    errors of the world model. This behavior records what happens in physics when these actions are taken.
    """
    import torch

    actor = load_policy(path)
    world_model = world_model or world_model_of(path) or "default"
    check_encoder(actor, world_model)
    actor.reset()
    dream = make_dream(world_model, **env_kwargs_of(actor, SPEC))
    start = {"image": obs["pixels"], "proprio": obs["proprio"], "goal_image": env.goal_image}
    noise = int(rng.integers(2**31))
    imagined, _ = dream.reset(seed=noise, options={**start, "instruction": env.instruction})
    torch.manual_seed(int(rng.integers(2**63)))
    while True:
        action = actor.act({name: value[None] for name, value in imagined.items()}, deterministic=False)[0]
        imagined, *_ = dream.step(action)
        yield action


POLICIES = ("policy", "dreamt")
"""Behaviors that need a saved policy."""
BEHAVIORS: dict[str, Callable[..., Behavior]] = {
    "expert": expert,
    "demo": demo,
    "misjudge": misjudge,
    "attempt": attempt,
    "play": play,
    "random": random,
    "policy": policy,
    "dreamt": dreamt,
}


@lru_cache
def make_dream(world_model: str, obs_type: ObsType = "embedding", goal_env: bool = False) -> Any:
    """Creates the dream environment of a world model; it is cached per process."""
    from dream_env.nicol.dream import NicoLDreamEnv

    reward: Any = "energy" if goal_env else "success"  # not used; goal environments refuse "success"
    return NicoLDreamEnv("all", world_model=world_model, reward=reward, obs_type=obs_type, goal_env=goal_env)


@lru_cache
def make_env(task: str, policy: str | None = None, scene: str = "standard") -> Any:
    """Creates a physics environment, with the world model's embeddings if there is a policy; cached per process."""
    from dream_env.nicol import real

    if policy is None:
        return real.make(task, world_model=None, scene=scene)
    actor, world_model = load_policy(policy), world_model_of(policy) or "default"
    check_encoder(actor, world_model)
    return real.make(task, world_model=world_model, scene=scene, **env_kwargs_of(actor, SPEC))


def spec_of(env: Any, max_steps: int | None) -> WorldSpec:
    """Returns the specification of an environment's episodes; raises ValueError if `max_steps` is not their length."""
    steps = env.unwrapped._max_episode_steps
    if max_steps not in (None, steps):
        raise ValueError(f"max_steps={max_steps}; accepted: {steps}, the length of every episode of this task")
    return replace(env.unwrapped.world, horizon=steps)


FACTS = ("objects", "colors", "target", "hand", "held")
"""Labels in all of NICOL's datasets that are taken from `NicoLRealEnv.truth` in every frame."""


def padded(labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pads `objects` `(T, N, 3)` and `colors` `(T, N)` to five objects, with zeros and with color -1."""
    missing = OBJECTS - labels["colors"].shape[1]
    return labels | {
        "objects": np.pad(labels["objects"], ((0, 0), (0, missing), (0, 0))),
        "colors": np.pad(labels["colors"], ((0, 0), (0, missing)), constant_values=-1),
    }


def scene_labels(physics: Any, frames: int) -> dict[str, np.ndarray]:
    """Returns labels of the scene that was drawn for an episode, repeated for all of its frames.

    Returns:
        A dict of float32 arrays `(frames, ...)`:

        - `other`: index of the second named cube, -1 for none;
        - `goals` (4): x and y (m) at which the goal image shows the named cubes, zeros if there are none;
        - `shapes` (5) and `sizes` (5): shape and size of the objects, -1 and 0 for empty slots;
        - `scene` (14): direction of the light (3), its strength, displacement of the camera (3) and of the point it
          looks at (2), whether there are shadows, color of the table (3; -1 for the default), and index of its pattern.
    """
    start, look = physics.start, physics.scene.physics
    empty = OBJECTS - len(start.layout)
    places = np.zeros(4) if start.goals is None else np.pad(start.goals.ravel(), (0, 4 - start.goals.size))
    camera = (*look.camera_shift, *look.camera_jitter)
    table = (-1, -1, -1) if look.table is None else look.table
    values = {
        "other": -1 if start.other is None else start.other,
        "goals": places,
        "shapes": np.pad(start.layout.shapes, (0, empty), constant_values=-1),
        "sizes": np.pad(start.layout.sizes, (0, empty)),
        "scene": (*look.light, look.brightness, *camera, look.shadow, *table, TEXTURES.index(look.texture)),
    }
    return {name: np.repeat(np.array(value, np.float32)[None], frames, axis=0) for name, value in values.items()}


def _true(env: Any, obs: Observation) -> Observation:
    """Returns the observation of physics itself, whatever form a policy is shown."""
    return getattr(env, "true_observation", obs)


def record(env: Any, job: Job) -> Episode:
    """Records one episode. The same job gives the same episode."""
    obs, _ = env.reset(seed=job.seed)
    physics = env.unwrapped
    given = {"path": job.policy, "world_model": job.world_model}
    kwargs = {name: value for name, value in given.items() if value is not None}
    first = obs if job.kind == "policy" else _true(env, obs)  # a dream starts from what physics shows
    behavior = BEHAVIORS[job.kind](physics, np.random.default_rng([job.seed, 1]), first, **kwargs)
    observations, truths, actions, experts = [_true(env, obs)], [physics.truth()], [], []
    for step in range(physics.episode_steps):
        action = behavior.send(obs) if step else next(behavior)
        actions.append(np.clip(action, -1, 1).astype(np.float32))
        experts.append(physics.expert_action())
        obs, *_ = env.step(actions[-1])
        observations.append(_true(env, obs))
        truths.append(physics.truth())
    labels = {"expert": np.stack(experts)} | {name: np.stack([truth[name] for truth in truths]) for name in FACTS}
    if physics.scene_name != "standard" or physics.task_name not in tasks.STANDARD:
        labels = padded(labels) | scene_labels(physics, len(truths))
    return Episode(
        observation={name: np.stack([obs[name] for obs in observations]) for name in ("pixels", "proprio")},
        goal={"pixels": physics.goal_image},
        action=np.stack(actions),
        success=np.array([truth["condition"] for truth in truths]),
        instruction=physics.instruction,
        labels=labels,
        seed=job.seed,
        kind=job.kind,
        task=physics.task_name,
    )
