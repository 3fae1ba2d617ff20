"""Prints the progress of a study while it runs: failures, one line of progress and a summary. All of it goes to stderr."""

import collections
import pathlib
import sys
import time
from collections.abc import Sequence

from cnnlab.ablation.plan.pruning import FINISHED
from cnnlab.ablation.run.attempts import Attempts
from cnnlab.ablation.run.time_left import TimeLeft
from cnnlab.errors import DamagedFile
from cnnlab.progress import ProgressLine
from cnnlab.runs import run_files
from cnnlab.text import format_duration

LOG_LINES = 12
"""Last lines of a log that are shown when a worker ends before it trained anything."""
MAX_NAMED = 20
"""Failed runs that the summary names at most."""
MAX_MESSAGE = 160
"""Letters of a failure's message that the summary shows at most."""


def print_line(text: str) -> None:
    """Prints to stderr at once, in place of the line of progress that a terminal shows."""
    print(f"\r\x1b[2K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


class Notices:
    """Prints notices, each text only once."""

    def __init__(self) -> None:
        """Starts with none printed."""
        self._printed: set[str] = set()

    def __call__(self, text: str) -> None:
        """Prints `text` unless it was printed before."""
        if text not in self._printed:
            self._printed.add(text)
            print_line(text)


class StudyProgress:
    """Shows how many runs are done and the remaining time: one line that is rewritten on a terminal, else a line for every
    run that ends. The remaining time is shown on a terminal alone, and not where runs are pruned.
    """

    def __init__(self, attempts: Attempts, *, quiet: bool, planned_seconds: float | None = None) -> None:
        """Measures speed from now on; `planned_seconds` is the plan's estimate for what is left to train."""
        self._attempts = attempts
        self._line = ProgressLine(quiet=quiet, seconds=0)
        arms = [study_run.arm for study_run in attempts.study_runs]
        self._time = TimeLeft([arm.name for arm in arms], [arm.steps or 0 for arm in arms], attempts.statuses, planned_seconds)
        self._timed = {number for number, status in enumerate(attempts.statuses) if status.get("state") in FINISHED}

    def show(self, *, last: bool = False) -> None:
        """Shows where the study stands."""
        counts = collections.Counter(self._attempts.states())
        text = f"{counts['DONE']} of {len(self._attempts.statuses)} runs done"
        named = ("DIVERGED", "FAILED", "PRUNED", *(["RUNNING"] if self._line.is_terminal else []))
        text += "".join(f", {counts[state]} {state.lower()}" for state in named if counts[state])
        if self._line.is_terminal and not last:
            self._observe()
            text += self._what_follows(is_running=counts["RUNNING"] > 0, prunes=counts["PRUNED"] > 0)
        self._line.show(text, last=last)

    def _observe(self) -> None:
        """Takes in how far the runs are, and how fast those were that have finished since the last time."""
        self._time.observe(self._attempts.statuses, time.monotonic())
        for number, study_run in enumerate(self._attempts.study_runs):
            if number in self._timed or self._attempts.state(number) not in FINISHED:
                continue
            self._timed.add(number)
            if (seconds := _step_seconds(study_run.folder)) is not None:
                self._time.finished(number, seconds)

    def _what_follows(self, *, is_running: bool, prunes: bool) -> str:
        """Returns `; about 32 s to go`, and before the first step of this start what is done until then."""
        unfinished = self._attempts.unfinished()
        left = None if prunes or not unfinished else self._time.seconds(self._attempts.statuses, unfinished)
        about = "" if left is None else f"about {format_duration(left)}"
        if self._time.has_begun or not unfinished:
            return f"; {about} to go" if about else ""
        return f"; {'compiling' if is_running else 'starting'} …{f', then {about}' if about else ''}"


def _step_seconds(folder: pathlib.Path) -> float | None:
    """Returns the seconds of a step of a finished run, without compilation; None where its result does not hold them."""
    try:
        result = run_files.read(folder, run_files.RESULT) or {}
    except DamagedFile:
        return None
    if not result.get("steps") or "wall_seconds" not in result:
        return None
    return max(result["wall_seconds"] - result.get("compile_seconds", 0.0), 0.0) / result["steps"]


def print_failure(attempts: Attempts, number: int, *, log: pathlib.Path, repeated: bool) -> None:
    """Prints that a run failed, why, whether it is tried again, and which file or folder holds what its worker printed."""
    study_run, status = attempts.study_runs[number], attempts.statuses[number]
    what_next = f"it is tried again; log in {log}" if repeated else f"log in {log}"
    print_line(
        f"\nFAILED {study_run.arm.name}, seed {study_run.seed} at step {status.get('step', 0)}: {status.get('message', '')}\n"
        f"  {what_next}"
    )


def last_lines(log: pathlib.Path) -> str:
    """Returns the end of a worker's log, indented; empty where there is none."""
    lines = log.read_text(errors="replace", encoding="utf-8").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:])


def print_summary(attempts: Attempts) -> None:
    """Prints which runs failed and why, how many are done, and how to go on."""
    rows = []
    for number in attempts.failed():
        study_run, status = attempts.study_runs[number], attempts.statuses[number]
        where = f"step {status.get('step', 0)}, attempt {status.get('attempt', 0)}"
        rows.append((f"{study_run.arm.name}, seed {study_run.seed}", where, _first_line(status.get("message", ""))))
    named, more = rows[:MAX_NAMED], len(rows) - MAX_NAMED
    widths = [max((len(row[column]) for row in named), default=0) for column in range(2)]
    lines = [f"  FAILED  {name.ljust(widths[0])}  {where.ljust(widths[1])}  {why}" for name, where, why in named]
    lines += [f"  … and {more} more"] if more > 0 else []
    lines += [f"{_counts(attempts.states())}. The same command goes on with what is not done, and repeats nothing that is."]
    print_line("\n".join(lines))


def _first_line(message: str) -> str:
    line = message.strip().partition("\n")[0]
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE - 1]}…"


def _counts(states: Sequence[str]) -> str:
    """Returns `3 of 12 runs done, 1 failed, 8 not begun`."""
    counts = collections.Counter(states)
    rest = "".join(f", {count} {state.lower()}" for state, count in sorted(counts.items()) if state != "DONE")
    return f"{counts['DONE']} of {len(states)} runs done{rest}"
