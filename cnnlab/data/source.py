"""The form of every opened data set: named splits of named columns, each of a kind, checked. Imports NumPy only."""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cnnlab.data.kinds import Image, Kind, Label
from cnnlab.data.kinds.kind import Values, count, each_leaf, leaves, shape_of
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, UsageError
from cnnlab.text import counted

LARGEST_FLOAT = 2.0
"""Value above which non-negative floats are taken for grey levels 0..255 that were not divided; images in [0, 1] that were
interpolated reach a little more than 1."""
FEED = ("index", "mask", "epoch")
"""What the feed of a step holds beside the columns of the data set: see core.Feed."""
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
    image_shape: tuple[int | None, ...]
    """(H, W, C) as read, or (H, W) of masks; None where the images differ."""
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
    sizes: np.ndarray | None = None
    """(H, W) of each image, i32 [N, 2], where the images differ; None: not known before they are decoded."""
    class_counts: np.ndarray | None = None
    """Of masks: the number of pixels of each class in each file, i64 [N, K]; None: not known before they are decoded."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Decodes the images at positions i32 [B]: u8 [B, H, W, C]."""
        positions = np.asarray(indices).tolist()
        if self.threads == 1:
            found = self.read(positions)
            return found if isinstance(found, np.ndarray) else _stacked(found, positions)
        with ThreadPoolExecutor(self.threads) as pool:
            read = pool.map(self.read, [[position] for position in positions])
            return _stacked([image for images in read for image in images], positions)


def _stacked(images: Sequence[np.ndarray], positions: Sequence[int]) -> np.ndarray:
    """Returns decoded images as one array; raises DataError where one differs in size from the first."""
    for position, image in zip(positions, images, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"image {position} is {image.shape}, image {positions[0]} {images[0].shape}; a batch has images of one size.\n"
                "Expected the size that the data set had when it was opened. Restore it, or give --image_size."
            )
    return np.stack(images)


def decoding_threads(height: int | None, width: int | None) -> int:
    """Returns the number of threads that decode images of this size (None: it varies) fastest."""
    return 1 if height and width and height * width < SMALL_IMAGE else min(8, os.cpu_count() or 1)


Images = np.ndarray | LazyImages
"""[N, H, W, C], u8 or f32: in memory, or decoded on request."""


