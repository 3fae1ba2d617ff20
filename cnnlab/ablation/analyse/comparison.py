"""Compares two arms, or two changes, seed by seed for a verdict rule, and says the comparison in a sentence.

The sentence adds the interval that includes the test set's sampling, where the test examples are known one by one, and where
nothing is decided how many seeds would decide the effect that the claim names.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from cnnlab.ablation.analyse import statistics, summary, two_way, words
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Interval
from cnnlab.ablation.analyse.rules import Hypothesis, Scale, Test, losses
from cnnlab.ablation.plan.study import Verdict
from cnnlab.errors import UsageError

DISAGREE = "t and sign flips disagree"
"""What a sentence says where the two tests lie on different sides of alpha."""
SURVIVORS = "; the difference is that of the runs that finished"
"""What a sentence says where ranks of all runs decide beside a difference."""


def compare(
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
    hypothesis, remarks = hypothesis.with_default(analysis, scale), []
    title = f"{row.arm} − {other.arm}"
    pairs = paired(row, other, scale)
    differences = statistics.paired_differences(*pairs)
    interval, ranked = statistics.student_interval(differences, words.ALPHA), None
    shift = hypothesis.sign * hypothesis.shift
    if row.diverged + other.diverged:
        worst = _worst(analysis, claim)
        groups = (
            [value - shift for value in scaled(row, scale).values()] + [worst] * row.diverged,
            [*scaled(other, scale).values()] + [worst] * other.diverged,
        )
        p, effect = statistics.p_of_worst_ranks(*groups), statistics.rank_difference(*groups)
        word = dataclasses.replace(hypothesis, shift=0.0).word(effect, p, None)
        how, ranked = f"by ranks, those that diverged the worst{SURVIVORS * bool(pairs[0])}", min(map(len, groups))
    else:
        moved = [value - shift for value in pairs[0]]
        p = statistics.decisive_p(moved, pairs[1], test)
        effect = float(np.mean(differences)) if len(differences) else 0.0
        word = hypothesis.word(effect, p, as_far_as_known(interval or _point(differences, p), rows))
        # A number that is too small makes a difference too small: that the others are larger is not shown by it.
        is_known = not (other if effect > shift else row).lower_bounds
        word = word if is_known or word == words.ABSENT else words.NOT_SHOWN
        by = _how(moved, pairs[1], test)
        how = ("; " if DISAGREE in by else " ").join(filter(None, (tested, by)))
        remarks = _remarks(analysis, word, differences, rows, (1, -1), hypothesis, scale) + summary.lower_bounds(rows)
    numbers = (differences, interval, p)
    found = verdict_of(analysis, claim, word, says, title, numbers, rows, test=how, scale=scale, remarks=remarks)
    return found if ranked is None else by_ranks(found, ranked)


def as_far_as_known(interval: Interval | None, rows: tuple[ArmSummary, ArmSummary]) -> Interval | None:
    """Returns the interval of a difference, without an end on the side where numbers of an arm are lower bounds."""
    row, other = rows
    if interval is None:
        return None
    return Interval(-math.inf if other.lower_bounds else interval.low, math.inf if row.lower_bounds else interval.high)


def compare_changes(
    analysis: Analysis, claim: str, says: str, rows: Sequence[ArmSummary], hypothesis: Hypothesis, scale: Scale
) -> Verdict:
    """Returns the verdict on a change in one setting against that in another, from four arms: made, not made, twice.

    By a paired test of the differences of differences. Where runs diverged, each is infinitely bad, and the changes of one
    setting are ranked among those of the other; a seed with which a change has two runs that diverged has no rank.
    """
    hypothesis = hypothesis.with_default(analysis, scale)
    numbers = [scaled(row, scale) for row in rows]
    seeds = [seed for seed in numbers[0] if all(seed in each for each in numbers)]
    made, not_made, reference_made, reference_not_made = ([each[seed] for seed in seeds] for each in numbers)
    # [reference or changed, not made or made, S]: a factorial of two factors with two levels each.
    table = np.asarray([[reference_not_made, reference_made], [not_made, made]], np.float64)
    differences = statistics.factorial_contrast(table, [(0, 1), (1, 1)])
    interval, how, ranked = statistics.student_interval(differences, words.ALPHA), "", None
    title = f"({rows[0].arm} − {rows[1].arm}) − ({rows[2].arm} − {rows[3].arm})"
    if any(row.diverged for row in rows):
        worst = _worst(analysis, claim)
        groups = [list(_changes(rows[at], rows[at + 1], worst, scale).values()) for at in (0, 2)]
        p, word, remarks = None, words.NOT_SHOWN, ["With some seeds both runs of a change diverged, so that it has no rank."]
        ranked = 0
        if not np.isnan([*groups[0], *groups[1]]).any():
            p, remarks, ranked = statistics.p_of_worst_ranks(*groups), [], min(map(len, groups))
            word = hypothesis.word(statistics.rank_difference(*groups), p, None)
            how = f"by ranks of the two changes, runs that diverged the worst{SURVIVORS * bool(seeds)}"
    else:
        zeros = [0.0] * len(differences)
        p = statistics.decisive_p(differences.tolist(), zeros, "t")
        word = hypothesis.word(float(np.mean(differences)) if seeds else 0.0, p, interval or _point(differences, p))
        word = words.NOT_SHOWN if any(row.lower_bounds for row in rows) else word
        how = _how(differences.tolist(), zeros, "t")
        remarks = _remarks(analysis, word, differences, rows, (1, -1, -1, 1), hypothesis, scale) + summary.lower_bounds(rows)
    found = verdict_of(
        analysis, claim, word, says, title, (differences, interval, p), rows, test=how, scale=scale, remarks=remarks
    )
    return found if ranked is None else by_ranks(found, ranked)


def compare_combination(
    analysis: Analysis,
    claim: str,
    says: str,
    title: str,
    rows: Sequence[ArmSummary],
    weights: Sequence[float],
    hypothesis: Hypothesis,
) -> Verdict:
    """Returns the verdict on a weighted sum of the numbers of several arms, by a paired test over the seeds that all finished.

    Where runs diverged nothing is shown.

    Args:
        analysis: that of the study.
        claim: its id.
        says: the claim in a clause.
        title: what the sum compares.
        rows: the arms.
        weights: the weight of each; those of one sign add up to 1, those of the other to −1.
        hypothesis: what the claim expects of the sum.
    """
    hypothesis = hypothesis.with_default(analysis, "plain")
    numbers = [dict(row.values) for row in rows]
    seeds = [seed for seed in numbers[0] if all(seed in each for each in numbers)]
    pairs = list(zip(weights, numbers, strict=True))
    ours, theirs = (
        [sum(abs(weight) * each[seed] for weight, each in pairs if weight * sign > 0) for seed in seeds] for sign in (1, -1)
    )
    differences = statistics.paired_differences(ours, theirs)
    interval, p = statistics.student_interval(differences, words.ALPHA), statistics.decisive_p(ours, theirs, "t")
    effect = float(np.mean(differences)) if seeds else 0.0
    word = hypothesis.word(effect, p, interval or _point(differences, p))
    if any(row.diverged or row.lower_bounds for row in rows):
        word = words.NOT_SHOWN
    remarks = _remarks(analysis, word, differences, rows, weights, hypothesis, "plain") + summary.lower_bounds(rows)
    found = (differences, interval, p)
    return verdict_of(analysis, claim, word, says, title, found, rows, test=_how(ours, theirs, "t"), remarks=remarks)


def by_ranks(found: Verdict, seeds: int) -> Verdict:
    """Returns a verdict by ranks of all runs: without effect and interval, which are those of the runs that finished.

    Its sentence tells these. `seeds` counts the ranked runs of an arm, or ranked changes.
    """
    return dataclasses.replace(found, effect=None, interval=None, n=seeds)


def _point(differences: np.ndarray, p: float | None) -> Interval | None:
    """Returns the interval of differences that are all the same, as an exact test decides them: that one number."""
    if p is None or p >= words.ALPHA or not len(differences):
        return None
    return Interval(float(differences[0]), float(differences[0]))


def _worst(analysis: Analysis, claim: str) -> float:
    """Returns the number of a run that diverged: infinitely bad."""
    higher_is_better = analysis.declared.require_sense(f"the verdict of {claim} on runs that diverged")
    return -math.inf if higher_is_better else math.inf


def _changes(made: ArmSummary, not_made: ArmSummary, worst: float, scale: Scale) -> dict[int, float]:
    """Returns {seed: made − not made}, infinite where one of the two diverged and NaN where both did."""
    ours, theirs = (scaled(row, scale) | dict.fromkeys(row.diverged_seeds, worst) for row in (made, not_made))
    return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}


def _remarks(
    analysis: Analysis,
    word: str,
    differences: np.ndarray,
    rows: Sequence[ArmSummary],
    signs: Sequence[float],
    hypothesis: Hypothesis,
    scale: Scale,
) -> list[str]:
    """Returns sentences about the test set's sampling, and about the seeds that would decide."""
    found = []
    table = two_way.paired([row.examples for row in rows], signs) if scale == "plain" else None
    interval = None if table is None else two_way.interval(table, words.ALPHA)
    if interval is not None:
        shown = f"With the test set's sampling:{summary.span(interval, analysis.declared)}{summary.unit(analysis.declared)}"
        if word in (words.SUPPORTED, words.OPPOSITE) and summary.includes(interval, hypothesis.sign * hypothesis.shift):
            shown += f", which includes {'the margin' if hypothesis.shift else '0'}, although the seeds decide"
        found.append(f"{shown}.")
    goal = abs(hypothesis.shift) or hypothesis.smallest
    if word == words.NOT_SHOWN and goal:
        effect = "it for arms that do not differ" if hypothesis.shift else _effect_text(goal, analysis, scale)
        found += seeds_remark(differences, goal, effect)
    return found


