"""Tells whether a recording is so fast that a step of it hardly changes anything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FAST, ADVISED = 15.0, 10.0
"""Steps per second above which a recording may be too fast, and the number that is advised then."""
LITTLE = 0.15
"""Change in a step, relative to the standard deviation of all frames, below which a recording is too fast."""
FRAMES = 100_000
"""Number of frames that are looked at."""


def change(vectors: Iterable[np.ndarray], episode: np.ndarray) -> float | None:
    """Returns how much a step changes the state, relative to its standard deviation; None without moving vectors.

    Args:
        vectors: Vectors of the observation, `(F, n)` each.
        episode: Episode of every frame, `(F,)`.

    Returns:
        The median over all entries that move of their root mean square change in a step.
    """
    shares, within = [np.zeros(0)], np.diff(episode[:FRAMES]) == 0
    for values in (np.asarray(each[:FRAMES], np.float64) for each in vectors):
        spread, steps = values.std(0), np.diff(values, axis=0)[within]
        moves = spread > 1e-6
        if len(steps):
            shares.append(np.sqrt(np.square(steps[:, moves]).mean(0)) / spread[moves])
    found = np.concatenate(shares)
    return float(np.median(found)) if len(found) else None


def advice(hz: float | None, vectors: Iterable[np.ndarray], episode: np.ndarray, data: str) -> str | None:
    """Returns what to do about a recording that is too fast; None if it is not.

    Args:
        hz: Steps per second; None if they do not correspond to real time.
        vectors: Vectors of the observation, `(F, n)` each; without any, `hz` alone decides.
        episode: Episode of every frame, `(F,)`.
        data: Folder of the data set.
    """
    if hz is None or hz <= FAST:
        return None
    share, skip = change(vectors, episode), max(2, round(hz / ADVISED))
    if share is not None and share >= LITTLE:
        return None
    little = "" if share is None else f", and a step changes the state by {100 * share:.0f} % of its standard deviation"
    return (
        f"recorded at {hz:g} frames per second{little}; a world model learns more from about {ADVISED:g}: "
        f"python -m agents.subsample --data {data} --frame-skip {skip} --out {data}_slower"
    )
