"""Weights that share few values: an optimiser that moves all weights of a value together.

Han, Mao and Dally 2016, Deep compression, arXiv 1510.00149, section 3: the gradient of a shared value is the sum of those of
its weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ops import trees

MOST_BITS = 8


class SharedValues(NamedTuple):
    """The state of an optimiser that moves weights of one value together."""

    is_on: jax.Array
    """bool []: whether weights share values yet."""
    codes: dict[str, jax.Array]
    """{path of a kernel: which value each weight has, i32 of its shape}; pruned weights have a code of their own, the last."""
    first: dict[str, jax.Array]
    """{path of a kernel: flat position of the first weight of each value, i32 [2^bits + 1]}."""
    inner: optax.OptState


def moves_together(optimizer: optax.GradientTransformation, bits: Any) -> optax.GradientTransformation:
    """Returns the optimiser which, once values are shared, moves all weights of a value alike: they stay equal to the bit.

    Args:
        optimizer: optimiser whose updates are shared.
        bits: parameters -> {path of a kernel: bits of a code}.
    """

    def init(params: optax.Params) -> SharedValues:
        leaves = trees.flatten(params)
        codes = {path: jnp.zeros(leaves[path].shape, jnp.int32) for path in bits(params)}
        first = {path: jnp.zeros(2**count + 1, jnp.int32) for path, count in bits(params).items()}
        return SharedValues(jnp.asarray(False), codes, first, optimizer.init(params))

    def update(
        updates: optax.Updates, state: SharedValues, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, SharedValues]:
        updates = _changed(updates, state, _summed)
        updates, inner = optax.with_extra_args_support(optimizer).update(updates, state.inner, params, **extra)
        # Equal gradients give equal updates but for rounding and for what the optimiser remembers: the first of a value counts.
        return _changed(updates, state, _of_the_first), state._replace(inner=inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _changed(tree: Any, state: SharedValues, change: Any) -> Any:
    """Returns the tree with change(leaf, codes, first) for kernels that share values."""
    leaves = trees.flatten(tree)
    for path, codes in state.codes.items():
        leaves[path] = jnp.where(state.is_on, change(leaves[path], codes, state.first[path]), leaves[path])
    return trees.unflatten(leaves)


def _summed(gradient: jax.Array, codes: jax.Array, first: jax.Array) -> jax.Array:
    """Returns for each weight the sum of the gradients of all weights of its value."""
    sums = jax.ops.segment_sum(gradient.reshape(-1), codes.reshape(-1), len(first))  # the kernel's shape -> [2^bits + 1]
    return sums[codes]  # [2^bits + 1] at the kernel's shape -> the kernel's shape


def _of_the_first(update: jax.Array, codes: jax.Array, first: jax.Array) -> jax.Array:
    """Returns for each weight the update of the first weight of its value."""
    return update.reshape(-1)[first][codes]  # the kernel's shape -> [2^bits + 1] -> the kernel's shape


def shared(
    kernel: np.ndarray, mask: np.ndarray, centres: np.ndarray, codes: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (the kernel with shared values f32, the codes i32 of its shape, the first place of each value i32 [count + 1]).

    Args:
        kernel: weights on the host.
        mask: 1 where a weight stays, of the kernel's shape.
        centres: the values f32 [k], k <= count.
        codes: of the weights that stay, i32, in their order.
        count: number of values at most.
    """
    flat = np.full(kernel.size, count, np.int32)
    flat[np.flatnonzero(mask)] = codes
    values = np.append(np.pad(centres, (0, count - len(centres))), np.float32(0))
    first = np.zeros(count + 1, np.int32)
    found, places = np.unique(flat, return_index=True)
    first[found] = places
    return values[flat].reshape(kernel.shape).astype(np.float32), flat.reshape(kernel.shape), first  # [numbers] -> its shape


def bits_of(params: Any, bits: int, layers: Mapping[str, int]) -> dict[str, int]:
    """Returns {path of a kernel: bits of a code}: `bits`, or those of the first pattern that matches it.

    Raises UsageError for a pattern that matches no kernel.
    """
    return trees.by_kernel(params, bits, layers.items(), knob="bits_by_layer")


def layer_bits(texts: Sequence[str]) -> list[tuple[str, int]]:
    """Returns [(pattern, bits)] of texts REGEX=BITS; raises UsageError for another form or other bits than 1 to 8."""
    form = f"--bits_by_layer: {{}} is not REGEX=BITS with 1 to {MOST_BITS} bits, such as conv.*=8."
    return [trees.valued_pattern(text, _bits, form=form) for text in texts]


def _bits(text: str) -> int:
    if not 1 <= (value := int(text)) <= MOST_BITS:
        raise ValueError(text)
    return value
