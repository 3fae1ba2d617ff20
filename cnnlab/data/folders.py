"""Data sets that are folders of image files, one sub-folder for each class."""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlab import files
from cnnlab.data.cache import cached
from cnnlab.data.decode import FORMATS, BadImage, read_image
from cnnlab.data.decoder import decoder_versions
from cnnlab.data.source import LazyImages, Source, Split, decoding_threads, notify, with_test_split
from cnnlab.data.tree import ImageTree, read_tree
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

NAMED = 20
"""Number of unreadable files that a remark names."""


def folder(path: PathText, /, *, skip_bad_images: int = 0, max_pixels: Count = 50_000_000) -> Source:
    """Opens the images below `path`, one sub-folder for each class, optionally below train/, test/ and validation/.

    Every file is decoded once to check it (the result is cached, by names, sizes and times). Images are grey if all files
    are, else RGB. Images in sub-folders of a class belong to the class. Every split has the classes of train. Entries that
    start with a dot are ignored; remarks name all others that are not used. Without a test folder the validation images, or
    else a stratified fifth of train, become the test split.

    Args:
        skip_bad_images: largest number of unreadable files that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels: a file of a few kilobytes can decode to gigabytes.
    """
    root = files.absolute(path)
    tree = read_tree(root)
    class_names = tuple(sorted(tree.files["train"]))
    # (split, class, file) of every image; the arrays of `index` are in this order.
    owners = [
        (split, label, file) for split, classes in tree.files.items() for label in sorted(classes) for file in classes[label]
    ]
    paths = [file for _, _, file in owners]
    index = _check(tree, paths, max_pixels)
    name = f"folder:{printable(root.resolve().name)}"
    remarks = tree.remarks(name) + _refuse_bad(name, tree, paths, index.reasons, skip_bad_images)
    good = index.reasons == ""
    channels = 3 if np.any(index.shapes[good, 2] == 3) else 1
    remarks += _conversions(name, tree, paths, index, channels)
    number = {label: position for position, label in enumerate(class_names)}
    splits: dict[str, Split] = {}
    for split in tree.files:
        chosen = [position for position, (owner, _, _) in enumerate(owners) if owner == split and good[position]]
        labels = np.array([number[owners[position][1]] for position in chosen], np.int32)
        images = _lazy([paths[position] for position in chosen], index.at(chosen), channels, max_pixels)
        names = [tree.name_of(paths[position]) for position in chosen]
        splits[split] = Split(dataclasses.replace(images, names=names), labels)
    contents = "\n".join(f"{tree.name_of(paths[position])} {index.digests[position]}" for position in np.flatnonzero(good))
    fingerprint = combined_digest(f"folder {channels}", contents)
    splits, carved = with_test_split(name, splits)
    return Source(name, splits, class_names, fingerprint, (*remarks, *carved))


@dataclasses.dataclass(frozen=True)
class _Index:
    """What checking N files found; a file is as it was found while its size and time are."""

    reasons: np.ndarray
    """Text [N]: why a file cannot be used, or ""."""
    shapes: np.ndarray
    """i32 [N, 3]: (H, W, channels) of each image."""
    digests: np.ndarray
    """Text [N]: SHA-256 of each file."""
    frames: np.ndarray
    """i32 [N]: number of pictures in each file."""
    states: np.ndarray
    """i64 [N, 2]: (size in bytes, time of the last change in ns) of each file; -1 where it is missing."""

    def at(self, positions: Sequence[int]) -> "_Index":
        """Returns the entries at some positions."""
        chosen = np.array(positions, np.int64)
        return _Index(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))


def _state(file: pathlib.Path) -> tuple[int, int]:
    """Returns (size in bytes, time of the last change in ns) of a file; -1 where there is none."""
    try:
        found = file.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _check(tree: ImageTree, paths: Sequence[pathlib.Path], max_pixels: int) -> _Index:
    """Decodes every file once, with a cache."""
    # Reading every file again to see whether it changed would take as long as the check: its size and time stand for it.
    states = [_state(file) for file in paths]
    lines = [f"{tree.name_of(file)} {size} {changed}" for file, (size, changed) in zip(paths, states, strict=True)]
    what = (printable(str(tree.root.resolve())), str(max_pixels), decoder_versions())
    key = f"checked-2-{combined_digest(*what, *lines)[:24]}"

    def check(file: pathlib.Path) -> tuple[str, tuple[int, ...], str, int]:
        try:
            found = read_image(file, max_pixels=max_pixels)
        except BadImage as error:
            return str(error), (0, 0, 0), "", 0
        return "", found.pixels.shape, combined_digest(np.frombuffer(found.data, np.uint8)), found.frames

    def check_all() -> Mapping[str, np.ndarray]:
        notify(f"checking {len(paths)} images below {tree.root} (once) …")
        reported, results = time.monotonic(), []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for result in pool.map(check, paths):
                results.append(result)
                if time.monotonic() - reported > 5:
                    reported = time.monotonic()
                    notify(f"checked {len(results)} of {len(paths)} images")
        reasons, shapes, digests, frames = zip(*results, strict=True)
        numbers = {"shapes": np.array(shapes, np.int32), "frames": np.array(frames, np.int32)}
        return {"reasons": np.array(reasons), "digests": np.array(digests), **numbers}

    found = cached(key, lambda: dict(check_all()))
    return _Index(**found, states=np.array(states, np.int64))