def seeds_remark(differences: np.ndarray, goal: float, effect: str, enough: float = statistics.ENOUGH_POWER) -> list[str]:
    """Returns a sentence about how many seeds decide a declared effect, if differences spread as these do; [] without a spread.

    Args:
        differences: f64 [S].
        goal: the effect, in their unit.
        effect: the effect in words, such as `an effect of 0.50 points`.
        enough: power of each test that must decide; the sentence says 0.8.
    """
    if not statistics.varies(differences):
        return []
    needed = statistics.seeds_needed(goal / float(np.std(differences, ddof=1)), words.ALPHA, enough)
    said = summary.seeds_that_decide(needed, len(differences), effect)
    return [f"{said[0].upper()}{said[1:]}."]


def _effect_text(effect: float, analysis: Analysis, scale: Scale) -> str:
    """Returns `an effect of 0.50 points`, or a ratio on the scale log or logit."""
    if scale == "plain":
        return f"an effect of {summary.amount(effect, analysis.declared)}{summary.unit(analysis.declared)}"
    return f"{'a ratio' if scale == 'log' else 'an odds ratio'} of {math.exp(effect):.3g}"


def margin_text(margin: float, analysis: Analysis, scale: Scale) -> str:
    """Returns a signed margin as a sentence shows it: `+0.50 points`, or the ratio that it is on the scale log or logit."""
    if scale == "plain":
        return f"{summary.signed(margin, analysis.declared)}{summary.unit(analysis.declared)}"
    return _effect_text(margin, analysis, scale)


