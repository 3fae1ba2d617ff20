"""The statistics of a study: each number against another way to it, the degenerate cases, and honesty by simulation."""

import dataclasses
import gc
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import integrate, stats

from cnnlab.ablation.analyse import rates, statistics, two_way
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.analyse.comparable import require_comparable
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.tasks.classification_metrics import METRICS

SLEEP = np.array([-1.2, -2.4, -1.3, -1.3, 0.0, -1.0, -1.8, -0.8, -4.6, -1.4])
"""Cushny and Peebles' extra hours of sleep, drug 1 − drug 2, as in Student (1908), Biometrika 6(1), p. 20."""
PROVENANCE = {
    "commit": "a" * 40,
    "uncommitted_changes": False,
    "steps": 100,
    "data": {"name": "digits", "fingerprint": "f" * 64, "sizes": {"train": 1000, "test": 400}},
}


DECLARED = {metric.name: metric for metric in METRICS}
"""The metrics that the classifier's task declares."""
OWN = Metric("own", higher_is_better=False)


def study(arms, count=5, factors=None, controls=(), **options) -> Study:
    made = tuple(
        Arm(name, knobs if isinstance(knobs, dict) else {}, control=name in controls)
        for name, knobs in (arms.items() if isinstance(arms, dict) else [(name, {}) for name in arms])
    )
    return Study("toy", "toy", {}, "grid", made, tuple(range(count)), factors or {}, **{"metrics": DECLARED, **options})


def finished(values, metric="test/accuracy", **options) -> list[RunResult]:
    """Outcomes of {arm: metric of seed 0, 1, …}; None leaves a seed out."""
    options = {"provenance": PROVENANCE} | options
    return [
        RunResult(arm, seed, "DONE", "", "", {metric: value}, **options)
        for arm, several in values.items()
        for seed, value in enumerate(several)
        if value is not None
    ]


def compared(differences, controls=(), baseline=None, **options) -> Analysis:
    """The analysis of arms that differ from the baseline by so much, seed by seed."""
    count = max(len(several) for several in differences.values())
    baseline = [0.5 + 0.01 * seed for seed in range(count)] if baseline is None else baseline
    values = {"baseline": baseline}
    values |= {arm: [b + d for b, d in zip(baseline, several, strict=False)] for arm, several in differences.items()}
    return analyse(study(list(values), count, controls=controls), finished(values), **options)


# The numbers


def test_paired_t_agrees_with_student_1908_and_with_scipy():
    contrast = compared({"drug": SLEEP / 100}).rows[1].contrast
    assert contrast.p_t == pytest.approx(0.00283, abs=1e-5)  # R: t.test(extra ~ group, data = sleep, paired = TRUE)
    assert contrast.difference == pytest.approx(-0.0158)
    assert (contrast.interval.low, contrast.interval.high) == pytest.approx((-0.024599, -0.007001), abs=1e-6)
    other = np.linspace(0.5, 0.6, 10)
    assert contrast.p_t == pytest.approx(stats.ttest_rel(other + SLEEP / 100, other).pvalue, rel=1e-6)
    assert contrast.effect_size == pytest.approx(-1.58 / 1.229995, rel=1e-5)
    assert contrast.n == 10 and contrast.verdict == "worse"


@pytest.mark.parametrize("values", [SLEEP, [1, 2, 3, -1, 0.5], [0.1, 0.1, -0.2, 0.3], [1, 1, 1, -1, 0, 0], [0.3, -0.1]])
def test_sign_flips_agree_with_enumeration(values):
    exact = [round(value * 10) for value in values]
    flips = [
        abs(sum(s * v for s, v in zip(signs, exact, strict=True))) for signs in itertools.product((1, -1), repeat=len(exact))
    ]
    expected = np.mean([flip >= abs(sum(exact)) for flip in flips])
    assert statistics.p_of_sign_flips(np.asarray(values, float)) == pytest.approx(expected)


@pytest.mark.parametrize("examples", (359, 10_000))
def test_sign_flips_of_accuracies_have_the_ties_of_their_counts(examples):
    random = np.random.default_rng(0)
    for pairs in (5, 8):
        flips = np.asarray(list(itertools.product((-1, 1), repeat=pairs)))
        for _ in range(40):
            ours, theirs = random.integers(examples - 9, examples - 2, (2, pairs))
            sums = np.abs(flips @ (ours - theirs))  # of integers, which are exact
            exact = np.mean(sums >= abs(np.sum(ours - theirs)))
            found = statistics.p_of_sign_flips(statistics.paired_differences(ours / examples, theirs / examples))
            assert found == pytest.approx(exact, abs=1e-12)


def test_sampled_sign_flips_come_near_the_exact_ones():
    values = np.random.default_rng(1).normal(0.5, 1, 13)
    exact = statistics.p_of_sign_flips(values, 2**13)
    sampled = statistics.p_of_sign_flips(values, 4000)
    assert sampled != exact and abs(sampled - exact) < 5 * math.sqrt(exact * (1 - exact) / 4000)


