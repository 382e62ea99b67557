"""Statistics: intervals of success rates, paired comparisons, correlations, and Markdown tables.

scipy and tabulate do the work. scipy takes most of a second to import, so it is imported where something is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from tabulate import tabulate


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


UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))
"""The estimate without data."""


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
    from scipy.stats import bootstrap

    first, second = _pairs(before, after)
    difference = second - first
    if len(difference) < 2:  # nothing to resample
        return Interval(*3 * [float(difference[0])]) if len(difference) else UNKNOWN
    found = bootstrap(
        (difference,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(seed)
    )
    return Interval(float(np.mean(difference)), *map(float, found.confidence_interval))


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Gives the two-sided p-value of McNemar's exact test on paired successes (McNemar 1947).

    Only episodes that one policy solves and the other does not count: under the null hypothesis
    each of them falls to either side with probability 1/2.

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
    """Writes a p-value as `0.012`; none is 0."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def pearson(first: ArrayLike, second: ArrayLike) -> float:
    """Gives the linear correlation of two samples `(N,)`; nan where one of them is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, first, second)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Gives the rank correlation (Spearman 1904) of two samples `(N,)`; nan where one of them is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, first, second)


def _correlation(function: Callable[..., Any], first: ArrayLike, second: ArrayLike) -> float:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(function(one, other).statistic)


def auc(score: ArrayLike, truth: ArrayLike) -> float:
    """Gives the area under the ROC curve of scores `(N,)` for a truth `(N,)` of 0 and 1.

    It is the probability that a positive scores above a negative (Mann and Whitney), an equal score counting half; nan
    if there is no positive or no negative.
    """
    from scipy.stats import mannwhitneyu

    scores, true = np.asarray(score), np.asarray(truth) > 0.5
    if true.all() or not true.any():
        return float("nan")
    # The p-value is not of interest; the asymptotic one takes no time.
    above = mannwhitneyu(scores[true], scores[~true], method="asymptotic").statistic
    return float(above / (true.sum() * (~true).sum()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Renders a Markdown table that also reads well in a terminal."""
    cells = [list(map(str, row)) for row in rows]
    return tabulate(cells, header, tablefmt="github", disable_numparse=True)
