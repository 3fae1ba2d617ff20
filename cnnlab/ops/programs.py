"""What all that follows something through the equations of a traced program has to know of jax's primitives."""

import math
from typing import Any

from jax.extend.core import ClosedJaxpr

Shape = tuple[int, ...]

CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call"}
"""Primitives that call an inner program with the same arguments and results."""

ELEMENTWISE = """
abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp conj convert_element_type copy copy_p cos
cosh device_put digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag integer_pow is_finite le lgamma log
log1p logistic lt max min mul name ne neg nextafter not or pow pvary real reduce_precision rem round rsqrt select_n
sharding_constraint shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub
tan tanh xor
"""
"""Names of primitives that compute each position of the result from the same position of their operands, or from scalars."""

REDUCTIONS = "argmax argmin reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum reduce_xor"
"""Names of primitives that reduce whole axes, which the result is without."""


def inner_program(params: Any) -> ClosedJaxpr:
    """Returns the program that a primitive of CALLS calls, with its constants; one without is closed over none."""
    inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def gathered_whole(params: Any, shape: Shape) -> dict[int, int]:
    """Returns {axis of the operand: axis of the result} of the axes that a gather takes whole, and indexes along others.

    Axes that are collapsed are indexed; the others appear in the result at `offset_dims`, in order.

    Args:
        params: those of the equation.
        shape: of the operand.
    """
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return {axis: place for axis, place in zip(kept, numbers.offset_dims, strict=True) if sizes[axis] == shape[axis]}


def reshape_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Returns the groups (old axes, new axes) of a reshape from `old` to `new`, as small as possible.

    [2, 6, 5] -> [12, 5] is ([0, 1], [0]), ([2], [1]).
    """
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        one, other = old[i] if i < len(old) else 0, new[j] if j < len(new) else 0
        # An axis of length 1, or one that is left over, forms a group alone, with no counterpart.
        before, after = ([i], [j])
        if one != other and (other == 0 or one == 1):
            after = []
        elif one != other and (one == 0 or other == 1):
            before = []
        # Both sides grow by one axis until they hold the same number of elements.
        while before and after and (left := math.prod(old[a] for a in before)) != (right := math.prod(new[a] for a in after)):
            if left < right:
                before.append(before[-1] + 1)
            else:
                after.append(after[-1] + 1)
        groups.append((before, after))
        i, j = i + len(before), j + len(after)
    return groups
