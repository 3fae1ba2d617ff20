"""Draws charts as inline SVG that fills the width it is given; its colours are CSS variables of the page.

Horizontal positions are percentages of the plot, so that text keeps its size on a narrow screen. Paths cannot use percentages:
they lie in an inner picture that is stretched, with lines of constant width. Labels stand outside the plot, in the padding
that the style sheet gives to `.plot`.
"""

import dataclasses
import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cnnlab.ablation.analyse.results import Interval

SERIES = 8
"""Colours that the style sheet has for arms."""

_MARKS = {
    "better": '<path d="M0 -5.5 5.4 4 -5.4 4Z"/>',
    "worse": '<path d="M0 5.5 5.4 -4 -5.4 -4Z"/>',
    "differs": '<path d="M0 -5.5 5.5 0 0 5.5 -5.5 0Z"/>',
    "undecided": '<circle r="4.2" class="hollow"/>',
    "baseline": '<rect x="-4.2" y="-4.2" width="8.4" height="8.4"/>',
}
"""A shape for every verdict, so that no reader needs the colour."""


def mark(kind: str, across: float, down: float, title: str = "") -> str:
    """Returns the shape of a verdict at `across` (share of the width) and `down` (pixels)."""
    tooltip = f"<title>{html.escape(title)}</title>" if title else ""
    shape = _MARKS.get(kind, _MARKS["undecided"])
    name = kind if kind in _MARKS else "undecided"
    return f'<svg x="{across:.2%}" y="{down:.1f}" class="place"><g class="mark {name}">{tooltip}{shape}</g></svg>'


def badge(kind: str) -> str:
    """Returns the shape of a verdict for a line of text."""
    shape = f'<g class="mark {kind}">{_MARKS[kind]}</g>'
    return f'<svg class="badge" width="12" height="12" viewBox="-6 -6 12 12" aria-hidden="true">{shape}</svg>'


def fluid(body: str, *, height: int, title: str) -> str:
    """Returns a picture as wide as its container; parts that lie outside of it are visible too."""
    return f'<svg class="fluid" width="100%" height="{height}" role="img" aria-label="{html.escape(title)}">{body}</svg>'


