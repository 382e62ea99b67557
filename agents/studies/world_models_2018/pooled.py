"""Controllers of several seeds as one row: means, and intervals that count seeds as well as episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 4000

Cell = Mapping[str, Any]


def interval(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Returns a 95 % bootstrap interval of the mean over groups, each of the values of one seed.

    Seeds are drawn again, and episodes within each of them (Davison & Hinkley 1997, section 3.8): the episodes of one
    controller say nothing of another evolution. With one seed it is the interval of that controller alone.
    """
    rng = np.random.default_rng(0)
    means = np.stack([rng.choice(np.asarray(one, float), (RESAMPLES, len(one))).mean(1) for one in groups])
    drawn = rng.integers(0, len(groups), (len(groups), RESAMPLES))
    low, high = np.percentile(np.take_along_axis(means, drawn, 0).mean(0), [2.5, 97.5])
    return float(low), float(high)


def pooled(cells: Sequence[Cell]) -> dict[str, Any]:
    """Returns a row of the cells of the same kind with different seeds; each seed's own figures are in `seeds`."""
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
    """Returns how much more the first cells were paid than the others, seed by seed on the same episodes.

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
