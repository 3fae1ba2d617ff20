"""Makes verdict rules: the functions that an experiment's `study` declares as `verdict`, from a claim and what it expects.

A rule is declared before the runs, so that results cannot choose the test. What a verdict can say is in words.py. The rules of
exact statements and of success rates are in exact_verdicts.py, that of searches in search_verdict.py. Nothing here knows a
claim; nothing here imports jax.

A run that diverged takes the worst rank of all runs: it is evidence where the claim says worse, and against the claim where it
says better or not worse. A run that failed says nothing, so that the part is then not tested.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy import stats

from cnnlab.ablation.analyse import statistics, summary, words
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Interval
from cnnlab.ablation.plan.study import BASELINE, Verdict
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.metric import Metric

VerdictRule = Callable[[Analysis], Verdict]
"""The type of a study's `verdict`."""

Sense = Literal["better", "worse"]
"""By the metric: a higher loss is worse."""

Direction = Literal["better", "worse", "higher", "lower"]
"""A sense, or the direction of the number itself, for a metric that has no sense."""

Test = Literal["t", "signs"]
"""The test that decides: t, with which the sign flips must agree from six pairs on; or the sign flips alone, from six on."""

Scale = Literal["plain", "log", "logit"]
"""What is compared: the numbers, their logarithms (losses, times), or the logits of shares."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """The rule of one part of a claim, made by the functions below."""

    claim: str
    """Its id, such as C3."""
    says: str
    """The claim in a clause, with which the sentence begins."""
    decide: VerdictRule
    again: Callable[[Verdict, Metric], tuple[str, float | None]] | None = None
    """Returns the word and p for recorded numbers, of a study whose runs are gone."""

    def __call__(self, analysis: Analysis) -> Verdict:
        """Returns the verdict on the part."""
        return dataclasses.replace(self.decide(analysis), says=self.says)


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What a part expects of a difference, and how it is tested."""

    sign: int
    """1 where the claim expects a positive difference, −1 where a negative one."""
    shift: float = 0.0
    """The difference that is tested, oriented by `sign`: 0, or minus the margin of a claim of equal quality."""
    smallest: float | None = None
    """Smallest effect of interest, above 0."""

    def word(self, effect: float, p: float | None, interval: Interval | None) -> str:
        """Returns supported, opposite, absent or not shown."""
        beyond = self.sign * effect - self.shift
        if p is not None and p < words.ALPHA and beyond:
            return words.SUPPORTED if beyond > 0 else words.OPPOSITE
        if self.smallest is not None and interval is not None:
            most = max(self.sign * interval.low, self.sign * interval.high)
            return words.ABSENT if most < self.smallest else words.NOT_SHOWN
        return words.NOT_SHOWN

    def of_record(self, part: Verdict) -> tuple[str, float | None]:
        """Returns the word and p for a recorded effect, its interval by Student's t and its number of pairs."""
        if part.effect is None or part.interval is None or part.n < 2:
            return words.NOT_SHOWN, None
        interval = Interval(*part.interval)
        error = (interval.high - interval.low) / 2 / stats.t.ppf(1 - words.ALPHA / 2, part.n - 1)
        p = float(2 * stats.t.sf(abs(self.sign * part.effect - self.shift) / error, part.n - 1))
        return self.word(part.effect, p, interval), p


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
            interval excludes it the verdict is `absent`.
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
        return _compared(analysis, claim, says, (row_of(analysis, arm), other), hypothesis(analysis.declared), test, scale)

    return Rule(claim, says, decide, lambda part, metric: hypothesis(metric).of_record(part))


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
        margin: above 0, in units of the metric; a difference up to it does not matter to the claim.
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
        shown = f"{summary.signed(-found.sign * margin, analysis.declared)}{summary.unit(analysis.declared)}"
        because = f", {source}" if source else ""
        return _compared(analysis, claim, says, rows, found, test, scale, f"against a margin of {shown}{because}")

    return Rule(claim, says, decide, lambda part, metric: hypothesis(metric).of_record(part))


