"""The splits of a data set at their final size: brought to one size, decoded through the cache, in memory where they fit."""

import math
import pathlib
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlab.data.decoder import decoder_versions
from cnnlab.data.kinds import Image, Kind
from cnnlab.data.kinds.kind import Values, leaves, shape_of
from cnnlab.data.placement import Placement, placement
from cnnlab.data.resize import ALL_FITS, Fit, fit_images, settings_of
from cnnlab.data.source import LazyImages, Source, Split, sizes_of
from cnnlab.data.stored_images import stored
from cnnlab.digests import combined_digest, file_digest
from cnnlab.errors import DataError
from cnnlab.progress import ProgressLine
from cnnlab.values import below_partials

DECODED_AT_ONCE = 2**26
"""Bytes of images that are decoded between two updates of the progress line."""
SHOWN_AFTER = 2.0
"""Seconds after which the progress of decoding is shown; what comes from the cache takes less."""
ALIGNMENT = 64
"""Bytes to whose multiple an array is moved, so that jax takes it on a CPU as it is: 400 MiB took 400 MiB more before."""
IN_MEMORY: "weakref.WeakValueDictionary[str, np.ndarray]" = weakref.WeakValueDictionary()
"""The decoded columns that this process holds, by key: data sets that are built several times share them."""


def at_final_size(source: Source, size: int | None, fit: Fit, budget: int) -> tuple[dict[str, Split], set[str]]:
    """Returns the splits at their final image size, and the names of those that together fit in `budget` bytes of memory.

    Nothing is decoded yet: columns that are decoded on request stay so, and are kept in the cache from then on.
    """
    parts, resident = {}, set()
    # The training split comes first, since every step reads it.
    for split in sorted(source.splits, key=("train", "validation", "test").index):
        part = fitted(source.splits[split], source.kinds, source.name, size, fit)
        columns = dict(part.columns)
        spatial = [name for name in columns if source.kinds[name].is_spatial]
        needed = len(part) * sum(bytes_of(leaf, source.name) for name in spatial for leaf in leaves(columns[name]))
        if needed <= budget:
            budget -= needed
            resident.add(split)
        for name in spatial:
            values, what = columns[name], "" if name == "image" else f"{name} "
            if isinstance(values, LazyImages) and not values.is_array:
                rule = f"{what}{size} {fit_key(settings_of(fit)) if size else ''}"
                key = combined_digest(source.fingerprint, split, rule, decoder_versions(), code_of(fit) if size else "")
                columns[name] = stored(values, key, f"{source.name} {split} {what}{' x '.join(map(str, fixed_shape(values)))}")
        parts[split] = Split(columns)
    return parts, resident


def fit_key(settings: Mapping[str, Any]) -> str:
    """Returns the text of a rule in keys of the cache and in fingerprints."""
    return "" if settings["name"] == "none" else " ".join(map(str, settings.values()))


def code_of(rule: Callable[..., Any], ours: Mapping[str, Callable[..., Any]] = ALL_FITS) -> str:
    """Returns a digest of the code of a user's own rule, whose name does not say what it makes; "" for one of ours."""
    inner = below_partials(rule)
    if inner in ours.values():
        return ""
    code = getattr(inner, "__code__", None)
    file = pathlib.Path(getattr(code, "co_filename", ""))
    # What is written in a notebook has no file.
    return (
        file_digest(file)
        if file.is_file()
        else combined_digest(repr(getattr(code, "co_consts", "")), str(code and code.co_code))
    )


def fitted(part: Split, kinds: Mapping[str, Kind], name: str, size: int | None, fit: Fit) -> Split:
    """Returns a split whose images are brought to one size, and whose other spatial columns follow them.

    Raises DataError where another column has to follow images whose sizes are not known.
    """
    if not size:
        return part
    images, columns, settings = part.images, {}, settings_of(fit)
    followers = [column for column, kind in kinds.items() if kind.is_spatial and not isinstance(kind, Image)]
    sizes: Any = sizes_of(images)
    if followers and sizes is None:
        raise DataError(
            f"the images of {name} differ in size and their sizes are not known before they are decoded, so that "
            f"{', '.join(followers)} cannot follow them.\nExpected LazyImages with `sizes` i32 [N, 2] from its source."
        )

    def place(position: int) -> Placement:
        height, width = sizes[position].tolist()
        return placement(settings, (height, width), size)

    for column, values in part.columns.items():
        is_image = isinstance(kinds[column], Image)
        columns[column] = fit_images(values, size, fit) if is_image else kinds[column].fitted(values, place)
    return Split(columns)


def bytes_of(leaf: Any, name: str) -> int:
    """Returns the bytes of one example's value in an array [N, …] or in images that are decoded on request."""
    return math.prod(fixed_shape(leaf, name)) * leaf.dtype.itemsize


def fixed_shape(values: Any, name: str = "") -> tuple[int, ...]:
    """Returns the shape of one example's value, or raises DataError where the images differ in size."""
    shape = shape_of(values)
    if None in shape:
        raise DataError(
            f"the images of {name} differ in size, and a network takes one size.\n"
            "Expected images of equal size, or a size for all: give --image_size=64, say, and --image_fit=resize or pad."
        )
    return tuple(int(side or 0) for side in shape)


def in_memory(part: Split, name: str, key: str) -> Split:
    """Returns a split whose columns are arrays.

    Args:
        part: the split.
        name: what its examples are, for the progress.
        key: a text that changes with them.
    """
    return Split({column: _array(values, name, f"{key} {column}") for column, values in part.columns.items()})


def _array(values: Values, name: str, key: str) -> Values:
    """Returns the values [N, …] of a column, which this process may hold already."""
    if not isinstance(values, LazyImages):
        return values
    if (held := IN_MEMORY.get(key)) is not None:
        return held
    began, progress = time.monotonic(), ProgressLine()
    out = _aligned((len(values), *fixed_shape(values)), values.dtype)
    at_once = max(1, DECODED_AT_ONCE // max(1, out.nbytes // max(len(out), 1)))
    for start in range(0, len(out), at_once):
        stop = min(start + at_once, len(out))
        out[start:stop] = values[np.arange(start, stop)]
        if time.monotonic() - began > SHOWN_AFTER:
            progress.show(f"[data] {name}: {stop:,} of {len(out):,} images decoded", last=stop == len(out))
    out.flags.writeable = False  # others may share it
    IN_MEMORY[key] = out
    return out


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an empty array that begins at a multiple of ALIGNMENT."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)  # [bytes] -> shape
