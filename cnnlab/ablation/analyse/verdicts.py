"""Makes verdict rules: the functions that an experiment's `study` declares as `verdict`, from a claim and what it expects.

A rule is declared before the runs, so that results cannot choose the test. A claim is *supported* when the test decides for it,
*refuted* when the test decides against it, and *undecided* otherwise: too few seeds, too small an effect, runs that
diverged. Nothing here knows a claim; nothing here imports jax.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from cnnlab.ablation.analyse import best_of_n, statistics, summary
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Contrast, Interval
from cnnlab.ablation.plan.study import BASELINE, Verdict
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.metric import Metric

VerdictRule = Callable[[Analysis], Verdict]
"""The type of a study's `verdict`."""

Sense = Literal["better", "worse"]
"""By the metric: a higher loss is worse."""

Direction = Literal["better", "worse", "higher", "lower"]
"""A sense, or the direction of the number itself, for a metric that has no sense."""

ALPHA = 0.05
"""Level of the tests that are made here; those of the analysis bring their own."""


def contrast(claim: str, arm: str, expected: Direction, says: str) -> VerdictRule:
    """Tests that an arm is better, or worse, than the baseline, by the study's own test with Holm's correction.

    For a metric without a sense, such as the sharpness of drawn images, it tests that the arm's number is higher, or lower.

    Args:
        claim: its id, such as C3.
        arm: name of the arm as the study has it, such as `activation=tanh`.
        expected: the direction in which the arm differs from the baseline.
        says: the claim in a clause, with which the sentence begins.
    """

    def rule(analysis: Analysis) -> Verdict:
        row, first = _row(analysis, arm), analysis.rows[0]
        word = _agrees(_found(claim, analysis, row.contrast, expected), expected) if row.contrast else "undecided"
        p = row.contrast.p_holm if row.contrast else None
        differences = _differences(row, first)
        return _verdict(analysis, claim, word, says, f"{arm} − {first.arm}", differences, p, [row, first], test="after Holm")

    return rule


def bounded(
    claim: str, arm: str, expected: Literal["not better", "not worse"], margin: float, says: str, *, against: str = BASELINE
) -> VerdictRule:
    """Tests that an arm is not better, or not worse, than another by more than a margin: for claims of equal quality.

    That no difference was found proves none: the paired t-test is one of the margin, not of 0, so that the claim is supported
    where the interval ends before the margin and refuted where it begins beyond it (a test of non-inferiority).

    Args:
        claim: its id.
        arm: name of the arm as the study has it.
        expected: whether the claim denies that the arm is better, or worse.
        margin: above 0, in units of the metric; a difference up to it does not matter to the claim.
        says: the claim in a clause.
        against: the arm that it is compared with.
    """

    def rule(analysis: Analysis) -> Verdict:
        row, other = _row(analysis, arm), _row(analysis, against)
        differences = _differences(row, other)
        # Oriented so that what the claim denies is positive.
        sign = 1 if (expected == "not better") == _require_sense(claim, analysis) else -1
        beyond = statistics.on_grid(sign * differences - margin, margin)
        p = statistics.p_of_t(beyond)
        word = {"undecided": "undecided", "better": "refuted", "worse": "supported"}[_sense(beyond, p, higher_is_better=True)]
        test = f"against a margin of {_signed(sign * margin, analysis.declared)}{summary.unit(analysis.declared)}"
        return _verdict(analysis, claim, word, says, f"{arm} − {against}", differences, p, [row, other], test=test)

    return rule


def interaction(claim: str, changed: tuple[str, str], reference: tuple[str, str], expected: Sense, says: str) -> VerdictRule:
    """Tests that a change does more in one setting than in another: (changed[0] − changed[1]) − (reference[0] − reference[1]).

    Args:
        claim: its id.
        changed: names of two arms, the change made and not made.
        reference: the same in the other setting.
        expected: whether the change is better, or worse, for `changed` than for `reference`.
        says: the claim in a clause.
    """

    def rule(analysis: Analysis) -> Verdict:
        rows = [_row(analysis, arm) for arm in (*changed, *reference)]
        seeds = [seed for seed, _ in rows[0].values if all(seed in dict(row.values) for row in rows)]
        made, not_made, reference_made, reference_not_made = ([dict(row.values)[seed] for seed in seeds] for row in rows)
        # [reference or changed, not made or made, S]: a factorial of two factors with two levels each.
        table = np.asarray([[reference_not_made, reference_made], [not_made, made]], np.float64)
        differences = statistics.factorial_contrast(table, [(0, 1), (1, 1)])
        p = statistics.p_of_t(differences)
        word = _agrees(_sense(differences, p, higher_is_better=_require_sense(claim, analysis)), expected)
        title = f"({changed[0]} − {changed[1]}) − ({reference[0]} − {reference[1]})"
        return _verdict(analysis, claim, word, says, title, differences, p, rows)

    return rule