def test_wilcoxon_agrees_with_enumeration():
    values = np.array([0.3, -0.1, 0.7, 0.4, 0.9, 0.2])
    ranks = stats.rankdata(np.abs(values))
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=6)])
    found = ranks[values > 0].sum()
    expected = 2 * min(np.mean(sums >= found), np.mean(sums <= found))
    assert statistics.p_of_ranks(values) == pytest.approx(expected)


def test_holm_agrees_with_the_arithmetic():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 · 0.01, max(0.06, 0.04), 2 · 0.03
    assert statistics.holm([]) == []


def test_what_cannot_be_tested_counts_in_holms_family():
    assert statistics.holm([0.01, None, None]) == [pytest.approx(0.03), None, None]


@pytest.mark.parametrize(
    ("effect", "pairs"), [(0.0, 5), (0.5, 34), (1.0, 8), (5.2, 2), (5.5, 2), (7.0, 2), (6.0, 3), (30.0, 4)]
)
def test_power_agrees_with_an_integral_over_the_observed_spread(effect, pairs):
    freedom = pairs - 1
    critical, shift = stats.t.ppf(0.975, freedom), effect * math.sqrt(pairs)

    def density(root):  # given the spread, the mean alone decides, and it is normal
        bound = critical * root / math.sqrt(freedom)
        return (stats.norm.sf(bound - shift) + stats.norm.cdf(-bound - shift)) * stats.chi2.pdf(root**2, freedom) * 2 * root

    expected = integrate.quad(density, 0, 30, limit=400)[0]
    assert statistics.power_of_t(effect, pairs, 0.05) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("effect", [0.02, 0.5, 1.0, -1.0, 3.0, 8.0, 30.0])
def test_seeds_needed_are_the_fewest_with_enough_power(effect):
    needed = statistics.seeds_needed(effect, 0.05)
    assert statistics.power_of_t(effect, needed, 0.05) >= 0.8
    assert needed == 2 or statistics.power_of_t(effect, needed - 1, 0.05) < 0.8


def test_seeds_needed_agree_with_the_tables():
    assert [statistics.seeds_needed(effect, 0.05) for effect in (0.2, 0.5, 0.8)] == [
        199,
        34,
        15,
    ]  # G*Power, Cohen's three sizes
    assert statistics.seeds_needed(1e-6, 0.05) is None


def test_mcnemar_agrees_with_the_binomial():
    ours = np.array([True] * 9 + [False] * 11)
    theirs = np.array([True] * 8 + [False] + [True] * 6 + [False] * 5)
    assert rates.p_of_mcnemar(ours, theirs) == pytest.approx(stats.binomtest(1, 7).pvalue)
    assert rates.p_of_mcnemar(ours, ours) == 1
    assert rates.p_of_mcnemar(ours, theirs[:-1]) is None


def test_mcnemar_takes_the_first_seed_that_both_have():
    ours = np.array([True] * 9 + [False])
    theirs = ~ours
    outcomes = [
        RunResult("baseline", 1, "DONE", "", "", {"test/accuracy": 0.1}, correct=theirs),
        RunResult("a", 0, "DONE", "", "", {"test/accuracy": 0.5}, correct=theirs),
        RunResult("a", 1, "DONE", "", "", {"test/accuracy": 0.9}, correct=ours),
    ]
    contrast = analyse(study(["baseline", "a"], 2), outcomes).rows[1].contrast
    assert contrast.mcnemar_p == pytest.approx(stats.binomtest(1, 10).pvalue)


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [statistics.bootstrap_interval(random.exponential(1, 30), 0.1, 400) for _ in range(300)]
    covered = np.mean([interval.low <= 1 <= interval.high for interval in intervals])
    assert 0.8 < covered < 0.95  # BCa is a little narrow at thirty skewed numbers