@dataclasses.dataclass(frozen=True)
class Split:
    """N examples in a fixed order, as named columns of values [N, …]."""

    columns: Mapping[str, Values]

    def __len__(self) -> int:
        return count(next(iter(self.columns.values())))

    @property
    def images(self) -> Images:
        """The column `image`, [N, H, W, C]."""
        return self.columns["image"]

    @property
    def labels(self) -> np.ndarray:
        """The column `label`, i32 [N]."""
        return self.columns["label"]

    @property
    def strata(self) -> np.ndarray:
        """The groups i32 [N] of which every part of a division gets its share: the labels, or one group of all examples."""
        return self.columns["label"] if "label" in self.columns else np.zeros(len(self), np.int32)

    def divided(self, fraction: float, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions (kept, held out) of a division, i32: stratified, and by groups where there is such a column.

        Args:
            fraction: share of the examples to hold out.
            seed: seed by which they are drawn; None: the usual draw.
        """
        if "group" in self.columns:
            return grouped_split(self.strata, self.columns["group"], fraction, seed)
        return stratified_split(self.strata, fraction, seed)

    def at(self, indices: np.ndarray) -> "Split":
        """Returns the examples at `indices` i32 [M]; lazily decoded columns stay lazy."""
        return Split({name: subset(values, indices) for name, values in self.columns.items()})

    def having(self, **columns: Values) -> "Split":
        """Returns the same examples with some columns replaced or added."""
        return Split({**self.columns, **columns})


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set as published: a split `train` and, where the publisher made them, `validation` and `test`.

    Raises DataError where a column is not of its kind, columns differ in length or between splits, or a split is empty.
    """

    name: str
    splits: Mapping[str, Split]
    kinds: Mapping[str, Kind]
    """The kind of every column. Classes belong to a kind: `Label(("cat", "dog"))`."""
    fingerprint: str
    """Changes when the examples or their order change."""
    remarks: tuple[str, ...] = ()
    """What was left out, guessed or cut, a sentence each, with names and counts (cnnlab/remarks.py)."""

    def __post_init__(self) -> None:
        if not isinstance(self.kinds, Mapping) or not all(isinstance(kind, Kind) for kind in self.kinds.values()):
            raise DataError(
                f"{self.name}: its kinds are {self.kinds!r:.80}.\nExpected the kind of every column, such as "
                '{"image": Image(), "label": Label(("cat", "dog"))}, or `labelled(name, splits, class_names)` (docs/own.md).'
            )
        if reserved := [name for name in self.kinds if name in FEED]:
            raise DataError(
                f"{self.name}: a column cannot be called {' or '.join(reserved)}; batches use that name themselves.\n"
                "Give it another name, such as `segmentation` for the class of every pixel."
            )
        if "train" not in self.splits:
            raise DataError(f"{self.name} has no train examples.\nExpected at least one, in a split `train`.")
        for split, part in self.splits.items():
            if set(part.columns) != set(self.kinds):
                raise DataError(
                    f"{self.name}, split {split}: its columns are {', '.join(part.columns) or 'none'}.\n"
                    f"Expected those that have a kind, in every split: {', '.join(self.kinds)}."
                )
            if not len(part):
                raise DataError(f"{self.name} has no {split} examples.\nExpected at least one in every split.")
            lengths = {name: count(values) for name, values in part.columns.items()}
            if len(set(lengths.values())) > 1:
                raise DataError(
                    f"{self.name}, split {split}: {', '.join(f'{size} of {name}' for name, size in lengths.items())}.\n"
                    "Expected one value of each column for each example, in the same order."
                )
            for name, values in part.columns.items():
                self.kinds[name].check(values, f"{self.name}, split {split}, column {name}")
            self._check_beside_images(split, part)

    def _check_beside_images(self, split: str, part: Split) -> None:
        """Raises DataError where the images of a split are grey levels as floats, or another column does not lie on them."""
        images, where = part.columns.get("image"), f"{self.name}, split {split}, column"
        if images is None:
            return
        if isinstance(images, np.ndarray) and images.dtype == np.float32 and images.size:
            low, high = float(images.min()), float(images.max())
            if low >= 0 and high > LARGEST_FLOAT:
                raise DataError(
                    f"{where} image: its floats are from {low:g} to {high:g}.\nExpected floats in [0, 1], or uint8 in 0..255: "
                    "variations and figures take them so.\nDivide by the largest value, or convert to uint8."
                )
        if (sizes := sizes_of(images)) is not None:
            for name, values in part.columns.items():
                self.kinds[name].check_on(values, sizes, f"{where} {name}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, or other outputs, in their order: those of the first kind with such names; () without."""
        return next((kind.names for kind in self.kinds.values() if kind.names_outputs), ())


def sizes_of(images: Images) -> np.ndarray | None:
    """Returns (H, W) of each image, i32 [N, 2]; None where they differ and are not known before they are decoded."""
    known: np.ndarray | None = getattr(images, "sizes", None)
    if known is None and None not in (shape := shape_of(images)):
        return np.broadcast_to(np.array(shape[:2], np.int32), (len(images), 2))
    return known


def require_source(opened: object, knob: str) -> Source:
    """Returns what a function of data sets returned; raises UsageError where it is no source.

    Args:
        opened: what it returned.
        knob: path of the knob that names the function.
    """
    if not isinstance(opened, Source):
        raise UsageError(
            f"--{knob}: it returns {type(opened).__name__}.\nExpected a cnnlab.data.source.Source, such as:\n"
            '    splits = {"train": (images, labels), "test": (test_images, test_labels)}\n'
            '    return labelled("mine", splits, ("cat", "dog"))'
        )
    return opened


def labelled(
    name: str,
    splits: Mapping[str, tuple[Images, np.ndarray]],
    class_names: Sequence[str],
    *,
    fingerprint: str | None = None,
    remarks: Sequence[str] = (),
) -> Source:
    """Returns a source of images with one label each.

    Args:
        name: name of the data set.
        splits: {split: (images u8 or f32 [N, H, W, C], labels i32 [N] in [0, K))}, with `train` and, as a rule, `test`.
        class_names: the K names of the classes.
        fingerprint: a text that changes with the examples; None: computed from the arrays.
        remarks: what was left out, guessed or cut, a sentence each.
    """
    parts = {split: Split({"image": images, "label": labels}) for split, (images, labels) in splits.items()}
    digest = digest_splits(name, parts) if fingerprint is None else fingerprint
    return Source(name, parts, {"image": Image(), "label": Label(tuple(class_names))}, digest, tuple(remarks))


def notify(text: str) -> None:
    """Prints to stderr what takes long or was decided automatically; stdout is for results."""
    print(f"[data] {text}", file=sys.stderr, flush=True)


def shuffled(size: int, *key: int) -> np.ndarray:
    """Returns a permutation i32 [size] that depends on `key` (two integers) alone.

    It is made from the raw stream of Philox, which NumPy promises never to change, unlike that of `Generator.permutation`.
    """
    stream = np.random.Philox(key=np.array([number % 2**64 for number in key], np.uint64))
    return np.argsort(stream.random_raw(size), kind="stable").astype(np.int32)


def drawn(size: int, purpose: int, seed: int | None) -> np.ndarray:
    """Returns a permutation i32 [size] by which examples are drawn.

    Args:
        size: number of examples.
        purpose: number below 2^24 of what they are drawn for, so that two purposes with one seed are independent.
        seed: seed of the draw, below 2^32; None: the usual one.
    """
    return shuffled(size, purpose if seed is None else purpose + ((seed + 1) << 24), size)


def stratified_split(labels: np.ndarray, fraction: float, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Divides positions into (kept i32 [N - M], held out i32 [M]), both ascending, M = round(fraction * N).

    The split is stratified: each class gives its share rounded down, and the classes with the largest remainders one more. No
    class is emptied. Sizes are the same for every seed; without one the split is always the same.
    """
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = fraction * sizes
    counts = np.floor(shares).astype(int)
    # What rounding down left over goes to the classes with the largest remainders that keep an example of their own.
    by_remainder = np.argsort(counts - shares, kind="stable")
    open_classes = by_remainder[counts[by_remainder] + 1 < sizes[by_remainder]]
    counts[open_classes[: round(fraction * len(labels)) - counts.sum()]] += 1
    order = drawn(len(labels), 0x5EED, seed)
    held_out = np.zeros(len(labels), bool)
    for number in range(len(classes)):
        held_out[order[inverse[order] == number][: counts[number]]] = True
    return np.flatnonzero(~held_out).astype(np.int32), np.flatnonzero(held_out).astype(np.int32)


def grouped_split(
    labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Divides positions into (kept i32 [N - M], held out i32 [M]), both ascending, such that no group is in both.

    Groups come in a random order, and one is held out where this brings the shares of the classes nearer to `fraction`. No
    class is emptied. Without a seed the split is always the same.

    Args:
        labels: the class of every example, i32 [N].
        groups: the group of every example, such as a patient, texts [N].
        fraction: share of the examples to hold out.
        seed: seed of the order of the groups; None: the usual one.
    """
    classes, numbers = np.unique(labels, return_inverse=True)
    named, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(named), len(classes)))  # examples by group and class
    np.add.at(counts, (members, numbers), 1)
    wanted, held = fraction * counts.sum(axis=0), np.zeros(len(classes))
    chosen = np.zeros(len(named), bool)
    for group in drawn(len(named), 0x960095, seed).tolist():
        with_it = held + counts[group]
        is_nearer = np.abs(with_it - wanted).sum() < np.abs(held - wanted).sum()
        if is_nearer and np.all((with_it < counts.sum(axis=0)) | (counts[group] == 0)):
            chosen[group], held = True, with_it
    held_out = chosen[members]
    return np.flatnonzero(~held_out).astype(np.int32), np.flatnonzero(held_out).astype(np.int32)


def subset(values: Values, indices: np.ndarray) -> Values:
    """Returns the values of a column at `indices` i32 [B]; lazily decoded images stay lazy."""
    if not isinstance(values, LazyImages):
        return at_positions(values, indices)
    digests = None if values.digests is None else values.digests[indices]
    sizes = None if values.sizes is None else values.sizes[indices]
    counts = None if values.class_counts is None else values.class_counts[indices]
    names = [values.names[position] for position in indices.tolist()] if values.names else ()

    def read(positions: list[int]) -> Sequence[np.ndarray] | np.ndarray:
        return values.read(indices[positions].tolist())

    def check(positions: list[int]) -> None:
        if values.check is not None:
            values.check(indices[positions].tolist())

    known: dict[str, Any] = {"digests": digests, "names": names, "sizes": sizes, "class_counts": counts}
    return dataclasses.replace(values, read=read, length=len(indices), check=check, **known)


def at_positions(values: Values, indices: np.ndarray) -> Values:
    """Returns the values of a column at `indices` i32 [B] as arrays [B, …]: decoded, where the column is lazy."""
    return each_leaf(lambda leaf: leaf[indices], values)


def with_test_split(name: str, splits: dict[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits with a test split where there was none, and the remark on where it comes from.

    It is the validation split under that name, or else a stratified fifth of train.
    """
    if "test" in splits or "train" not in splits:
        return splits, []
    if "validation" in splits:
        size = len(splits["validation"])
        remark = (
            f"{name} has no labelled test split: its validation split ({counted(size, 'example')}) serves as the test split, "
            "and the share --validation of train is held out for validation"
        )
        return {"train": splits["train"], "test": splits["validation"]}, [remark]
    train = splits["train"]
    kept, held_out = train.divided(TEST_FRACTION)
    how = "by groups" if "group" in train.columns else "stratified" if "label" in train.columns else "drawn at random"
    share = f"{len(held_out)} of its {len(train)} examples"
    remark = f"{name} has no test split: {share} ({how}, always the same) become one"
    return {"train": train.at(kept), "test": train.at(held_out)}, [remark]


def digest_splits(name: str, splits: Mapping[str, Split]) -> str:
    """Returns the fingerprint of a source whose columns are in memory."""
    parts: list[str | np.ndarray] = [name]
    for split, part in splits.items():
        parts.append(split)
        for column, values in part.columns.items():
            # The names of these two are left out, as in the fingerprints of runs before there were other columns.
            parts += [column] if column not in ("image", "label") else []
            parts += leaves(values)
    return combined_digest(*parts)
