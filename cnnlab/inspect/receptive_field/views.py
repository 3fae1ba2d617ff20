"""What the positions of an array see of one axis of the image: windows of pixels, and how operations widen and move them.

Windows are those of the theory: they are not cut at the image's border, and padding counts as if the image went on.
"""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np

Window = tuple[float, float]
"""First and last pixel; what lies between counts as seen, also where a dilated kernel leaves holes."""

WHOLE: Window = (-math.inf, math.inf)
"""All of the image, however large."""


@dataclasses.dataclass(frozen=True)
class Grid:
    """Position i along `axis` sees `windows[i % n]`, moved on by `(i // n) * step` pixels; n is 1 but after up-sampling."""

    axis: int
    windows: tuple[Window | None, ...]
    step: int

    def at(self, position: int) -> Window | None:
        """What a position sees, beyond the ends of the axis too; None for nothing."""
        turn, phase = divmod(position, len(self.windows))
        window = self.windows[phase]
        return None if window is None else (window[0] + turn * self.step, window[1] + turn * self.step)

    @property
    def stride(self) -> Fraction:
        """Pixels between neighbours."""
        return Fraction(abs(self.step), len(self.windows))


@dataclasses.dataclass(frozen=True)
class Fixed:
    """All positions see the same window."""

    window: Window | None


@dataclasses.dataclass(frozen=True)
class Scattered:
    """Positions along `axes` see windows of at most `size` pixels in no order that is kept; together they see `extent`."""

    axes: frozenset[int]
    size: float
    extent: Window | None


@dataclasses.dataclass(frozen=True)
class Unknown:
    """What is seen could not be followed."""


UNKNOWN = Unknown()
View = Grid | Fixed | Scattered | Unknown


def pixels(axis: int) -> Grid:
    """The image's own view: each position sees itself."""
    return Grid(axis, ((0, 0),), 1)


def hull(windows: Iterable[Window | None]) -> Window | None:
    """The smallest window around all of them."""
    some = [window for window in windows if window is not None]
    return (min(low for low, _ in some), max(high for _, high in some)) if some else None


def length(window: Window | None) -> float:
    """Pixels in a window; infinite for the whole image."""
    return 0 if window is None else window[1] - window[0] + 1