def test_a_row_agrees_with_numpy():
    values = [0.9, 0.92, 0.97, 0.91]
    runs = [
        dataclasses.replace(run, step_seconds=took, wall_seconds=9.0 + 100 * run.seed)
        for run, took in zip(finished({"baseline": values}), (0.01, 0.02, 0.02, 0.5), strict=True)
    ]
    row = analyse(study(["baseline"], 4), runs).rows[0]
    assert row.values == tuple(enumerate(values)) and row.contrast is None
    assert row.seconds == pytest.approx(0.02 * PROVENANCE["steps"]), "the median step, whatever compiled and whatever paused"
    assert (row.mean, row.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    half = stats.t.ppf(0.975, 3) * row.sd / 2
    assert (row.interval.low, row.interval.high) == pytest.approx((row.mean - half, row.mean + half))
    assert row.interval.low < row.bootstrap.low < row.mean < row.bootstrap.high < row.interval.high
    assert row.test_se == pytest.approx(math.sqrt(0.925 * 0.075 / 400))


def test_the_combinations_of_a_random_search_are_not_listed():
    knobs = [f"knob{number}" for number in range(6)]
    arms = {f"trial {trial}": {knob: str(trial) for knob in knobs} for trial in range(300)}  # 300⁶ combinations
    factors = {knob: tuple(str(trial) for trial in range(300)) for knob in knobs}
    found = analyse(study(arms, 1, factors), finished({arm: [0.5] for arm in arms}), resamples=10)
    assert found.effects == () and len(found.rows) == 300


def test_a_full_factorial_gives_back_the_effects_it_was_made_of():
    factors = {"a": ("0", "1"), "b": ("x", "y", "z")}
    random, count = np.random.default_rng(0), 6
    main_a, main_b, both = {"0": 0, "1": 0.04}, {"x": 0, "y": 0.02, "z": -0.03}, {("1", "z"): 0.06}
    arms, values, block = {}, {}, random.normal(0, 0.1, count)  # what a seed adds to all arms cancels
    for a, b in itertools.product(*factors.values()):
        name = "baseline" if (a, b) == ("0", "x") else f"a={a}, b={b}"
        arms[name] = {"a": a, "b": b}
        values[name] = 0.5 + main_a[a] + main_b[b] + both.get((a, b), 0) + block + random.normal(0, 1e-4, count)
    found = {
        (effect.factors, effect.levels): effect for effect in analyse(study(arms, count, factors), finished(values)).effects
    }
    assert list(found) == [
        (("a",), ("1",)),
        (("b",), ("y",)),
        (("b",), ("z",)),
        (("a", "b"), ("1", "y")),
        (("a", "b"), ("1", "z")),
    ]
    expected = [0.04 + 0.06 / 3, 0.02, -0.03 + 0.06 / 2, 0, 0.06]
    assert [effect.estimate for effect in found.values()] == pytest.approx(expected, abs=5e-4)
    interaction = found[("a", "b"), ("1", "z")]
    per_seed = values["a=1, b=z"] - values["a=0, b=z"] - values["a=1, b=x"] + values["baseline"]
    assert interaction.p == pytest.approx(stats.ttest_1samp(per_seed, 0).pvalue, rel=1e-4)
    main = np.mean([values["a=1, b=x"], values["a=1, b=y"], values["a=1, b=z"]], 0)
    main = main - np.mean([values["baseline"], values["a=0, b=y"], values["a=0, b=z"]], 0)
    assert found[("a",), ("1",)].p == pytest.approx(stats.ttest_1samp(main, 0).pvalue, rel=1e-4)
    assert [e.p_holm for e in found.values()] == pytest.approx(statistics.holm([e.p for e in found.values()]))


def test_effects_need_every_combination_and_take_complete_seeds_only():
    factors = {"a": ("0", "1"), "b": ("0", "1")}
    arms = {"baseline": {"a": "0", "b": "0"}, "a=1": {"a": "1", "b": "0"}, "b=1": {"a": "0", "b": "1"}}
    values = {"baseline": [0.1, 0.2, 0.4], "a=1": [0.2, 0.3, 0.4], "b=1": [0.2, 0.2, 0.5]}
    assert analyse(study(arms, 3, factors), finished(values)).effects == ()
    arms["both"], values["both"] = {"a": "1", "b": "1"}, [0.4, 0.4, None]
    analysis = analyse(study(arms, 3, factors), finished(values))
    assert analysis.effects[2].estimate == pytest.approx(np.mean([0.1, 0.1]))
    assert "Effects are estimated from the 2 of 3 seeds for which every arm has finished." in analysis.warnings


def test_survivors_prove_no_main_effect_and_no_interaction_better():
    factors = {"a": ("0", "1"), "b": ("0", "1")}
    arms = {"baseline": (0, 0), "a=1": (1, 0), "b=1": (0, 1), "both": (1, 1)}
    levels = {name: {"a": str(a), "b": str(b)} for name, (a, b) in arms.items()}
    noise = 0.001 * np.random.default_rng(0).normal(size=(4, 7))

    def words(lost: str = "", gain: float = 0.1) -> list[str]:
        # A gain by `a`, one by `b`, and one more by both.
        values = {name: 0.5 + gain * (a + b + a * b) + one for (name, (a, b)), one in zip(arms.items(), noise, strict=True)}
        outcomes = [
            dataclasses.replace(one, state="DIVERGED", metrics={}) if (one.arm, one.seed) == (lost, 6) else one
            for one in finished(values)
        ]
        return [effect.verdict for effect in analyse(study(levels, 7, factors), outcomes).effects]

    assert words() == ["better"] * 3 and words("", -0.1) == ["worse"] * 3
    assert words("both") == ["undecided"] * 3 and words("both", -0.1) == ["worse"] * 3
    assert words("baseline") == ["better", "better", "undecided"], "an interaction adds the baseline"
    assert words("a=1") == ["undecided", "better", "better"] and words("b=1") == ["better", "undecided", "better"]


# The degenerate cases; warnings are errors here


def test_one_seed_has_a_difference_and_nothing_else():
    analysis = compared({"a": [0.02]})
    contrast = analysis.rows[1].contrast
    assert contrast.difference == pytest.approx(0.02) and contrast.n == 1 and contrast.verdict == "undecided"
    rest = (contrast.interval, contrast.bootstrap, contrast.p_t, contrast.p_signs, contrast.p_wilcoxon, contrast.p_holm)
    assert rest == (None,) * 6 and contrast.effect_size is contrast.seeds_needed is None
    assert analysis.rows[1].sd is None and analysis.rows[1].interval is None
    assert analysis.sentence == "a is undecided (2.00 points in the one paired seed; one seed cannot decide)."
    assert any("Few seeds" in line for line in analysis.warnings)


def test_two_seeds_are_tested_and_not_bootstrapped():
    contrast = compared({"a": [0.02, 0.05]}).rows[1].contrast
    assert contrast.p_t == pytest.approx(stats.ttest_1samp([0.02, 0.05], 0).pvalue)
    assert contrast.bootstrap is None and contrast.p_signs == 0.5


def test_identical_results_differ_by_nothing():
    analysis = compared({"a": [0.0] * 6})
    contrast = analysis.rows[1].contrast
    assert (contrast.difference, contrast.p_t, contrast.p_signs, contrast.p_wilcoxon, contrast.p_holm) == (0, 1, 1, 1, 1)
    assert contrast.interval is contrast.effect_size is contrast.seeds_needed is None
    assert "equal to the baseline in each of 6 paired seeds" in analysis.sentence
    assert any("Does the knob change anything?" in line for line in analysis.warnings)


def test_a_constant_difference_has_no_t_and_is_decided_by_the_sign_test():
    analysis = compared({"a": [0.1] * 6}, baseline=[0.7, 0.8, 0.5, 0.6, 0.55, 0.33])  # 0.8 − 0.7 is not 0.9 − 0.8 in binary
    contrast = analysis.rows[1].contrast
    assert contrast.p_t is contrast.interval is contrast.effect_size is None
    assert contrast.verdict == "better" and contrast.p_signs == contrast.p_holm == 2 / 64
    assert "a is better than the baseline by 10.00 points (p = 0.031 after Holm, 6 paired seeds)" in analysis.sentence
    assert any("Do the seeds change anything?" in line for line in analysis.warnings)


def test_too_few_constant_differences_are_undecided():
    analysis = compared({"a": [0.1] * 5}, baseline=[0.7, 0.8, 0.5, 0.6, 0.55])
    assert analysis.rows[1].contrast.p_holm == 2 / 32 and analysis.rows[1].contrast.verdict == "undecided"
    assert "the same 10.00 points in each of 5 paired seeds, so that t is undefined" in analysis.sentence


def test_everything_against_nothing_is_decided_in_five_seeds():
    contrast = compared({"linear": [-0.5] * 5}, baseline=[1.0] * 5).rows[1].contrast  # XOR
    assert contrast.p_t is None and contrast.p_holm == pytest.approx(2 / 252) and contrast.verdict == "worse"


def test_constant_runs_have_no_spread():
    row = analyse(study(["baseline"], 3), finished({"baseline": [0.1] * 3})).rows[0]
    assert row.mean == pytest.approx(0.1) and row.sd == 0 and row.interval is row.bootstrap is None


def test_numbers_that_are_not_finite_are_left_out_and_reported():
    values = {"baseline": [0.5, 0.6, 0.7, math.nan], "a": [0.6, math.inf, 0.9, 0.8]}
    analysis = analyse(study(["baseline", "a"], 4), finished(values))
    assert [row.done for row in analysis.rows] == [4, 4]
    assert analysis.rows[1].values == ((0, 0.6), (2, 0.9), (3, 0.8)) and analysis.rows[1].contrast.n == 2
    assert "a: 1 of 4 finished runs left out, since test/accuracy is absent or not finite there." in analysis.warnings
    assert "a: seeds 1, 3 have no partner; compared over the 2 that both have." in analysis.warnings


def test_runs_that_did_not_finish_are_counted_and_reported():
    outcomes = finished({"baseline": [0.5, 0.6, 0.7, 0.7], "a": [0.5, 0.7]})
    outcomes += [
        RunResult("a", 2, "DIVERGED", "", ""),
        RunResult("a", 3, "FAILED", "", ""),
        RunResult("a", 4, "RUNNING", "", ""),
    ]
    row = (analysis := analyse(study(["baseline", "a"], 5), outcomes)).rows[1]
    assert (row.planned, row.done, row.diverged, row.failed, row.missing) == (5, 2, 1, 1, 1)
    assert row.contrast.n == 2
    lost = "a: of 5 runs 1 diverged, 1 failed, 1 missing or unfinished"
    assert f"{lost}; its numbers are those of the remaining runs, so it looks better than it is." in analysis.warnings
    assert "baseline: of 5 runs 1 missing or unfinished." in analysis.warnings


@pytest.mark.parametrize("state", ["DIVERGED", "FAILED"])
def test_survivors_prove_no_arm_better_and_a_worse_arm_stays_worse(state):
    values = {"baseline": [0.5, 0.52, 0.51, 0.5, 0.53], "up": [0.6, 0.63, 0.61], "down": [0.4, 0.43, 0.41]}
    lost = [RunResult(arm, seed, state, "", "") for arm in ("up", "down") for seed in (3, 4)]
    whole, analysis = (analyse(study(list(values), 5), finished(values) + more) for more in ([], lost))
    assert [row.contrast.verdict for row in whole.rows[1:]] == ["better", "worse"], "what is missing may still come"
    assert [row.contrast.verdict for row in analysis.rows[1:]] == ["undecided", "worse"]
    reason = "2 of 5 runs of up diverged or failed; a comparison of the survivors alone is not reported as a verdict"
    assert f"up has no verdict ({reason})" in analysis.sentence and "seeds would decide" not in analysis.sentence
    # The reverse: survivors of the baseline prove no arm worse.
    fallen = [RunResult("baseline", seed, state, "", "") for seed in (3, 4)]
    short = {
        **values,
        "baseline": values["baseline"][:3],
        "up": [0.6, 0.63, 0.61, 0.6, 0.6],
        "down": [0.4, 0.43, 0.41, 0.4, 0.4],
    }
    reverse = analyse(study(list(values), 5), finished(short) + fallen)
    assert [row.contrast.verdict for row in reverse.rows[1:]] == ["better", "undecided"]


def test_finished_runs_without_a_finite_number_prove_no_arm_better():
    values = {"baseline": [0.5, 0.52, 0.51, 0.5, 0.53], "up": [0.6, 0.63, 0.61, math.nan, math.inf]}
    analysis = analyse(study(list(values), 5), finished(values))
    assert analysis.rows[1].contrast.verdict == "undecided" and analysis.rows[1].contrast.withheld
    assert "up has no verdict (2 of 5 runs of up diverged or failed or have no finite number; " in analysis.sentence


def test_without_a_baseline_there_is_no_verdict():
    analysis = analyse(study(["baseline", "a"], 2), finished({"a": [0.5, 0.6]}))
    assert analysis.sentence.startswith("No verdict: baseline") and analysis.rows[1].contrast is None
    assert analysis.rows[1].mean == pytest.approx(0.55)
    assert analyse(study(["baseline", "a"], 2), []).rows[0].missing == 2


def test_arms_that_share_no_seed_with_the_baseline_are_reported():
    analysis = analyse(study(["baseline", "a"], 2), finished({"baseline": [0.5, None], "a": [None, 0.6]}))
    assert analysis.rows[1].contrast is None
    assert analysis.sentence == "a: not compared, since no seed is finished both there and in baseline."


def test_no_input_makes_scipy_warn(quick_collections):
    random = np.random.default_rng(0)
    for count in (1, 2, 3, 5, 14):
        for values in (
            random.integers(-1, 2, count) / 360,
            np.repeat(1 / 360, count),
            np.eye(count)[0] / 360,
            random.normal(0, 1e-12, count),
            random.normal(1e30, 1e25, count),
            random.standard_cauchy(count),
        ):
            contrast = compared({"a": values}, resamples=200).rows[1].contrast
            numbers = [
                contrast.p_t,
                contrast.p_signs,
                contrast.p_wilcoxon,
                contrast.p_holm,
                contrast.effect_size,
            ]
            assert all(number is None or math.isfinite(number) for number in numbers)
            assert all(p is None or 0 <= p <= 1 for p in numbers[:4])


def test_a_metric_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(
        UsageError, match=r"No finished run has the metric test/acuracy. Did you mean test/accuracy\?.*There are: test/accuracy"
    ):
        analyse(study(["baseline"], 1), finished({"baseline": [0.5]}), metric="test/acuracy")


# The words


def test_the_sentence_tells_verdicts_in_points():
    differences = {
        "norm=none": [-0.021, -0.026, -0.019, -0.022, -0.017],
        "activation=tanh": [-0.004, 0.003, -0.002, 0.002, -0.005],
        "width=2": [0.031, 0.029, 0.034, 0.028, 0.03],
    }
    analysis = compared(differences)
    norm, tanh, width = (row.contrast for row in analysis.rows[1:])
    assert (norm.verdict, tanh.verdict, width.verdict) == ("worse", "undecided", "better")
    assert analysis.sentence == (
        "norm=none is worse than the baseline by 2.10 points [1.68, 2.52] (p = 0.00032 after Holm, 5 paired seeds); "
        "width=2 is better than the baseline by 3.04 points [2.75, 3.33] (p = 2.4e-05 after Holm, 5 paired seeds); "
        "activation=tanh is undecided (−0.12 [−0.56, 0.32] points)."
    )
    assert tanh.seeds_needed is None, "no effect of interest is declared, and the observed one says nothing"
    expected = statistics.holm([stats.ttest_1samp(values, 0).pvalue for values in differences.values()])
    assert [norm.p_holm, tanh.p_holm, width.p_holm] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("smallest", "said"), [(0.005, "about {} seeds would"), (0.02, "5 seeds are enough to")])
