"""What the result of each primitive sees of one axis of the image, from what its operands see."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab.inspect.receptive_field import views
from cnnlab.inspect.receptive_field.views import UNKNOWN, Grid, View

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """One equation, looked at for one axis of the image."""

    params: Mapping[str, Any]
    shapes: Sequence[Shape]
    """Of the operands."""
    result: Shape
    """Of the first result."""
    sees: Sequence[View | None]
    """What each operand sees; None: nothing of the image."""
    size: int
    """Pixels of the image along the axis."""
    values: Sequence[np.ndarray | None]
    """Of the operands that are constants."""
    masks: Sequence[bool]
    """Whether an operand may hold zeros by design, as one that is computed from positions."""

    @property
    def joined(self) -> View | None:
        """What operands of one shape see together, position by position."""
        return union(self.sees, self.shapes[0], self.size)


Rule = Callable[[Step], View | list[View | None] | None]
"""A list where the results see different things."""


def union(sees: Sequence[View | None], shape: Shape, size: int) -> View | None:
    """What an array of `shape` sees that is computed position by position from several."""
    view = None
    for other in sees:
        view = views.union(view, other, shape, size)
    return view


def unknown(step: Step) -> View | None:
    """The rule of what has none."""
    return UNKNOWN


def _elementwise(step: Step) -> View | None:
    return union(step.sees, step.result, step.size)


def _each(step: Step) -> list[View | None]:
    return list(step.sees)


def _convolution(step: Step) -> View | None:
    params, (lhs, rhs, out) = step.params, step.params["dimension_numbers"]
    view, kernel = step.sees
    if params["batch_group_count"] != 1 or not (kernel is None or isinstance(kernel, views.Fixed)):
        return UNKNOWN
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
    params, view = step.params, union(step.sees, step.shapes[0], step.size)
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
    shape, axes = step.shapes[0], step.params["axes"]
    return views.without(views.summed(step.joined, axes, shape, step.size), axes, len(shape))


def _mixed(parameter: str) -> Rule:
    """The rule of what mixes one axis in a way that is not followed (sorting, running sums) and leaves the others alone."""

    def rule(step: Step) -> View | None:
        return UNKNOWN if views.touches(step.joined, step.params[parameter] % len(step.shapes[0])) else step.joined

    return rule


def _dot(step: Step) -> View | None:
    contracted, batched = step.params["dimension_numbers"]
    free = [
        [axis for axis in range(len(shape)) if axis not in (*contracted[side], *batched[side])]
        for side, shape in enumerate(step.shapes)
    ]
    starts = (len(batched[0]), len(batched[0]) + len(free[0]))
    results = []
    for side, view in enumerate(step.sees):
        if any(views.touches(view, axis) for axis in contracted[side]):
            if step.masks[1 - side]:
                results.append(_masked(step, side, starts[1 - side]))
                continue
            view = views.summed(view, contracted[side], step.shapes[side], step.size)
        axes = {axis: place for place, axis in enumerate(batched[side])}
        axes |= {axis: starts[side] + place for place, axis in enumerate(free[side])}
        results.append(views.rename(view, axes))
    return union(results, step.result, step.size)


def _masked(step: Step, side: int, place: int) -> View | None:
    """Of a sum over an axis of the image with constant weights, some of them 0; their own axis becomes the result's `place`."""
    view, weights = step.sees[side], step.values[1 - side]
    contracted, batched = step.params["dimension_numbers"]
    if weights is None or weights.ndim != 2 or len(contracted[side]) != 1 or batched[0] or not isinstance(view, Grid):
        return UNKNOWN
    return views.rename(views.weighed(view, weights if contracted[1 - side][0] else weights.T, step.size), {0: place})


def _pad(step: Step) -> View | None:
    view = step.sees[0]
    for axis, (low, _, interior) in enumerate(step.params["padding_config"]):
        view = views.slide(view, axis, before=int(low), zeros=int(interior))
    return views.union(view, step.sees[1], step.result, step.size)


