"""Verdicts on claims by the test that was declared, against scipy and by hand."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from cnnlab.ablation.analyse import exact_verdicts, rules, statistics, verdicts
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.analyse.claim_verdict import every, judged, unmet, with_controls
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.analyse.words import (
    ABSENT,
    EXACT,
    IN_PART,
    NOT_SHOWN,
    NOT_TESTED,
    OPPOSITE,
    REFUTED,
    REPLICATED,
    SUPPORTED,
    combined,
)
from cnnlab.ablation.plan.study import Arm, RunResult, Study, Verdict
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.tasks.classification_metrics import METRICS

DECLARED = {metric.name: metric for metric in METRICS}


def analysis(
    metric: str = "test/accuracy", states: dict[tuple[str, int], str] | None = None, **arms: list[float | None]
) -> Analysis:
    """Analyses the runs of {arm: metric of seed 0, 1, …}, the baseline first; None is a run that diverged.

    `states` are those of runs that neither diverged nor are done.
    """
    study = Study(
        "toy",
        "toy",
        {},
        "grid",
        tuple(Arm(name, {}) for name in arms),
        tuple(range(max(map(len, arms.values())))),
        {},
        metric=metric,
        metrics=DECLARED,
    )
    ends = {(arm, seed): "DIVERGED" if value is None else "DONE" for arm in arms for seed, value in enumerate(arms[arm])}
    outcomes = [
        RunResult(arm, seed, state, "", "", {metric: arms[arm][seed]} if state == "DONE" else {})
        for (arm, seed), state in (ends | (states or {})).items()
    ]
    return analyse(study, outcomes)


BASELINE = [0.90, 0.91, 0.89, 0.92, 0.90]
WORSE = [0.80, 0.82, 0.78, 0.83, 0.79]
NOISE = [0.91, 0.90, 0.90, 0.91, 0.90]


def test_contrast_is_supported_refuted_or_undecided_as_the_study_decides():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    assert verdicts.contrast("C1", "a", "worse", "it hurts")(found).verdict == SUPPORTED
    assert verdicts.contrast("C1", "a", "better", "it helps")(found).verdict == OPPOSITE
    assert verdicts.contrast("C1", "b", "better", "it helps")(found).verdict == NOT_SHOWN


def test_contrast_tells_the_numbers_of_its_test():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    verdict, row = verdicts.contrast("C1", "a", "worse", "It hurts")(found), found.rows[1].contrast
    assert (verdict.claim, verdict.n, verdict.p, verdict.comparison) == ("C1", 5, row.p_t, "a − baseline")
    assert verdict.effect == pytest.approx(row.difference) and verdict.interval == (row.interval.low, row.interval.high)
    assert verdict.p == pytest.approx(stats.ttest_rel(WORSE, BASELINE).pvalue), "one declared test needs no correction"
    assert verdict.sentence.startswith("It hurts: a − baseline = −10.00 [−1")
    assert "points in test/accuracy, where more is better (p = " in verdict.sentence
    assert verdict.sentence.endswith(", 5 paired seeds).")


def test_a_higher_loss_is_worse():
    found = analysis("train/loss", baseline=WORSE, a=BASELINE)
    assert verdicts.contrast("C3", "a", "worse", "it is slower")(found).verdict == SUPPORTED
    assert "where less is better" in verdicts.contrast("C3", "a", "worse", "it is slower")(found).sentence


@pytest.mark.parametrize("arm", [[None] * 5, [0.8, None, None, None, None], [*WORSE[:4], None]])
def test_runs_that_diverged_support_worse_and_count_against_better(arm: list[float | None]):
    found = analysis(baseline=BASELINE, a=arm)
    verdict = verdicts.contrast("C14", "a", "worse", "too high")(found)
    assert verdict.verdict == SUPPORTED and verdict.p == pytest.approx(2 / 252)
    assert f"{arm.count(None)} of 5 runs of a diverged." in verdict.sentence
    assert "by ranks" in verdict.sentence and ("that of the runs that finished" in verdict.sentence) == (arm.count(None) < 5)
    assert verdict.effect is verdict.interval is None and verdict.n == 5, "what decides is no difference of the survivors"
    assert verdicts.contrast("C14", "a", "better", "it helps")(found).verdict == OPPOSITE
    assert verdicts.bounded("C14", "a", "not worse", 0.01, "as good")(found).verdict == OPPOSITE
    assert verdicts.contrast("C14", "baseline", "better", "it helps", against="a")(found).verdict == SUPPORTED


@pytest.mark.parametrize(
    ("state", "how"), [("FAILED", "failed"), ("MISSING", "is not finished"), ("RUNNING", "is not finished")]
)
def test_a_run_of_which_nothing_is_known_leaves_every_part_untested(state: str, how: str):
    arms = {"baseline": BASELINE, "a": WORSE, "b": NOISE, "c": WORSE}
    whole, found = analysis(**arms), analysis(**arms, states={("a", 4): state})
    for rule in (
        verdicts.contrast("C1", "a", "worse", "it hurts"),
        verdicts.contrast("C1", "baseline", "better", "it helps", against="a"),
        verdicts.bounded("C1", "a", "not better", 0.01, "no gain"),
        verdicts.equivalent("C1", "a", 0.2, "as good"),
        verdicts.interaction("C1", ("a", "c"), ("baseline", "b"), "worse", "it does more"),
    ):
        verdict = rule(found)
        assert rule(whole).verdict != NOT_TESTED
        assert verdict.verdict == NOT_TESTED and f" 1 of 5 runs of a {how}." in verdict.sentence, rule.decide
    assert every(verdicts.contrast("C1", "a", "worse", "it hurts"))(found).verdict == NOT_TESTED


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_not_finite_leaves_its_parts_untested(number: float):
    found = analysis("train/loss", baseline=BASELINE, a=[*WORSE[:4], number], b=WORSE)
    for rule in (
        verdicts.contrast("C1", "a", "better", "it helps"),
        verdicts.equivalent("C1", "a", 0.2, "as good"),
        exact_verdicts.success_rate("C1", "a", 0.9, 0.5, "it succeeds"),
        exact_verdicts.at_most("C1", "a", 0.9, "it is small"),
    ):
        verdict = rule(found)
        assert verdict.verdict == NOT_TESTED and " 1 of 5 runs of a has no finite number." in verdict.sentence
    assert verdicts.contrast("C1", "b", "better", "it helps")(found).verdict == SUPPORTED, "it concerns no other part"


def test_one_run_that_diverged_among_equals_decides_nothing():
    found = analysis("train/loss", baseline=BASELINE, a=[None, *NOISE[1:]])
    assert verdicts.contrast("C14", "a", "worse", "too high")(found).verdict == NOT_SHOWN


@pytest.mark.parametrize(("margin", "word"), [(0.02, SUPPORTED), (0.0061, NOT_SHOWN), (0.001, OPPOSITE)])
def test_bounded_is_a_test_against_its_margin(margin: float, word: str):
    gains = [0.005, 0.006, 0.007, 0.006, 0.0055]
    arm = [value + gain for value, gain in zip(BASELINE, gains, strict=True)]
    found = analysis(baseline=BASELINE, a=arm)
    verdict = verdicts.bounded("C13", "a", "not better", margin, "as good")(found)
    assert verdict.verdict == word
    assert verdict.p == pytest.approx(stats.ttest_1samp(gains, margin).pvalue, rel=1e-4)
    assert verdict.effect == pytest.approx(0.0059)


def test_bounded_knows_the_sense_of_the_metric_and_the_other_arm():
    found = analysis("train/loss", baseline=BASELINE, a=BASELINE, b=WORSE)
    not_worse = verdicts.bounded("C7", "b", "not worse", 0.01, "as good", against="a")(found)
    assert not_worse.verdict == SUPPORTED and not_worse.effect == pytest.approx(-0.1)
    assert verdicts.bounded("C7", "b", "not better", 0.01, "no gain", against="a")(found).verdict == OPPOSITE
    assert verdicts.bounded("C7", "a", "not worse", 0.01, "as good", against="b")(found).verdict == OPPOSITE


def test_arms_that_agree_in_every_seed_differ_by_nothing():
    found = analysis(baseline=BASELINE, a=BASELINE)
    assert verdicts.bounded("C13", "a", "not worse", 0.01, "as good")(found).verdict == NOT_SHOWN
    assert verdicts.contrast("C13", "a", "better", "it helps")(found).verdict == NOT_SHOWN


DEPTH = {
    "plain20": [0.10, 0.12, 0.11, 0.09, 0.10],
    "plain56": [0.40, 0.45, 0.38, 0.41, 0.44],
    "residual20": [0.08, 0.09, 0.07, 0.08, 0.09],
    "residual56": [0.09, 0.08, 0.08, 0.07, 0.10],
}


def test_interaction_is_a_paired_test_of_the_difference_of_differences():
    judge = verdicts.interaction("C7", ("plain56", "plain20"), ("residual56", "residual20"), "worse", "Depth hurts")
    verdict = judge(analysis("train/loss", **DEPTH))
    by_hand = [
        a - b - (c - d)
        for a, b, c, d in zip(*(DEPTH[k] for k in ("plain56", "plain20", "residual56", "residual20")), strict=True)
    ]
    expected = stats.ttest_1samp(by_hand, 0)
    assert verdict.verdict == SUPPORTED and verdict.n == 5
    assert verdict.effect == pytest.approx(sum(by_hand) / 5) and verdict.p == pytest.approx(expected.pvalue)
    assert verdict.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert "(plain56 − plain20) − (residual56 − residual20) = +0.31 [0.268, 0.352] in train/loss" in verdict.sentence


def test_interaction_is_refuted_the_other_way_and_takes_complete_seeds_alone():
    judge = verdicts.interaction("C7", ("residual56", "residual20"), ("plain56", "plain20"), "worse", "Depth hurts")
    assert judge(analysis("train/loss", **DEPTH)).verdict == OPPOSITE
    verdict = judge(analysis("train/loss", **{**DEPTH, "plain56": [None, *DEPTH["plain56"][1:]]}))
    assert verdict.effect is None and verdict.n == 5 and "4 paired seeds" in verdict.sentence
    assert "1 of 5 runs of plain56 diverged" in verdict.sentence


def test_interaction_of_logarithms_compares_the_factors_of_two_changes():
    depth = {**DEPTH, "residual56": [4 * value for value in DEPTH["residual20"]]}
    judge = verdicts.interaction(
        "C7", ("plain56", "plain20"), ("residual56", "residual20"), "worse", "Depth hurts", scale="log"
    )
    verdict = judge(analysis("train/loss", **depth))
    logs = [np.log(a / b) - np.log(4) for a, b in zip(DEPTH["plain56"], DEPTH["plain20"], strict=True)]
    assert verdict.verdict == NOT_SHOWN and verdict.effect == pytest.approx(np.exp(np.mean(logs)))
    assert verdict.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
    assert "(plain56 / plain20) / (residual56 / residual20) = 1 [0.871, 1.15] in train/loss" in verdict.sentence


@pytest.mark.parametrize(
    ("lost", "word"),
    [
        ({"plain56": 5}, SUPPORTED),  # the change made them diverge
        ({"residual20": 5}, SUPPORTED),  # the change saved the others
        ({"residual56": 5}, OPPOSITE),
        ({"plain56": 5, "residual56": 5}, NOT_SHOWN),  # alike
        ({"residual56": 1}, NOT_SHOWN),
    ],
)
def test_changes_with_runs_that_diverged_are_ranked_in_an_interaction(lost: dict[str, int], word: str):
    same = {**DEPTH, "plain56": [value + 0.01 for value in DEPTH["plain20"]]}
    runs = {arm: [None] * lost.get(arm, 0) + values[lost.get(arm, 0) :] for arm, values in same.items()}
    judge = verdicts.interaction("C7", ("plain56", "plain20"), ("residual56", "residual20"), "worse", "Depth hurts")
    verdict = judge(analysis("train/loss", **runs))
    assert verdict.verdict == word and "by ranks of the two changes, runs that diverged the worst" in verdict.sentence


def test_a_change_whose_two_runs_diverged_has_no_rank_and_the_sentence_says_so():
    runs = {**DEPTH, "plain20": [None, *DEPTH["plain20"][1:]], "plain56": [None, *DEPTH["plain56"][1:]]}
    judge = verdicts.interaction("C7", ("plain56", "plain20"), ("residual56", "residual20"), "worse", "Depth hurts")
    verdict = judge(analysis("train/loss", **runs))
    assert verdict.verdict == NOT_SHOWN and verdict.p is None
    assert verdict.sentence.endswith("With some seeds both runs of a change diverged, so that it has no rank.")


def test_parts_that_decide_must_all_hold():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    holds = verdicts.contrast("C1", "a", "worse", "One")
    open_ = verdicts.contrast("C1", "b", "better", "Two")
    fails = verdicts.contrast("C1", "a", "better", "Three")
    assert every(holds, holds)(found).verdict == SUPPORTED
    partly, against = every(holds, open_)(found), every(open_, fails)(found)
    assert partly.verdict == IN_PART and partly.p == open_(found).p
    assert every(holds, fails)(found).verdict == IN_PART
    assert against.verdict == OPPOSITE and against.effect == fails(found).effect
    assert "[not shown] Two: " in against.sentence and "[opposite] Three: " in against.sentence
    assert [part.says for part in against.parts] == ["Two", "Three"]


def test_a_part_that_is_only_shown_decides_nothing_and_a_requirement_that_fails_leaves_the_claim_untested():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    holds, fails = verdicts.contrast("C1", "a", "worse", "One"), verdicts.contrast("C1", "a", "better", "Two")
    verdict = every(holds, shown=(fails,), scope="a toy, 5 steps")(found)
    assert verdict.verdict == SUPPORTED and "[opposite, only shown] Two: " in verdict.sentence
    assert verdict.sentence.endswith("Scope: a toy, 5 steps.")
    assert every(holds, requires=(holds,))(found).verdict == SUPPORTED
    assert every(holds, requires=(fails,))(found).verdict == NOT_TESTED
    assert every(holds, requires=(unmet("C1", "It was tuned"),))(found).verdict == NOT_TESTED


def with_control(values: list[float | None], metric: str = "test/accuracy") -> Analysis:
    """The analysis of a study with an arm that is worse, and a negative control."""
    found = analysis(metric, baseline=BASELINE, a=WORSE, shuffled=values)
    *rows, control = found.rows
    return dataclasses.replace(found, rows=(*rows, dataclasses.replace(control, control=True)))


def test_a_negative_control_that_does_not_fail_leaves_every_claim_of_its_study_untested():
    holds = verdicts.contrast("C1", "a", "worse", "One")
    fails, passes = with_control(WORSE), with_control(NOISE)
    for rule, word in ((every(holds, scope="a toy"), SUPPORTED), (every(holds, holds, setting="source"), REPLICATED)):
        failing, passing = rule(fails), rule(passes)
        assert (failing.verdict, passing.verdict) == (word, NOT_TESTED)
        required = [part for part in passing.parts if part.role == "required"]
        assert [(part.verdict, part.says) for part in required] == [(NOT_SHOWN, "The negative control shuffled fails")]
        assert "[not shown, required] The negative control shuffled fails: shuffled − baseline = " in passing.sentence
    assert every(holds, scope="a toy")(passes).sentence.endswith("Scope: a toy.")
    assert every(holds)(with_control([None] * 5)).verdict == SUPPORTED, "a control that diverges has failed"
    named = every(holds, requires=(verdicts.contrast("C1", "shuffled", "worse", "It fails"),))
    assert [part.says for part in named(fails).parts] == ["It fails", "One"], "once, where it is named"
    # A rule of one part, or of a kind of its own.
    alone = with_controls(holds(passes), passes)
    assert alone.verdict == NOT_TESTED and [part.says for part in alone.parts] == [required[0].says, "One"]
    assert with_controls(holds(fails), fails).verdict == SUPPORTED
    senseless = dataclasses.replace(fails, declared=dataclasses.replace(fails.declared, higher_is_better=None))
    unknown = every(verdicts.contrast("C1", "a", "lower", "One"))(senseless)
    assert (
        unknown.verdict == NOT_TESTED
        and "The control shuffled was not checked, since neither more nor less" in unknown.sentence
    )


def test_only_the_sources_own_setting_replicates_or_refutes():
    found = analysis(baseline=BASELINE, a=WORSE)
    holds, fails = verdicts.contrast("C1", "a", "worse", "One"), verdicts.contrast("C1", "a", "better", "Two")
    assert every(holds, setting="source")(found).verdict == REPLICATED
    assert every(fails, setting="source")(found).verdict == REFUTED


def test_the_opposite_and_support_in_part_are_corrected_for_the_number_of_parts():
    def part(word: str, p: float | None, *, exact: bool = False) -> rules.Rule:
        return rules.Rule("C1", f"p {p}", lambda _: Verdict("C1", word, 0.1, None, p, 5, f"p {p}", exact=exact))

    found = analysis(baseline=BASELINE)
    one, clear, holds, open_ = part(OPPOSITE, 0.03), part(OPPOSITE, 0.001), part(SUPPORTED, 0.04), part(NOT_SHOWN, 0.5)
    assert every(one)(found).verdict == OPPOSITE
    assert every(one, holds)(found).verdict == NOT_SHOWN, "twice 0.03 is above 0.05"
    assert every(clear, *[open_] * 4)(found).verdict == OPPOSITE
    assert every(holds, holds)(found).verdict == SUPPORTED, "support needs no correction"
    assert every(holds, open_)(found).verdict == NOT_SHOWN, "support in part does"
    assert every(part(REFUTED, None, exact=True), part(SUPPORTED, 0.001))(found).verdict == REFUTED, "what is exact has no p"
    assert every(part(EXACT, None, exact=True), part(EXACT, None, exact=True))(found).verdict == EXACT
    assert every(part(EXACT, None, exact=True), holds)(found).verdict == SUPPORTED
    assert every(part(ABSENT, 0.5), part(ABSENT, 0.4))(found).verdict == ABSENT


def test_a_conjunction_of_true_or_of_null_parts_seldom_errs():
    random, studies, wrong = np.random.default_rng(0), 3000, {SUPPORTED: 0, OPPOSITE: 0, IN_PART: 0}
    # Two-sided p of three independent tests without an effect: each part points to either side with p below 0.05 in 2.5 %.
    for p, sign in zip(random.random((studies, 3)), random.choice([-1, 1], (studies, 3)), strict=True):
        words = [NOT_SHOWN if q >= 0.05 else SUPPORTED if s > 0 else OPPOSITE for q, s in zip(p, sign, strict=True)]
        parts = [Verdict("C1", word, s, None, float(q), 5, "") for word, q, s in zip(words, p, sign, strict=True)]
        word = combined(parts)
        wrong[word] = wrong.get(word, 0) + 1
    most = studies * 0.025 + 3 * (studies * 0.025 * 0.975) ** 0.5
    assert wrong[SUPPORTED] <= most and wrong[OPPOSITE] <= most and wrong[IN_PART] <= most


def test_exact_statements_hold_in_every_run_or_are_refuted():
    found = analysis(baseline=[1.0] * 5, linear=[0.5] * 5, nearly=[0.5, 0.5, 0.5, 0.5, 0.75], lost=[0.5, 0.5, 0.5, 0.5, None])
    half = exact_verdicts.identity("C1", "linear", 0.5, 1e-9, "A line gets half")
    assert half(found).verdict == EXACT and half(found).exact and "up to 0 in 5 of 5 runs" in half(found).sentence
    for arm in ("nearly", "lost"):
        assert exact_verdicts.identity("C1", arm, 0.5, 1e-9, "half")(found).verdict == REFUTED
    assert exact_verdicts.identity("C1", "nearly", "linear", 0.3, "as the line")(found).verdict == EXACT
    # 100 % against 50 % with every seed has no t, and is decided.
    assert verdicts.contrast("C1", "linear", "worse", "A line fails")(found).verdict == SUPPORTED


def test_success_rates_have_exact_intervals():
    found = analysis(baseline=[1.0] * 8, some=[1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, None], none=[0.5] * 8)
    verdict = exact_verdicts.success_rate("C27", "baseline", 1.0, 0.5, "It mostly succeeds")(found)
    assert verdict.verdict == SUPPORTED and verdict.interval == pytest.approx((0.025 ** (1 / 8), 1)) and verdict.effect == 1
    for arm, word in (("some", NOT_SHOWN), ("none", OPPOSITE)):
        assert exact_verdicts.success_rate("C27", arm, 1.0, 0.5, "x")(found).verdict == word
    oftener = exact_verdicts.more_often("C27", "baseline", "none", 1.0, "oftener")(found)
    assert oftener.verdict == SUPPORTED and "8 of 8 runs of baseline reach 100.00 points" in oftener.sentence
    assert exact_verdicts.more_often("C27", "none", "baseline", 1.0, "oftener")(found).verdict == OPPOSITE
    assert exact_verdicts.more_often("C27", "baseline", "some", 1.0, "oftener")(found).verdict == NOT_SHOWN


@pytest.mark.parametrize("state", ["FAILED", "RUNNING"])
def test_a_rate_is_that_of_all_planned_runs(state: str):
    arms = {"baseline": [1.0] * 8, "none": [0.5] * 8}
    whole, found = analysis(**arms), analysis(**arms, states={("baseline", 7): state})
    rate = exact_verdicts.success_rate("C27", "baseline", 1.0, 0.5, "It mostly succeeds")
    assert rate(whole).verdict == SUPPORTED and rate(found).verdict == NOT_TESTED and rate(found).effect is None
    for one, other in (("baseline", "none"), ("none", "baseline")):
        verdict = exact_verdicts.more_often("C27", one, other, 1.0, "oftener")(found)
        assert verdict.verdict == NOT_TESTED and " 1 of 8 runs of baseline " in verdict.sentence
    equal = exact_verdicts.identity("C1", "none", "baseline", 1.0, "They agree")(found)
    assert equal.verdict == NOT_TESTED and " 1 of 8 runs of baseline " in equal.sentence


def test_equivalence_is_two_one_sided_tests():
    found = analysis(baseline=BASELINE, a=[0.901, 0.909, 0.891, 0.919, 0.9], b=WORSE)
    assert verdicts.equivalent("C13", "a", 0.01, "as good")(found).verdict == SUPPORTED
    assert verdicts.equivalent("C13", "a", 0.0005, "as good")(found).verdict == NOT_SHOWN
    verdict = verdicts.equivalent("C13", "b", 0.01, "as good", source="a third of the source's gain")(found)
    assert verdict.verdict == OPPOSITE and "within margins of ±1.00 points, a third of the source's gain" in verdict.sentence


def test_an_effect_of_interest_that_the_interval_excludes_is_absent():
    found = analysis(baseline=BASELINE, a=NOISE)
    assert verdicts.contrast("C1", "a", "better", "it helps", smallest=0.05)(found).verdict == ABSENT
    assert verdicts.contrast("C1", "a", "better", "it helps", smallest=0.005)(found).verdict == NOT_SHOWN


def test_the_studys_smallest_effect_is_the_default_of_parts_that_compare_plain_numbers():
    found, loss = analysis(baseline=BASELINE, a=NOISE), analysis("test/loss", baseline=BASELINE, a=NOISE)
    wide, narrow = (dataclasses.replace(found, smallest_effect=effect) for effect in (0.05, 0.005))
    helps = verdicts.contrast("C1", "a", "better", "it helps")
    assert [helps(one).verdict for one in (wide, narrow, found)] == [ABSENT, NOT_SHOWN, NOT_SHOWN]
    assert verdicts.contrast("C1", "a", "better", "it helps", smallest=0.005)(wide).verdict == NOT_SHOWN, "its own comes first"
    both = verdicts.interaction("C1", ("a", "baseline"), ("baseline", "baseline"), "better", "more")
    assert [both(one).verdict for one in (wide, found)] == [ABSENT, NOT_SHOWN]
    logs = verdicts.contrast("C1", "a", "better", "it helps", scale="log")
    assert logs(dataclasses.replace(loss, smallest_effect=0.5)).verdict == NOT_SHOWN, "no unit of logarithms"


def test_what_is_not_shown_says_how_many_seeds_decide_the_declared_effect_and_never_the_observed_one():
    found = analysis(baseline=BASELINE, a=NOISE)
    spread = np.std(np.subtract(NOISE, BASELINE), ddof=1)

    def seeds(effect: float, power: float = 0.8) -> str:
        needed = statistics.seeds_needed(effect / spread, 0.05, power)
        return f"{needed} seeds would decide" if needed > 5 else "5 seeds are enough to decide"

    part = verdicts.contrast("C1", "a", "better", "it helps", smallest=0.005)(found)
    assert part.sentence.endswith(f"About {seeds(0.005)} an effect of 0.50 points (power 0.8).")
    assert "seeds would" not in verdicts.contrast("C1", "a", "better", "it helps")(found).sentence
    bound = verdicts.bounded("C1", "a", "not worse", 0.002, "as good")(found).sentence
    assert bound.endswith(f"About {seeds(0.002)} it for arms that do not differ (power 0.8).")
    equal = verdicts.equivalent("C1", "a", 0.002, "as good")(found).sentence
    assert equal.endswith(f"About {seeds(0.002, 0.9)} it for arms that do not differ (power 0.8).")
    ratio = verdicts.contrast("C1", "a", "better", "it helps", smallest=0.1, scale="log")(found)
    assert ratio.verdict == ABSENT
    ratio = verdicts.contrast("C1", "a", "better", "it helps", smallest=0.01, scale="log")(found)
    assert ratio.sentence.endswith(" a ratio of 1.01 (power 0.8).")
    assert (
        "seeds"
        not in verdicts.contrast("C1", "a", "better", "x", smallest=0.01)(
            analysis(baseline=BASELINE, a=BASELINE)
        ).sentence.partition("5 paired seeds")[2]
    ), "without a spread nothing is known"


def test_the_test_sets_sampling_is_said_beside_the_seeds():
    # Three of forty test examples are right with every seed of one arm, and of the other none.
    right = np.zeros((5, 40), bool)
    right[:, :3], right[0, 3] = True, True
    runs = [
        RunResult(arm, seed, "DONE", "", "", {"test/accuracy": float(each.mean())}, correct=each)
        for arm, table in (("baseline", right & False), ("a", right))
        for seed, each in enumerate(table)
    ]
    study = Study("toy", "toy", {}, "grid", (Arm("baseline", {}), Arm("a", {})), tuple(range(5)), {}, metrics=DECLARED)
    found = analyse(study, runs)
    span = " [−0.54, 16.54] points"
    verdict = verdicts.contrast("C1", "a", "better", "it helps")(found)
    assert verdict.verdict == SUPPORTED
    assert verdict.sentence.endswith(f"With the test set's sampling:{span}, which includes 0, although the seeds decide.")
    bound = verdicts.bounded("C1", "a", "not worse", 0.005, "as good")(found)
    assert bound.sentence.endswith("which includes the margin, although the seeds decide.")
    doubled = verdicts.interaction("C1", ("a", "baseline"), ("baseline", "a"), "better", "twice")(found)
    assert (
        doubled.effect == pytest.approx(2 * verdict.effect) and "With the test set's sampling: [−1.08, 33" in doubled.sentence
    )


def test_a_difference_that_is_certain_and_too_small_to_matter_is_absent():
    found = analysis(baseline=BASELINE, a=[value + 0.01 + 0.001 * number for number, value in enumerate(BASELINE)])
    for smallest, word in ((None, SUPPORTED), (0.01, SUPPORTED), (0.02, ABSENT)):
        assert verdicts.contrast("C1", "a", "better", "it helps", smallest=smallest)(found).verdict == word
    assert verdicts.contrast("C1", "a", "worse", "it harms", smallest=0.02)(found).verdict == OPPOSITE
    constant = analysis(baseline=[0.5] * 8, a=[0.51] * 8)  # no interval by t
    for smallest, word in ((None, SUPPORTED), (0.02, ABSENT)):
        assert verdicts.contrast("C1", "a", "better", "it helps", smallest=smallest)(constant).verdict == word


def test_a_level_that_an_arm_did_not_reach_bounds_a_difference_on_one_side_only():
    found = analysis("train/loss", baseline=[0.5, 0.52, 0.48, 0.51, 0.49], a=[0.6, 0.61, 0.62, 0.63, 0.6])

    def bounded(*names: str) -> Analysis:
        rows = [dataclasses.replace(row, lower_bounds=(0, 1)) if row.arm in names else row for row in found.rows]
        return dataclasses.replace(found, rows=tuple(rows))

    slower = verdicts.contrast("C3", "a", "worse", "slower", smallest=1.0)
    assert [slower(one).verdict for one in (found, bounded("a"))] == [ABSENT, SUPPORTED], "it may be as slow as one likes"
    assert [slower(one).verdict for one in (bounded("baseline"), bounded("a", "baseline"))] == [ABSENT, NOT_SHOWN]
    assert "2 of 5 runs of a did not reach the level" in slower(bounded("a")).sentence
    faster = verdicts.contrast("C3", "a", "better", "faster")
    assert [faster(one).verdict for one in (found, bounded("a"))] == [OPPOSITE, OPPOSITE]
    assert faster(bounded("baseline")).verdict == NOT_SHOWN, "the baseline may be slower still"
    alike = verdicts.equivalent("C3", "a", 0.5, "as fast")
    assert [alike(one).verdict for one in (found, bounded("a"))] == [SUPPORTED, NOT_SHOWN]
    more = verdicts.interaction("C3", ("a", "baseline"), ("baseline", "a"), "worse", "more")
    assert [more(one).verdict for one in (found, bounded("baseline"))] == [SUPPORTED, NOT_SHOWN]


def test_logarithms_compare_ratios_and_refuse_what_has_none():
    found = analysis("train/loss", baseline=[0.1, 0.2, 0.4, 0.8, 0.3], a=[0.2, 0.41, 0.8, 1.6, 0.6], zero=[0.0] * 5)
    verdict = verdicts.contrast("C3", "a", "worse", "slower", scale="log")(found)
    assert verdict.verdict == SUPPORTED and verdict.effect == pytest.approx(2.01, abs=0.01) and verdict.scale == "log"
    assert "a / baseline = 2.01 [1.98, 2.04] in train/loss" in verdict.sentence
    with pytest.raises(UsageError, match="needs numbers above 0"):
        verdicts.contrast("C3", "zero", "worse", "slower", scale="log")(found)


def test_sign_flips_decide_where_they_are_declared_and_disagreement_is_said():
    skewed = [0.001, 0.001, 0.002, 0.001, 0.002, 0.001, 0.9]
    found = analysis("train/loss", baseline=[1.0] * 7, a=[1 + value for value in skewed])
    by_t, by_signs = (verdicts.contrast("C3", "a", "worse", "slower", test=test)(found) for test in ("t", "signs"))
    assert (by_t.verdict, by_signs.verdict, by_signs.p) == (NOT_SHOWN, SUPPORTED, 2 / 128)
    assert all("t and sign flips disagree: 0.35 and 0.016" in one.sentence for one in (by_t, by_signs))
    few = analysis("train/loss", baseline=BASELINE, a=[value + 1 for value in NOISE])
    assert verdicts.contrast("C3", "a", "worse", "slower", test="signs")(few).verdict == NOT_SHOWN, "five pairs are too few"


def test_an_arm_that_the_study_lacks_is_an_error():
    with pytest.raises(UsageError, match=r"the arm 'lr=1', which the study lacks.*Arms: baseline; lr=2"):
        verdicts.contrast("C1", "lr=1", "worse", "x")(analysis(baseline=BASELINE, **{"lr=2": WORSE}))


def test_a_bound_holds_in_every_run_or_is_refuted_by_one():
    found = analysis(baseline=BASELINE, a=WORSE, lost=[0.95, 0.95, None, 0.95, 0.95])
    highest = exact_verdicts.at_most("C1", "a", 0.83, "It stays below")(found)
    assert (highest.verdict, highest.effect, highest.n) == (EXACT, 0.83, 5) and "a ≤ 83.00 points" in highest.sentence
    assert exact_verdicts.at_most("C1", "a", 0.82, "It stays below")(found).verdict == REFUTED
    assert exact_verdicts.at_least("C1", "baseline", "a", "It is never below")(found).verdict == EXACT
    assert exact_verdicts.at_least("C1", "a", "baseline", "It is never below")(found).verdict == REFUTED
    assert exact_verdicts.at_least("C1", "lost", 0.9, "It is high")(found).verdict == REFUTED, (
        "a run that diverged has no number"
    )


def test_a_part_on_another_metric_asks_for_its_analysis():
    by_loss = analysis("test/loss", baseline=[0.1, 0.2, 0.15], a=[0.9, 1.1, 0.95])
    found = analysis(baseline=BASELINE[:3], a=WORSE[:3])
    rule = verdicts.on("test/loss", verdicts.contrast("C1", "a", "worse", "It hurts"))
    both = every(verdicts.contrast("C1", "a", "worse", "It hurts"), rule)
    verdict = both(found, {"test/loss": by_loss}.__getitem__)
    assert [part.metric for part in verdict.parts] == ["test/accuracy", "test/loss"] and verdict.verdict == SUPPORTED
    with pytest.raises(UsageError, match=r"compares test/loss\. Give the analysis of that number too"):
        rule(found)


def test_a_part_that_cannot_be_decided_from_the_numbers_is_not_tested_and_takes_no_other():
    found = analysis(baseline=BASELINE, a=WORSE, b=[*WORSE[:4], 1.0])
    holds = verdicts.contrast("C1", "a", "worse", "It hurts")
    for rule, reason in (
        (verdicts.contrast("C1", "b", "worse", "It hurts", scale="logit"), "b: the verdict compares on the scale logit"),
        (verdicts.contrast("C1", "c", "worse", "It hurts"), "the verdict needs the arm 'c', which the study lacks"),
    ):
        verdict = every(holds, shown=[rule])(found)
        assert verdict.verdict == SUPPORTED and [part.verdict for part in verdict.parts] == [SUPPORTED, NOT_TESTED]
        assert verdict.parts[1].sentence.startswith(f"It hurts: {reason}") and verdict.parts[1].says == "It hurts"
        assert every(holds, rule)(found).verdict == NOT_TESTED
    # Runs that diverged are the worst of a metric that has a worst.
    *rest, lost = [("baseline", BASELINE), ("a", WORSE), ("b", [*WORSE[:4], None])]
    senseless = dataclasses.replace(analysis(**dict([*rest, lost])), declared=Metric("sharpness"))
    part = judged(verdicts.contrast("C27", "b", "lower", "It blurs"), senseless)
    assert part.verdict == NOT_TESTED and "the verdict of C27 on runs that diverged" in part.sentence
