"""Prints the progress of a study while it runs: failures, one line of progress and a summary. All of it goes to stderr."""

import collections
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.pruning import FINISHED
from cnnlab.ablation.run.attempts import Attempts
from cnnlab.progress import ProgressLine
from cnnlab.text import format_duration

LOG_LINES = 12
"""Last lines of a log that are shown when a worker ends before it trained anything."""
MAX_NAMED = 20
"""Failed runs that the summary names at most."""
MAX_MESSAGE = 160
"""Letters of a failure's message that the summary shows at most."""


def print_line(text: str) -> None:
    """Prints to stderr at once."""
    print(text, file=sys.stderr, flush=True)


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
    run that ends. Where runs are pruned it shows no remaining time.
    """

    def __init__(self, attempts: Attempts, *, quiet: bool) -> None:
        """Measures speed from now on."""
        self._attempts = attempts
        self._line = ProgressLine(quiet=quiet, seconds=0)
        self._began, self._done_before = time.monotonic(), _share_done(attempts.statuses)

    def show(self, *, last: bool = False) -> None:
        """Shows where the study stands."""
        counts = collections.Counter(self._attempts.states())
        text = f"{counts['DONE']} of {len(self._attempts.statuses)} runs done"
        named = ("DIVERGED", "FAILED", "PRUNED", *(["RUNNING"] if self._line.is_terminal else []))
        text += "".join(f", {counts[state]} {state.lower()}" for state in named if counts[state])
        share, before = _share_done(self._attempts.statuses), self._done_before
        if self._line.is_terminal and before < share < 1 and not counts["PRUNED"]:
            seconds = (1 - share) * (time.monotonic() - self._began) / (share - before)
            text += f"; about {format_duration(seconds)} to go"
        self._line.show(text, last=last)


def _share_done(statuses: Sequence[Mapping[str, Any]]) -> float:
    """Returns the share of all steps that are taken."""
    parts = [
        1.0 if status.get("state") in FINISHED else status.get("step", 0) / max(status.get("steps", 1), 1)
        for status in statuses
    ]
    return sum(parts) / max(len(parts), 1)


def print_failure(attempts: Attempts, number: int, *, logs: pathlib.Path, repeated: bool) -> None:
    """Prints that a run failed, why, and whether it is tried again."""
    study_run, status = attempts.study_runs[number], attempts.statuses[number]
    what_next = "it is tried again" if repeated else f"logs in {logs}"
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