def equivalent(claim: str, arm: str, margin: float, says: str, *, against: str = BASELINE, source: str = "") -> Rule:
    """Tests that two arms differ by less than a margin in either direction, by two one-sided t-tests (TOST).

    Supported where the 95 % interval lies between the margins, the opposite where it lies beyond one of them.

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        margin: above 0, in units of the metric.
        says: the claim in a clause.
        against: the arm that it is compared with.
        source: why this margin; the sentence says it.
    """

    def decide(analysis: Analysis) -> Verdict:
        row, other = rows = (row_of(analysis, arm), row_of(analysis, against))
        differences = _differences(row, other)
        p = statistics.p_of_equivalence(differences, margin)
        interval = statistics.student_interval(differences, words.ALPHA)
        if row.diverged + other.diverged or interval is None:
            word = words.NOT_SHOWN
        elif p is not None and p < words.ALPHA:
            word = words.SUPPORTED
        else:
            word = words.OPPOSITE if max(interval.low, -interval.high) > margin else words.NOT_SHOWN
        if word == words.OPPOSITE:
            p = statistics.p_of_t(np.abs(np.mean(differences)) - margin + differences - np.mean(differences))
        shown = (
            f"±{summary.amount(margin, analysis.declared)}{summary.unit(analysis.declared)}{f', {source}' if source else ''}"
        )
        numbers = (differences, interval, p)
        return _verdict(analysis, claim, word, says, f"{arm} − {against}", numbers, rows, test=f"within margins of {shown}")

    return Rule(claim, says, decide)


def interaction(claim: str, changed: tuple[str, str], reference: tuple[str, str], expected: Sense, says: str) -> Rule:
    """Tests that a change does more in one setting than in another: (changed[0] − changed[1]) − (reference[0] − reference[1]).

    Args:
        claim: its id.
        changed: names of two arms, the change made and not made.
        reference: the same in the other setting.
        expected: whether the change is better, or worse, for `changed` than for `reference`.
        says: the claim in a clause.
    """

    def hypothesis(metric: Metric) -> Hypothesis:
        return Hypothesis(1 if (expected == "better") == metric.require_sense(f"the verdict of {claim}") else -1)

    def decide(analysis: Analysis) -> Verdict:
        rows = [row_of(analysis, arm) for arm in (*changed, *reference)]
        seeds = [seed for seed, _ in rows[0].values if all(seed in dict(row.values) for row in rows)]
        made, not_made, reference_made, reference_not_made = ([dict(row.values)[seed] for seed in seeds] for row in rows)
        # [reference or changed, not made or made, S]: a factorial of two factors with two levels each.
        table = np.asarray([[reference_not_made, reference_made], [not_made, made]], np.float64)
        differences = statistics.factorial_contrast(table, [(0, 1), (1, 1)])
        p = statistics.decisive_p(differences.tolist(), [0.0] * len(differences), "t")
        interval = statistics.student_interval(differences, words.ALPHA)
        word = words.NOT_SHOWN
        # A difference of differences has no worst rank: runs that diverged leave it open.
        if len(differences) and not any(row.diverged for row in rows):
            word = hypothesis(analysis.declared).word(float(np.mean(differences)), p, interval)
        title = f"({changed[0]} − {changed[1]}) − ({reference[0]} − {reference[1]})"
        return _verdict(analysis, claim, word, says, title, (differences, interval, p), rows)

    return Rule(claim, says, decide, lambda part, metric: hypothesis(metric).of_record(part))


def _compared(
    analysis: Analysis,
    claim: str,
    says: str,
    rows: tuple[ArmSummary, ArmSummary],
    hypothesis: Hypothesis,
    test: Test,
    scale: Scale,
    tested: str = "",
) -> Verdict:
    """Returns the verdict on an arm against another: by pairs, or by worst ranks where runs of either diverged."""
    row, other = rows
    title = f"{row.arm} − {other.arm}"
    ours, theirs = _scaled(row, scale), _scaled(other, scale)
    seeds = [seed for seed in theirs if seed in ours]
    pairs = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    differences = statistics.paired_differences(*pairs)
    interval = statistics.student_interval(differences, words.ALPHA)
    shift = hypothesis.sign * hypothesis.shift
    if row.diverged + other.diverged:
        metric = analysis.declared
        worst = -np.inf if metric.require_sense(f"the verdict of {claim} on runs that diverged") else np.inf
        ranked = (
            [value - shift for value in ours.values()] + [worst] * row.diverged,
            [*theirs.values()] + [worst] * other.diverged,
        )
        p, effect = statistics.p_of_worst_ranks(*ranked), _rank_difference(*ranked)
        word = dataclasses.replace(hypothesis, shift=0.0).word(effect, p, None)
        how = "by ranks, those that diverged the worst"
    else:
        moved = [value - shift for value in pairs[0]]
        p = statistics.decisive_p(moved, pairs[1], test)
        effect = float(np.mean(differences)) if seeds else 0.0
        word = hypothesis.word(effect, p, interval)
        how = " ".join(filter(None, (tested, _remark(moved, pairs[1], test))))
    return _verdict(analysis, claim, word, says, title, (differences, interval, p), rows, test=how, scale=scale)


