"""The skin lesions of ISIC 2018, task 3, in the layout in which the challenge hands them out."""

import pathlib

import numpy as np

from cnnlab import files
from cnnlab.data.csv_files import YES, Table, files_named, known_column, numbers_of, read_table
from cnnlab.data.decode import MAX_PIXELS
from cnnlab.data.image_files import checked_images
from cnnlab.data.kinds import Image, Label, Name
from cnnlab.data.source import Source, Split, with_test_split
from cnnlab.data.tree import entries
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""The columns of the ground truth in their order: melanoma, nevus, basal cell carcinoma, actinic keratosis, benign keratosis,
dermatofibroma, vascular lesion (Tschandl, Rosendahl and Kittler 2018, arXiv 1803.10417, table 1)."""
PARTS = {"train": "Training", "validation": "Validation", "test": "Test"}
"""{split: word in the names of the challenge's files}."""
PREFIX = "ISIC2018_Task3"


def isic(
    path: PathText,
    /,
    *,
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
    draft: Count | None = None,
) -> Source:
    """Opens the images of ISIC 2018, task 3, below `path`, with one of seven diagnoses each.

    There are folders ISIC2018_Task3_Training_Input, …_Validation_Input and …_Test_Input of JPEGs, and files
    ISIC2018_Task3_Training_GroundTruth.csv and so on, with a column of 0 and 1 for each diagnosis. Where
    ISIC2018_Task3_Training_LesionGroupings.csv is there too, no division cuts the images of a lesion. Only the training part
    must be there; a part without ground truth is left out.

    Args:
        skip_bad_images: largest number of unreadable files that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels.
        draft: JPEGs are decoded at a part of their size where both sides keep this many pixels; none: they are decoded whole.
    """
    root = files.absolute(path)
    tables = {split: _table(root, f"{PREFIX}_{word}_GroundTruth.csv") for split, word in PARTS.items()}
    if tables["train"] is None:
        raise DataError(
            f"{root} has no {PREFIX}_Training_GroundTruth.csv.\nFound there: {entries(root)}.\n"
            f"Expected it and the folder {PREFIX}_Training_Input, as the challenge hands them out."
        )
    name, lesions = f"isic:{printable(root.resolve().name)}", _lesions(root)
    remarks = [] if lesions else [f"{name}: no file of lesion groupings, so a division may part the images of one lesion"]
    splits: dict[str, Split] = {}
    digests: list[str] = []
    for split, table in tables.items():
        if table is None:
            continue
        images = _folder(root, f"{PREFIX}_{PARTS[split]}_Input", table)
        paths = files_named(table, known_column(table, "image", "file"), images)
        names = table.cells("image")
        checked = checked_images(
            name, images, paths, names, skip_bad_images=skip_bad_images, max_pixels=max_pixels, draft=draft
        )
        good = [row for row, is_good in enumerate(checked.good) if is_good]
        columns = {"label": _labels(table)[good]}
        if lesions:  # images of another part, or without a lesion, are groups of their own
            columns["group"] = np.array([lesions.get(names[row], names[row]) for row in good])
        splits[split] = Split({"image": checked.at(good), **columns})
        digests += [checked.fingerprint, table.digest]
        remarks += checked.remarks
    absent = [split for split, table in tables.items() if table is None]
    remarks += [f"{name}: no ground truth of {listed(absent)}"] if absent else []
    splits, carved = with_test_split(name, splits)
    kinds = {"image": Image(), "label": Label(CLASSES), **({"group": Name()} if lesions else {})}
    return Source(name, splits, kinds, combined_digest(*digests, str(sorted(lesions.items()))), (*remarks, *carved))


def _table(root: pathlib.Path, name: str) -> Table | None:
    """Returns the table of a file at or one folder below the root; None where there is none."""
    found = _below(root, name)
    return read_table(found) if found else None


def _below(root: pathlib.Path, name: str) -> pathlib.Path | None:
    """Returns the file or folder of a name at the root, or in one of its folders; None where there is none."""
    return next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.exists()), None)


def _folder(root: pathlib.Path, name: str, table: Table) -> pathlib.Path:
    """Returns the folder of a part's images; raises DataError where it is missing."""
    found = _below(root, name)
    if found is None or not found.is_dir():
        raise DataError(
            f"{root} has no folder {name}, where the {counted(len(table.rows), 'image')} of {table.path.name} should be.\n"
            f"Found there: {entries(root)}. Unpack {name}.zip there."
        )
    return found


def _labels(table: Table) -> np.ndarray:
    """Returns the number of the diagnosis of each row, i32 [N]; raises DataError for a row without exactly one."""
    columns = [numbers_of(table, known_column(table, name, "labels"), YES) for name in CLASSES]
    marks = np.stack(columns, axis=1)  # K of [N] -> [N, K]
    wrong = np.flatnonzero(marks.sum(axis=1) != 1)
    if len(wrong):
        shown = [f"line {table.lines[row]}: {int(marks[row].sum())} of {len(CLASSES)}" for row in wrong]
        raise DataError(
            f"{table.path}: {counted(len(wrong), 'row')} without exactly one diagnosis: {listed(shown, 3)}.\n"
            f"Expected one 1 among the columns {', '.join(CLASSES)}."
        )
    return np.argmax(marks, axis=1).astype(np.int32)


def _lesions(root: pathlib.Path) -> dict[str, str]:
    """Returns {image: its lesion}; {} where there is no file of groupings."""
    table = _table(root, f"{PREFIX}_Training_LesionGroupings.csv")
    if table is None:
        return {}
    images, lesions = (table.cells(known_column(table, name, "group")) for name in ("image", "lesion_id"))
    return dict(zip(images, lesions, strict=True))
