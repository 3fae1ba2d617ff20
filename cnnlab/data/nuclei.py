"""Cell nuclei of the Data Science Bowl 2018, in the layout of its stage 1: one file for the mask of each nucleus."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cnnlab import files
from cnnlab.data.cache import cached
from cnnlab.data.checked_files import check_files
from cnnlab.data.decode import MAX_PIXELS, DecodedImage
from cnnlab.data.image_files import CheckedImages, ImageFiles, usable_images
from cnnlab.data.kinds import Boxes, Image, InstanceMasks, Kind, Label, Mask
from cnnlab.data.kinds.kind import Values
from cnnlab.data.mask_files import read_keys, usable_masks
from cnnlab.data.scenes import corners_of
from cnnlab.data.source import LazyImages, Source, Split, notify
from cnnlab.data.tree import entries
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

BELOW = "stage1_train"
"""Folder of the archive, which may be left out."""
TEST_SHARE = 4
"""One image of four is a test image: 40 of 160."""
CLASSES, MODALITIES = ("background", "nucleus"), ("fluorescence", "histology")
"""Classes of pixels, and kinds of images: grey ones are fluorescence, coloured ones stained tissue."""
BRIGHT = 127
"""Grey level above which a pixel of a mask belongs to the nucleus."""


def nuclei(
    path: PathText,
    /,
    *,
    instances: bool = False,
    max_pixels: Count = MAX_PIXELS,
) -> Source:
    """Opens microscope images with the class of every pixel, background or nucleus, from folders ID/images and ID/masks.

    This is the layout of stage 1 of the Data Science Bowl 2018 (Caicedo et al. 2019, Nature Methods 16), below `path` or in its
    folder stage1_train. A mask is the union of its nuclei; brought to --image_size, a pixel is a nucleus where half of its area
    is. The column `label` says whether an image is fluorescence (grey) or histology (coloured). Of the sorted images the
    first quarter of `numpy.random.default_rng(0).permutation(N)` is the test split.

    Args:
        instances: whether there are also boxes around the nuclei, `objects`, and a mask of each, `instances`.
        max_pixels: size of the largest image that is decoded, in pixels.
    """
    found = _read_folders(files.absolute(path), max_pixels)
    about = _surveyed(found)
    kinds: dict[str, Kind] = {"image": Image(), "segmentation": Mask(CLASSES, by_area=True), "label": Label(MODALITIES)}
    if instances:
        kinds |= {"objects": Boxes(CLASSES[1:]), "instances": InstanceMasks()}
    order = np.random.default_rng(0).permutation(len(found.images.paths))
    size = max(1, len(order) // TEST_SHARE)
    splits = {}
    for split, chosen in (("train", np.sort(order[size:])), ("test", np.sort(order[:size]))):
        columns: dict[str, Values] = {
            "image": found.images.at(chosen.tolist()),
            "segmentation": found.union(chosen, about["pixels"]),
            "label": about["coloured"][chosen].astype(np.int32),
        }
        if instances:
            valid = np.arange(found.most) < np.array(found.counts)[chosen, None]  # [M] < [n, 1] -> [n, M]
            columns["objects"] = {"corners": about["corners"][chosen], "label": np.zeros(valid.shape, np.int32), "valid": valid}
            columns["instances"] = found.instances(chosen)
        splits[split] = Split(columns)
    fingerprint = combined_digest("nuclei", found.images.fingerprint, found.masks.fingerprint)
    return Source(found.name, splits, kinds, fingerprint, (*found.images.remarks,))


@dataclasses.dataclass(frozen=True)
class _Folders:
    """N images and the masks of their nuclei, checked."""

    name: str
    images: CheckedImages
    masks: CheckedImages
    """The masks of all images, one image after another."""
    counts: Sequence[int]
    """The number of masks of each image."""

    @property
    def most(self) -> int:
        """Largest number of nuclei in an image."""
        return max(self.counts)

    def masks_of(self, image: int) -> list[int]:
        """Returns the positions of the masks of an image."""
        start = sum(self.counts[:image])
        return list(range(start, start + self.counts[image]))

    def union(self, chosen: np.ndarray, pixels: np.ndarray) -> LazyImages:
        """Returns the semantic masks of some images, u8 [H, W] each, with their pixels of the classes, i64 [N, 2]."""
        return dataclasses.replace(self._lazily(chosen, stacked=False), class_counts=pixels[chosen])

    def instances(self, chosen: np.ndarray) -> LazyImages:
        """Returns the masks of the nuclei of some images, u8 [M, H, W] each, padded with zeros."""
        return self._lazily(chosen, stacked=True)

    def _lazily(self, chosen: np.ndarray, *, stacked: bool) -> LazyImages:
        images = self.images.at(chosen.tolist())
        own = [self.masks_of(image) for image in chosen.tolist()]
        reader = _NucleusFiles(self.masks.paths, self.masks.index, 1, self.masks.max_pixels, None)
        digests = np.array([combined_digest(*self.masks.index.digests[masks].tolist()) for masks in own])

        def read(positions: list[int]) -> list[np.ndarray]:
            found = [np.stack(reader.read(own[position])) for position in positions]  # of [m, H, W]
            if not stacked:
                return [masks.max(axis=0) for masks in found]
            return [np.pad(masks, ((0, self.most - len(masks)), (0, 0), (0, 0))) for masks in found]

        def check(positions: list[int]) -> None:
            reader.check([mask for position in positions for mask in own[position]])

        shape = ((self.most,) if stacked else ()) + images.image_shape[:2]
        return dataclasses.replace(images, read=read, check=check, image_shape=shape, digests=digests)


@dataclasses.dataclass(frozen=True)
class _NucleusFiles(ImageFiles):
    """Files of nuclei, white on black, which are read as 0 and 1, u8 [H, W]."""

    def decoded(self, path: pathlib.Path) -> DecodedImage:
        """Returns the bytes of a file and whether each pixel belongs to the nucleus."""
        data, keys = read_keys(path, by_colour=False, max_pixels=self.max_pixels)
        # A mask of one bit, or of the numbers 0 and 1, has no value above BRIGHT.
        return DecodedImage(data, (keys > (BRIGHT if keys.max() > 1 else 0)).astype(np.uint8))

    def as_wanted(self, pixels: np.ndarray) -> np.ndarray:
        """Returns a mask as it is."""
        return pixels


def _read_folders(root: pathlib.Path, max_pixels: int) -> _Folders:
    """Returns the checked files below a folder; DataError where it has not the layout, or an image no mask."""
    name = f"nuclei:{printable(root.resolve().name)}"
    root = root / BELOW if (root / BELOW).is_dir() else root
    folders = sorted(entry for entry in root.iterdir() if (entry / "images").is_dir()) if root.is_dir() else []
    if not folders:
        archives = sorted(file for file in root.glob("*.tar*")) if root.is_dir() else []
        unpack = (
            f"Unpack the archive: tar -xf {archives[0]} -C FOLDER, and give FOLDER." if archives else "Give another folder."
        )
        raise DataError(
            f"{root} has no folders ID/images and ID/masks.\nFound there: {entries(root)}.\n"
            f"Expected those of stage 1 of the Data Science Bowl 2018, below it or in {BELOW}/. {unpack}"
        )
    images: list[pathlib.Path] = []
    masks: list[list[pathlib.Path]] = []
    for folder in folders:
        pictures = sorted((folder / "images").glob("*.png"))
        nuclei_files = sorted((folder / "masks").glob("*.png")) if (folder / "masks").is_dir() else []
        if len(pictures) != 1 or not nuclei_files:
            raise DataError(
                f"{folder} has {counted(len(pictures), 'image')} and {counted(len(nuclei_files), 'mask')}.\n"
                "Expected one PNG file in images/ and one for each nucleus in masks/. Restore them, or move the folder away."
            )
        images, masks = [*images, *pictures], [*masks, nuclei_files]
    flat = [mask for own in masks for mask in own]
    names, mask_names = ([printable(one.relative_to(root).as_posix()) for one in part] for part in (images, flat))
    index = check_files(root, [*names, *mask_names], [*images, *flat], max_pixels=max_pixels)
    of_images, of_masks = index.at(range(len(images))), index.at(range(len(images), len(images) + len(flat)))
    most = {"skip_bad_images": 0, "max_pixels": max_pixels}
    found = _Folders(
        name,
        usable_images(name, images, names, of_images, draft=None, **most),
        usable_masks(name, flat, mask_names, of_masks, **most),
        [len(own) for own in masks],
    )
    owner = np.repeat(np.arange(len(images)), found.counts)
    wrong = np.flatnonzero((of_masks.shapes[:, :2] != of_images.shapes[owner, :2]).any(axis=1))
    if len(wrong):
        (height, width), (high, wide) = of_masks.shapes[wrong[0], :2].tolist(), of_images.shapes[owner[wrong[0]], :2].tolist()
        raise DataError(
            f"{flat[wrong[0]]} is {width} x {height} pixels, and its image {wide} x {high} ({len(wrong)} such).\n"
            "Expected a value for each pixel of the image. Restore the file."
        )
    return found


def _surveyed(found: _Folders) -> dict[str, np.ndarray]:
    """Returns what all images and masks hold, from the cache where they were read before.

    It is `coloured` bool [N], `corners` f32 [N, M, 4] of the nuclei, and `pixels` i64 [N, 2] of background and nuclei.
    """

    def survey() -> dict[str, np.ndarray]:
        notify(f"reading {counted(len(found.masks.paths), 'mask')} of nuclei (once) …")
        everything = np.arange(len(found.images.paths))
        nuclei_masks, images = found.instances(everything), found.images.at(everything.tolist())
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            parts = list(pool.map(lambda number: _survey_one(found, images, nuclei_masks, number), everything.tolist()))
        coloured, corners, pixels = zip(*parts, strict=True)
        return {"coloured": np.array(coloured), "corners": np.stack(corners), "pixels": np.array(pixels, np.int64)}

    key = combined_digest(found.images.fingerprint, found.masks.fingerprint, str(list(found.counts)))
    return dict(
        cached(f"nuclei-1-{key[:24]}", survey, about=f"boxes of {counted(len(found.masks.paths), 'nucleus', 'nuclei')}")
    )


def _survey_one(
    found: _Folders, images: LazyImages, nuclei_masks: LazyImages, number: int
) -> tuple[bool, np.ndarray, tuple[int, int]]:
    """Returns whether an image is coloured, the corners of its nuclei f32 [M, 4], and its pixels of both classes."""
    pixels, masks = images.read([number])[0], nuclei_masks.read([number])[0]
    own = found.masks_of(number)
    if empty := [place for place, mask in enumerate(masks[: len(own)]) if not mask.any()]:
        raise DataError(
            f"{counted(len(empty), 'mask')} without a pixel: {listed([found.masks.paths[own[place]] for place in empty])}.\n"
            "Expected one nucleus in each, white on black. Remove the file, or restore it."
        )
    corners = np.zeros((found.most, 4), np.float32)
    corners[: len(own)] = [corners_of(mask > 0) for mask in masks[: len(own)]]
    nucleus = int(masks.any(axis=0).sum())
    is_coloured = bool((pixels != pixels[..., :1]).any())
    return is_coloured, corners, (masks[0].size - nucleus, nucleus)
