"""Computes tests, intervals and power on arrays with scipy and statsmodels, with a defined result for each degenerate case.

None stands for "not defined": too few numbers, or no spread. Nothing here warns, and nothing returns NaN.
Sources: Efron (1987), "Better bootstrap confidence intervals", JASA 82(397); Holm (1979), "A simple sequentially rejective
multiple test procedure", Scand. J. Statist. 6(2); McNemar (1947), Psychometrika 12(2); Clopper & Pearson (1934), Biometrika
26(4); Lachin (1999), "Worst-rank score analysis with informatively missing observations", Control. Clin. Trials 20(5);
Schuirmann (1987), "A comparison of the two one-sided tests procedure", J. Pharmacokinet. Biopharm. 15(6); Nadeau & Bengio
(2003), "Inference for the generalization error", Machine Learning 52(3), of folds Bouckaert & Frank (2004), PAKDD, section 3.

`overlap` is n₂ / n₁, the examples that a run is measured on for each that it is trained on, where the runs of several seeds
share training examples, as folds do: 1 / (K − 1). Their numbers are correlated, so that the variance of the mean of n of them
is estimated by (1 / n + overlap) s² in place of s² / n, the corrected resampled t-test. 0: the runs are independent.
"""

import bisect
import itertools
import math
import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats
from statsmodels.stats import power

from cnnlab.ablation.analyse import rates
from cnnlab.ablation.analyse.results import Interval
from cnnlab.metric import NO_BOUNDS, Bounds, within

RESAMPLES = 9999
"""Resamples of the bootstrap and of the sign flips; up to 13 pairs have fewer sign flips and get all of them: exact."""
RESOLUTION = 1e-9
"""Relative: numbers closer than this agree. 0.91 − 0.90 and 0.81 − 0.80 differ by 1e-16, and are one tie."""
ENOUGH_POWER = 0.8
MOST_ASSIGNMENTS = 200_000
"""Assignments up to which the rank-sum test is exact: two groups of 10 have 184,756."""
FEWEST_FLIPS = 6
"""Pairs from which the sign flips can give p below 0.05: 2 / 2^6 = 0.031."""
FEWEST_SPREADS, FEWEST_SHAPES = 5, 8
"""Pairs from which spreads, and shapes, can be compared."""
WIDE_SPREAD = 3.0
"""Ratio of standard deviations from which they differ visibly: of five normal numbers each, in 6 % of the cases by chance."""
MOST_SEEDS = 1_000_000
"""Beyond this many seeds, the answer to how many are needed is: nobody can run them."""


def with_ties(values: np.ndarray, scale: float) -> np.ndarray:
    """Returns the values, with those the same, or 0, that are as close as numbers as large as `scale` can be told apart.

    Each takes the smallest of the sizes that agree with its own. Nothing is rounded, so that sums that should be equal stay so:
    3 / 359 is 2 / 359 + 1 / 359.
    """
    sizes = np.sort(np.abs(values), axis=None, kind="stable")
    new = np.diff(sizes, prepend=0.0) > RESOLUTION * scale  # sizes that agree with none before, 0 being the first
    smallest = np.append(0.0, sizes[new])
    found = smallest[np.searchsorted(smallest, np.abs(values), side="right") - 1]
    return np.where(np.isnan(values), values, np.where(values < 0, -found, found))


def paired_differences(arm: Sequence[float], baseline: Sequence[float]) -> np.ndarray:
    """Returns f64 [S]: arm − baseline, seed by seed."""
    ours, theirs = np.asarray(arm, np.float64), np.asarray(baseline, np.float64)
    return with_ties(ours - theirs, float(np.max(np.abs([ours, theirs]), initial=0)))


def varies(values: np.ndarray) -> bool:
    """Returns whether there are at least two numbers that are not all the same."""
    return len(values) > 1 and float(np.ptp(values)) > RESOLUTION * float(np.max(np.abs(values)))


def deviation(values: np.ndarray) -> float | None:
    """Returns the standard deviation of f64 [S], with S − 1; 0 where all agree, None for fewer than two."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1)) if varies(values) else 0.0


def student_interval(values: np.ndarray, alpha: float, overlap: float = 0.0) -> Interval | None:
    """Returns the interval of the mean of f64 [S], by Student's t."""
    if not varies(values):
        return None
    if overlap:
        half = float(stats.t.ppf(1 - alpha / 2, len(values) - 1)) * corrected_error(values, overlap)
        return Interval(float(np.mean(values)) - half, float(np.mean(values)) + half)
    found = stats.ttest_1samp(values, 0.0).confidence_interval(1 - alpha)
    return Interval(float(found.low), float(found.high))


