"""Behaviors that act in any Gymnasium environment, and functions that record their episodes.

An environment can have its own module with the same names, which `dream_env.agents.collect` then uses instead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dream_env.agents.run.guarded import Guarded
from dream_env.data.episode import Episode
from dream_env.preparation import Preparation, make, steps
from dream_env.spec import WorldSpec, observe, success_of

Observation = Mapping[str, np.ndarray]
Behavior = Generator[np.ndarray, Observation, None]
"""A generator that yields one unclipped action per step, and is sent the observation that follows it."""

HELD = 10
"""Default of the largest number of steps for which `held` repeats an action."""
CORRELATION = 0.9
"""Correlation of `correlated` actions from one step to the next."""
STD = 0.6
"""Standard deviation of `correlated` actions, as a fraction of half the action range."""


@dataclass(frozen=True)
class Job:
    """One episode to record.

    Attributes:
        order: Index of the episode in the collection.
        kind: The behavior, a key of `BEHAVIORS`.
        seed: Seed of the environment's reset and of the behavior.
        task: Id of the environment, or the name of a task if the environment has several.
        policy: Folder of the policy if `kind` is one of `POLICIES`.
        world_model: World model checkpoint for behaviors that act in a dream.
        env: Id of the environment.
        max_steps: Largest number of actions; None for the environment's own limit.
        preparation: Preparation of the environment, such as frame skip, action bounds and cropping.
        scene: Name of the scene if the environment has several; None for the default.
        hold: Largest number of steps for which `held` repeats an action.
    """

    order: int
    kind: str
    seed: int
    task: str
    policy: str | None = None
    world_model: str | None = None
    env: str = ""
    max_steps: int | None = None
    preparation: Preparation = Preparation()
    scene: str | None = None
    hold: int = HELD


# --- behaviors


def random(space: spaces.Space, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Draws every action uniformly at random."""
    while True:
        yield _uniform(space, rng)


def held(space: spaces.Space, rng: np.random.Generator, obs: Observation, hold: int = HELD) -> Behavior:
    """Draws actions uniformly at random and repeats each for a random number of steps, from 1 to `hold`."""
    while True:
        action = _uniform(space, rng)
        for _ in range(rng.integers(1, hold + 1)):
            yield action


def correlated(space: spaces.Space, rng: np.random.Generator, obs: Observation) -> Behavior:
    """Draws temporally correlated random actions from a stationary Ornstein-Uhlenbeck process.

    Raises:
        ValueError: If the action space is not a `Box`.
    """
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"policy='correlated' with actions of {space}; accepted: actions in a Box, or 'random', 'held'"
        )
    low, high = _bounds(space)
    value = rng.normal(0, STD, space.shape)
    while True:
        yield (low + high) / 2 + value * (high - low) / 2
        value = CORRELATION * value + np.sqrt(1 - CORRELATION**2) * rng.normal(0, STD, value.shape)


def policy(space: spaces.Space, rng: np.random.Generator, obs: Observation, path: str) -> Behavior:
    """Acts with a saved policy, sampling actions if it is stochastic; `record` shows it the inputs that it needs."""
    import torch

    torch.manual_seed(int(rng.integers(2**63)))
    actor = load_policy(path)
    actor.reset()
    while True:
        obs = yield actor.act({name: value[None] for name, value in obs.items()}, deterministic=False)[0]


def _uniform(space: spaces.Space, rng: np.random.Generator) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return space.start + rng.integers(space.n)
    assert isinstance(space, spaces.Box)
    return rng.uniform(*_bounds(space))


def _bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    if not space.is_bounded():
        raise ValueError(f"action_space={space}; accepted: a bounded Box; set --action-low and --action-high")
    return space.low.astype(np.float64), space.high.astype(np.float64)


BEHAVIORS: dict[str, Callable[..., Behavior]] = {
    "random": random,
    "held": held,
    "correlated": correlated,
    "policy": policy,
}
POLICIES = ("policy",)
"""Behaviors that need a saved policy."""
MIX = "random"
TASKS: tuple[str, ...] = ()


def load_policy(path: str) -> Any:
    """Loads a policy; it is cached per process."""
    from dream_env.agents.policies.registry import load_once

    return load_once(path)


# --- recording


@dataclass
class World:
    """An environment to record.

    Attributes:
        env: The environment.
        spec: Its specification.
    """

    env: gym.Env
    spec: WorldSpec


@lru_cache
def make_env(task: str, policy: str | None = None, preparation: Preparation | None = None) -> World:
    """Creates the environment with an id; it is cached per process.

    Raises:
        ValueError: If there is no environment with this id, or its spaces cannot be recorded.
    """
    preparation = preparation or Preparation()
    env = Guarded(make(task, preparation), task)
    limit = env.spec.max_episode_steps if env.spec is not None else None
    known: dict[str, Any] = {"horizon": steps(limit, preparation), "preparation": preparation.to_json()}
    if preparation.skip > 1 and (rate := env.metadata.get("render_fps")):
        known["control_hz"] = rate / preparation.skip
    if ":" in task:  # keep the module in the name, as the environment could not be created again without it
        known["name"] = task
    try:
        spec = _single_precision(WorldSpec.of_env(env, **known))
    except ValueError as error:
        raise ValueError(f"env={task!r}: {error}") from error
    env.reset(seed=0)
    return World(env, replace(spec, goals=goal_of(env, spec) is not None, instructions=sentence_of(env) is not None))


