"""Remarks on the examples themselves: classes without an example, images of one value, copies of training images in test."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Set

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.kinds.kind import shape_of
from cnnlab.data.source import Images, Source, Split
from cnnlab.text import counted, listed

LARGE = 2**24
"""Bytes of images from which what was found is kept in the cache. 60,000 images of 28 x 28 take 0.2 s."""
AT_ONCE, READ_AT_ONCE = 4096, 2**26
"""Images, and bytes, that are looked at together."""
OF_COPIES = "are copies of training images"
"""What a remark on copies says."""


def remarks_on(source: Source, parts: Mapping[str, Split], resident: Set[str], key: str) -> list[str]:
    """Returns the remarks on a source whose splits are at their final size; none where test is train itself, on purpose.

    Args:
        source: the data set.
        parts: the splits as they are trained on.
        resident: names of the splits that stay in memory. Images of others that are decoded on request are not examined, but
            for the digests that their source gives.
        key: a text that changes with the pixels, for the cache.
    """
    if source.splits.get("test") is source.splits["train"]:
        return []
    images = {split: part.images for split, part in parts.items() if split in source.splits}
    seen = {split for split, part in images.items() if isinstance(part, np.ndarray) or split in resident or part.is_array}
    size = sum(len(images[split]) * _bytes_of(images[split]) for split in seen)
    found = cached(f"examined-1-{key[:24]}", lambda: _examined(images, seen)) if size >= LARGE else _examined(images, seen)
    remarks = _classes(source)
    for split in images:
        if len(blank := found[f"{split}-blank"]):
            total, places = f"{len(blank):,} of {counted(len(images[split]), f'{split} image')}", listed(blank.tolist(), 5)
            remarks.append(f"{source.name}: {total} have one value everywhere: number {places}")
    if len(copies := found["copies"]):
        pairs = listed([f"{here} is {there}" for here, there in copies.tolist()])
        total = f"{len(copies):,} of {counted(len(images['test']), 'test image')}"
        remarks.append(f"{source.name}: {total} {OF_COPIES}, number by number: {pairs}")
    return remarks


def _classes(source: Source) -> list[str]:
    """Returns remarks on classes that have no example in train, or in another split although they have one in train."""
    remarks: list[str] = []
    if "label" not in source.kinds:
        return remarks
    classes = source.kinds["label"].names or source.class_names
    trained = set(np.unique(source.splits["train"].labels).tolist())
    for split, part in source.splits.items():
        found = set(np.unique(part.labels).tolist())
        missing = sorted((set(range(len(classes))) if split == "train" else trained) - found)
        if missing:
            names = listed([classes[number] for number in missing], 5)
            remarks.append(f"{source.name}: {split} has no example of {counted(len(missing), 'class', 'classes')}: {names}")
        if unknown := sorted(found - trained):
            names, count = (
                listed([classes[number] for number in unknown], 5),
                int(np.isin(part.labels, unknown).sum()),
            )
            remarks.append(f"{source.name}: {split} has {counted(count, 'example')} of classes that train lacks: {names}")
    return remarks


def _examined(images: Mapping[str, Images], seen: Set[str]) -> dict[str, np.ndarray]:
    """Returns {"SPLIT-blank": positions of images of one value, "copies": (position in test, position in train) i32 [M, 2]}.

    Args:
        images: images by split.
        seen: names of the splits whose pixels are looked at.
    """
    found = {f"{split}-blank": _blank(part) if split in seen else np.zeros(0, np.int32) for split, part in images.items()}
    # One array for both splits is meant so, as in xor.
    is_apart = "test" in images and images["test"] is not images["train"]
    train, test = (image_digests(images[split], split in seen) if is_apart else None for split in ("train", "test"))
    first: dict[object, int] = {}
    for position, digest in enumerate(train or ()):
        first.setdefault(digest, position)
    blank = set(found["test-blank"].tolist()) if is_apart else set()
    copies = [
        (position, first[digest]) for position, digest in enumerate(test or ()) if digest in first and position not in blank
    ]
    return found | {"copies": np.array(copies, np.int32).reshape(len(copies), 2)}


def _bytes_of(images: Images) -> int:
    """Returns the bytes of one image."""
    return math.prod(int(side or 0) for side in shape_of(images)) * images.dtype.itemsize


def _rows(images: Images) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (position of the first, images [B, H, W, C]), some at a time."""
    at_once = min(AT_ONCE, max(1, READ_AT_ONCE // max(_bytes_of(images), 1)))
    for start in range(0, len(images), at_once):
        stop = min(start + at_once, len(images))
        yield start, images[start:stop] if isinstance(images, np.ndarray) else images[np.arange(start, stop)]


def _blank(images: Images) -> np.ndarray:
    """Returns the positions i32 [M] of images all of whose pixels are equal."""
    found = [np.zeros(0, np.int64)]
    if _bytes_of(images) > 4 * images.dtype.itemsize:
        for start, rows in _rows(images):
            rows = rows.reshape(len(rows), -1)  # [B, H, W, C] -> [B, H·W·C]
            # Most images differ in two of their first values, and the rest are few.
            open_rows = np.flatnonzero((rows[:, :1] == rows[:, ::7]).all(axis=1))
            found.append(start + open_rows[(rows[open_rows] == rows[open_rows, :1]).all(axis=1)])
    return np.concatenate(found).astype(np.int32)


def image_digests(images: Images, is_seen: bool) -> list[object] | None:
    """Returns a digest for each image; None where its pixels are not looked at and its source knows no digest."""
    if is_seen:
        return [
            hashlib.blake2b(row.data, digest_size=16).digest()
            for _, rows in _rows(images)
            for row in np.ascontiguousarray(rows)
        ]
    return None if isinstance(images, np.ndarray) or images.digests is None else images.digests.tolist()
