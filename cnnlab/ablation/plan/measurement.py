"""The types of a measurement: a claim whose numbers are computed by a function of the seed, without a training loop."""

import dataclasses
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cnnlab import files
from cnnlab.ablation.plan.study import Card
from cnnlab.errors import UsageError
from cnnlab.metric import Metric

MEASUREMENT = "measurement.json"
"""The file that holds what a measurement gave, seed by seed."""

Curves = Mapping[str, tuple[tuple[float, float], ...]]
"""{label of a line: its points (x, y)}."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a measurement gives for one seed."""

    numbers: Mapping[str, Mapping[str, float]]
    """{metric: {case: number}}. A case is what the rules of verdicts call an arm, such as `ReLU, 20 layers`."""
    curves: Curves = dataclasses.field(default_factory=dict)
    """The lines of the card's figure."""
    lower_bounds: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    """{metric: cases whose number is only a lower bound}, such as the steps to a level that a run did not reach by its last."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A claim that an experiment's file declares as `measurement`: `launch.py measure` decides it."""

    claim: str
    """Id of the claim, such as C5."""
    question: str
    """The question that it answers, in a sentence."""
    measure: Callable[..., Measured]
    """A pure function of the seed. It may take `data_dir` by name, the folder of prepared TFDS data sets or None."""
    metrics: tuple[Metric, ...]
    """Declarations of what it computes; the first is what a part compares that names no other."""
    verdict: Callable[..., Any]
    """Made by claim_verdict.every from the rules of the parts."""
    seeds: int = 1
    first_seed: int = 0
    card: Card = Card()

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The declared seeds."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))

    def check(self, measured: Measured) -> Measured:
        """Returns what was measured; raises UsageError where it has a metric that is not declared, or lacks one.

        So it does where a lower bound is none of its numbers.
        """
        declared, found = [metric.name for metric in self.metrics], list(measured.numbers)
        if sorted(declared) != sorted(found):
            raise UsageError(
                f"{self.claim}: `measure` gives {', '.join(found) or 'nothing'}, and the file declares {', '.join(declared)}.\n"
                "Declare every metric that it gives, and give every one that is declared."
            )
        for metric, cases in measured.lower_bounds.items():
            if unknown := sorted(set(cases) - set(measured.numbers.get(metric, {}))):
                raise UsageError(
                    f"{self.claim}: `measure` calls {metric} of {', '.join(unknown)} a lower bound and gives no such number.\n"
                    "Name metrics and cases as in its numbers."
                )
        return measured


def read_measurement(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the content of a measurement's measurement.json; None where there is none."""
    return files.read_record(folder / MEASUREMENT, advice="Remove it: the measurement is then made again.")
