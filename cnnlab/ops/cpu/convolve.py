"""Convolution of images, [B, H, W, C] with kernels [height, width, C / groups, features], and its transpose.

On accelerators every convolution is the library's. XLA's CPU backend runs the forward pass and the input gradient of an
ordinary convolution at the speed of its matrix product, but neither the weight gradient nor convolutions in groups; there
`form` picks, from shapes alone, one of a few ways to compute the same thing.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

Pairs = tuple[tuple[int, int], tuple[int, int]]
"""Rows above and below, columns left and right."""
Padding = int | tuple[int, int] | Pairs | str
"""`1` on all sides, `(rows, columns)`, ((above, below), (left, right)), "same" (as TensorFlow: ⌈H / stride⌉ rows come out,
an odd pad goes below and right) or "valid"."""
NHWC = ("NHWC", "HWIO", "NHWC")


def pairs(padding: Padding, size: tuple[int, int], window: tuple[int, int], strides: tuple[int, int]) -> Pairs:
    """Padding in its long form for an image of `size` and a window (dilation included)."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0), (0, 0))
        if padding != "same":
            raise ValueError(f"padding is a number, numbers, 'same' or 'valid', not {padding!r}")
        missing = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(size, window, strides, strict=True)]
        both = [(m // 2, m - m // 2) for m in missing]
        return both[0], both[1]
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    rows, columns = padding
    return (
        rows if isinstance(rows, tuple) else (rows, rows),
        columns if isinstance(columns, tuple) else (columns, columns),
    )


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Where the windows of a convolution lie."""

    strides: tuple[int, int] = (1, 1)
    padding: Pairs = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)

    def size(self, image: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[int, int]:
        """(H', W') for an image [B, H, W, C] and a kernel [h, w, …]."""
        rows, columns = (
            (n + sum(pad) - d * (k - 1) - 1) // s + 1
            for n, k, s, pad, d in zip(image[1:3], kernel[:2], self.strides, self.padding, self.dilation, strict=True)
        )
        return rows, columns


Form = Literal["library", "dot", "channels", "chunks", "shrinking", "shifts", "blocks"]
"""library: lax.conv_general_dilated for everything.
dot: the pixels of every window beside one another, [B, H', W', h · w · C], its columns, and one matrix product over them.
channels: forward by a multiply-add for each channel of each tap; the gradients are the library's.
chunks: the library's forward pass and input gradient; the weight gradient from columns of a few images at a time.
shrinking: the same, and the input gradient from columns.
shifts: depth-wise, as many shifted multiply-adds as the kernel has taps; the weight gradient of a few images at a time.
blocks: dense convolutions of a few groups at a time, their kernels filled up with zeros."""

CHUNK = 3_000_000
"""Bytes of columns and results that are worked on at a time: 1 to 8 images of a CIFAR ResNet, which fit the caches."""
SHIFTED = 600_000
"""Bytes of the image that depth-wise gradients read at a time."""


def form(image: tuple[int, ...], kernel: tuple[int, ...], geometry: Geometry, groups: int, backend: str) -> Form:
    """How to convolve an image [B, H, W, C] with a kernel [h, w, C / groups, O].

    Milliseconds of forward pass + input gradient + weight gradient of one core (Zen 4, whose matrix product does 97 GFLOP/s;
    XLA of jax 0.10.2), at batch 64 where nothing else is said.
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
    long, wide = geometry.size(image, kernel)
    if batch < 16 or long * wide < 36 or 4 * long * wide * (height * width * inputs + features) > CHUNK:
        # Few images, or pixels under a kernel that every chunk adds to (512 to 512 at 4x4: chunks 77, library 62), or columns
        # too large for the caches (64 to 64 at 56x56, batch 8: the library's weight gradient takes 21, its forward pass 20).
        return "library"
    if long * wide < 0.6 * rows * columns and height * width * inputs >= 100:
        # 5x5 without padding, 20 to 50 at 12x12, batch 128: 8 + 12 + 7, library 8 + 24 + 12; 6 to 16 at 14x14: 2.0 + 5.6 + 2.2,
        # library 2.0 + 6.6 + 2.8. 3x3 with stride 2, 16 to 32 at 32x32: 6 + 11 + 9, library 6 + 15 + 12.
        return "shrinking"
    # Weight gradient of 3x3, 64 to 64 at 8x8, batch 128: 9, library 14, forward 7; 128 to 128 at 16x16: 58, 68, 52; 256 to 256
    # at 8x8: 62, 80, 51. Of 32 to 32 at 16x16, batch 128: 12, 12; of 16 to 16 at 32x32: 17, 12.
    # Less work than this is not worth the loop's compilation (ResNet-56 at batch 64: 1.7 times the library's).
    work = batch * long * wide * height * width * inputs * features
    return "chunks" if inputs >= 48 and work >= 300_000_000 else "library"


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Pairs = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> jax.Array:
    """Cross-correlation of x [B, H, W, C] with kernel [h, w, C / groups, O]: [B, H', W', O].

    Differentiable in both modes and any number of times, whatever the form.
    """
    geometry = Geometry(strides, padding, dilation)
    # A program that is exported for any batch is for any backend, and not differentiated.
    backend = jax.default_backend() if isinstance(x.shape[0], int) else "any"
    return FORMS[form(x.shape, kernel.shape, geometry, groups, backend)](x, kernel, geometry, groups)


Product = Callable[[Geometry, jax.Array, jax.Array], jax.Array]


def _library(x: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int = 1) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=NHWC,
        feature_group_count=groups,
    )


def taps(x: jax.Array, kernel: tuple[int, ...], geometry: Geometry) -> Iterator[tuple[int, int, jax.Array]]:
    """(i, j, what the tap (i, j) of a kernel [h, w, …] meets, [B, H', W', C]), row by row."""
    rows, columns = geometry.size(x.shape, kernel)
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (*geometry.padding[0], 0), (*geometry.padding[1], 0), (0, 0, 0)))
    (down, right), (apart, beside) = geometry.strides, geometry.dilation
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            first = (0, i * apart, j * beside, 0)
            last = (x.shape[0], first[1] + (rows - 1) * down + 1, first[2] + (columns - 1) * right + 1, x.shape[3])
            yield i, j, lax.slice(x, first, last, (1, down, right, 1))


