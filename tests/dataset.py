"""Small episodes of random numbers, and data sets of them."""

from dataclasses import fields
from pathlib import Path

import numpy as np

from dream_env.nicol.constants import EPISODE_STEPS
from dream_env.nicol.episodes import Episode, EpisodeWriter

LENGTH = EPISODE_STEPS + 1


def make_episode(seed: int, kind: str = "expert", task: str = "reach") -> Episode:
    rng = np.random.default_rng(seed)

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    return Episode(
        seed=seed,
        kind=kind,
        task=task,
        instruction=f"{task} the {['red', 'blue'][seed % 2]} cube",
        images=rng.integers(0, 256, (LENGTH, 64, 64, 3), np.uint8),
        goal_image=rng.integers(0, 256, (64, 64, 3), np.uint8),
        proprio=uniform(LENGTH, 4),
        action=uniform(EPISODE_STEPS, 4),
        label=uniform(EPISODE_STEPS, 4),
        objects=uniform(LENGTH, 3, 3),
        colors=rng.permutation(4)[:3],
        target=seed % 3,
        hand=uniform(LENGTH, 3),
        held=rng.random(LENGTH) < 0.5,
        condition=np.arange(LENGTH) >= LENGTH - 1 - seed % 4,
    )


def write(root: Path, *episodes: Episode) -> None:
    with EpisodeWriter(root) as writer:
        for episode in episodes:
            writer.add(episode)


def equal(a: Episode, b: Episode) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Episode))
