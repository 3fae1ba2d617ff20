"""Makes verdict rules: the functions that an experiment's `study` declares as `verdict`, from a claim and what it expects.

A rule is declared before the runs, so that results cannot choose the test. What a verdict can say is in words.py, the types are
in rules.py, the comparison of two arms in comparison.py. The rules of exact statements and of success rates are in
exact_verdicts.py, that of searches in search_verdict.py. Nothing here knows a claim; nothing here imports jax.

A run that diverged takes the worst rank of all runs: it is evidence where the claim says worse, and against the claim where it
says better or not worse. A run that failed or is not finished says nothing, so that the part is then not tested.
"""

import dataclasses
from typing import Literal

import numpy as np

from cnnlab.ablation.analyse import statistics, summary, words
from cnnlab.ablation.analyse.comparison import (
    compare,
    compare_changes,
    margin_text,
    paired,
    seeds_remark,
    verdict_of,
)
from cnnlab.ablation.analyse.results import Analysis
from cnnlab.ablation.analyse.rules import Direction, Hypothesis, Rule, Scale, Sense, Test, row_of
from cnnlab.ablation.plan.study import BASELINE, Verdict
from cnnlab.metric import Metric


def on(metric: str, rule: Rule) -> Rule:
    """Returns a rule that compares another metric than the study's.

    Args:
        metric: SPLIT/NAME in a study, such as test/recall; the name alone in a measurement.
        rule: the rule of the part.
    """
    return dataclasses.replace(rule, metric=metric)


def contrast(
    claim: str,
    arm: str,
    expected: Direction,
    says: str,
    *,
    against: str = "",
    smallest: float | None = None,
    test: Test = "t",
    scale: Scale = "plain",
) -> Rule:
    """Tests that an arm is better, or worse, than another, by a paired test without a correction.

    For a metric without a sense, such as the sharpness of drawn images, it tests that the arm's number is higher, or lower.

    Args:
        claim: its id, such as C3.
        arm: name of the arm as the study has it, such as `activation=tanh`.
        expected: the direction in which the arm differs from the other.
        says: the claim in a clause, with which the sentence begins.
        against: the arm that it is compared with; empty: the study's first one.
        smallest: smallest effect of interest, above 0 and in units of the metric, or of the logarithm or logit. Where the
            interval excludes it the verdict is `absent`; where nothing is shown the sentence says how many seeds decide it.
            None: the study's (`StudySpec.smallest_effect`), where plain numbers of its metric are compared.
        test: the test that decides.
        scale: what is compared.
    """

    def hypothesis(metric: Metric) -> Hypothesis:
        upwards = expected in ("better", "higher")
        if expected in ("better", "worse"):
            upwards = upwards == metric.require_sense(f"the verdict of {claim}")
        return Hypothesis(1 if upwards else -1, smallest=smallest)

    def decide(analysis: Analysis) -> Verdict:
        other = row_of(analysis, against) if against else analysis.rows[0]
        return compare(analysis, claim, says, (row_of(analysis, arm), other), hypothesis(analysis.declared), test, scale)

    return Rule(claim, says, decide)


def bounded(
    claim: str,
    arm: str,
    expected: Literal["not better", "not worse"],
    margin: float,
    says: str,
    *,
    against: str = BASELINE,
    source: str = "",
    test: Test = "t",
    scale: Scale = "plain",
) -> Rule:
    """Tests that an arm is not better, or not worse, than another by more than a margin: for claims of equal quality.

    That no difference was found proves none: the paired test is one of the margin, not of 0, so that the claim is supported
    where the interval ends before the margin and its opposite where it begins beyond it (a test of non-inferiority).

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        expected: whether the claim denies that the arm is better, or worse.
        margin: above 0, in units of the metric, or of the logarithm or logit; a difference up to it does not matter to the
            claim.
        says: the claim in a clause.
        against: the arm that it is compared with.
        source: why this margin, such as `a quarter of the gap that He et al. report`; the sentence says it.
        test: the test that decides.
        scale: what is compared.
    """

    def hypothesis(metric: Metric) -> Hypothesis:
        # What the claim denies lies on the other side of the margin.
        sign = -1 if (expected == "not better") == metric.require_sense(f"the verdict of {claim}") else 1
        return Hypothesis(sign, shift=-margin)

    def decide(analysis: Analysis) -> Verdict:
        found, rows = hypothesis(analysis.declared), (row_of(analysis, arm), row_of(analysis, against))
        shown = margin_text(-found.sign * margin, analysis, scale)
        because = f", {source}" if source else ""
        return compare(analysis, claim, says, rows, found, test, scale, f"against a margin of {shown}{because}")

    return Rule(claim, says, decide)


