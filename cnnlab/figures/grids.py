"""Pages of small images in rows: examples with captions, and filters."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    INK,
    MARGIN,
    RULE,
    SAVED_DPI,
    SMALL,
    below_heading,
    blank_page,
    fit_text,
    format_number,
    place_heading,
    text_style,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MOST_FILTERS = 64


def image_grid(
    images: np.ndarray,
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 8,
    colors: Sequence[str] | None = None,
    legend: Sequence[tuple[str, str]] = (),
    inches: float = 1.0,
) -> "Figure":
    """Draws images in rows, without interpolation, each with its caption beneath; the page says "none" for no images.

    Args:
      images: u8 or f32 [N, H, W, C]. C = 1 is drawn grey, C = 3 in colour, any other as the mean over its channels. Floats
        in [0, 1] are drawn as they are; others are scaled together from the lowest to the highest value, which are printed.
      captions: N strings, of one or more lines; a line wider than its column is truncated.
      title: one line above the images.
      columns: number of images in a row.
      colors: N colours of the captions (GOOD and BAD for right and wrong predictions); None: INK for all.
      legend: (name, colour) of what the colours in the images mean, in lines below the title.
      inches: largest side of an image on the page.
    """
    images = np.asarray(images)
    count = len(images)
    if len(captions) != count or (colors is not None and len(colors) != count):
        lengths = f"{len(captions)} captions" + ("" if colors is None else f", {len(colors)} colors")
        raise ValueError(f"image_grid: {count} images, but {lengths}; give one for each image")
    if not count:
        return _grid(np.zeros((0, 1, 1, 3), np.uint8), captions, title=title, note="none", columns=columns, colors=())
    pixels, note = _to_rgb(images)
    colours = colors or [INK] * count
    return _grid(pixels, captions, title=title, note=note, columns=columns, colors=colours, legend=legend, inches=inches)


def filters(kernels: np.ndarray, *, title: str, captions: Sequence[str] = (), columns: int = 12) -> "Figure":
    """Draws first-layer filters, or the templates of a linear classifier, with zero in the middle of the scale.

    C = 3 is drawn as RGB with zero as mid-grey, each filter on its own scale (its largest magnitude). Any other C is drawn as
    the mean over the channels, negative in blue, zero in white, positive in red, all on one scale. A note says which.

    Args:
      kernels: f32 [N, H, W, C]; the first 64 are drawn.
      title: one line above the filters.
      captions: N strings, or none.
      columns: number of filters in a row.
    """
    kernels = np.nan_to_num(np.asarray(kernels, np.float32), posinf=0.0, neginf=0.0)
    count, shown = len(kernels), kernels[:MOST_FILTERS]
    if captions and len(captions) != count:
        raise ValueError(f"filters: {count} filters, but {len(captions)} captions; give one for each filter, or none")
    notes = [f"the first {MOST_FILTERS} of {count} filters"] if count > MOST_FILTERS else []
    if not count:
        pixels, notes = np.zeros((0, 1, 1, 3), np.uint8), ["none"]
    elif kernels.shape[-1] == 3:
        # [N, H, W, 3] -> [N, 1, 1, 1]: the largest magnitude of each filter
        scale = np.maximum(np.abs(shown).max((1, 2, 3), keepdims=True), 1e-30)
        pixels = np.rint(127.5 + 127.5 * shown / scale).astype(np.uint8)
        notes += ["each on its own scale", "grey is 0"]
    else:
        flat = shown.mean(-1)  # [N, H, W, C] -> [N, H, W]; the colour map makes it [N, H, W, 3]
        bound = max(float(np.abs(flat).max()), 1e-30)
        pixels = (_diverging()(0.5 + 0.5 * flat / bound)[..., :3] * 255 + 0.5).astype(np.uint8)
        notes += ["mean over channels"] if kernels.shape[-1] > 1 else []
        notes += [f"one scale: blue {format_number(-bound)}, white 0, red {format_number(bound)}"]
    note = ", ".join(notes)
    colors = [INK] * len(shown)
    return _grid(pixels, list(captions[: len(shown)]), title=title, note=note, columns=columns, colors=colors, inches=0.72)


def _diverging() -> "Colormap":
    from matplotlib import colormaps

    return colormaps["RdBu_r"]


def _to_rgb(images: np.ndarray) -> tuple[np.ndarray, str]:
    """Converts u8 or float [N, H, W, C] to (u8 [N, H, W, 3], a note on the scale)."""
    note = ""
    if images.dtype != np.uint8:
        images = np.nan_to_num(images.astype(np.float32), posinf=0.0, neginf=0.0)
        low, high = float(images.min()), float(images.max())
        if low < 0 or high > 1:
            note = f"black {format_number(low)}, white {format_number(high)}"
            images = (images - low) / max(high - low, 1e-30)
        images = np.rint(255 * images).astype(np.uint8)
    if images.shape[-1] != 3:  # [N, H, W, C] -> [N, H, W, 1] -> [N, H, W, 3]
        images = np.rint(images.mean(-1, keepdims=True)).astype(np.uint8).repeat(3, -1)
    return images, note


def _grid(
    pixels: np.ndarray,
    captions: Sequence[str],
    *,
    title: str,
    note: str,
    columns: int,
    colors: Sequence[str],
    legend: Sequence[tuple[str, str]] = (),
    inches: float = 1.0,
) -> "Figure":
    """Draws u8 [N, H, W, 3] in rows; a small enough image takes a whole number of printed dots for each pixel."""
    from matplotlib.patches import Rectangle

    count, high, wide = pixels.shape[:3]
    columns, gap = max(1, min(columns, count)), 0.12
    # Printed dots for a pixel: a whole number where there is more than one, so that all pixels are of one size.
    dots = min(inches, 10 / columns) * SAVED_DPI / max(high, wide)
    dots = round(dots) if dots >= 1.5 else min(dots, 1.0)
    width, height = wide * dots / SAVED_DPI, high * dots / SAVED_DPI
    lines = max((caption.count("\n") + 1 for caption in captions), default=0)
    step = (width + gap, height + 0.14 * lines + (0.14 if lines else gap))
    across = max(2 * MARGIN + columns * step[0] - gap, 4.0)
    keys = _placed_keys(legend, across - 2 * MARGIN)
    first = below_heading(note) + (keys[-1][1] + 0.28 if keys else 0.0)
    rows = math.ceil(count / columns)
    figure = blank_page(across, first + max(rows * step[1], 0.2) + 0.2)
    place_heading(figure, title, note)
    page = figure.add_axes((0, 0, 1, 1))
    across, down = figure.get_size_inches()
    dot = 1 / SAVED_DPI  # the edge is drawn around an image, not over it
    smooth = "nearest" if dots >= 1 else "antialiased"
    for i, image in enumerate(pixels):
        left, top = MARGIN + i % columns * step[0], first + i // columns * step[1]
        page.imshow(image, extent=(left, left + width, top + height, top), interpolation=smooth, aspect="auto")
        edge = Rectangle((left - dot, top - dot), width + 2 * dot, height + 2 * dot, fill=False, edgecolor=RULE, linewidth=0.6)
        page.add_patch(edge)
        for line, text in enumerate(captions[i].split("\n") if captions else ()):
            fitted = fit_text(text, step[0] - 0.1, SMALL)
            page.text(left, top + height + 0.04 + 0.14 * line, fitted, **text_style(size=SMALL, color=colors[i]))
    for (name, colour), (right, below) in zip(legend, keys, strict=True):
        place = (MARGIN + right, below_heading(note) + below)
        page.add_patch(Rectangle(place, 0.11, 0.11, facecolor=colour, edgecolor=RULE, linewidth=0.6))
        page.text(place[0] + 0.16, place[1] - 0.005, name, **text_style(size=SMALL, color=INK))
    page.set(xlim=(0, across), ylim=(down, 0))
    page.set_axis_off()
    return figure


def _placed_keys(legend: Sequence[tuple[str, str]], width: float) -> list[tuple[float, float]]:
    """Returns (inches from the left, inches down) of each entry of a legend, in lines of some width."""
    places: list[tuple[float, float]] = []
    left, line = 0.0, 0.0
    for name, _ in legend:
        needed = 0.16 + text_width(name, SMALL) + 0.2
        if left and left + needed > width:
            left, line = 0.0, line + 0.19
        places.append((left, line))
        left += needed
    return places
