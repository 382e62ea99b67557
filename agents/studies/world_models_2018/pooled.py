"""Combines controllers of several seeds into one row: means, and intervals over seeds and episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 4000

Cell = Mapping[str, Any]


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Returns a 95 % bootstrap interval of the mean over groups; each group has the values of one seed.

    Both seeds and the episodes within each seed are resampled (Davison & Hinkley 1997, section 3.8), because the
    episodes of one controller do not show the variation between evolutions. With one seed, the interval is that of the
    single controller.
    """
    rng = np.random.default_rng(0)
    means = np.stack([rng.choice(np.asarray(one, float), (RESAMPLES, len(one))).mean(1) for one in groups])
    drawn = rng.integers(0, len(groups), (len(groups), RESAMPLES))
    low, high = np.percentile(np.take_along_axis(means, drawn, 0).mean(0), [2.5, 97.5])
    return float(low), float(high)


def pooled(cells: Sequence[Cell]) -> dict[str, Any]:
    """Combines cells of the same kind with different seeds into a row; `seeds` has the figures of each seed."""
    returns = [cell["returns"] for cell in cells]
    low, high = interval(returns)
    dreams = [cell for cell in cells if cell.get("dream_mean") is not None]
    row: dict[str, Any] = {
        "real_mean": float(np.mean([np.mean(one) for one in returns])),
        "real_std": float(np.std(np.concatenate(returns))),
        "real_low": low,
        "real_high": high,
        "episodes": sum(len(one) for one in returns),
        "seeds": [
            {"seed": cell.get("seed", 0), "real_mean": cell["real_mean"], "dream_mean": cell.get("dream_mean")}
            for cell in cells
        ],
    }
    if dreams:
        means = [cell["dream_mean"] for cell in dreams]
        within = np.mean([np.square(cell.get("dream_std", 0.0)) for cell in dreams])
        row |= {"dream_mean": float(np.mean(means)), "dream_std": float(np.sqrt(within + np.var(means)))}
    return row


def lead(ours: Sequence[Cell], others: Sequence[Cell]) -> dict[str, Any]:
    """Returns the difference in returns between two kinds of cells, paired by seed and episode.

    Args:
        ours: Cells of one kind, in the order of their seeds.
        others: Cells of another kind, with the same seeds.
    """
    apart = []
    for one, other in zip(ours, others, strict=True):
        count = min(len(one["returns"]), len(other["returns"]))
        apart.append(np.subtract(one["returns"][:count], other["returns"][:count]))
    low, high = interval(apart)
    seeds = [float(one.mean()) for one in apart]
    return {
        "difference": float(np.mean(seeds)),
        "low": low,
        "high": high,
        "episodes": sum(len(one) for one in apart),
        "seeds": seeds,
    }
