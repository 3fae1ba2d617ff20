"""The card of a data set: its splits, columns, classes, pixels, copies and remarks in numbers. Imports NumPy and no jax."""

import collections
import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from cnnlab.data import DATASETS
from cnnlab.data.arrays import digits
from cnnlab.data.examine import OF_COPIES, image_digests, remarks_on
from cnnlab.data.kinds import Image, Kind
from cnnlab.data.kinds.kind import leaves, shape_of
from cnnlab.data.source import Images, LazyImages, Source, Split, require_source
from cnnlab.digests import combined_digest
from cnnlab.values import Choice

SAMPLE = 500
"""Images of a split that are decoded for the statistics of those that are on the disk, evenly spaced."""
AT_ONCE = 2**25
"""Bytes of images whose statistics are computed at once."""
NAMED_COPIES = 5
"""Pairs of copies that a card names."""


@dataclasses.dataclass(frozen=True)
class Channel:
    """The values of one channel of the training images, scaled so that 255 of u8 is 1."""

    mean: float
    sd: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The training images of a column."""

    channels: tuple[Channel, ...]
    examined: int
    """Number of training images that were read for these numbers."""
    sides: Mapping[str, tuple[int, int, int]]
    """{height or width: (smallest, median, largest)} in pixels."""


@dataclasses.dataclass(frozen=True)
class Copies:
    """Images of a split that are equal to others, to the bit or by the digest of their files."""

    split: str
    of: str
    """The split of the others, which may be the same."""
    images: int
    """Number of the images in `split` that are copies."""
    other_labels: int
    """Number of these whose label differs from that of the image that they copy."""
    pairs: tuple[tuple[int, int], ...]
    """The first pairs, by number in `split` and in `of`."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a data set."""

    name: str
    fingerprint: str
    splits: Mapping[str, int]
    """{split: number of examples}."""
    columns: Mapping[str, tuple[str, str]]
    """{column: (kind, what it holds)}."""
    classes: Mapping[str, Mapping[str, Mapping[str, int]]]
    """{column: {class: {split: number of examples, boxes or pixels}}}."""
    pixels: Mapping[str, Pixels]
    """{column of images: their statistics}."""
    copies: tuple[Copies, ...]
    not_compared: tuple[str, ...]
    """Splits whose images were not compared, because their digests are not known before they are decoded."""
    memory: int | None
    """Bytes of all columns, decoded; None where the sizes of images are not known before that."""
    disk: int | None
    """Bytes of the files of the data set; None where it has none or they are not known."""
    remarks: tuple[str, ...]


def card_of(source: Source, disk: int | None = None) -> Card:
    """Returns the card of a data set.

    Args:
        source: the data set as it was opened.
        disk: bytes of its files; None: not known.
    """
    images = {name: kind for name, kind in source.kinds.items() if isinstance(kind, Image)}
    digests = {split: _digests(part) for split, part in source.splits.items()} if "image" in images else {}
    key = combined_digest(source.fingerprint, "card")
    remarks = remarks_on(source, source.splits, frozenset(), key) if "image" in images else []
    remarks = [remark for remark in remarks if OF_COPIES not in remark]  # the card has more of these
    return Card(
        name=source.name,
        fingerprint=source.fingerprint,
        splits={split: len(part) for split, part in source.splits.items()},
        columns={name: (type(kind).__name__, describe_column(kind, source, name)) for name, kind in source.kinds.items()},
        classes={name: found for name, kind in source.kinds.items() if (found := _classes(kind, source, name))},
        pixels={name: pixels_of(source.splits["train"].columns[name]) for name in images},
        copies=tuple(copies_of(source, digests)),
        not_compared=tuple(split for split, known in digests.items() if known is None),
        memory=_memory(source),
        disk=disk,
        remarks=tuple(dict.fromkeys([*source.remarks, *remarks])),
    )


