"""Pictures from which others are synthesised: photos, paintings and textures from files, and blank ones."""

import pathlib

import numpy as np

from cnnlab import files
from cnnlab.data.cache import cached
from cnnlab.data.decode import MAX_PIXELS, BadImage, read_image
from cnnlab.data.image_files import checked_images
from cnnlab.data.kinds import Image, Kind
from cnnlab.data.resize import resize_to
from cnnlab.data.source import Source, Split, labelled
from cnnlab.data.tree import ImageTree, images_below
from cnnlab.errors import DataError, UsageError
from cnnlab.text import printable
from cnnlab.values import Count, PathText

GREY = 128
"""Value of the pixels of a blank picture."""
SAMPLES = ("china.jpg", "flower.jpg")
"""The photos of scikit-learn: a temple, and a flower, which takes the place of a style where none is given."""


def photos(path: PathText, /, *, max_pixels: Count = MAX_PIXELS) -> Source:
    """Opens one image file, or all images in any depth below a folder; train and test both hold them. They have no labels.

    Args:
        max_pixels: size of the largest image that is decoded, in pixels.
    """
    place = files.absolute(path)
    if not place.exists():
        raise UsageError(f"photos:{path}: there is no such file or folder.\nGive the path of one that there is.")
    tree = ImageTree(place if place.is_dir() else place.parent)
    found = images_below(tree, place) if place.is_dir() else [place]
    if not found:
        raise DataError(f"{place} holds no images.\nGive an image file, or a folder with some.")
    name, names = f"photos:{printable(place.name)}", [tree.name_of(file) for file in found]
    checked = checked_images(name, tree.root, found, names, skip_bad_images=0, max_pixels=max_pixels, draft=None)
    part = Split({"image": checked.at(range(len(found)))})
    remarks = (*tree.omissions(name), *checked.remarks)
    return Source(name, {"train": part, "test": part}, {"image": Image()}, checked.fingerprint, remarks)


def sample_photos() -> Source:
    """Opens the two photos that come with scikit-learn, 427 x 640; train and test both hold them. They have no labels."""
    kinds: dict[str, Kind] = {"image": Image()}
    part = Split({"image": cached("sample-photos-1", _load_samples)["images"]})
    return Source("sample_photos", {"train": part, "test": part}, kinds, "sample-photos-1")


def _load_samples() -> dict[str, np.ndarray]:
    """Returns images u8 [2, 427, 640, 3] from scikit-learn."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        raise DataError(
            "these photos need scikit-learn, which is not installed.\nInstall it: pip install scikit-learn"
        ) from None
    return {"images": np.stack([np.asarray(load_sample_image(name), np.uint8) for name in SAMPLES])}


def blank(*, labels: tuple[int, ...] = (0,), copies: Count = 1, size: Count = 224) -> Source:
    """Makes grey pictures, on which something is to be synthesised; train and test both hold them.

    Args:
        labels: numbers of the classes that the pictures are to show, counted from 0, one picture for each.
        copies: number of pictures for each label.
        size: height and width in pixels.
    """
    if not labels or min(labels) < 0:
        raise UsageError(f"--labels={','.join(map(str, labels))}: expected numbers of classes, counted from 0, such as 3,5.")
    each = np.repeat(np.asarray(labels, np.int32), copies)
    split = (np.full((len(each), size, size, 3), GREY, np.uint8), each)
    return labelled("blank", {"train": split, "test": split}, tuple(map(str, range(max(*labels, 1) + 1))))


def read_picture(path: PathText | None, channels: int) -> np.ndarray:
    """Returns the pixels u8 [H, W, C] of one image file; None: the flower of scikit-learn. Raises UsageError where it is none.

    Args:
        path: the file.
        channels: C, 1 or 3.
    """
    if path is None:
        return as_channels(cached("sample-photos-1", _load_samples)["images"][1], channels)
    try:
        return as_channels(read_image(pathlib.Path(path), max_pixels=MAX_PIXELS).pixels, channels)
    except BadImage as error:
        raise UsageError(f"{path} is no picture that can be used: {error}.\nGive the path of an image file.") from None


def as_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Returns images u8 or f32 [..., C] with another number of channels: grey is repeated, colours are averaged."""
    if images.shape[-1] == channels:
        return images
    mean = images if images.shape[-1] == 1 else images.mean(axis=-1, keepdims=True, dtype=np.float32)
    mean = np.rint(mean) if images.dtype == np.uint8 else mean
    return np.repeat(mean.astype(images.dtype), channels, axis=-1)


def scaled_picture(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns a picture u8 [h, w, C] as f32 [H, W, C] in [0, 1], with `side` pixels on the shorter side and the same shape."""
    height, width = pixels.shape[:2]
    tall, wide = (max(1, round(length * side / min(height, width))) for length in (height, width))
    return resize_to(pixels[None], tall, wide)[0].astype(np.float32) / 255.0
