"""The figure of a check: losses of its short trainings, and outputs and gradients layer by layer."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    BLUE,
    FONT,
    GREEN,
    INK,
    ORANGE,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    below_heading,
    blank_page,
    fit_text,
    place_axes,
    place_heading,
    text_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL, HEIGHT, APART, NAMES = 3.9, 3.0, 0.75, 1.1
"""Width and height of a panel, the space between two, and that for the names at the ends of curves, in inches."""
MOST_NAMES = 12
"""Layers up to which their names are written."""


def training_check(
    curves: Mapping[str, Sequence[float]],
    layers: Sequence[str],
    outputs: Sequence[float],
    gradients: Sequence[float],
    *,
    title: str,
    note: str,
) -> "Figure":
    """Draws the losses of short trainings, and the root mean square of outputs and gradients over the depth of a network.

    Args:
        curves: {what was trained: loss of each step}; values that are not finite end a curve.
        layers: names of the layers, from the input on.
        outputs: root mean square of the outputs of each.
        gradients: root mean square of the gradient of each kernel over that of the kernel.
        title: one line above the panels.
        note: the verdict, below it.
    """
    left, top = 0.8, below_heading(note) + 0.4
    second = left + bool(curves) * (PANEL + APART + NAMES)
    tall = top + HEIGHT + (1.3 if 0 < len(layers) <= MOST_NAMES else 0.7)
    figure = blank_page(max(second + 2 * bool(layers) * (PANEL + APART), 6.0), tall)
    place_heading(figure, title, note)
    if curves:
        _draw_losses(place_axes(figure, left, top, PANEL, HEIGHT), curves)
    if layers:
        panels = (("Outputs, root mean square", outputs, BLUE), ("Gradient / weight", gradients, ORANGE))
        for number, (heading, values, colour) in enumerate(panels):
            axes = place_axes(figure, second + number * (PANEL + APART), top, PANEL, HEIGHT)
            _draw_layers(axes, layers, values, heading, colour)
    return figure


def _draw_losses(axes: "Axes", curves: Mapping[str, Sequence[float]]) -> None:
    """Draws a line for each short training, named at its end."""
    axes.set_xlabel("step", fontsize=SMALL, color=SOFT, fontfamily=FONT, loc="left")
    axes.text(0, 1.03, "Loss, log scale", transform=axes.transAxes, **text_style(size=TEXT + 1, va="bottom"))
    axes.set_yscale("log")
    shades = [SOFT, BLUE, INK, ORANGE, GREEN]
    ends = []
    longest = max(len(losses) for losses in curves.values())
    first = max((losses[0] for losses in curves.values() if losses and math.isfinite(losses[0])), default=1.0)
    for number, (name, losses) in enumerate(curves.items()):
        values = np.asarray(losses, np.float64)
        values = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        colour = shades[number % len(shades)]
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.5)
        seen = np.flatnonzero(np.isfinite(values))
        if len(seen):
            ends.append((float(min(values[seen[-1]], 30 * first)), name, colour))
    axes.set_xlim(0, longest + 1)
    _, highest = axes.get_ylim()
    axes.set_ylim(top=min(highest, 100 * first))  # a training that diverges does not press the others together
    _logarithmic(axes)
    low, high = (math.log10(edge) for edge in axes.get_ylim())
    heights = sorted(((math.log10(value) - low) / (high - low), name, colour) for value, name, colour in ends)
    placed = -1.0
    for height, name, colour in heights:
        placed = max(min(height, 1.0), placed + 0.065)  # names do not lie on each other
        axes.text(1.02, placed, name, transform=axes.transAxes, **text_style(size=SMALL, color=colour, va="center"))


def _draw_layers(axes: "Axes", layers: Sequence[str], values: Sequence[float], heading: str, colour: str) -> None:
    """Draws a number of each layer over the depth."""
    axes.text(0, 1.03, f"{heading}, log scale", transform=axes.transAxes, **text_style(size=TEXT + 1, va="bottom"))
    places = np.arange(len(layers))
    axes.plot(places, values, color=colour, marker="o", markersize=4, linewidth=1.2)
    _logarithmic(axes)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    if len(layers) <= MOST_NAMES:
        names = [fit_text(name, 1.1, SMALL) for name in layers]
        axes.set_xticks(places, names, rotation=45, ha="right", fontsize=SMALL, fontfamily=FONT, color=SOFT)
    else:
        axes.set_xlabel("layer, from the input on", fontsize=SMALL, color=SOFT, fontfamily=FONT, loc="left")


def _logarithmic(axes: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 30 * low else (1.0,), numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:.3g}".replace("-", "−")))
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
