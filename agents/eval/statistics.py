"""Statistics: intervals of success rates, paired comparisons, correlations, and Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Z_95 = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval; three nan where there is no data."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """Writes a rate as `84 % (76-90)`, or a dash without data."""
        if np.isnan(self.value):
            return "–"
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f}–{100 * self.high:.0f})"

    def points(self) -> str:
        """Writes a paired difference in percentage points as `+12 (+3 to +21)`, or a dash without data."""
        if np.isnan(self.value):
            return "–"
        if self.value == self.low == self.high == 0:  # pairs all alike have nothing to resample, and prove nothing
            return "+0 (no pair differs)"
        return f"{100 * self.value:+.0f} ({100 * self.low:+.0f} to {100 * self.high:+.0f})"


def wilson(successes: int, trials: int) -> Interval:
    """Gives a success rate with its 95 % Wilson score interval (Wilson 1927).

    Unlike the normal interval it stays inside [0, 1] and is honest at 0 and at 100 % (Brown, Cai
    and DasGupta 2001).

    Args:
        successes: Number of successes.
        trials: Number of episodes; none gives nan.

    Raises:
        ValueError: If not `0 <= successes <= trials`.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes={successes} with trials={trials}; accepted: 0 <= successes <= trials")
    if trials == 0:
        return Interval(np.nan, np.nan, np.nan)
    rate, z2 = successes / trials, Z_95**2
    center = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z_95 * sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return Interval(rate, max(0.0, center - half), min(1.0, center + half))


def paired_difference(
    before: Sequence[float], after: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Gives the mean of `after - before` over pairs with its 95 % percentile bootstrap interval.

    Pairs are resampled whole (Efron and Tibshirani 1993, chapter 13), so what a start has in common
    for both policies cancels.

    Args:
        before: One figure per seed, `(N,)`.
        after: The other policy's figures for the same seeds, `(N,)`.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"before has {len(before)} figures and after {len(after)}; accepted: equal lengths")
    difference = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    if not len(difference):
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    means = difference[rng.integers(len(difference), size=(resamples, len(difference)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high))


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Gives the two-sided p-value of McNemar's exact test on paired successes (McNemar 1947).

    Only episodes that one policy solves and the other does not speak: under the null hypothesis
    each of them falls to either side with probability 1/2.

    Args:
        before: One success per seed, `(N,)`.
        after: The other policy's successes for the same seeds, `(N,)`.

    Raises:
        ValueError: If the lengths differ.
    """
    if len(before) != len(after):
        raise ValueError(f"before has {len(before)} figures and after {len(after)}; accepted: equal lengths")
    first, second = np.asarray(before, bool), np.asarray(after, bool)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    tail = sum(comb(lost + won, i) for i in range(min(lost, won) + 1)) / 2 ** (lost + won)
    return min(1.0, 2 * tail)


def p_text(p: float) -> str:
    """Writes a p-value as `0.012`; none is 0."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Gives the linear correlation of two rows of figures `(N,)`; nan where one of them is constant."""
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Gives the rank correlation (Spearman 1904) of two rows of figures `(N,)`; nan where one of them is constant."""
    return pearson(ranks(first), ranks(second))


def ranks(values: ArrayLike) -> np.ndarray:
    """Gives the ranks of values `(N,)` from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Renders a Markdown table, padded so that it also reads well in a terminal."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    padded = [" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    padded.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in padded)