def equivalent(
    claim: str,
    arm: str,
    margin: float,
    says: str,
    *,
    against: str = BASELINE,
    source: str = "",
    scale: Scale = "plain",
) -> Rule:
    """Tests that two arms differ by less than a margin in either direction, by two one-sided tests (TOST).

    Supported where the 95 % interval lies between the margins, the opposite where it lies beyond one of them; from six pairs on
    the sign flips must agree. Where runs diverged nothing is shown.

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        margin: above 0, in units of the metric, or of the logarithm or logit.
        says: the claim in a clause.
        against: the arm that it is compared with.
        source: why this margin; the sentence says it.
        scale: what is compared.
    """

    def decide(analysis: Analysis) -> Verdict:
        rows = (row_of(analysis, arm), row_of(analysis, against))
        ours, theirs = paired(*rows, scale)
        differences = statistics.paired_differences(ours, theirs)
        effect = float(np.mean(differences)) if ours else 0.0
        p = statistics.p_of_equivalence(ours, theirs, margin)
        word, remarks = words.NOT_SHOWN, []
        if any(row.diverged or row.lower_bounds for row in rows):
            p = None
        elif abs(effect) > margin:
            p = statistics.decisive_p([value - np.sign(effect) * margin for value in ours], theirs, "t")
            word = words.OPPOSITE if p is not None and p < words.ALPHA else word
        elif p is not None and p < words.ALPHA:
            word = words.SUPPORTED
        if word == words.NOT_SHOWN:
            # Both tests decide with power 0.8 where each does with 0.9.
            remarks = seeds_remark(differences, margin, "it for arms that do not differ", enough=0.9) + summary.lower_bounds(
                rows
            )
        shown = margin_text(margin, analysis, scale)
        shown = f"margins of ±{shown.removeprefix('+')}" if scale == "plain" else f"{shown} either way"
        numbers = (differences, statistics.student_interval(differences, words.ALPHA), p)
        test, title = f"within {shown}{f', {source}' if source else ''}", f"{arm} − {against}"
        return verdict_of(analysis, claim, word, says, title, numbers, rows, test=test, scale=scale, remarks=remarks)

    return Rule(claim, says, decide)


def interaction(
    claim: str,
    changed: tuple[str, str],
    reference: tuple[str, str],
    expected: Sense,
    says: str,
    *,
    smallest: float | None = None,
    scale: Scale = "plain",
) -> Rule:
    """Tests that a change does more in one setting than in another: (changed[0] − changed[1]) − (reference[0] − reference[1]).

    A run that diverged makes its change infinitely bad, or good where the change was not made; changes are then ranked.

    Args:
        claim: its id.
        changed: names of two arms, the change made and not made.
        reference: the same in the other setting.
        expected: whether the change is better, or worse, for `changed` than for `reference`.
        says: the claim in a clause.
        smallest: smallest effect of interest, as in `contrast`.
        scale: what is compared; on the scale log the factor by which a change multiplies the metric.
    """

    def hypothesis(metric: Metric) -> Hypothesis:
        upwards = (expected == "better") == metric.require_sense(f"the verdict of {claim}")
        return Hypothesis(1 if upwards else -1, smallest=smallest)

    def decide(analysis: Analysis) -> Verdict:
        rows = [row_of(analysis, arm) for arm in (*changed, *reference)]
        return compare_changes(analysis, claim, says, rows, hypothesis(analysis.declared), scale)

    return Rule(claim, says, decide)