def test_an_undecided_arm_says_how_many_seeds_decide_the_smallest_effect_of_interest(smallest: float, said: str):
    differences = [-0.004, 0.003, -0.002, 0.002, -0.005]
    values = {"baseline": [0.5, 0.51, 0.52, 0.53, 0.54], "b": [0.7, 0.72, 0.71, 0.74, 0.73]}
    values["a"] = [one + more for one, more in zip(values["baseline"], differences, strict=True)]
    planned = study(list(values), smallest_effect=smallest)
    found = analyse(planned, finished(values))
    needed = statistics.seeds_needed(smallest / np.std(differences, ddof=1), 0.05 / 2)
    assert [row.contrast.seeds_needed for row in found.rows[1:]] == [None, needed] and found.smallest_effect == smallest
    effect = f"decide an effect of {100 * smallest:.2f} points (power 0.8)"
    assert found.sentence.endswith(f"a is undecided (−0.12 [−0.56, 0.32] points; {said.format(needed)} {effect}).")
    other = analyse(planned, finished(values, "test/loss"), metric="test/loss")
    assert other.smallest_effect is None, "it is in units of the study's metric"


def test_where_t_and_the_sign_flips_disagree_an_arm_is_undecided_and_says_why():
    spread = [0.02, 0.022, 0.018, 0.021, 0.019, 0.02, -0.0005]  # t after Holm 0.002, flips 4 / 128
    low = [0.001, 0.001, 0.002, 0.001, 0.002, 0.001, 0.9]  # t 0.35, flips 2 / 128
    few = [0.02, 0.022, 0.018, 0.021, 0.011, -0.004]
    found = compared({"a": spread, "b": low}, baseline=[0.05 + 0.001 * seed for seed in range(7)])
    assert [row.contrast.verdict for row in found.rows[1:]] == ["better", "undecided"]
    assert found.rows[2].contrast.disagree and "; t and sign flips disagree: p = 0.35 and 0.016)" in found.sentence
    few_said = compared({"a": few}).sentence
    assert few_said == "a is undecided (1.47 [0.42, 2.51] points; t and sign flips disagree: p = 0.015 and 0.062)."
    contrast = compared({"a": few}).rows[1].contrast
    assert contrast.p_holm < 0.05 < contrast.p_signs and contrast.verdict == "undecided" and contrast.disagree
    assert not compared({"a": [0.01, -0.01, 0.02, -0.03, 0.02, 0.0]}).rows[1].contrast.disagree


