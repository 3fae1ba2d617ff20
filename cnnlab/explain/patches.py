"""The patches of the data that excite a unit most, cut by its receptive field (Zeiler and Fergus 2013, arXiv 1311.2901).

Letters in shapes: N images, H W space, C channels, h w C′ those of a layer, U units, k patches of a unit.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import figures
from cnnlab.ablation.report.html import escape
from cnnlab.core import Array
from cnnlab.explain.examples import Examples
from cnnlab.explain.network import Layer, Network
from cnnlab.explain.page import Picture, Section, figure
from cnnlab.explain.render import as_png
from cnnlab.explain.scene import Scene
from cnnlab.text import counted

UNITS, PATCHES, LAYERS = 8, 9, 4
"""Units of a layer, patches of each, and layers that are shown."""
BATCH = 32
"""Images whose activations are computed at once."""
PAPER = 0.5
"""Grey level of what lies beyond the border of an image."""


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Where each unit of a layer is largest in each image."""

    values: np.ndarray
    """f32 [N, C′]."""
    rows: np.ndarray
    """i32 [N, C′]: positions; 0 for a layer without."""
    columns: np.ndarray
    """As `rows`."""


@functools.partial(jax.jit, static_argnames="name")
def _peaks(network: Network, images: Array, *, name: str) -> tuple[Array, Array]:
    """Returns (largest values [B, C′] over the positions of a layer, these positions i32 [B, C′], row by row)."""
    values = network.run(images)[1][name]
    flat = values.reshape(values.shape[0], -1, values.shape[-1])  # [B, h, w, C′] or [B, C′] -> [B, h·w, C′]
    return jnp.max(flat, axis=1), jnp.argmax(flat, axis=1).astype(jnp.int32)


def peaks_of(network: Network, images: np.ndarray, layer: Layer) -> Peaks:
    """Returns where each unit of a layer is largest in images f32 [N, H, W, C]."""
    values, places = [], []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        missing = min(BATCH, len(images)) - len(batch)
        padded = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), batch.dtype)]) if missing else batch
        largest, where = jax.device_get(_peaks(network, jnp.asarray(padded), name=layer.name))
        values.append(largest[: len(batch)])
        places.append(where[: len(batch)])
    width = layer.shape[1] if len(layer.shape) == 3 else 1
    rows, columns = np.divmod(np.concatenate(places), width)
    return Peaks(np.concatenate(values), rows, columns)


def window_of(layer: Layer, image_shape: tuple[int, int, int], row: int, column: int) -> tuple[int, int, int, int]:
    """Returns (top, left, height, width) of the pixels that a position depends on; the whole image where that is not known."""
    sides = []
    for axis, position in enumerate((row, column)):
        size, start, stride, whole = layer.field[axis], layer.start[axis], layer.stride[axis], image_shape[axis]
        if size is None or start is None or stride is None or math.isinf(size) or size >= whole:
            sides.append((0, whole))
        else:
            sides.append((math.floor(start + position * stride), math.ceil(size)))
    (top, height), (left, width) = sides
    return top, left, height, width


def cut(image: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """Returns the pixels [height, width, C] of a window of an image [H, W, C]; those beyond its border are grey."""
    top, left, height, width = window
    out = np.full((height, width, image.shape[2]), PAPER, np.float32)
    rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
    inside = image[rows, columns]
    first, second = max(-top, 0), max(-left, 0)
    out[first : first + inside.shape[0], second : second + inside.shape[1]] = inside
    return out


def strongest(peaks: Peaks, layer: Layer, examples: Examples, unit: int, count: int) -> np.ndarray:
    """Returns the patches f32 [k, h, w, C] in [0, 1] of the images in which a unit is largest, the strongest first."""
    order = np.argsort(-peaks.values[:, unit], kind="stable")[:count]
    images = examples.at(order).shown()
    shape = examples.images.shape[1:]
    found = []
    for place, image in zip(order, images, strict=True):
        row, column = int(peaks.rows[place, unit]), int(peaks.columns[place, unit])
        found.append(cut(image, window_of(layer, (shape[0], shape[1], shape[2]), row, column)))
    return np.stack(found)


def chosen_units(peaks: Peaks, count: int) -> list[int]:
    """Returns units that respond differently to different images, evenly spaced over the channels."""
    alive = np.flatnonzero(np.ptp(peaks.values, axis=0) > 0)
    if len(alive) <= count:
        return alive.tolist()
    return alive[np.linspace(0, len(alive) - 1, count).round().astype(int)].tolist()


def section_of(scene: Scene) -> Section | str:
    """Returns the section with the strongest patches of some units of some layers."""
    layers = scene.usual_layers(LAYERS)
    if not layers:
        return "the network has no layer with several positions"
    if len(scene.pool) < 2 * PATCHES:
        return f"the strongest patches of {counted(len(scene.pool), 'image')} say nothing; give {2 * PATCHES} images or more"
    pictures, parts = [], []
    for layer in layers:
        scene.say(f"patches of {layer.name}")
        peaks = peaks_of(scene.network, scene.pool.images, layer)
        units = chosen_units(peaks, UNITS)
        if not units:
            parts.append(f"<p>{escape(layer.name)}: every unit is the same for all images.</p>")
            continue
        rows = [strongest(peaks, layer, scene.pool, unit, PATCHES) for unit in units]
        sheet = figures.sheet(np.concatenate(rows), columns=PATCHES)  # U of [k, h, w, C] -> [U·k, h, w, C]
        picture = Picture(f"patches_{layer.name.replace('/', '_')}", as_png(sheet), f"strongest patches of {layer.name}")
        pictures.append(picture)
        dead = peaks.values.shape[1] - int(np.sum(np.ptp(peaks.values, axis=0) > 0))
        height, width = rows[0].shape[1:3]
        text = f"{layer.name}: units {', '.join(map(str, units))} from top to bottom, windows of {height}x{width} pixels"
        parts.append(figure(picture, text + (f"; {dead} of {peaks.values.shape[1]} units never change" if dead else "")))
    note = (
        f"For each unit, the {PATCHES} of {len(scene.pool)} images in which it is largest at any position, the strongest on "
        "the left, cut by the receptive field of that position; grey lies beyond the border of the image."
    )
    return Section("What excites a unit", f'<div class="sheets">{"".join(parts)}</div>', note, tuple(pictures))
