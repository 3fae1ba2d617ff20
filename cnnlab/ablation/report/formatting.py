"""Formats numbers for a report: the same decimals in a whole table, percent for shares, an en dash for a missing number."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from cnnlab import text
from cnnlab.ablation.analyse import summary
from cnnlab.ablation.analyse.results import Analysis, ArmSummary, Contrast, Interval
from cnnlab.ablation.plan.study import RunResult, Study
from cnnlab.metric import Metric

NOTHING = "–"
"""Stands for a number that does not exist."""


def finite(value: float | None) -> bool:
    """Returns whether there is a number that can be shown or drawn."""
    return value is not None and math.isfinite(value)


Formatter = Callable[[float], str]
"""A function from a number to its text."""


def format_number(value: float | None, style: str = ".3g", factor: float = 1.0) -> str:
    """Returns a number in a style of `format`, with a true minus sign."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return format(value * factor, style).replace("-", "−")


@dataclasses.dataclass(frozen=True)
class Scale:
    """Shows the values of one metric."""

    metric: Metric
    decimals: int

    @property
    def unit(self) -> str:
        """The unit that follows the metric's name in the heading of a column."""
        return self.metric.shown_unit

    @property
    def difference_unit(self) -> str:
        """The unit of a difference: points of a hundred are no percent."""
        return self.metric.difference_unit

    @property
    def factor(self) -> float:
        """The factor from the value to the number that is shown."""
        return self.metric.factor

    def value(self, value: float | None) -> str:
        """Returns `98.61`."""
        return format_number(value, f".{self.decimals}f", self.factor)

    def difference(self, value: float | None) -> str:
        """Returns `+0.42` or `−0.42`."""
        return format_number(value, f"+.{self.decimals}f", self.factor)

    def tick(self, value: float) -> str:
        """Returns a value beside an axis, without trailing zeros."""
        return format_number(value, ".4g", self.factor)

    def difference_tick(self, value: float) -> str:
        """Returns a difference beside an axis."""
        return format_number(value, "+.3g", self.factor) if value else "0"

    def spread(self, mean: float | None, sd: float | None) -> str:
        """Returns `98.61 ± 0.12`, or the mean alone."""
        return f"{self.value(mean)} ± {self.value(sd)}" if finite(mean) and finite(sd) else self.value(mean)

    def interval(self, interval: Interval | None) -> str:
        """Returns `[98.31, 98.91]`."""
        if interval is None or not (finite(interval.low) and finite(interval.high)):
            return NOTHING
        return f"[{self.value(interval.low)}, {self.value(interval.high)}]"

    def difference_interval(self, interval: Interval | None) -> str:
        """Returns `[−0.80, +0.04]`."""
        if interval is None or not (finite(interval.low) and finite(interval.high)):
            return NOTHING
        return f"[{self.difference(interval.low)}, {self.difference(interval.high)}]"


