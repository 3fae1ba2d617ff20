"""Data sets that are folders of image files, one sub-folder for each class."""

import functools
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.decode import EXTENSIONS, BadImage, read_image
from cnnlab.data.source import LazyImages, Source, Split, decoding_threads, notify, with_test_split
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.values import Count, PathText

SPLITS = ("train", "validation", "test")
TREE = (
    "Expected PATH/CLASS/image.png, or PATH/train/CLASS/image.png with PATH/test/… and PATH/validation/… beside it; "
    f"images end in {', '.join(EXTENSIONS)}."
)


def folder(path: PathText, /, *, skip_bad_images: int = 0, max_pixels: Count = 50_000_000) -> Source:
    """Opens the images below `path`, one sub-folder for each class, optionally below train/, test/ and validation/.

    Every file is decoded once to check it (the result is cached, by names, sizes and times). Images are grey if all files
    are, else RGB. Sub-folders and files that start with a dot are ignored; a test or validation class must exist in train.
    Without a test folder a stratified fifth of train becomes the test split.

    Args:
        skip_bad_images: largest number of unreadable files that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels: a file of a few kilobytes can decode to gigabytes.
    """
    root = pathlib.Path(path).expanduser()
    tree = _tree(root)
    class_names = tuple(sorted(tree["train"]))
    # (split, class, file) of every image; `bad`, `shapes` and `digests` below are in this order.
    files = [(split, label, file) for split, classes in tree.items() for label in sorted(classes) for file in classes[label]]
    bad, shapes, digests = _check(root, [file for _, _, file in files], max_pixels)
    _refuse_bad(root, [file for _, _, file in files], bad, skip_bad_images)
    good = bad == ""
    channels = 3 if np.any(shapes[good, 2] == 3) else 1
    number = {label: position for position, label in enumerate(class_names)}
    splits: dict[str, Split] = {}
    for split in tree:
        chosen = [position for position, (owner, _, _) in enumerate(files) if owner == split and good[position]]
        labels = np.array([number[files[position][1]] for position in chosen], np.int32)
        paths = [files[position][2] for position in chosen]
        splits[split] = Split(_lazy(paths, shapes[chosen], channels, max_pixels), labels)
    names = [file.relative_to(root).as_posix() for _, _, file in files]
    contents = "\n".join(f"{names[position]} {digests[position]}" for position in np.flatnonzero(good))
    fingerprint = combined_digest(f"folder {channels}", contents)
    name = f"folder:{root.resolve().name}"
    return Source(name, with_test_split(name, splits), class_names, fingerprint)


def _tree(root: pathlib.Path) -> dict[str, dict[str, list[pathlib.Path]]]:
    """Returns {split: {class: image files, sorted}}, or raises DataError with what was found instead."""
    if not root.is_dir():
        near = root.parent
        raise DataError(f"no folder {root}.\nFound in {near}: {_entries(near)}.\n{TREE}")
    # Folders named by splits count as splits only beside `train`: otherwise `test` may be the name of a class.
    tops = {entry.name: entry for entry in _visible(root) if entry.is_dir()}
    parts = {split: tops[split] for split in SPLITS if split in tops} if "train" in tops else {"train": root}
    tree = {}
    for split, part in parts.items():
        listed = {entry.name: _images(entry) for entry in _visible(part) if entry.is_dir()}
        tree[split] = {label: files for label, files in listed.items() if files}
    if len(tree["train"]) < 2:
        count, part = len(tree["train"]), parts["train"]
        raise DataError(
            f"{part} has images of {count} class{'' if count == 1 else 'es'}; at least 2 are needed.\n"
            f"Found in {part}: {_entries(part)}.\n{TREE}"
        )
    for split, classes in tree.items():
        unknown = sorted(set(classes) - set(tree["train"]))
        if unknown:
            raise DataError(
                f"{parts[split]} has classes that {parts['train']} lacks: {', '.join(unknown[:5])}.\n"
                f"Expected only {', '.join(sorted(tree['train'])[:10])}. Rename or remove the other folders."
            )
    return tree


