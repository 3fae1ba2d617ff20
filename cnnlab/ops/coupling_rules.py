"""The rules by which the labels of a primitive's result follow from those of its operands (ops/coupling.py).

Where a rule cannot be sure, the channels stay, with a reason.
"""

import math
from collections.abc import Sequence

import numpy as np

from cnnlab.ops.coupling import FREE, Axes, Rule, Step
from cnnlab.ops.programs import ELEMENTWISE, REDUCTIONS, gathered_whole, reshape_groups

TOGETHER = "computes over all of them together"


def unknown(step: Step) -> list[Axes]:
    """Keeps the channels of all operands of a primitive without a rule."""
    for axes in step.operands:
        for labels in axes:
            step.lose(labels)
    return [(None,) * len(shape) for shape in step.results]


def _elementwise(step: Step) -> list[Axes]:
    """Ties the operands of operations position by position."""
    rank, found = len(step.results[0]), []
    for axis in range(rank):
        merged: np.ndarray | None = None
        for axes in step.operands:
            if len(axes) == rank and (labels := axes[axis]) is not None:
                merged = labels if merged is None else step.labels.tie(merged, labels)
        found.append(merged)
    return [tuple(found)] * len(step.results)


def _each(step: Step) -> list[Axes]:
    """Passes each operand on."""
    return list(step.operands)


def _convolution(step: Step) -> list[Axes]:
    """Ties the channels of the images to the inputs of the kernel; the result has the labels of its outputs."""
    lhs, rhs, out = step.params["dimension_numbers"]
    (images, kernel), groups = step.operands[:2], step.params["feature_group_count"]
    channels, inputs, outputs = images[lhs[1]], kernel[rhs[1]], kernel[rhs[0]]
    for axis in (lhs[0], *lhs[2:]):
        step.lose(images[axis])
    for axis in rhs[2:]:
        step.labels.stay(kernel[axis])
    if step.params["batch_group_count"] != 1:
        return unknown(step)
    is_depthwise = groups > 1 and step.shapes[1][rhs[1]] == 1
    if is_depthwise:
        step.labels.stay(inputs)
        outputs = _repeated(step, channels, outputs, step.shapes[1][rhs[0]])
    else:
        parts: Sequence[np.ndarray | None] = [None] * groups if channels is None else np.split(channels, groups)
        for part in parts:
            _contract(step, part, inputs)
        if groups > 1 and outputs is not None:
            # The groups stay as many, so that the same outputs of every group go: [O] -> [groups, O / groups].
            rows = outputs.reshape(groups, -1)
            for row in rows[1:]:
                step.labels.tie(rows[0], row)
    found: list[np.ndarray | None] = [None] * len(out)
    found[out[1]] = outputs
    return [tuple(found)]