def describe_column(kind: Kind, source: Source, name: str) -> str:
    """Returns what a column holds: type and shape of one value, and how many classes or different texts."""
    values = source.splits["train"].columns[name]
    if not kind.on_device:
        texts = np.concatenate([np.asarray(part.columns[name]) for part in source.splits.values()])
        return f"text, {len(np.unique(texts)):,} different"
    shapes = [_shape(leaf) for leaf in leaves(values)]
    arrays = (
        ", ".join(f"{key} {shape}" for key, shape in zip(values, shapes, strict=True))
        if isinstance(values, dict)
        else shapes[0]
    )
    named = f"{len(kind.names):,} {'classes' if kind.occurrences(values) is not None else 'names'}" if kind.names else ""
    return ", ".join(filter(None, [arrays, named]))


def _shape(leaf: Any) -> str:
    """Returns `uint8 [28, 28, 1]`; a side that differs between examples is a question mark."""
    sides = ", ".join("?" if side is None else str(side) for side in shape_of(leaf))
    return f"{leaf.dtype}{f' [{sides}]' if sides else ''}"


def _classes(kind: Kind, source: Source, name: str) -> dict[str, dict[str, int]]:
    """Returns {class: {split: count}} of a column; {} for a kind that counts none."""
    counts = {split: kind.occurrences(part.columns[name]) for split, part in source.splits.items()}
    known = {split: found for split, found in counts.items() if found is not None}
    return {
        label: {split: int(found[number]) for split, found in known.items()} for number, label in enumerate(kind.names) if known
    }