def test_the_interval_with_the_test_sets_sampling_needs_examples_whose_mean_is_the_metric():
    random = np.random.default_rng(0)
    right = {"baseline": random.random((5, 60)) < 0.8, "a": random.random((5, 60)) < 0.9}

    def runs(shift: float = 0.0) -> list[RunResult]:
        return [
            RunResult(arm, seed, "DONE", "", "", {"test/accuracy": float(np.float32(each.mean())) + shift}, correct=each)
            for arm, table in right.items()
            for seed, each in enumerate(table)
        ]

    row = analyse(study(["baseline", "a"]), runs()).rows[1]
    expected = two_way.interval(right["a"].astype(float) - right["baseline"], 0.05)
    assert row.contrast.two_way == expected and expected.low <= row.contrast.difference <= expected.high
    assert analyse(study(["baseline", "a"]), runs(0.01)).rows[1].contrast.two_way is None
    errors = [dataclasses.replace(run, metrics={"test/accuracy": 1 - run.metrics["test/accuracy"]}) for run in runs()]
    wrong = analyse(study(["baseline", "a"]), errors).rows[1].contrast.two_way
    assert (wrong.low, wrong.high) == pytest.approx((-expected.high, -expected.low), abs=1e-7)


def test_a_decided_arm_says_where_other_test_examples_could_show_the_opposite():
    # Three of forty examples, the same with every seed: the seeds agree, and forty other examples need not.
    right = np.zeros((5, 40), bool)
    right[:, :3], right[0, 3] = True, True
    runs = [
        RunResult(arm, seed, "DONE", "", "", {"test/accuracy": float(each.mean())}, correct=each)
        for arm, table in (("baseline", right & False), ("a", right))
        for seed, each in enumerate(table)
    ]
    found = analyse(study(["baseline", "a"]), runs)
    assert found.rows[1].contrast.verdict == "better" and found.rows[1].contrast.two_way.low < 0
    assert "5 paired seeds; with the test set's sampling [−" in found.sentence
    assert "], so that other test examples could show the opposite)" in found.sentence


