"""What FILE.cnnz says of the run that it was written from (network_file.py), in the form of a run's files. Imports no jax."""

import pathlib
from collections.abc import Mapping
from typing import Any

from cnnlab.compressed import SUFFIX
from cnnlab.digests import SHORT, json_digest
from cnnlab.errors import CheckpointError

FINGERPRINT_DIGITS = 16
"""Hex digits of the data's fingerprint that a file holds."""
NEEDED = ("experiment", "knobs", "digest", "seed", "step", "data", "inputs")
"""Entries without which the weights of a file are those of an unknown function."""


OF_START = ("init_from", "new_head")
"""Knobs that a file leaves out: with which weights training began, by a path of one machine, is no part of the function."""


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


def without_start(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns knobs without those that say with which weights training began."""
    return {name: value for name, value in knobs.items() if name not in OF_START}


def knobs_digest(knobs: Mapping[str, Any]) -> str:
    """Returns the short digest of all knobs of a run that a file keeps."""
    return json_digest(without_start(knobs))[:SHORT]


def as_run(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a file says of its run, in the form of a run.json: experiment, knobs, data and flags."""
    notes = read_notes(path)
    flags = {"precision": notes.get("precision", "f32"), "seed": notes["seed"]}
    return {**{name: notes[name] for name in ("experiment", "knobs", "digest", "data")}, "flags": flags}


def differing_knobs(path: pathlib.Path, digest: str, knobs: Mapping[str, Any]) -> str:
    """Returns in a line that the experiment of a file has other knobs today than when the file was written; or nothing.

    It is no error: the knobs of the network are all in the file, and most of what a recipe gains changes no function.

    Args:
        path: the file.
        digest: that of all knobs, as it records it.
        knobs: what its own knobs give today.
    """
    if digest == knobs_digest(knobs):
        return ""
    return f"{path} leaves out knobs for which its experiment has other defaults today, or which are new: numbers may differ."
