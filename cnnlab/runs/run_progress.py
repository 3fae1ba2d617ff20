"""Shows the progress of a run on stderr: compilation, steps and metrics, the time left, and the measurements."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnlab import home, text
from cnnlab.engine.clock import StepClock
from cnnlab.progress import ProgressLine

SHOWN_AFTER = 1.0
"""Seconds after which an evaluation during training, or one in a log, is shown; shorter ones would only flicker."""
NOTICED, LONG = 0.01, 0.1
"""Shares of the time of steps spent waiting for data from which on the share, and what helps, is said at the end of a run."""


def measuring(line: ProgressLine, split: str) -> Callable[[int, int], None]:
    """Returns a function of (batches done, batches in all) that shows how far the measurement of a split is.

    In a log it is shown only where it takes long.
    """
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        if not line.is_terminal and time.monotonic() - began < SHOWN_AFTER:
            return
        line.show(f"measuring {split}: {done:,} of {text.counted(total, 'batch', 'batches')}")

    return show


class RunProgress:
    """The progress of a run; a writer of metrics, `(step, scalars) -> None`.

    On a terminal one line is rewritten; elsewhere a line is printed every two seconds at most and at the end.
    """

    def __init__(
        self,
        *,
        steps: int,
        epoch_steps: float,
        names: Sequence[str],
        clock: StepClock,
        validates: bool = False,
        quiet: bool = False,
    ) -> None:
        """Shows nothing yet.

        Args:
            steps: last step of the training.
            epoch_steps: number of steps of an epoch.
            names: metrics of training and validation that are shown.
            clock: has the speed of this attempt, without compilation.
            validates: whether the metrics of the validation split follow those of training at the last step.
            quiet: show nothing at all.
        """
        self._steps, self._epoch_steps, self._clock, self._validates = steps, epoch_steps, clock, validates
        self._line = ProgressLine(quiet=quiet)
        self._latest: dict[str, float] = {}
        short = (("train", ""), ("validation", "val "))
        self._labels = {f"{split}/{name}": f"{label}{name}" for split, label in short for name in names}
        self._is_over = self._is_measuring = False

    def compiling(self) -> None:
        """Shows that the first step is being compiled."""
        self._line.show("compiling …")

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        """Shows the step, the latest metrics, the speed and the time left; the last step is shown once."""
        self._latest.update(scalars)
        is_last = step >= self._steps
        if self._is_over or (is_last and self._validates and not any(name.startswith("validation/") for name in scalars)):
            return  # beside the metrics of the last step, those of an earlier validation would mislead
        self._is_over = is_last
        shown = [f"{label} {self._latest[name]:.4g}" for name, label in self._labels.items() if name in self._latest]
        where = f"step {step:,}/{self._steps:,} ({step / self._steps:.0%}, epoch {step / self._epoch_steps:.1f})"
        self._line.show("  ".join([where, *self._speed(self._steps - step), *shown]), last=is_last)

    def _speed(self, steps_left: int) -> list[str]:
        """Returns the time left and the speed; nothing where no step was timed yet."""
        step_seconds, left = self._clock.step_seconds, self._clock.seconds_left(steps_left)
        if not step_seconds or left is None:
            return []
        return [*([f"ETA {text.format_duration(left)}"] if steps_left > 0 else []), f"{1 / step_seconds:.1f} steps/s"]

    def measuring(self, split: str, *, at_end: bool) -> Callable[[int, int], None]:
        """Returns a function of (batches done, batches in all) that shows how far the measurement of a split is.

        One during training (not `at_end`) is shown on a terminal alone, and where it takes long.
        """
        show, began = measuring(self._line, split), time.monotonic()

        def maybe(done: int, total: int) -> None:
            if at_end or (self._line.is_terminal and time.monotonic() - began >= SHOWN_AFTER):
                self._is_measuring = True
                show(done, total)

        return maybe

    def measured(self) -> None:
        """Removes the line of a measurement, where one is shown."""
        if self._is_measuring:
            self._line.erase()
        self._is_measuring = False

    def close(self) -> None:
        """Ends the line, so that what is printed next begins on a new one."""
        self._line.close()


def describe_left_out(result: Mapping[str, Any]) -> str:
    """Returns how many steps were left out since they were not finite, and the loss scale at the end; or ""."""
    scale = f", loss scale {result['loss_scale']:,g} at the end" if "loss_scale" in result else ""
    if not result.get("skipped_steps"):
        return scale
    return f", {text.counted(result['skipped_steps'], 'step')} of them left out, whose loss or gradients were not finite{scale}"


def describe_waiting(result: Mapping[str, Any]) -> str:
    """Returns the share of the time of steps in which the devices waited for data, and what helps where it is large; or ""."""
    share = result.get("waiting_share")
    if share is None or share < NOTICED:
        return ""
    said = f", {share:.0%} of the time of steps waiting for data"
    if share < LONG:
        return said
    return (
        f"{said}\n  What helps against waiting: more memory for the examples (--resident_mib), smaller images, and a cache "
        f"that holds them all ({home.COMMAND} cache)"
    )