def scale_of(analysis: Analysis) -> Scale:
    """Returns the scale of an analysis' metric; its decimals give the median standard deviation two digits."""
    values = [value for row in analysis.rows for _, value in row.values if math.isfinite(value)]
    factor = analysis.declared.factor
    spreads = sorted(row.sd * factor for row in analysis.rows if row.sd and math.isfinite(row.sd))
    if spreads:
        decimals = 1 - math.floor(math.log10(spreads[len(spreads) // 2]))
    else:
        largest = max((abs(value) * factor for value in values), default=0) or 1
        decimals = 3 - math.floor(math.log10(largest))
    return Scale(analysis.declared, min(max(decimals, 1), 2 if analysis.declared.is_share else 6))


def short_metric(metric: str) -> str:
    """Returns `accuracy` for `test/accuracy`."""
    return metric.rsplit("/", 1)[-1].replace("_", " ")


def metric_heading(analysis: Analysis, scale: Scale) -> str:
    """Returns `Accuracy, %`, the heading of a column or the name of an axis."""
    name = short_metric(analysis.metric)
    return f"{name[:1].upper()}{name[1:]}{f', {scale.unit}' if scale.unit else ''}"


def p_value(p: float | None) -> str:
    """Returns a p-value with three decimals; `< 0.001` below that."""
    return "< 0.001" if p is not None and p < 0.001 else format_number(p, ".3f")


def effect_size(value: float | None) -> str:
    """Returns Cohen's d with two decimals; beyond 100, where pairs hardly differ from each other, only that it is larger."""
    if value is not None and abs(value) >= 100:
        return "> 100" if value > 0 else "< −100"
    return format_number(value, "+.2f")


def tick(value: float) -> str:
    """Returns a number beside an axis: `0.5`, `250 k`, `1.5 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= size:
            return f"{format_number(value / min(size, 1e3 if size == 1e4 else size), '.4g')}{letter}"
    return format_number(value, ".4g")


def count(number: float | None) -> str:
    """Returns `61,706`, `11.7 M` or `4.09 G`."""
    if number is None or not math.isfinite(number):
        return NOTHING
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.{0 if number >= 100 * size else 1 if number >= 10 * size else 2}f} {letter}"
    return f"{round(number):,}"


def seconds(value: float | None) -> str:
    """Returns `3.4 s`, `47 s` or `3 min 05 s`."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.1f} s" if value < 9.95 else text.format_duration(value)


def finished(row: ArmSummary) -> str:
    """Returns `2/3`: runs that are done of those planned."""
    return f"{row.done}/{row.planned}"


def failures(row: ArmSummary) -> str:
    """Returns `1 diverged, 2 missing`; empty where no run is lost."""
    parts = ((row.diverged, "diverged"), (row.failed, "failed"), (row.missing, "missing"))
    return ", ".join(f"{number} {word}" for number, word in parts if number)


def pruned(row: ArmSummary, analysis: Analysis) -> str:
    """Returns `step 90: 87.33`, the rung at which an arm was stopped and its validation metric there; empty for others."""
    if row.pruned is None:
        return ""
    alike = short_metric(row.pruned.metric) == short_metric(analysis.metric)
    score = scale_of(analysis).value(row.pruned.score) if alike else format_number(row.pruned.score, ".4g")
    return f"step {row.pruned.step:,}: {score}"


def verdict(row: ArmSummary, study: Study) -> str:
    """Returns better, worse, differs, undecided, baseline or pruned; a dash where no pair of runs is done."""
    if row.contrast is not None:
        return row.contrast.verdict
    if row.pruned is not None:
        return "pruned"
    return "baseline" if study.arms and row.arm == study.baseline.name else NOTHING


def why_undecided(contrast: Contrast | None, analysis: Analysis) -> str:
    """Returns why tests leave a difference undecided, and how many seeds would decide the smallest effect of interest."""
    if contrast is None or contrast.verdict != "undecided":
        return ""
    reasons = [summary.disagreement(contrast)] if contrast.disagree else []
    reasons += ["some runs diverged or failed"] if contrast.withheld else []
    if contrast.seeds_needed is not None and analysis.smallest_effect is not None:
        effect = f"{summary.amount(analysis.smallest_effect, analysis.declared)}{summary.unit(analysis.declared)}"
        reasons.append(f"≈ {contrast.seeds_needed:,} seeds for {effect}")
    return "; ".join(reasons)


def truncate(text: str, width: int) -> str:
    """Returns the text in at most `width` letters, its middle replaced by an ellipsis."""
    if len(text) <= width:
        return text
    head = width // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (width - 1 - head) :].lstrip()}"


def arms_and_controls(study: Study, analysis: Analysis) -> tuple[list[ArmSummary], list[ArmSummary]]:
    """Returns (rows of the arms, rows of the negative controls), each in planned order."""
    controls = {arm.name for arm in study.arms if arm.control}
    return [row for row in analysis.rows if row.arm not in controls], [row for row in analysis.rows if row.arm in controls]


def in_planned_order(study: Study, outcomes: Sequence[RunResult]) -> list[RunResult]:
    """Returns the runs in the order of the arms, then of the seeds."""
    places = {arm.name: i for i, arm in enumerate(study.arms)}
    return sorted(outcomes, key=lambda outcome: (places.get(outcome.arm, len(places)), outcome.seed))


def by_arm(outcomes: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Returns {arm: its runs in order of the seed}."""
    arms: dict[str, list[RunResult]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.seed):
        arms.setdefault(outcome.arm, []).append(outcome)
    return arms
