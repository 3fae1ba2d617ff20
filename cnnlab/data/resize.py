"""Brings images to one size on the host, before anything else: the rules from which the knob `image_fit` chooses.

Each is `f(images: u8 or f32 [B, H, W, C], size) -> [B, size, size, C]`; its keyword arguments are knobs. `canvas` has a size of
its own.

Pillow resizes u8 in whole numbers, with the same result on every machine. A product of matrices has the order of the machine's
BLAS: 1 to 18 of 2.95 million values differed by one grey level between processors, and an image took three times as long.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np

from cnnlab.data.placement import scaled_side
from cnnlab.data.source import Images
from cnnlab.errors import UsageError
from cnnlab.values import Count, Positive, Range, below_partials

Fit = Callable[[np.ndarray, int], np.ndarray]
CHUNK = 1024
ROOM = 4
"""A canvas that grows does so in steps of this many of its multiples."""


def fit_images(images: Images, size: int, one: Fit) -> Images:
    """Brings images to one size, [N, H, W, C] -> [N, size, size, C] or, on a canvas, [N, height, width, C].

    Lazily decoded images stay lazy and may differ in size.
    """
    height, width = target_of(settings_of(one), size)
    if not isinstance(images, np.ndarray):
        read, shape = images.read, (height, width, images.image_shape[2])
        return dataclasses.replace(
            images,
            read=lambda positions: [one(image[None], size)[0] for image in read(positions)],
            image_shape=shape,
            is_array=False,
        )
    out = np.empty((len(images), height, width, images.shape[3]), images.dtype)
    for start in range(0, len(images), CHUNK):
        out[start : start + CHUNK] = one(images[start : start + CHUNK], size)
    return out


def target_of(settings: Mapping[str, Any], size: int) -> tuple[int, int]:
    """Returns (H, W) to which a rule with these settings brings images: a square, or the canvas."""
    return (settings["height"], settings["width"]) if settings["name"] == "canvas" else (size, size)


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes bilinearly, [B, H, W, C] -> [B, size, size, C]; the sides are scaled separately, so the aspect ratio may change.

    Downscaling averages over the whole area that a pixel covers (the triangle filter of Pillow's `BILINEAR`), without aliasing.
    """
    return resize_to(images, size, size)


