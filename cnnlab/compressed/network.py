"""Weights to and from .cnnz, the file of a compressed network (container.py), without any loss."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlab.compressed import container, gaps
from cnnlab.compressed.container import Shared, Size, Sparse, Stored
from cnnlab.errors import CheckpointError, DamagedFile
from cnnlab.terminal import Column, Terminal, table

MOST_VALUES = 256
"""Values that the weights of an array share at most; one with more is stored as it is."""


TABLE_SHARE = 64
"""Numbers i8 for each value that they have, above which codes of few bits are less with the table of these values."""


def packed(leaves: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> tuple[bytes, dict[str, Size]]:
    """Returns (the content of a file with named arrays, bit for bit; what each takes).

    Args:
        leaves: {name: array}.
        notes: JSON-like content that is kept beside them.
    """
    return container.packed({name: stored(np.asarray(leaf)) for name, leaf in leaves.items()}, notes)


def read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads the arrays and the notes of a file; raises CheckpointError where a bit is not what was written."""
    try:
        arrays, notes = container.read(path)
    except DamagedFile as error:
        raise CheckpointError(str(error)) from error
    return {name: array if isinstance(array, np.ndarray) else array.dense() for name, array in arrays.items()}, notes


def stored(leaf: np.ndarray) -> Stored:
    """Returns an array in the form that takes least: with few values f32 as codes of them, without its zeros, or as it is.

    Zeros are weights that are left out. Values differ where a bit does, so that -0.0 is a value of its own. Whole numbers i8
    are taken as f32 where the table of their values takes little beside them.
    """
    if leaf.dtype == np.int8 and len(np.unique(leaf)) < leaf.size / TABLE_SHARE:
        leaf = leaf.astype(np.float32)
    if leaf.dtype != np.float32 or leaf.ndim < 2:
        return leaf
    bits = np.ascontiguousarray(leaf).reshape(-1).view(np.uint32)
    positions = np.flatnonzero(bits)
    values = np.unique(bits[positions])
    if len(values) > MOST_VALUES:
        entries = len(gaps.to_gaps(positions, gaps.MOST_BITS)[0])
        is_less = entries * (leaf.itemsize + 1) < leaf.nbytes  # a gap takes a byte at most
        return Sparse(leaf.shape, bits[positions].view(np.float32), positions) if is_less else leaf
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
    return "" if not size.entries or size.entries == size.numbers == size.kept else f"{100 * size.kept / size.numbers:.2f} %"


def _bits(size: Size, taken: int) -> str:
    """Returns the bits that an entry takes on average in a stream of `taken` bytes; empty without any."""
    return f"{8 * taken / size.entries:.2f}" if size.entries and taken else ""