def _how(ours: Sequence[float], theirs: Sequence[float], test: Test) -> str:
    """Returns how p was found where that was not by t, and whether t and the sign flips disagree."""
    differences = statistics.paired_differences(ours, theirs)
    t, flips = statistics.p_of_t(differences), statistics.p_of_sign_flips(differences)
    if t is None or flips is None:
        return "by an exact test, since all pairs differ by the same" if len(differences) > 1 else ""
    if statistics.can_flip(differences) and (t < words.ALPHA) != (flips < words.ALPHA):
        return f"{DISAGREE}: {t:.2g} and {flips:.2g}"
    return "by sign flips" if test == "signs" else ""


def scaled(row: ArmSummary, scale: Scale) -> dict[int, float]:
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


def paired(row: ArmSummary, other: ArmSummary, scale: Scale = "plain") -> tuple[list[float], list[float]]:
    """Returns (numbers of row, numbers of other) on the scale, over the seeds that both finished."""
    ours, theirs = scaled(row, scale), scaled(other, scale)
    seeds = [seed for seed in theirs if seed in ours]
    return [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def verdict_of(
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
    remarks: Sequence[str] = (),
) -> Verdict:
    """Returns a verdict with a sentence from (differences f64 [S], their interval, p).

    For example: `ReLU trains faster than tanh: activation=tanh − baseline = +0.12 [0.10, 0.14] in train/loss, where less is
    better (p = 0.001, 5 paired seeds).`
    """
    differences, interval, p = numbers
    lost = losses(rows)
    if any(row.unknown for row in rows):
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
    sentence = " ".join([sentence, *remarks])
    pair = (bounds.low, bounds.high) if bounds else None
    return Verdict(claim, word, effect, pair, p, len(differences), sentence, comparison=title, scale=scale)
