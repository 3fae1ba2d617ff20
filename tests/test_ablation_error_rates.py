"""How often the tests behind verdicts err, by simulation, against scipy, and by hand where the case is small.

A shape is a distribution of the runs of two arms that do not differ in what the test is about, so that each call is an error:
"better" and "worse" may each be called in 2.5 % of the studies, up to the error of the simulation.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from cnnlab.ablation.analyse import rates, statistics, two_way
from cnnlab.metric import SHARE, Metric

Runs = tuple[np.ndarray, np.ndarray]
"""(ours, theirs), each f64 [studies, S]."""


def normal(random: np.random.Generator, size: tuple[int, int]) -> Runs:
    """Accuracies that share what the seed gives both arms."""
    shared = random.normal(0.8, 0.02, size)
    return shared + random.normal(0, 0.01, size), shared + random.normal(0, 0.01, size)


def lognormal(random: np.random.Generator, size: tuple[int, int]) -> Runs:
    """Losses that span a decade and more."""
    return np.exp(random.normal(-3, 1.2, size)), np.exp(random.normal(-3, 1.2, size))


def saturated(random: np.random.Generator, size: tuple[int, int]) -> Runs:
    """Accuracies of a network that mostly gets all of 359 test images right: few values, many ties."""
    return 1 - random.poisson(0.7, size) / 359, 1 - random.poisson(0.7, size) / 359


def one_saturated(random: np.random.Generator, size: tuple[int, int]) -> Runs:
    """Losses of which only one arm's spread, with equal means of the logarithms."""
    return np.exp(random.normal(-4, 1.2, size)), np.exp(random.normal(-4, 0.01, size))


SHAPES = {"normal": normal, "lognormal": lognormal, "saturated": saturated}


def signs_of(count: int) -> np.ndarray:
    """Returns all sign patterns, f64 [2^S, S]."""
    return np.array(list(itertools.product((1.0, -1.0), repeat=count)))