def spec_of(world: World, max_steps: int | None) -> WorldSpec:
    """Returns the specification of an environment's episodes, with their horizon.

    Raises:
        ValueError: If neither the environment nor `max_steps` limits the length of an episode.
    """
    limits = [limit for limit in (world.spec.horizon, max_steps) if limit is not None]
    if not limits:
        raise ValueError(f"max_steps=None; accepted: a number, as {world.spec.name} has no time limit of its own")
    return replace(world.spec, horizon=min(limits))


def record(world: World, job: Job, acts: Callable[..., Behavior] | None = None) -> Episode:
    """Records one episode. The same job gives the same episode.

    Its success is what "is_success" or "success" in `info` tell, and False in steps without. So an environment may
    tell it in the last step only, as Stable-Baselines3 expects it. If no step tells it, success is unknown.

    Args:
        world: The environment.
        job: The episode.
        acts: A custom behavior, used instead of the one that `job.kind` names.
    """
    limit = spec_of(world, job.max_steps).horizon
    env, wrapped = _env_for(world, job.policy)
    raw, info = env.reset(seed=job.seed)
    obs = within(world.spec, env.true_observation if wrapped else raw)
    inputs = raw if wrapped else obs
    given: dict[str, Any] = {} if job.policy is None else {"path": job.policy}
    if job.kind == "held":
        given["hold"] = job.hold
    behavior = (acts or BEHAVIORS[job.kind])(env.action_space, np.random.default_rng([job.seed, 1]), inputs, **given)
    goal, sentence = goal_of(world.env, world.spec), sentence_of(world.env)
    observations, success = [obs], [success_of(info)]
    actions: list[Any] = []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated or len(actions) == limit):
        action = _typed(env.action_space, behavior.send(inputs) if actions else next(behavior))
        raw, reward, terminated, truncated, info = env.step(action)
        obs = within(world.spec, env.true_observation if wrapped else raw)
        inputs = raw if wrapped else obs
        observations.append(obs)
        actions.append(action)
        rewards.append(float(reward))
        success.append(success_of(info))
    return Episode(
        observation={name: np.stack([obs[name] for obs in observations]) for name in observations[0]},
        action=np.stack(actions),
        reward=np.array(rewards, np.float32),
        terminated=bool(terminated),
        success=None if all(told is None for told in success) else np.array([bool(told) for told in success]),
        goal=goal,
        instruction=sentence or "",
        seed=job.seed,
        kind=job.kind,
        task=job.task,
    )


def _env_for(world: World, policy: str | None) -> tuple[Any, bool]:
    """Returns the environment with the observations that a policy needs, and whether it is a `WorldModelWrapper`."""
    if policy is None:
        return world.env, False
    actor: Any = load_policy(policy)
    if set(getattr(actor, "inputs", ())) <= {*world.spec.observation.spaces}:
        return world.env, False
    from dream_env.agents.policies.registry import obs_type_of, world_model_of
    from dream_env.wrappers import WorldModelWrapper

    shown, world_model = [*world.spec.observation.spaces], world_model_of(policy)
    if world_model is None:
        raise ValueError(
            f"policy={policy!r} reads {list(actor.inputs)}, and names no world model that makes them of {shown}; "
            f"accepted: a policy that reads {shown}, or a folder of `agents.train` or `agents.clone`"
        )
    return WorldModelWrapper(world.env, world_model, obs_type=obs_type_of(actor), reward="environment"), True


def goal_of(env: gym.Env, spec: WorldSpec) -> dict[str, np.ndarray] | None:
    """Returns the observation of the goal, found as by `dream_env.wrappers.WorldModelWrapper`, or None."""
    if env.has_wrapper_attr("goal_observation"):
        return {name: np.array(part) for name, part in env.get_wrapper_attr("goal_observation").items()}
    if env.has_wrapper_attr("goal_image"):
        return {spec.pictures[0]: np.array(env.get_wrapper_attr("goal_image"))}
    return None


def sentence_of(env: gym.Env) -> str | None:
    """Returns the environment's `task_description`, or None if it has none."""
    return str(env.get_wrapper_attr("task_description")) if env.has_wrapper_attr("task_description") else None


def _typed(space: spaces.Space, action: Any) -> Any:
    """Returns an action clipped to the action space, in its dtype, rounded to the precision of the recording."""
    if isinstance(space, spaces.Discrete):
        return np.int64(action)
    assert isinstance(space, spaces.Box)
    # The bounds are rounded to single precision too, so that the rounded action does not exceed them.
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return np.clip(np.asarray(action, np.float32), low, high).astype(space.dtype)


def within(spec: WorldSpec, observation: Any) -> dict[str, np.ndarray]:
    """Returns an observation in the format of the spec; vectors are clipped to the bounds of their space."""
    result = observe(observation)
    for name in spec.vectors:
        space = spec.observation[name]
        assert isinstance(space, spaces.Box)
        result[name] = np.clip(result[name].astype(np.float32), space.low, space.high)
    return result


def _single_precision(spec: WorldSpec) -> WorldSpec:
    """Returns a spec whose vectors and actions are float32, which is the format of the recording."""

    def single(space: Any) -> Any:
        if not isinstance(space, spaces.Box) or space.dtype == np.uint8:
            return space
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), space.shape, np.float32)

    observation = spaces.Dict({name: single(space) for name, space in spec.observation.spaces.items()})
    return replace(spec, observation=observation, action=single(spec.action))
