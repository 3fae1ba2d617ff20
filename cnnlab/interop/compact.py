"""Weights to and from .cnnz, the file of a compressed network (cnnlab/compressed/container.py), without any loss."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlab.compressed import container
from cnnlab.compressed.container import Shared, Size, Stored
from cnnlab.errors import CheckpointError, DamagedFile
from cnnlab.interop.scheme import Leaves
from cnnlab.terminal import Column, Terminal, table

SUFFIX = ".cnnz"
MOST_VALUES = 256
"""Values that the weights of an array share at most; one with more is stored as it is."""


def write(path: pathlib.Path, leaves: Mapping[str, np.ndarray], notes: Mapping[str, str]) -> str:
    """Writes named arrays, bit for bit; returns a table of what each takes.

    Args:
        path: the file.
        leaves: {name: array}.
        notes: {name: text} that is kept beside them.
    """
    sizes = container.write(path, {name: stored(np.asarray(leaf)) for name, leaf in leaves.items()}, dict(notes))
    return as_table(sizes, path.stat().st_size, Terminal.of_stdout())


def read(path: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
    """Reads the arrays and the notes of a file; raises CheckpointError where a bit is not what was written."""
    try:
        arrays, notes = container.read(path)
    except DamagedFile as error:
        raise CheckpointError(str(error)) from error
    return {name: array.dense() if isinstance(array, Shared) else array for name, array in arrays.items()}, notes


def stored(leaf: np.ndarray) -> Stored:
    """Returns an array in the form that takes least: with few values f32 as codes of them, else as it is.

    Zeros are weights that are left out. Values differ where a bit does, so that -0.0 is a value of its own.
    """
    if leaf.dtype != np.float32 or leaf.ndim < 2:
        return leaf
    bits = np.ascontiguousarray(leaf).reshape(-1).view(np.uint32)
    positions = np.flatnonzero(bits)
    values = np.unique(bits[positions])
    if len(values) > MOST_VALUES:
        return leaf
    codebook = np.sort(values.view(np.float32))
    # Sorted as numbers, -0.0 is the equal of no other value that is kept, since 0.0 is left out.
    codes = np.searchsorted(codebook, bits[positions].view(np.float32)).astype(np.int32)
    return Shared(leaf.shape, codebook, codes, None if len(positions) == leaf.size else positions)


def as_table(sizes: Mapping[str, Size], total: int, terminal: Terminal) -> str:
    """Returns the table of the arrays of a file of `total` bytes: numbers, those that stay, bits of each, bytes."""
    of_arrays, numbers = sum(size.total for size in sizes.values()), sum(size.numbers for size in sizes.values())
    cells = {
        "array": [*sizes, "header and digest", "in all"],
        "numbers": [*(f"{size.numbers:,}" for size in sizes.values()), "", f"{numbers:,}"],
        "stay": [*map(_share, sizes.values()), "", ""],
        "bits of a value": [
            *(_bits(size, size.codes + size.plain) for size in sizes.values()),
            "",
            f"{8 * total / max(numbers, 1):.2f}",
        ],
        "of a gap": [*(_bits(size, size.gaps) for size in sizes.values()), "", ""],
        "bytes": [*(f"{size.total:,}" for size in sizes.values()), f"{total - of_arrays:,}", f"{total:,}"],
    }
    columns = [
        Column(head, found, is_right=head != "array", least=None if head != "array" else 16) for head, found in cells.items()
    ]
    end = f"{4 * numbers / total:.1f} times smaller than {4 * numbers:,} bytes of f32, every byte of the file counted"
    return "\n".join([*table(terminal, columns), end])


def _share(size: Size) -> str:
    """Returns the share of an array's numbers that stay, in words; empty where it is stored as it is."""
    return "" if size.plain or not size.numbers else f"{100 * size.kept / size.numbers:.2f} %"


def _bits(size: Size, taken: int) -> str:
    """Returns the bits that an entry takes on average in a stream of `taken` bytes; empty without any."""
    return f"{8 * taken / size.entries:.2f}" if size.entries and taken else ""
