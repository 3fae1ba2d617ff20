"""Compares two arms seed by seed for a verdict rule, and says the comparison in a sentence."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from cnnlab.ablation.analyse import statistics, summary, words
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Interval
from cnnlab.ablation.analyse.rules import Hypothesis, Scale, Test
from cnnlab.ablation.plan.study import Verdict
from cnnlab.errors import UsageError


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
    return verdict_of(analysis, claim, word, says, title, (differences, interval, p), rows, test=how, scale=scale)


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


def paired(row: ArmSummary, other: ArmSummary) -> np.ndarray:
    """Returns f64 [S]: row − other over the seeds that both finished."""
    ours, theirs = dict(row.values), dict(other.values)
    seeds = [seed for seed in theirs if seed in ours]
    return statistics.paired_differences([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


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
