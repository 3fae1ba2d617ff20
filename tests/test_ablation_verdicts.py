"""Verdicts on claims: supported, refuted or undecided by the test that was announced, against scipy and by hand."""

import pytest
from scipy import stats

from cnnlab.ablation.analyse import verdicts
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.plan.study import Arm, RunResult, Study, Verdict
from cnnlab.errors import UsageError
from cnnlab.tasks.classification_metrics import METRICS

DECLARED = {metric.name: metric for metric in METRICS}


def analysis(metric: str = "test/accuracy", **arms: list[float | None]) -> Analysis:
    """Analyses the runs of {arm: metric of seed 0, 1, …}, the baseline first; None is a run that diverged."""
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
    outcomes = [
        RunResult(arm, seed, "DIVERGED" if value is None else "DONE", "", "", {} if value is None else {metric: value})
        for arm, values in arms.items()
        for seed, value in enumerate(values)
    ]
    return analyse(study, outcomes)


BASELINE = [0.90, 0.91, 0.89, 0.92, 0.90]
WORSE = [0.80, 0.82, 0.78, 0.83, 0.79]
NOISE = [0.91, 0.90, 0.90, 0.91, 0.90]


def test_contrast_is_supported_refuted_or_undecided_as_the_study_decides():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    assert verdicts.contrast("C1", "a", "worse", "it hurts")(found).verdict == "supported"
    assert verdicts.contrast("C1", "a", "better", "it helps")(found).verdict == "refuted"
    assert verdicts.contrast("C1", "b", "better", "it helps")(found).verdict == "undecided"


def test_contrast_tells_the_numbers_of_the_studys_test():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    verdict, row = verdicts.contrast("C1", "a", "worse", "It hurts")(found), found.rows[1].contrast
    assert (verdict.claim, verdict.n, verdict.p) == ("C1", 5, row.p_holm)
    assert verdict.effect == pytest.approx(row.difference) and verdict.interval == (row.interval.low, row.interval.high)
    assert verdict.p == pytest.approx(2 * stats.ttest_rel(WORSE, BASELINE).pvalue)
    assert verdict.sentence.startswith("It hurts: a − baseline = −10.00 [−1")
    assert "points in test/accuracy, where more is better (p = " in verdict.sentence
    assert verdict.sentence.endswith("after Holm, 5 paired seeds).")


def test_a_higher_loss_is_worse():
    found = analysis("train/loss", baseline=WORSE, a=BASELINE)
    assert verdicts.contrast("C3", "a", "worse", "it is slower")(found).verdict == "supported"
    assert "where less is better" in verdicts.contrast("C3", "a", "worse", "it is slower")(found).sentence


def test_runs_that_diverged_are_reported_and_never_support_a_claim():
    found = analysis(baseline=BASELINE, a=[None] * 5, b=[0.8, None, None, None, None])
    for arm, count in (("a", 5), ("b", 4)):
        verdict = verdicts.contrast("C14", arm, "worse", "too high")(found)
        assert verdict.verdict == "undecided" and f"{count} of 5 runs of {arm} diverged." in verdict.sentence
    assert verdicts.contrast("C14", "a", "worse", "too high")(found).effect is None


@pytest.mark.parametrize(("margin", "word"), [(0.02, "supported"), (0.0061, "undecided"), (0.001, "refuted")])
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
    assert not_worse.verdict == "supported" and not_worse.effect == pytest.approx(-0.1)
    assert verdicts.bounded("C7", "b", "not better", 0.01, "no gain", against="a")(found).verdict == "refuted"
    assert verdicts.bounded("C7", "a", "not worse", 0.01, "as good", against="b")(found).verdict == "refuted"


def test_arms_that_agree_in_every_seed_are_undecided_since_there_is_no_spread():
    found = analysis(baseline=BASELINE, a=BASELINE)
    assert verdicts.bounded("C13", "a", "not worse", 0.01, "as good")(found).verdict == "undecided"
    assert verdicts.contrast("C13", "a", "better", "it helps")(found).verdict == "undecided"


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
    assert verdict.verdict == "supported" and verdict.n == 5
    assert verdict.effect == pytest.approx(sum(by_hand) / 5) and verdict.p == pytest.approx(expected.pvalue)
    assert verdict.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert "(plain56 − plain20) − (residual56 − residual20) = +0.31 [0.268, 0.352] in train/loss" in verdict.sentence


def test_interaction_is_refuted_the_other_way_and_takes_complete_seeds_alone():
    judge = verdicts.interaction("C7", ("residual56", "residual20"), ("plain56", "plain20"), "worse", "Depth hurts")
    assert judge(analysis("train/loss", **DEPTH)).verdict == "refuted"
    verdict = judge(analysis("train/loss", **{**DEPTH, "plain56": [None, *DEPTH["plain56"][1:]]}))
    assert verdict.n == 4 and "1 of 5 runs of plain56 diverged" in verdict.sentence


def test_survivors_decide_nothing():
    found = analysis(baseline=BASELINE, a=[*WORSE[:4], None])
    assert found.rows[1].contrast.verdict == "worse"
    assert verdicts.contrast("C14", "a", "worse", "too high")(found).verdict == "undecided"
    assert verdicts.bounded("C14", "a", "not better", 0.01, "no gain")(found).verdict == "undecided"


def test_every_part_must_hold():
    found = analysis(baseline=BASELINE, a=WORSE, b=NOISE)
    holds = verdicts.contrast("C1", "a", "worse", "One")
    open_ = verdicts.contrast("C1", "b", "better", "Two")
    fails = verdicts.contrast("C1", "a", "better", "Three")
    assert verdicts.every(holds, holds)(found).verdict == "supported"
    undecided, refuted = verdicts.every(holds, open_)(found), verdicts.every(open_, holds, fails)(found)
    assert undecided.verdict == "undecided" and undecided.p == open_(found).p
    assert refuted.verdict == "refuted" and refuted.effect == fails(found).effect
    assert "[undecided] Two: " in refuted.sentence and "[refuted] Three: " in refuted.sentence


def test_a_part_refutes_a_claim_only_after_a_correction_for_the_number_of_parts():
    def part(word: str, p: float | None) -> verdicts.VerdictRule:
        return lambda analysis: Verdict("C1", word, 0.1, None, p, 5, f"p {p}")

    found = analysis(baseline=BASELINE)
    one, clear, holds = part("refuted", 0.03), part("refuted", 0.001), part("supported", 0.04)
    assert verdicts.every(one)(found).verdict == "refuted"
    assert verdicts.every(one, holds)(found).verdict == "undecided", "twice 0.03 is above 0.05"
    assert verdicts.every(clear, holds, holds, holds, holds)(found).verdict == "refuted"
    assert verdicts.every(holds, holds)(found).verdict == "supported", "support needs no correction"
    assert verdicts.every(part("refuted", None), holds)(found).verdict == "refuted", "what is exact has no p"


def test_an_arm_that_the_study_lacks_is_an_error():
    with pytest.raises(UsageError, match=r"the arm 'lr=1', which the study lacks.*Arms: baseline; lr=2"):
        verdicts.contrast("C1", "lr=1", "worse", "x")(analysis(baseline=BASELINE, **{"lr=2": WORSE}))