@dataclasses.dataclass(frozen=True)
class Axis:
    """Maps values to shares of a side of the plot."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool = False, space: float = 0.05) -> "Axis":
        """Returns an axis that holds the values with some space at its ends."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if log:
            apart = max((high / low) ** space, 1.02)
            return cls(low / apart, high * apart, True)
        apart = space * (high - low) or 0.05 * abs(high) or 0.5
        return cls(low - apart, high + apart)

    def share(self, value: float) -> float:
        """Returns the position of a value: 0 at the low end, 1 at the high one."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        return ((math.log(value) if self.log else value) - low) / (high - low)

    def ticks(self, most: int = 5) -> list[float]:
        """Returns at most `most` round numbers on the axis."""
        if self.log:
            for parts in ((1, 2, 5), (1, 3), (1,)):
                decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                found = [
                    part * 10.0**decade for decade in decades for part in parts if self.low <= part * 10.0**decade <= self.high
                ]
                if len(found) <= most:
                    return found if len(found) > 1 else Axis(self.low, self.high).ticks(most)
            return found[:: math.ceil(len(found) / most)]
        size = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step = next(size * m for m in (1, 2, 2.5, 5, 10, 20) if (self.high - self.low) / (size * m) <= most)
        return [i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def frame(
    across: Axis,
    down: Axis,
    body: str,
    *,
    height: int,
    labels: tuple[str, str],
    format_across: Callable[[float], str],
    format_down: Callable[[float], str],
    title: str,
) -> str:
    """Returns a plot with grid lines, ticks and axis names around `body`, SVG in percentages across and pixels down."""
    parts = []
    for value in down.ticks(5):
        y = height * (1 - down.share(value))
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick end" x="-8" y="{y + 4:.1f}">{html.escape(format_down(value))}</text>')
    for value in across.ticks(4):
        x = across.share(value)
        parts.append(f'<line class="stroke" x1="{x:.2%}" x2="{x:.2%}" y1="{height}" y2="{height + 4}"/>')
        parts.append(f'<text class="tick middle" x="{x:.2%}" y="{height + 18}">{html.escape(format_across(value))}</text>')
    parts.append(f'<line class="stroke" x1="0" x2="100%" y1="{height}" y2="{height}"/>')
    parts.append(f'<text class="tick end" x="100%" y="{height + 36}">{html.escape(labels[0])}</text>')
    head = f'<div class="axis">{html.escape(labels[1])}</div>' if labels[1] else ""
    picture = fluid("".join(parts) + body, height=height, title=title)
    return f'<div class="chart">{head}<div class="plot">{picture}</div></div>'


def stretched(body: str) -> str:
    """Returns paths in 1000 × 1000, stretched over the plot and cut at its edges."""
    return f'<svg class="stretched" width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">{body}</svg>'


def path(points: Sequence[tuple[float, float]], *, closed: bool = False) -> str:
    """Returns the data of a path through points in shares, (0, 0) below and left; it breaks where one is not finite."""
    words, pen_up = [], True
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen_up = True
            continue
        words.append(f"{'M' if pen_up else 'L'}{1000 * x:.1f} {1000 * (1 - y):.1f}")
        pen_up = False
    if len(words) == 1:
        words.append("h0.1")  # a round end makes it a dot
    return " ".join(words) + ("Z" if closed and words else "")


def strip(
    difference: float | None, interval: Interval | None, kind: str, *, limits: tuple[float, float], title: str, height: int = 34
) -> str:
    """Returns one line of a forest plot: zero line, interval and mark; an arrow where they exceed the limits."""
    axis, middle = Axis(*limits), height / 2
    zero = f'<line class="zero" x1="{axis.share(0):.2%}" x2="{axis.share(0):.2%}" y1="0" y2="{height}"/>'
    body = ""
    if difference is not None and math.isfinite(difference):
        ends = (interval.low, interval.high) if interval else (difference, difference)
        inside = [min(max(axis.share(end), 0.0), 1.0) for end in (*ends, difference)]
        if interval:
            body += f'<line class="whisker {kind}" x1="{inside[0]:.2%}" x2="{inside[1]:.2%}" y1="{middle}" y2="{middle}"/>'
        for end, at, points in ((ends[0], 0, "M1 -4 -5 0 1 4"), (ends[1], 1, "M-1 -4 5 0 -1 4")):
            if (end < limits[0]) if at == 0 else (end > limits[1]):
                body += f'<svg x="{at:.0%}" y="{middle}" class="place"><path class="arrow {kind}" d="{points}"/></svg>'
        if 0 <= axis.share(difference) <= 1:
            body += mark(kind, inside[2], middle, title)
    return fluid(zero + body, height=height, title=title)


def strip_limits(found: Sequence[tuple[float, Interval | None]]) -> tuple[float, float]:
    """Returns the ends of a forest plot. One arm that is far off does not squeeze the others: it is drawn as an arrow."""
    ends = [(min(d, i.low) if i else d, max(d, i.high) if i else d) for d, i in found if math.isfinite(d)]
    reaches = sorted(max(-low, high) for low, high in ends)
    if not reaches or reaches[-1] <= 0:
        return -1.0, 1.0
    usual = reaches[(len(reaches) - 1) // 2] or reaches[-1]
    # The numbers stand beside the chart: an arrow is worth it only where all others would be as good as on the line.
    most = reaches[-1] if reaches[-1] <= 30 * usual else 3 * usual
    low, high = max(min(0.0, *(e[0] for e in ends)), -most), min(max(0.0, *(e[1] for e in ends)), most)
    apart = 0.06 * (high - low)
    return low - apart, high + apart


def strip_axis(limits: tuple[float, float], format_tick: Callable[[float], str]) -> str:
    """Returns the ticks below a forest plot."""
    axis = Axis(*limits)
    words = "".join(
        f'<line class="stroke" x1="{axis.share(v):.2%}" x2="{axis.share(v):.2%}" y1="0" y2="4"/>'
        f'<text class="tick middle" x="{axis.share(v):.2%}" y="18">{html.escape(format_tick(v))}</text>'
        for v in axis.ticks(5)
    )
    line = '<line class="stroke" x1="0" x2="100%" y1="0" y2="0"/>'
    return fluid(line + words, height=24, title="scale of the differences")


@dataclasses.dataclass(frozen=True)
class Curve:
    """An arm's learning curve over its seeds. All f64 [N]."""

    at: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean_curve(curves: Sequence[Sequence[Mapping[str, float | None]]], name: str, clock: str) -> Curve | None:
    """Returns the mean ± standard deviation (n − 1) over runs of the metric `name` at each `clock` value (step or epoch)."""
    found: dict[float, list[float]] = {}  # values of all runs, by the clock
    for records in curves:
        for record in records:
            time, value = record.get(clock), record.get(name)
            if time is not None and value is not None and math.isfinite(value):
                found.setdefault(float(time), []).append(float(value))
    if not found:
        return None
    at = np.array(sorted(found))
    mean = np.array([np.mean(found[key]) for key in at])
    sd = np.array([np.std(found[key], ddof=1) if len(found[key]) > 1 else 0.0 for key in at])
    return Curve(at, mean, mean - sd, mean + sd)