def _repeated(step: Step, channels: np.ndarray | None, outputs: np.ndarray | None, count: int) -> np.ndarray | None:
    """Returns the labels of the outputs of a depth-wise convolution, each tied to its channel, several to one."""
    if channels is None:
        step.labels.stay(outputs)
        return None
    several = np.repeat(channels, count // len(channels))
    return several if outputs is None else step.labels.tie(several, outputs)


def _contract(step: Step, first: np.ndarray | None, second: np.ndarray | None) -> None:
    """Ties two axes that are summed over together; an axis that meets one without channels stays."""
    if first is not None and second is not None:
        step.labels.tie(first, second)
    else:
        step.labels.stay(first if second is None else second)


def _dot(step: Step) -> list[Axes]:
    """Ties the axes that a matrix product sums over; its result has the axes (batch…, free of the left…, of the right…)."""
    (left, right), (contracted, batched) = step.operands, step.params["dimension_numbers"]
    for one, other in zip(*contracted, strict=True):
        _contract(step, left[one], right[other])
    found: list[np.ndarray | None] = []
    for one, other in zip(*batched, strict=True):
        first, second = left[one], right[other]
        both = first is not None and second is not None
        found.append(step.labels.tie(first, second) if both else first if second is None else second)
    for side, axes in enumerate((left, right)):
        found += [labels for axis, labels in enumerate(axes) if axis not in (*contracted[side], *batched[side])]
    return [tuple(found)]


def _reduce(step: Step) -> list[Axes]:
    """Keeps channels that are reduced, as the mean of a layer norm is: it would change with their number."""
    axes = step.params["axes"]
    for operand in step.operands:
        for axis in axes:
            step.lose(operand[axis] if axis < len(operand) else None, TOGETHER)
    kept = [axis for axis in range(len(step.shapes[0])) if axis not in axes]
    return [tuple(step.operands[0][axis] for axis in kept)] * len(step.results)


def _reduce_window(step: Step) -> list[Axes]:
    """Passes channels that windows do not cover."""
    params = step.params
    sides = zip(params["window_dimensions"], params["window_strides"], params["padding"], strict=True)
    return [_where(step, [(taps, stride, *pad) == (1, 1, 0, 0) for taps, stride, pad in sides], "mixes neighbours of them")]


def _where(step: Step, passes: Sequence[bool], what: str) -> Axes:
    """Returns the labels of the first operand along axes that pass as they are; the others stay."""
    found: list[np.ndarray | None] = []
    for labels, is_same in zip(step.operands[0], passes, strict=True):
        if not is_same:
            step.lose(labels, what)
        found.append(labels if is_same else None)
    return tuple(found)


def _mixed(parameter: str) -> Rule:
    """Makes the rule for primitives that mix one axis, such as sorting and running sums."""

    def rule(step: Step) -> list[Axes]:
        axis = step.params[parameter] % len(step.shapes[0])
        return [_where(step, [each != axis for each in range(len(step.shapes[0]))], TOGETHER)] * len(step.results)

    return rule


def _pad(step: Step) -> list[Axes]:
    """Gives positions of zeros the label FREE; channels that are padded by anything else stay."""
    found: list[np.ndarray | None] = []
    value = step.values[1]
    for labels, (low, high, interior) in zip(step.operands[0], step.params["padding_config"], strict=True):
        is_changed = labels is not None and (low, high, interior) != (0, 0, 0)
        if is_changed and (value is None or value != 0 or interior or low < 0 or high < 0):
            step.lose(labels, "pads or cuts them")
            labels = None
        elif labels is not None and is_changed:
            labels = np.concatenate([np.full(low, FREE), labels, np.full(high, FREE)])
        found.append(labels)
    return [tuple(found)]


def _slice(step: Step) -> list[Axes]:
    """Passes axes that are taken whole."""
    return [_where(step, [old == new for old, new in zip(step.shapes[0], step.results[0], strict=True)], "takes some of them")]


def _split(step: Step) -> list[Axes]:
    """Passes axes that are not divided."""
    passes = [axis != step.params["axis"] for axis in range(len(step.shapes[0]))]
    return [_where(step, passes, "divides them")] * len(step.results)


def _reverse(step: Step) -> list[Axes]:
    """Passes axes that are not reversed."""
    return [_where(step, [axis not in step.params["dimensions"] for axis in range(len(step.shapes[0]))], "reverses them")]


def _concatenate(step: Step) -> list[Axes]:
    """Puts the labels of channels one after another; along other axes the operands are tied."""
    along, found = step.params["dimension"], list(_elementwise(_without(step, step.params["dimension"]))[0])
    parts = [axes[along] for axes in step.operands]
    if any(labels is not None for labels in parts):
        whole = []
        for labels, value, shape in zip(parts, step.values, step.shapes, strict=True):
            if labels is None:
                is_zero = value is not None and not value.any()
                labels = np.full(shape[along], FREE) if is_zero else step.labels.new(shape[along])
                step.labels.stay(labels)
            whole.append(labels)
        found[along] = np.concatenate(whole)
    return [tuple(found)]


def _without(step: Step, axis: int) -> Step:
    """Returns the step with nothing known along one axis."""
    operands = [tuple(None if each == axis else labels for each, labels in enumerate(axes)) for axes in step.operands]
    return Step(step.name, step.params, step.shapes, step.results, operands, step.values, step.labels, step.place)


def _transpose(step: Step) -> list[Axes]:
    """Follows a permutation of axes."""
    return [tuple(step.operands[0][axis] for axis in step.params["permutation"])]


def _squeeze(step: Step) -> list[Axes]:
    """Follows the removal of axes of length 1; a channel that is alone stays."""
    for axis in step.params["dimensions"]:
        step.labels.stay(step.operands[0][axis])
    return [tuple(labels for axis, labels in enumerate(step.operands[0]) if axis not in step.params["dimensions"])]


def _broadcast(step: Step) -> list[Axes]:
    """Follows a broadcast; a channel that is repeated along its axis stays."""
    found: list[np.ndarray | None] = [None] * len(step.results[0])
    for axis, place in enumerate(step.params["broadcast_dimensions"]):
        if step.shapes[0][axis] == step.results[0][place]:
            found[place] = step.operands[0][axis]
        else:
            step.lose(step.operands[0][axis], "repeats them")
    return [tuple(found)]


def _reshape(step: Step) -> list[Axes]:
    """Follows a reshape: where axes are merged, each channel of one of them gets all positions of the others."""
    (old, new), axes = (step.shapes[0], step.results[0]), step.operands[0]
    found: list[np.ndarray | None] = [None] * len(new)
    groups = reshape_groups(old, new)
    for place, (before, after) in enumerate(groups):
        labelled = [axis for axis in before if axes[axis] is not None]
        if not labelled:
            continue
        # [C] -> [C, 1] are C groups of one channel, whose number a group norm chooses by that of the channels.
        is_divided = len(after) > 1 or groups[place + 1 :][:1] == [([], [after[-1] + 1 if after else 0])]
        (axis, *others), labels = labelled, axes[labelled[0]]
        if others or is_divided or labels is None:
            for each in labelled:
                step.lose(axes[each], "divides them into groups" if is_divided else "merges them with other channels")
        elif not after:
            step.labels.stay(labels)  # an axis of length 1
        else:
            sides = [old[each] for each in before]
            outer, inner = (math.prod(sides[part]) for part in (slice(before.index(axis)), slice(before.index(axis) + 1, None)))
            found[after[0]] = np.tile(np.repeat(labels, inner), outer)  # [n] -> [outer · n · inner]
    return [tuple(found)]


def _gather(step: Step) -> list[Axes]:
    """Passes axes that are taken whole, as the channels of every second pixel are."""
    places = gathered_whole(step.params, step.shapes[0])
    found: list[np.ndarray | None] = [None] * len(step.results[0])
    for labels in step.operands[1]:
        step.lose(labels)
    for axis, labels in enumerate(step.operands[0]):
        if axis in places:
            found[places[axis]] = labels
        else:
            step.lose(labels, "takes some of them")
    return [tuple(found)]


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
