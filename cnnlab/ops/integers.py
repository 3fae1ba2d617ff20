"""Dense layers and convolutions of i8 codes with sums in i32: what a quantised network computes on integer hardware.

A code q stands for (q − zero) · scale (ops/quantize.py), and weights have no zero point. So a layer's sum over its inputs is
Σ (q − zero) · w, times both scales: all but the last product is in integers, and exact. Jacob et al. 2018, arXiv 1712.05877,
section 2.2, eq. 7: Σ (q − zero) · w = Σ q · w − zero · Σ w, so that both operands are i8.

Letters in shapes: B batch, H W space, C and I input channels, O output channels.
"""

import jax
import jax.numpy as jnp
from jax import lax

from cnnlab.errors import UsageError
from cnnlab.ops.lax_convolution import NHWC
from cnnlab.ops.windows import Geometry

MOST_TERMS = (2**31 - 1) // (255 * 127)
"""Terms of a sum that fits i32 whatever its codes are: 66,311."""


def dense(codes: jax.Array, zero: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns i32 [..., O], the sums of (codes − zero) times weights.

    Args:
        codes: i8 [..., I].
        zero: i8 [], the code of 0.
        kernel: codes of the weights, i8 [I, O].
    """
    _require_room(kernel)
    axes = (((codes.ndim - 1,), (0,)), ((), ()))
    sums = lax.dot_general(codes, kernel, axes, preferred_element_type=jnp.int32)
    return sums - _of_zero(zero, kernel, sums.ndim)


def convolve(codes: jax.Array, zero: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int = 1) -> jax.Array:
    """Returns i32 [B, H', W', O], the sums of (codes − zero) times weights; padding has the code of 0.

    Args:
        codes: i8 [B, H, W, C].
        zero: i8 [], the code of 0.
        kernel: codes of the weights, i8 [h, w, C / groups, O].
        geometry: where the windows lie.
        groups: number of groups of channels.
    """
    _require_room(kernel)
    padding = [(0, 0, 0), *((low, high, 0) for low, high in geometry.padding), (0, 0, 0)]
    sums = lax.conv_general_dilated(
        lax.pad(codes, zero, padding),
        kernel,
        geometry.strides,
        "VALID",
        rhs_dilation=geometry.dilation,
        dimension_numbers=NHWC,
        feature_group_count=groups,
        preferred_element_type=jnp.int32,
    )
    return sums - _of_zero(zero, kernel, sums.ndim)


def _of_zero(zero: jax.Array, kernel: jax.Array, rank: int) -> jax.Array:
    """Returns zero times the sum of each output channel's weights, i32 [1, …, O]."""
    sums = jnp.sum(kernel.astype(jnp.int32), tuple(range(kernel.ndim - 1)))  # [..., O] -> [O]
    return (zero.astype(jnp.int32) * sums).reshape((1,) * (rank - 1) + sums.shape)


def _require_room(kernel: jax.Array) -> None:
    """Raises UsageError for a kernel whose sums may not fit i32."""
    if (terms := kernel.size // kernel.shape[-1]) > MOST_TERMS:
        raise UsageError(
            f"a layer that adds {terms:,} products may not fit 32 bits, which hold {MOST_TERMS:,}.\n"
            "Take --quantization.arithmetic=simulated."
        )