def pixels_of(images: Images) -> Pixels:
    """Returns the statistics of the channels and the sizes of images; of those on the disk, from a sample of them."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), SAMPLE)).astype(int)) if _is_lazy(images) else None
    total, squares, low, high, pixels = 0.0, 0.0, math.inf, -math.inf, 0
    sizes: list[tuple[int, ...]] = []
    unit = 255.0 if images.dtype == np.uint8 else 1.0
    for rows in _read(images, chosen):
        flat = rows.reshape(-1, rows.shape[-1])  # [B, H, W, C] -> [B·H·W, C]
        values = flat.astype(np.float64) / unit
        total, squares, pixels = total + values.sum(0), squares + np.square(values).sum(0), pixels + len(flat)
        low, high = np.minimum(low, flat.min(0) / unit), np.maximum(high, flat.max(0) / unit)
        sizes += [rows.shape[1:3]] * len(rows)
    mean = np.atleast_1d(total / pixels)
    sd = np.sqrt(np.maximum(np.atleast_1d(squares / pixels) - mean**2, 0.0))
    numbers = zip(mean.tolist(), sd.tolist(), np.atleast_1d(low).tolist(), np.atleast_1d(high).tolist(), strict=True)
    known = getattr(images, "sizes", None)
    sides = np.array(sizes if known is None else known)  # [N, 2]
    return Pixels(
        channels=tuple(Channel(*one) for one in numbers),
        examined=len(images) if chosen is None else len(chosen),
        sides={
            name: (int(side.min()), int(np.median(side)), int(side.max()))
            for name, side in zip(("height", "width"), sides.T, strict=True)
        },
    )


def _is_lazy(images: Images) -> bool:
    return isinstance(images, LazyImages)


def _read(images: Images, chosen: np.ndarray | None) -> Iterator[np.ndarray]:
    """Yields images [B, H, W, C] of one size at a time: all of an array, or the chosen ones of those on the disk."""
    if isinstance(images, LazyImages):
        for position in [] if chosen is None else chosen.tolist():
            yield np.asarray(images.read([position])[0])[None]  # [H, W, C] -> [1, H, W, C]
        return
    step = max(AT_ONCE // max(images[0].nbytes, 1), 1)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _digests(part: Split) -> list[object] | None:
    is_seen = isinstance(part.images, np.ndarray) or part.images.is_array
    return image_digests(part.images, is_seen)


def copies_of(source: Source, digests: Mapping[str, list[object] | None]) -> Iterator[Copies]:
    """Yields the copies within each split and between each two, where there are any."""
    known = [split for split in ("train", "validation", "test") if digests.get(split) is not None]
    first: dict[str, dict[object, int]] = {}
    for split in known:
        first[split] = {}
        for position, digest in enumerate(digests[split] or ()):
            first[split].setdefault(digest, position)
    for i, split in enumerate(known):
        for of in [split, *known[:i]]:
            is_same = source.splits[of].images is source.splits[split].images and of != split
            pairs = [] if is_same else [
                (position, first[of][digest])
                for position, digest in enumerate(digests[split] or ())
                if digest in first[of] and (of != split or first[of][digest] != position)
            ]  # fmt: skip
            if pairs:
                yield Copies(split, of, len(pairs), _other_labels(source, split, of, pairs), tuple(pairs[:NAMED_COPIES]))


def _other_labels(source: Source, split: str, of: str, pairs: list[tuple[int, int]]) -> int:
    """Returns how many copies have another label than what they copy."""
    if "label" not in source.kinds:
        return 0
    here, there = np.array(pairs).T
    return int((source.splits[split].labels[here] != source.splits[of].labels[there]).sum())


def _memory(source: Source) -> int | None:
    """Returns the bytes of all columns, decoded; None where a column has values of unknown sizes."""
    total = 0
    for part in source.splits.values():
        for leaf in (leaf for values in part.columns.values() for leaf in leaves(values)):
            shape = shape_of(leaf)
            if None in shape:
                if (sizes := getattr(leaf, "sizes", None)) is None:
                    return None
                total += int(np.prod(sizes.astype(np.int64), axis=1).sum()) * int(shape[-1] or 1) * leaf.dtype.itemsize
                continue
            total += len(part) * math.prod(int(side or 0) for side in shape) * leaf.dtype.itemsize
    return total


def disk_size(source: Source, argument: str) -> int | None:
    """Returns the bytes of the files of a data set that is opened from a path; None where it is not.

    Args:
        source: the data set.
        argument: what follows the colon in `folder:PATH`; empty: nothing.
    """
    path = pathlib.Path(argument) if argument else None
    if path is None or not path.exists():
        return None
    if path.is_dir():
        return sum(os.lstat(os.path.join(above, name)).st_size for above, _, names in os.walk(path) for name in names)
    named = [path.parent / name for part in source.splits.values() for name in _file_names(part)]
    there = [one for one in dict.fromkeys(named) if one.is_file()]
    return path.stat().st_size + sum(one.stat().st_size for one in there) if len(there) == len(set(named)) else None


def _file_names(part: Split) -> list[str]:
    """Returns the names of the image files of a split, where it has any."""
    return [str(name) for values in part.columns.values() for name in getattr(values, "names", ())]


def open_source(*, dataset: Choice[DATASETS] = digits) -> Source:
    """Opens a data set by its name.

    Args:
        dataset: data set; tfds:NAME, folder:PATH, csv:PATH, npz:PATH read others.
    """
    return require_source(dataset(), "dataset")


def as_json(card: Card) -> dict[str, Any]:
    """Returns the card as JSON holds it."""
    return dataclasses.asdict(card)


def spread(labels: np.ndarray | None, size: int, most: int) -> np.ndarray:
    """Returns the positions of examples for a sheet, i64 [M]: the first ones of every class in turn, or evenly spaced.

    Args:
        labels: i32 [N]; None: there are none.
        size: N.
        most: M at most.
    """
    if labels is None:
        return np.unique(np.linspace(0, size - 1, min(size, most)).astype(int))
    seen: collections.Counter[int] = collections.Counter()
    turns = np.empty(size, int)  # [N]: how many examples of its class come before
    for position, label in enumerate(labels.tolist()):
        turns[position] = seen[label]
        seen[label] += 1
    return np.lexsort((labels, turns))[:most]
