"""Data sets in the layout of PASCAL VOC: a file of XML with the objects of each image, and lists of the splits."""

import pathlib
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from cnnlab import files
from cnnlab.data.decode import EXTENSIONS, MAX_PIXELS
from cnnlab.data.kinds import Boxes
from cnnlab.data.object_lists import Limits, Listed, Policy, source_of_lists
from cnnlab.data.source import Source
from cnnlab.data.tree import entries
from cnnlab.errors import DataError, did_you_mean
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

ANNOTATIONS, IMAGES, SETS = "Annotations", "JPEGImages", "ImageSets/Main"
LISTS = {"train": ("train", "trainval"), "validation": ("val",), "test": ("test",)}
"""{split: names of its list in SETS, of which the first that there is counts}; trainval is read where there is no train."""
LAYOUT = f"Expected {ANNOTATIONS}/*.xml and {IMAGES}/*.jpg with equal names, and maybe lists such as {SETS}/train.txt."
SIDES = ("xmin", "ymin", "xmax", "ymax")


def voc(
    path: PathText,
    /,
    *,
    classes: tuple[str, ...] = (),
    zero_based: bool = False,
    bad_boxes: Policy = "clip",
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
) -> Source:
    """Opens the images and boxes of a folder in the layout of PASCAL VOC.

    The lists ImageSets/Main/train.txt (or trainval.txt), val.txt and test.txt are the splits; without them all annotated images
    are train. Corners are numbers of pixels, the first of which is 1, and both belong to the object, as in the VOC devkit.
    Images without an object are kept; objects marked difficult are learned and need not be found.

    Args:
        classes: the classes in their order; empty: all names of objects in the order of the alphabet.
        zero_based: whether corners count from 0 and x = xmax is the right border itself, as many other programs write them.
        bad_boxes: what becomes of a box that reaches beyond its image: it is clipped, dropped, or an error.
        skip_bad_images: largest number of unreadable images that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels.
    """
    root = files.absolute(path)
    for folder in (ANNOTATIONS, IMAGES):
        if not (root / folder).is_dir():
            raise DataError(f"{root} has no folder {folder}.\nFound there: {entries(root)}.\n{LAYOUT}")
    pictures = {file.stem: file for file in sorted((root / IMAGES).iterdir()) if file.suffix.lower() in EXTENSIONS}
    splits, remarks = _splits(root)
    read = [(split, stem, _read(root / ANNOTATIONS / f"{stem}.xml")) for split, stems in splits.items() for stem in stems]
    names = tuple(classes) or tuple(sorted({name for _, _, found in read for name in found["names"]}))
    images = [_listed(root, split, _picture(root, stem, pictures), found, names, zero_based) for split, stem, found in read]
    title = f"voc:{printable(root.resolve().name)}"
    said = [f"{title}: {remark}" for remark in remarks]
    return source_of_lists(title, root, images, Boxes(names), Limits(bad_boxes, skip_bad_images, max_pixels), said)


