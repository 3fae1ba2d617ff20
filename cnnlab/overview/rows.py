"""The types of the overview, RunRow, StudyRow and Overview, and how a run's folder becomes a row. Imports no jax.

A folder is read once for each time that its files change (`Reader`), so that a live view costs little. Damage of one file
is a sentence of the overview and never an error: the other runs are shown.
"""

import collections
import dataclasses
import datetime
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab import home
from cnnlab.ablation.plan.study import metrics_from_json
from cnnlab.errors import DamagedFile
from cnnlab.metric import Metric, name_of
from cnnlab.runs import run_files
from cnnlab.runs.lock import is_held

STATES = (
    "running",
    "stale",
    "failed",
    "diverged",
    "damaged",
    "preempted",
    "stopped",
    "not begun",
    "pruned",
    "finished",
)
"""States of a run as they are shown. A stale one was left by a process that is gone; a study pruned or never began others."""
WORDS = {"DONE": "finished", "RUNNING": "running"} | {
    state: state.lower() for state in ("STOPPED", "PREEMPTED", "DIVERGED", "FAILED")
}
"""{state in status.json: the word that is shown}."""
MAY_GO_ON = ("stale", "failed", "preempted", "stopped")
"""States of runs that a command continues."""
NO_FLAG = {"strategy": "jit", "devices": None}
"""Run flags that a command repeats where the run had another value than this."""


