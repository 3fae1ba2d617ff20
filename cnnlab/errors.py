"""Errors that the user can fix. Each says what is wrong, what was expected and how to fix it, and carries the exit code.

`launch.py` prints such an error without a traceback and leaves with its code; every other exception is a bug.
Codes: 0 done; 1 runs of a study failed, a repetition gives other numbers, or another error; 2 usage; 3 data, checkpoint, file
of a run, disk or memory; 4 diverged; 75 preempted. `ablate` leaves with 130, as shells do, where Ctrl-C ends its workers
(ablation/run/scheduler.py).
"""

import errno
import os
import pathlib
import re
import signal

WARNING_SIGNAL: int | None = getattr(signal, "SIGUSR2", None)
"""The signal by which Slurm warns a job some time before its end (`#SBATCH --signal=USR2@90`); None where there is none."""
STOP_SIGNALS = tuple(filter(None, (signal.SIGTERM, signal.SIGINT, WARNING_SIGNAL)))
"""Signals that ask a command to save what it has and to end."""


class CnnlabError(Exception):
    """The base of the errors below; `exit_code` is the exit status of the process."""

    exit_code = 1


class UsageError(CnnlabError):
    """A flag, a knob or a combination of them cannot be used."""

    exit_code = 2


class DataError(CnnlabError):
    """A data set is missing, unreadable or not what it claims to be."""

    exit_code = 3


class CheckpointError(CnnlabError):
    """A checkpoint is missing, damaged or belongs to another network."""

    exit_code = 3


class DamagedFile(DataError):
    """A file of a run or a study is cut off, altered or lost."""

    def __init__(self, path: pathlib.Path, reason: str, advice: str) -> None:
        """Makes the message.

        Args:
            path: the file.
            reason: the damage, as a clause such as "it is empty".
            advice: what to do, in a sentence.
        """
        super().__init__(f"{path} is damaged: {reason}.\n{advice}")
        self.path, self.reason = path, reason


class DiskError(CnnlabError):
    """A file cannot be written or read: the disk is full or read-only, a quota is used up, a name is too long."""

    exit_code = 3


OUT_OF_MEMORY = "out of memory"
"""What the message of OutOfMemory begins with, by which a scheduler knows it in a run's status."""


class OutOfMemory(CnnlabError):
    """The memory of the machine or of an accelerator does not suffice."""

    exit_code = 3


class DivergedError(CnnlabError):
    """The loss or the parameters stopped being finite."""

    exit_code = 4


class Preempted(CnnlabError):
    """The process was asked to stop; what was done is saved, and the same command does the rest."""

    exit_code = 75


class PeerLost(CnnlabError):
    """Another process that trains the same run is gone, or the network between them."""


SPACE = "Free some space and run the same command again: it continues from the last checkpoint."
PEER = re.compile(r"Gloo .*failed|coordination service|NCCL .*(remote|connection)|heartbeat", re.IGNORECASE)
"""Texts of jax's errors when a process of several is gone."""
DISK_REASONS = {
    errno.ENOSPC: ("no space is left on the disk", SPACE),
    errno.EDQUOT: ("the quota of the disk is used up", SPACE),
    errno.EFBIG: ("the file would be larger than the system allows", "Raise the limit (ulimit -f) and run the command again."),
    errno.EROFS: ("the disk is read-only", "Give a folder on another disk, such as --workdir."),
    errno.EACCES: ("permission is denied", "Change its permissions, or give another folder."),
    errno.EPERM: ("permission is denied", "Change its permissions, or give another folder."),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Give a shorter one."),
    errno.ENOTDIR: ("a part of the path is a file, expected a folder", "Give another path."),
    errno.EISDIR: ("it is a folder, expected a file", "Give another path, or move the folder away."),
    errno.EEXIST: ("something with this name is there already", "Give another path, or move it away."),
    errno.EIO: ("the disk reports an error of reading or writing", "Check the disk, then run the same command again."),
    errno.ESTALE: ("the network file system lost the file", "Run the same command again."),
    errno.EMFILE: ("too many files are open", "Raise the limit (ulimit -n) and run the command again."),
    errno.ELOOP: ("symbolic links lead in a circle", "Give another path."),
}
"""{number of a system error: (the reason, what to do)} of errors that lie in the machine and not in the program."""


def disk_reason(error: OSError, path: str | pathlib.Path | None = None) -> str:
    """Returns the text of a DiskError: the path, the reason and what to do.

    Args:
        error: an error of the operating system.
        path: the file that was meant; None: the one that the error names.
    """
    shown = str(path or error.filename or "a file")
    shown = shown if len(shown) <= 200 else f"{shown[:100]}…{shown[-60:]} ({len(shown)} characters)"
    words = (os.strerror(error.errno) if error.errno else str(error), "Mend it and run the same command again.")
    reason, advice = DISK_REASONS.get(error.errno or 0, words)
    return f"{shown}: {reason}.\n{advice}"


def of_the_world(error: BaseException) -> CnnlabError | None:
    """Returns the error for a person where an exception comes from the machine (disk, memory); None where it is a bug.

    A CnnlabError is returned as it is.
    """
    if isinstance(error, CnnlabError):
        return error
    first = str(error).strip().partition("\n")[0][:300]
    if isinstance(error, MemoryError) or (
        type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in first
    ):
        return OutOfMemory(
            f"{OUT_OF_MEMORY}{f': {first}' if first else ''}\n"
            "Give a smaller --batch_size, a larger --accumulate, --remat=full, a smaller network, smaller images "
            "(--image_size) or --precision=bf16; on several devices, --strategy=fsdp."
        )
    if isinstance(error, RuntimeError) and first.startswith("Unable to initialize backend"):
        return UsageError(
            f"{first}\n$JAX_PLATFORMS names a platform that this jax does not have; nothing is run on another one instead.\n"
            'Install it (pip install -U "jax[cuda12]" for NVIDIA), or set JAX_PLATFORMS=cpu.'
        )
    if type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError", "ValueError") and PEER.search(first):
        return PeerLost(f"another process of this run does not answer any more ({first}).")
    if isinstance(error, OSError) and error.errno in DISK_REASONS:
        return DiskError(disk_reason(error))
    return None


def did_you_mean(name: str, known: list[str]) -> str:
    """Returns ` Did you mean X?` for the closest of the known names, or an empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
