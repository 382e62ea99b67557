"""Statistics: intervals of success rates, paired comparisons, correlations, and Markdown tables.

Uses scipy and tabulate. Importing scipy takes most of a second, so it is imported inside the functions that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tabulate import tabulate


class Interval(NamedTuple):
    """An estimate with its 95 % interval; all three are nan without data."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """Formats a rate as `84 % (76–90)`, or as a dash without data."""
        if np.isnan(self.value):
            return "–"
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f}–{100 * self.high:.0f})"

    def points(self) -> str:
        """Formats a paired difference in percentage points as `+12 (+3 to +21)`, or as a dash without data."""
        if np.isnan(self.value):
            return "–"
        if self.value == self.low == self.high == 0:  # without a differing pair, the bootstrap interval has no meaning
            return "+0 (no pair differs)"
        return f"{100 * self.value:+.0f} ({100 * self.low:+.0f} to {100 * self.high:+.0f})"

    def point_figures(self, name: str) -> dict[str, float | None]:
        """Returns a paired difference in `points`, as NAME_points, NAME_low_points and NAME_high_points."""
        names = (f"{name}_points", f"{name}_low_points", f"{name}_high_points")
        return dict(zip(names, map(points, self), strict=True))


def points(difference: float) -> float | None:
    """Converts a difference of rates to percentage points with one decimal; None for NaN, since JSON has no NaN."""
    return None if np.isnan(difference) else round(100 * float(difference), 1) + 0.0  # no -0.0


UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))
"""Estimate without data."""


def wilson(successes: int, trials: int) -> Interval:
    """Returns a success rate with its 95 % Wilson score interval (Wilson 1927).

    Unlike the normal approximation, it stays within [0, 1] and has good coverage near 0 and 100 % (Brown, Cai and
    DasGupta 2001).

    Args:
        successes: Number of successes.
        trials: Number of episodes; 0 gives nan.

    Raises:
        ValueError: If not `0 <= successes <= trials`.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= trials:
        raise ValueError(f"successes={successes} with trials={trials}; accepted: 0 <= successes <= trials")
    if trials == 0:
        return UNKNOWN
    low, high = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return Interval(successes / trials, float(low), float(high))


def paired_difference(
    before: Sequence[float], after: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Returns the mean of `after - before` over pairs with its 95 % percentile bootstrap interval.

    Whole pairs are resampled (Efron and Tibshirani 1993, chapter 13), so the effect of an initial state that is common
    to both policies cancels.

    Args:
        before: One value per seed, `(N,)`.
        after: The other policy's values for the same seeds, `(N,)`.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If the lengths differ.
    """
    from scipy.stats import bootstrap

    first, second = _pairs(before, after)
    difference = second - first
    if len(difference) < 2:  # nothing to resample
        return Interval(*3 * [float(difference[0])]) if len(difference) else UNKNOWN
    found = bootstrap(
        (difference,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed)
    )
    return Interval(float(np.mean(difference)), *map(float, found.confidence_interval))


def paired_values(before: Mapping[Any, float], after: Mapping[Any, float]) -> tuple[list[float], list[float]]:
    """Returns the values of two policies on their common starts, sorted by start.

    Args:
        before: One value per start; a start is, for instance, a task and a seed.
        after: The other policy's values.
    """
    common = sorted(before.keys() & after.keys())
    return [before[start] for start in common], [after[start] for start in common]


def paired_gain(before: Mapping[Any, float], after: Mapping[Any, float]) -> Interval:
    """Returns the `paired_difference` of two policies on their common starts; `UNKNOWN` if there are none."""
    return paired_difference(*paired_values(before, after))


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Returns the two-sided p-value of McNemar's exact test on paired successes (McNemar 1947).

    Only episodes that exactly one of the two policies solves count: under the null hypothesis, either policy is the one
    with probability 1/2.

    Args:
        before: One success per seed, `(N,)`.
        after: The other policy's successes for the same seeds, `(N,)`.

    Raises:
        ValueError: If the lengths differ.
    """
    from scipy.stats import binomtest

    first, second = _pairs(before, after)
    lost, won = int((first > second).sum()), int((first < second).sum())
    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def _pairs(before: Sequence[float], after: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(before) != len(after):
        raise ValueError(f"before has {len(before)} figures and after {len(after)}; accepted: equal lengths")
    return np.asarray(before, np.float64), np.asarray(after, np.float64)


def p_text(p: float) -> str:
    """Formats a p-value as `0.012`, or as `<0.001` if it is smaller."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Returns the linear correlation of two samples `(N,)`; nan if one of them is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, first, second)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Returns the rank correlation (Spearman 1904) of two samples `(N,)`; nan if one of them is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, first, second)


def _correlation(function: Callable[..., Any], first: ArrayLike, second: ArrayLike) -> float:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(function(one, other).statistic)


def auc(score: ArrayLike, truth: ArrayLike) -> float:
    """Returns the area under the ROC curve of scores `(N,)` for a truth `(N,)` of 0 and 1.

    It is the probability that a positive has a higher score than a negative, where equal scores count half (Mann and
    Whitney); nan if there is no positive or no negative.
    """
    from scipy.stats import mannwhitneyu

    scores, true = np.asarray(score), np.asarray(truth) > 0.5
    if true.all() or not true.any():
        return float("nan")
    # The p-value is not used; the asymptotic method is the fast one.
    above = mannwhitneyu(scores[true], scores[~true], method="asymptotic").statistic
    return float(above / (true.sum() * (~true).sum()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Formats a Markdown table that is also readable in a terminal."""
    cells = [list(map(str, row)) for row in rows]
    return tabulate(cells, header, tablefmt="github", disable_numparse=True)
