"""Mask files of a data set: what their pixels hold, which is found once, and how they are read as numbers of classes."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlab.data.cache import cached
from cnnlab.data.checked_files import CheckedFiles
from cnnlab.data.class_table import ClassTable, numbered, packed, unpacked
from cnnlab.data.decode import DecodedImage, opened_file
from cnnlab.data.decoder import decoder_versions
from cnnlab.data.image_files import CheckedImages, ImageFiles, refuse_bad
from cnnlab.data.kinds.mask import IGNORE
from cnnlab.data.source import LazyImages, decoding_threads, notify
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.progress import ProgressLine
from cnnlab.text import counted, listed

MOST_KEYS = 1024
"""Colours of a mask above which it is taken for a photo, or for a file whose compression changed the colours."""
COLOURED = 1 << 24
"""What is added to a packed colour where a mask of numbers shows one, so that it is no number."""
AT_ONCE = 64
"""Number of masks that are read between two updates of the progress line."""


@dataclasses.dataclass(frozen=True)
class Survey:
    """What N masks hold: E pairs of a mask and a key (a colour or a number)."""

    mask: np.ndarray
    """i32 [E]: the number of the mask."""
    key: np.ndarray
    """i32 [E]: packed colour, or number; COLOURED and more: a colour in a mask of numbers."""
    count: np.ndarray
    """i64 [E]: the number of its pixels."""

    def pixels_of_classes(self, masks: int, classes: ClassTable) -> np.ndarray:
        """Returns the number of pixels of each class, and of those that are ignored behind them, i64 [masks, K + 1]."""
        kept = len(classes.names)
        place = np.array([min(classes.keys.get(key, IGNORE), kept) for key in self.key.tolist()], np.int64)
        found = np.zeros((masks, kept + 1), np.int64)
        np.add.at(found, (self.mask, place), self.count)
        return found


def usable_masks(
    name: str,
    paths: Sequence[pathlib.Path],
    names: Sequence[str],
    index: CheckedFiles,
    *,
    skip_bad_images: int,
    max_pixels: int,
) -> CheckedImages:
    """Returns mask files of which `index` says what checking found, or raises DataError where too many cannot be used."""
    remarks = refuse_bad(name, names, paths, index.reasons, skip_bad_images)
    return CheckedImages(paths, names, index, 1, max_pixels, None, tuple(remarks))


def read_keys(path: pathlib.Path, *, by_colour: bool, max_pixels: int) -> tuple[bytes, np.ndarray]:
    """Reads a mask file: its bytes, and for each pixel a key, [H, W]; BadImage says what is wrong with the file.

    A palette gives its colours, or its indices where masks hold numbers. Transparency does not count.
    """
    from PIL import ImageOps

    with opened_file(path, max_pixels) as (data, image):
        image.load()
        turned = ImageOps.exif_transpose(image)
        if by_colour:
            return data, packed(np.asarray(turned.convert("RGB")))
        if turned.mode in ("P", "L", "1"):
            return data, np.asarray(turned).astype(np.uint8)
        if turned.mode in ("LA", "La"):
            return data, np.asarray(turned.getchannel("L"))
        pixels = np.asarray(turned.convert("RGB"))
        is_grey = (pixels[..., 0] == pixels[..., 1]) & (pixels[..., 1] == pixels[..., 2])
        return data, np.where(is_grey, pixels[..., 0], packed(pixels) | COLOURED)


def survey(checked: CheckedImages, *, by_colour: bool) -> Survey:
    """Returns what masks hold, from the cache where they were read before; files that cannot be used have no entry."""
    contents = combined_digest(*checked.index.digests.tolist(), str(by_colour), decoder_versions())
    found = cached(
        f"masks-1-{contents[:24]}",
        lambda: _survey(checked, by_colour=by_colour),
        about=f"what {counted(len(checked.paths), 'mask')} hold",
    )
    return Survey(found["mask"], found["key"], found["count"])


def _survey(checked: CheckedImages, *, by_colour: bool) -> dict[str, np.ndarray]:
    """Reads all masks and counts their keys."""
    good = np.flatnonzero(checked.good).tolist()
    notify(f"reading {counted(len(good), 'mask')} (once) …")

    def count(position: int) -> tuple[np.ndarray, np.ndarray]:
        keys = read_keys(checked.paths[position], by_colour=by_colour, max_pixels=checked.max_pixels)[1]
        if keys.dtype == np.uint8:
            counts = np.bincount(keys.reshape(-1), minlength=256)  # [H, W] -> [256]
            return np.flatnonzero(counts), counts[counts > 0]
        return np.unique(keys, return_counts=True)

    parts: list[tuple[int, np.ndarray, np.ndarray]] = []
    progress = ProgressLine()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(good), AT_ONCE):
            chosen = good[start : start + AT_ONCE]
            for position, (keys, counts) in zip(chosen, pool.map(count, chosen), strict=True):
                if len(keys) > MOST_KEYS:
                    raise DataError(
                        f"{checked.paths[position]} has {len(keys):,} different colours, so it is no mask.\n"
                        "Expected one colour or number for each class. A JPEG changes colours: masks have to be PNG files."
                    )
                parts.append((position, keys, counts))
            progress.show(f"[data] {min(start + AT_ONCE, len(good)):,} of {len(good):,} masks read")
    progress.close()
    sizes = [len(keys) for _, keys, _ in parts]
    return {
        "mask": np.repeat(np.array([position for position, _, _ in parts], np.int32), sizes),
        "key": np.concatenate([np.zeros(0, np.int32), *(keys for _, keys, _ in parts)]).astype(np.int32),
        "count": np.concatenate([np.zeros(0, np.int64), *(counts for _, _, counts in parts)]).astype(np.int64),
    }


def guessed_classes(found: Survey, checked: CheckedImages, root: pathlib.Path) -> tuple[ClassTable, list[str]]:
    """Returns the classes of masks that no file names, and remarks: black and white, or the numbers 0 to K - 1."""
    values = sorted(set(found.key.tolist()))
    if coloured := [value for value in values if value >= COLOURED]:
        mask = int(found.mask[np.flatnonzero(found.key == coloured[0])[0]])
        shown = [",".join(map(str, unpacked(value - COLOURED))) for value in coloured]
        raise DataError(
            f"{checked.paths[mask]} and other masks have {counted(len(coloured), 'colour')}, and no file says what they mean: "
            f"{listed(shown, 6)}.\nExpected masks of numbers, or {root / 'classes.csv'} with a first line name,r,g,b and a row "
            "for each colour; pixels called `unlabeled` do not count."
        )
    name = f"{checked.paths[0].parent.name}/"
    if set(values) <= {0, 255} and 255 in values:
        remark = "without a file of classes: black (0) is `background`, white (255) is `object`"
        return numbered(("background", "object"), (0, 255), "black and white"), [remark]
    largest = max((value for value in values if value != IGNORE), default=0)
    if largest == 0:
        raise DataError(
            f"the masks in {name} hold {listed(values, 3)} alone: one class.\n"
            "Expected two classes at least: 0 and 255, the numbers 0 to K - 1, or colours with a file classes.csv."
        )
    names = ("background", "object") if largest == 1 else tuple(str(number) for number in range(largest + 1))
    ignored = f" and {IGNORE} is ignored" * (IGNORE in values)
    remark = f"without a file of classes: the numbers 0 to {largest} of the masks are the classes{ignored}"
    return numbered(names, range(len(names)), f"0 to {largest}"), [remark]


def check_keys(name: str, found: Survey, checked: CheckedImages, classes: ClassTable, *, ignore_unknown: bool) -> list[str]:
    """Raises DataError where masks show what is no class, unless such pixels are ignored: then a remark counts them."""
    known = np.isin(found.key, np.array(list(classes.keys), np.int64))
    if known.all():
        return []
    unknown = np.flatnonzero(~known)
    first = unknown[int(np.argmax(found.count[unknown]))]
    key, masks = int(found.key[first]), len(set(found.mask[unknown].tolist()))
    total = counted(int(found.count[unknown].sum()), "pixel")
    if ignore_unknown:
        return [f"{name}: {total} of {counted(masks, 'mask')} show no class ({_text(classes, key)}, …) and do not count"]
    near = classes.nearest(key & (COLOURED - 1))
    what = "colour" if classes.by_colour or key >= COLOURED else "number"
    raise DataError(
        f"{checked.paths[int(found.mask[first])]} has {counted(int(found.count[first]), 'pixel')} of the {what} "
        f"{_text(classes, key)}, which is no class ({total} of {counted(masks, 'mask')} show none).\n"
        f"Expected {'colours' if classes.by_colour else 'numbers'} of {classes.file}; the nearest one is "
        f"{classes.text_of(near)}, {classes.shown[near]}.\n"
        "Correct the masks, add a row to the file of classes, or ignore such pixels: --dataset.ignore_unknown."
    )


def _text(classes: ClassTable, key: int) -> str:
    return ",".join(map(str, unpacked(key - COLOURED))) if key >= COLOURED else classes.text_of(key)


@dataclasses.dataclass(frozen=True)
class MaskFiles(ImageFiles):
    """Checked mask files, which are read as numbers of classes u8 [H, W]; a pixel that shows no class is ignored."""

    classes: ClassTable | None = None

    def decoded(self, path: pathlib.Path) -> DecodedImage:
        """Returns the bytes of a file and the class of every pixel, u8 [H, W]."""
        assert self.classes is not None
        data, keys = read_keys(path, by_colour=self.classes.by_colour, max_pixels=self.max_pixels)
        return DecodedImage(data, classes_of(keys, self.classes.keys))

    def as_wanted(self, pixels: np.ndarray) -> np.ndarray:
        """Returns a mask as it is."""
        return pixels


def classes_of(keys: np.ndarray, classes: Mapping[int, int]) -> np.ndarray:
    """Returns the class of each key [H, W], u8 [H, W]; IGNORE where it is none."""
    if keys.dtype == np.uint8:
        table = np.full(256, IGNORE, np.uint8)
        table[list(classes)] = list(classes.values())
        return table[keys]
    known = np.array(sorted(classes), np.int64)
    numbers = np.array([classes[key] for key in known.tolist()], np.uint8)
    place = np.clip(np.searchsorted(known, keys), 0, len(known) - 1)
    return np.where(known[place] == keys, numbers[place], np.uint8(IGNORE))


def masks_at(checked: CheckedImages, positions: Sequence[int], classes: ClassTable, pixels: np.ndarray) -> LazyImages:
    """Returns some of the mask files as masks that are decoded on request.

    Args:
        checked: the files.
        positions: their numbers [M].
        classes: what they show.
        pixels: the number of pixels of each class in every file, i64 [N, K + 1], with those that are ignored last.
    """
    images = checked.at(positions)
    height, width = images.image_shape[:2]
    files = MaskFiles(
        [checked.paths[position] for position in positions],
        checked.index.at(positions),
        checked.channels,
        checked.max_pixels,
        None,
        classes,
    )
    return dataclasses.replace(
        images,
        read=files.read,
        check=files.check,
        image_shape=(height, width),
        threads=decoding_threads(height, width),
        class_counts=pixels[list(positions), :-1],
    )
