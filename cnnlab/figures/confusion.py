"""The confusion matrix of a classifier."""

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    DPI,
    INK,
    MARGIN,
    ORANGE,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    below_heading,
    blank_page,
    class_labels,
    families,
    fit_text,
    place_axes,
    place_heading,
    place_text,
    text_style,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> "Figure":
    """Draws the confusion matrix so that the errors stand out.

    Off the diagonal, colour is the share of the row's examples on a scale of its own; the diagonal is a muted grey-blue. On
    the right is the recall of each class (a dash where a class has no example). For up to 20 classes the counts are written
    in the cells, except errors of zero; for more, the most frequent errors are listed under the matrix.

    Args:
      counts: int [K, K]; rows are true classes, columns predicted ones.
      class_names: K names; long ones are rotated and truncated. Above 100 classes only every n-th is named.
    """
    counts = np.asarray(counts).astype(np.int64)
    if not len(class_names) or counts.shape != (len(class_names),) * 2:
        raise ValueError(f"confusion_matrix: counts {counts.shape} should be [K, K] for {len(class_names)} class names, K > 0")
    k, total, right = len(counts), int(counts.sum()), int(np.trace(counts))
    # Cells shrink with K, so that a page stays readable from 2 to 1000 classes; everything below is in inches.
    cell = float(np.clip(5.0 / k, 8.5 / max(k, 100), 0.7))
    points = float(np.clip(cell * 72 * 0.76, 4.5, TEXT))
    class_names = class_labels(class_names)
    names = [fit_text(name, 1.8, points) for name in class_names]
    longest = max(text_width(name, points) for name in names)
    upright = longest > 0.9 * cell
    over = (longest if upright else points / 72) + 0.1  # the column names
    left, top, side = MARGIN + max(longest, text_width("truth", SMALL)) + 0.1, below_heading("accuracy") + 0.25 + over, k * cell
    errors = _worst_errors(counts, class_names, inches=(side + 0.2) / 2) if k > 20 else []
    figure = blank_page(max(left + side + 1.55, 5.0), top + side + 0.75 + 0.2 * len(errors) + (0.15 if errors else 0.0))
    note = f"accuracy {100 * right / total:.1f} %: {right:,} of {total:,} right" if total else "no examples"
    place_heading(figure, "Confusion matrix", note)
    rates = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes = place_axes(figure, left, top, side, side)
    _draw_cells(axes, counts, rates, points=float(np.clip(cell * 72 * 0.36, 7.0, TEXT)) if k <= 20 else 0.0)
    _name_cells(axes, names, points, upright=upright)
    place_text(figure, left, top - over - 0.1, "predicted", size=SMALL, color=SOFT, va="bottom")
    place_text(figure, left - 0.07, top - 0.08, "truth", size=SMALL, color=SOFT, ha="right", va="bottom")
    _draw_recall(figure, counts, left + side + 0.15, top, side, points)
    _draw_error_scale(figure, left, top + side + 0.22, rates)
    for i, error in enumerate(errors):
        place_text(figure, left, top + side + 0.75 + 0.2 * i, fit_text(error, side + 1.2, SMALL), size=SMALL)
    return figure


def _errors_map() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("errors", ["#FCE9DD", "#F0A06A", ORANGE, "#8A3B00"])


def _draw_cells(axes: "Axes", counts: np.ndarray, rates: np.ndarray, *, points: float) -> None:
    """Colours the cells, and writes the counts unless their font size `points` is 0."""
    k = len(counts)
    diagonal = np.eye(k, dtype=bool)
    worst = max(float(rates[~diagonal].max(initial=0.0)), 1e-30)
    # RGB [K, K, 3]: white where the count is 0, else by the share of the row; the diagonal [K, 3] has a scale of its own.
    colors = np.where((counts > 0)[..., None], _errors_map()(rates / worst)[..., :3], 1.0)
    muted = np.array([0.96, 0.97, 0.98]) + rates.diagonal()[:, None] * (np.array([0.78, 0.85, 0.90]) - [0.96, 0.97, 0.98])
    colors[diagonal] = muted
    axes.imshow(colors, interpolation="nearest", aspect="equal")
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)
    axes.tick_params(length=0)
    if k <= 40:
        lines = np.arange(k - 1) + 0.5
        axes.hlines(lines, -0.5, k - 0.5, color="white" if k > 20 else RULE, linewidth=0.6)
        axes.vlines(lines, -0.5, k - 0.5, color="white" if k > 20 else RULE, linewidth=0.6)
    for row, column in np.argwhere((counts > 0) | diagonal) if points else ():
        dark = row != column and rates[row, column] > 0.5 * worst
        text = str(int(counts[row, column]))
        # Long counts are set smaller, to take at most 85 % of a cell's width.
        size = min(
            points, points * 0.85 * 72 * axes.get_window_extent().width / DPI / k / (text_width(text, points) * 72 + 1e-9)
        )
        axes.text(column, row, text, **text_style(size=size, color="white" if dark else INK, ha="center", va="center_baseline"))


def _name_cells(axes: "Axes", names: Sequence[str], points: float, *, upright: bool) -> None:
    shown = range(0, len(names), math.ceil(len(names) / 100))
    axes.set_xticks(shown, [names[i] for i in shown], rotation=90 if upright else 0)
    axes.set_yticks(shown, [names[i] for i in shown])
    axes.xaxis.tick_top()
    axes.tick_params(labelsize=points, labelcolor=INK, length=0)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(parse_math=False, fontfamily=list(families()))


def _draw_recall(figure: "Figure", counts: np.ndarray, left: float, top: float, side: float, points: float) -> None:
    k, examples = len(counts), counts.sum(1)  # [K]
    recall = counts.diagonal() / np.maximum(examples, 1)
    axes = place_axes(figure, left, top, 0.75, side)
    axes.barh(range(k), recall, height=0.7 if k <= 40 else 0.9, color="#A9BFCE")
    axes.set(xlim=(0, 1), ylim=(k - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines["bottom"].set_visible(False)
    for row in range(0, k, math.ceil(k / 100)):
        text = f"{100 * recall[row]:.1f}" if examples[row] else "–"
        axes.text(1.05, row, text, **text_style(size=min(points, SMALL), va="center_baseline"))
    place_text(figure, left, top - 0.08, "recall, %", size=SMALL, color=SOFT, va="bottom")


def _draw_error_scale(figure: "Figure", left: float, top: float, rates: np.ndarray) -> None:
    worst = float(rates[~np.eye(len(rates), dtype=bool)].max(initial=0.0))
    if not worst:
        place_text(figure, left, top, "no errors", size=SMALL, color=SOFT)
        return
    axes = place_axes(figure, left, top, 1.2, 0.13)
    axes.imshow(_errors_map()(np.linspace(0, 1, 64))[None, :, :3], aspect="auto", interpolation="bilinear")
    axes.set_axis_off()
    place_text(figure, left, top + 0.18, f"errors, % of the row: up to {100 * worst:.3g}", size=SMALL, color=SOFT)


def _worst_errors(counts: np.ndarray, class_names: Sequence[str], *, inches: float, most: int = 5) -> list[str]:
    """Returns lines on the most frequent errors, each class name fitted into this width."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(i, wrong.shape) for i in order]  # positions in [K·K] -> (row, column)
    fitted = functools.partial(fit_text, inches=inches, points=SMALL)
    return [f"{wrong[i, j]:,} × {fitted(class_names[i])} taken for {fitted(class_names[j])}" for i, j in pairs if wrong[i, j]]
