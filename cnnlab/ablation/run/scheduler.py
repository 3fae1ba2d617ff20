"""Watches the workers of a study, whatever started them, and starts again what failed.

A worker is a command line that trains cells; a launcher (local.py, slurm.py) only knows how to start and to end one. What a
worker did is read from the folders of the runs, and what it was at from the note that it keeps, so one that was killed in
whatever way is understood as well as one that ended by itself. A run that says RUNNING but whose lock is free was left by a
process that is gone; it is taken over. The watching process trains nothing.
"""

import collections
import contextlib
import dataclasses
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cnnlab import files, text
from cnnlab.ablation.plan.pruning import FINISHED, is_due
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.runs import Targets, study_runs
from cnnlab.errors import CnnlabError, Preempted

POLL_SECONDS = 0.5
GRACE_SECONDS = 60
"""For a checkpoint, between asking a worker to end and killing it."""
FRUITLESS = 2
"""How often in a row a worker of one slot may end without having trained anything before the slot is given up."""
PAUSE_SECONDS = 5
"""Before the next worker of a slot whose last one found nothing to do."""
POLITE = (0, Preempted.exit_code, -signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit codes of workers that ended because they were done or were asked to."""
TAIL = 12
"""Lines of a log that are shown when a worker ends before it trained anything."""
MOST_NAMED = 20
"""Failed runs that the last words name at most."""

Statuses = Sequence[Mapping[str, Any]]


class Worker(Protocol):
    """A process that trains cells, here or elsewhere."""

    @property
    def log(self) -> pathlib.Path:
        """What it prints."""

    def poll(self) -> int | None:
        """Exit code, the negative number of the signal that killed it, or None while it lives or waits to be run."""

    def is_running(self) -> bool:
        """Whether it runs now; one that waits in a queue trains nothing, whatever its note says."""

    def how(self) -> str:
        """How it ended, in words."""

    def end(self, *, now: bool) -> None:
        """Asks it to save a checkpoint and to end, or kills it; does not wait."""


Start = Callable[[Sequence[int], int, pathlib.Path], Worker]
"""(numbers of cells in the order of cells(), slot, path of the note that it is to keep) -> a worker that trains them."""


@dataclasses.dataclass
class _Watched:
    worker: Worker
    slot: int
    note: pathlib.Path

    @property
    def noted(self) -> dict[str, Any]:
        return files.read_json(self.note) or {}

    @property
    def at(self) -> list[str]:
        """Folders of the cells that it trains now."""
        return self.noted.get("cells", []) if self.worker.is_running() else []


def watch(
    study: Study,
    folder: pathlib.Path,
    start: Start,
    *,
    jobs: int,
    max_attempts: int = 1,
    fail_fast: bool = False,
    quiet: bool = False,
    seconds: float = POLL_SECONDS,
) -> int:
    """Trains every cell that is not finished; returns 0, 1 where cells failed, 75 after SIGTERM, 130 after Ctrl-C.

    Args:
        study: what to train.
        folder: of the study; logs and notes go to its logs/.
        start: a worker.
        jobs: workers at once.
        max_attempts: how often a cell that fails is begun in all.
        fail_fast: stop everything at the first failure.
        quiet: no progress.
        seconds: between two looks.
    """
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    watching = _Watch(study, folder, start, jobs=jobs, max_attempts=max_attempts, fail_fast=fail_fast, quiet=quiet)
    with _signals() as received:
        try:
            while not received and watching.goes_on():
                _sleep(seconds, received)
            if received:
                name = signal.Signals(received[0]).name
                _say(f"\n{name}: the workers save their checkpoints; once more to kill them.")
        finally:
            watching.end(received)
    watching.last_words()
    if received:
        return 130 if received[0] == signal.SIGINT else Preempted.exit_code
    return watching.code


class _Watch:
    """The state of one watch()."""

    def __init__(
        self, study: Study, folder: pathlib.Path, start: Start, *, jobs: int, max_attempts: int, fail_fast: bool, quiet: bool
    ) -> None:
        self.folder, self.start, self.jobs = folder, start, jobs
        self.max_attempts, self.fail_fast = max_attempts, fail_fast
        self.everything = list(study_runs(study, folder))
        self.statuses: list[dict[str, Any]] = [{} for _ in self.everything]
        self.workers: list[_Watched] = []
        self.failures: collections.Counter[pathlib.Path] = collections.Counter()
        self.fruitless, self.not_before = [0] * jobs, [0.0] * jobs
        self.dead: set[tuple[pathlib.Path, int]] = set()
        self.said: set[str] = set()
        self.number = len(list((folder / "logs").glob("worker_*.json")))
        self.targets = Targets(study, self.everything)
        self._look()
        self.told = {self._attempt(number) for number in range(len(self.everything)) if self._state(number) == "FAILED"}
        self.show = _progress(self._states, self.statuses, quiet=quiet)

    @property
    def code(self) -> int:
        """0 where every run is finished or pruned, else 1."""
        return int(any(map(self._is_due, range(len(self.everything)))))

    def goes_on(self) -> bool:
        """One look at everything, and what follows from it; whether there is more to come."""
        ended = [watched for watched in self.workers if watched.worker.poll() is not None]
        self._look()
        for watched in ended:
            self.workers.remove(watched)
            self._bury(watched)
        if self._tell_failures() and self.fail_fast:
            return False
        if not self._left():
            for watched in self.workers:
                if not watched.worker.is_running():
                    watched.worker.end(now=False)  # it waits in a queue for nothing
        waiting = self._waiting()
        slots = [slot for slot in range(self.jobs) if self.fruitless[slot] < FRUITLESS]
        if not self.workers and not (slots and self._left()):
            return False
        busy = [watched.slot for watched in self.workers]
        free = [slot for slot in slots if slot not in busy and self.not_before[slot] <= time.monotonic()]
        resting = [watched for watched in self.workers if not watched.at]
        # A worker that trains nothing yet will take one of the waiting cells, so each new one needs a cell more than that.
        if free and len(waiting) > len(resting):
            self._start(free[0], waiting)
        self.show()
        return True

    def _look(self) -> None:
        """Reads every status.json, but those of finished runs once."""
        for number, cell in enumerate(self.everything):
            if self._state(number) not in FINISHED:
                self.statuses[number] = cell.status
        self.stops = self.targets.by(self.statuses)

    def _is_due(self, number: int) -> bool:
        """Whether a cell is neither finished nor pruned."""
        return is_due(self.statuses[number], self.stops[number])

    def _states(self) -> list[str]:
        """Of every cell, in the words that a person gets."""
        told = [status.get("state", "not begun") for status in self.statuses]
        return ["PRUNED" if state == "STOPPED" and not self._is_due(number) else state for number, state in enumerate(told)]

    def _state(self, number: int) -> str:
        return self.statuses[number].get("state", "MISSING")

    def _attempt(self, number: int) -> tuple[pathlib.Path, int]:
        return self.everything[number].folder, self.statuses[number].get("attempt", 0)

    def _left(self) -> list[int]:
        """Cells that are neither finished nor pruned nor given up."""
        return [
            number
            for number, cell in enumerate(self.everything)
            if self._is_due(number) and self.failures[cell.folder] < self.max_attempts
        ]

    def _waiting(self) -> list[int]:
        """Those that nobody trains: no worker of ours, and no process of another launcher or another study."""
        ours = {folder for watched in self.workers for folder in watched.at}
        return [
            number
            for number in self._left()
            if str(self.everything[number].folder) not in ours and (self._state(number) != "RUNNING" or self._is_dead(number))
        ]

    def _is_dead(self, number: int) -> bool:
        """Whether a cell that says RUNNING was left by a process that is gone; says so, once."""
        cell, status = self.everything[number], self.statuses[number]
        if self._attempt(number) not in self.dead:
            where = f"{cell.arm.name}, seed {cell.seed}"
            if not cell.is_dead():
                self._say_once(f"{where} is being trained by {status.get('process')}, which this launcher did not start.")
                return False
            self.dead.add(self._attempt(number))
            self._say_once(f"{where} was left at step {status.get('step')} by {status.get('process')}; it is taken over.")
        return True

    def _start(self, slot: int, waiting: Sequence[int]) -> None:
        note = self.folder / "logs" / f"worker_{self.number}.json"
        # Which attempts it may repeat is settled here and now: a run that fails while the worker still starts is not its own.
        broken = [number for number in waiting if self._state(number) in ("FAILED", "RUNNING")]
        files.write_json(note, {"broken": {str(folder): attempt for folder, attempt in map(self._attempt, broken)}})
        pruned = [number for number, state in enumerate(self._states()) if state == "PRUNED"]  # they may yet go on
        try:
            self.workers.append(_Watched(self.start([*self._turned(waiting, slot), *pruned], slot, note), slot, note))
        except CnnlabError as error:
            if not self.workers:
                raise
            self.fruitless[slot] += 1
            _say(f"\n{error}")
        self.number += 1

    def _turned(self, numbers: Sequence[int], slot: int) -> list[int]:
        """The cells in an order of groups that begins with another one in every slot: compilations run side by side."""
        group = {number: self.everything[number].arm.group for number in numbers}
        groups = sorted(set(group.values()))
        turned = groups[slot % len(groups) :] + groups[: slot % len(groups)]
        return sorted(numbers, key=lambda number: (turned.index(group[number]), number))

    def _bury(self, watched: _Watched) -> None:
        """Marks the run that a worker died in, and says what went wrong where it never came to one."""
        worker, noted = watched.worker, watched.noted
        code = worker.poll()
        if noted.get("ended") or noted.get("cells"):
            self.fruitless[watched.slot] = 0
            if code not in POLITE:
                self._close(noted, "FAILED", f"its process ended without a word: {worker.how()}")
            return
        if code == 0:  # others were faster
            self.not_before[watched.slot] = time.monotonic() + PAUSE_SECONDS
            return
        self.fruitless[watched.slot] += 1
        if code not in POLITE:
            lines = worker.log.read_text(errors="replace", encoding="utf-8").splitlines() if worker.log.exists() else []
            tail = "\n".join(f"  {line}" for line in lines[-TAIL:])
            self._say_once(f"\na worker ended before it trained anything: {worker.how()}\n{tail}\n  {worker.log}")

    def _close(self, noted: Mapping[str, Any], state: str, message: str) -> None:
        """Writes how the runs ended that a worker was at when it ended, unless they say so themselves."""
        for number, cell in enumerate(self.everything):
            if str(cell.folder) not in noted.get("cells", []):
                continue
            status = cell.status
            its_own = status.get("process") == noted["process"]
            if its_own and status.get("state") != "RUNNING":
                continue
            if not its_own and state == "PREEMPTED":
                continue  # it was still compiling: the run is as it was
            # Without a status of its own it died before the first step, which is an attempt all the same.
            attempt = status.get("attempt", 0) + (not its_own)
            if cell.record(state, message, attempt=attempt, process=noted["process"]):
                self.statuses[number] = cell.status

    def _tell_failures(self) -> bool:
        """Counts and shows the failures that are new."""
        new = [
            number
            for number in range(len(self.everything))
            if self._state(number) == "FAILED" and self._attempt(number) not in self.told
        ]
        for number in new:
            cell, status = self.everything[number], self.statuses[number]
            self.told.add(self._attempt(number))
            self.failures[cell.folder] += 1
            again = self.failures[cell.folder] < self.max_attempts and not self.fail_fast
            what_next = "it is tried again" if again else f"logs in {self.folder / 'logs'}"
            _say(
                f"\nFAILED {cell.arm.name}, seed {cell.seed} at step {status.get('step', 0)}: {status.get('message', '')}\n"
                f"  {what_next}"
            )
        return bool(new)

    def end(self, received: Sequence[int]) -> None:
        """Ends every worker: a request, time for a checkpoint (or another signal), a kill."""
        killed, deadline, before = False, time.monotonic() + GRACE_SECONDS, len(received)
        for watched in self.workers:
            watched.worker.end(now=False)
        while alive := [watched for watched in self.workers if watched.worker.poll() is None]:
            if killed and time.monotonic() > deadline:
                _say(f"{len(alive)} workers could not be ended; their logs are in {self.folder / 'logs'}.")
                break
            if not killed and (time.monotonic() > deadline or len(received) > max(before, 1)):
                killed, deadline = True, time.monotonic() + GRACE_SECONDS
                for watched in alive:
                    watched.worker.end(now=True)
            time.sleep(0.1)
        for watched in self.workers:
            if watched.worker.poll() is not None:
                self._close(watched.noted, "PREEMPTED", "it was ended with its launcher and goes on from its last checkpoint")
        self.workers = []

    def last_words(self) -> None:
        """How many runs are done, why others are not, and what to do about it."""
        self._look()
        self.show(last=True)
        if not self.code:
            return
        rows = []
        for number, cell in enumerate(self.everything):
            if self._state(number) == "FAILED":
                status = self.statuses[number]
                where = f"step {status.get('step', 0)}, attempt {status.get('attempt', 0)}"
                rows.append((f"{cell.arm.name}, seed {cell.seed}", where, _first_line(status.get("message", ""))))
        more = len(rows) - MOST_NAMED
        widths = [max((len(row[column]) for row in rows[:MOST_NAMED]), default=0) for column in range(2)]
        text = [f"  FAILED  {name.ljust(widths[0])}  {where.ljust(widths[1])}  {why}" for name, where, why in rows[:MOST_NAMED]]
        text += [f"  … and {more} more"] if more > 0 else []
        text += [f"{_standing(self._states())}. The same command goes on with what is not done, and repeats nothing that is."]
        _say("\n".join(text))

    def _say_once(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            _say(text)


def _first_line(message: str) -> str:
    line = message.strip().partition("\n")[0]
    return line if len(line) <= 160 else f"{line[:159]}…"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _standing(states: Sequence[str]) -> str:
    """`3 of 12 runs done, 1 failed, 8 not begun`."""
    counts = collections.Counter(states)
    rest = "".join(f", {count} {state.lower()}" for state, count in sorted(counts.items()) if state != "DONE")
    return f"{counts['DONE']} of {len(states)} runs done{rest}"


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Yields the numbers of the SIGTERM and Ctrl-C that came. They are looked at between two steps: an exception in the
    middle of starting a worker would lose it.
    """
    received: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, frame: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _sleep(seconds: float, received: Sequence[int]) -> None:
    deadline = time.monotonic() + seconds
    while not received and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))