def test_skewed_differences_of_a_positive_metric_ask_for_logarithms():
    random = np.random.default_rng(0)
    spread, small = np.exp(random.normal(0, 1, 6)), np.exp(random.normal(-4, 1, 6))
    found = analyse(study(["baseline", "a"], 6), finished({"baseline": small, "a": spread}, "test/loss"), metric="test/loss")
    [line] = [line for line in found.warnings if "logarithms" in line]
    assert line.startswith("a against baseline: one arm's numbers spread ") and 'with scale="log"' in line
    shares = analyse(study(["baseline", "a"], 6), finished({"baseline": small / 9, "a": spread / 9}))
    assert not any("logarithms" in line for line in shares.warnings), "shares have logits"
    normal = random.normal(5, 0.1, (2, 10))
    assert statistics.skew_that_logarithms_mend(*normal) == ""
    assert "Shapiro and Wilk's p = " in statistics.skew_that_logarithms_mend(
        np.exp(np.arange(10.0)), np.exp(0.9 * np.arange(10.0) + np.linspace(0, 0.5, 10))
    )
    assert statistics.skew_that_logarithms_mend(spread - 1, small) == "", "numbers below 0 have no logarithm"


@pytest.mark.parametrize(
    ("metric", "options"),
    [("test/loss", {}), ("own", {"metric": "own", "metrics": {"own": OWN}})],
)
def test_less_loss_is_better_and_shown_as_a_number(metric, options):
    values = {"baseline": [1.5, 1.7, 1.6, 1.4], "a": [1.4, 1.62, 1.5, 1.3]}
    analysis = analyse(study(list(values), 4, **options), finished(values, metric), metric=metric)
    assert analysis.rows[1].contrast.verdict == "better" and not analysis.higher_is_better
    assert analysis.sentence.startswith("a is better than the baseline by 0.095 [0.0791, 0.111] (p = ")
    assert analysis.rows[1].test_se is None


