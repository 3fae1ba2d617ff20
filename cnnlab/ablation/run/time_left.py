"""Estimates how long the unfinished runs of a study take: from the speed of its runs since this start, else from the plan."""

import dataclasses
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.pruning import FINISHED

Status = Mapping[str, Any]
"""Content of a run's status.json; {} where the run was never begun."""


@dataclasses.dataclass
class Pace:
    """What was seen of one attempt of a run. Its first log, before which it compiled, begins the measurement."""

    attempt: int
    first_step: int
    """Step at which the attempt was seen first."""
    latest: tuple[int, float] | None = None
    """(step, time) of the latest progress."""
    intervals: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    """(steps, seconds) from one progress to the next."""

    def see(self, step: int, now: float) -> None:
        """Takes in the step of a run that is being trained."""
        if step <= (self.latest[0] if self.latest else self.first_step):
            return
        if self.latest is not None:
            self.intervals.append((step - self.latest[0], now - self.latest[1]))
        self.latest = step, now

    @property
    def step_seconds(self) -> float | None:
        """Seconds of a step with its share of evaluations and checkpoints; None before two intervals are complete.

        The slowest interval is left out: it also compiles the evaluation.
        """
        if len(self.intervals) < 2:
            return None
        kept = sorted(self.intervals, key=lambda interval: interval[1] / interval[0])[:-1]
        return sum(seconds for _, seconds in kept) / sum(steps for steps, _ in kept)


class TimeLeft:
    """The estimate for the runs of a study, which are named by their numbers. Compilation counts for nothing.

    The speed of a run is its own since this start, else that of the arm, else that of all arms, else the plan's.
    """

    def __init__(
        self, arms: Sequence[str], steps: Sequence[int], statuses: Sequence[Status], planned_seconds: float | None = None
    ) -> None:
        """Takes what was done before as given: it has no influence on the speed.

        Args:
            arms: name of the arm of each run.
            steps: steps of each run.
            statuses: its status.json now.
            planned_seconds: the plan's estimate for what is left of all runs, one after another; None: there is none.
        """
        self._arms, self._steps = arms, steps
        left = sum(self._steps_left(number, status) for number, status in enumerate(statuses))
        self._planned_step = planned_seconds / left if planned_seconds is not None and left else None
        self._paces: dict[int, Pace] = {}
        self._finished: dict[int, float] = {}
        self._left_over = {
            number: status.get("attempt", 1) for number, status in enumerate(statuses) if status.get("state") == "RUNNING"
        }
        self._at_once = 1

    @property
    def has_begun(self) -> bool:
        """Whether a run has taken a step since this start."""
        return bool(self._finished) or any(pace.latest for pace in self._paces.values())

    def observe(self, statuses: Sequence[Status], now: float) -> None:
        """Takes in how far the runs are at a time, in seconds."""
        running = [number for number, status in enumerate(statuses) if status.get("state") == "RUNNING"]
        for number in running:
            attempt, step = statuses[number].get("attempt", 1), statuses[number].get("step", 0)
            if number not in self._paces or self._paces[number].attempt != attempt:
                self._paces[number] = Pace(attempt, step)
            self._paces[number].see(step, now)
        # A run that was RUNNING before this start may belong to a process that is gone.
        trained = [n for n in running if self._paces[n].latest or self._left_over.get(n) != self._paces[n].attempt]
        self._at_once = max(self._at_once, len(trained))

    def finished(self, number: int, step_seconds: float) -> None:
        """Takes in the seconds of a step of a run that has finished since this start, without compilation."""
        self._finished[number] = step_seconds

    def seconds(self, statuses: Sequence[Status], unfinished: Collection[int]) -> float | None:
        """Returns the seconds that the unfinished runs take; None where nothing is known of their speed."""
        own = {number: pace.step_seconds for number, pace in self._paces.items()} | self._finished
        known = {number: seconds for number, seconds in own.items() if seconds is not None}
        left = {number: self._steps_left(number, statuses[number]) for number in unfinished}
        if not known:
            return None if self._planned_step is None else self._planned_step * sum(left.values())
        by_arm: dict[str, list[float]] = {}
        for number, seconds in known.items():
            by_arm.setdefault(self._arms[number], []).append(seconds)
        overall = statistics.median(known.values())
        each = []
        for number, steps in left.items():
            alike = by_arm.get(self._arms[number], [overall])
            each.append(steps * known.get(number, statistics.median(alike)))
        # As many as ever were trained at once share the rest, which takes no less than its longest run.
        return max(sum(each) / min(self._at_once, max(len(each), 1)), max(each, default=0.0))

    def _steps_left(self, number: int, status: Status) -> int:
        if status.get("state") in FINISHED:
            return 0
        return max((self._steps[number] or status.get("steps", 0)) - status.get("step", 0), 0)
