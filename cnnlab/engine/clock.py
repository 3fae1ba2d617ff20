"""Keeps the seconds of compilation and of training steps apart: the first dispatch of a program's shape compiles it."""

import dataclasses
import statistics
import time
from collections.abc import Hashable
from typing import Any

import jax


@dataclasses.dataclass
class StepClock:
    """The time that training takes, filled by `train.fit`.

    A window runs from one synchronisation with the device (the first dispatch of a shape, a callback) to the next, and holds
    neither compilation nor evaluation nor checkpoints. The median over windows is robust against a machine that is
    busy for a while.
    """

    compile_seconds: float = 0.0
    """Seconds of first dispatches: tracing, compilation or reading the compilation cache, and the steps in them."""
    windows: list[float] = dataclasses.field(default_factory=list)
    """Seconds per step of each window."""
    pauses: list[float] = dataclasses.field(default_factory=list)
    """Seconds between windows: logs, evaluations and checkpoints. The longest also compiles the evaluation."""
    steps: int = 0
    """Number of steps that were taken."""
    window_seconds: float = 0.0
    """Seconds of all windows together."""
    waiting_seconds: float = 0.0
    """Those among them in which examples were read and decoded while the devices had nothing to do."""
    _since: float = dataclasses.field(default_factory=time.perf_counter)
    _steps: int = 0
    _waiting: float = 0.0
    _paused: bool = False
    _compiled: set[Hashable] = dataclasses.field(default_factory=set)

    @property
    def step_seconds(self) -> float | None:
        """Returns the median seconds of a step; None before the first window is complete."""
        return statistics.median(self.windows) if self.windows else None

    @property
    def waiting_share(self) -> float | None:
        """Returns the share of the windows in which the devices waited for data; None before the first is complete."""
        return self.waiting_seconds / self.window_seconds if self.window_seconds else None

    def seconds_left(self, steps: int) -> float | None:
        """Returns the seconds that so many further steps take, with their pauses; None before the first window is complete.

        Compilation counts for nothing: the longest pause is left out.
        """
        if self.step_seconds is None:
            return None
        paused = sum(self.pauses) - max(self.pauses, default=0.0)
        return steps * (self.step_seconds + paused / max(self.steps, 1))

    def begin_window(self) -> None:
        """Begins a window now, where the device has nothing to do."""
        now = time.perf_counter()
        if self._paused:
            self.pauses.append(now - self._since)
        self._since, self._steps, self._waiting, self._paused = now, 0, 0.0, False

    def fetched(self, began: float, latest: Any) -> None:
        """Counts the time since `began` as waiting for data, if the devices finished their work meanwhile.

        Args:
            began: when the examples of the next steps were asked for, by time.perf_counter.
            latest: result of the latest dispatch; None: there is none yet.
        """
        # One result stands for all of a dispatch.
        if all(leaf.is_ready() for leaf in jax.tree.leaves(latest)[:1]):
            self._waiting += time.perf_counter() - began

    def dispatched(self, program: Hashable, began: float, steps: int, stats: Any) -> None:
        """Counts a dispatch: as compilation where it is the first one of its program, else its steps in the window.

        Args:
            program: what is compiled once, such as (phase, steps of the dispatch).
            began: when it was sent, by time.perf_counter.
            steps: number of its steps.
            stats: its result, which is waited for where it compiled.
        """
        self.steps += steps
        if program in self._compiled:
            self._steps += steps
            return
        self._compiled.add(program)
        jax.block_until_ready(stats)
        self.compile_seconds += time.perf_counter() - began
        self.begin_window()

    def end_window(self) -> None:
        """Ends the window now, where the device has finished its steps; one without a step is left out."""
        if self._steps:
            took = time.perf_counter() - self._since
            self.windows.append(took / self._steps)
            self.window_seconds += took
            self.waiting_seconds += min(self._waiting, took)
        self.begin_window()
        self._paused = True
