"""The numbers of a task's statistics, by the names under which a run keeps them."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from cnnlab.core import Stats, Task
from cnnlab.engine.gradients import without_gradients
from cnnlab.errors import UsageError

Value = TypeVar("Value")
SPLITS = ("test", "validation", "train")
"""The splits, those first whose numbers are the results where a run has them."""


def flat_metrics(numbers: Mapping[str, Mapping[str, float]], primary: str) -> dict[str, float]:
    """Returns {split: {name: value}} as {"split/name": value}, the primary metric of each split first."""
    return {f"{split}/{name}": part[name] for split, part in numbers.items() for name in sorted(part, key=primary.__ne__)}


def reported(metrics: Mapping[str, Value]) -> tuple[str, dict[str, Value]]:
    """Returns (split, {name: value}) of the split whose numbers are the results: test, else validation, else train.

    metrics: {"test/loss": …, "validation/loss": …}, of any kind of value.
    """
    split = next((one for one in SPLITS if any(name.startswith(f"{one}/") for name in metrics)), SPLITS[0])
    return split, {name.removeprefix(f"{split}/"): value for name, value in metrics.items() if name.startswith(f"{split}/")}


def summarise(task: Task, stats: Stats) -> dict[str, float]:
    """Returns the task's summary of merged statistics; raises UsageError for a metric that the task does not declare."""
    numbers = task.summary(stats)
    undeclared = sorted(numbers.keys() - {metric.name for metric in task.metrics})
    if undeclared:
        raise UsageError(
            f"the task's summary gives {undeclared[0]}, which its metrics do not declare: its unit and sense are unknown."
            f'\nExpected Metric("{undeclared[0]}", …) among Task.metrics. Add it there.'
        )
    return numbers


def summarise_training(task: Task, merged: Stats) -> dict[str, float]:
    """Returns {"train/NAME": value} of merged statistics of training steps, and the sizes of gradients where they are there."""
    stats, sizes = without_gradients(merged)
    return {**{f"train/{name}": value for name, value in summarise(task, stats).items()}, **sizes}


def declarations(task: Task) -> dict[str, dict[str, Any]]:
    """Returns {name: the fields of its declaration} of every metric of a task, for result.json."""
    return {metric.name: dataclasses.asdict(metric) for metric in task.metrics}
