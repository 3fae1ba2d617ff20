"""Pictures of maps and images as pixels: u8 [height, width, 3], and as PNG.

Letters in shapes: H W space, C channels.
"""

import base64
import io
import math

import numpy as np

SMALLEST = 128
"""Least height in pixels to which small pictures are enlarged, by whole factors."""
PERCENTILE = 99.5
"""Share of the pixels within the scale of a map; the few beyond it are drawn as its end."""
MOST_CHANNELS = 64
"""Channels of a layer that are drawn."""


def as_png(pixels: np.ndarray) -> bytes:
    """Returns u8 [height, width, 3] as the content of a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="PNG", optimize=True)
    return file.getvalue()


def as_source(content: bytes) -> str:
    """Returns a PNG as the source of an image in HTML, which needs no file beside it."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """Returns a picture whose height is at least SMALLEST; every pixel becomes a square."""
    factor = max(1, math.ceil(SMALLEST / pixels.shape[0]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def image_pixels(image: np.ndarray) -> np.ndarray:
    """Returns an image f32 [H, W, C] in [0, 1] as u8 [H, W, 3]; one with neither 1 nor 3 channels as their mean."""
    if image.shape[-1] != 3:
        image = image.mean(-1, keepdims=True).repeat(3, axis=-1)  # [H, W, C] -> [H, W, 1] -> [H, W, 3]
    return np.rint(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)


def scale_of(values: np.ndarray) -> float:
    """Returns the value at the end of a map's scale; 0 for a map that is 0 everywhere."""
    sizes = np.abs(np.nan_to_num(values))
    return float(np.percentile(sizes, PERCENTILE)) or float(sizes.max())


def map_pixels(values: np.ndarray, *, is_signed: bool, under: np.ndarray | None = None) -> np.ndarray:
    """Draws a map [H, W] as u8 [H, W, 3]: blue, white, red around 0, or from dark to bright.

    Args:
        values: the map.
        is_signed: whether negative values are drawn as such.
        under: image f32 [H, W, C] in [0, 1] over which it is laid, in grey; None: the map alone.
    """
    from matplotlib import colormaps

    strength = np.nan_to_num(values) / max(scale_of(values), 1e-30)
    if is_signed:
        colours = colormaps["RdBu_r"](0.5 + 0.5 * np.clip(strength, -1, 1))[..., :3]
        share = np.abs(np.clip(strength, -1, 1))
    else:
        share = np.clip(strength, 0, 1)
        colours = colormaps["inferno"](share)[..., :3]
    if under is not None:
        grey = 0.25 + 0.65 * under.mean(-1, keepdims=True)  # [H, W, C] -> [H, W, 1]
        opacity = 0.15 + 0.6 * share[..., None]
        colours = grey * (1 - opacity) + colours * opacity
    return np.rint(255 * colours).astype(np.uint8)
