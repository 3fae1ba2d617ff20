"""Finds the images of `--images`: folders, files, arrays of an .npz, paths from standard input. Imports no jax."""

import dataclasses
import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cnnlab import files
from cnnlab.data.decode import EXTENSIONS
from cnnlab.data.npz_files import unlabelled_images
from cnnlab.data.tree import ImageTree, images_below
from cnnlab.errors import DataError, UsageError
from cnnlab.text import counted

STANDARD_INPUT = "-"
ARCHIVE = ".npz"


@dataclasses.dataclass(frozen=True)
class Found:
    """One image that is to be predicted."""

    name: str
    """Its path as it was given, or its place in an archive, `FILE.npz[7]`."""
    place: str
    """Its path below the folder that was given, with that folder where several were; there a picture of it is written."""
    source: pathlib.Path | np.ndarray
    """The file, or the image u8 or f32 [H, W, C]."""


@dataclasses.dataclass(frozen=True)
class FoundImages:
    """The images that are to be predicted, in order."""

    images: Iterable[Found]
    """Can be gone through once."""
    count: int | None
    """Their number; None: it is not known before the end, as of standard input."""
    remarks: tuple[str, ...]
    """Sentences on what was found, and on what was left out."""


def find_images(given: Sequence[str]) -> FoundImages:
    """Returns the images that are named on the command line; raises UsageError where a name is no file and no folder.

    Args:
        given: the values of --images: a folder (any depth), an image file, FILE.npz, FILE.npz:ARRAY, several of these separated
            by commas, or `-` for paths from standard input, one a line.
    """
    names = [name for text in given for name in _names(text)]
    parts = [_find_one(name) if len(names) == 1 else _with_folder(_find_one(name), name) for name in names]
    if not parts:
        raise UsageError("--images is empty.\nGive a folder, files, an .npz of images, or - for paths from standard input.")
    counts = [part.count for part in parts]
    known = [count for count in counts if count is not None]
    return FoundImages(
        itertools.chain.from_iterable(part.images for part in parts),
        sum(known) if len(known) == len(counts) else None,
        tuple(remark for part in parts for remark in part.remarks),
    )


def _names(text: str) -> list[str]:
    """Returns the names in one value of --images, separated by commas unless a file has the whole text for its name."""
    if text == STANDARD_INPUT or (text and files.expand_home(text).exists()):
        return [text]
    return [name.strip() for name in text.split(",") if name.strip()]


def _with_folder(found: FoundImages, name: str) -> FoundImages:
    """Returns images that are told apart from those of other folders and files by the whole path that was given."""
    if name == STANDARD_INPUT:
        return found
    path = pathlib.Path(name)
    folder = path if files.expand_home(name).is_dir() else path.parent
    images = (dataclasses.replace(one, place="/".join([*_named_parts(folder), one.place])) for one in found.images)
    return dataclasses.replace(found, images=images)


def _named_parts(path: pathlib.Path) -> list[str]:
    """Returns the parts of a path that may be folders below another one."""
    return [part for part in path.parts if part not in (path.anchor, "..")]


def _find_one(name: str) -> FoundImages:
    """Returns the images of one folder, file or archive, or of standard input."""
    if name == STANDARD_INPUT:
        return FoundImages(_from_lines(sys.stdin), None, ())
    path, key = files.expand_home(name), None
    if not path.exists() and f"{ARCHIVE}:" in name:
        before, _, key = name.rpartition(":")
        path = files.expand_home(before)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise UsageError(f"--images={name}: there is no such file or folder.\nGive the path of one that there is.")
    if path.suffix.lower() == ARCHIVE:
        return _in_archive(path, key)
    return FoundImages([Found(str(path), path.name, path)], 1, ())


def _in_folder(folder: pathlib.Path) -> FoundImages:
    """Returns the images in any depth below a folder; raises DataError where there are none."""
    tree = ImageTree(folder)
    paths = images_below(tree, folder)
    left_out = tree.omissions(str(folder))
    if not paths:
        found = "\n".join(left_out) or "It holds no visible file."
        raise DataError(f"{folder} holds no images, which end in {', '.join(EXTENSIONS)}.\n{found}")
    folders = len({path.parent for path in paths})
    remark = f"{folder}: {counted(len(paths), 'image')}" + (f" in {folders:,} folders" if folders > 1 else "")
    images = (Found(str(path), tree.name_of(path), path) for path in paths)
    return FoundImages(images, len(paths), (remark, *left_out))


def _in_archive(file: pathlib.Path, key: str | None) -> FoundImages:
    """Returns the images of an .npz file."""
    images, remarks = unlabelled_images(file, key)
    names = (f"[{number}]" for number in range(len(images)))
    found = (Found(f"{file}{name}", f"{file.name}{name}", image) for name, image in zip(names, images, strict=True))
    return FoundImages(found, len(images), (f"{file}: {counted(len(images), 'image')}", *remarks))


def _from_lines(lines: Iterable[str]) -> Iterator[Found]:
    """Yields the images whose paths are lines of text; empty lines are passed over."""
    for line in lines:
        if name := line.rstrip("\r\n"):
            path = pathlib.Path(name)
            yield Found(name, "/".join(_named_parts(path)), path)
