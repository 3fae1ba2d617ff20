"""The rules by which the view of a primitive's result follows from the views of its operands, for one axis of the image.

A view says which pixels the positions of an array depend on (views.py). A rule that cannot be sure returns UNKNOWN.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab.inspect.receptive_field import views
from cnnlab.inspect.receptive_field.views import UNKNOWN, Grid, View
from cnnlab.ops.programs import ELEMENTWISE, REDUCTIONS, Shape, gathered_whole, reshape_groups


@dataclasses.dataclass(frozen=True)
class Step:
    """One equation of a jaxpr, with what is known of its operands along one axis of the image."""

    params: Mapping[str, Any]
    shapes: Sequence[Shape]
    """Shapes of the operands."""
    result: Shape
    """Shape of the first result."""
    operands: Sequence[View | None]
    """View of each operand; None: it does not depend on the image."""
    size: int
    """Pixels of the image along the axis."""
    values: Sequence[np.ndarray | None]
    """Values of the operands that are constants, None for the others."""
    masks: Sequence[bool]
    """Whether an operand may hold zeros by design, as one that is computed from positions does."""

    @property
    def joined(self) -> View | None:
        """The view of a result that is computed position by position from all operands, which have one shape."""
        return union(self.operands, self.shapes[0], self.size)


Rule = Callable[[Step], View | list[View | None] | None]
"""A function from an equation to the view of its results; a list where these have different views."""


def union(operands: Sequence[View | None], shape: Shape, size: int) -> View | None:
    """Returns the view of an array of `shape` that is computed position by position from several operands."""
    view = None
    for other in operands:
        view = views.union(view, other, shape, size)
    return view


def unknown(step: Step) -> View | None:
    """The rule for primitives without a rule."""
    return UNKNOWN


def _elementwise(step: Step) -> View | None:
    """Follows operations position by position."""
    return union(step.operands, step.result, step.size)


def _each(step: Step) -> list[View | None]:
    """Follows operations that return each operand unchanged."""
    return list(step.operands)


def _convolution(step: Step) -> View | None:
    """Follows a convolution: a sum over input channels and a sliding window along each axis of space."""
    params, (lhs, rhs, out) = step.params, step.params["dimension_numbers"]
    # The specifications of lhs, rhs and out list the axes of batch, channels and then space.
    view, kernel = step.operands
    # A kernel that differs along the image, as in the gradient of a convolution, is no window that slides over it.
    if params["batch_group_count"] != 1 or not (kernel is None or isinstance(kernel, views.Fixed)):
        return UNKNOWN
    # Groups sum parts of the channels; where channels hold pixels the parts would have to be followed separately.
    if views.touches(view, lhs[1]) and params["feature_group_count"] != 1:
        return UNKNOWN
    view = views.summed(view, (lhs[1],), step.shapes[0], step.size)
    for place, axis in enumerate(lhs[2:]):
        view = views.slide(
            view,
            axis,
            taps=step.shapes[1][rhs[2 + place]],
            stride=params["window_strides"][place],
            before=params["padding"][place][0],
            dilation=params["rhs_dilation"][place],
            zeros=params["lhs_dilation"][place] - 1,
        )
    view = views.rename(view, dict(zip(lhs, out, strict=True)))
    return views.union(view, kernel, step.result, step.size)


def _reduce_window(step: Step) -> View | None:
    """Follows pooling: a sliding window along every axis."""
    params, view = step.params, union(step.operands, step.shapes[0], step.size)
    for axis, taps in enumerate(params["window_dimensions"]):
        view = views.slide(
            view,
            axis,
            taps=taps,
            stride=params["window_strides"][axis],
            before=params["padding"][axis][0],
            dilation=params["window_dilation"][axis],
            zeros=params["base_dilation"][axis] - 1,
        )
    return view


def _reduce(step: Step) -> View | None:
    """Follows a reduction over whole axes, which are then removed."""
    shape, axes = step.shapes[0], step.params["axes"]
    return views.without(views.summed(step.joined, axes, shape, step.size), axes, len(shape))


def _mixed(parameter: str) -> Rule:
    """Makes the rule for primitives that mix one axis in a way that is not followed, such as sorting and running sums."""

    def rule(step: Step) -> View | None:
        return UNKNOWN if views.touches(step.joined, step.params[parameter] % len(step.shapes[0])) else step.joined

    return rule


def _dot(step: Step) -> View | None:
    """Follows a matrix product, whose result has the axes (batch…, free axes of the left…, free axes of the right…)."""
    contracted, batched = step.params["dimension_numbers"]
    free = [
        [axis for axis in range(len(shape)) if axis not in (*contracted[side], *batched[side])]
        for side, shape in enumerate(step.shapes)
    ]
    starts = (len(batched[0]), len(batched[0]) + len(free[0]))
    results = []
    for side, view in enumerate(step.operands):
        if any(views.touches(view, axis) for axis in contracted[side]):
            # A sum over positions of the image. Weights that may be zero by design, as in adaptive pooling, select positions.
            if step.masks[1 - side]:
                results.append(_masked(step, side, starts[1 - side]))
                continue
            view = views.summed(view, contracted[side], step.shapes[side], step.size)
        axes = {axis: place for place, axis in enumerate(batched[side])}
        axes |= {axis: starts[side] + place for place, axis in enumerate(free[side])}
        results.append(views.rename(view, axes))
    return union(results, step.result, step.size)


def _masked(step: Step, side: int, place: int) -> View | None:
    """Follows a sum over an axis of the image with constant weights, some of them 0, for operand `side`.

    The weights are a matrix whose free axis becomes axis `place` of the result.
    """
    view, weights = step.operands[side], step.values[1 - side]
    contracted, batched = step.params["dimension_numbers"]
    if weights is None or weights.ndim != 2 or len(contracted[side]) != 1 or batched[0] or not isinstance(view, Grid):
        return UNKNOWN
    return views.rename(views.weighed(view, weights if contracted[1 - side][0] else weights.T, step.size), {0: place})


def _pad(step: Step) -> View | None:
    """Follows padding before, after and between positions; after the last position it changes no window."""
    view = step.operands[0]
    for axis, (low, _, interior) in enumerate(step.params["padding_config"]):
        view = views.slide(view, axis, before=int(low), zeros=int(interior))
    return views.union(view, step.operands[1], step.result, step.size)


def _slice(step: Step) -> View | None:
    """Follows a slice with constant starts and strides."""
    view, strides = step.operands[0], step.params["strides"] or (1,) * len(step.result)
    for axis, (start, stride) in enumerate(zip(step.params["start_indices"], strides, strict=True)):
        if step.result[axis] != step.shapes[0][axis]:
            view = _cut(view, axis, start, stride)
    return view


def _cut(view: View | None, axis: int, start: int, stride: int = 1) -> View | None:
    """Returns the view of every `stride`-th position of an axis from `start` on."""
    lost = isinstance(view, views.Scattered) and views.touches(view, axis)
    return UNKNOWN if lost else views.slide(view, axis, stride=stride, before=-start)


def _dynamic_slice(step: Step) -> View | None:
    """Follows a slice whose start is an operand; along the image only if it is a constant."""
    view = step.operands[0]
    for axis, count in enumerate(step.result):
        start = step.values[1 + axis]
        if count == step.shapes[0][axis] or not views.touches(view, axis):
            continue
        # XLA clamps a start so that the slice lies inside the array.
        view = UNKNOWN if start is None else _cut(view, axis, min(max(int(start), 0), step.shapes[0][axis] - count))
    return UNKNOWN if any(other is not None for other in step.operands[1:]) else view


def _split(step: Step) -> list[View | None]:
    """Follows a division of one axis into parts of given sizes."""
    starts = np.cumsum([0, *step.params["sizes"][:-1]])
    return [_cut(step.operands[0], step.params["axis"], int(start)) for start in starts]


def _reverse(step: Step) -> View | None:
    """Follows a reversal: position i gets the window of position last − i, and the grid runs backwards."""
    view = step.operands[0]
    if isinstance(view, Grid) and view.axis in step.params["dimensions"]:
        last = step.shapes[0][view.axis] - 1
        return Grid(view.axis, tuple(view.at(last - phase) for phase in range(len(view.windows))), -view.step)
    return view


def _concatenate(step: Step) -> View | None:
    """Follows a concatenation, of channels by a union and along the image by chaining."""
    axis = step.params["dimension"]
    if not any(views.touches(view, axis) for view in step.operands):
        return union(step.operands, step.result, step.size)
    return views.chained([(view, shape[axis]) for view, shape in zip(step.operands, step.shapes, strict=True)], axis, step.size)


def _transpose(step: Step) -> View | None:
    """Follows a permutation of axes; axis `permutation[new]` becomes axis `new`."""
    return views.rename(step.operands[0], {old: new for new, old in enumerate(step.params["permutation"])})


def _squeeze(step: Step) -> View | None:
    """Follows the removal of axes of length 1."""
    shape, axes = step.shapes[0], step.params["dimensions"]
    return views.without(views.summed(step.operands[0], axes, shape, step.size), axes, len(shape))


def _broadcast(step: Step) -> View | None:
    """Follows a broadcast; along an axis of length 1 that is repeated, all positions get the same window."""
    shape, places = step.shapes[0], step.params["broadcast_dimensions"]
    spread = [axis for axis, place in enumerate(places) if shape[axis] == 1 != step.result[place]]
    return views.rename(views.summed(step.operands[0], spread, shape, step.size), dict(enumerate(places)))


def _reshape(step: Step) -> View | None:
    """Follows a reshape by the smallest groups of axes that are reshaped separately."""
    if step.params["dimensions"] is not None:
        return UNKNOWN
    return views.regrouped(step.operands[0], reshape_groups(step.shapes[0], step.result), step.shapes[0], step.size)


def _gather(step: Step) -> View | None:
    """Follows a gather that takes whole axes of the image and indexes along others, such as channels."""
    axes = gathered_whole(step.params, step.shapes[0])
    return UNKNOWN if step.operands[1] is not None else views.rename(step.operands[0], axes)


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(REDUCTIONS.split(), _reduce),
    **dict.fromkeys(("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min"), _reduce_window),
    **dict.fromkeys(("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"), _mixed("axis")),
    "sort": _mixed("dimension"),
    "optimization_barrier": _each,
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "pad": _pad,
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "split": _split,
    "rev": _reverse,
    "concatenate": _concatenate,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "gather": _gather,
}
"""The rule of each primitive, by its name."""
