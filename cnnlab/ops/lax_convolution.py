"""The convolutions of jax.lax over a `Geometry`: what runs on every accelerator, and what the forms of ops/cpu must equal."""

import jax
from jax import lax

from cnnlab.ops.windows import Geometry

Axes = tuple[str, str, str]
"""The order of the axes of the image, the kernel and the result."""
NHWC: Axes = ("NHWC", "HWIO", "NHWC")
TURNED: Axes = ("NHWC", "HWOI", "NHWC")
"""The same with a kernel [h, w, O, C]: its transpose by the image has the axes of NHWC (ops/cpu/dense.py says what for)."""


def lax_convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int = 1, *, axes: Axes = NHWC) -> jax.Array:
    """Cross-correlates x [B, H, W, C] with kernel [h, w, C / groups, O]: [B, H', W', O]; or with other orders of their axes."""
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=axes,
        feature_group_count=groups,
    )


def lax_convolve_transpose(x: jax.Array, kernel: jax.Array, geometry: Geometry, *, axes: Axes = NHWC) -> jax.Array:
    """Convolves x [B, H, W, C], spread out by the strides, with kernel [h, w, C, O]; see `convolve.convolve_transpose`."""
    outside = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape, geometry.padding, strict=False)]
    return lax.conv_general_dilated(x, kernel, (1, 1), outside, lhs_dilation=geometry.strides, dimension_numbers=axes)