def mean_interval(values: np.ndarray, alpha: float, overlap: float = 0.0, *, bounds: Bounds = NO_BOUNDS) -> Interval | None:
    """Returns the interval of the mean of f64 [S], one number of each run: by Student's t, or of a rate of success.

    Where every number is 0 or 1, and both occur, they say whether a run succeeded: the exact interval of the rate stays in
    [0, 1], as t does not. Of other numbers with bounds, as an accuracy has, the part of the interval within them is returned,
    which covers the mean as often.
    """
    if not overlap and set(values.tolist()) == {0.0, 1.0}:
        return rates.clopper_pearson(int(np.sum(values)), len(values), alpha)
    found = student_interval(values, alpha, overlap)
    return found and Interval(*within(bounds, found.low, found.high))


def bootstrap_interval(values: np.ndarray, alpha: float, resamples: int = RESAMPLES) -> Interval | None:
    """Returns the interval of the mean of f64 [S] by the BCa bootstrap; the same numbers give the same interval."""
    if len(values) < 3 or not varies(values):
        return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # where its resamples degenerate, scipy warns and returns NaN
        found = stats.bootstrap(
            (values,), np.mean, confidence_level=1 - alpha, n_resamples=resamples, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
    return Interval(float(found.low), float(found.high)) if np.isfinite([found.low, found.high]).all() else None


def skew_that_logarithms_mend(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Returns how the differences of paired positive numbers f64 [S] are skewed, where their logarithms are not; else nothing.

    Skewed: from five pairs on one group spreads more than three times as much as the other; from eight on, or Shapiro and
    Wilk's test of the differences is below 0.05.
    """
    if len(ours) < FEWEST_SPREADS or min(np.min(ours), np.min(theirs)) <= 0:
        return ""
    logs = np.log(ours), np.log(theirs)
    if not all(varies(values) for values in (ours, theirs, *logs)):
        return ""
    ratios = [np.std(one, ddof=1) / np.std(other, ddof=1) for one, other in ((ours, theirs), logs)]
    plain, logged = (max(ratio, 1 / ratio) for ratio in ratios)
    if plain > WIDE_SPREAD:
        return f"one arm's numbers spread {plain:.2g} times as much as the other's" if logged <= WIDE_SPREAD else ""
    differences = [paired_differences(ours.tolist(), theirs.tolist()), np.subtract(*logs)]
    if len(ours) < FEWEST_SHAPES or not all(varies(values) for values in differences):
        return ""
    p, p_logged = (float(stats.shapiro(values).pvalue) for values in differences)
    return f"the differences are not normally distributed (Shapiro and Wilk's p = {p:.2g})" if p < 0.05 <= p_logged else ""


def corrected_error(values: np.ndarray, overlap: float) -> float:
    """Returns the standard error of the mean of f64 [S] whose runs share training examples: √((1 / S + overlap) s²)."""
    return float(np.std(values, ddof=1) * np.sqrt(1 / len(values) + overlap))


def p_of_t(differences: np.ndarray, overlap: float = 0.0) -> float | None:
    """Returns p of the paired t-test of f64 [S], two-sided.

    Where all differences are 0 there is nothing to explain: 1. Where all are the same number other than 0, t divides by a
    spread of 0: None rather than a p of 0, since seeds that change nothing are one observation, however often it is repeated.
    """
    if varies(differences) and overlap:
        t = abs(float(np.mean(differences))) / corrected_error(differences, overlap)
        return float(2 * stats.t.sf(t, len(differences) - 1))
    if varies(differences):
        return float(stats.ttest_1samp(differences, 0.0).pvalue)
    return 1.0 if len(differences) > 1 and not differences.any() else None


def p_of_sign_flips(differences: np.ndarray, resamples: int = RESAMPLES) -> float | None:
    """Returns p of the sign-flip test of the mean of f64 [S], two-sided; exact where 2^S is at most `resamples`."""
    if len(differences) < 2:
        return None
    if not differences.any():
        return 1.0

    scaled = differences / np.max(np.abs(differences))
    observed = abs(float(np.mean(scaled)))
    observed = observed if observed > RESOLUTION else 0.0

    def mean(flipped: np.ndarray, axis: int) -> np.ndarray:
        """Returns the means; those of the observed size are ties, in whatever order their numbers were added."""
        found = np.asarray(np.mean(flipped, axis=axis))
        is_tie = np.abs(np.abs(found) - observed) <= RESOLUTION
        return np.where(is_tie, np.where(found < 0, -observed, observed), found)

    found = stats.permutation_test(
        (scaled,), mean, permutation_type="samples", vectorized=True, n_resamples=resamples, rng=np.random.default_rng(0)
    )
    return float(found.pvalue)


def p_of_ranks(differences: np.ndarray) -> float | None:
    """Returns p of Wilcoxon's signed-rank test of f64 [S], two-sided."""
    if len(differences) < 2:
        return None
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def p_of_sign_test(differences: np.ndarray) -> float | None:
    """Returns p of the exact sign test of f64 [S], two-sided; differences of 0 are left out. 1 where all are 0."""
    if len(differences) < 2:
        return None
    above, below = int(np.sum(differences > 0)), int(np.sum(differences < 0))
    return float(stats.binomtest(above, above + below).pvalue) if above + below else 1.0


def p_of_worst_ranks(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Returns p of the rank-sum test of two groups, two-sided; −inf is the worst value, that of a run that diverged.

    By all assignments of the numbers to the groups, so that it is exact with ties too; above MOST_ASSIGNMENTS by the normal
    approximation with its correction for ties. Runs of one seed that resemble each other make it conservative.
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    ranks = stats.rankdata([*ours, *theirs])
    count, size = len(ours), len(ours) + len(theirs)
    if math.comb(size, count) > MOST_ASSIGNMENTS:
        return float(stats.mannwhitneyu(ranks[:count], ranks[count:], method="asymptotic").pvalue) if np.ptp(ranks) else 1.0
    chosen = np.array(list(itertools.combinations(range(size), count)))  # [assignments, count]
    centre = count * (size + 1) / 2
    distances = np.abs(np.sum(ranks[chosen], axis=1) - centre)
    return float(np.mean(distances >= abs(np.sum(ranks[:count]) - centre) - RESOLUTION))


def rank_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the difference of the mean ranks of two groups."""
    ranks = stats.rankdata([*ours, *theirs])
    return float(np.mean(ranks[: len(ours)]) - np.mean(ranks[len(ours) :])) if ours and theirs else 0.0


def p_of_constant(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Returns p of pairs that all differ by the same number other than 0, for which t is undefined; two-sided.

    Where neither group varies, as 100 % against 50 % with every seed, by the exact test of the two groups (Fisher's, of 5
    against 5: 0.008); where they vary together, by the sign test of the pairs.
    """
    if varies(np.asarray(ours, np.float64)) or varies(np.asarray(theirs, np.float64)):
        return p_of_sign_test(paired_differences(ours, theirs))
    return p_of_worst_ranks(ours, theirs)


def p_of_pairs(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Returns p of the paired t-test, or where all differences are the same number other than 0, p_of_constant."""
    differences = paired_differences(ours, theirs)
    p = p_of_t(differences)
    return p_of_constant(ours, theirs) if p is None and len(differences) > 1 else p


def decisive_p(ours: Sequence[float], theirs: Sequence[float], test: str) -> float | None:
    """Returns the p by which a verdict on a claim is decided from pairs.

    Args:
        ours: f64 [S], arm by seed.
        theirs: f64 [S], with the same seeds.
        test: signs: the sign flips, which can decide from six pairs on. t: the larger p of t and, from six pairs on, of the
            sign flips, so that t decides nothing by its assumption alone where they could confirm it.
    """
    differences = paired_differences(ours, theirs)
    flips = p_of_sign_flips(differences)
    if test == "signs":
        return flips
    p = p_of_pairs(ours, theirs)
    return p if p is None or flips is None or not can_flip(differences) else max(p, flips)


def p_of_equivalence(ours: Sequence[float], theirs: Sequence[float], margin: float) -> float | None:
    """Returns the larger p of two tests of pairs, each f64 [S]: that the mean difference lies above −margin, and below margin.

    Each is two-sided (decisive_p), and 1 where the mean lies on the wrong side, so that for t 0.05 is the level at which the
    95 % interval lies between the margins, as in the other tests.
    """
    found = []
    for sign in (1, -1):
        moved = [sign * value + margin for value in ours]
        reference = [sign * value for value in theirs]
        p = decisive_p(moved, reference, "t")
        if p is None:
            return None
        found.append(p if np.sum(paired_differences(moved, reference)) > 0 else 1.0)
    return max(found)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns the p-values corrected by Holm's method.

    None stays None, yet counts in the family as 1: that a test could not be made, or not yet, must not make the others easier.
    """
    values = np.array([1.0 if p is None else p for p in p_values], np.float64)
    order = np.argsort(values, kind="stable")
    # Each p times the number of those that are not smaller, never below the one before it.
    factors = np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return [None if p is None else float(value) for p, value in zip(p_values, corrected, strict=True)]


def verdict(difference: float, p: float | None, *, higher_is_better: bool | None, alpha: float) -> str:
    """Returns better, worse or undecided; of a metric without a sense, differs or undecided."""
    if p is None or p >= alpha:
        return "undecided"
    if higher_is_better is None:
        return "differs"
    return "better" if (difference > 0) == higher_is_better else "worse"


def verdicts(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    higher_is_better: bool | None,
    alpha: float,
    overlap: float = 0.0,
) -> list[tuple[float | None, float | None, str]]:
    """Returns (p of t, p after Holm, verdict) of each arm of a family from (its numbers, the baseline's), both f64 [S].

    S may differ from arm to arm. Where t is undefined, its p is None, and the one that Holm corrects is that of p_of_constant.
    From six pairs on the sign flips, which take no assumption, must agree: p below `alpha`, without a correction since they
    only withhold a verdict. Folds that all differ by the same decide nothing: exact tests would take them for independent.
    """
    differences = [paired_differences(*pair) for pair in pairs]
    plain = [p_of_t(values, overlap) for values in differences]
    # Where t is undefined for two pairs and more, they all differ by the same.
    tested = [
        p_of_constant(*pair) if p is None and len(values) > 1 and not overlap else p
        for pair, values, p in zip(pairs, differences, plain, strict=True)
    ]
    found = []
    for values, p, q in zip(differences, plain, holm(tested), strict=True):
        word = verdict(float(np.mean(values)) if len(values) else 0.0, q, higher_is_better=higher_is_better, alpha=alpha)
        found.append((p, q, confirmed(word, values, alpha)))
    return found


def confirmed(word: str, differences: np.ndarray, alpha: float) -> str:
    """Returns a verdict by t on f64 [S]; undecided where the sign flips have a say and do not agree."""
    is_denied = word != "undecided" and can_flip(differences) and (p_of_sign_flips(differences) or 0.0) >= alpha
    return "undecided" if is_denied else word


def can_flip(differences: np.ndarray) -> bool:
    """Returns whether the sign flips of f64 [S] have a say beside t: from six pairs on, where these vary."""
    return len(differences) >= FEWEST_FLIPS and varies(differences)


def withheld(word: str, lost: int, lost_of_baseline: int) -> str:
    """Returns the verdict on an arm some of whose runs have no number (ArmSummary.lost), from that on the runs that have one.

    What the lost runs would have reached is unknown and at worst the worst, so survivors alone prove no arm better (nor
    different, of a metric without a sense); one that is worse by its survivors stays worse. For the baseline the reverse holds.
    """
    if (lost and word in ("better", "differs")) or (lost_of_baseline and word in ("worse", "differs")):
        return "undecided"
    return word


def effect_size(differences: np.ndarray) -> float | None:
    """Returns Cohen's d of paired differences f64 [S]."""
    return float(np.mean(differences) / np.std(differences, ddof=1)) if varies(differences) else None


def power_of_t(effect: float, pairs: int, alpha: float) -> float:
    """Returns the probability that a paired t-test of `pairs` pairs finds an effect of `effect` standard deviations."""
    with np.errstate(all="ignore"):
        both = float(power.TTestPower().power(abs(effect), pairs, alpha))
        # The far tail of scipy's noncentral t is NaN for large effects, where it is below 1e-10; the near tail is the power.
        return (
            both if np.isfinite(both) else float(power.TTestPower().power(abs(effect), pairs, alpha / 2, alternative="larger"))
        )


def seeds_needed(effect: float, alpha: float, enough: float = ENOUGH_POWER) -> int | None:
    """Returns the fewest pairs with a power of `enough` to find `effect` standard deviations; None where a million are too few.

    The effect is a declared one, such as the smallest effect of interest: the power for an observed effect only repeats its p.

    By bisection over whole numbers: `TTestPower.solve_power` does not converge for effects above five standard deviations,
    which two or three seeds show easily.
    """
    if power_of_t(effect, MOST_SEEDS, alpha) < enough:
        return None
    return 2 + bisect.bisect_left(range(2, MOST_SEEDS), enough, key=lambda pairs: power_of_t(effect, pairs, alpha))


def factorial_contrast(table: np.ndarray, against_first: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns f64 [S]: an effect in a full factorial f64 [levels of each factor..., S], seed by seed.

    against_first: (axis, level) to compare with level 0 of that axis. One pair makes a main effect, two a difference of
    differences; the axes that are not named are averaged over.
    """
    values = table
    for axis, level in against_first:
        values = np.take(values, [level], axis) - np.take(values, [0], axis)
    return with_ties(np.mean(values, axis=tuple(range(table.ndim - 1))), float(np.max(np.abs(table), initial=0)))
