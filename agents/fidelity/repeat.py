"""Physics repeated, with every cube a little elsewhere: how exact a prediction can be at all.

Contacts multiply small differences. A dream knows the cubes as well as a picture of 64 x 64 pixels shows them, to some
millimeters, so even perfect dynamics would go astray. What physics itself makes of such an error is the measure for
the dream's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from dream_env.agents import pool
from dream_env.agents.fidelity.figures import TOUCHED
from dream_env.agents.starts import OFFSET, carry_out
from dream_env.episodes import EpisodeDataset


@dataclass(frozen=True)
class Take:
    """A recorded episode to play again: its seed, task, and actions `(T, 4)`."""

    seed: int
    task: str
    action: np.ndarray


def astray(episodes: EpisodeDataset, workers: pool.Workers = None) -> np.ndarray:
    """Plays recorded episodes again in physics, each cube displaced by `OFFSET` at the start.

    Args:
        episodes: N episodes, recorded with their own seeds and tasks.
        workers: Processes; all cores by default.

    Returns:
        How far from its recorded place each cube ends, `(N, cubes)` cm; NaN for cubes that did not move in the record.
    """
    takes = [Take(*each) for each in zip(episodes.seed.tolist(), episodes.task.tolist(), episodes.action, strict=True)]
    with closing(pool.imap(play, takes, workers, ordered=True)) as results:
        ends = np.stack(list(tqdm(results, "physics again", len(takes), unit="episode")))
    recorded = 100 * np.asarray(episodes.objects)
    moved = np.linalg.norm(recorded - recorded[:, :1], axis=-1).max(1) > TOUCHED
    return np.where(moved, np.linalg.norm(ends - recorded[:, -1], axis=-1), np.nan)


def play(take: Take, offset: float = OFFSET) -> np.ndarray:
    """Plays one episode again and returns where its cubes end, `(cubes, 3)` cm."""
    return 100 * carry_out(take.task, take.seed, take.action, offset).truth()["objects"]


def median(errors: np.ndarray, rows: Sequence[int] | np.ndarray) -> dict[str, Any]:
    """Returns the median over the moved cubes of some episodes (cm), None without any, and their number."""
    some = errors[rows]
    count = int(np.isfinite(some).sum())
    return {"moved": float(np.nanmedian(some)) if count else None, "cubes_moved": count}
