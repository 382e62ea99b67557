"""Statistics against published and independently computed values."""

import numpy as np
import pytest
from scipy import stats

from dream_env.agents.eval.statistics import (
    auc,
    markdown_table,
    mcnemar,
    p_text,
    paired_difference,
    pearson,
    spearman,
    wilson,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (1, 3), (84, 100), (150, 200)])
def test_wilson_equals_scipy(successes, trials):
    interval = wilson(successes, trials)
    known = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert interval == pytest.approx((successes / trials, known.low, known.high), abs=1e-12)


def test_wilson_of_a_published_example():
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662, 0 of 20 gives 0 to 0.1611."""
    assert wilson(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20)[1:] == pytest.approx((0, 0.1611), abs=5e-5)


def test_correlations_equal_scipy():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 50)
    second = first + rng.normal(0, 2, 50).round()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first, second).statistic)
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3])) and np.isnan(pearson([1], [2]))


def test_wilson_without_data_and_with_impossible_counts():
    assert np.isnan(wilson(0, 0)).all() and wilson(0, 0).percent() == "–"
    with pytest.raises(ValueError, match="successes=5 with trials=4"):
        wilson(5, 4)


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(1)
    start = rng.normal(0, 10, 200)
    after = start + 1 + rng.normal(0, 0.5, 200)
    interval = paired_difference(start, after)
    known = stats.bootstrap((after - start,), np.mean, method="percentile", rng=2).confidence_interval
    assert interval.value == pytest.approx((after - start).mean())
    assert interval[1:] == pytest.approx((known.low, known.high), abs=0.01)
    assert paired_difference(start, after) == interval
    with pytest.raises(ValueError, match="before has 2 figures and after 3"):
        paired_difference([0, 1], [0, 1, 1])


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (5, 5), (2, 12), (9, 1)])
def test_mcnemar_equals_the_exact_binomial(lost, won):
    before = [True] * lost + [False] * won + [True] * 7 + [False] * 3
    after = [False] * lost + [True] * won + [True] * 7 + [False] * 3
    known = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(before, after) == pytest.approx(known)


def test_texts():
    assert wilson(84, 100).percent() == "84 % (76–90)"
    assert paired_difference([0, 0], [1, 1]).points() == "+100 (+100 to +100)"
    assert paired_difference([0, 1], [0, 1]).points() == "+0 (no pair differs)"
    assert paired_difference([0, 1], [1, 0]).points() == "+0 (-100 to +100)"
    assert [p_text(p) for p in (0.0, 0.0009, 0.001, 1.0)] == ["<0.001", "<0.001", "0.001", "1.000"]
    assert markdown_table(["a", "long"], [["x", 1.5], ["yyyy", "z"]]).splitlines() == [
        "| a    | long   |",
        "|------|--------|",
        "| x    | 1.5    |",
        "| yyyy | z      |",
    ]


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    truth, score = rng.random(60) < 0.3, rng.random(60).round(1)
    above = (score[truth][:, None] > score[~truth]) + 0.5 * (score[truth][:, None] == score[~truth])
    assert auc(score, truth) == pytest.approx(above.mean())
    assert auc([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]) == 1 and np.isnan(auc([1, 2], [1, 1]))


def test_one_pair_has_nothing_to_resample():
    assert paired_difference([1], [3]) == (2, 2, 2) and np.isnan(paired_difference([], [])).all()
