"""Initial states of NICOL's dreams: recorded states whose goal image shows the scripted expert's result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dream_env.initial_states import FILE, InitialStates
from dream_env.nicol.tasks import STANDARD, TASKS
from dream_env.world_models import checkpoint

if TYPE_CHECKING:
    from dream_env.nicol.episodes import Episode, EpisodeDataset

MIDDLE_STEPS = (3, 6)
"""Mid-episode states are taken from this step on, and up to this many steps before the end of the episode."""


def tasks_of(world_model: str | Path) -> tuple[str, ...]:
    """Returns NICOL's tasks that a world model's initial states belong to; the standard ones if it has no such file."""
    file = checkpoint.resolve(world_model) / FILE
    known = InitialStates.load(file).tasks if file.is_file() else ()
    return tuple(task for task in TASKS if task in known) or STANDARD


def of_pictures(
    images: np.ndarray,
    proprio: np.ndarray,
    goal_images: np.ndarray,
    task: np.ndarray,
    instruction: np.ndarray,
    goal: np.ndarray | None = None,
    step: np.ndarray | None = None,
) -> InitialStates:
    """Builds initial states from arrays.

    Args:
        images: Images of the policy camera, `(N, 64, 64, 3)` uint8.
        proprio: Set-points `(N, 4)` in [-1, 1].
        goal_images: Goal images, `(M, 64, 64, 3)` uint8.
        task: Names of the tasks, `(N,)`.
        instruction: The instructions, `(N,)`.
        goal: Row in `goal_images` of each state's goal, `(N,)`; None if row i belongs to state i (M = N).
        step: Step of the episode at which each state was recorded, `(N,)`; None for 0.
    """
    return InitialStates(
        observation={"pixels": np.array(images), "proprio": np.asarray(proprio, np.float32)},
        goal_observation={"pixels": np.array(goal_images)},
        goal=np.arange(len(images)) if goal is None else np.array(goal),
        task=np.array(task).astype(str),
        instruction=np.array(instruction).astype(str),
        step=np.zeros(len(images), np.int64) if step is None else np.array(step),
    )


def from_episodes(
    episodes: EpisodeDataset, *, middles: int = 3, limit: int | None = None, seed: int = 0
) -> InitialStates:
    """Collects initial states from recorded episodes.

    Only episodes of kind "expert" or "demo" are used that start unsolved and end in success: their starts can be
    solved, and their goal images show the solution. States in which the condition already holds are left out. In
    addition to random mid-episode steps, the last step before the hand closes and the last one before the cube is held
    are used: near contact the world model is least certain, and training is most useful.

    Args:
        episodes: The episodes; those that do not qualify are skipped.
        middles: Number of random mid-episode states per episode, see `MIDDLE_STEPS`: steps 3 to 18 of 24.
        limit: Largest number of episodes per task; None for all.
        seed: Seed of the random steps.

    Raises:
        ValueError: If no episode qualifies.
    """
    rng = np.random.default_rng(seed)
    taken: dict[str, int] = {}
    goals: list[np.ndarray] = []
    rows: list[tuple[np.ndarray, np.ndarray, int, str, str, int]] = []
    shown = np.isin(episodes.kind, ("expert", "demo")) & episodes.success & ~episodes.condition[:, 0]
    for i in np.flatnonzero(shown).tolist():
        if limit is not None and taken.get(str(episodes.task[i]), 0) >= limit:
            continue
        episode = episodes[i]
        taken[episode.task] = taken.get(episode.task, 0) + 1
        for step in (0, *_middle_steps(episode, middles, rng)):
            image, proprio = episode.images[step], episode.proprio[step]
            rows.append((image, proprio, len(goals), episode.task, episode.instruction, step))
        goals.append(episode.goal_image)
    if not rows:
        raise ValueError(
            "episodes contain no usable start; accepted: expert or demo episodes that start unsolved and end in success"
        )
    images, proprio, goal, task, instruction, steps = (np.array(column) for column in zip(*rows, strict=True))
    return of_pictures(images, proprio, np.array(goals), task, instruction, goal, steps)


def _middle_steps(episode: Episode, count: int, rng: np.random.Generator) -> list[int]:
    """Returns mid-episode steps of an episode: keyframes before contact, and `count` random steps."""
    first, last = MIDDLE_STEPS[0], len(episode.action) - MIDDLE_STEPS[1]
    closing = episode.proprio[:, 3] - episode.proprio[0, 3] > 0.5
    keyframes = [int(flags.argmax()) - 1 for flags in (closing, episode.held) if flags.any()]
    steps = np.concatenate([keyframes, rng.permutation(np.arange(first, last + 1))[:count]])
    solved = np.flatnonzero(episode.condition)
    within = (steps >= first) & (steps <= last) & ~np.isin(steps, solved)
    return np.unique(steps[within]).astype(int).tolist()