def curve_axes(curves: Sequence[Curve], *, log: bool) -> tuple[Axis, Axis, bool]:
    """Returns (across, down, whether early values that would squeeze all later ones are cut off)."""
    across = Axis.around([float(v) for curve in curves for v in (curve.at[0], curve.at[-1])], space=0.01)
    values = [float(v) for curve in curves for v in (*curve.low, *curve.high) if v > 0 or not log]
    late = [float(v) for curve in curves for v in (*curve.low[len(curve.at) // 3 :], *curve.high[len(curve.at) // 3 :])]
    if log or max(late) - min(late) > 0.4 * (max(values) - min(values)):
        return across, Axis.around(values, log=log), False
    return across, Axis.around(late, space=0.12), True


def drawn(curve: Curve, across: Axis, down: Axis, kind: str, *, band: bool = True) -> str:
    """Returns a curve with its band as paths for `stretched`; `kind` is its CSS class."""

    def points(values: np.ndarray) -> list[tuple[float, float]]:
        kept = [(float(a), float(v)) for a, v in zip(curve.at, values, strict=True) if v > 0 or not down.log]
        return [(across.share(a), down.share(v)) for a, v in kept]

    shade = ""
    if band and np.any(curve.high > curve.low):
        shade = f'<path class="band {kind}" d="{path([*points(curve.high), *reversed(points(curve.low))], closed=True)}"/>'
    return f'{shade}<path class="curve {kind}" d="{path(points(curve.mean))}"/>'


def numbered_ends(curves: Sequence[Curve], numbers: Sequence[int], down: Axis, height: int) -> str:
    """Returns the numbers of curves beside their right ends, moved apart where they would cover each other.

    Args:
        curves: the curves in a frame.
        numbers: number of each.
        down: the vertical axis of the frame.
        height: height of the frame in pixels.
    """
    places = [height * (1 - down.share(min(max(float(curve.mean[-1]), down.low), down.high))) for curve in curves]
    texts, below = [], 2.0
    for i in sorted(range(len(curves)), key=lambda i: places[i]):
        y = max(places[i] + 4, below)
        texts.append(f'<svg x="100%" y="{y:.1f}" class="place"><text x="5" class="number s{i}">{numbers[i]}</text></svg>')
        below = y + 13
    return "".join(texts)


def sparkline(curve: Curve, down: Axis) -> str:
    """Returns a curve of the size of a word."""
    across = Axis(float(curve.at[0]), float(curve.at[-1]) if curve.at[-1] > curve.at[0] else float(curve.at[0]) + 1)
    line = drawn(curve, across, down, "ink", band=False)
    return f'<svg class="sparkline" width="88" height="26" role="img" aria-label="learning curve">{stretched(line)}</svg>'
