"""How the benchmark was called, and the Python of PyTorch, which has an environment of its own."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.environments import NotInstalled, python_of
from benchmarks.measure import Worker
from cnnlab import home

REQUIREMENTS = pathlib.Path(__file__).with_name("peers") / "requirements.txt"
TORCHVISION = ("--no-deps", "torchvision==0.28.0")
"""Installed after torch, and without what it asks for: it would replace a CPU build of torch."""
NO_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""Environment of the workers: what is measured of a first step is compiled."""


@dataclasses.dataclass
class Settings:
    """How the benchmark was called."""

    rounds: int
    seconds: float
    """Length of one measurement."""
    cores: tuple[int, ...]
    """Cores that every process may use."""
    folder: pathlib.Path
    """A folder for files that cases make; it is removed at the end."""
    peers: bool = True
    """Whether PyTorch is measured too."""
    torch_python: str | None = None
    """A Python that has torch; None: the benchmark makes an environment."""
    quick: bool = False
    """One short round: to see that it runs."""
    heading: str = ""
    """What stands before the words of `say`."""

    def say(self, words: str) -> None:
        """Says on a terminal what is being done; the next words overwrite it."""
        if sys.stderr.isatty():
            print(f"\r\033[K{self.heading}{words}"[:120], end="", file=sys.stderr, flush=True)

    @property
    def how(self) -> dict[str, Any]:
        """The arguments of `together` and `in_turns`."""
        return {"rounds": self.rounds, "seconds": self.seconds, "say": self.say}

    def worker(
        self, module: str, *, python: str = sys.executable, environment: Mapping[str, str] | None = None, **given: Any
    ) -> Worker:
        """Starts a worker on the cores of the benchmark."""
        return Worker(module, given, cores=self.cores, python=python, environment={**NO_CACHE, **(environment or {})})

    @functools.cached_property
    def python_of_torch(self) -> str | None:
        """A Python that has torch, or None; says once why there is none."""
        if not self.peers:
            return None
        if self.torch_python:
            return self.torch_python
        name = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]
        folder = home.cache_folder() / f"peers-{name}"
        if not (folder / "complete").exists():
            print(f"PyTorch is installed into {folder}, once.", file=sys.stderr, flush=True)
        try:
            return python_of(folder, [("-r", str(REQUIREMENTS)), TORCHVISION])
        except (NotInstalled, OSError, subprocess.CalledProcessError) as error:
            print(f"PyTorch is left out, since it cannot be installed: {error}", file=sys.stderr, flush=True)
            return None


def elapsed(seconds: float) -> str:
    """Returns a time as a person says it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def today() -> str:
    """Returns the time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())


def available_cores(threads: int) -> tuple[int, ...]:
    """Returns the first cores that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0))[:threads])
