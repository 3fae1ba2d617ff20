"""The accuracy of a classifier on attacked images, by the size of the attack."""

from collections.abc import Sequence
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


def robustness(
    epsilons: Sequence[float], attacked: np.ndarray, noise: np.ndarray, *, clean: float, title: str, unit: str
) -> "Figure":
    """Draws the accuracy on attacked images and on noise of the same size over ε, from the images as they are on.

    Args:
      epsilons: sizes of the change, E numbers, in pixels of [0, 1].
      attacked: share of the examples that are right, attacked, [E].
      noise: share that is right on random changes of the same size, [E].
      clean: share that is right on the images as they are.
      title: one line above the curves.
      unit: what ε measures.
    """
    order = np.argsort(epsilons)
    sizes = np.concatenate([[0.0], np.asarray(epsilons, np.float64)[order]])
    note = "in orange the attack, in blue random changes of the same size"
    left, top, width, height = MARGIN + 0.45, below_heading(note) + 0.2, 4.6, 3.0
    figure = blank_page(left + width + 0.75, top + height + 0.75)
    place_heading(figure, title, note)
    axes = place_axes(figure, left, top, width, height)
    ends = []
    for values, colour in ((noise, BLUE), (attacked, ORANGE)):
        shares = 100 * np.concatenate([[clean], np.asarray(values)[order]])
        axes.plot(sizes, shares, color=colour, linewidth=1.6, marker="o", markersize=3, clip_on=False)
        ends.append(top + height * (1 - shares[-1] / 100))
    # The names stand at the right ends of the curves, that of the attack below, where the two would lie on one another.
    place_text(figure, left + width + 0.1, ends[0] - 0.08, "noise", size=SMALL, color=BLUE)
    place_text(figure, left + width + 0.1, max(ends[1], ends[0] + 0.17) - 0.08, "attack", size=SMALL, color=ORANGE)
    axes.set(xlim=(0, sizes[-1] or 1.0), ylim=(0, 100))
    axes.text(0, 1.03, "accuracy, %", transform=axes.transAxes, **text_style(size=SMALL, color=SOFT, va="bottom"))
    axes.set_xlabel(f"ε, {unit}, of pixels in [0, 1]", fontsize=SMALL, color=SOFT, fontfamily=FONT, loc="left")
    return figure
