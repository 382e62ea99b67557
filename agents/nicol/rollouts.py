"""Plays any policy through episodes of either world, and records what a comparison needs."""

from __future__ import annotations

import copy
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
from dream_env.agents.policies.registry import SHIPPED, load_once
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
"""Policies that are words, not files; "expert" knows the physical state, so it has no dream."""

ACCEPTED = (
    "a folder with config.json and model.safetensors (`python -m agents.clone` makes one), a .zip of "
    f"stable-baselines3, or one of {', '.join((*SHIPPED, *SCRIPTED))}"
)
"""What names a policy."""
OTHER_SCENE = 1_000_000
"""What is added to a seed for the scene whose goal picture is shown in the place of its own."""
NO_WORDS = "please"
"""A sentence that names neither task nor color: the control without an instruction."""


@dataclass(frozen=True)
class Batch:
    """Some episodes to play: the unit of work that a process takes.

    Attributes:
        policy: Folder with config.json and model.safetensors, an SB3 .zip, or one of `SCRIPTED`.
        label: Name of the policy in the results.
        world: Where to play.
        task: Name of the task.
        seeds: One seed per episode.
        world_model: Checkpoint of the world model; None plays physics without embeddings.
        instruction: What the policy is told, see `spoken`.
        shift: Name of a shift of physics, see `dream_env.nicol.shift`.
        temperature: How much noise decides in a dream, see `dream_env.dream.NicoLDreamEnv`.
        reward: What is summed up; without a world model it is always "success".
        scene: Name of a scene, see `dream_env.nicol.shift`.
        confirm: Carries out in physics, open loop, what the policy did in the dream. In physics a policy sees where a
            dream was wrong and corrects itself; this shows what it was taught there. What it did in physics is the
            measure for that: it is repeated with every cube `OFFSET` elsewhere, as no dream knows them better.
        goal: Whose goal picture the policy is shown, see `other_goal`.
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
    """Returns the parts of the observation that a policy reads."""
    if policy in SCRIPTED:
        return ()
    return tuple(load_once(policy).inputs)


def make_actor(policy: str, seeds: Sequence[int], size: int = len(ACTION_NAMES)) -> Actor:
    """Makes the function from a batch of observations to actions `(B, size)`; seeds fix it."""
    if policy == "zero":
        return lambda obs: np.zeros((len(seeds), size), np.float32)
    if policy == "random":
        generators = [np.random.default_rng(seed) for seed in seeds]
        return lambda obs: np.stack([g.uniform(-1, 1, size) for g in generators]).astype(np.float32)
    saved = copy.copy(load_once(policy))  # which counts the steps of its own episodes
    saved.reset()
    return saved.act


class Timed:
    """Measures the processor time of an actor.

    Args:
        act: The actor.
    """

    def __init__(self, act: Actor) -> None:
        self.act, self.seconds, self.actions = act, 0.0, 0

    def __call__(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """Acts."""
        before = time.process_time()
        actions = self.act(obs)
        self.seconds += time.process_time() - before
        self.actions += len(actions)
        return actions

    @property
    def milliseconds(self) -> float:
        """Milliseconds per action."""
        return 1000 * self.seconds / max(1, self.actions)


def env_form(policy: str, world_model: str | None, reward: RewardName = DEFAULT_REWARD) -> dict[str, Any]:
    """Returns the env arguments whose observations the policy takes.

    Args:
        policy: As in `Batch`.
        world_model: Checkpoint; "default" is that of the policy where it names one.
        reward: As in `Batch`.

    Raises:
        ValueError: If the policy learned to see through another encoder, or sees through one and there is none.
    """
    keys, saved = inputs(policy), None if policy in SCRIPTED else load_once(policy)
    if world_model is None:
        if missing := sorted(set(keys) - {*SPEC.observation.spaces, "instruction"}):
            raise ValueError(
                f"world_model=None has no {missing}, which policy={policy!r} reads; accepted: a checkpoint"
            )
        return {"world_model": None, "reward": "success"}
    config = getattr(saved, "config", None)
    if world_model == "default":
        world_model = str(getattr(config, "world_model", world_model))
    if config is not None and hasattr(config, "check_encoder"):
        config.check_encoder(world_model)
    return {
        "world_model": world_model,
        "obs_type": getattr(saved, "obs_type", None)
        or next((name for name in ("pixels", "words") if name in keys), "embedding"),
        "reward": reward,
        "goal_env": "desired_goal" in keys,
    }


def spoken(mode: Instruction, env: NicoLRealEnv, seed: int) -> str:
    """Returns what the policy is told in the episode that `env` has drawn; what is judged stays.

    Args:
        mode: "normal": the instruction; "heldout": a phrasing of it that no training saw;
            "swapped": names another cube on the table, or two in the other order; "shuffled": the sentence of some
            other episode, of any task and color; "absent": `NO_WORDS`.
        env: The physics env after its reset.
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
    """Plays a batch of episodes to their end; the function that worker processes run."""
    return _play_dream(batch) if batch.world == "dream" else [_play_physics(batch, s) for s in batch.seeds]