@dataclasses.dataclass(frozen=True)
class RunRow:
    """One run as it is shown."""

    folder: pathlib.Path
    name: str
    """The folder below the one that was asked for."""
    state: str
    """One of STATES."""
    recorded: str = ""
    """The state in status.json; empty where there is none."""
    experiment: str = ""
    seed: int | None = None
    precision: str = "f32"
    knobs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: int = 0
    steps: int | None = None
    """Steps of the whole training; None where that is not known."""
    metric: str = ""
    """The metric that is shown, SPLIT/NAME: the primary one, of the test split where there is one; empty: none yet."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """{SPLIT/NAME: value}: the final numbers, or the latest ones of a run that is not finished."""
    declared: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    """{NAME: declaration} as far as it is recorded."""
    changed: float | None = None
    """Time of the latest change in seconds since the epoch."""
    begun: str = ""
    """Time of the first attempt, in ISO format."""
    seconds: float | None = None
    """Seconds that a finished run took."""
    attempts: int = 0
    process: str = ""
    message: str = ""
    """Why it ended."""
    curves: tuple[str, ...] = ()
    """What its curves show, a line each, of a finished run (runs/curve_reading.py)."""
    trained_by: str = ""
    """The command of the latest attempt."""
    flags: tuple[str, ...] = ()
    """Run flags with which the run goes on as it was trained, where they are not the usual ones."""
    command: str = ""
    """The command that goes on; empty where nothing is left to do."""
    studies: tuple[str, ...] = ()
    """Names of the studies that it belongs to."""
    arm: str = ""
    """Its arm in the first of these."""

    @property
    def value(self) -> float | None:
        """The value of the metric that is shown."""
        return self.metrics.get(self.metric)

    @property
    def shown_metric(self) -> Metric:
        """The declaration of the metric that is shown; without unit and sense where it is not recorded."""
        return self.declared.get(name_of(self.metric), Metric(name_of(self.metric)))


@dataclasses.dataclass(frozen=True)
class StudyRow:
    """One study as it is shown."""

    folder: pathlib.Path
    name: str
    state: str
    """running, finished, or unfinished."""
    experiment: str
    metric: str
    runs: tuple[RunRow, ...]
    """In the order of the study."""
    verdict: str = ""
    """`C7 supported` where it tests a claim and has been reported."""
    changed: float | None = None
    command: str = ""
    """The command that goes on; empty where nothing is left to do."""

    @property
    def counts(self) -> collections.Counter[str]:
        """{state: number of its runs}."""
        return collections.Counter(run.state for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Overview:
    """All that was found."""

    place: str
    """The folders that were asked for, as a person wrote them."""
    studies: tuple[StudyRow, ...]
    loose: tuple[RunRow, ...]
    """Runs that belong to none of the studies."""
    problems: tuple[str, ...] = ()
    """Damage, each in a sentence."""

    @property
    def runs(self) -> list[RunRow]:
        """Every run once, also where several studies share it."""
        found: dict[str, RunRow] = {}
        for row in [*(run for study in self.studies for run in study.runs), *self.loose]:
            key = os.path.abspath(row.folder)
            if (before := found.get(key)) is not None:
                row = dataclasses.replace(before, studies=(*before.studies, *row.studies))
            found[key] = row
        return list(found.values())


class Reader:
    """Reads the folders of runs, each again only when one of its files has changed."""

    def __init__(self) -> None:
        """Starts without anything read."""
        self._known: dict[pathlib.Path, tuple[object, RunRow, tuple[str, ...]]] = {}

    def row(self, folder: pathlib.Path, name: str) -> tuple[RunRow, tuple[str, ...]]:
        """Returns (the row of a run's folder, its damage in sentences).

        Args:
            folder: folder of the run.
            name: what it is called in the overview.
        """
        signature = tuple(map(_signature, (folder / file for file in SIGNED)))
        if (known := self._known.get(folder)) is None or known[0] != signature:
            known = (signature, *read_row(folder, name))
            self._known[folder] = known
        _, row, problems = known
        if row.recorded in ("RUNNING", "") and row.state != "damaged":  # whether a process is alive changes no file
            row = dataclasses.replace(row, state="running" if is_held(folder) else "stale")
        return dataclasses.replace(row, name=name, command=_command(row)), problems


SIGNED = (run_files.RUN, run_files.STATUS, run_files.RESULT, run_files.METRICS)
"""Files whose change makes a folder be read again."""


def _signature(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def read_row(folder: pathlib.Path, name: str) -> tuple[RunRow, tuple[str, ...]]:
    """Returns (the row of a run's folder by its files alone, their damage in sentences)."""
    problems: list[str] = []
    contents: dict[str, dict[str, Any]] = {}
    for file in (run_files.RUN, run_files.STATUS, run_files.RESULT):
        try:
            contents[file] = run_files.read(folder, file) or {}
        except DamagedFile as damage:
            contents[file] = {}
            problems.append(f"{damage.path} is damaged: {damage.reason}.")
    try:
        return _row(folder, name, contents, problems), tuple(problems)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        problems.append(f"{folder} does not hold what a run holds ({type(error).__name__}: {error}).")
        return RunRow(folder, name, "damaged"), tuple(problems)


def _row(folder: pathlib.Path, name: str, contents: Mapping[str, dict[str, Any]], problems: list[str]) -> RunRow:
    """Returns the row of the contents of run.json, status.json and result.json; adds damage to `problems`."""
    run, status, result = (contents[file] for file in (run_files.RUN, run_files.STATUS, run_files.RESULT))
    is_done = status.get("state") == "DONE"
    if not problems and not run and run_files.own_files(folder):
        problems.append(f"{folder / run_files.RUN} is missing, beside other files of a run.")
    if not problems and is_done and not result:
        problems.append(f"{folder / run_files.RESULT} is missing. {run_files.MEASURE_AGAIN}")
    flags, attempts = run.get("flags") or {}, list(run.get("attempts") or ())
    latest = {} if is_done else run_files.latest_metrics(folder)
    step = max(int(status.get("step") or 0), int(latest.get("step") or 0))
    metrics = dict(result.get("metrics") or {}) if is_done else {key: latest[key] for key in latest if "/" in key}
    primary = run.get("primary_metric")
    return RunRow(
        folder,
        name,
        state="damaged" if problems else WORDS.get(status.get("state", ""), "stale"),
        recorded=status.get("state", ""),
        experiment=run.get("experiment", ""),
        seed=flags.get("seed"),
        precision=flags.get("precision", "f32"),
        knobs=dict(run.get("knobs") or {}),
        step=step,
        steps=status.get("steps") or run.get("steps"),
        metric=shown_metric(metrics, primary["name"] if primary else ""),
        metrics=metrics,
        declared=metrics_from_json(result.get("declared") or ({primary["name"]: primary} if primary else {})),
        changed=_changed(folder, status),
        begun=attempts[0].get("time", "") if attempts else "",
        seconds=result.get("wall_seconds"),
        attempts=int(status.get("attempt") or len(attempts)),
        process=status.get("process", ""),
        message=str(status.get("message", "")),
        curves=tuple(map(str, result.get("curves") or ())) if is_done else (),
        trained_by=attempts[-1].get("command", "") if attempts else "",
        flags=tuple(f"--{flag}={flags[flag]}" for flag, usual in NO_FLAG.items() if flags.get(flag, usual) != usual),
    )


def shown_metric(metrics: Mapping[str, float], primary: str) -> str:
    """Returns SPLIT/NAME of the metric that stands for a run: the primary one, else the first of the best split there is."""
    for split in ("test", "validation", "train"):
        names = [name for name in metrics if name.startswith(f"{split}/")]
        if names:
            return f"{split}/{primary}" if f"{split}/{primary}" in metrics else names[0]
    return ""


def _changed(folder: pathlib.Path, status: Mapping[str, Any]) -> float | None:
    """Returns when a run changed last: the time in status.json, else that of the files that are there."""
    if status.get("time"):
        return float(status["time"])
    found = (_signature(folder / name) for name in (run_files.METRICS, run_files.RUN))
    return max((one[0] / 1e9 for one in found if one), default=None)


def _command(row: RunRow) -> str:
    """Returns the command that goes on with a run; empty where there is none."""
    if row.state not in MAY_GO_ON or not row.experiment:
        return ""
    return shlex.join([*home.WORDS, "train", f"--workdir={row.folder}", *row.flags])


def iso_time(seconds: float | None) -> str:
    """Returns `2026-01-31T12:00:00Z`; empty where the time is not known."""
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def varied_knobs(rows: Sequence[RunRow]) -> list[str]:
    """Returns the knobs in which runs differ, those that all of them have first."""
    known = [row.knobs for row in rows if row.knobs]
    paths = dict.fromkeys(path for knobs in known for path in knobs)
    varied = [path for path in paths if len({repr(knobs.get(path, ABSENT)) for knobs in known}) > 1]
    return sorted(varied, key=lambda path: not all(path in knobs for knobs in known))


ABSENT = object()
"""Stands for a knob that a run does not have."""
