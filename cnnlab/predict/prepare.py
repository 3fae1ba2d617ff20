"""Prepares images that are to be predicted as those of the training were: decoded, channels, size. Imports no jax.

Letters in shapes: H W space, C channels.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cnnlab.data.decode import MAX_PIXELS, BadImage, read_image
from cnnlab.data.placement import Placement, placement
from cnnlab.data.resize import ALL_FITS, Fit, resize_to, rule_of, with_room
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.runs.identity import is_data

GREY, COLOURED = "are grey, and become images of {channels} channels", "are in colour, and become grey as the training images"
RESIZED = "are not {height} x {width}, as all training images were, and are resized (bilinear)"
LARGER = "are larger than {height} x {width}, the canvas of the training images, and lie on a larger one"
"""What is said of some images, after their number."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey value of Pillow (ITU-R BT.601)."""


class Prepared(NamedTuple):
    """An image as the network takes it, before normalisation."""

    pixels: np.ndarray
    """u8 or f32 [H, W, C] of the input specification, or on a larger canvas."""
    remarks: tuple[str, ...]
    """How it was changed beyond what was done to every training image."""
    original: np.ndarray
    """The image u8 or f32 [h, w, C] at its own size, with the network's number of channels."""
    place: Placement
    """Where the original lies in the pixels that the network takes."""


@dataclasses.dataclass(frozen=True)
class Preparation:
    """Prepares images for a network; it may be called from several threads."""

    inputs: InputSpec
    """What the network takes."""
    fit: Fit
    """The rule of `fit_of`."""
    max_pixels: int = MAX_PIXELS
    """Size of the largest image file that is decoded, in pixels."""
    draft: int | None = None
    """Size to which JPEGs are reduced as they are decoded (decode.read_image)."""
    grows: bool = False
    """Whether an image that is larger than the canvas gets a larger one; otherwise it is refused."""

    def __call__(self, source: pathlib.Path | np.ndarray) -> Prepared:
        """Returns an image file, or an image u8 or f32 [H, W, C], as the network takes it; raises BadImage where it cannot.

        Args:
            source: path of the file, or the image; floats are in [0, 1].
        """
        if isinstance(source, pathlib.Path):
            source = read_image(source, max_pixels=self.max_pixels, draft=self.draft).pixels
        height, width, channels = self.inputs.image_shape
        remarks = []
        if source.shape[2] != channels:
            source, remark = _with_channels(source, channels)
            remarks.append(remark)
        if self.inputs.fit["name"] == "none" and source.shape[:2] != (height, width):
            remarks.append(RESIZED.format(height=height, width=width))
        settings, fit = self.inputs.fit, self.fit
        if self.grows and (larger := with_room(settings, source.shape[:2])) != settings:
            settings, fit = larger, rule_of(larger)
            remarks.append(LARGER.format(height=height, width=width))
        if settings["name"] in ALL_FITS:
            place = placement(settings, source.shape[:2], height)
        else:  # resized, or of the right size: `fit_of`
            scale = (height / source.shape[0], width / source.shape[1])
            place = Placement(scale, (0.0, 0.0), (height, width), source.shape[:2])
        try:
            pixels = fit(source[None], height)[0]  # [h, w, C] -> [1, h, w, C] -> [H, W, C]
            return Prepared(pixels, tuple(remarks), source, place)
        except UsageError as error:
            raise BadImage(str(error).partition("\n")[0]) from None


def preparation_of(inputs: InputSpec, knobs: Mapping[str, Any], *, grows: bool = False) -> Preparation:
    """Returns the preparation of a run's images, with the settings by which its image files were decoded.

    Args:
        inputs: what the network takes.
        knobs: {path: value} of the run; the data set is the knob `dataset`, and its settings are those below.
        grows: as in `Preparation`.
    """
    settings = {path.rpartition(".")[2]: value for path, value in knobs.items() if is_data(path.rpartition(".")[0])}
    return Preparation(inputs, fit_of(inputs), settings.get("max_pixels") or MAX_PIXELS, settings.get("draft"), grows)


def _with_channels(pixels: np.ndarray, channels: int) -> tuple[np.ndarray, str]:
    """Returns an image with another number of channels, and how it was changed; raises BadImage where that has no meaning."""
    found = pixels.shape[2]
    if found == 1:
        return np.repeat(pixels, channels, axis=2), GREY.format(channels=channels)  # [H, W, 1] -> [H, W, C]
    if (found, channels) != (3, 1):
        raise BadImage(f"it has {found} channels, and the network takes {channels}")
    if pixels.dtype == np.uint8:
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).convert("L"))[..., None], COLOURED  # [H, W, 3] -> [H, W, 1]
    return (pixels @ np.asarray(LUMA, pixels.dtype))[..., None], COLOURED  # [H, W, 3] -> [H, W, 1]


def fit_of(inputs: InputSpec) -> Fit:
    """Returns the rule that brings images to the size of the training images, as a function of (images [B, H, W, C], size).

    Training images that all had one size were brought to none: others are resized. Of a rule that this version does not have,
    images of the right size need nothing, and others are refused.
    """
    height, width, _ = inputs.image_shape
    if inputs.fit["name"] == "none":
        return lambda images, size: images if images.shape[1:3] == (height, width) else resize_to(images, height, width)
    try:
        return rule_of(inputs.fit)
    except UsageError as error:
        unknown = error

    def only_right_size(images: np.ndarray, size: int) -> np.ndarray:
        if images.shape[1:3] != (height, width):
            raise unknown
        return images

    return only_right_size
