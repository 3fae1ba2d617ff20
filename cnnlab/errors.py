"""Errors that the user can fix. Each says what is wrong, what was expected and how to fix it, and carries the exit code.

`launch.py` prints such an error without a traceback and leaves with its code; every other exception is a bug.
Codes: 0 done, 2 usage, 3 data or checkpoint, 4 diverged, 75 preempted with a checkpoint saved.
"""


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


class DivergedError(CnnlabError):
    """The loss or the parameters stopped being finite."""

    exit_code = 4


class Preempted(CnnlabError):
    """The run was asked to stop; a checkpoint was saved, and the same command resumes it."""

    exit_code = 75


def did_you_mean(name: str, known: list[str]) -> str:
    """Returns ` Did you mean X?` for the closest of the known names, or an empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