@lru_cache(maxsize=2)
def _physics(task: str, form: tuple[tuple[str, Any], ...]) -> Any:
    """Makes the process's physics env once per form of observation; "all" plays any task for one arm."""
    from dream_env.nicol import real

    return real.make(task, **dict(form))


def _reset_physics(batch: Batch, seed: int, **form: Any) -> tuple[Any, dict[str, np.ndarray], dict[str, Any]]:
    place = {"shift": batch.shift, "scene": batch.scene}
    form = env_form(batch.policy, batch.world_model, batch.reward) | place | form
    env = _physics("all" if TASKS[batch.task].arms == 1 else batch.task, tuple(form.items()))
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
    """Returns the goal picture `(64, 64, 3)` of another scene in which the same sentence can be followed."""
    options = {"task": task, "instruction": instruction}
    env = shown_physics(scene=scene)
    env.reset(seed=OTHER_SCENE + seed, options=options)
    return env.goal_image


def _actions(batch: Batch, seed: int, env: NicoLRealEnv) -> Actor:
    if batch.policy == "expert":
        return lambda obs: env.expert_action()[None]
    return make_actor(batch.policy, [seed], len(env.proprio))


def _play_physics(batch: Batch, seed: int) -> EpisodeResult:
    """Plays one episode in physics."""
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
    """Plays one episode in physics with an actor of one's own, on what the batch's policy observes.

    Returns:
        Whether the condition of success held at the start, and whether success held at the end.
    """
    env, obs, info = _reset_physics(batch, seed)
    solved = bool(env.unwrapped.truth()["condition"])
    for _ in range(0 if solved else env.unwrapped.episode_steps):
        obs, _, _, _, info = env.step(act({key: value[None] for key, value in obs.items()})[0])
    return solved, bool(info["is_success"])


def _play_dream(batch: Batch) -> list[EpisodeResult]:
    """Plays all episodes of a batch as one batched dream; each begins as physics does for its seed."""
    from dream_env.nicol.dream import NicoLDreamVectorEnv

    bank, solved = physics_starts(batch.task, batch.seeds, batch.scene)
    steps = TASKS[batch.task].horizon
    envs = NicoLDreamVectorEnv(
        len(batch.seeds),
        batch.task,
        initial_states=bank,
        max_episode_steps=steps,
        autoreset_mode=AutoresetMode.DISABLED,
        temperature=batch.temperature,
        **env_form(batch.policy, batch.world_model, batch.reward),
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
    """Returns what dreams show as their goals: the embeddings of other scenes' under the same sentences."""
    model, words = envs.dreams.engine.model, envs.instruction
    seen = zip(words, batch.seeds, strict=True)
    pictures = np.stack([other_goal(batch.task, sentence, seed, batch.scene) for sentence, seed in seen])
    told = np.stack([embedder(model)(sentence) for sentence in words])
    given = {"pixels": torch.from_numpy(pictures), "instruction": torch.from_numpy(told)}
    with torch.inference_mode():
        goal = model.embedding(model.encode({key: part.to(model.device) for key, part in given.items()}))
    name = "desired_goal" if envs.config.goal_env else "goal"
    return {name: goal.clamp(-EMBEDDING_BOUND, EMBEDDING_BOUND).cpu().numpy()}


def _succeeds(batch: Batch, seed: int, actions: np.ndarray, offset: float = 0.0) -> bool:
    """Tells whether actions `(T, 4)` end in success, see `carry_out`."""
    return carry_out(batch.task, seed, actions, offset, batch.shift, batch.scene).is_success


def record(batch: Batch) -> list[Clip]:
    """Plays a batch in physics and the same actions, from the same start, open-loop in the dream.

    Raises:
        ValueError: If the batch names no world model to dream with.
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
        world_model = env_form(batch.policy, batch.world_model)["world_model"]
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