def _splits(root: pathlib.Path) -> tuple[dict[str, list[str]], list[str]]:
    """Returns {split: names of its images without endings} and remarks; raises DataError where an image is in two splits."""
    found: dict[str, list[str]] = {}
    for split, names in LISTS.items():
        file = next((file for name in names if (file := root / SETS / f"{name}.txt").is_file()), None)
        if file is not None:
            lines = [line.split() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            found[split] = [line[0] for line in lines]  # a list of one class has 1 or -1 behind each name
    stems = sorted(file.stem for file in (root / ANNOTATIONS).glob("*.xml"))
    if "train" not in found:
        if not stems:
            raise DataError(f"{root / ANNOTATIONS} has no *.xml.\nFound there: {entries(root / ANNOTATIONS)}.\n{LAYOUT}")
        held = {stem for listed_here in found.values() for stem in listed_here}
        found = {"train": [stem for stem in stems if stem not in held], **found}
    owner: dict[str, str] = {}
    for split, members in found.items():
        for stem in members:
            if stem in owner:
                raise DataError(
                    f"{root / SETS}: {printable(stem)} is in {owner[stem]} and again in {split}.\n"
                    "Expected each image once, in one list. Remove it from the other."
                )
            owner[stem] = split
    rest = [stem for stem in stems if stem not in owner]
    return found, [f"{counted(len(rest), 'annotation')} in no list not used: {listed(rest)}"] if rest else []


def _picture(root: pathlib.Path, stem: str, pictures: dict[str, pathlib.Path]) -> pathlib.Path:
    """Returns the image of an annotation; a missing one is found to be so when images are checked."""
    return pictures.get(stem, root / IMAGES / f"{stem}.jpg")


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the names, corners, flags and the size of an annotation; raises DataError with the file and the object."""
    tree = _tree(path)
    names, corners, difficult = [], [], []
    for place, one in enumerate(tree.findall("object")):
        where, name, box = f"{path}, object {place}", one.findtext("name"), one.find("bndbox")
        if not (name and name.strip()) or box is None:
            raise DataError(
                f"{where} has no {'bndbox' if name else 'name'}.\nExpected <name> and <bndbox> with {listed(SIDES, 4)}."
            )
        names.append(printable(name.strip()))
        corners.append([_number(box.findtext(side), f"{where} ({names[-1]}): {side}") for side in SIDES])
        difficult.append((one.findtext("difficult") or "0").strip() == "1")
    size = [(tree.findtext(f"size/{side}") or "").strip() for side in ("height", "width")]
    known = all(side.isdecimal() and int(side) for side in size)  # many programs write 0 for a size that they do not know
    return {
        "path": path,
        "names": names,
        "corners": np.array(corners, np.float64).reshape(-1, 4),  # m of [4] -> [m, 4]
        "difficult": np.array(difficult, bool),
        "size": (int(size[0]), int(size[1])) if known else None,
    }


def _tree(path: pathlib.Path) -> Element:
    """Returns the tree of a file of XML. A file that declares a type of document, and so may define entities, is refused.

    Entities that contain each other can take all memory, and external ones read other files.
    """
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise DataError(
            f"{path} declares a type of document (DOCTYPE), which annotations do not need.\nRemove the declaration."
        )

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.\n{LAYOUT}") from None
    except expat.ExpatError as error:
        raise DataError(
            f"{path} is no whole file of XML: {error}.\nExpected an annotation of VOC. Get the file again."
        ) from None
    except (ValueError, LookupError) as error:
        raise DataError(f"{path} has an encoding that cannot be read: {error}.\nSave it as UTF-8.") from None
    return builder.close()


def _number(text: str | None, where: str) -> float:
    """Returns the number that a text is; raises DataError for any other text."""
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{where} is {printable(repr(text))}.\nExpected a number of pixels.") from None


def _listed(
    root: pathlib.Path, split: str, picture: pathlib.Path, found: dict[str, Any], names: tuple[str, ...], zero_based: bool
) -> Listed:
    """Returns an image with its objects; raises DataError for a name that is no class."""
    for name in found["names"]:
        if name not in names:
            raise DataError(
                f"{found['path']}: an object is called {name}, which is no class.{did_you_mean(name, list(names))}\n"
                f"Expected one of --dataset.classes={','.join(names)}."
            )
    # Pixel 1 to pixel 1 is one pixel wide: from 0 to 1.
    corners = found["corners"] - ([0, 0, 0, 0] if zero_based else [1, 1, 0, 0])
    label = np.array([names.index(name) for name in found["names"]], np.int32)
    return Listed(
        picture,
        printable(picture.relative_to(root).as_posix()),
        split,
        str(found["path"]),
        found["size"],
        corners.astype(np.float32),
        label,
        {"difficult": found["difficult"]},
    )
