"""Figures of a latent space: images decoded on a grid of codes, and codes of images in the plane."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnlab.figures.page import (
    INK,
    MARGIN,
    SMALL,
    SOFT,
    below_heading,
    blank_page,
    class_labels,
    families,
    fit_text,
    in_letters,
    place_axes,
    place_heading,
    place_text,
    text_style,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_INCHES = 8.0
"""Largest width of all images of a page together."""
LARGEST_TILE = 0.6
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#222222", "#999999", "#7B3294")
"""Colours of the classes; from the eleventh on they repeat."""
MOST_POINTS = 5000


def tiles(
    images: np.ndarray,
    *,
    title: str,
    note: str = "",
    gap: int = 1,
    row_captions: Sequence[str] = (),
    column_captions: Sequence[str] = (),
) -> "Figure":
    """Draws images in a table, with captions to the left of the rows and above the columns.

    Args:
      images: f32 [rows, columns, H, W, C] in [0, 1], clipped to it; C = 1 is drawn grey, C = 3 in colour.
      title: one line above the images.
      note: smaller line beneath the title.
      gap: number of white pixels between two images.
      row_captions: one for each row, or none.
      column_captions: one for each column, or none.
    """
    row_captions = [in_letters(text) for text in row_captions]
    shown = np.clip(np.nan_to_num(images), 0, 1)
    shown = np.pad(shown, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=1)
    rows, columns, high, wide, channels = shown.shape
    # [rows, columns, H, W, C] -> [rows, H, columns, W, C] -> [rows·H, columns·W, C], then grey -> RGB
    page = shown.transpose(0, 2, 1, 3, 4).reshape(rows * high, columns * wide, channels)
    page = np.broadcast_to(page, (*page.shape[:2], 3)) if channels == 1 else page
    # The layout in inches: the captions decide the left margin, the title the least width of the page.
    tile = min(LARGEST_TILE, LARGEST_INCHES / columns)
    captions = max((text_width(text, SMALL) for text in row_captions), default=0.0) + (0.1 if row_captions else 0.0)
    left, top = MARGIN + captions, below_heading(note) + (0.2 if column_captions else 0.0)
    height = tile * rows * high / wide
    width = max(left + tile * columns + MARGIN, MARGIN * 2 + text_width(title, 13.0) * 1.15)
    figure = blank_page(width, top + height + MARGIN)
    place_heading(figure, title, note)
    axes = place_axes(figure, left, top, tile * columns, height)
    axes.imshow(page, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    for number, text in enumerate(row_captions):
        middle = top + height * (number + 0.5) / rows
        place_text(figure, left - 0.08, middle, text, size=SMALL, color=SOFT, ha="right", va="center")
    for number, text in enumerate(column_captions):
        middle = left + tile * (number + 0.5)
        place_text(figure, middle, top - 0.05, fit_text(text, tile, SMALL), size=SMALL, color=SOFT, ha="center", va="bottom")
    return figure


def code_plane(codes: np.ndarray, labels: np.ndarray, class_names: Sequence[str], *, title: str) -> "Figure":
    """Draws codes of images as points, coloured by class.

    Args:
      codes: f32 [N, 2]; the first 5000 are drawn.
      labels: i32 [N].
      class_names: K names, in the legend.
      title: one line above the points.
    """
    codes, labels = codes[:MOST_POINTS], labels[:MOST_POINTS]
    top, side = below_heading(""), 5.6
    figure = blank_page(MARGIN + 0.5 + side + 1.9, top + side + 0.7)
    place_heading(figure, title, "")
    axes = place_axes(figure, MARGIN + 0.4, top, side, side)
    for number, name in enumerate(class_labels(class_names)):
        chosen = codes[labels == number]
        color = COLORS[number % len(COLORS)]
        axes.plot(chosen[:, 0], chosen[:, 1], ".", markersize=2.5, color=color, label=fit_text(name, 1.3, SMALL))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("first unit of the code", **_label())
    axes.set_ylabel("second unit", **_label())
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, markerscale=4, handletextpad=0.2)
    for text in legend.get_texts():
        text.set(fontfamily=list(families()), fontsize=SMALL, color=INK)
    return figure


def _label() -> dict[str, Any]:
    style = text_style(size=SMALL, color=SOFT)
    return {name: style[name] for name in ("fontfamily", "fontsize", "color")}
