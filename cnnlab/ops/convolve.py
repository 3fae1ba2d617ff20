"""Convolution of images [B, H, W, C] with kernels [h, w, C / groups, O], and its transpose.

On accelerators both are `lax.conv_general_dilated` (lax_convolution.py). XLA's CPU backend runs the forward pass and the input
gradient of an ordinary convolution at the speed of its matrix product, but neither the weight gradient nor convolutions in
groups; there ops/cpu picks, from shapes alone, one of a few ways to compute the same thing.
"""

import jax

from cnnlab.ops.collectives import by_device
from cnnlab.ops.cpu.forms import FORMS, choose_form
from cnnlab.ops.cpu.transpose import SPREAD
from cnnlab.ops.lax_convolution import lax_convolve_transpose
from cnnlab.ops.windows import Geometry, Pairs


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Cross-correlates x [B, H, W, C] with kernel [h, w, C / groups, O]: [B, H', W', O].

    Differentiable in both modes and any number of times, whatever the form.
    """
    geometry = Geometry(strides, padding, dilation)
    # A program that is exported for any batch size is for any backend, and is not differentiated.
    backend = jax.default_backend() if isinstance(x.shape[0], int) else "any"

    def own(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return FORMS[choose_form(images.shape, kernel.shape, geometry, groups, backend)](images, kernel, geometry, groups)

    return by_device(own, x, kernel) if backend == "cpu" else own(x, kernel)


def convolve_transpose(
    x: jax.Array, kernel: jax.Array, *, strides: tuple[int, int] = (1, 1), padding: Pairs = ((0, 0), (0, 0))
) -> jax.Array:
    """Computes the transposed convolution of x [B, H, W, C] with kernel [h, w, C, O], which is flipped, as in Flax.

    Every pixel adds its value times the flipped kernel to a window of the result, one stride from its neighbour's window.
    `padding` is what is then cut off each side (a negative number is added): [B, (H − 1) · stride + h − padding, …, O].
    """
    geometry = Geometry(strides, padding)
    if jax.default_backend() == "cpu" and 0 not in x.shape:
        return by_device(lambda images, kernel: SPREAD(images, kernel, geometry), x, kernel)
    return lax_convolve_transpose(x, kernel, geometry)