def p_of_t(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    differences = np.round(ours - theirs, 12)
    count = differences.shape[1]
    with np.errstate(all="ignore"):
        t = np.mean(differences, axis=1) / np.std(differences, axis=1, ddof=1) * np.sqrt(count)
    found = np.where(np.ptp(differences, axis=1) > 0, 2 * stats.t.sf(np.abs(t), count - 1), 1.0)
    # Constant differences other than 0 are decided by another test, one by one; they are few.
    for index in np.flatnonzero((np.ptp(differences, axis=1) == 0) & (differences[:, 0] != 0)):
        found[index] = statistics.p_of_pairs(ours[index], theirs[index])
    return found


def p_of_sign_flips(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    differences = np.round(ours - theirs, 12)
    sums = np.abs(differences @ signs_of(ours.shape[1]).T)  # [studies, 2^S]
    return np.mean(sums >= np.abs(np.sum(differences, axis=1, keepdims=True)) - 1e-9, axis=1)


def p_of_worst_ranks(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    count = ours.shape[1]
    ranks = stats.rankdata(np.concatenate([ours, theirs], axis=1), axis=1)  # [studies, 2 S]
    chosen = np.zeros((len(list(itertools.combinations(range(2 * count), count))), 2 * count))
    for row, members in enumerate(itertools.combinations(range(2 * count), count)):
        chosen[row, list(members)] = 1
    centre = count * (2 * count + 1) / 2
    distances = np.abs(ranks @ chosen.T - centre)  # [studies, assignments]
    return np.mean(distances >= np.abs(np.sum(ranks[:, :count], axis=1, keepdims=True) - centre) - 1e-9, axis=1)


def p_of_sign_test(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    above, below = np.sum(ours - theirs > 0, axis=1), np.sum(ours - theirs < 0, axis=1)
    fewer = np.minimum(above, below)
    return np.minimum(1.0, 2 * stats.binom.cdf(fewer, above + below, 0.5))


def p_of_t_and_flips(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """From six pairs on sign flips have a say too: t alone errs in 2.8 % of studies of eight saturated pairs."""
    p = p_of_t(ours, theirs)
    return p if ours.shape[1] < 6 else np.maximum(p, p_of_sign_flips(ours, theirs))


def p_of_logarithms(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    return p_of_t_and_flips(np.log(ours), np.log(theirs))


TESTS = {
    "t": (p_of_t_and_flips, lambda a, b: statistics.decisive_p(a, b, "t")),
    "t of logarithms": (p_of_logarithms, lambda a, b: statistics.decisive_p(np.log(a), np.log(b), "t")),
    "sign flips": (p_of_sign_flips, lambda a, b: statistics.p_of_sign_flips(a - b)),
    "worst ranks": (p_of_worst_ranks, statistics.p_of_worst_ranks),
    "signs": (p_of_sign_test, lambda a, b: statistics.p_of_sign_test(a - b)),
}
"""{name: (p of many studies at once, p of one study as the verdicts take it)}."""


def require_few(p: np.ndarray, direction: np.ndarray) -> None:
    """Asserts that neither direction is called more often than 2.5 %, up to three standard errors of the simulation."""
    most = 0.025 + 3 * np.sqrt(0.025 * 0.975 / len(p))
    for sign in (1, -1):
        assert np.mean((p < 0.05) & (direction * sign > 0)) <= most


def require_first(p: np.ndarray, one: Callable[..., float | None], ours: np.ndarray, theirs: np.ndarray) -> None:
    """Asserts that the first five of many p are those of `one`, which the package takes of one study."""
    assert p[:5] == pytest.approx([one(a, b) for a, b in zip(ours[:5], theirs[:5], strict=True)], rel=1e-6)


@pytest.mark.parametrize("name", TESTS)
def test_null_effects_are_seldom_called_whatever_the_shape(name: str):
    many, one = TESTS[name]
    random = np.random.default_rng(0)
    for shape, count in itertools.product(SHAPES, (5, 8) if name != "worst ranks" else (4, 5)):
        ours, theirs = SHAPES[shape](random, (4000, count))
        p = many(ours, theirs)
        require_few(p, np.mean(ours - theirs, axis=1) if name != "worst ranks" else np.sum(np.sign(ours - theirs), axis=1))
        require_first(p, one, ours, theirs)


def test_logarithms_repair_a_saturated_arm_for_which_t_fails():
    ours, theirs = one_saturated(np.random.default_rng(1), (4000, 8))
    p = p_of_logarithms(ours, theirs)
    require_few(p, np.mean(np.log(ours / theirs), axis=1))
    require_first(p, lambda a, b: statistics.decisive_p(np.log(a), np.log(b), "t"), ours, theirs)
    # Equal means of the numbers themselves: t calls the skewed arm lower several times too often.
    equal_means = ours / np.exp(1.2**2 / 2), theirs
    p = p_of_t(*equal_means)
    require_first(p, statistics.p_of_pairs, *equal_means)
    below = (p < 0.05) & (np.mean(equal_means[0] - equal_means[1], axis=1) < 0)
    assert np.mean(below) > 0.1


@pytest.mark.parametrize("shape", SHAPES)
def test_worst_ranks_seldom_err_where_both_arms_diverge_alike(shape: str):
    random = np.random.default_rng(2)
    ours, theirs = (np.where(random.random((4000, 5)) < 0.3, -np.inf, runs) for runs in SHAPES[shape](random, (4000, 5)))
    ranks = stats.rankdata(np.concatenate([ours, theirs], axis=1), axis=1)
    p = p_of_worst_ranks(ours, theirs)
    require_few(p, np.sum(ranks[:, :5] - ranks[:, 5:], axis=1))
    require_first(p, statistics.p_of_worst_ranks, ours, theirs)


def p_of_equivalence(ours: np.ndarray, theirs: np.ndarray, margin: float) -> np.ndarray:
    """By t and, from six pairs on, the sign flips: that the mean difference lies above −margin, and below margin."""
    sides = [
        np.where(np.mean(sign * (ours - theirs) + margin, axis=1) > 0, p_of_t_and_flips(sign * ours + margin, sign * theirs), 1)
        for sign in (1, -1)
    ]
    return np.maximum(*sides)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.5, 3.0])
def test_two_arms_at_the_margin_are_seldom_called_equivalent(shape: str, share: float):
    random = np.random.default_rng(3)
    for count in (5, 8):
        ours, theirs = SHAPES[shape](random, (4000, count))
        margin = share * float(np.std(ours - theirs))
        p = p_of_equivalence(ours + margin, theirs, margin)
        require_few(p, np.ones(len(p)))
        require_first(p, lambda a, b, margin=margin: statistics.p_of_equivalence(a, b, margin), ours + margin, theirs)
    # Where t alone decides, it is the pair of one-sided t-tests.
    five = np.random.default_rng(3).normal(0.002, 0.005, 5)
    tails = [stats.ttest_1samp(five, -s * 0.01, alternative=w).pvalue for s, w in ((1, "greater"), (-1, "less"))]
    assert statistics.p_of_equivalence(five, np.zeros(5), 0.01) == pytest.approx(2 * max(tails))


def four_arms(random: np.random.Generator, shape: str, count: int) -> list[np.ndarray]:
    """Runs of made, not made, twice: the change does the same in both settings, of which one multiplies by ten."""
    (made, not_made), (other_made, other_not_made) = (SHAPES[shape](random, (4000, count)) for _ in range(2))
    return [made, not_made, 10 * other_made, 10 * other_not_made]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_interaction_that_is_not_there_is_seldom_called(shape: str):
    random = np.random.default_rng(5)
    for count in (5, 8):
        runs = four_arms(random, shape, count)
        logs = [np.log(each) for each in runs]
        for made, not_made, other_made, other_not_made in (runs, logs):
            changes = made - not_made, other_made - other_not_made
            p = p_of_t_and_flips(*changes)
            require_few(p, np.mean(changes[0] - changes[1], axis=1))
            require_first(p, lambda a, b: statistics.decisive_p(a, b, "t"), *changes)


@pytest.mark.parametrize("shape", SHAPES)
def test_ranked_changes_seldom_err_where_runs_diverge_alike_in_both_settings(shape: str):
    random = np.random.default_rng(6)
    (made, not_made), (other_made, other_not_made) = (SHAPES[shape](random, (4000, 5)) for _ in range(2))
    # The change makes three runs of ten diverge, in one setting as in the other.
    made, other_made = (np.where(random.random(runs.shape) < 0.3, -np.inf, runs) for runs in (made, other_made))
    changes = made - not_made, other_made - other_not_made
    ranks = stats.rankdata(np.concatenate(changes, axis=1), axis=1)
    p = p_of_worst_ranks(*changes)
    require_few(p, np.sum(ranks[:, :5] - ranks[:, 5:], axis=1))
    require_first(p, statistics.p_of_worst_ranks, *changes)


@pytest.mark.parametrize("spread_of_seeds", [0.02, 0.3])
def test_two_way_intervals_cover_the_difference_of_all_seeds_and_examples(spread_of_seeds: float):
    random, shape = np.random.default_rng(7), (400, 5, 300)  # studies, seeds, examples
    hard = random.normal(1.2, 1, (400, 1, 300))
    arms = []
    for better in (random.normal(0, 0.5, (400, 1, 300)), 0.0):
        # Whether an example is right: by how hard it is, by what the arm and the seed give, and by chance.
        given = better + random.normal(0, spread_of_seeds, (400, 5, 1))
        arms.append(hard + given + 0.6 * random.standard_normal(shape, np.float32) > 0)
    spread = 1 + 0.6**2 + spread_of_seeds**2
    truth = stats.norm.cdf(1.2 / np.sqrt(spread + 0.5**2)) - stats.norm.cdf(1.2 / np.sqrt(spread))
    tables = arms[0].astype(np.float64) - arms[1]
    found = [two_way.interval(table, 0.05) for table in tables]
    most = 0.025 + 3 * np.sqrt(0.025 * 0.975 / len(found))
    assert np.mean([one.low > truth for one in found]) <= most and np.mean([one.high < truth for one in found]) <= most
    alone = [statistics.student_interval(np.mean(table, axis=1), 0.05) for table in tables]
    missed = np.mean([not one.low <= truth <= one.high for one in alone])
    assert (missed > 0.08) == (spread_of_seeds == 0.02), "the seeds alone cover less where examples matter more"


def test_intervals_of_a_success_rate_and_fishers_test_agree_with_the_arithmetic():
    whole = rates.clopper_pearson(5, 5, 0.05)
    assert (whole.low, whole.high) == (pytest.approx(0.025 ** (1 / 5)), 1.0)
    assert rates.clopper_pearson(0, 0, 0.05) == statistics.Interval(0, 1)
    assert rates.p_of_fisher((5, 5), (0, 5)) == pytest.approx(2 / 252)
    for rate in (0.1, 0.5, 0.9):  # the rates of the counts outside whose interval the true rate lies
        misses = [stats.binom.pmf(k, 20, rate) for k in range(21) if rates.clopper_pearson(k, 20, 0.05).low > rate]
        assert sum(misses) <= 0.025


def test_the_interval_of_a_rate_stays_between_0_and_1_and_that_of_other_numbers_is_students():
    runs = np.array([1.0] * 9 + [0.0])
    assert statistics.student_interval(runs, 0.05).high > 1
    assert statistics.mean_interval(runs, 0.05) == rates.clopper_pearson(9, 10, 0.05)
    for values in (np.ones(10), np.zeros(10), np.array([0.9, 1.0, 0.0])):
        assert statistics.mean_interval(values, 0.05) == statistics.student_interval(values, 0.05)
    near, student = np.array([0.99, 1.0, 0.8]), statistics.student_interval(np.array([0.99, 1.0, 0.8]), 0.05)
    found = statistics.mean_interval(near, 0.05, bounds=Metric("accuracy", SHARE, is_proportion=True).bounds)
    assert student.high > 1 and (found.low, found.high) == (student.low, 1.0)
    assert statistics.mean_interval(near, 0.05, bounds=Metric("loss").bounds) == student


def test_worst_ranks_by_hand():
    diverged = [-np.inf] * 5
    assert statistics.p_of_worst_ranks(diverged, [0.1, 0.12, 0.11, 0.15, 0.13]) == pytest.approx(2 / 252)
    assert statistics.p_of_worst_ranks(diverged, diverged) == 1
    assert statistics.p_of_worst_ranks([1.0], [2.0]) is None
    many = np.arange(12.0), np.arange(12.0) + 3.5
    assert statistics.p_of_worst_ranks(*many) == pytest.approx(stats.mannwhitneyu(*many, method="exact").pvalue, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_null_effects_are_seldom_called_in_a_long_simulation(name: str):
    many, one = TESTS[name]
    random = np.random.default_rng(4)
    for shape, count in itertools.product(SHAPES, (3, 5, 6) if name == "worst ranks" else (3, 5, 8, 10)):
        studies = [SHAPES[shape](random, (10_000, count)) for _ in range(4)]  # in pieces, since one array would not fit
        p = np.concatenate([many(*runs) for runs in studies])
        require_first(p, one, *studies[0])
        require_few(p, np.concatenate([np.mean(ours - theirs, axis=1) for ours, theirs in studies]))
