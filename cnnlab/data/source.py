"""The form of every opened data set: named splits of images and labels, checked. Imports NumPy only."""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted

TEST_FRACTION = 0.2
"""Share of the only split that is set aside as the test split where a data set has none."""
SMALL_IMAGE = 100 * 100
"""Pixels below which one thread decodes faster than many, because of the interpreter's lock: 4,000 MNIST images took
0.59 s in one thread and 0.80 s in four."""


@dataclasses.dataclass(frozen=True)
class LazyImages:
    """Random access to u8 images that are decoded on request."""

    read: Callable[[list[int]], Sequence[np.ndarray] | np.ndarray]
    """Positions [B] -> B images u8 [H, W, C], or one array [B, H, W, C]. May be called from several threads."""
    length: int
    image_shape: tuple[int | None, int | None, int]
    """(H, W, C) as read; None where the images differ."""
    threads: int = 1
    """Number of decoding threads: `decoding_threads` of the images in their files."""
    dtype: np.dtype = dataclasses.field(default_factory=lambda: np.dtype(np.uint8))
    digests: np.ndarray | None = None
    """Text [N] that is equal for equal images, such as a digest of the file; None: not known before they are decoded."""
    names: Sequence[str] = ()
    """One name for each image, such as the path of its file; (): they have none."""
    check: Callable[[list[int]], None] | None = None
    """Raises DataError where the files at positions [B] are not those that were opened, without decoding them; None: there is
    nothing to compare."""
    is_array: bool = False
    """Whether they are stored as they are, so that nothing is won by keeping them in the cache."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decodes the images at positions i32 [B]: u8 [B, H, W, C]."""
        positions = np.asarray(indices).tolist()
        if self.threads == 1:
            found = self.read(positions)
            return found if isinstance(found, np.ndarray) else np.stack(found)
        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(
                [image for images in pool.map(self.read, [[position] for position in positions]) for image in images]
            )


def decoding_threads(height: int | None, width: int | None) -> int:
    """Returns the number of threads that decode images of this size (None: it varies) fastest."""
    return 1 if height and width and height * width < SMALL_IMAGE else min(8, os.cpu_count() or 1)


Images = np.ndarray | LazyImages
"""[N, H, W, C], u8 or f32: in memory, or decoded on request."""


@dataclasses.dataclass(frozen=True)
class Split:
    """N examples in a fixed order."""

    images: Images
    labels: np.ndarray
    """i32 [N] in [0, K)."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as published: splits `train` and `test`, and `validation` where the publisher made one.

    Raises DataError where labels are outside [0, K), lengths differ, or a split is missing or empty.
    """

    name: str
    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    fingerprint: str
    """Changes when the examples or their order change."""
    remarks: tuple[str, ...] = ()
    """What was left out, guessed or cut, a sentence each, with names and counts (cnnlab/remarks.py)."""

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise DataError(
                f"{self.name} has {len(self.class_names)} class; a classifier needs at least 2.\n"
                f"Found: {', '.join(self.class_names) or 'none'}.\nGive a data set whose labels name two classes or more."
            )
        for split in ("train", "test"):
            if split not in self.splits or not len(self.splits[split].labels):
                raise DataError(f"{self.name} has no {split} examples.\nExpected at least one in each of train and test.")
        for split, part in self.splits.items():
            self._check(split, part)

    def _check(self, split: str, part: Split) -> None:
        if len(part.images) != len(part.labels):
            raise DataError(
                f"{self.name}, split {split}: {len(part.images)} images but {len(part.labels)} labels.\n"
                "Expected one label for each image, in the same order."
            )
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= len(self.class_names)))
        if len(wrong):
            first, classes = int(wrong[0]), len(self.class_names)
            raise DataError(
                f"{self.name}, split {split}: example {first} has label {part.labels[first]}, outside [0, {classes}) "
                f"({len(wrong)} such example{'s' if len(wrong) > 1 else ''}).\nExpected the number of one of the {classes} "
                f"classes, counted from 0: {', '.join(self.class_names[:10])}{', …' if classes > 10 else ''}.\n"
                "Correct the labels, or declare the classes that are missing."
            )


def notify(text: str) -> None:
    """Prints to stderr what takes long or was decided automatically; stdout is for results."""
    print(f"[data] {text}", file=sys.stderr, flush=True)


def shuffled(size: int, *key: int) -> np.ndarray:
    """Returns a permutation i32 [size] that depends on `key` (two integers) alone.

    It is made from the raw stream of Philox, which NumPy promises never to change, unlike that of `Generator.permutation`.
    """
    stream = np.random.Philox(key=np.array([number % 2**64 for number in key], np.uint64))
    return np.argsort(stream.random_raw(size), kind="stable").astype(np.int32)


def stratified_split(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Divides positions into (kept i32 [N - M], held out i32 [M]), both ascending, M = round(fraction * N).

    The split is deterministic and stratified: each class gives its share rounded down, and the classes with the largest
    remainders one more. No class is emptied.
    """
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    # What rounding down left over goes to the classes with the largest remainders that keep an example of their own.
    by_remainder = np.argsort(counts - shares, kind="stable")
    open_classes = by_remainder[counts[by_remainder] + 1 < sizes[by_remainder]]
    counts[open_classes[: round(fraction * len(labels)) - counts.sum()]] += 1
    order = shuffled(len(labels), 0x5EED, len(labels))
    held_out = np.zeros(len(labels), bool)
    for number in range(len(classes)):
        held_out[order[inverse[order] == number][: counts[number]]] = True
    return np.flatnonzero(~held_out).astype(np.int32), np.flatnonzero(held_out).astype(np.int32)


def subset(images: Images, indices: np.ndarray) -> Images:
    """Returns the images at `indices` i32 [B]; lazily decoded images stay lazy."""
    if isinstance(images, np.ndarray):
        return images[indices]
    digests = None if images.digests is None else images.digests[indices]

    names = [images.names[position] for position in indices.tolist()] if images.names else ()

    def read(positions: list[int]) -> Sequence[np.ndarray] | np.ndarray:
        return images.read(indices[positions].tolist())

    def check(positions: list[int]) -> None:
        if images.check is not None:
            images.check(indices[positions].tolist())

    return dataclasses.replace(images, read=read, length=len(indices), digests=digests, names=names, check=check)


def with_test_split(name: str, splits: dict[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits with a test split where there was none, and the remark on where it comes from.

    It is the validation split under that name, or else a stratified fifth of train.
    """
    if "test" in splits or "train" not in splits:
        return splits, []
    if "validation" in splits:
        size = len(splits["validation"].labels)
        remark = (
            f"{name} has no labelled test split: its validation split ({counted(size, 'example')}) serves as the test split, "
            "and the share --validation of train is held out for validation"
        )
        return {"train": splits["train"], "test": splits["validation"]}, [remark]
    train = splits["train"]
    kept, held_out = stratified_split(train.labels, TEST_FRACTION)
    count = f"{len(held_out)} of its {len(train.labels)} examples"
    remark = f"{name} has no test split: {count} (stratified, always the same) become one"
    parts = (("train", kept), ("test", held_out))
    return {part: Split(subset(train.images, ids), train.labels[ids]) for part, ids in parts}, [remark]


def digest_splits(name: str, splits: Mapping[str, Split]) -> str:
    """Returns the fingerprint of a source whose images are in memory."""
    parts: list[str | np.ndarray] = [name]
    for split, part in splits.items():
        assert isinstance(part.images, np.ndarray)
        parts += [split, part.images, part.labels]
    return combined_digest(*parts)
