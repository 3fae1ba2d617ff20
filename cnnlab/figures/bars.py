"""Named shares as horizontal bars, such as a metric of each class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    BLUE,
    INK,
    MARGIN,
    RULE,
    SMALL,
    SOFT,
    below_heading,
    blank_page,
    fit_text,
    place_heading,
    place_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTH = 3.6
"""Inches of a bar of 100 %."""


def bars(values: Sequence[float], names: Sequence[str], *, title: str, note: str = "") -> "Figure":
    """Draws a bar for each share, the largest first, with its number; NaN, a share that is not defined, comes last as a dash.

    Args:
      values: K shares in [0, 1], or NaN.
      names: K names.
      title: one line above the bars.
      note: a line beneath the title.
    """
    from matplotlib.patches import Rectangle

    order = np.argsort(-np.nan_to_num(np.asarray(values, np.float64), nan=-1.0), kind="stable")
    left, first, step = MARGIN + 1.6, below_heading(note) + 0.05, 0.24
    figure = blank_page(left + LENGTH + 0.9, first + step * len(names) + 0.3)
    place_heading(figure, title, note)
    page = figure.add_axes((0, 0, 1, 1))
    across, down = figure.get_size_inches()
    for row, number in enumerate(order):
        top, share = first + row * step, float(values[number])
        page.add_patch(Rectangle((left, top), LENGTH, 0.16, facecolor=RULE, linewidth=0))
        shown = "–"
        if not np.isnan(share):
            page.add_patch(Rectangle((left, top), LENGTH * min(max(share, 0.0), 1.0), 0.16, facecolor=BLUE, linewidth=0))
            shown = f"{100 * share:.1f} %"
        place_text(figure, MARGIN, top, fit_text(names[number], 1.5, SMALL), size=SMALL, color=INK)
        place_text(figure, left + LENGTH + 0.1, top, shown, size=SMALL, color=SOFT if shown == "–" else INK)
    page.set(xlim=(0, across), ylim=(down, 0))
    page.set_axis_off()
    return figure
