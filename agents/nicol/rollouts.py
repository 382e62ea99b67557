"""Evaluates any policy in the dream or in physics, and records what a comparison needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from dream_env.agents.eval.results import Clip, EpisodeResult, Goal, Instruction, World
from dream_env.agents.nicol.physics_starts import OFFSET, carry_out, physics_starts, shown_physics
from dream_env.agents.policies.registry import SHIPPED, check_encoder, env_kwargs_of, load_once, world_model_of
from dream_env.language import embedder
from dream_env.nicol.constants import ACTION_NAMES
from dream_env.nicol.layout import COLOR_NAMES, PALETTE_NAMES
from dream_env.nicol.spec import SPEC
from dream_env.nicol.tasks import STANDARD, TASKS
from dream_env.observations import EMBEDDING_BOUND
from dream_env.rewards import DEFAULT_REWARD, RewardName

if TYPE_CHECKING:
    from dream_env.nicol.env import NicoLRealEnv

Actor = Callable[[dict[str, np.ndarray]], np.ndarray]
SCRIPTED = ("expert", "random", "zero")
"""Policies that are not files. "expert" needs the simulator's state, so it cannot act in the dream."""

ACCEPTED = (
    "a folder with config.json and model.safetensors (`python -m agents.clone` makes one), a .zip of "
    f"stable-baselines3, or one of {', '.join((*SHIPPED, *SCRIPTED))}"
)
"""Accepted names of policies, for error messages."""
OTHER_SCENE = 1_000_000
"""Offset that is added to the seed to draw another scene, whose goal image replaces the episode's own."""
NO_WORDS = "please"
"""A sentence that names neither task nor color, for the control experiment without an instruction."""


@dataclass(frozen=True)
class Batch:
    """A batch of evaluation episodes, which one worker process runs.

    Attributes:
        policy: Folder with config.json and model.safetensors, an SB3 .zip, or one of `SCRIPTED`.
        label: Name of the policy in the results.
        world: Where to run the episodes: the dream or physics.
        task: Name of the task.
        seeds: One seed per episode.
        world_model: Checkpoint of the world model; None runs physics without embeddings.
        instruction: Which instruction the policy is given, see `spoken`.
        shift: Name of a shift of physics, see `dream_env.nicol.shift`.
        temperature: Temperature of the dream's noise, see `dream_env.dream.DreamEnv`.
        reward: Reward that is summed over the episode; without a world model it is always "success".
        scene: Name of a scene, see `dream_env.nicol.shift`.
        confirm: Whether to execute the policy's actions again in physics, open-loop. For the dream, this shows whether
            the actions that succeed there also succeed in physics, where a policy could otherwise see the dream's
            errors and correct itself. For physics, it gives the reference for that: the actions are repeated with every
            cube displaced by `OFFSET`, since no world model knows their positions better.
        goal: Which goal image the policy is given, see `other_goal`.
    """

    policy: str
    label: str
    world: World
    task: str
    seeds: tuple[int, ...]
    world_model: str | None = "default"
    instruction: Instruction = "normal"
    shift: str = "none"
    temperature: float = 1.0
    reward: RewardName = DEFAULT_REWARD
    confirm: bool = False
    scene: str = "standard"
    goal: Goal = "own"


def inputs(policy: str) -> tuple[str, ...]:
    """Returns the names of the observation entries that a policy reads."""
    if policy in SCRIPTED:
        return ()
    return tuple(load_once(policy).inputs)


def make_actor(policy: str, seeds: Sequence[int], size: int = len(ACTION_NAMES)) -> Actor:
    """Returns a function from a batch of observations to actions `(B, size)`.

    Args:
        policy: As in `Batch`, except "expert".
        seeds: One seed per row of the batch, for "random".
        size: Length of an action, for scripted policies.
    """
    if policy == "zero":
        return lambda obs: np.zeros((len(seeds), size), np.float32)
    if policy == "random":
        generators = [np.random.default_rng(seed) for seed in seeds]
        return lambda obs: np.stack([g.uniform(-1, 1, size) for g in generators]).astype(np.float32)
    return load_once(policy).act


