"""Repeats episodes in physics with every cube slightly displaced, to measure how exact a prediction can be at all.

Contacts amplify small differences. A world model knows the positions of the cubes only as exactly as a picture of
64 x 64 pixels shows them, to a few millimeters, so even perfect dynamics would drift. The error of physics after such a
displacement is the reference for the error of the dream.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dream_env.agents.fidelity.figures import TOUCHED
from dream_env.agents.nicol.physics_starts import OFFSET, carry_out
from dream_env.agents.run import workers as pool
from dream_env.nicol.episodes import EpisodeDataset
from dream_env.progress import progress_bar


@dataclass(frozen=True)
class Take:
    """A recorded episode to repeat: its seed, task, and actions `(T, 4)`."""

    seed: int
    task: str
    action: np.ndarray


class Again(NamedTuple):
    """Final states of N recorded episodes when physics repeats them.

    Attributes:
        error: Distance of each cube from its recorded final position, `(N, cubes)` cm; NaN for cubes that did not move
            in the recording.
        condition: Whether the success condition of the task holds at the end, `(N,)` bool.
    """

    error: np.ndarray
    condition: np.ndarray

    def take(self, rows: np.ndarray) -> Again:
        """Returns the entries of some episodes, given a mask over all N."""
        return Again(self.error[rows], self.condition[rows])


def again(episodes: EpisodeDataset, workers: pool.Workers = None) -> Again:
    """Repeats recorded episodes in physics, with each cube displaced by `OFFSET` at the start.

    Args:
        episodes: N episodes, recorded with their own seeds and tasks.
        workers: Number of processes, or "ray"; all cores by default.
    """
    takes = [Take(*each) for each in zip(episodes.seed.tolist(), episodes.task.tolist(), episodes.action, strict=True)]
    with closing(pool.imap(play, takes, workers, ordered=True)) as results:
        ends, conditions = zip(*progress_bar(results, "physics again", len(takes), unit="episode"), strict=True)
    recorded = 100 * np.asarray(episodes.objects)
    moved = np.linalg.norm(recorded - recorded[:, :1], axis=-1).max(1) > TOUCHED
    error = np.linalg.norm(np.stack(ends) - recorded[:, -1], axis=-1)
    return Again(np.where(moved, error, np.nan), np.array(conditions))


def play(take: Take, offset: float = OFFSET) -> tuple[np.ndarray, bool]:
    """Repeats one episode; returns the final cube positions `(cubes, 3)` cm and whether the success condition holds."""
    truth = carry_out(take.task, take.seed, take.action, offset).truth()
    return 100 * truth["objects"], bool(truth["condition"])


def median(error: np.ndarray) -> dict[str, Any]:
    """Returns the median of `Again.error` over the cubes that moved (cm; None without any), and their number."""
    count = int(np.isfinite(error).sum())
    return {"moved": float(np.nanmedian(error)) if count else None, "cubes_moved": count}
