"""The rows of a benchmark: printed as they come, kept in one JSON file that is whole at any moment."""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from benchmarks.record import software
from cnnlab import files

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
RESERVE_SECONDS = 10.0
"""Time that is kept for writing the file and leaving."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measured number, or one question answered by yes or no."""

    name: str
    value: float | bool | str
    unit: str = ""
    goal: str = ""
    """What was hoped for, such as `>= 5000`; empty where there is no goal."""
    met: bool | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Case:
    """One measurement: a generator of rows, and how many seconds it takes at most on an accelerator."""

    part: str
    name: str
    seconds: float
    rows: Callable[["Settings"], Iterator[Row]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the benchmark was called."""

    tiny: bool
    """Sizes for a test on a CPU."""
    deadline: float
    """`time.monotonic()` at which the benchmark must have ended."""
    folder: pathlib.Path
    """A folder for files that cases make."""
    data: pathlib.Path = pathlib.Path("pixels")
    """A folder with cifar10.npz and mnist.npz, where they were brought along (pixels.py)."""

    def left(self) -> float:
        """Returns the seconds that are left for measurements."""
        return self.deadline - time.monotonic() - RESERVE_SECONDS


class Board:
    """Prints rows and keeps them in a file."""

    def __init__(self, target: pathlib.Path, arguments: Mapping[str, Any]) -> None:
        self.target = target
        self.part = ""
        self.content: dict[str, Any] = {"machine": machine(), "arguments": dict(arguments), "rows": [], "left_out": []}

    def add(self, case: Case, row: Row) -> None:
        """Prints one row under the heading of its part, and writes the file again."""
        if case.part != self.part:
            self.part = case.part
            print(f"\n{case.part}", flush=True)
        value = {True: "yes", False: "NO"}[row.value] if isinstance(row.value, bool) else number(row.value)
        goal = f"goal {row.goal}{'' if row.met is None else ', met' if row.met else ', MISSED'}" if row.goal else ""
        print("  ".join((f"  {row.name:<46}", f"{value:>12} {row.unit:<12}", goal, row.note)).rstrip(), flush=True)
        self.content["rows"].append({"part": case.part, "case": case.name, **dataclasses.asdict(row)})
        self.write()

    def leave_out(self, case: Case, why: str) -> None:
        """Records a case that was not measured."""
        print(f"  {case.name} left out: {why}", file=sys.stderr, flush=True)
        self.content["left_out"].append({"part": case.part, "case": case.name, "why": why})
        self.write()

    def write(self) -> None:
        """Replaces the file."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.target, self.content)


def number(value: float | str) -> str:
    """Returns a number with four significant digits, thousands separated; text as it is."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def machine() -> dict[str, Any]:
    """Describes the devices, the processor and the versions of the libraries that are installed."""
    return {"devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()], **software(LIBRARIES)}