def test_many_undecided_arms_are_counted():
    analysis = compared({f"arm{index}": [0.01, -0.01, 0.002 * index] for index in range(6)})
    assert analysis.sentence.endswith("; 2 more arms are undecided.") and "arm4" not in analysis.sentence


def test_a_control_is_outside_the_family_and_must_fail():
    fails, passes = [-0.5, -0.52, -0.49, -0.51, -0.5, -0.48], [0.01, -0.01, 0.02, 0.0, -0.02, 0.01]
    arm = [0.02, 0.03, 0.01, 0.04, 0.02, 0.03]
    alone = compared({"a": arm}).rows[1].contrast
    analysis = compared({"a": arm, "shuffled": fails}, controls=["shuffled"])
    assert analysis.rows[1].contrast == alone
    assert analysis.rows[2].contrast.p_holm is None and analysis.rows[2].contrast.verdict == "worse"
    assert analysis.warnings == () and "shuffled" not in analysis.sentence
    leaky = compared({"a": arm, "shuffled": passes}, controls=["shuffled"])
    message = "Control shuffled did not fail: it is not clearly worse than the baseline. The metric or the data may leak."
    assert leaky.warnings == (message,)
    assert any("is better than the baseline" in line for line in compared({"c": arm}, controls=["c"]).warnings)


@pytest.mark.parametrize(("diverged", "said"), [(6, 0), (5, 0), (1, 1)])
def test_a_control_that_diverges_has_failed_as_in_a_verdict(diverged: int, said: int):
    baseline, survivors = [0.5, 0.52, 0.51, 0.5, 0.53, 0.51], [0.5, 0.53, 0.51, 0.5, 0.52, 0.51][diverged:]
    outcomes = finished({"baseline": baseline, "shuffled": [None] * diverged + survivors})
    outcomes += [RunResult("shuffled", seed, "DIVERGED", "", "") for seed in range(diverged)]
    made = study(["baseline", "shuffled"], 6, controls=["shuffled"])
    assert sum("Control shuffled" in line for line in analyse(made, outcomes).warnings) == said


def test_unplanned_outcomes_and_unrecorded_code_are_reported():
    dirty = {**PROVENANCE, "uncommitted_changes": True}
    outcomes = finished({"baseline": [0.5] * 6 + [0.6], "stranger": [0.1]}, provenance=dirty)
    warnings = analyse(study(["baseline"], 6), outcomes).warnings
    assert "2 results left out: not among the planned arms and seeds, or there twice." in warnings
    assert "6 runs were made with uncommitted changes to commit aaaaaaaaaaaa, so their code is not recorded." in warnings


