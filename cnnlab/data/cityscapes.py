"""The street scenes of Cityscapes, in the layout in which they are handed out."""

import pathlib

from cnnlab import files
from cnnlab.data.cityscapes_labels import CATEGORIES, CLASSES, COLOURS, IMAGE_ENDING, LABEL_IDS, LABELS, MASK_ENDING
from cnnlab.data.class_table import ClassTable
from cnnlab.data.decode import MAX_PIXELS
from cnnlab.data.kinds.mask import IGNORE
from cnnlab.data.mask_folders import Limits, source_of_pairs
from cnnlab.data.mask_pairs import Pair
from cnnlab.data.source import Source
from cnnlab.data.tree import ImageTree, entries
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

IMAGES, MASKS = "leftImg8bit", "gtFine"
PARTS = {"train": "train", "val": "validation"}
"""{folder: split}. The masks of the folder test are not public; its images are for `predict`."""


def cityscapes(
    path: PathText,
    /,
    *,
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
) -> Source:
    """Opens the finely annotated images of Cityscapes with the 19 classes of its benchmark; other pixels do not count.

    There are folders leftImg8bit/train/CITY of files CITY_SEQUENCE_FRAME_leftImg8bit.png, and gtFine/train/CITY of files
    CITY_SEQUENCE_FRAME_gtFine_labelIds.png, and the same below val. Since the labels of test are not public, val is the test
    split, and validation examples are held out of train by whole cities (Cordts et al. 2016, arXiv:1604.01685).

    Args:
        skip_bad_images: largest number of unreadable files that are left out with their partner; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels.
    """
    root = files.absolute(path)
    name = f"cityscapes:{printable(root.resolve().name)}"
    pairs = [pair for part in PARTS for pair in _pairs(root, part)]
    if not any(pair.split == "train" for pair in pairs):
        raise DataError(
            f"{root} has no images {IMAGES}/train/CITY/*{IMAGE_ENDING}.png.\nFound there: {entries(root)}.\n"
            f"Expected the folders {IMAGES} and {MASKS}. Unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there."
        )
    keys = {label.id: label.train_id for label in LABELS} | {IGNORE: IGNORE}
    shown = {label.id: label.name for label in LABELS} | {IGNORE: "license plate"}
    table = ClassTable(
        "the labels of Cityscapes",
        CLASSES,
        keys,
        by_colour=False,
        shown=shown,
        own_colours=COLOURS,
        published=LABEL_IDS,
        categories=CATEGORIES,
    )
    return source_of_pairs(name, ImageTree(root), pairs, table, Limits(False, skip_bad_images, max_pixels))


def _pairs(root: pathlib.Path, part: str) -> list[Pair]:
    """Returns the images of a part with their masks, by cities; DataError where some have no partner."""
    found: dict[str, dict[str, pathlib.Path]] = {}
    for folder, ending in ((IMAGES, IMAGE_ENDING), (MASKS, MASK_ENDING)):
        paths = sorted((root / folder / part).glob(f"*/*{ending}.png"))
        found[folder] = {f"{file.parent.name}/{file.stem.removesuffix(ending)}": file for file in paths}
    for folder, other, ending in ((IMAGES, MASKS, MASK_ENDING), (MASKS, IMAGES, IMAGE_ENDING)):
        if alone := [stem for stem in found[folder] if stem not in found[other]]:
            raise DataError(
                f"{counted(len(alone), 'file')} of {len(found[folder])} in {root / folder / part} without a partner in "
                f"{root / other / part}: {listed([found[folder][stem].name for stem in alone])}.\n"
                f"Expected {printable(alone[0])}{ending}.png there. Unpack the archive of {other} again."
            )
    return [Pair(file, found[MASKS][stem], PARTS[part], file.parent.name) for stem, file in found[IMAGES].items()]
