"""Data sets whose boxes are in a file of COCO's instances: images, annotations and categories in JSON."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnlab import files
from cnnlab.data.decode import MAX_PIXELS
from cnnlab.data.kinds import Boxes
from cnnlab.data.object_lists import Limits, Listed, Policy, source_of_lists
from cnnlab.data.source import Source
from cnnlab.data.tree import entries
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

EXPECTED = (
    'Expected the JSON of COCO\'s instances: "images" with id and file_name, "annotations" with id, image_id, category_id and '
    'bbox [x, y, width, height], "categories" with id and name.'
)
FIELDS = {
    "images": {"id": int, "file_name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}
"""{list: {what each of its entries has: its type}}."""


def coco(
    path: PathText,
    /,
    *,
    validation: PathText | None = None,
    test: PathText | None = None,
    image_folder: PathText | None = None,
    bad_boxes: Policy = "clip",
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
) -> Source:
    """Opens the images and boxes of a file of COCO's instances.

    Classes are the categories in the order of their numbers, which may be any; results for COCO have these numbers. Images
    without an annotation are kept. A box without an area is left out and counted. Where `iscrowd` is 1, an object is a crowd:
    it is no object to learn or to miss. By its `area`, that of its mask, metrics tell whether it is small. Masks and key
    points are not read.

    Args:
        validation: the file of the validation split; none: a share of train, by --validation.
        test: the file of the test split; none: the validation split, or else a fifth of train.
        image_folder: folder of all images; none: for each file its own folder, the folder images in it or beside it, or,
            as COCO has it, train2017 beside the folder of instances_train2017.json.
        bad_boxes: what becomes of a box that reaches beyond its image: it is clipped, dropped, or an error.
        skip_bad_images: largest number of unreadable images that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels.
    """
    chosen = {"train": path, "validation": validation, "test": test}
    parts = {split: _read(files.absolute(given)) for split, given in chosen.items() if given is not None}
    first = parts["train"]
    for part in parts.values():
        if part.categories != first.categories:
            raise DataError(
                f"{part.path} has other categories than {first.path}: {_categories(part)} and {_categories(first)}.\n"
                "Expected the same numbers and names in the files of all splits. Write them alike."
            )
    folder = files.absolute(image_folder) if image_folder else None
    entries_of = [one for split, part in parts.items() for one in _listed(part, split, folder, first.path.parent)]
    _require_once(entries_of)
    kind = Boxes(tuple(first.categories.values()), published=tuple(first.categories))
    name = f"coco:{printable(first.path.stem)}"
    return source_of_lists(name, first.path.parent, entries_of, kind, Limits(bad_boxes, skip_bad_images, max_pixels))


@dataclasses.dataclass(frozen=True)
class _File:
    """The checked content of one file of annotations."""

    path: pathlib.Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    """{number: name}, by number."""


def _read(path: pathlib.Path) -> _File:
    """Returns the content of a file; raises DataError where it is not what COCO's tools read, with the entry."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.\nFound in {path.parent}: {entries(path.parent)}.\n{EXPECTED}"
        ) from None
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise DataError(f"{path} is no whole file of JSON: {error}.\n{EXPECTED}\nGet the file again.") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in FIELDS):
        found = f"an object with {listed(content, 8)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise DataError(f"{path} holds {found}.\n{EXPECTED}")
    for part, fields in FIELDS.items():
        _check_entries(path, part, content[part], fields)
    categories = {one["id"]: printable(one["name"]) for one in sorted(content["categories"], key=lambda one: one["id"])}
    if not categories or len(set(categories.values())) < len(categories):
        reason = "two categories have one name" if categories else "there is no category"
        raise DataError(f"{path}: {reason}: {listed(categories.values(), 10)}.\n{EXPECTED}")
    _check_numbers(path, content["annotations"], "image_id", {one["id"] for one in content["images"]}, "image")
    _check_numbers(path, content["annotations"], "category_id", set(categories), "category")
    return _File(path, content["images"], content["annotations"], categories)