# Whether runs may be compared


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("data", {"data": {**PROVENANCE["data"], "fingerprint": "e" * 64}}, "digits with fingerprint eeeeeeeeeeee in a seed 0"),
        ("splits", {"data": {**PROVENANCE["data"], "sizes": {"train": 900, "test": 400}}}, "test 400, train 900 in a seed 0"),
        ("steps", {"steps": 200}, "200 steps in a seed 0, a seed 1"),
        ("code", {"commit": "b" * 40}, "commit bbbbbbbbbbbb in a seed 0"),
        ("code", {"uncommitted_changes": True}, "commit aaaaaaaaaaaa with uncommitted changes in a seed 0"),
        ("skip_nonfinite", {"flags": {"skip_nonfinite": "3"}}, "not given in baseline seed 0"),
        ("skip_nonfinite", {"attempts": [{"skip_nonfinite": 3}, {"skip_nonfinite": None}]}, "--skip_nonfinite=3 in a seed 0"),
        ("log_every", {"flags": {"log_every": "5 steps"}}, "--log_every=5 steps in a seed 0"),
    ],
)
def test_runs_that_differ_in_more_than_their_arms_are_refused(kind, change, message):
    outcomes = finished({"baseline": [0.5] * 5}) + finished({"a": [0.5] * 5}, provenance={**PROVENANCE, **change})
    with pytest.raises(UsageError) as refused:
        require_comparable(outcomes)
    assert message in str(refused.value) and "and 2 more" in str(refused.value)
    assert f"  {kind}: " in str(refused.value) and str(refused.value).endswith(f"--allow={kind}.")
    require_comparable(outcomes, allow=[kind])
    if kind == "log_every":
        require_comparable(outcomes, logged=False)


def test_every_difference_is_named_at_once_beside_what_is_allowed_already():
    changed = {**PROVENANCE, "steps": 1, "commit": "b", "data": {}}
    outcomes = finished({"baseline": [0.5]}) + finished({"a": [0.5]}, provenance=changed)
    with pytest.raises(UsageError, match=r"--allow=steps,data,splits,code\.$"):
        require_comparable(outcomes, allow=["steps"])


def test_only_finished_runs_are_compared():
    require_comparable([*finished({"a": [0.5]}), RunResult("b", 0, "FAILED", "", "", provenance={"steps": 1})])
    require_comparable([])
    with pytest.raises(
        UsageError, match=r"--allow=step: no such difference. Did you mean steps\? Known: data, splits, steps, code"
    ):
        require_comparable([], allow=["step"])


# Honesty


@pytest.fixture
def quick_collections():
    """Freezes what there is: statsmodels collects garbage in every multipletests, 0.1 s with all of jax to look through."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_planted_null_effects_are_seldom_called(quick_collections):
    random, studies, arms, count = np.random.default_rng(0), 400, 4, 6
    calls = 0
    for _ in range(studies):
        noise = random.normal(0, 0.01, (arms + 1, count))  # the baseline's noise is in every difference: arms correlate
        found = statistics.verdicts([(arm, noise[0]) for arm in noise[1:]], higher_is_better=True, alpha=0.05)
        calls += any(verdict != "undecided" for _, _, verdict in found)
    assert calls <= stats.binom.ppf(0.999, studies, 0.05)


def test_planted_effects_are_found_as_often_as_the_power_says(quick_collections):
    random, studies, count = np.random.default_rng(0), 1000, 5  # with six pairs and more the sign flips must agree
    samples = random.normal(1, 1, (studies, count))
    found = sum(
        statistics.verdicts([(s, np.zeros(count))], higher_is_better=True, alpha=0.05)[0][2] == "better" for s in samples
    )
    power = statistics.power_of_t(1.0, count, 0.05)
    assert stats.binom.ppf(0.001, studies, power) <= found <= stats.binom.ppf(0.999, studies, power)


def test_analyse_takes_its_verdicts_from_the_function_that_was_simulated():
    samples = np.random.default_rng(0).normal(0.01, 0.01, (3, 6))
    contrasts = [row.contrast for row in compared(dict(zip("abc", samples, strict=True))).rows[1:]]
    expected = statistics.verdicts([(s, np.zeros(6)) for s in samples], higher_is_better=True, alpha=0.05)
    assert [contrast.verdict for contrast in contrasts] == [verdict for _, _, verdict in expected]
    assert [contrast.p_holm for contrast in contrasts] == pytest.approx([p for _, p, _ in expected], rel=1e-5)


def test_the_analysis_needs_no_jax():
    code = "import sys, cnnlab.ablation.analyse.analysis; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_many_decided_arms_are_counted():
    worse = {f"arm{index}": [-0.2, -0.21, -0.19] for index in range(7)}
    analysis = compared({**worse, "good": [0.2, 0.21, 0.19], "better": [0.3, 0.31, 0.29]})
    assert analysis.sentence.endswith("; 1 more arm is worse; 2 more arms are better.") and "arm6" not in analysis.sentence
