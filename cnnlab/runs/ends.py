"""The end of a run whose process can no longer write it: its parent (cli/supervise.py) does. Imports no jax."""

import os
import pathlib
import time

from cnnlab import files
from cnnlab.errors import CnnlabError
from cnnlab.runs import run_files
from cnnlab.runs.lock import Busy, locked

NOTE = "CNNLAB_RUN"
"""Name of the variable in the environment of a process that has a parent: the file in which it names the folder of its run."""


def announce(folder: pathlib.Path) -> None:
    """Names the folder of the run that this process trains to its parent, where it has one."""
    if note := os.environ.get(NOTE):
        files.write_bytes(pathlib.Path(note), str(folder.absolute()).encode())


def record_end(note: pathlib.Path, state: str, message: str) -> bool:
    """Writes the end of the run that a process announced, where it is gone and its status still says RUNNING.

    The step is that of the newest checkpoint, from which the same command goes on. Returns whether anything was written.

    Args:
        note: the file in which the process named the folder; it may be missing.
        state: FAILED or PREEMPTED.
        message: what became of the process.
    """
    if not note.is_file():
        return False
    folder = pathlib.Path(note.read_text(encoding="utf-8"))
    try:
        with locked(folder):
            status = run_files.read_status(folder)
            if status.get("state") != "RUNNING":
                return False
            saved = max((int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()), default=0)
            end = {"state": state, "step": saved, "checkpoint": saved, "message": message, "time": time.time()}
            files.write_record(folder / run_files.STATUS, status | end)
            return True
    except (Busy, CnnlabError, OSError):  # another command trains it, or the disk is full: the error at hand counts
        return False