def _visible(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))


def _images(path: pathlib.Path) -> list[pathlib.Path]:
    return [entry for entry in _visible(path) if entry.suffix.lower() in EXTENSIONS and entry.is_file()]


def _entries(path: pathlib.Path) -> str:
    """Lists the first entries of a folder, for an error."""
    names = [entry.name + "/" * entry.is_dir() for entry in _visible(path)] if path.is_dir() else []
    return f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}" if names else "nothing"


def _check(root: pathlib.Path, files: Sequence[pathlib.Path], max_pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decodes every file once, with a cache: (reason or "" [N], (H, W, channels) i32 [N, 3], SHA-256 of the file [N])."""
    # Reading every file again to see whether it changed would take as long as the check: its size and time stand for it.
    states = [f"{file.relative_to(root)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    key = f"checked-{combined_digest(str(root.resolve()), str(max_pixels), *states)[:24]}"

    def check(file: pathlib.Path) -> tuple[str, tuple[int, ...], str]:
        try:
            data, pixels = read_image(file, max_pixels=max_pixels)
        except BadImage as error:
            return str(error), (0, 0, 0), ""
        return "", pixels.shape, combined_digest(np.frombuffer(data, np.uint8))

    def check_all() -> Mapping[str, np.ndarray]:
        notify(f"checking {len(files)} images below {root} (once) …")
        reported, results = time.monotonic(), []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for result in pool.map(check, files):
                results.append(result)
                if time.monotonic() - reported > 5:
                    reported = time.monotonic()
                    notify(f"checked {len(results)} of {len(files)} images")
        bad, shapes, digests = zip(*results, strict=True)
        return {"bad": np.array(bad), "shapes": np.array(shapes, np.int32), "digests": np.array(digests)}

    found = cached(key, lambda: dict(check_all()))
    return found["bad"], found["shapes"], found["digests"]


def _refuse_bad(root: pathlib.Path, files: Sequence[pathlib.Path], bad: np.ndarray, allowed: int) -> None:
    """Raises DataError where more files are bad than allowed; otherwise prints which are left out."""
    wrong = np.flatnonzero(bad != "").tolist()
    listed = [f"{files[position]}: {bad[position]}" for position in wrong]
    if len(wrong) > allowed:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise DataError(
            f"{len(wrong)} of {len(files)} images cannot be used: {'; '.join(listed[:3])}{more}.\n"
            f"Expected PNG, JPEG, WebP or BMP files of 8 bits per channel, but for {allowed} (--skip_bad_images={allowed}).\n"
            f"Repair or remove them, or leave them out with --skip_bad_images={len(wrong)}."
        )
    for line in listed:
        notify(f"left out: {line}")


def _lazy(paths: Sequence[pathlib.Path], shapes: np.ndarray, channels: int, max_pixels: int) -> LazyImages:
    """Returns the checked files as images that are decoded on request, all with the same number of channels."""
    height, width = (
        int(sizes[0]) if len(sizes) and np.all(sizes == sizes[0]) else None for sizes in (shapes[:, 0], shapes[:, 1])
    )
    read = functools.partial(_read, paths, channels, max_pixels)
    return LazyImages(read, len(paths), (height, width, channels), decoding_threads(height, width))


def _read(paths: Sequence[pathlib.Path], channels: int, max_pixels: int, positions: list[int]) -> list[np.ndarray]:
    return [_decode(paths[position], channels, max_pixels) for position in positions]


def _decode(path: pathlib.Path, channels: int, max_pixels: int) -> np.ndarray:
    """Decodes one file to u8 [H, W, C]; a file that has become bad since it was checked is a DataError with its path."""
    try:
        pixels = read_image(path, max_pixels=max_pixels)[1]
    except BadImage as error:
        raise DataError(f"{path} changed since it was checked: {error}.\nRestore it, or start the command again.") from None
    return np.repeat(pixels, channels, axis=-1) if pixels.shape[-1] != channels else pixels