def _check_entries(path: pathlib.Path, part: str, found: Sequence[Any], fields: dict[str, type]) -> None:
    """Raises DataError for an entry that lacks a field, has one of another type, or a number that an earlier one has."""
    known: set[int] = set()
    for place, one in enumerate(found):
        where = f"{path}: {part}[{place}]"
        if not isinstance(one, dict):
            raise DataError(f"{where} is a {type(one).__name__}.\n{EXPECTED}")
        for field, kind in fields.items():
            # True is an int in Python, and no number in JSON.
            if not isinstance(one.get(field), kind) or isinstance(one[field], bool):
                raise DataError(f"{where}: {field} is {json.dumps(one.get(field)):.60}, no {kind.__name__}.\n{EXPECTED}")
        if one["id"] in known:
            raise DataError(f"{where}: an earlier entry has its id {one['id']}, too.\nExpected a number of its own for each.")
        known.add(one["id"])
        numbers = one["bbox"] if part == "annotations" else [0.0] * 4
        if len(numbers) != 4 or not all(_is_number(each) for each in numbers):
            raise DataError(f"{where} (id {one['id']}): bbox is {json.dumps(numbers):.80}.\nExpected [x, y, width, height].")
        area = one.get("area", 0.0) if part == "annotations" else 0.0
        if not _is_number(area) or area < 0:
            raise DataError(f"{where} (id {one['id']}): area is {json.dumps(area):.80}.\nExpected a number of square pixels.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_numbers(path: pathlib.Path, annotations: Sequence[Any], field: str, known: set[int], what: str) -> None:
    """Raises DataError for annotations of an image or a category that the file does not list."""
    wrong = [one for one in annotations if one[field] not in known]
    if wrong:
        raise DataError(
            f"{path}: annotation {wrong[0]['id']} has {field} {wrong[0][field]}, and there is no such {what} "
            f"({counted(len(wrong), 'such annotation')}).\nExpected one of the {counted(len(known), 'id')} of the file's list, "
            f"{listed(sorted(known), 8)}. Add the {what}, or remove the annotations."
        )


def _listed(part: _File, split: str, folder: pathlib.Path | None, root: pathlib.Path) -> list[Listed]:
    """Returns the images of a file with their objects; names are paths from the root."""
    folder = folder or _folder(part)
    numbers = {category: number for number, category in enumerate(part.categories)}
    objects: dict[int, list[dict[str, Any]]] = {one["id"]: [] for one in part.images}
    for annotation in part.annotations:
        objects[annotation["image_id"]].append(annotation)
    has_area = any("area" in annotation for annotation in part.annotations)
    found = []
    for image in part.images:
        own = objects[image["id"]]
        boxes = np.array([one["bbox"] for one in own], np.float64).reshape(-1, 4)  # m of [4] -> [m, 4]
        # A negative side would hide in the sum; it is no area, and is counted with those.
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
        label = np.array([numbers[one["category_id"]] for one in own], np.int32)
        crowd = np.array([bool(one.get("iscrowd", 0)) for one in own], bool)
        height, width = (image.get(side) or 0 for side in ("height", "width"))
        size = (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None
        file, where = folder / image["file_name"], f"image {image['id']} of {part.path}"
        # With its folder: files of one name in the folders of two splits differ.
        name = printable(pathlib.Path(os.path.relpath(file, root)).as_posix())
        area = np.array([one.get("area", one["bbox"][2] * one["bbox"][3]) for one in own], np.float32) if has_area else None
        found.append(Listed(file, name, split, where, size, corners, label, {"crowd": crowd}, area))
    return found


def _folder(part: _File) -> pathlib.Path:
    """Returns the folder in which the first image of a file is; DataError where it is in none of the usual ones."""
    above = part.path.parent
    tried = [above, above / "images", above.parent / part.path.stem.rpartition("_")[2], above.parent / "images"]
    first = part.images[0]["file_name"] if part.images else ""
    found = next((folder for folder in tried if (folder / first).is_file()), None)
    if found is None:
        reason = f"its first image, {printable(first)}, is in none of {listed(tried, 4)}" if first else "it lists no image"
        raise DataError(f"{part.path}: {reason}.\nExpected image files. Name their folder with --dataset.image_folder=FOLDER.")
    return found


def _require_once(images: Sequence[Listed]) -> None:
    """Raises DataError where an image is listed twice: it may be in two splits."""
    earlier: dict[pathlib.Path, Listed] = {}
    for one in images:
        if (other := earlier.setdefault(one.path, one)) is not one:
            raise DataError(
                f"{one.path} is listed twice: as {other.source} ({other.split}) and as {one.source} ({one.split}).\n"
                "Expected each image once, in one split. Remove one of the entries."
            )


def _categories(part: _File) -> str:
    return listed([f"{number} {name}" for number, name in part.categories.items()], 4)
