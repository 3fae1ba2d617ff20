"""Learning curves: metrics over the steps of a run, the primary one last."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cnnlab.figures.page import (
    BLUE,
    DPI,
    FONT,
    GREEN,
    INK,
    MARGIN,
    ORANGE,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    below_heading,
    blank_page,
    format_number,
    place_axes,
    place_heading,
    place_text,
    text_style,
    text_width,
    wrap_text,
)
from cnnlab.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.17
"""Inches between two lines of remarks."""
SPLITS = {"train": BLUE, "validation": ORANGE, "test": GREEN}


def learning_curves(
    records: Sequence[Mapping[str, float | None]],
    *,
    title: str,
    metrics: Sequence[Metric],
    remarks: Sequence[str] = (),
) -> "Figure":
    """Draws each metric over the steps: training and validation curves, the best validation point, the test result.

    The heading of a panel gives the metric's name and unit; a share is shown in percent. A metric whose declaration allows a
    logarithmic scale has one where it spans more than a decade. Low early records of a share are cut off where they would
    press all others into a narrow strip. Values that are None, NaN or infinite leave a gap; the heading gives their number.

    Args:
      records: lines of metrics.jsonl: "step" and any of "train/loss", "validation/accuracy", …, "epoch". The last test
        result is shown.
      title: one line above the panels.
      metrics: declarations of the metrics, in the order of the panels. The best validation point is marked where a metric
        declares which direction is better.
      remarks: sentences on the curves, written below the panels.
    """
    curves = [{split: _curve(records, f"{split}/{metric.name}") for split in SPLITS} for metric in metrics]
    steps = np.concatenate([steps for panel in curves for steps, _ in panel.values()])
    # A long training curve is noisy: its running mean is drawn over it, with an odd window that leaves about 30 separate means.
    longest = max(len(panel["train"][0]) for panel in curves)
    window = 2 * (longest // 60) + 1 if longest >= 80 else 1
    note = f"bold train curve: mean of {window} records" if window > 1 else ""
    # Inches; `apart` leaves room between panels for the names at the ends of the lines.
    left, top, width, height, apart = 0.8, below_heading(note) + 0.4, 3.9, 3.0, 1.75
    across, down = left + len(metrics) * (width + apart) - apart + 1.25, top + height + 0.7
    # Small letters are drawn up to a twentieth wider than they are measured.
    lines = [line for remark in remarks for line in wrap_text(remark, 0.93 * (across - 2 * MARGIN), SMALL)]
    figure = blank_page(across, down + LINE * len(lines))
    place_heading(figure, title, note)
    for i, line in enumerate(lines):
        place_text(figure, MARGIN, down - 0.1 + LINE * i, line, size=SMALL)
    for i, (metric, panel) in enumerate(zip(metrics, curves, strict=True)):
        axes = place_axes(figure, left + i * (width + apart), top, width, height)
        axes.set_xlabel(_step_label(records), fontsize=SMALL, color=SOFT, fontfamily=FONT, loc="left")
        if len(steps) and steps.max() > steps.min():
            # One range of steps for all panels, so that they can be compared.
            space = 0.02 * (steps.max() - steps.min())
            axes.set_xlim(steps.min() - space, steps.max() + space)
        _draw_curves(axes, panel, metric, window=window)
    return figure


def _curve(records: Sequence[Mapping[str, float | None]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (steps, values), each f64 [N], in order of the steps; values that are not finite are NaN."""
    pairs = [(record["step"], math.nan if record[name] is None else record[name]) for record in records if name in record]
    steps, values = np.asarray(pairs, np.float64).reshape(-1, 2).T  # [N, 2] -> 2 of [N]; N may be 0
    order = np.argsort(steps, kind="stable")
    return steps[order], np.where(np.isfinite(values), values, np.nan)[order]


def _step_label(records: Sequence[Mapping[str, float | None]]) -> str:
    pairs = [(record["step"], record["epoch"]) for record in records if record.get("step") and record.get("epoch")]
    if not pairs:
        return "step"
    step, epoch = pairs[-1]
    assert step is not None and epoch is not None
    return f"step ({step / epoch:,.4g} per epoch)"


