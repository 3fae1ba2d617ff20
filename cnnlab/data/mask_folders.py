"""Data sets that are a folder of images and a folder of masks: the class of every pixel of an image."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from cnnlab import files
from cnnlab.data.checked_files import check_files
from cnnlab.data.class_table import ClassTable, read_classes
from cnnlab.data.decode import MAX_PIXELS
from cnnlab.data.image_files import CheckedImages, usable_images
from cnnlab.data.kinds import Image, Kind, Mask, Name
from cnnlab.data.kinds.kind import Values
from cnnlab.data.mask_files import check_keys, guessed_classes, masks_at, survey, usable_masks
from cnnlab.data.mask_pairs import Pair, pairs_below, with_groups, with_test_groups
from cnnlab.data.source import Source, Split, with_test_split
from cnnlab.data.tree import ImageTree
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText


def masks(
    path: PathText,
    /,
    *,
    test_groups: tuple[str, ...] = (),
    ignore_unknown: bool = False,
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
) -> Source:
    """Opens images with the class of every pixel: PATH/images and PATH/masks, whose files have equal names but for the endings.

    Such a pair of folders may also lie in PATH/train, PATH/test and PATH/validation, or in one folder for each group of images
    that no division may cut, such as the tiles of a scene; PATH/groups.csv, with columns file and group, names groups, too.

    Masks hold numbers, as grey levels or indices of a palette, or colours. PATH/classes.csv says which: its first line is
    name,r,g,b (colours), name,value, or name (numbers from 0). Pixels of the number 255, and of rows called `unlabeled`,
    `ignore` or `void`, do not count. Without this file masks are black and white, or hold the numbers 0 to K - 1.

    Args:
        test_groups: groups that become the test split; empty: the folder test, or else a fifth of train.
        ignore_unknown: whether pixels that show no class are ignored, and counted, instead of being an error.
        skip_bad_images: largest number of unreadable files that are left out with their partner; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels.
    """
    root = files.absolute(path)
    name, tree = f"masks:{printable(root.resolve().name)}", ImageTree(root)
    pairs = with_test_groups(root, with_groups(root, pairs_below(tree)), test_groups)
    limits = Limits(ignore_unknown, skip_bad_images, max_pixels)
    return source_of_pairs(name, tree, pairs, read_classes(root), limits)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What of a data set may be wrong: see the knobs of `masks`."""

    ignore_unknown: bool
    skip_bad_images: int
    max_pixels: int


def source_of_pairs(
    name: str, tree: ImageTree, pairs: Sequence[Pair], named: ClassTable | None, limits: Limits, remarks: Sequence[str] = ()
) -> Source:
    """Returns the data set of pairs of images and masks, which are checked; all pairs have a group, or none.

    Args:
        name: name of the data set.
        tree: the root, and what below it is left out.
        pairs: the pairs, training first.
        named: the classes of the masks; None: they follow from the masks.
        limits: what may be wrong.
        remarks: what was decided already, a sentence each.
    """
    images, mask_files = _checked(name, tree, pairs, limits)
    classes, pixels, found = _classes(name, tree.root, mask_files, named, ignore_unknown=limits.ignore_unknown)
    good = images.good & mask_files.good
    found += _check_classes(name, classes, pixels, mask_files, good)
    grouped = pairs[0].group is not None
    splits = {}
    for split in dict.fromkeys(pair.split for pair in pairs):
        chosen = [place for place, pair in enumerate(pairs) if pair.split == split and good[place]]
        columns: dict[str, Values] = {"image": images.at(chosen)}
        columns["segmentation"] = masks_at(mask_files, chosen, classes, pixels)
        if grouped:
            columns["group"] = np.array([pairs[place].group for place in chosen], np.str_)
        splits[split] = Split(columns)
    splits, carved = with_test_split(name, splits)
    kinds: dict[str, Kind] = {
        "image": Image(),
        "segmentation": Mask(
            classes.names, colours=classes.colours, published=classes.published, categories=classes.categories
        ),
    }
    kinds |= {"group": Name()} if grouped else {}
    where = " ".join(f"{pair.split} {pair.group}" for pair in pairs)
    fingerprint = combined_digest(images.fingerprint, mask_files.fingerprint, classes.digest, where)
    said = (*tree.omissions(name), *remarks, *found, *images.remarks, *mask_files.remarks, *carved)
    return Source(name, splits, kinds, fingerprint, said)


