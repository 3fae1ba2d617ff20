"""Data sets of image files with a list of boxes each, whatever file names them: checks, remarks and the columns of the splits.

Letters in shapes: N images of a split, M objects of an image at most, m objects of one image.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from cnnlab.data.image_files import checked_images
from cnnlab.data.kinds import Boxes, Image
from cnnlab.data.kinds.boxes import AREA, FLAGS, sound_boxes
from cnnlab.data.kinds.kind import Values
from cnnlab.data.source import Source, Split, with_test_split
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed

Policy = Literal["clip", "drop", "error"]
"""What becomes of a box that reaches beyond its image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Listed:
    """An image file and the objects that an annotation lists for it."""

    path: pathlib.Path
    name: str
    """The path as it is printed and recorded."""
    split: str
    source: str
    """The annotation, for errors: its file, or its place in one."""
    size: tuple[int, int] | None
    """(H, W) as the annotation has it; None: it does not say."""
    corners: np.ndarray
    """f32 [m, 4], (x1, y1, x2, y2) in pixels, continuous."""
    label: np.ndarray
    """i32 [m]."""
    flags: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """bool [m] each, of FLAGS."""
    area: np.ndarray | None = None
    """f32 [m], square pixels, as the annotation has it; None: it does not say."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What of a data set may be wrong."""

    bad_boxes: Policy
    skip_bad_images: int
    max_pixels: int


def source_of_lists(
    name: str, root: pathlib.Path, images: Sequence[Listed], kind: Boxes, limits: Limits, remarks: Sequence[str] = ()
) -> Source:
    """Returns the data set of images with their objects in a column `boxes`; images without an object are kept.

    A box of no area is left out and one beyond its image follows the policy, and both are counted in a remark.

    Args:
        name: name of the data set.
        root: folder above the files.
        images: the images, training first.
        kind: the classes.
        limits: what may be wrong.
        remarks: what was decided already, a sentence each.

    Raises:
        DataError: an image cannot be used or has another size than its annotation says, or there is no box at all.
    """
    paths, names = [one.path for one in images], [one.name for one in images]
    most, largest = limits.skip_bad_images, limits.max_pixels
    checked = checked_images(name, root, paths, names, skip_bad_images=most, max_pixels=largest, draft=None)
    sizes = checked.index.shapes[:, :2]
    _require_sizes(images, checked.good, sizes)
    places = max([1, *(len(one.label) for one in images)])
    more = [flag for flag in FLAGS if any(flag in one.flags and one.flags[flag].any() for one in images)]
    more += [AREA] if any(one.area is not None for one in images) else []
    splits, said = {}, list(remarks)
    digests: list[str | np.ndarray] = [checked.fingerprint, *kind.names, limits.bad_boxes]
    for split in dict.fromkeys(one.split for one in images):
        chosen = [place for place, one in enumerate(images) if one.split == split and checked.good[place]]
        listed_here = [images[place] for place in chosen]
        values, found = sound_boxes(
            _padded(listed_here, places, more), sizes[chosen], f"{name}, {split}", policy=limits.bad_boxes
        )
        said += found
        splits[split] = Split({"image": checked.at(chosen), "boxes": values})
        digests += [split, *values.values()]
    said += _occurrences(name, splits, kind)
    splits, carved = with_test_split(name, splits)
    fingerprint = combined_digest(*digests, *(f"{one.split} {one.name}" for one in images))
    return Source(name, splits, {"image": Image(), "boxes": kind}, fingerprint, (*said, *checked.remarks, *carved))


def _require_sizes(images: Sequence[Listed], good: np.ndarray, sizes: np.ndarray) -> None:
    """Raises DataError where an image is not as large as its annotation says: its boxes would lie elsewhere."""
    wrong = [
        place
        for place, one in enumerate(images)
        if good[place] and one.size is not None and one.size != tuple(sizes[place].tolist())
    ]
    if wrong:
        one, (height, width) = images[wrong[0]], sizes[wrong[0]].tolist()
        assert one.size is not None
        raise DataError(
            f"{one.path} is {width} x {height} pixels, and {one.source} says {one.size[1]} x {one.size[0]} "
            f"({counted(len(wrong), 'such image')}).\n"
            "Expected the images for which the boxes were drawn. Restore them, or scale the boxes with the images."
        )


def _padded(images: Sequence[Listed], places: int, more: Sequence[str]) -> Values:
    """Returns the objects of N images with M places each, with those of FLAGS and AREA that are named by `more`."""
    shape = (len(images), places)
    values = {"corners": np.zeros((*shape, 4), np.float32), "label": np.zeros(shape, np.int32), "valid": np.zeros(shape, bool)}
    values |= {name: np.zeros(shape, np.float32 if name == AREA else bool) for name in more}
    for number, one in enumerate(images):
        count = len(one.label)
        values["corners"][number, :count], values["label"][number, :count] = one.corners, one.label
        values["valid"][number, :count] = True
        for flag in set(more) - {AREA}:
            values[flag][number, :count] = one.flags.get(flag, False)
        if AREA in more:
            values[AREA][number, :count] = one.area if one.area is not None else _areas(one.corners)
    return values


def _areas(corners: np.ndarray) -> np.ndarray:
    """Returns the areas f32 [m] of boxes [m, 4]."""
    sides: np.ndarray = corners[:, 2:] - corners[:, :2]
    return sides.prod(axis=1)


def _occurrences(name: str, splits: Mapping[str, Split], kind: Boxes) -> list[str]:
    """Returns remarks on classes without a box and images without one; raises DataError where no split has any."""
    counts = {split: kind.occurrences(part.columns["boxes"]) for split, part in splits.items()}
    if not sum(int(count.sum()) for count in counts.values()):
        raise DataError(f"{name}: no image has a box that can be used.\nExpected boxes of objects. Correct the annotations.")
    remarks = []
    for split, part in splits.items():
        empty = int((~part.columns["boxes"]["valid"].any(axis=1)).sum())
        remarks += (
            [f"{name}, {split}: {counted(empty, 'image')} of {len(part)} without an object, which count"] if empty else []
        )
    first = next(iter(counts))
    absent = [kind.names[number] for number in np.flatnonzero(counts[first] == 0)]
    said = f"{name}, {first}: no box of {counted(len(absent), 'class', 'classes')}: {listed(absent, 10)}"
    return [*remarks, *([said] if absent else [])]
