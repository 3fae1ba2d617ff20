"""The choice of a form for a convolution on a CPU, from shapes alone, with the measurements that decided it."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops.cpu import dense, depthwise
from cnnlab.ops.cpu.chunks import CHUNK
from cnnlab.ops.cpu.passes import Passes
from cnnlab.ops.lax_convolution import lax_convolve
from cnnlab.ops.windows import Geometry

Form = Literal["library", "turned", "dot", "channels", "chunks", "shrinking", "shifts", "blocks"]
"""How a convolution is computed.

library: lax.conv_general_dilated for everything.
turned: the same, its gradients with their axes in the order for which XLA:CPU has a kernel in the body of a loop, too.
dot: the columns [B, H', W', h·w·C], which hold the pixels of every window next to one another, and one matrix product.
channels: forward by a multiply-add for each channel of each tap; the gradients are the library's.
chunks: the library's forward pass and input gradient; the weight gradient from columns of a few images at a time.
shrinking: the same as chunks, and the input gradient from columns.
shifts: depth-wise, as many shifted multiply-adds as the kernel has taps; the weight gradient of a few images at a time.
blocks: dense convolutions of a few groups at a time, their kernels filled up with zeros."""


def choose_form(image: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry, groups: int, backend: str) -> Form:
    """Returns how to convolve an image [B, H, W, C] with a kernel [h, w, C / groups, O].

    The numbers in the comments are milliseconds of forward pass + input gradient + weight gradient of one core
    (Zen 4, whose matrix product does 97 GFLOP/s; XLA of jax 0.10.2), at batch 64 where nothing else is said.
    """
    batch, rows, columns, channels = image
    height, width, inputs, features = kernel
    if backend != "cpu" or 0 in image:
        return "library"
    if groups > 1:
        # Depth-wise 3x3, 128 channels of 16x16: 1.8 + 1.7 + 7.5, library 56 + 57 + 72 (stride 2: 16 + 199 + 34). Groups of
        # 4, 128 channels of 56x56, batch 4: blocks of 32 channels 13 + 15 + 21, library 70 + 72 + 7,941. Two groups of 48 to
        # 256 in all, 5x5 at 27x27, batch 16: forward 107, library 353.
        return "shifts" if inputs == 1 and groups == channels else "blocks"
    if height == width == 1:
        # 32 to 64 at 32x32: weight gradient 9, library 22; 128 to 256 at 16x16: 12 + 13 + 17, library 13 + 16 + 70.
        return "dot"
    if height * width * inputs <= 27:
        # 5x5, 1 to 6 at 28x28, batch 128: forward 0.8, library 11; 3x3, 3 to 32 at 32x32: 2.5, library 6.6.
        return "channels"
    out_height, out_width = geometry.output_size(image, kernel)
    if batch < 16 or out_height * out_width < 36 or 4 * out_height * out_width * (height * width * inputs + features) > CHUNK:
        # Few images, or pixels under a kernel that every chunk adds to (512 to 512 at 4x4: chunks 77, library 62), or columns
        # too large for the caches (64 to 64 at 56x56, batch 8: the library's weight gradient takes 21, its forward pass 20).
        return "turned"
    if out_height * out_width < 0.6 * rows * columns and height * width * inputs >= 100:
        # 5x5 without padding, 20 to 50 at 12x12, batch 128: 8 + 12 + 7, library 8 + 24 + 12; 6 to 16 at 14x14: 2.0 + 5.6 + 2.2,
        # library 2.0 + 6.6 + 2.8. 3x3 with stride 2, 16 to 32 at 32x32: 6 + 11 + 9, library 6 + 15 + 12.
        return "shrinking"
    # Weight gradient of 3x3, 64 to 64 at 8x8, batch 128: 9, library 14, forward 7; 128 to 128 at 16x16: 58, 68, 52; 256 to 256
    # at 8x8: 62, 80, 51. Of 32 to 32 at 16x16, batch 128: 12, 12; of 16 to 16 at 32x32: 17, 12.
    # Less work than this is not worth the loop's compilation (ResNet-56 at batch 64: 1.7 times the library's).
    work = batch * out_height * out_width * height * width * inputs * features
    return "chunks" if inputs >= 48 and work >= 300_000_000 else "turned"


def _by_blocks(x: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int) -> jax.Array:
    """Convolves by at most eight dense convolutions, of 32 channels or more where there are as many."""
    height, width, inputs, features = kernel.shape
    fits = [n for n in range(1, 9) if groups % n == 0 and (n == 1 or groups // n * inputs >= 32 or n == groups)]
    blocks = max(fits)
    merged = groups // blocks  # groups that one dense convolution computes: m below
    if merged > 1:
        # The kernels of the groups of a block are the diagonal of a dense kernel whose other entries are 0 (I is C / groups):
        # [h, w, I, O] -> [h, w, 1, I, blocks, m, O / groups] -> [h, w, m, I, blocks, m, O / groups] -> [h, w, m·I, O]
        kernel = kernel.reshape(height, width, 1, inputs, blocks, merged, features // groups)
        # A select, because jaxlib 0.10.2 crashes on CPUs without AVX-512 where both gradients pass through a product instead.
        diagonal = np.eye(merged, dtype=bool).reshape(1, 1, merged, 1, 1, merged, 1)
        kernel = jnp.where(diagonal, kernel, jnp.zeros((), kernel.dtype))
        kernel = kernel.reshape(height, width, merged * inputs, features)
    pairs = zip(jnp.split(x, blocks, axis=-1), jnp.split(kernel, blocks, axis=-1), strict=True)
    # Each block is [B, H, W, C / blocks] by [h, w, C / blocks, O / blocks].
    form = choose_form((*x.shape[:3], x.shape[3] // blocks), (*kernel.shape[:3], features // blocks), geometry, 1, "cpu")
    return jnp.concatenate([FORMS[form](images, weights, geometry, 1) for images, weights in pairs], axis=-1)


FORMS: dict[str, Callable[[jax.Array, jax.Array, Geometry, int], jax.Array]] = {
    "library": lax_convolve,
    "turned": Passes(dense.by_library, dense.image_by_library, dense.kernel_by_library),
    "dot": Passes(dense.by_columns, dense.by_columns, dense.kernel_by_chunks),
    "chunks": Passes(dense.by_library, dense.image_by_library, dense.kernel_by_chunks),
    "channels": Passes(dense.by_channels, dense.image_by_library, dense.kernel_by_library),
    "shrinking": Passes(dense.by_library, dense.by_columns_in_chunks, dense.kernel_by_chunks),
    "shifts": Passes(depthwise.by_shifts, depthwise.image_by_shifts, depthwise.by_shifts),
    "blocks": _by_blocks,
}
"""The ways to convolve, by the name of the form: (x, kernel, geometry, groups) -> [B, H', W', O]."""