def _refuse_bad(name: str, tree: ImageTree, paths: Sequence[pathlib.Path], reasons: np.ndarray, allowed: int) -> list[str]:
    """Raises DataError where more files are bad than allowed; otherwise returns remarks on those that are left out."""
    wrong = np.flatnonzero(reasons != "").tolist()
    if len(wrong) > allowed:
        found = [f"{paths[position]}: {reasons[position]}" for position in wrong]
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise DataError(
            f"{len(wrong)} of {len(paths)} images cannot be used: {printable('; '.join(found[:3]))}{more}.\n"
            f"Expected whole images of 8 bits per channel ({', '.join(FORMATS)}), but for {allowed} "
            f"(--skip_bad_images={allowed}).\n"
            f"Repair or remove them, or leave them out with --skip_bad_images={len(wrong)}."
        )
    listing = [f"{tree.name_of(paths[position])}: {reasons[position]}" for position in wrong]
    total = f"{len(wrong)} of {counted(len(paths), 'image')}"
    return [f"{name}: {total} cannot be used and are left out: {listed(listing, NAMED)}"] if wrong else []


def _conversions(name: str, tree: ImageTree, paths: Sequence[pathlib.Path], index: _Index, channels: int) -> list[str]:
    """Returns remarks on the files of which only a part is used, and on those that get more channels."""
    remarks = []
    several = np.flatnonzero(index.frames > 1).tolist()
    if several:
        examples = listed([f"{tree.name_of(paths[position])} ({index.frames[position]})" for position in several])
        holds = (
            "file holds several pictures, of which" if len(several) == 1 else "files hold several pictures, of each of which"
        )
        remarks.append(f"{name}: {len(several)} {holds} the first is used: {examples}")
    grey = int(np.sum(index.shapes[index.reasons == "", 2] == 1))
    if channels == 3 and grey:
        remarks.append(f"{name}: {grey} of {len(paths)} images are grey and become RGB, as the others are")
    return remarks


def _lazy(paths: Sequence[pathlib.Path], index: _Index, channels: int, max_pixels: int) -> LazyImages:
    """Returns the checked files as images that are decoded on request, all with the same number of channels."""
    # index.shapes [N, 3] -> the height and the width of all images, or None
    height, width = (
        int(sizes[0]) if len(sizes) and np.all(sizes == sizes[0]) else None
        for sizes in (index.shapes[:, 0], index.shapes[:, 1])
    )
    read = functools.partial(_read, paths, index, channels, max_pixels)
    threads = decoding_threads(height, width)
    return LazyImages(read, len(paths), (height, width, channels), threads, digests=index.digests)


def _read(
    paths: Sequence[pathlib.Path], index: _Index, channels: int, max_pixels: int, positions: list[int]
) -> list[np.ndarray]:
    """Decodes some files to u8 [H, W, C] each; a file that changed since it was checked is a DataError with its path."""
    images = []
    for position in positions:
        path = paths[position]
        try:
            found = read_image(path, max_pixels=max_pixels)
        except BadImage as error:
            raise _changed(path, str(error)) from None
        # A file that was only touched, or copied back, has another time and the same bytes.
        is_same = _state(path) == tuple(index.states[position].tolist())
        if not is_same and combined_digest(np.frombuffer(found.data, np.uint8)) != index.digests[position]:
            raise _changed(path, f"{len(found.data):,} bytes, formerly {index.states[position, 0]:,}")
        pixels = found.pixels
        images.append(np.repeat(pixels, channels, axis=-1) if pixels.shape[-1] != channels else pixels)
    return images


def _changed(path: pathlib.Path, reason: str) -> DataError:
    return DataError(f"{path} changed since it was checked: {reason}.\nRestore it, or start the command again.")