def measures(view: View | None) -> tuple[Fraction | None, float | None, float | None]:
    """(pixels between neighbours, pixels that one position sees, the first that position 0 sees); None where unknown.

    Stride and first pixel are also None where no grid is left. The size is infinite where the whole image is seen, and 0 for
    what does not depend on the image (no view).
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
    """What the `count` positions of a grid, or those of another view, see together; WHOLE if it is all `size` pixels."""
    match view:
        case Grid():
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
    """What an array of `shape` sees that is computed position by position from two."""
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
    if not isinstance(first, Fixed) or extent(first, 1, size) != WHOLE:
        return UNKNOWN
    return Grid(second.axis, (WHOLE,) * len(second.windows), second.step) if isinstance(second, Grid) else Fixed(WHOLE)


def _union_of_grids(first: Grid, second: Grid, shape: tuple[int, ...]) -> View:
    if first.axis != second.axis:
        return UNKNOWN
    for one, other in ((first, second), (second, first)):
        if set(one.windows) == {WHOLE}:
            return Grid(other.axis, (WHOLE,) * len(other.windows), other.step)
    if first.step * len(second.windows) != second.step * len(first.windows):
        return Fixed(hull((first.at(0), second.at(0)))) if shape[first.axis] == 1 else UNKNOWN
    period = math.lcm(len(first.windows), len(second.windows))
    windows = tuple(hull((first.at(phase), second.at(phase))) for phase in range(period))
    return Grid(first.axis, windows, first.step * period // len(first.windows))


def slide(
    view: View | None, axis: int, *, taps: int = 1, stride: int = 1, before: int = 0, dilation: int = 1, zeros: int = 0
) -> View | None:
    """After a window of `taps`, `dilation` apart, slid along `axis` in steps of `stride`, `before` rows of padding first.

    Args:
        zeros: how many rows of zeros are first put between neighbours (transposed convolution).
    """
    still = (taps, stride, before, zeros) == (1, 1, 0, 0)
    if isinstance(view, Scattered) and axis in view.axes and not still:
        return UNKNOWN
    if not isinstance(view, Grid) or view.axis != axis or still:
        return view
    apart, period = zeros + 1, len(view.windows)
    phases = apart * period // math.gcd(stride, apart * period)
    windows = []
    for phase in range(phases):
        places = (phase * stride - before + tap * dilation for tap in range(taps))
        windows.append(hull(view.at(place // apart) for place in places if place % apart == 0))
    return Grid(axis, tuple(windows), phases * stride // apart * view.step // period)


def rename(view: View | None, axes: Mapping[int, int]) -> View | None:
    """After a move of axes, old -> new; those that are left out must not matter."""
    if isinstance(view, Grid):
        return dataclasses.replace(view, axis=axes[view.axis]) if view.axis in axes else UNKNOWN
    if isinstance(view, Scattered):
        moved = frozenset(axes[axis] for axis in view.axes if axis in axes)
        return dataclasses.replace(view, axes=moved) if len(moved) == len(view.axes) else UNKNOWN
    return view


def moved(view: View | None, by: int) -> View | None:
    """After axes are put before all others, or taken away there (`by` < 0)."""
    axes = {view.axis} if isinstance(view, Grid) else view.axes if isinstance(view, Scattered) else set()
    return rename(view, {axis: axis + by for axis in axes})


def summed(view: View | None, axes: Collection[int], shape: tuple[int, ...], size: int) -> View | None:
    """After a sum (or a maximum) over whole `axes` of an array of `shape`; the other axes keep their numbers."""
    if isinstance(view, Grid) and view.axis in axes:
        return Fixed(extent(view, shape[view.axis], size))
    if isinstance(view, Scattered) and view.axes & set(axes):
        return Fixed(extent(view, 1, size)) if view.axes <= set(axes) else UNKNOWN
    return view


def weighed(view: Grid, weights: np.ndarray, size: int) -> Scattered:
    """After sums along its axis with weights [cells, positions], of which those that are 0 see nothing; cells on axis 0."""
    cells = [hull(view.at(int(position)) for position in np.flatnonzero(row)) for row in weights]
    return Scattered(frozenset({0}), max(map(length, cells)), extent(Fixed(hull(cells)), 1, size))


def without(view: View | None, axes: Collection[int], rank: int) -> View | None:
    """After axes that do not matter any more are taken out of an array of `rank`."""
    kept = [axis for axis in range(rank) if axis not in axes]
    return rename(view, {axis: place for place, axis in enumerate(kept)})


def regrouped(
    view: View | None, groups: Iterable[tuple[list[int], list[int]]], shape: tuple[int, ...], size: int
) -> View | None:
    """After axes became others, in groups (old, new): the order along an axis of the image survives where it stays alone."""
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
    """Whether what is seen differs along an axis."""
    return (isinstance(view, Grid) and view.axis == axis) or (isinstance(view, Scattered) and axis in view.axes)


def chained(pieces: Sequence[tuple[View | None, int]], axis: int, size: int) -> View | None:
    """After arrays of these lengths are laid end to end along `axis`; the order survives where each goes on the last."""
    seen = [(view, count) for view, count in pieces if view is not None]
    if any(isinstance(view, Unknown) or (isinstance(view, Grid) and view.axis != axis) for view, _ in seen):
        return UNKNOWN
    starts = np.cumsum([0, *(count for _, count in pieces)])
    moved = {slide(view, axis, before=int(start)) for (view, _), start in zip(pieces, starts, strict=False) if view is not None}
    if len(moved) == 1 and isinstance(next(iter(moved)), Grid):
        return moved.pop()
    axes = {axis}.union(*(view.axes for view, _ in seen if isinstance(view, Scattered)))
    together = extent(Fixed(hull(extent(view, count, size) for view, count in seen)), 1, size)
    return Scattered(frozenset(axes), max(measures(view)[1] or 0 for view, _ in seen), together)
