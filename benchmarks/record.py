"""The record of one call of the benchmark: one JSON file that is whole at any moment."""

import dataclasses
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from benchmarks.settings import today
from benchmarks.tables import Table
from cnnlab import files
from cnnlab.cli.common import lacks_avx512

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")


def software(libraries: Sequence[str]) -> dict[str, Any]:
    """Describes the system and the versions of libraries, None for one that is not installed, and says the time."""
    versions: dict[str, str | None] = {}
    for name in libraries:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {"platform": platform.platform(), "python": platform.python_version(), "versions": versions, "time": today()}


def machine(cores: tuple[int, ...]) -> dict[str, Any]:
    """Describes the processor and the versions of the libraries that are installed; imports none of them."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    # The kernels that XLA and PyTorch have differ by it, and the name of a virtual machine's CPU does not tell.
    lacking = ", without AVX-512" if lacks_avx512() else ""
    name = names[0] if names else platform.processor() or platform.machine()
    return {
        "devices": [f"cpu: {len(cores)} cores of {name}{lacking}"],
        **software(LIBRARIES),
        "load": os.getloadavg()[0],
    }


class Record:
    """What was measured, in a file if one is named."""

    def __init__(self, target: pathlib.Path | None, cores: tuple[int, ...], arguments: Mapping[str, Any]) -> None:
        self.target = target
        self.tables: list[Table] = []
        self.content: dict[str, Any] = {"machine": machine(cores), "arguments": dict(arguments), "tables": [], "left_out": []}

    def add(self, table: Table) -> None:
        """Keeps a table."""
        self.tables.append(table)
        self.content["tables"].append(dataclasses.asdict(table))
        self.write()

    def leave_out(self, part: str, case: str, why: str) -> None:
        """Keeps that a case was not measured."""
        self.content["left_out"].append({"part": part, "case": case, "why": why})
        self.write()

    def write(self) -> None:
        """Replaces the file."""
        if self.target is not None:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(self.target, self.content)
