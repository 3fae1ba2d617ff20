"""Curves of precision by recall."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    FONT,
    MARGIN,
    SMALL,
    SOFT,
    below_heading,
    blank_page,
    place_axes,
    place_heading,
    place_text,
    text_style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CURVES = 12
"""Number of classes that have a curve each; of more there is the mean alone."""


def precision_recall(precisions: np.ndarray, class_names: Sequence[str], *, title: str) -> "Figure":
    """Draws the precision of each class by its recall, and the mean over classes as a thick line.

    Args:
      precisions: shares [K, R] at R recalls that are evenly spaced from 0 to 1; NaN for a class without objects.
      class_names: K names.
      title: one line above the diagram.
    """
    from matplotlib import colormaps

    there = [number for number in range(len(precisions)) if not np.isnan(precisions[number]).any()]
    means = precisions[there].mean(axis=1)
    note = f"average precision {100 * means.mean():.1f} %" if there else "no object"
    left, top, side = MARGIN + 0.6, below_heading(note) + 0.2, 4.0
    figure = blank_page(left + side + 2.2, top + side + 0.85)
    place_heading(figure, title, note)
    axes = place_axes(figure, left, top, side, side)
    recalls, ticks = np.linspace(0, 1, precisions.shape[1]), np.linspace(0, 1, 6)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=ticks, yticks=ticks)
    for label in (axes.set_xticklabels, axes.set_yticklabels):
        label([f"{100 * tick:.0f}" for tick in ticks])
    axes.text(0, 1.03, "precision, %", transform=axes.transAxes, **text_style(size=SMALL, color=SOFT, va="bottom"))
    axes.set_xlabel("recall, %", fontsize=SMALL, color=SOFT, fontfamily=FONT, loc="left")
    shown = there if len(there) <= MOST_CURVES else []
    for row, number in enumerate(shown):
        colour = colormaps["tab20"](row % 20)
        axes.plot(recalls, precisions[number], color=colour, linewidth=1.2)
        text = f"{class_names[number]}  {100 * precisions[number].mean():.1f}"
        place_text(figure, left + side + 0.15, top + 0.3 + 0.2 * row, text, size=SMALL, color=colour)
    if there:
        axes.plot(recalls, precisions[there].mean(axis=0), color="black", linewidth=2.2)
        place_text(figure, left + side + 0.15, top + 0.1, f"mean  {100 * means.mean():.1f}", size=SMALL, color="black")
    return figure
