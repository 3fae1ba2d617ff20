"""Finds what is failed, superseded or left over below folders of runs, and removes it. Imports no jax.

A run that is running, finished or diverged is never touched, nor one whose files are damaged: a person decides about these.
A run goes only while its lock is held, and of its folder only what a run writes (`run_files.clear_folder`).
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import socket
import time
from collections.abc import Mapping, Sequence

from cnnlab.errors import CnnlabError
from cnnlab.overview.find import look
from cnnlab.overview.rows import MAY_GO_ON, Reader, RunRow
from cnnlab.runs import run_files
from cnnlab.runs.lock import is_held, locked
from cnnlab.terminal import Column, Terminal, clean, table
from cnnlab.text import counted, format_bytes

WITHOUT_CHECKPOINT = ("failed", "stale", "preempted")
"""States in which a run that has no checkpoint is listed."""
LEFT_BEHIND = ("*.corrupt", "*.orbax-checkpoint-tmp*")
"""Entries of checkpoints/ that no run reads again: set aside because they were damaged, or never completed."""


SECONDS_TO_BEGIN = 60
"""An empty folder that is younger may be one in which a run is about to begin."""


@dataclasses.dataclass(frozen=True)
class Removal:
    """Something that can be removed."""

    path: pathlib.Path
    reason: str
    size: int
    """Bytes."""
    is_run: bool
    """Whether it is the whole folder of a run, or one in which a run was begun; else a part of a run's folder."""


def removals(places: Sequence[pathlib.Path]) -> list[Removal]:
    """Returns what can be removed at or below folders, in the order of its paths."""
    found_there = look(places)
    runs = found_there.runs
    finished = {_identity(row): str(row.folder) for row in runs if row.state == "finished"}
    busy = {study.name for study in found_there.studies if study.state == "running"}
    found: list[Removal] = []
    for row in runs:
        if row.state not in MAY_GO_ON or busy & {*row.studies} or not row.folder.is_dir():
            continue
        if is_held(row.folder):
            continue
        if reason := _reason(row, finished):
            found.append(Removal(row.folder, reason, size_of(row.folder), is_run=True))
        else:
            found += [Removal(path, "left over in a run", size_of(path), is_run=False) for path in _left_behind(row.folder)]
    known = {os.path.abspath(row.folder) for row in runs}
    for place in places:
        found += [one for one in _scratch(place) if os.path.abspath(one.path) not in known]
    return sorted(found, key=lambda one: one.path)


def _identity(row: RunRow) -> str:
    return json.dumps([row.experiment, row.precision, row.seed, dict(row.knobs)], sort_keys=True)


def _reason(row: RunRow, finished: Mapping[str, str]) -> str:
    """Returns why the whole folder of a run that is neither running nor finished can go; empty where it stays.

    Args:
        row: the run.
        finished: {experiment, precision, seed and knobs: folder} of the runs that are finished.
    """
    if row.folder.is_symlink() or (row.state == "stale" and not _is_ours(row)):
        return ""
    if row.state in WITHOUT_CHECKPOINT and not any((row.folder / "checkpoints").glob("[0-9]*")):
        return f"{row.state}, without a checkpoint"
    if row.experiment and not row.studies and _identity(row) in finished:
        return f"{row.state}, superseded by {finished[_identity(row)]}"
    return ""


def _is_ours(row: RunRow) -> bool:
    """Returns whether a run was trained on this machine, where its lock shows for certain that its process is gone."""
    return row.process.endswith(f" on {socket.gethostname()}") or not row.process


def _left_behind(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the parts of an unfinished run's folder that nothing reads again."""
    kept = [folder / run_files.METRICS_BEFORE]
    inside = [path for pattern in LEFT_BEHIND for path in (folder / "checkpoints").glob(pattern)]
    return [path for path in (*kept, *inside) if path.exists() and not path.is_symlink()]


def _scratch(place: pathlib.Path) -> list[Removal]:
    """Returns the folders below `place` in which nothing lies but a lock, or nothing at all."""
    found = []
    for above, below, names in os.walk(place):
        folder = pathlib.Path(above)
        below[:] = [name for name in below if name not in run_files.OWN_FOLDERS]
        is_old = time.time() - folder.stat().st_mtime > SECONDS_TO_BEGIN
        is_empty = is_old and not below and all(name == run_files.LOCK or name.endswith(".tmp") for name in names)
        if is_empty and folder != place and not folder.is_symlink() and not is_held(folder):
            found.append(Removal(folder, "a folder in which no run was begun", size_of(folder), is_run=True))
    return found


def size_of(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of all files below a folder."""
    if not path.is_dir():
        return path.stat().st_size
    total = 0
    for above, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(above, name)).st_size
    return total


def remove(one: Removal) -> str:
    """Removes one entry; returns an empty string, or why it was left."""
    try:
        if not one.is_run:
            return _remove_part(one.path)
        if one.path.is_symlink() or not one.path.is_dir():
            return "it is gone"
        with locked(one.path):
            row, _ = Reader().row(one.path, "")
            if row.recorded == "DONE":
                return "it is finished now"
            run_files.clear_folder(one.path)
            if any(entry.name != run_files.LOCK for entry in one.path.iterdir()):
                return "it holds files that a run does not write"
            (one.path / run_files.LOCK).unlink()
            one.path.rmdir()
    except CnnlabError as error:
        return str(error).partition("\n")[0]
    except OSError as error:
        return f"{error.strerror}"
    _remove_if_empty(one.path.parent)
    return ""


def _remove_part(path: pathlib.Path) -> str:
    """Removes a part of a run's folder while its lock is held."""
    folder = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    with locked(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return ""


def _remove_if_empty(folder: pathlib.Path) -> None:
    """Removes the folder of a run's seeds after the last of them; another folder is never empty of all else."""
    if "-" in folder.name and not folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.rmdir()


def removal_lines(found: Sequence[Removal], terminal: Terminal) -> list[str]:
    """Returns the list of what can be removed, with sizes and reasons."""
    if not found:
        return ["nothing to remove: no failed run without a checkpoint, no superseded run, nothing left over"]
    shown = [
        Column("to remove", [clean(str(one.path)) for one in found], least=24),
        Column("size", [format_bytes(one.size) for one in found], is_right=True),
        Column("because", [one.reason for one in found], least=20, shortens_at_end=True),
    ]
    total = format_bytes(sum(one.size for one in found))
    return [*table(terminal, shown), f"{counted(len(found), 'entry', 'entries')}, {total}"]