def _remark(ours: Sequence[float], theirs: Sequence[float], test: Test) -> str:
    """Returns how p was found where that was not by t, and whether t and the sign flips disagree."""
    differences = statistics.paired_differences(ours, theirs)
    t, flips = statistics.p_of_t(differences), statistics.p_of_sign_flips(differences)
    if t is None or flips is None:
        return "by an exact test, since all pairs differ by the same" if len(differences) > 1 else ""
    able = len(differences) >= statistics.FEWEST_FLIPS
    if able and (t < words.ALPHA) != (flips < words.ALPHA):
        return f"t and sign flips disagree: {t:.2g} and {flips:.2g}"
    return "by sign flips" if test == "signs" else ""


def _rank_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the difference of the mean ranks of two groups."""
    ranks = stats.rankdata([*ours, *theirs])
    return float(np.mean(ranks[: len(ours)]) - np.mean(ranks[len(ours) :])) if ours and theirs else 0.0


def _scaled(row: ArmSummary, scale: Scale) -> dict[int, float]:
    """Returns {seed: number on the scale}; raises UsageError where a number has no logarithm."""
    values = dict(row.values)
    if scale == "plain":
        return values
    if any(not (value > 0 and (scale == "log" or value < 1)) for value in values.values()):
        expected = "numbers above 0" if scale == "log" else "shares above 0 and below 1"
        raise UsageError(
            f"{row.arm}: the verdict compares on the scale {scale}, which needs {expected}. Declare another scale."
        )
    return {seed: float(np.log(value) if scale == "log" else np.log(value / (1 - value))) for seed, value in values.items()}


def row_of(analysis: Analysis, arm: str) -> ArmSummary:
    """Returns the arm of that name; raises UsageError where the study has none."""
    for row in analysis.rows:
        if row.arm == arm:
            return row
    names = [row.arm for row in analysis.rows]
    raise UsageError(
        f"the verdict needs the arm {arm!r}, which the study lacks.{did_you_mean(arm, names)} Arms: {'; '.join(names)}."
    )


def _differences(row: ArmSummary, other: ArmSummary) -> np.ndarray:
    """Returns f64 [S]: row − other over the seeds that both finished."""
    ours, theirs = dict(row.values), dict(other.values)
    seeds = [seed for seed in theirs if seed in ours]
    return statistics.paired_differences([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _verdict(
    analysis: Analysis,
    claim: str,
    word: str,
    says: str,
    title: str,
    numbers: tuple[np.ndarray, Interval | None, float | None],
    rows: Sequence[ArmSummary],
    *,
    test: str = "",
    scale: Scale = "plain",
) -> Verdict:
    """Returns a verdict with a sentence from (differences f64 [S], their interval, p).

    For example: `ReLU trains faster than tanh: activation=tanh − baseline = +0.12 [0.10, 0.14] in train/loss, where less is
    better (p = 0.001, 5 paired seeds).`
    """
    differences, interval, p = numbers
    lost = "".join(
        f" {count} of {row.planned} runs of {row.arm} {how}."
        for row in rows
        for count, how in ((row.diverged, "diverged"), (row.failed, "failed"))
        if count
    )
    if any(row.failed for row in rows):
        word = words.NOT_TESTED
    tested = "no p" if p is None else f"p = {p:.2g}{f' {test}' if test else ''}"
    if not len(differences):
        sentence = f"{says}: {title} has no seed that both finished ({tested}).{lost}"
        return Verdict(claim, word, None, None, p, 0, sentence, comparison=title)
    effect, bounds, declared = float(np.mean(differences)), interval, analysis.declared
    if scale != "plain":
        effect, bounds = float(np.exp(effect)), interval and Interval(float(np.exp(interval.low)), float(np.exp(interval.high)))
        span = f" [{bounds.low:.3g}, {bounds.high:.3g}]" if bounds else ""
        title = title.replace(" − ", " / ")
        amount = f"{effect:.3g}{span}{' as a ratio of odds' if scale == 'logit' else ''}"
    else:
        amount = f"{summary.signed(effect, declared)}{summary.span(interval, declared)}{summary.unit(declared)}"
    sentence = (
        f"{says}: {title} = {amount} in {analysis.metric}{summary.sense(declared)} "
        f"({tested}, {summary.seeds(len(differences))}).{lost}"
    )
    pair = (bounds.low, bounds.high) if bounds else None
    return Verdict(claim, word, effect, pair, p, len(differences), sentence, comparison=title, scale=scale)
