"""The types of verdict rules: the rule of one part of a claim, and the hypothesis that it tests. Imports no jax."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from cnnlab.ablation.analyse import words
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Interval
from cnnlab.ablation.plan.study import Verdict
from cnnlab.errors import UsageError, did_you_mean

Look = Callable[[str], Analysis]
"""Returns the analysis of the same runs by another metric, SPLIT/NAME."""

VerdictRule = Callable[[Analysis, Look | None], Verdict]
"""The type of a study's `verdict`: from the analysis by the study's metric, and those by others."""

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
    decide: Callable[[Analysis], Verdict]
    metric: str = ""
    """The metric that it compares, SPLIT/NAME; empty: the study's."""

    def __call__(self, analysis: Analysis, look: Look | None = None) -> Verdict:
        """Returns the verdict on the part.

        Args:
            analysis: that by the study's metric.
            look: gives those by other metrics; needed by a part that compares one.
        """
        if self.metric and self.metric != analysis.metric:
            if look is None:
                raise UsageError(f"the verdict of {self.claim} compares {self.metric}. Give the analysis of that number too.")
            analysis = look(self.metric)
        return dataclasses.replace(self.decide(analysis), says=self.says, metric=analysis.metric)


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """What a part expects of a difference, and how it is tested."""

    sign: int
    """1 where the claim expects a positive difference, −1 where a negative one."""
    shift: float = 0.0
    """The difference that is tested, oriented by `sign`: 0, or minus the margin of a claim of equal quality."""
    smallest: float | None = None
    """Smallest effect of interest, above 0."""

    def with_default(self, analysis: Analysis, scale: Scale) -> "Hypothesis":
        """Returns the hypothesis with the study's smallest effect of interest, where it has none and none of its own margin.

        The study's is in units of its metric, so that it says nothing about logarithms or logits.
        """
        if self.smallest is not None or self.shift or scale != "plain":
            return self
        return dataclasses.replace(self, smallest=analysis.smallest_effect)

    def word(self, effect: float, p: float | None, interval: Interval | None) -> str:
        """Returns supported, opposite, absent or not shown."""
        beyond = self.sign * effect - self.shift
        decided = p is not None and p < words.ALPHA
        if decided and beyond < 0:
            return words.OPPOSITE
        # An effect that is too small to matter is absent even where it is not 0.
        most = max(self.sign * interval.low, self.sign * interval.high) if interval is not None else None
        if self.smallest is not None and most is not None and most < self.smallest:
            return words.ABSENT
        return words.SUPPORTED if decided and beyond > 0 else words.NOT_SHOWN


def losses(rows: Sequence[ArmSummary]) -> str:
    """Returns a sentence for each kind of runs that have no number: ` 1 of 5 runs of a diverged.`; nothing for none."""
    return "".join(
        f" {count} of {row.planned} runs of {row.arm} {how}."
        for row in rows
        for count, how in (
            (row.diverged, "diverged"),
            (row.failed, "failed"),
            (row.not_finite, f"{'has' if row.not_finite == 1 else 'have'} no finite number"),
            (row.missing, f"{'is' if row.missing == 1 else 'are'} not finished"),
        )
        if count
    )


def row_of(analysis: Analysis, arm: str) -> ArmSummary:
    """Returns the arm of that name; raises UsageError where the study has none."""
    for row in analysis.rows:
        if row.arm == arm:
            return row
    names = [row.arm for row in analysis.rows]
    raise UsageError(
        f"the verdict needs the arm {arm!r}, which the study lacks.{did_you_mean(arm, names)} Arms: {'; '.join(names)}."
    )
