"""Keeps a scheduler's record of the runs: the status of every run of a study, and which attempts failed. Trains nothing."""

import collections
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.pruning import FINISHED, is_due
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.runs import Targets, study_runs
from cnnlab.errors import OUT_OF_MEMORY

Attempt = tuple[pathlib.Path, int]
"""(folder of the run, number of the attempt)."""


class Attempts:
    """The runs of a study as they were last read from their folders, and how often each failed under this scheduler.

    A run is named by its number in the order of `study_runs`.
    """

    def __init__(self, study: Study, folder: pathlib.Path, *, max_attempts: int, notify: Callable[[str], None]) -> None:
        """Reads every run once; failures of earlier schedulers do not count towards `max_attempts`.

        Args:
            study: the study.
            folder: the study's own folder.
            max_attempts: how often a run that fails is tried in all.
            notify: prints news of a run; is called with the same text several times.
        """
        self.study_runs = list(study_runs(study, folder))
        self.statuses: list[dict[str, Any]] = [{} for _ in self.study_runs]
        self._max_attempts, self._notify = max_attempts, notify
        self._targets = Targets(study, self.study_runs)
        self._failures: collections.Counter[pathlib.Path] = collections.Counter()
        self._abandoned: set[Attempt] = set()
        self._stuck: collections.Counter[int] = collections.Counter()
        self.refresh()
        self._reached = [_progress(status) for status in self.statuses]
        self._reported = {self._attempt(number) for number in self.failed()}

    def refresh(self) -> None:
        """Reads every status.json, but those of finished runs only once."""
        for number, study_run in enumerate(self.study_runs):
            if self.state(number) not in FINISHED:
                self.statuses[number] = study_run.status
        self._stops = self._targets.by(self.statuses)

    def state(self, number: int) -> str:
        """Returns the state of a run as in status.json; MISSING where it was never begun."""
        return self.statuses[number].get("state", "MISSING")

    def states(self) -> list[str]:
        """Returns the state of every run as it is printed."""
        named = [status.get("state", "not begun") for status in self.statuses]
        return ["PRUNED" if state == "STOPPED" and not self.is_due(number) else state for number, state in enumerate(named)]

    def is_due(self, number: int) -> bool:
        """Returns whether a run is neither finished nor pruned."""
        return is_due(self.statuses[number], self._stops[number])

    def all_done(self) -> bool:
        """Returns whether every run is finished or pruned."""
        return not any(map(self.is_due, range(len(self.study_runs))))

    def failed(self) -> list[int]:
        """Returns the runs whose last attempt failed."""
        return [number for number in range(len(self.study_runs)) if self.state(number) == "FAILED"]

    def pruned(self) -> list[int]:
        """Returns the runs that were stopped at a rung; they may yet continue, when others turn out worse."""
        return [number for number, state in enumerate(self.states()) if state == "PRUNED"]

    def unfinished(self) -> list[int]:
        """Returns the runs that are due and did not fail too often."""
        return [number for number in range(len(self.study_runs)) if self.is_due(number) and self.may_repeat(number)]

    def may_repeat(self, number: int) -> bool:
        """Returns whether a run has failed less often than it is tried in all."""
        return self._failures[self.study_runs[number].folder] < self._max_attempts

    def waiting(self, ours: Collection[str]) -> list[int]:
        """Returns the unfinished runs that nobody trains.

        Args:
            ours: folders of the runs that this scheduler's workers train; others may be trained by workers of another
                launcher or of another study.
        """
        return [
            number
            for number in self.unfinished()
            if str(self.study_runs[number].folder) not in ours
            and (self.state(number) != "RUNNING" or self._is_abandoned(number))
        ]

    def failed_attempts(self, numbers: Sequence[int]) -> dict[str, int]:
        """Returns {folder: attempt} of those of the runs whose last attempt failed or was abandoned by its process."""
        failed = [number for number in numbers if self.state(number) in ("FAILED", "RUNNING")]
        return {str(folder): attempt for folder, attempt in map(self._attempt, failed)}

    def new_failures(self) -> list[int]:
        """Counts and returns the failures that were not returned before; a run that lacks memory is not tried again."""
        new = [number for number in self.failed() if self._attempt(number) not in self._reported]
        for number in new:
            self._reported.add(self._attempt(number))
            lacks_memory = self.statuses[number].get("message", "").startswith(OUT_OF_MEMORY)
            self._failures[self.study_runs[number].folder] += self._max_attempts if lacks_memory else 1
        return new

    def record_end(self, worker_status: Mapping[str, Any], state: str, message: str) -> None:
        """Writes how the runs ended that a worker trained when it ended, unless their status shows it already.

        Args:
            worker_status: the content of the worker's status file.
            state: FAILED or PREEMPTED.
            message: why, for a person.
        """
        for number in self._trained_by(worker_status):
            status = self.study_runs[number].status
            is_its_own = status.get("process") == worker_status["process"]
            if is_its_own and status.get("state") != "RUNNING":
                continue
            if not is_its_own and state == "PREEMPTED":
                continue  # it was still compiling: the run is as it was
            self._record(number, worker_status, state, message)

    def record_interruption(self, worker_status: Mapping[str, Any], how: str, *, is_lost: bool, most: int) -> None:
        """Takes in that a worker was ended from outside, as at its time limit, while it trained runs.

        A run that got further than ever before goes on. One that did not has failed: it would be begun for ever. What was lost
        with its node has some more attempts.

        Args:
            worker_status: the content of the worker's status file.
            how: how the worker ended.
            is_lost: whether that was through no fault of the run.
            most: how often in a row a run may be lost without a step.
        """
        for number in self._trained_by(worker_status):
            study_run, status = self.study_runs[number], self.study_runs[number].status
            if status.get("state") in (*FINISHED, "STOPPED"):
                continue
            before, now = self._reached[number], _progress(status)
            self._reached[number] = max(before[0], now[0]), max(before[1], now[1])
            self._stuck[number] = 0 if self._reached[number] != before else self._stuck[number] + 1
            if self._stuck[number] and not (is_lost and self._stuck[number] < most):
                since = f"step {now[1]}" if now[1] else "the first step"
                self._record(number, worker_status, "FAILED", f"{how}, and the attempt got no further than {since}")
                continue
            if status.get("process") == worker_status["process"] and status.get("state") == "RUNNING":
                self._record(number, worker_status, "PREEMPTED", how)
            self._notify(f"{how}; {study_run.arm.name}, seed {study_run.seed} goes on from step {now[1]} in another one.")

    def _trained_by(self, worker_status: Mapping[str, Any]) -> list[int]:
        """Returns the runs that a worker was training when it wrote its status file."""
        folders = worker_status.get("runs", [])
        return [number for number, study_run in enumerate(self.study_runs) if str(study_run.folder) in folders]

    def _record(self, number: int, worker_status: Mapping[str, Any], state: str, message: str) -> None:
        """Writes the state of a run in place of the worker that trained it."""
        study_run, status = self.study_runs[number], self.study_runs[number].status
        # Without a status of its own it ended before the first step, which is an attempt all the same.
        attempt = status.get("attempt", 0) + (status.get("process") != worker_status["process"])
        if study_run.record(state, message, attempt=attempt, process=worker_status["process"]):
            self.statuses[number] = study_run.status

    def _attempt(self, number: int) -> Attempt:
        return self.study_runs[number].folder, self.statuses[number].get("attempt", 0)

    def _is_abandoned(self, number: int) -> bool:
        """Returns whether a run with the state RUNNING was left by a process that is gone; notifies in both cases."""
        study_run, status = self.study_runs[number], self.statuses[number]
        if self._attempt(number) not in self._abandoned:
            name, process = f"{study_run.arm.name}, seed {study_run.seed}", status.get("process")
            if not study_run.is_dead():
                self._notify(f"{name} is being trained by {process}, which this launcher did not start.")
                return False
            self._abandoned.add(self._attempt(number))
            self._notify(f"{name} was left at step {status.get('step')} by {process}; it is taken over.")
        return True


def _progress(status: Mapping[str, Any]) -> tuple[int, int]:
    """Returns (the last known step, that of the newest checkpoint) of the content of a status.json."""
    return status.get("step", 0), status.get("checkpoint", 0)