class Timed:
    """Wraps an actor and measures its CPU time.

    Args:
        act: The actor.
    """

    def __init__(self, act: Actor) -> None:
        self.act, self.seconds, self.actions = act, 0.0, 0

    def __call__(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Returns the actor's actions."""
        before = time.process_time()
        actions = self.act(obs)
        self.seconds += time.process_time() - before
        self.actions += len(actions)
        return actions

    @property
    def milliseconds(self) -> float:
        """CPU time in milliseconds per action."""
        return 1000 * self.seconds / max(1, self.actions)


def env_kwargs(policy: str, world_model: str | None, reward: RewardName = DEFAULT_REWARD) -> dict[str, Any]:
    """Returns the environment arguments that give the observations which a policy reads.

    Args:
        policy: As in `Batch`.
        world_model: Checkpoint; "default" stands for the policy's own world model if its config names one.
        reward: As in `Batch`.

    Raises:
        ValueError: If the policy was trained with another encoder, or needs a world model and there is none.
    """
    keys, saved = inputs(policy), None if policy in SCRIPTED else load_once(policy)
    if world_model is None:
        if missing := sorted(set(keys) - {*SPEC.observation.spaces, "instruction"}):
            raise ValueError(
                f"world_model=None has no {missing}, which policy={policy!r} reads; accepted: a checkpoint"
            )
        return {"world_model": None, "reward": "success"}
    if world_model == "default" and saved is not None:
        world_model = world_model_of(policy) or world_model
    check_encoder(saved, world_model)
    kwargs = {"obs_type": "embedding", "goal_env": False} if saved is None else env_kwargs_of(saved, SPEC)
    return {"world_model": world_model, "reward": reward, **kwargs}


def spoken(mode: Instruction, env: NicoLRealEnv, seed: int) -> str:
    """Returns the sentence for the policy in the episode that `env` has drawn; success is judged as before.

    Args:
        mode: "normal": the instruction itself. "heldout": a phrasing of it that is not used in training. "swapped": an
            instruction that names another cube on the table, or the two cubes in the other order. "shuffled": a
            sentence of a random standard task and color. "absent": `NO_WORDS`.
        env: The physics environment after its reset.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng([seed, 1])
    truth, names, grammar = env.truth(), COLOR_NAMES, TASKS[env.task_name].grammar
    named = names[truth["colors"][truth["target"]]]
    other = None if truth["other"] is None else names[truth["colors"][truth["other"]]]
    if mode == "absent":
        return NO_WORDS
    if mode == "heldout":
        return grammar.sample(rng, named, "test", other)
    if mode == "swapped":
        if other is not None:
            return grammar.sample(rng, other, other=named)
        on_table = [names[i] for i in truth["colors"] if i < len(names) and names[i] != named]
        return grammar.sample(rng, str(rng.choice(on_table or [name for name in names if name != named])))
    if mode == "shuffled":
        task = TASKS[str(rng.choice(STANDARD))]
        return task.grammar.sample(rng, str(rng.choice(names)))
    return env.instruction


def play(batch: Batch) -> list[EpisodeResult]:
    """Runs a batch of episodes to their end; this is the function that worker processes run."""
    return _play_dream(batch) if batch.world == "dream" else [_play_physics(batch, s) for s in batch.seeds]


@lru_cache(maxsize=2)
def _physics(task: str, kwargs: tuple[tuple[str, Any], ...]) -> Any:
    """Creates a physics environment, cached per process and arguments; with "all" it runs any task for one arm."""
    from dream_env.nicol import real

    return real.make(task, **dict(kwargs))


def _reset_physics(batch: Batch, seed: int, **kwargs: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    place = {"shift": batch.shift, "scene": batch.scene}
    kwargs = env_kwargs(batch.policy, batch.world_model, batch.reward) | place | kwargs
    env = _physics("all" if TASKS[batch.task].arms == 1 else batch.task, tuple(kwargs.items()))
    obs, info = env.reset(seed=seed, options={"task": batch.task})
    shown: dict[str, Any] = {}
    if batch.instruction != "normal":
        shown["spoken"] = spoken(batch.instruction, env.unwrapped, seed)
    if batch.goal == "other":
        shown["goal_image"] = other_goal(batch.task, env.unwrapped.instruction, seed, batch.scene)
    if shown:
        obs, info = env.reset(seed=seed, options={"task": batch.task, **shown})
    return env, obs, info


def other_goal(task: str, instruction: str, seed: int, scene: str = "standard") -> np.ndarray:
    """Returns the goal image `(64, 64, 3)` of another scene that has the same instruction."""
    options = {"task": task, "instruction": instruction}
    env = shown_physics(scene=scene)
    env.reset(seed=OTHER_SCENE + seed, options=options)
    return env.goal_image


def _actions(batch: Batch, seed: int, env: NicoLRealEnv) -> Actor:
    if batch.policy == "expert":
        return lambda obs: env.expert_action()[None]
    return make_actor(batch.policy, [seed], len(env.proprio))


def _play_physics(batch: Batch, seed: int) -> EpisodeResult:
    """Runs one episode in physics."""
    env, obs, info = _reset_physics(batch, seed)
    physics: Any = env.unwrapped
    solved = bool(physics.truth()["condition"])
    act, total, taken = Timed(_actions(batch, seed, physics)), 0.0, []
    for _ in range(physics.episode_steps):
        taken.append(act({key: value[None] for key, value in obs.items()})[0])
        obs, reward, _, _, info = env.step(taken[-1])
        total += float(reward)
    truth = physics.truth()
    named, *touched = (PALETTE_NAMES[truth["colors"][i]] for i in (truth["target"], *truth["touched"]))
    return EpisodeResult(
        batch.label,
        "physics",
        batch.task,
        seed,
        physics.spoken,
        solved,
        bool(info["is_success"]),
        total,
        None if batch.world_model is None else float(info["distance"]),
        named,
        touched[0] if touched else None,
        _succeeds(batch, seed, np.stack(taken), OFFSET) if batch.confirm else None,
        act.milliseconds,
    )


def physics_episode(batch: Batch, seed: int, act: Actor) -> tuple[bool, bool]:
    """Runs one episode in physics with a custom actor, on the observations of the batch's policy.

    Returns:
        Whether the task's condition held at the start (the episode is then not run), and whether success held at the
        end.
    """
    env, obs, info = _reset_physics(batch, seed)
    solved = bool(env.unwrapped.truth()["condition"])
    for _ in range(0 if solved else env.unwrapped.episode_steps):
        obs, _, _, _, info = env.step(act({key: value[None] for key, value in obs.items()})[0])
    return solved, bool(info["is_success"])


def _play_dream(batch: Batch) -> list[EpisodeResult]:
    """Runs all episodes of a batch in one vectorized dream, from the initial states that physics has for the seeds."""
    from dream_env.nicol.dream import NicoLDreamVectorEnv

    starts, solved = physics_starts(batch.task, batch.seeds, batch.scene)
    steps = TASKS[batch.task].horizon
    envs = NicoLDreamVectorEnv(
        len(batch.seeds),
        batch.task,
        initial_states=starts,
        max_episode_steps=steps,
        autoreset_mode=AutoresetMode.DISABLED,
        temperature=batch.temperature,
        **env_kwargs(batch.policy, batch.world_model, batch.reward),
    )
    obs, info = envs.reset(seed=list(batch.seeds), options={"start": np.arange(len(batch.seeds))})
    act, total, taken = Timed(make_actor(batch.policy, batch.seeds)), np.zeros(len(batch.seeds)), []
    shown = _other_goals(batch, envs) if batch.goal == "other" else {}
    for _ in range(steps):
        taken.append(act({**obs, **shown}))
        obs, reward, _, _, info = envs.step(taken[-1])
        total += reward
    words = envs.instruction
    envs.close()
    rows = zip(batch.seeds, words, solved, info["is_success"], total, info["distance"], strict=True)
    outcomes = [
        EpisodeResult(
            *(batch.label, "dream", batch.task, seed, said, done, bool(won), float(sum_), float(end)),
            milliseconds=act.milliseconds,
        )
        for seed, said, done, won, sum_, end in rows
    ]
    if not batch.confirm:
        return outcomes
    return [
        replace(outcome, confirmed=_succeeds(batch, outcome.seed, actions))
        for outcome, actions in zip(outcomes, np.stack(taken, axis=1), strict=True)
    ]


def _other_goals(batch: Batch, envs: Any) -> dict[str, np.ndarray]:
    """Returns the goal entry of observations, replaced by embeddings of other scenes' goals for the instructions."""
    model, sentences = envs.dreams.engine.model, envs.instruction
    pairs = zip(sentences, batch.seeds, strict=True)
    images = np.stack([other_goal(batch.task, sentence, seed, batch.scene) for sentence, seed in pairs])
    words = np.stack([embedder(model)(sentence) for sentence in sentences])
    given = {"pixels": torch.from_numpy(images), "instruction": torch.from_numpy(words)}
    with torch.inference_mode():
        goal = model.embedding(model.encode({key: part.to(model.device) for key, part in given.items()}))
    name = "desired_goal" if envs.config.goal_env else "goal"
    return {name: goal.clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND).cpu().numpy()}


