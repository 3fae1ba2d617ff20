"""The activations of every layer for one image, as sheets.

Letters in shapes: h w C′ those of a layer.
"""

import math

import jax.numpy as jnp
import numpy as np

from cnnlab import figures
from cnnlab.explain.network import Layer, values_of
from cnnlab.explain.page import Picture, Section, figure
from cnnlab.explain.render import MOST_CHANNELS, as_png, enlarged, image_pixels
from cnnlab.explain.scene import Scene

MOST_LAYERS = 24
"""Layers that are drawn; of more, as many are drawn, evenly spaced."""

NO_UNIT = (0.62, 0.71, 0.84)
"""Colour of the tiles that fill the last row of a sheet of units, since black and white are values."""


def section_of(scene: Scene) -> Section | str:
    """Returns the section with a sheet of each layer's channels for the first image that is shown."""
    layers = scene.usual_layers(MOST_LAYERS, spatial=False)
    if not layers:
        return "the network has no layers with names"
    images = jnp.asarray(scene.explained.examples.images[:1])
    scene.say("activations")
    values = values_of(scene.network, images, names=tuple(layer.name for layer in layers))
    pictures, parts = [], []
    for layer in layers:
        sheet, text = sheet_of(layer, np.asarray(values[layer.name][0], np.float32))
        picture = Picture(f"activations_{layer.name.replace('/', '_')}", as_png(sheet), f"activations of {layer.name}")
        pictures.append(picture)
        parts.append(figure(picture, text))
    name = scene.explained.caption(0)[0]
    note = (
        f"What each layer computes for the first image ({name}): a tile for each channel, on one scale a layer, whose ends are "
        "written below it. A channel of one grey level does not respond to this image."
    )
    return Section("Activations", f'<div class="sheets">{"".join(parts)}</div>', note, tuple(pictures))


def sheet_of(layer: Layer, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns (u8 [height, width, 3] of the values [h, w, C′] or [C′] of a layer, its caption)."""
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-30)
    count = values.shape[-1]
    if values.ndim == 3:
        shown = np.moveaxis(scaled[..., :MOST_CHANNELS], -1, 0)[..., None]  # [h, w, C′] -> [C′, h, w, 1]
        sheet = figures.sheet(shown)
        still = int(np.sum(np.ptp(values, axis=(0, 1)) == 0))
        what = f"{count} channels of {values.shape[0]}x{values.shape[1]}"
        what += f", the first {MOST_CHANNELS}" if count > MOST_CHANNELS else ""
        what += f"; {still} constant" if still else ""
    else:
        columns = max(1, math.ceil(math.sqrt(scaled.size)))
        rows = math.ceil(scaled.size / columns)
        grid = np.full((rows * columns, 3), NO_UNIT, np.float32)
        grid[: scaled.size] = scaled[:, None]  # grey: [C′] -> [C′, 3]
        sheet = enlarged(image_pixels(grid.reshape(rows, columns, 3)))  # [C′, 3] -> [rows, columns, 3]
        what = f"{count} units; {int(np.sum(values == 0))} are 0"
        what += "; blue tiles are no units" if grid.shape[0] > count else ""
    return sheet, f"{layer.name}: {what}; black {low:.3g}, white {high:.3g}"