@dataclasses.dataclass(frozen=True)
class BestOf:
    """Tests that a search finds better arms than another of as many trials: the best of n of ours against the best of their n.

    The best is chosen by one number, such as validation/loss, and evaluated by the study's metric, such as test/loss, seed by
    seed, so that luck in the choice pays neither. Ours are a pool of at least 2 n arms: the effect is over all sets of n of it,
    the interval by the bootstrap of seeds and of trials (best_of_n.resampled_advantage), symmetric about the effect. Their arms
    are fixed: the verdict is about this grid, not about all possible grids.

    A run that diverged is never chosen where another one is, and worth as little as the worst run of the study.

    Attributes:
        claim: its id.
        ours: prefix of the names of the pool's arms, such as `trial `.
        theirs: prefix of the names of the other search's arms.
        chosen_by: the number by which a search chooses its best arm; `commands.write_study_report` passes its analysis too.
        says: the claim in a clause.
    """

    claim: str
    ours: str
    theirs: str
    chosen_by: str
    says: str

    def __call__(self, analysis: Analysis, chosen: Analysis | None = None) -> Verdict:
        """Returns the verdict; `chosen` is the analysis of the same runs by the metric `chosen_by`."""
        if chosen is None or chosen.metric != self.chosen_by:
            raise UsageError(f"the verdict of {self.claim} chooses by {self.chosen_by}. Give the analysis of that number too.")
        ours, theirs = ([row.arm for row in analysis.rows if row.arm.startswith(name)] for name in (self.ours, self.theirs))
        size = len(theirs)
        if not size or len(ours) < 2 * size:
            raise UsageError(
                f"the verdict of {self.claim} compares {len(ours)} arms {self.ours!r} with {size} arms {self.theirs!r}.\n"
                "Expected at least twice as many of the first as of the second, such as those of the design grid_and_random."
            )
        lost = [row.arm for row in analysis.rows if row.arm in {*ours, *theirs} and row.done + row.diverged < row.planned]
        if lost:
            sentence = (
                f"{self.says}: undecided, since {len(lost)} arms have runs that failed or are missing, {lost[0]} among them."
            )
            return Verdict(self.claim, "undecided", None, None, None, 0, sentence)
        for each in (chosen, analysis):
            _require_sense(self.claim, each)
        known, worth = _table(chosen, ours), _table(analysis, ours)
        other = best_of_n.expected_best(_table(chosen, theirs), _table(analysis, theirs), size)
        samples = best_of_n.resampled_advantage(known, worth, other, size, statistics.RESAMPLES, np.random.default_rng(0))
        effect = float(np.mean(best_of_n.expected_best(known, worth, size) - other))
        spread = np.abs(samples - np.mean(samples))
        half = float(np.quantile(spread, 1 - ALPHA))
        p = float((1 + np.sum(spread >= abs(effect))) / (1 + len(spread)))
        word = "undecided" if abs(effect) <= half else "supported" if effect > 0 else "refuted"
        return self._verdict(analysis, word, effect, half, p, (len(known), known.shape[1], size))

    def _verdict(
        self, analysis: Analysis, word: str, advantage: float, half: float, p: float, sizes: tuple[int, int, int]
    ) -> Verdict:
        """Returns the verdict with its sentence; `sizes` are seeds, trials of the pool, trials of a search."""
        seeds, pool, size = sizes
        declared, sign = analysis.declared, 1 if analysis.higher_is_better else -1
        effect, interval = sign * advantage, Interval(sign * advantage - half, sign * advantage + half)
        title = f"the best of {size} “{self.ours.strip()}” arms − the best of {size} “{self.theirs.strip()}” arms"
        sentence = (
            f"{self.says}: {title} = {_signed(effect, declared)}{summary.span(interval, declared)}{summary.unit(declared)} "
            f"in {analysis.metric}{summary.sense(declared)} (p = {p:.2g} by the bootstrap of {pool} trials and "
            f"{seeds} seeds; each best chosen by {self.chosen_by})."
        )
        return Verdict(self.claim, word, effect, _pair(interval), p, seeds, sentence)


