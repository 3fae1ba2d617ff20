"""What FILE.cnnz says of the run that it was written from (network_file.py), in the form of a run's files. Imports no jax."""

import pathlib
from typing import Any

from cnnlab.errors import CheckpointError, UsageError

SUFFIX = ".cnnz"
"""Suffix of the file of a network (compressed/network.py)."""
FINGERPRINT_DIGITS = 16
"""Hex digits of the data's fingerprint that a file holds."""
NEEDED = ("experiment", "knobs", "digest", "seed", "step", "data", "inputs")
"""Entries without which the weights of a file are those of an unknown function."""


def is_network_file(path: pathlib.Path) -> bool:
    """Returns whether a path that stands for a run is the file of its network."""
    return path.suffix == SUFFIX and path.is_file()


def read_notes(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a file says beside its weights; raises CheckpointError where it is damaged, or says too little."""
    from cnnlab.compressed import network  # imports NumPy

    notes = network.read(path)[1]
    if missing := [name for name in NEEDED if name not in notes]:
        raise CheckpointError(
            f"{path} holds weights alone: it does not say which network they are of (it lacks {', '.join(missing)}).\n"
            f"Write it by `export --workdir=RUN --to={path}` or `compress`, or start from its weights with --init_from={path}."
        )
    return notes


def as_run(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a file says of its run, in the form of a run.json: experiment, knobs, data and flags."""
    notes = read_notes(path)
    flags = {"precision": notes.get("precision", "f32"), "seed": notes["seed"]}
    return {**{name: notes[name] for name in ("experiment", "knobs", "digest", "data")}, "flags": flags}


def require_same_knobs(path: pathlib.Path, there: str, now: str) -> None:
    """Raises UsageError where the experiment of a file has other knobs today than when the file was written.

    Args:
        path: the file.
        there: digest of all knobs that it records.
        now: digest of the knobs that its own ones give today.
    """
    if there != now:
        raise UsageError(
            f"{path} was written where its experiment has other defaults for the knobs that the file leaves out.\n"
            f"Use the code that it was written with, or start from its weights with --init_from={path}."
        )