def _slice(step: Step) -> View | None:
    view, strides = step.sees[0], step.params["strides"] or (1,) * len(step.result)
    for axis, (start, stride) in enumerate(zip(step.params["start_indices"], strides, strict=True)):
        if step.result[axis] != step.shapes[0][axis]:
            view = _cut(view, axis, start, stride)
    return view


def _cut(view: View | None, axis: int, start: int, stride: int = 1) -> View | None:
    """A part of one axis."""
    lost = isinstance(view, views.Scattered) and views.touches(view, axis)
    return UNKNOWN if lost else views.slide(view, axis, stride=stride, before=-start)


def _dynamic_slice(step: Step) -> View | None:
    view = step.sees[0]
    for axis, count in enumerate(step.result):
        start = step.values[1 + axis]
        if count == step.shapes[0][axis] or not views.touches(view, axis):
            continue
        view = UNKNOWN if start is None else _cut(view, axis, min(max(int(start), 0), step.shapes[0][axis] - count))
    return UNKNOWN if any(other is not None for other in step.sees[1:]) else view


def _split(step: Step) -> list[View | None]:
    starts = np.cumsum([0, *step.params["sizes"][:-1]])
    return [_cut(step.sees[0], step.params["axis"], int(start)) for start in starts]


def _reverse(step: Step) -> View | None:
    view = step.sees[0]
    if isinstance(view, Grid) and view.axis in step.params["dimensions"]:
        last = step.shapes[0][view.axis] - 1
        return Grid(view.axis, tuple(view.at(last - phase) for phase in range(len(view.windows))), -view.step)
    return view


def _concatenate(step: Step) -> View | None:
    axis = step.params["dimension"]
    if not any(views.touches(view, axis) for view in step.sees):
        return union(step.sees, step.result, step.size)
    return views.chained([(view, shape[axis]) for view, shape in zip(step.sees, step.shapes, strict=True)], axis, step.size)


def _transpose(step: Step) -> View | None:
    return views.rename(step.sees[0], {old: new for new, old in enumerate(step.params["permutation"])})


def _squeeze(step: Step) -> View | None:
    shape, axes = step.shapes[0], step.params["dimensions"]
    return views.without(views.summed(step.sees[0], axes, shape, step.size), axes, len(shape))


def _broadcast(step: Step) -> View | None:
    shape, places = step.shapes[0], step.params["broadcast_dimensions"]
    spread = [axis for axis, place in enumerate(places) if shape[axis] == 1 != step.result[place]]
    return views.rename(views.summed(step.sees[0], spread, shape, step.size), dict(enumerate(places)))


def _reshape(step: Step) -> View | None:
    if step.params["dimensions"] is not None:
        return UNKNOWN
    return views.regrouped(step.sees[0], _groups(step.shapes[0], step.result), step.shapes[0], step.size)


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Which axes of one shape become which of another, in groups as small as they can be."""
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        one, other = old[i] if i < len(old) else 0, new[j] if j < len(new) else 0
        before, after = ([i], [j])
        if one != other and (other == 0 or one == 1):
            after = []
        elif one != other and (one == 0 or other == 1):
            before = []
        while before and after and (left := math.prod(old[a] for a in before)) != (right := math.prod(new[a] for a in after)):
            if left < right:
                before.append(before[-1] + 1)
            else:
                after.append(after[-1] + 1)
        groups.append((before, after))
        i, j = i + len(before), j + len(after)
    return groups


def _gather(step: Step) -> View | None:
    """Followed where axes of the image are kept whole and the picking is along others, such as channels."""
    numbers, sizes, shape = step.params["dimension_numbers"], step.params["slice_sizes"], step.shapes[0]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    axes = {axis: place for axis, place in zip(kept, numbers.offset_dims, strict=True) if sizes[axis] == shape[axis]}
    return UNKNOWN if step.sees[1] is not None else views.rename(step.sees[0], axes)


ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp conj convert_element_type copy copy_p cos
cosh device_put digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log
log1p logistic lt max min mul name ne neg nextafter not or pow pvary real reduce_precision rem round rsqrt select_n
sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub
tan tanh xor
"""
"""Primitives that compute each position of the result from that position of operands of the same shape, or from scalars."""

REDUCTIONS = "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor"

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
"""By the primitive's name."""