def _draw_curves(axes: "Axes", curves: Mapping[str, tuple[np.ndarray, np.ndarray]], metric: Metric, *, window: int) -> None:
    """Draws one panel. With a `window` above 1, the training curve is a running mean over faint records."""
    every = np.concatenate([values for _, values in curves.values()])
    finite = every[np.isfinite(every)]
    # A share outside [0, 1] is an error of the task: it is shown as it is.
    bounded = metric.is_share and bool(np.all((finite >= 0) & (finite <= 1)))
    logarithmic = metric.log_scale and len(finite) > 0 and finite.min() > 0 and finite.max() / finite.min() > 10
    floor = _floor(finite) if bounded and metric.higher_is_better else None
    below = f" ({np.count_nonzero(finite < floor)} early records below)" if floor is not None else ""
    heading = ", ".join(filter(None, [metric.label, metric.shown_unit + below, "log scale" if logarithmic else ""]))
    axes.text(0, 1.03, heading, transform=axes.transAxes, **text_style(size=TEXT + 1, va="bottom"))
    # A gap in a curve is easily overlooked: a number says how many values are missing.
    if len(every) > len(finite):
        lost = f"{len(every) - len(finite)} of {len(every)} values not finite"
        axes.text(1, 1.035, lost, transform=axes.transAxes, **text_style(size=SMALL, color=ORANGE, ha="right", va="bottom"))
    decades = math.log10(finite.max() / finite.min()) if logarithmic else 0.0
    _scale_panel(axes, decades=decades, percent=metric.is_share)
    if not len(finite):
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, **text_style(color=SOFT, ha="center", va="center"))
        axes.set(xticks=[], yticks=[])
        return
    lines: list[tuple[np.ndarray, np.ndarray]] = []
    for split in ("train", "validation"):
        steps, values = curves[split]
        if not np.isfinite(values).any():
            continue
        if split == "train" and window > 1:
            axes.plot(steps, values, color=SPLITS[split], linewidth=0.8, alpha=0.3)
            values = _running_mean(values, window)
        # Markers show where the records of a short curve are; on a long one they would hide the line.
        marker = "o" if len(values) <= 15 else ""
        axes.plot(steps, values, color=SPLITS[split], linewidth=1.8, marker=marker, markersize=3.5, solid_capstyle="round")
        lines.append((steps, values))
    if floor is not None:
        margin = 0.1 * (finite.max() - floor)
        axes.set_ylim(floor - margin, finite.max() + margin)
    _label_panel(axes, curves, lines, metric, bounded=bounded)


def _floor(finite: np.ndarray) -> float | None:
    """Returns where to cut an axis off if the lowest twentieth of the values takes more than half of it, else None."""
    floor = float(np.quantile(finite, 0.05)) if len(finite) >= 20 else 0.0
    highest = finite.max() if len(finite) else 0.0
    # A curve that spends most of its records at its highest value leaves no range above the floor.
    return floor if len(finite) >= 20 and floor - finite.min() > highest - floor > 0 else None