def _succeeds(batch: Batch, seed: int, actions: np.ndarray, offset: float = 0.0) -> bool:
    """Returns whether actions `(T, 4)` end in success in physics, see `carry_out`."""
    return carry_out(batch.task, seed, actions, offset, batch.shift, batch.scene).is_success


def record(batch: Batch) -> list[Clip]:
    """Runs a batch in physics, and the same actions open-loop in the dream from the same initial states.

    Returns:
        Clips with the images of both.

    Raises:
        ValueError: If the batch has no world model.
    """
    from dream_env.nicol.dream import NicoLDreamEnv

    if batch.world_model is None:
        raise ValueError("world_model=None has no dream to show; accepted: a checkpoint")
    clips = []
    for seed in batch.seeds:
        env, obs, info = _reset_physics(batch, seed)
        physics: Any = env.unwrapped
        start = {
            "image": physics.last_observation["pixels"],
            "proprio": physics.proprio.copy(),
            "goal_image": physics.goal_image,
        }
        world_model = env_kwargs(batch.policy, batch.world_model)["world_model"]
        dream = NicoLDreamEnv(batch.task, obs_type="pixels", world_model=world_model)
        imagined, _ = dream.reset(seed=seed, options=start | {"instruction": physics.spoken})
        pictures = [(start["image"], imagined["pixels"])]
        act = _actions(batch, seed, physics)
        for _ in range(physics.episode_steps):
            action = act({key: value[None] for key, value in obs.items()})[0]
            obs, _, _, _, info = env.step(action)
            imagined, *_ = dream.step(action)
            pictures.append((physics.last_observation["pixels"], imagined["pixels"]))
        dream.close()
        real, dreamed = (np.stack(side) for side in zip(*pictures, strict=True))
        clips.append(Clip(batch.task, physics.spoken, bool(info["is_success"]), real, dreamed))
    return clips
