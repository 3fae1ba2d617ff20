"""Views: which pixels along one axis of the image the positions of an array depend on, and how operations change that.

The pixels that a position depends on are its window, the receptive field along that axis. Windows are those of the theory: they
are not cut at the image's border, and padding counts as if the image continued there.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np

Window = tuple[float, float]
"""First and last pixel; all pixels between them count, also where a dilated kernel leaves holes."""

WHOLE: Window = (-math.inf, math.inf)
"""All of the image, however large."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """The view of an array with one axis for an axis of the image: windows in a regular pattern.

    Position i along `axis` has the window `windows[i % n]`, moved by `(i // n) * step` pixels; n is above 1 after up-sampling
    only, where neighbouring positions have different windows.
    """

    axis: int
    windows: tuple[Window | None, ...]
    step: int

    def at(self, position: int) -> Window | None:
        """Returns the window of a position, also beyond the ends of the axis; None where it depends on no pixel."""
        turn, phase = divmod(position, len(self.windows))
        window = self.windows[phase]
        return None if window is None else (window[0] + turn * self.step, window[1] + turn * self.step)

    @property
    def stride(self) -> Fraction:
        """Pixels between the windows of neighbouring positions."""
        return Fraction(abs(self.step), len(self.windows))


@dataclasses.dataclass(frozen=True)
class Fixed:
    """The view of an array whose positions all have the same window."""

    window: Window | None


@dataclasses.dataclass(frozen=True)
class Scattered:
    """The view of an array whose positions along `axes` have windows of at most `size` pixels, in an unknown order.

    `extent` is the window of all of them together.
    """

    axes: frozenset[int]
    size: float
    extent: Window | None


@dataclasses.dataclass(frozen=True)
class Unknown:
    """The view of an array whose windows could not be derived."""


UNKNOWN = Unknown()
View = Grid | Fixed | Scattered | Unknown


def pixels(axis: int) -> Grid:
    """Returns the view of the image itself, where each position depends on its own pixel."""
    return Grid(axis, ((0, 0),), 1)


def hull(windows: Iterable[Window | None]) -> Window | None:
    """Returns the smallest window that contains all windows."""
    present = [window for window in windows if window is not None]
    return (min(low for low, _ in present), max(high for _, high in present)) if present else None


def length(window: Window | None) -> float:
    """Returns the number of pixels of a window; infinite for the whole image."""
    return 0 if window is None else window[1] - window[0] + 1


def measures(view: View | None) -> tuple[Fraction | None, float | None, float | None]:
    """Returns (stride, receptive field, first pixel of position 0), all in pixels; None where unknown.

    Stride and first pixel are also None where positions follow no grid. The receptive field is infinite for the whole image,
    and 0 for an array that does not depend on the image (no view).
    """
    match view:
        case None:
            return None, 0, None
        case Grid():
            first = view.at(0)
            start = first[0] if first is not None and math.isfinite(first[0]) else None
            return view.stride, max(map(length, view.windows)), start
        case Fixed():
            return None, length(view.window), None
        case Scattered():
            return None, view.size, None
    return None, None, None


def extent(view: View, count: int, size: int) -> Window | None:
    """Returns the window of all positions together, `count` of them for a grid; WHOLE if it has all `size` pixels."""
    match view:
        case Grid():
            # Windows of a single phase move monotonically: the first and the last position bound all others.
            ends = {0, count - 1} if len(view.windows) == 1 else range(count)
            window = hull(view.at(position) for position in ends)
        case Fixed():
            window = view.window
        case Scattered():
            window = view.extent
        case _:
            return None
    return WHOLE if window is not None and window[0] <= 0 and window[1] >= size - 1 else window


def union(first: View | None, second: View | None, shape: tuple[int, ...], size: int) -> View | None:
    """Returns the view of an array of `shape` that is computed position by position from two arrays.

    Args:
        size: pixels of the image along the axis.
    """
    if first is None or second is None or first == second:
        return second if first is None else first
    if isinstance(first, Unknown) or isinstance(second, Unknown):
        return UNKNOWN
    if isinstance(first, Grid) and isinstance(second, Grid):
        return _union_of_grids(first, second, shape)
    if isinstance(first, Fixed) and isinstance(second, Fixed):
        return Fixed(hull((first.window, second.window)))
    if isinstance(second, Fixed):
        first, second = second, first
    # A fixed window joined with others stays describable only if it is the whole image, which contains all others.
    if not isinstance(first, Fixed) or extent(first, 1, size) != WHOLE:
        return UNKNOWN
    return Grid(second.axis, (WHOLE,) * len(second.windows), second.step) if isinstance(second, Grid) else Fixed(WHOLE)


def _union_of_grids(first: Grid, second: Grid, shape: tuple[int, ...]) -> View:
    """Returns the grid whose windows contain those of both; unknown where their strides differ."""
    if first.axis != second.axis:
        return UNKNOWN
    for one, other in ((first, second), (second, first)):
        if set(one.windows) == {WHOLE}:
            return Grid(other.axis, (WHOLE,) * len(other.windows), other.step)
    if first.step * len(second.windows) != second.step * len(first.windows):
        return Fixed(hull((first.at(0), second.at(0)))) if shape[first.axis] == 1 else UNKNOWN
    # Two patterns of n and m windows repeat together after lcm(n, m) positions.
    period = math.lcm(len(first.windows), len(second.windows))
    windows = tuple(hull((first.at(phase), second.at(phase))) for phase in range(period))
    return Grid(first.axis, windows, first.step * period // len(first.windows))


def slide(
    view: View | None, axis: int, *, taps: int = 1, stride: int = 1, before: int = 0, dilation: int = 1, zeros: int = 0
) -> View | None:
    """Returns the view after a sliding window along `axis`: convolution, pooling, padding, slicing or up-sampling.

    Args:
        taps: positions that the window combines.
        stride: distance between windows.
        before: rows of padding before the first position; negative: rows that are cut off.
        dilation: distance between taps.
        zeros: rows of zeros that are first inserted between neighbours (transposed convolution).
    """
    still = (taps, stride, before, zeros) == (1, 1, 0, 0)
    if isinstance(view, Scattered) and axis in view.axes and not still:
        return UNKNOWN
    if not isinstance(view, Grid) or view.axis != axis or still:
        return view
    # With zeros inserted, position p of the input lies at p · apart. Output position o combines the places o · stride − before
    # + tap · dilation, of which those that are multiples of `apart` hold an input. The pattern of the output repeats when
    # o · stride has moved by a whole number of patterns of the input, apart · period places: after `phases` positions.
    apart, period = zeros + 1, len(view.windows)
    phases = apart * period // math.gcd(stride, apart * period)
    windows = []
    for phase in range(phases):
        places = (phase * stride - before + tap * dilation for tap in range(taps))
        windows.append(hull(view.at(place // apart) for place in places if place % apart == 0))
    return Grid(axis, tuple(windows), phases * stride // apart * view.step // period)


def rename(view: View | None, axes: Mapping[int, int]) -> View | None:
    """Returns the view after axes moved, {old: new}; unknown if an axis that matters is left out."""
    if isinstance(view, Grid):
        return dataclasses.replace(view, axis=axes[view.axis]) if view.axis in axes else UNKNOWN
    if isinstance(view, Scattered):
        moved = frozenset(axes[axis] for axis in view.axes if axis in axes)
        return dataclasses.replace(view, axes=moved) if len(moved) == len(view.axes) else UNKNOWN
    return view


def moved(view: View | None, by: int) -> View | None:
    """Returns the view after `by` axes were inserted before all others, or removed there (`by` < 0)."""
    axes = {view.axis} if isinstance(view, Grid) else view.axes if isinstance(view, Scattered) else set()
    return rename(view, {axis: axis + by for axis in axes})


def summed(view: View | None, axes: Collection[int], shape: tuple[int, ...], size: int) -> View | None:
    """Returns the view after a sum or maximum over all of `axes` of an array of `shape`; other axes keep their numbers."""
    if isinstance(view, Grid) and view.axis in axes:
        return Fixed(extent(view, shape[view.axis], size))
    if isinstance(view, Scattered) and view.axes & set(axes):
        return Fixed(extent(view, 1, size)) if view.axes <= set(axes) else UNKNOWN
    return view


def weighed(view: Grid, weights: np.ndarray, size: int) -> Scattered:
    """Returns the view of sums over the grid's axis with weights [cells, positions]: the cells, on axis 0.

    A cell depends on the positions whose weight is not 0.
    """
    cells = [hull(view.at(int(position)) for position in np.flatnonzero(row)) for row in weights]
    return Scattered(frozenset({0}), max(map(length, cells)), extent(Fixed(hull(cells)), 1, size))


def without(view: View | None, axes: Collection[int], rank: int) -> View | None:
    """Returns the view after `axes`, which must not matter, were removed from an array of `rank`."""
    kept = [axis for axis in range(rank) if axis not in axes]
    return rename(view, {axis: place for place, axis in enumerate(kept)})


def regrouped(
    view: View | None, groups: Iterable[tuple[list[int], list[int]]], shape: tuple[int, ...], size: int
) -> View | None:
    """Returns the view after a reshape, given as groups (old axes, new axes).

    A grid stays a grid if its axis is alone in its group; merged with others it becomes scattered.
    """
    if not isinstance(view, Grid | Scattered):
        return view
    mine = {view.axis} if isinstance(view, Grid) else view.axes
    touched = [(old, new) for old, new in groups if mine & set(old)]
    if isinstance(view, Grid) and [(len(old), len(new)) for old, new in touched] == [(1, 1)]:
        return dataclasses.replace(view, axis=touched[0][1][0])
    axes = frozenset(axis for _, new in touched for axis in new)
    together = extent(view, shape[view.axis] if isinstance(view, Grid) else 1, size)
    return Scattered(axes, measures(view)[1] or 0, together) if axes else Fixed(together)


def touches(view: View | None, axis: int) -> bool:
    """Whether positions along an axis have different windows."""
    return (isinstance(view, Grid) and view.axis == axis) or (isinstance(view, Scattered) and axis in view.axes)


def chained(pieces: Sequence[tuple[View | None, int]], axis: int, size: int) -> View | None:
    """Returns the view of arrays, given as (view, length), concatenated along an axis of the image.

    The result is a grid if each array continues the grid of the one before, as the parts of a split do.
    """
    present = [(view, count) for view, count in pieces if view is not None]
    if any(isinstance(view, Unknown) or (isinstance(view, Grid) and view.axis != axis) for view, _ in present):
        return UNKNOWN
    starts = np.cumsum([0, *(count for _, count in pieces)])
    # Each view as if it started at position 0 of the result: equal views are parts of one grid.
    moved = {slide(view, axis, before=int(start)) for (view, _), start in zip(pieces, starts, strict=False) if view is not None}
    if len(moved) == 1 and isinstance(next(iter(moved)), Grid):
        return moved.pop()
    axes = {axis}.union(*(view.axes for view, _ in present if isinstance(view, Scattered)))
    together = extent(Fixed(hull(extent(view, count, size) for view, count in present)), 1, size)
    return Scattered(frozenset(axes), max(measures(view)[1] or 0 for view, _ in present), together)
