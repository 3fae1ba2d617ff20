"""The lock of a run's folder, by which one process holds it. Imports no jax."""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import IO

from cnnlab import files
from cnnlab.errors import UsageError
from cnnlab.runs import run_files


class Busy(UsageError):
    """Another process trains in the folder."""


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds the folder for this process; the lock ends with the process, however that ends."""
    with files.open_text(folder / run_files.LOCK, "a+") as file:
        try:
            _acquire(file)
        except OSError:
            holder = run_files.read_status(folder).get("process", "another process")
            raise Busy(f"{folder} is being trained by {holder}.\nWait for it, or give another --workdir.") from None
        yield


def is_held(folder: pathlib.Path) -> bool:
    """Returns whether a process holds the folder. Nothing is written; where the file cannot be read, nobody is known to."""
    try:
        with open(folder / run_files.LOCK, encoding="utf-8") as file:
            try:
                _acquire(file, shared=True)
            except OSError:
                return True
            return False
    except OSError:
        return False


def _acquire(file: IO[str], *, shared: bool = False) -> None:
    """Takes the lock of an open file until it is closed; raises OSError where another process has it."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