def _progress(states: Callable[[], list[str]], statuses: Statuses, *, quiet: bool) -> Callable[..., None]:
    """Shows how many runs are done and when all will be: one line that is rewritten on a terminal, else a line for every
    run that ends. Where runs are pruned it does not say when.
    """
    began, live = time.monotonic(), sys.stderr.isatty()
    shown, done_before = "", _share(statuses)

    def show(*, last: bool = False) -> None:
        nonlocal shown
        if quiet:
            return
        counts = collections.Counter(states())
        line = f"{counts['DONE']} of {len(statuses)} runs done"
        told = ("DIVERGED", "FAILED", "PRUNED", *(["RUNNING"] if live else []))
        line += "".join(f", {counts[state]} {state.lower()}" for state in told if counts[state])
        share = _share(statuses)
        if live and done_before < share < 1 and not counts["PRUNED"]:
            line += f"; about {text.format_duration((1 - share) * (time.monotonic() - began) / (share - done_before))} to go"
        if line != shown or (live and last):
            print(f"\r\x1b[2K{line}" if live else line, end="\n" if last or not live else "", file=sys.stderr, flush=True)
        shown = line

    return show


def _share(statuses: Statuses) -> float:
    """Of all steps, how many are taken."""
    parts = [
        1.0 if status.get("state") in FINISHED else status.get("step", 0) / max(status.get("steps", 1), 1)
        for status in statuses
    ]
    return sum(parts) / max(len(parts), 1)