def resize_to(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes bilinearly as `resize`, [B, H, W, C] -> [B, height, width, C]."""
    return np.stack([_pillow(image, width, height, "bilinear") for image in images])


def pad(images: np.ndarray, size: int) -> np.ndarray:
    """Centres images in zeros, [B, H, W, C] -> [B, size, size, C]; an odd row or column of padding goes below or to the right.

    LeCun et al. (1998, section II.B) pad digits of 28 x 28 to 32 x 32 in this way.
    """
    height, width = images.shape[1:3]
    if max(height, width) > size:
        raise UsageError(
            f"images of {height} x {width} cannot be padded to {size} x {size}.\n"
            f"Expected image_size >= {max(height, width)}. Give a larger --image_size, or --image_fit=resize."
        )
    top, left = (size - height) // 2, (size - width) // 2
    return np.pad(images, ((0, 0), (top, size - height - top), (left, size - width - left), (0, 0)))


def crop(
    images: np.ndarray,
    size: int,
    *,
    fraction: Annotated[float, Range(0, 1, open_low=True)] = 0.875,
    filter: Literal["bilinear", "bicubic"] = "bicubic",
) -> np.ndarray:
    """Resizes the shorter side to size / fraction and cuts out the centre, [B, H, W, C] -> [B, size, size, C].

    This is the evaluation transform of torchvision and timm (resize to 256, centre crop of 224), to the bit: both use Pillow.

    Args:
        fraction: side of the crop as a share of the shorter side (timm's crop_pct).
        filter: interpolation: bicubic for most weights of timm, bilinear for the first ones of torchvision.
    """
    height, width = images.shape[1:3]
    # The longer side is rounded down, as in torchvision.transforms.Resize.
    short = int(size / fraction)
    tall, wide = (short * side // min(height, width) for side in (height, width))
    # Half a pixel goes to the even number, as in torchvision.transforms.CenterCrop.
    top, left = round((tall - size) / 2), round((wide - size) / 2)
    return np.stack([_pillow(image, wide, tall, filter)[top : top + size, left : left + size] for image in images])


def canvas(
    images: np.ndarray,
    size: int,
    *,
    scale: Positive = 1.0,
    multiple: Count = 32,
    height: Count | None = None,
    width: Count | None = None,
) -> np.ndarray:
    """Lays images in the upper left corner of zeros, [B, H, W, C] -> [B, height, width, C], each at its own size times `scale`.

    Args:
        scale: factor by which both sides of every image are multiplied, bilinearly; 1: images keep their pixels.
        multiple: the canvas is as large as the largest image, rounded up to a multiple of this: of what the network halves.
        height: height of the canvas in pixels; none: that of the largest image.
        width: width of the canvas in pixels; none: that of the largest image.
    """
    assert height and width, "on_canvas gives the size"
    tall, wide = (scaled_side(side, scale) for side in images.shape[1:3])
    if tall > height or wide > width:
        raise UsageError(
            f"an image of {tall} x {wide} at scale {scale:g} (height x width) is larger than the canvas, {height} x {width}.\n"
            "Expected images that fit on it. Reduce them, or cut them in parts."
        )
    if (tall, wide) != images.shape[1:3]:
        images = resize_to(images, tall, wide)
    return np.pad(images, ((0, 0), (0, height - tall), (0, width - wide), (0, 0)))


def with_room(settings: Mapping[str, Any], shape: tuple[int, int]) -> dict[str, Any]:
    """Returns the settings of a canvas on which an image of `shape` (H, W) lies whole; of another rule they stay.

    A side that is too short grows to a multiple of ROOM times `multiple`, so that few sizes of a canvas are compiled.
    """
    if settings["name"] != "canvas":
        return dict(settings)
    step, sides = ROOM * settings["multiple"], {}
    for name, side in zip(("height", "width"), shape, strict=True):
        needed = scaled_side(side, settings["scale"])
        sides[name] = settings[name] if needed <= settings[name] else -(-needed // step) * step
    return {**settings, **sides}


def _pillow(image: np.ndarray, width: int, height: int, filter: str) -> np.ndarray:
    """Resizes one image with Pillow, [H, W, C] -> [height, width, C]: u8 with its rounding, floats without."""
    from PIL import Image

    how = Image.Resampling[filter.upper()]
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize((width, height), how))
    pictures = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, -1, 0)]  # C of [H, W]
    planes = [np.asarray(picture.resize((width, height), how)) for picture in pictures]
    return np.stack(planes, axis=-1)  # C of [height, width] -> [height, width, C]


def settings_of(fit: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Returns the name of a rule and its settings, for the input specification of a run and the fingerprint of its data.

    `format` is among them where the rule makes other pixels than its first version did.
    """
    inner = below_partials(fit)
    name = inner.__name__
    numbered = {"format": FORMATS[name]} if ALL_FITS.get(name) is inner and name in FORMATS else {}
    return {"name": name, **(inner.__kwdefaults__ or {}), **getattr(fit, "keywords", {}), **numbered}


def rule_of(settings: Mapping[str, Any]) -> Fit:
    """Returns the rule of which `settings_of` gave the settings; raises UsageError for one that this version does not have."""
    chosen = {name: value for name, value in settings.items() if name not in ("name", "format")}
    rule = functools.partial(ALL_FITS[settings["name"]], **chosen) if settings["name"] in ALL_FITS else None
    if rule is None or settings_of(rule) != dict(settings):
        raise UsageError(
            f"images cannot be brought to size as the settings {dict(settings)} say.\n"
            f"Known: {', '.join(ALL_FITS)}, with the pixels of this version. Bring them to size yourself, or train again."
        )
    return rule


FITS: dict[str, Fit] = {"resize": resize, "pad": pad, "crop": crop}
"""Rules for squares by name, for `Choice[FITS]`."""
ALL_FITS: dict[str, Fit] = {**FITS, "canvas": canvas}
"""All rules by name, for `Choice[ALL_FITS]`: also the one that keeps the sizes of images (canvas.py)."""

FORMATS = {"resize": 2}
"""Number of the pixels of a rule that has changed. It enters fingerprints and the keys of the cache; a test compares the pixels
with digests, so that no change goes without a number. resize 1: a product of matrices, rounded to the nearest grey level."""
