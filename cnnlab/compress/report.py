"""What the stages of a compression reached, as a table of the terminal and as the content of the page."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab.compress.sizes import NetworkSize
from cnnlab.metric import Metric
from cnnlab.terminal import Column, Terminal, table
from cnnlab.text import format_duration


@dataclasses.dataclass(frozen=True)
class Reached:
    """The result of one of the runs."""

    name: str
    """dense, pruned or shared."""
    does: str
    folder: pathlib.Path
    metrics: Mapping[str, float]
    """{"test/accuracy": …} of its result.json."""
    steps: int
    seconds: float
    bytes: int
    """Of its network, in the form that it has by then; the whole file for the last one."""
    density: float
    """Share of the weights of kernels that are not 0."""


@dataclasses.dataclass(frozen=True)
class Compression:
    """A run, its stages and its file."""

    title: str
    data: str
    seed: int
    target: pathlib.Path
    stages: tuple[Reached, ...]
    """The run itself first."""
    sizes: NetworkSize
    metric: Metric
    """The metric that is compared, by which the task ranks."""
    split: str
    macs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """{layer: multiply-accumulates of one example}; empty where the network is no Linen module."""

    def value(self, stage: Reached) -> float:
        """Returns the compared number of a stage."""
        return stage.metrics[f"{self.split}/{self.metric.name}"]

    @property
    def is_error(self) -> bool:
        """Returns whether the metric is a share of right answers, of which the error is what is left of 1."""
        return self.metric.is_proportion and self.metric.higher_is_better is True

    @property
    def compared(self) -> str:
        """The name of the number that is shown: the error of an accuracy, else the metric."""
        return "error" if self.is_error else self.metric.label

    def shown(self, stage: Reached) -> float:
        """Returns that number of a stage in its shown unit: points of a hundred of a share."""
        value = self.value(stage)
        return self.metric.factor * (1.0 - value if self.is_error else value)

    def text(self, stage: Reached) -> str:
        """Returns it as text with its unit."""
        return f"{self.shown(stage):.{2 if self.metric.is_share else 4}f}{f' {self.metric.shown_unit}'.rstrip()}"

    def smaller(self, stage: Reached) -> float:
        """Returns how many times smaller than f32 the network of a stage is."""
        return self.stages[0].bytes / stage.bytes

    @property
    def lead(self) -> str:
        """The result in a sentence."""
        first, last = self.stages[0], self.stages[-1]
        change = self.shown(last) - self.shown(first)
        points = f" ({change:+.2f} points)" if self.metric.is_share else ""
        return (
            f"{self.sizes.numbers:,} numbers in {self.sizes.file:,} bytes, {self.smaller(last):.1f} times smaller than f32, "
            f"every byte of the file counted. The {self.split} {self.compared} went from {self.text(first)} to "
            f"{self.text(last)}{points.replace('-', '−')}, one seed."
        )


def stage_rows(found: Compression) -> tuple[list[str], list[list[str]]]:
    """Returns (headings, a row for each stage) of the table of stages."""
    heads = ["stage", found.compared, "weights that stay", "bytes", "times smaller", "steps", "time"]
    rows = [
        [
            stage.name,
            found.text(stage),
            f"{100 * stage.density:.2f} %",
            f"{stage.bytes:,}",
            f"{found.smaller(stage):.1f}",
            f"{stage.steps:,}",
            format_duration(stage.seconds),
        ]
        for stage in found.stages
    ]
    return heads, rows


def as_table(found: Compression, terminal: Terminal) -> str:
    """Returns the table of the stages for a terminal."""
    heads, rows = stage_rows(found)
    columns = [Column(head, [row[number] for row in rows], is_right=number > 0) for number, head in enumerate(heads)]
    return "\n".join(table(terminal, columns))


def plan_lines(title: str, stages: Sequence[tuple[str, str, int, pathlib.Path, bool]], step_seconds: float | None) -> list[str]:
    """Returns what is about to be done, with the time that it takes by the speed of the run.

    Args:
        title: what is compressed.
        stages: (name, what it does, steps, folder, whether it is finished) of each.
        step_seconds: seconds of a step of the run; None: not known.
    """
    lines = [title]
    for number, (name, does, steps, folder, is_done) in enumerate(stages, start=1):
        time = f", about {format_duration(steps * step_seconds)}" if step_seconds and not is_done else ""
        said = "finished before" if is_done else f"{steps:,} steps{time}"
        lines.append(f"  {number} {name}: {does}, {said}, in {folder}")
    return lines


def metric_of(result: Mapping[str, Any], split: str) -> Metric:
    """Returns the first declared metric of a result that has a number on the split."""
    named = [name.partition("/")[2] for name in result["metrics"] if name.startswith(f"{split}/")]
    return Metric(**result["declared"][named[0]])
