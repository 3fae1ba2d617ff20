"""What is aimed at, and for every goal that may be missed the cause, and what was tried.

A goal is a ratio of two lines of one table, measured in turn, or a number of one line. The texts stand on the page beside the
goals that a record misses.
"""

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Literal

from benchmarks.measure import ratio
from benchmarks.parts.loops import BARE, FIT, LIBRARY, OURS, WARM
from benchmarks.parts.steps import CHANNELS_LAST, CNNLAB, EAGER
from benchmarks.tables import Table


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on what is measured."""

    name: str
    part: str
    case: str
    line: str
    most: float
    over: str = ""
    """Line of the same table by which it is divided; empty: the number itself."""
    of: Literal["wall", "cpu"] = "wall"
    cause: str = ""
    """Why it is missed where it is, and what was tried; empty: not known."""

    def value(self, table: Table) -> float | None:
        """Returns the measured number, or None where the table has not these lines."""
        line, base = table.line(self.line), table.line(self.over) if self.over else None
        if line is None or (self.over and base is None):
            return None
        ours = getattr(line, self.of)
        return ratio(ours, getattr(base, self.of)) if base else statistics.median(ours)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A goal and what came of it."""

    goal: Goal
    value: float

    @property
    def met(self) -> bool:
        """Whether the number is within the bound."""
        return self.value <= self.goal.most


def judged(tables: Iterable[Table]) -> list[Judged]:
    """Returns the goals that some tables measure, in the order of GOALS."""
    found = {(table.part, table.case): table for table in tables}
    pairs = [(goal, found[goal.part, goal.case]) for goal in GOALS if (goal.part, goal.case) in found]
    values = [(goal, goal.value(table)) for goal, table in pairs]
    return [Judged(goal, value) for goal, value in values if value is not None]


SECOND_THREAD = "XLA:CPU keeps fewer of the two threads busy than PyTorch: its CPU time is the smaller ratio of the two."

STEP_GOALS = {
    "lenet5": (0.90, 0.90, SECOND_THREAD),
    "autoencoder": (0.70, 0.60, SECOND_THREAD),
    "depthwise": (0.80, 1.0, SECOND_THREAD),
    "resnet18": (1.1, 1.3, SECOND_THREAD),
}
"""{network: (most of PyTorch eager, most of channels_last, the cause where it is missed)}."""

GOALS: tuple[Goal, ...] = (
    *(
        Goal(f"step of {net} / {base}", "steps", net, CNNLAB, most, base, cause=cause)
        for net, (eager, channels_last, cause) in STEP_GOALS.items()
        for base, most in ((EAGER, eager), (CHANNELS_LAST, channels_last))
    ),
    Goal("the loop / its bare step", "loops", "fit", FIT, 1.03, BARE),
    Goal("seconds to the first step of LeNet-5, warm", "loops", "start_lenet5", WARM, 1.5),
    Goal("seconds to the first step of ResNet-18, warm", "loops", "start_resnet18", WARM, 3.0),
    Goal("compiling ResNet-50 / by the library's convolutions", "loops", "compile_resnet50", OURS, 1.5, LIBRARY),
    Goal("CPU seconds of --help", "loops", "help", "--help", 0.2, of="cpu"),
)

REMARKS: dict[tuple[str, str], str] = {}
"""{(part, case): what explains its table where no goal does}."""