def _scale_panel(axes: "Axes", *, decades: float, percent: bool) -> None:
    """Sets scale, ticks and grid. The scale is logarithmic if `decades`, the range of the values, is above 0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if decades:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades < 3 else (1.0,), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.4g}" if percent else f"{y:.4g}".replace("-", "−")))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(y=0.08)


def _label_panel(
    axes: "Axes",
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    lines: list[tuple[np.ndarray, np.ndarray]],
    metric: Metric,
    *,
    bounded: bool,
) -> None:
    """Draws the line of the test result, the names at the ends of the curves, and the best validation point with its value."""

    def shown(value: float) -> str:
        return f"{100 * value:.{2 if value > 0.99 else 1}f}" if metric.is_share else format_number(value)

    labels = []
    tests = curves["test"][1][np.isfinite(curves["test"][1])]
    if len(tests):
        axes.axhline(tests[-1], color=GREEN, linewidth=1.2, linestyle=(0, (4, 3)))
        labels.append((tests[-1], f"test {shown(tests[-1])}", GREEN))
        lines = [*lines, (np.asarray(axes.get_xlim()), tests[[-1, -1]])]
    for split in ("train", "validation"):
        steps, values = curves[split]
        if np.isfinite(values).any():
            # The mean of the last fortieth: a single last record of a noisy curve can lie away from the visible line.
            ends = values[np.isfinite(values)][-max(1, len(values) // 40) :]
            labels.append((float(np.mean(ends)), split, SPLITS[split]))
    bottom, top = axes.get_ylim()
    # The margins of a share do not reach far below 0 or above 1, where no value can lie.
    if bounded and min(top, 1.015) > max(bottom, -0.015):
        axes.set_ylim(max(bottom, -0.015), min(top, 1.015))
    else:
        axes.set_ylim(bottom, top)
    _label_ends(axes, labels)
    steps, values = curves["validation"]
    if metric.higher_is_better is None or not np.isfinite(values).any():
        return
    best = int(np.nanargmax(values) if metric.higher_is_better else np.nanargmin(values))
    point = (steps[best], values[best])
    axes.plot(*point, marker="o", markersize=8, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.3, clip_on=False)
    text = f"best {shown(values[best])}"
    offset, ha, va = _free_place(axes, point, lines, text)
    axes.annotate(
        text,
        point,
        offset,
        textcoords="offset points",
        annotation_clip=False,
        **text_style(size=SMALL + 0.5, color=ORANGE, ha=ha, va=va),
    )


def _label_ends(axes: "Axes", labels: Sequence[tuple[float, str, str]], *, least: float = 0.065) -> None:
    """Writes the labels right of the panel, moved apart no more than needed.

    Args:
      axes: the panel.
      labels: (height in data units, text, colour) of each label.
      least: smallest distance between two labels, as a fraction of the panel's height.
    """
    fractions = [
        axes.transAxes.inverted().transform(axes.transData.transform((axes.get_xlim()[0], y)))[1] for y, _, _ in labels
    ]
    order = np.argsort(fractions, kind="stable")
    groups: list[list[float]] = []  # [mean of (fraction − least · rank), size]: isotonic regression by pooling neighbours
    for rank, i in enumerate(order):
        groups.append([fractions[i] - least * rank, 1])
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            value, size = groups.pop()
            groups[-1] = [(groups[-1][0] * groups[-1][1] + value * size) / (groups[-1][1] + size), groups[-1][1] + size]
    places = [value for value, size in groups for _ in range(int(size))]
    for rank, i in enumerate(order):
        _, text, color = labels[i]
        axes.text(1.025, places[rank] + least * rank, text, transform=axes.transAxes, **text_style(color=color, va="center"))


def _free_place(
    axes: "Axes", point: tuple[float, float], lines: Sequence[tuple[np.ndarray, np.ndarray]], text: str
) -> tuple[tuple[float, float], str, str]:
    """Returns (offset in points, horizontal, vertical alignment) for a text near a point, where it covers the curves least."""
    box = np.asarray(axes.get_window_extent().size) * (72 / DPI)  # points
    to_points = axes.transData + axes.transAxes.inverted()
    x, y = to_points.transform(point) * box
    # Each curve as 2000 points along its line, in typographic points from the lower left corner of the panel.
    dots = [np.zeros((0, 2))]
    for steps, values in lines:
        kept = np.isfinite(values)
        corners = to_points.transform(np.stack([steps[kept], values[kept]], 1)) * box  # 2 of [N] -> [N, 2]
        along = np.linspace(0, len(corners) - 1, 2000)
        dots.append(np.stack([np.interp(along, range(len(corners)), corners[:, i]) for i in (0, 1)], 1))
    across, down = text_width(text, SMALL + 0.5) * 72 + 4, SMALL + 4
    places: list[tuple[int, int, tuple[tuple[float, float], str, str]]] = []
    # Near places come first: of two that cover as little, min() takes the earlier one.
    for distance in (10, 22, 36, 52):
        for sign, va in ((-1, "top"), (1, "bottom")):
            for shift, ha in ((0, "center"), (-across / 2 + 6, "right"), (across / 2 - 6, "left")):
                left, low = x + shift - across / 2, y + sign * distance - (down if sign < 0 else 0)
                hit = sum(int(((d >= (left, low)) & (d <= (left + across, low + down))).all(1).sum()) for d in dots)
                outside = left < 0 or low < 0 or left + across > box[0] + 4 or low + down > box[1]
                anchor = {"center": 0, "right": 6, "left": -6}[ha]
                places.append((hit + 10_000 * outside, len(places), ((anchor, sign * distance), ha, va)))
    return min(places)[2]


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the mean of the finite values among `window` neighbours, fewer at the ends; NaN stays NaN. [N] -> [N]."""
    ones, finite = np.ones(window), np.isfinite(values)
    count = np.convolve(finite, ones, "same")
    total = np.convolve(np.where(finite, values, 0.0), ones, "same")
    return np.where(finite, total / np.maximum(count, 1), np.nan)