def every(*rules: VerdictRule) -> VerdictRule:
    """Combines the parts of a claim: supported where all are, refuted where one is after Holm, undecided otherwise.

    Its effect, interval, p and n are those of the part that decides: the first one refuted, else the first undecided, else the
    one with the largest p. For support all parts must hold, so their p-values need no correction (an intersection-union test;
    Berger 1982, Technometrics 24(4)). For refutation one part is enough, so theirs are corrected by Holm's method over all
    parts: with five of them, one in eight true claims would be refuted otherwise.
    """

    def rule(analysis: Analysis) -> Verdict:
        parts = [one(analysis) for one in rules]
        # A part that is not against the claim counts in the family with a p of 1. One without a p is no test: it stays.
        corrected = statistics.holm([part.p if part.verdict == "refuted" else 1.0 for part in parts])
        parts = [
            part if part.verdict != "refuted" or p is None or p < ALPHA else dataclasses.replace(part, verdict="undecided")
            for part, p in zip(parts, corrected, strict=True)
        ]
        against = [part for word in ("refuted", "undecided") for part in parts if part.verdict == word]
        decisive = against[0] if against else max(parts, key=lambda part: part.p or 0.0)
        sentences = " ".join(f"[{part.verdict}] {part.sentence}" for part in parts)
        return dataclasses.replace(decisive, sentence=sentences)

    return rule


def _row(analysis: Analysis, arm: str) -> ArmSummary:
    for row in analysis.rows:
        if row.arm == arm:
            return row
    names = [row.arm for row in analysis.rows]
    raise UsageError(
        f"the verdict needs the arm {arm!r}, which the study lacks.{did_you_mean(arm, names)} Arms: {'; '.join(names)}."
    )


def _table(analysis: Analysis, arms: Sequence[str]) -> np.ndarray:
    """Returns f64 [S, arms] of the metric, higher is better; a run without it has the worst value of all runs."""
    sign = 1 if analysis.higher_is_better else -1
    seeds = sorted({seed for row in analysis.rows for seed, _ in row.values})
    worst = min((sign * value for row in analysis.rows for _, value in row.values), default=0.0)
    found = {row.arm: dict(row.values) for row in analysis.rows}
    return np.array([[sign * found[arm][seed] if seed in found[arm] else worst for arm in arms] for seed in seeds], np.float64)


def _differences(row: ArmSummary, other: ArmSummary) -> np.ndarray:
    """Returns f64 [S]: row − other over the seeds that both finished."""
    ours, theirs = dict(row.values), dict(other.values)
    seeds = [seed for seed in theirs if seed in ours]
    return statistics.paired_differences([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _sense(differences: np.ndarray, p: float | None, *, higher_is_better: bool) -> str:
    """Returns better, worse or undecided."""
    mean = float(np.mean(differences)) if len(differences) else 0.0
    return statistics.verdict(mean, p, higher_is_better=higher_is_better, alpha=ALPHA)


def _require_sense(claim: str, analysis: Analysis) -> bool:
    """Returns whether a higher number is better; raises UsageError where the metric has no sense."""
    return analysis.declared.require_sense(f"the verdict of {claim}")


def _found(claim: str, analysis: Analysis, contrast: Contrast, expected: Direction) -> str:
    """Returns the study's decision: better or worse, or higher or lower where one of these is expected; or undecided."""
    if expected in ("better", "worse"):
        _require_sense(claim, analysis)
        return contrast.verdict
    decided = "higher" if contrast.difference > 0 else "lower"
    return "undecided" if contrast.verdict == "undecided" else decided


def _agrees(found: str, expected: Direction) -> str:
    return {"undecided": "undecided", expected: "supported"}.get(found, "refuted")


def _pair(interval: Interval | None) -> tuple[float, float] | None:
    return (interval.low, interval.high) if interval else None


def _signed(value: float, metric: Metric) -> str:
    shown = summary.amount(value, metric)
    return shown if value < 0 else f"+{shown}"


def _verdict(
    analysis: Analysis,
    claim: str,
    word: str,
    says: str,
    title: str,
    differences: np.ndarray,
    p: float | None,
    rows: list[ArmSummary],
    *,
    test: str = "",
) -> Verdict:
    """Returns a verdict with a sentence.

    For example: `ReLU trains faster than tanh: activation=tanh − baseline = +0.12 [0.10, 0.14] in train/loss, where less is
    better (p = 0.001 after Holm, 5 paired seeds).`
    """
    interval = statistics.student_interval(differences, ALPHA)
    lost = "".join(
        f" {count} of {row.planned} runs of {row.arm} {how}."
        for row in rows
        for count, how in ((row.diverged, "diverged"), (row.failed, "failed"))
        if count
    )
    if not len(differences):
        return Verdict(claim, "undecided", None, None, None, 0, f"{says}: nothing to compare, {title} has no seed.{lost}")
    effect = float(np.mean(differences))
    declared = analysis.declared
    tested = "no p" if p is None else f"p = {p:.2g}{f' {test}' if test else ''}"
    sentence = (
        f"{says}: {title} = {_signed(effect, declared)}{summary.span(interval, declared)}{summary.unit(declared)} "
        f"in {analysis.metric}{summary.sense(declared)} "
        f"({tested}, {summary.seeds(len(differences))}).{lost}"
    )
    # An arm that lost runs looks better than it is, so its numbers decide nothing.
    return Verdict(claim, "undecided" if lost else word, effect, _pair(interval), p, len(differences), sentence)