def _columns(x: jax.Array, kernel: tuple[int, ...], geometry: Geometry) -> jax.Array:
    """[B, H', W', h · w · C]: the pixels of each window, in the order of a kernel [h, w, C, O]."""
    met = [tap for _, _, tap in taps(x, kernel, geometry)]
    return met[0] if len(met) == 1 else lax.concatenate(met, 3)


def _by_columns(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _over_channels(_columns(x, kernel.shape, geometry), kernel.reshape(-1, kernel.shape[-1]), 0)


def _by_columns_in_chunks(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    one = math.prod(geometry.size(x.shape, kernel.shape)) * (math.prod(kernel.shape[:3]) + kernel.shape[3]) * 4
    return in_chunks(lambda images: _by_columns(geometry, images, kernel), x, bytes_each=one, limit=CHUNK)


def _over_channels(x: jax.Array, matrix: jax.Array, axis: int) -> jax.Array:
    """x [B, H, W, C] times a matrix whose `axis` are the channels."""
    return lax.dot_general(x, matrix, (((3,), (axis,)), ((), ())))


def _by_channels(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every channel of every tap times its row of the kernel."""

    def some(images: jax.Array) -> jax.Array:
        products = [
            lax.slice_in_dim(tap, channel, channel + 1, axis=3) * kernel[i, j, channel].reshape(1, 1, 1, -1)
            for i, j, tap in taps(images, kernel.shape, geometry)
            for channel in range(x.shape[3])
        ]
        return sum(products[1:], products[0])

    one = math.prod(geometry.size(x.shape, kernel.shape)) * kernel.shape[3] * 4
    return in_chunks(some, x, bytes_each=one, limit=SHIFTED)


def _by_shifts(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Depth-wise; a kernel [h, w, 1, C · m] makes m channels of each. Sums are f32 at least."""
    exact = np.promote_types(x.dtype, np.float32)
    kernel = kernel.astype(exact)

    def some(images: jax.Array) -> jax.Array:
        images = _multiplied(images.astype(exact), kernel.shape[-1])
        products = [tap * kernel[i, j].reshape(1, 1, 1, -1) for i, j, tap in taps(images, kernel.shape, geometry)]
        return sum(products[1:], products[0]).astype(x.dtype)

    return in_chunks(some, x, bytes_each=math.prod(x.shape[1:3]) * kernel.shape[-1] * 4, limit=SHIFTED)


def _multiplied(x: jax.Array, features: int) -> jax.Array:
    """Every channel features / C times, next to itself."""
    return x if features == x.shape[-1] else jnp.repeat(x, features // x.shape[-1], axis=-1)


def _image_by_shifts(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as `_by_shifts`, with every pixel laid under its taps, so that the transpose reads slices.

    Rows and columns a stride apart form a plane, which meets every stride-th tap.
    """
    if geometry.dilation != (1, 1):
        return _by_shifts(geometry, x, kernel)
    (height, width, _, channels), (down, right) = kernel.shape, geometry.strides
    long, wide = geometry.size(x.shape, kernel.shape)
    below, beside = (height - 1) // down, (width - 1) // right
    exact = np.promote_types(x.dtype, np.float32)
    kernel, zero = kernel.astype(exact), np.zeros((), exact)
    sizes = ((long + below) * down, (wide + beside) * right)
    sides = [(low, made - n - low, 0) for made, n, (low, _) in zip(sizes, x.shape[1:3], geometry.padding, strict=True)]

    def some(images: jax.Array) -> jax.Array:
        images = lax.pad(_multiplied(images.astype(exact), channels), zero, ((0, 0, 0), *sides, (0, 0, 0)))
        apart = images.reshape(-1, long + below, down, wide + beside, right, channels).transpose(0, 1, 3, 2, 4, 5)
        planes = lax.split(apart.reshape(*apart.shape[:3], -1), [channels] * (down * right), axis=3)
        laid = [
            lax.pad(
                planes[i % down * right + j % right] * kernel[i, j].reshape(1, 1, 1, -1),
                zero,
                ((0, 0, 0), (below - i // down, i // down, 0), (beside - j // right, j // right, 0), (0, 0, 0)),
            )
            for i in range(height)
            for j in range(width)
        ]
        total = sum(laid[1:], laid[0])
        return lax.slice(total, (0, below, beside, 0), (len(images), below + long, beside + wide, channels)).astype(x.dtype)

    return in_chunks(some, x, bytes_each=math.prod(x.shape[1:]) * 4, limit=SHIFTED)


def in_chunks(function: Callable[..., jax.Array], *arrays: jax.Array, bytes_each: int, limit: int) -> jax.Array:
    """A function of batches, of as many examples at a time as divide the batch and need at most `limit` bytes.

    The chunks stay in the caches; and what a loop makes is stored, where XLA would compute a sum of products anew within
    everything that reads it, forward and backward. A gradient computes again what is between the arrays and the result.
    """
    batch = arrays[0].shape[0]
    most = max(limit // max(bytes_each, 1), 1)
    count = max(number for number in range(1, batch + 1) if batch % number == 0 and number <= most)
    function = jax.checkpoint(function, prevent_cse=False)
    if count == batch:
        return function(*arrays)
    chunks = [array.reshape(-1, count, *array.shape[1:]) for array in arrays]
    _, y = lax.scan(lambda _, some: (None, function(*some)), None, chunks)
    return y.reshape(batch, *y.shape[2:])


# A convolution is linear in its kernel, so the weight gradient is the transpose of the forward-mode derivative by the kernel.
# The function below is that derivative, written so that its transpose is the fast weight gradient: sums run over
# chunks, and the kernel is transposed outside of the product, because XLA multiplies [O, pixels] by [pixels, C] at full speed
# but at less than half when the result has to be turned afterwards (128 to 256 1x1: 17 against 34 ms).


def _kernel_by_chunks(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    exact = np.promote_types(x.dtype, np.float32)  # many chunks are added up
    turned = kernel.reshape(-1, kernel.shape[-1]).T.astype(exact)

    def some(images: jax.Array) -> jax.Array:
        return _over_channels(_columns(images.astype(exact), kernel.shape, geometry), turned, 1).astype(x.dtype)

    one = math.prod(geometry.size(x.shape, kernel.shape)) * (math.prod(kernel.shape[:3]) + kernel.shape[3]) * 4
    return in_chunks(some, x, bytes_each=one, limit=CHUNK)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _product(form: "Passes", geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return form.forward(geometry, x, kernel)


def _product_jvp(
    form: "Passes", geometry: Geometry, primals: tuple[jax.Array, jax.Array], tangents: tuple
) -> tuple[jax.Array, jax.Array]:
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    y = _product(form, geometry, x, kernel)
    parts = []
    if not isinstance(x_dot, SymbolicZero):
        parts.append(form.by_image(geometry, x_dot, kernel))
    if not isinstance(kernel_dot, SymbolicZero):
        parts.append(form.by_kernel(geometry, x, kernel_dot))
    return y, sum(parts[1:], parts[0]) if parts else jnp.zeros_like(y)


_product.defjvp(_product_jvp, symbolic_zeros=True)


@dataclasses.dataclass(frozen=True)
class Passes:
    """Ways to compute one product, linear in the image and in the kernel; gradients are the transposes of the two last."""

    forward: Product
    by_image: Product
    by_kernel: Product

    def __call__(self, x: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int = 1) -> jax.Array:
        """The product; a form that takes groups knows their number from the shapes."""
        return _product(self, geometry, x, kernel)


def _by_library(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _library(x, kernel, geometry)


def _by_blocks(x: jax.Array, kernel: jax.Array, geometry: Geometry, groups: int) -> jax.Array:
    """At most eight dense convolutions, of 32 channels or more where there are as many."""
    height, width, inputs, features = kernel.shape
    fits = [n for n in range(1, 9) if groups % n == 0 and (n == 1 or groups // n * inputs >= 32 or n == groups)]
    blocks = max(fits)
    merged = groups // blocks
    if merged > 1:
        kernel = kernel.reshape(height, width, 1, inputs, blocks, merged, features // groups)
        kernel = kernel * jnp.eye(merged, dtype=kernel.dtype).reshape(1, 1, merged, 1, 1, merged, 1)
        kernel = kernel.reshape(height, width, merged * inputs, features)
    sides = zip(jnp.split(x, blocks, axis=-1), jnp.split(kernel, blocks, axis=-1), strict=True)
    how = dataclasses.asdict(geometry)
    return jnp.concatenate([convolve(part, its, **how) for part, its in sides], axis=-1)


FORMS: dict[str, Callable[[jax.Array, jax.Array, Geometry, int], jax.Array]] = {
    "library": _library,
    "dot": Passes(_by_columns, _by_columns, _kernel_by_chunks),
    "chunks": Passes(_by_library, _by_library, _kernel_by_chunks),
    "channels": Passes(_by_channels, _by_library, _by_library),
    "shrinking": Passes(_by_library, _by_columns_in_chunks, _kernel_by_chunks),
    "shifts": Passes(_by_shifts, _image_by_shifts, _by_shifts),
    "blocks": _by_blocks,
}
"""The ways to convolve, by the name of the form: (x, kernel, geometry, groups) -> [B, H', W', O]."""


def convolve_transpose(
    x: jax.Array, kernel: jax.Array, *, strides: tuple[int, int] = (1, 1), padding: Pairs = ((0, 0), (0, 0))
) -> jax.Array:
    """Transposed convolution of x [B, H, W, C] with kernel [h, w, C, O], which is laid down flipped, as in Flax.

    Every pixel adds its value times the flipped kernel to a window of the result, a stride from its neighbour's; `padding`
    is what is then cut off on each side (where negative: added): [B, (H − 1) · stride + h − padding, …, O].
    """
    form = _SPREAD if jax.default_backend() == "cpu" and 0 not in x.shape else _dilated
    return form(x, kernel, Geometry(strides, padding))


def _dilated(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    beyond = [(k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape, geometry.padding, strict=False)]
    return lax.conv_general_dilated(x, kernel, (1, 1), beyond, lhs_dilation=geometry.strides, dimension_numbers=NHWC)


def _spread(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The windows of all pixels by one matrix product, then what its taps give to each phase, then the phases.

    A phase are the rows and columns of the result that lie a stride apart: within it the taps lie side by side.
    """
    (height, width, channels, features), (batch, *size, _) = kernel.shape, x.shape
    down, right = geometry.strides
    turned = jnp.moveaxis(kernel[::-1, ::-1], 2, 3).reshape(-1, channels)
    windows = lax.split(_over_channels(x, turned, 1), [features] * (height * width), axis=3)
    reach = [(k - 1) // s for k, s in zip((height, width), geometry.strides, strict=True)]
    zero = jnp.zeros((), x.dtype)
    empty = jnp.zeros((batch, *(n + most for n, most in zip(size, reach, strict=True)), features), x.dtype)
    phases = [empty] * (down * right)
    for tap, window in enumerate(windows):
        i, j = divmod(tap, width)
        sides = [(at, most - at, 0) for at, most in zip((i // down, j // right), reach, strict=True)]
        place, laid = i % down * right + j % right, lax.pad(window, zero, ((0, 0, 0), *sides, (0, 0, 0)))
        phases[place] = laid if phases[place] is empty else phases[place] + laid
    if len(phases) > 1:
        y = lax.concatenate(phases, 3).reshape(*empty.shape[:3], down, right, features).transpose(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch, empty.shape[1] * down, empty.shape[2] * right, features)
    else:
        y = phases[0]
    ends = [(n - 1) * s + k for n, s, k in zip(size, geometry.strides, (height, width), strict=True)]
    sides = [(-low, end - high - made, 0) for end, made, (low, high) in zip(ends, y.shape[1:3], geometry.padding, strict=True)]
    return lax.pad(y, zero, ((0, 0, 0), *sides, (0, 0, 0)))


def _kernel_by_spread(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    exact = np.promote_types(x.dtype, np.float32)
    kernel = kernel.astype(exact)

    def some(images: jax.Array) -> jax.Array:
        return _spread(geometry, images.astype(exact), kernel).astype(x.dtype)

    one = math.prod(x.shape[1:3]) * math.prod(kernel.shape[:2]) * kernel.shape[3] * 4
    return in_chunks(some, x, bytes_each=one, limit=CHUNK)


# 3x3, 64 to 32 channels from 7x7 to 14x14, batch 128: 3.2 + 3.4 + 4.6, library 4.5 + 3.4 + 77; 4x4, 64 to 64 from 8x8 to 16x16,
# batch 64: 12 + 7 + 10, library 11 + 7 + 184.
_SPREAD = Passes(_spread, lambda geometry, x, kernel: _dilated(x, kernel, geometry), _kernel_by_spread)