def _checked(name: str, tree: ImageTree, pairs: Sequence[Pair], limits: Limits) -> tuple[CheckedImages, CheckedImages]:
    """Checks the files of images and masks; DataError where too many cannot be used, or two differ in size."""
    most: dict[str, int] = {"skip_bad_images": limits.skip_bad_images, "max_pixels": limits.max_pixels}
    images, mask_files = [pair.image for pair in pairs], [pair.mask for pair in pairs]
    names, mask_names = (list(map(tree.name_of, paths)) for paths in (images, mask_files))
    # In one call: what is known of the files below a folder is one entry of the cache.
    index = check_files(tree.root, [*names, *mask_names], [*images, *mask_files], max_pixels=limits.max_pixels)
    of_images, of_masks = (index.at(range(start, start + len(pairs))) for start in (0, len(pairs)))
    both = (
        usable_images(name, images, names, of_images, draft=None, **most),
        usable_masks(name, mask_files, mask_names, of_masks, **most),
    )
    _require_equal_sizes(*both)
    return both


def _require_equal_sizes(images: CheckedImages, mask_files: CheckedImages) -> None:
    """Raises DataError where a mask has another size than its image."""
    both = images.good & mask_files.good
    wrong = np.flatnonzero(both & (images.index.shapes[:, :2] != mask_files.index.shapes[:, :2]).any(axis=1))
    if len(wrong):
        (height, width), (high, wide) = (one.index.shapes[wrong[0], :2].tolist() for one in (mask_files, images))
        raise DataError(
            f"{mask_files.paths[wrong[0]]} is {width} x {height} pixels, and its image {wide} x {high} ({len(wrong)} such).\n"
            "Expected a value for each pixel of the image. Write both at one size; resize masks by the nearest pixel."
        )


def _classes(
    name: str, root: pathlib.Path, mask_files: CheckedImages, named: ClassTable | None, *, ignore_unknown: bool
) -> tuple[ClassTable, np.ndarray, list[str]]:
    """Returns the classes, the number of pixels of each in every mask, i64 [N, K + 1], and remarks."""
    found = survey(mask_files, by_colour=named is not None and named.by_colour)
    classes, remarks = (named, list(named.remarks)) if named else guessed_classes(found, mask_files, root)
    remarks = [f"{name}: {remark}" for remark in remarks]
    remarks += check_keys(name, found, mask_files, classes, ignore_unknown=ignore_unknown)
    return classes, found.pixels_of_classes(len(mask_files.paths), classes), remarks


def _check_classes(
    name: str, classes: ClassTable, pixels: np.ndarray, mask_files: CheckedImages, good: np.ndarray
) -> list[str]:
    """Raises DataError where no pixel counts, or all are of one class; returns remarks on masks without a pixel that counts.

    Args:
        name: name of the data set.
        classes: the K classes.
        pixels: the number of pixels of each class in every mask, i64 [N, K + 1], with those that are ignored last.
        mask_files: the masks.
        good: whether each pair is used, bool [N].
    """
    of_class = pixels[good, :-1]
    present = [classes.names[number] for number in np.flatnonzero(of_class.sum(axis=0))]
    if not present:
        raise DataError(
            f"{name}: every pixel of its {counted(int(good.sum()), 'mask')} is ignored.\n"
            f"Expected pixels of the classes {listed(classes.names, 10)}. Correct the masks, or the file of classes."
        )
    if len(present) == 1:
        raise DataError(
            f"{name}: every pixel that counts is of one class, {present[0]}.\nExpected pixels of two classes at least, of "
            f"{listed(classes.names, 10)}. Correct the masks, or the file of classes."
        )
    remarks = []
    absent = [one for one in classes.names if one not in present]
    remarks += [f"{name}: no pixel of {counted(len(absent), 'class', 'classes')}: {listed(absent, 10)}"] if absent else []
    empty = np.flatnonzero(good & (pixels[:, :-1].sum(axis=1) == 0)).tolist()
    if empty:
        shown = listed([mask_files.names[place] for place in empty])
        remarks.append(f"{name}: every pixel of {counted(len(empty), 'mask')} is ignored, which counts for nothing: {shown}")
    return remarks
