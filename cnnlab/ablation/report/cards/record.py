"""The record of one test of a claim: all that its card and its figure show, kept when the runs are gone. Imports no jax."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import files, home
from cnnlab.ablation.plan.study import Card, Verdict, metrics_from_json
from cnnlab.ablation.report import formatting
from cnnlab.errors import UsageError
from cnnlab.metric import Metric, within

RECORDS = "records"
"""Folder of the records, beside the page."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What an arm, or a case of a measurement, has of one metric."""

    mean: float | None
    interval: tuple[float, float] | None
    """95 % interval of the mean over seeds; None where all seeds agree, and below two."""
    values: Mapping[int, float]
    """{seed: number} of the runs that are done and whose number is finite."""
    lower_bounds: int = 0
    """Number of those that are only lower bounds, such as the steps to a level that a run did not reach."""

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.values)


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm of a study, or a case of a measurement."""

    name: str
    numbers: Mapping[str, Numbers]
    """{metric as it is compared, such as test/accuracy: its numbers}."""
    knobs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """{knob: level} of what is varied; {} for a case."""
    planned: int = 0
    diverged: int = 0
    control: bool = False
    """Whether it is a negative control."""
    parameters: int | None = None
    macs: int | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """A declared test of a claim, and what it found."""

    name: str
    """The experiment's name, such as c07_plain_vs_residual, after which the record and its figures are named."""
    verb: str
    """ablate or measure."""
    question: str
    experiment: str
    """The experiment as on the command line."""
    command: str
    """The command that runs the test again and gives the same verdict."""
    verdict: Verdict
    metric: str
    """The metric that parts compare unless they name another."""
    metrics: Mapping[str, Metric]
    """{metric as it is compared: its declaration}."""
    arms: tuple[Arm, ...]
    """The baseline first."""
    seeds: tuple[int, ...]
    parts: tuple[Mapping[str, Any], ...]
    """The parts of the test as declared, with margins and tolerances (`declaration.describe_rule`)."""
    declaration: Mapping[str, Any]
    """`digest`, `commit` and `time` of the declaration."""
    commits: tuple[str, ...]
    """Commits of the code that ran; with ` and changes` where there were uncommitted changes."""
    finished: float | None
    """The time at which its last run ended, in seconds since 1970."""
    seconds: float | None = None
    """Time that its runs took, added up; None where it was not recorded."""
    deviations: tuple[str, ...] = ()
    """Where the runs departed from the declaration."""
    baseline: str = ""
    """What varies, as the baseline has it, such as `activation=relu, lr=0.02`; empty for a measurement."""
    curves: Mapping[str, tuple[tuple[float, float, float, float], ...]] = dataclasses.field(default_factory=dict)
    """{label: points (x, mean, low, high)} of a measurement by x; low and high are the ends of the band (means.curve_point)."""
    card: Card = Card()
    """What the file says about the claim beside its test."""

    @property
    def claim(self) -> str:
        """The id of the claim."""
        return self.verdict.claim

    @property
    def drawn(self) -> str:
        """The metric that the figure shows."""
        return self.card.figure.metric or self.metric

    @property
    def compared(self) -> list[str]:
        """The metrics that parts compare, the declared one first; of a measurement all."""
        if self.verb == "measure":
            return list(self.metrics)
        return list(dict.fromkeys([self.metric, *(part.metric or self.metric for part in self.verdict.parts)]))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        """Returns the record from JSON content that `dataclasses.asdict` made of it."""
        lists = {name: tuple(content[name]) for name in ("seeds", "parts", "commits", "deviations")}
        metrics = metrics_from_json(content["metrics"])
        return cls(
            **{
                **content,
                **lists,
                "verdict": Verdict.from_json(content["verdict"]),
                "metrics": metrics,
                "arms": tuple(_arm(arm, metrics) for arm in content["arms"]),
                "curves": {label: tuple(map(tuple, points)) for label, points in content["curves"].items()},
                "card": Card.from_json(content["card"]),
            }
        )


def _arm(content: Mapping[str, Any], metrics: Mapping[str, Metric]) -> Arm:
    """Returns an arm from JSON content; intervals of older records may go beyond what the metric can be."""
    numbers = {}
    for name, found in content["numbers"].items():
        interval = within(metrics[name].bounds, *found["interval"]) if found["interval"] else None
        values = {int(seed): value for seed, value in found["values"].items()}
        numbers[name] = Numbers(found["mean"], interval, values, found.get("lower_bounds", 0))
    return Arm(**{**content, "numbers": numbers})


def day(seconds: float | None) -> str:
    """Returns the day of a time, UTC, such as 2026-11-21; a dash for none."""
    return formatting.NOTHING if seconds is None else time.strftime("%Y-%m-%d", time.gmtime(seconds))


def read_records(target: pathlib.Path) -> list[Record]:
    """Returns the records beside a page."""
    return [_read(path) for path in sorted((target / RECORDS).glob("*.json"))]


def _read(path: pathlib.Path) -> Record:
    try:
        return Record.from_json(files.read_json(path) or {})
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UsageError(
            f"{path} is no record of a claim.\nExpected what `{home.COMMAND} claims` writes there. Remove the file, and name "
            "the study's folder again if it still exists."
        ) from None


def write_records(target: pathlib.Path, records: Sequence[Record]) -> None:
    """Writes a record for each test into the folder of records beside a page."""
    for record in records:
        files.make_folder(target / RECORDS)
        files.write_text(target / RECORDS / f"{record.name}.json", _text(dataclasses.asdict(record)))


def _text(content: Mapping[str, Any]) -> str:
    """Returns JSON with a line for each entry, and for each arm, so that a change of one is a change of one line."""

    def entry(value: Any) -> str:
        if isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        return json.dumps(value)

    return "{\n " + ",\n ".join(f"{json.dumps(name)}: {entry(value)}" for name, value in content.items()) + "\n}\n"
