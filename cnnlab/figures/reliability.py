"""The reliability diagram of a classifier."""

from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    BLUE,
    FONT,
    MARGIN,
    ORANGE,
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


def reliability_diagram(counts: np.ndarray, confidence: np.ndarray, accuracy: np.ndarray, *, title: str) -> "Figure":
    """Draws the accuracy of predictions by their confidence, the gap to the diagonal, and below it how many there are.

    On the diagonal the confidence is right; a bar below it is of predictions that are too confident. Empty bins have no bar.

    Args:
      counts: number of predictions in each of M bins of confidence, which have equal widths, int [M].
      confidence: mean confidence of each bin, [M]; NaN where it is empty.
      accuracy: share of the predictions of each bin that is right, [M]; NaN where it is empty.
      title: one line above the diagram.
    """
    size, total, there = len(counts), int(counts.sum()), counts > 0
    accuracy, confidence = (np.where(there, values, 0.0) for values in (accuracy, confidence))
    gap = confidence - accuracy
    error = float(np.sum(counts * np.abs(gap))) / max(total, 1)
    note = f"{total:,} predictions in {size} bins; expected calibration error {100 * error:.2f} %"
    # Inches; the diagram is square, the counts lie below it on the same axis.
    left, top, side, below = MARGIN + 0.6, below_heading(note) + 0.2, 4.0, 0.9
    figure = blank_page(left + side + 1.35, top + side + below + 0.85)
    place_heading(figure, title, note)
    width, centres, ticks = 0.92 / size, (np.arange(size) + 0.5) / size, np.linspace(0, 1, 6)
    axes = place_axes(figure, left, top, side, side)
    axes.bar(centres, accuracy, width=width, color=BLUE)
    axes.bar(centres, gap, bottom=accuracy, width=width, facecolor=ORANGE, alpha=0.35, edgecolor=ORANGE, linewidth=0.6)
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks)
    axes.set_xticklabels([])
    axes.set_yticklabels([f"{100 * tick:.0f}" for tick in ticks])
    axes.text(0, 1.015, "accuracy, %", transform=axes.transAxes, **text_style(size=SMALL, color=SOFT, va="bottom"))
    place_text(figure, left + side + 0.15, top + 0.1, "accuracy", size=SMALL, color=BLUE)
    place_text(figure, left + side + 0.15, top + 0.3, "gap to confidence", size=SMALL, color=ORANGE)
    lower = place_axes(figure, left, top + side + 0.15, side, below)
    lower.bar(centres, counts, width=width, color="#A9BFCE")
    lower.set(xlim=(0, 1), xticks=ticks, yticks=[0, int(counts.max(initial=1))])
    lower.set_xticklabels([f"{100 * tick:.0f}" for tick in ticks])
    label = "confidence, %; the lower bars count the predictions"
    lower.set_xlabel(label, fontsize=SMALL, color=SOFT, fontfamily=FONT, loc="left")
    return figure
