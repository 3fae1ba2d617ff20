"""Schedules the runs of a study over workers, whatever starts them, and repeats what failed.

A worker is a command line that trains some runs; a launcher (local.py, slurm.py, ray.py) only knows how to start and to end
one. What a worker did is read from the folders of the runs, and what it was training from the status file that it keeps, so
one that was killed in whatever way is understood as well as one that ended by itself. A run with the state RUNNING whose lock
is free was left by a process that is gone; it is taken over. The scheduling process trains nothing.
"""

import collections
import contextlib
import dataclasses
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from cnnlab import files
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run import console
from cnnlab.ablation.run.attempts import Attempts
from cnnlab.errors import STOP_SIGNALS, CnnlabError, Preempted
from cnnlab.text import format_duration

POLL_SECONDS = 0.5
GRACE_SECONDS = 60
"""Time for a checkpoint, between asking a worker to end and killing it."""
MAX_FRUITLESS = 2
"""How often in a row a worker of one slot may end without having trained anything before the slot is given up."""
MAX_LOST = 5
"""The same for workers that were lost through no fault of theirs, such as with their node."""
RETRY_SECONDS = (10.0, 300.0)
"""Shortest and longest time before an engine that takes no worker now is asked again; it doubles."""
STEP_SECONDS = 3600.0
"""Time without a step, or another sign of a worker, after which one on this machine hangs."""
PAUSE_SECONDS = 5
"""Time before the next worker of a slot whose last one found nothing to do."""
EXPECTED_EXITS = (0, Preempted.exit_code, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of workers that ended because they were done or because the scheduler ended them."""


class Unavailable(CnnlabError):
    """What starts the workers takes none now, and may take one later; nothing is wrong with the study."""


class Worker(Protocol):
    """A process that trains runs, here or elsewhere."""

    @property
    def log(self) -> pathlib.Path:
        """The file that holds what it prints."""

    def poll(self) -> int | None:
        """Returns its exit code, the negative number of the signal that killed it, or None while it runs or is queued."""

    def is_running(self) -> bool:
        """Returns whether it runs now; one that waits in a queue trains nothing, whatever its status file states."""

    def waits(self) -> str:
        """Returns why it and its like wait for a place, in a sentence; empty where it does not wait, or nothing is known."""

    def how(self) -> str:
        """Returns how it ended, in words."""

    def is_lost(self) -> bool:
        """Returns whether it ended through no fault of what it trained, such as with its node."""

    def end(self, *, now: bool) -> None:
        """Asks it to save a checkpoint and to end, or kills it; does not wait."""


Start = Callable[[Sequence[int], int, pathlib.Path], Worker]
"""(numbers of runs in the order of study_runs, slot, path of the status file that it is to keep) -> a worker."""


@dataclasses.dataclass
class ActiveWorker:
    """A worker that was started and has not been reaped."""

    worker: Worker
    slot: int
    status_file: pathlib.Path
    is_dismissed: bool = False
    """Whether it was told to end since nothing is left to train."""
    hangs: str = ""
    """Why it was killed, in words; empty where it was not."""
    seen: tuple[float, float] = (0.0, 0.0)
    """Time of change of its status file, and when that was seen first, by a clock that never goes back."""

    @property
    def status(self) -> dict[str, Any]:
        """The content of its status file; {} before it has written one."""
        return files.read_json(self.status_file) or {}

    @property
    def training(self) -> list[str]:
        """Folders of the runs that it trains now."""
        return self.status.get("runs", []) if self.worker.is_running() else []


@dataclasses.dataclass(frozen=True)
class Scheduling:
    """How the runs of a study are spread over workers and repeated, whatever starts the workers."""

    jobs: int = 1
    """Workers at once, those that wait in a queue included."""
    max_attempts: int = 1
    """How often a run that fails is tried in all."""
    fail_fast: bool = False
    """Whether everything stops at the first failure."""
    quiet: bool = False
    """Whether no progress is shown."""
    planned_seconds: float | None = None
    """The plan's estimate for what is left to train, without compilation; None: there is none."""
    step_timeout: float | None = STEP_SECONDS
    """Seconds after which a worker that makes no step is killed; None: workers are elsewhere, and not looked at."""


def run_study(
    study: Study,
    folder: pathlib.Path,
    start: Start,
    scheduling: Scheduling,
    *,
    seconds: float = POLL_SECONDS,
    adopted: Sequence[ActiveWorker] = (),
) -> int:
    """Trains every run that is not finished; returns 0, 1 where runs failed, 75 after SIGTERM, 130 after Ctrl-C.

    Args:
        study: what to train.
        folder: the study's folder; logs and status files of workers go to its logs/.
        start: starts a worker.
        scheduling: how many workers there are at once, and what a failure leads to.
        seconds: time between two polls.
        adopted: workers that an earlier launcher of the study started; they count towards --jobs.
    """
    files.make_folder(folder / "logs")
    attempts = Attempts(study, folder, max_attempts=scheduling.max_attempts, notify=(notify := console.Notices()))
    progress = console.StudyProgress(attempts, quiet=scheduling.quiet, planned_seconds=scheduling.planned_seconds)
    scheduler = Scheduler(attempts, folder / "logs", start, scheduling, notify=notify, adopted=adopted)
    with _caught_signals() as received:
        try:
            while not received and scheduler.poll():
                progress.show()
                _sleep(seconds, received)
            if received:
                name = signal.Signals(received[0]).name
                console.print_line(f"\n{name}: the workers save their checkpoints; once more to kill them.")
        finally:
            scheduler.end(received)
    attempts.refresh()
    progress.show(last=True)
    if not attempts.all_done():
        console.print_summary(attempts)
    if received:
        return 130 if received[0] == signal.SIGINT else Preempted.exit_code
    return int(not attempts.all_done())


class Scheduler:
    """Decides which runs a worker gets, when one is started, and when the study is over."""

    def __init__(
        self,
        attempts: Attempts,
        logs: pathlib.Path,
        start: Start,
        scheduling: Scheduling,
        *,
        notify: Callable[[str], None],
        adopted: Sequence[ActiveWorker] = (),
    ) -> None:
        """Starts nothing yet. See `run_study` for the arguments; `notify` shows a person each text once."""
        self._attempts, self._logs, self._start, self._notify = attempts, logs, start, notify
        self._jobs, self._fail_fast, self._step_timeout = scheduling.jobs, scheduling.fail_fast, scheduling.step_timeout
        self._workers = list(adopted)
        self._fruitless: collections.Counter[int] = collections.Counter()  # {slot: workers in a row that trained nothing}
        self._lost: collections.Counter[int] = collections.Counter()
        self._not_before: dict[int, float] = {}
        self._retry_seconds, self._retry_at = RETRY_SECONDS[0], 0.0
        self._logs_of: dict[str, pathlib.Path] = {}  # {process: log of the worker}
        self._next_number = len(list(logs.glob("worker_*.json")))

    def poll(self) -> bool:
        """Looks at every run and worker once and acts on what it finds; returns whether there is more to do."""
        self._kill_stuck()
        ended = [active for active in self._workers if active.worker.poll() is not None]
        self._logs_of |= {status["process"]: one.worker.log for one in self._workers if "process" in (status := one.status)}
        self._attempts.refresh()
        for active in ended:
            self._workers.remove(active)
            self._reap(active)
        if self._report_failures() and self._fail_fast:
            return False
        unfinished = self._attempts.unfinished()
        if not unfinished:
            for active in self._workers:
                if not active.worker.is_running() and not active.is_dismissed:
                    active.is_dismissed = True
                    active.worker.end(now=False)  # it waits in a queue for nothing
        for why in {active.worker.waits() for active in self._workers if not active.is_dismissed} - {""}:
            self._notify(why)
        waiting = self._attempts.waiting({folder for active in self._workers for folder in active.training})
        slots = [slot for slot in range(self._jobs) if self._fruitless[slot] < MAX_FRUITLESS and self._lost[slot] < MAX_LOST]
        if not self._workers and not (slots and self._attempts.unfinished()):
            return False
        self._fill(slots, waiting)
        return True

    def _fill(self, slots: Sequence[int], waiting: Sequence[int]) -> None:
        """Starts workers in those of the slots that are free, as long as runs wait that no other worker will take."""
        now = time.monotonic()
        busy = [active.slot for active in self._workers]
        free = [slot for slot in slots if slot not in busy and self._not_before.get(slot, 0.0) <= now]
        # A worker that trains nothing yet will take one of the waiting runs, so each new one needs a run more than that.
        idle = [active for active in self._workers if not active.training]
        room = min(self._jobs - len(self._workers), len(waiting) - len(idle))
        for slot in free[: max(room, 0)] if now >= self._retry_at else []:
            if not self._start_worker(slot, waiting):
                return

    def _kill_stuck(self) -> None:
        """Kills the workers whose status file, which each step touches, has not changed for too long."""
        now = time.monotonic()
        for active in self._workers if self._step_timeout else []:
            changed = active.status_file.stat().st_mtime if active.status_file.exists() else 0.0
            if changed != active.seen[0] or not active.worker.is_running():
                active.seen = changed, now
            elif now - active.seen[1] > (self._step_timeout or 0.0) and not active.hangs:
                waited = format_duration(now - active.seen[1])
                active.hangs = f"its worker made no step for {waited} (--step_timeout) and was killed"
                active.worker.end(now=True)

    def end(self, received: Sequence[int]) -> None:
        """Ends every worker: a request, time for a checkpoint (or another signal), a kill.

        Args:
            received: the signals that came so far; it grows while this waits.
        """
        killed, deadline, before = False, time.monotonic() + GRACE_SECONDS, len(received)
        for active in self._workers:
            active.worker.end(now=False)
        while alive := [active for active in self._workers if active.worker.poll() is None]:
            if killed and time.monotonic() > deadline:
                console.print_line(f"{len(alive)} workers could not be ended; their logs are in {self._logs}.")
                break
            if not killed and (time.monotonic() > deadline or len(received) > max(before, 1)):
                killed, deadline = True, time.monotonic() + GRACE_SECONDS
                for active in alive:
                    active.worker.end(now=True)
            time.sleep(0.1)
        message = "it was ended with its launcher and goes on from its last checkpoint"
        for active in self._workers:
            if active.worker.poll() is not None:
                self._attempts.record_end(active.status, "PREEMPTED", message)
        self._workers = []

    def _start_worker(self, slot: int, waiting: Sequence[int]) -> bool:
        """Starts a worker in a slot for all waiting runs, of which others may take some before it does.

        Returns whether it was started. Where the engine takes none now, it is asked again later, for as long as it takes.
        """
        status_file = self._logs / f"worker_{self._next_number}.json"
        # Which attempts it may repeat is settled here and now: a run that fails while the worker still starts is not its own.
        files.write_json(status_file, {"failed_attempts": self._attempts.failed_attempts(waiting)})
        numbers = [*self._by_group(waiting, slot), *self._attempts.pruned()]
        try:
            self._workers.append(ActiveWorker(self._start(numbers, slot, status_file), slot, status_file))
        except Unavailable as error:
            self._notify(f"{error}. It is asked again in {format_duration(self._retry_seconds)}.")
            self._retry_at = time.monotonic() + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, RETRY_SECONDS[1])
            return False
        except CnnlabError as error:
            if not self._workers:
                raise
            self._give_up(slot, str(error))
            return False
        self._next_number += 1
        self._retry_seconds = RETRY_SECONDS[0]
        return True

    def _give_up(self, slot: int, why: str) -> None:
        """Starts no more workers in a slot, and says so."""
        self._fruitless[slot] = MAX_FRUITLESS
        console.print_line(f"\n{why}\nNo more workers are started in place {slot + 1} of --jobs={self._jobs}.")

    def _by_group(self, numbers: Sequence[int], slot: int) -> list[int]:
        """Returns the runs group by group, beginning with another group in every slot: compilations run side by side."""
        group = {number: self._attempts.study_runs[number].arm.group for number in numbers}
        groups = sorted(set(group.values()))
        first = slot % len(groups)
        order = groups[first:] + groups[:first]
        return sorted(numbers, key=lambda number: (order.index(group[number]), number))

    def _reap(self, active: ActiveWorker) -> None:
        """Records the failure of the runs that a worker was killed in, and prints its log where it never trained any."""
        worker, status, slot = active.worker, active.status, active.slot
        code, how = worker.poll(), active.hangs or worker.how()
        if active.is_dismissed:
            return
        if status.get("ended") or status.get("runs"):
            self._fruitless[slot] = self._lost[slot] = 0
            if code not in EXPECTED_EXITS and not active.hangs:
                self._attempts.record_end(status, "FAILED", f"its process ended without an error message: {how}")
            elif code:
                self._attempts.record_interruption(status, how, is_lost=worker.is_lost(), most=MAX_LOST)
            return
        if code == 0:  # others were faster
            self._not_before[slot] = time.monotonic() + PAUSE_SECONDS
            return
        counter = self._lost if worker.is_lost() else self._fruitless
        counter[slot] += 1
        log = f"\n{console.last_lines(worker.log)}\n  {worker.log}" if worker.log.exists() else ""
        self._notify(f"\na worker ended before it trained anything: {how}{log}")
        if self._fruitless[slot] >= MAX_FRUITLESS or self._lost[slot] >= MAX_LOST:
            self._give_up(slot, f"The last {counter[slot]} workers there ended before they trained anything.")

    def _report_failures(self) -> bool:
        """Prints the failures that are new; returns whether there are any."""
        new = self._attempts.new_failures()
        for number in new:
            repeated = self._attempts.may_repeat(number) and not self._fail_fast
            log = self._logs_of.get(self._attempts.statuses[number].get("process", ""), self._logs)
            console.print_failure(self._attempts, number, log=log, repeated=repeated)
        return bool(new)


@contextlib.contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Yields the numbers of the SIGTERM, SIGUSR2 and Ctrl-C that came, to be looked at between two polls.

    An exception in the middle of starting a worker would lose it.
    """
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _sleep(seconds: float, received: Sequence[int]) -> None:
    """Waits, but at most POLL_SECONDS longer once a signal came."""
    deadline = time.monotonic() + seconds
    while not received and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))
