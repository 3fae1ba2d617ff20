"""How much a number suffers where one layer at a time is pruned, by layer and density."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    INK,
    MARGIN,
    ORANGE,
    SMALL,
    SOFT,
    TEXT,
    TITLE,
    below_heading,
    blank_page,
    fit_text,
    place_heading,
    place_text,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = (0.62, 0.24)
"""Inches across and down of a cell."""


def sensitivity(
    values: np.ndarray, layers: Sequence[str], densities: Sequence[float], *, whole: float, title: str, note: str = ""
) -> "Figure":
    """Draws a row for each layer and a column for each density; a cell is the darker the further it is from the whole network.

    Args:
      values: the number with a layer pruned, [L, D].
      layers: L names, in the order of the rows.
      densities: D shares of a layer that stay.
      whole: the number without pruning.
      title: one line above the cells.
      note: a line beneath the title.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    names = min(2.4, max(text_width(layer, SMALL) for layer in layers)) + 0.2
    left, first = MARGIN + names, below_heading(note) + 0.3
    width = max(left + CELL[0] * len(densities), *(MARGIN + text_width(*line) for line in ((title, TITLE), (note, TEXT))))
    figure = blank_page(width + MARGIN, first + CELL[1] * len(layers) + 0.3)
    place_heading(figure, title, note)
    page = figure.add_axes((0, 0, 1, 1))
    across, down = figure.get_size_inches()
    lost = np.abs(np.asarray(values, np.float64) - whole)
    parts = lost / (lost.max() or 1.0)
    for column, density in enumerate(densities):
        place_text(figure, left + CELL[0] * column + 0.08, first - 0.2, f"{100 * density:g} %", size=SMALL, color=SOFT)
    for row, layer in enumerate(layers):
        top = first + CELL[1] * row
        place_text(figure, MARGIN, top + 0.04, fit_text(layer, names - 0.1, SMALL), size=SMALL, color=INK)
        for column, part in enumerate(parts[row]):
            colour = tuple(1 - part * (1 - channel) for channel in to_rgb(ORANGE))
            corner = (left + CELL[0] * column, top)
            page.add_patch(Rectangle(corner, CELL[0] - 0.03, CELL[1] - 0.03, facecolor=colour, linewidth=0))
            shown = f"{values[row][column]:.3f}"
            place_text(figure, corner[0] + 0.08, top + 0.04, shown, size=SMALL, color="white" if part > 0.6 else INK)
    page.set(xlim=(0, across), ylim=(down, 0))
    page.set_axis_off()
    return figure
