"""Exact statistics of rates: how many runs reach a level, or how many examples are classified rightly. Imports no jax."""

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from cnnlab.ablation.analyse.results import Interval


def clopper_pearson(successes: int, trials: int, alpha: float) -> Interval:
    """Returns the exact interval of a success rate, of confidence 1 − alpha; [0, 1] for no trials."""
    if not trials:
        return Interval(0.0, 1.0)
    found = stats.binomtest(successes, trials).proportion_ci(1 - alpha, method="exact")
    return Interval(float(found.low), float(found.high))


def p_of_rate(successes: int, trials: int, rate: float) -> float | None:
    """Returns p of the exact binomial test, twice the smaller tail, which agrees with Clopper and Pearson's interval."""
    if not trials:
        return None
    tails = [float(stats.binomtest(successes, trials, rate, alternative=way).pvalue) for way in ("less", "greater")]
    return min(1.0, 2 * min(tails))


def p_of_fisher(ours: tuple[int, int], theirs: tuple[int, int]) -> float:
    """Returns p of Fisher's exact test of two success rates, two-sided, each (successes, trials)."""
    table = [[count, trials - count] for count, trials in (ours, theirs)]
    return float(stats.fisher_exact(table).pvalue)


def p_of_mcnemar(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    """Returns p of McNemar's exact test of two classifiers, from bool [N]: whether each is right on the same examples."""
    if not len(ours) or len(ours) != len(theirs):
        return None
    mine, other = np.asarray(ours, bool), np.asarray(theirs, bool)
    table = [[np.sum(mine & other), np.sum(mine & ~other)], [np.sum(~mine & other), np.sum(~mine & ~other)]]
    return float(mcnemar(table, exact=True).pvalue)
