"""Causal convolution: the output at a pixel depends on pixels above, pixels to the left and earlier channels of the pixel.

One definition of a network serves two ways of computing it. In training every layer is a convolution over the whole image. In
sampling the network is evaluated at one pixel (or row) after another: each layer keeps its input at earlier pixels in the
collection `cache`, adds its input at the pixel, and computes from a window of it (Ramachandran et al. 2017, arXiv
1704.06001).
"""

import dataclasses
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ops import init
from cnnlab.ops.convolve import convolve
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.raster_scan import Place
from cnnlab.values import Choice

Order = Literal["a", "b", "free"]
"""Which channels of the pixel itself enter: a: earlier ones; b: earlier ones and its own (van den Oord et al. 2016, arXiv
1601.06759, section 3.4); both mask everything after the pixel. free: nothing is masked; causality then follows from a window
that ends before the pixel, or from an input that does not depend on it."""


@dataclasses.dataclass(frozen=True)
class Window:
    """The pixels that a convolution takes, as offsets from the output pixel: rows top to bottom, columns left to right.

    Both ends are included.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Number of (rows, columns)."""
        return self.bottom - self.top + 1, self.right - self.left + 1


def square(reach: int) -> Window:
    """Returns the square of pixels within `reach` of the output pixel."""
    return Window(-reach, reach, -reach, reach)


def above(reach: int) -> Window:
    """Returns the upper part of a square, without the row of the output pixel."""
    return Window(-reach, -1, -reach, reach)


def down_to(reach: int) -> Window:
    """Returns the upper part of a square, with the row of the output pixel."""
    return Window(-reach, 0, -reach, reach)


def along(reach: int) -> Window:
    """Returns the left part of the row of the output pixel, up to that pixel."""
    return Window(0, 0, -reach, 0)


POINT = Window()
"""The output pixel alone."""


def channel_of(units: int, groups: int, parts: int = 1) -> np.ndarray:
    """Returns i64 [units], the channel that each unit belongs to: `parts` equal runs, each 0 … groups − 1 in order."""
    run = units // parts
    return np.tile(np.arange(run) * groups // run, parts)


def mask(window: Window, order: Order, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Returns bool [rows, columns, I, O], the weights of a window that are used.

    Args:
        window: rows and columns of the kernel.
        order: which channels of the pixel itself enter.
        inputs: the channel that each input unit belongs to, [I].
        outputs: the channel that each output unit belongs to, [O].
    """
    rows = np.arange(window.top, window.bottom + 1)[:, None]
    columns = np.arange(window.left, window.right + 1)[None]
    # Offsets from the output pixel: rows [rows, 1], columns [1, columns].
    used = np.ones((*window.shape, len(inputs), len(outputs)), bool)
    if order == "free":
        return used
    used[(rows > 0) | ((rows == 0) & (columns > 0))] = False
    # [I, 1] against [1, O] -> [I, O]: at the pixel itself a unit uses earlier channels, with order b its own channel too.
    own = inputs[:, None] < outputs[None] if order == "a" else inputs[:, None] <= outputs[None]
    used[(rows == 0) & (columns == 0)] = own
    return used


class Causal(nn.Module):
    """A convolution over a window whose non-causal weights are masked; `kernel` [rows, columns, I, O] and `bias` [O].

    Attributes:
        features: number of output units.
        window: pixels that enter.
        order: channels of the pixel itself that enter.
        groups: number of channels that are predicted one after another; input and output units are divided among them in
            order.
        parts: number of parts of the output units, each of which is divided among the channels: 2 for a pair of gates.
        of_image: whether the input is the image itself, which is given as a whole at every place.
        bias: whether a bias is added.
        initializer: initialiser of the kernel; the bias starts at 0.
    """

    features: int
    window: Window = POINT
    order: Order = "b"
    groups: int = 1
    parts: int = 1
    of_image: bool = False
    bias: bool = True
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, at: Place | None = None) -> jax.Array:
        """Maps x [B, H, W, I] to [B, H, W, features]; at a row, input and output have H = 1; at a pixel, W = 1 too."""
        inputs = x.shape[-1]
        kernel = self.param("kernel", self.initializer, (*self.window.shape, inputs, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        outputs = channel_of(self.features, self.groups, self.parts)
        counts = mask(self.window, self.order, channel_of(inputs, self.groups), outputs)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        kernel = kernel * jnp.asarray(counts, kernel.dtype)
        x = self._whole(x, kernel, counts) if at is None else self._by_products(x, kernel, counts, at)
        return x if bias is None else x + bias.reshape(1, 1, 1, -1)  # [features] -> [1, 1, 1, features]

    def macs(self, output: tuple[int, ...]) -> int:
        """Counts the multiply-accumulates of one image by unmasked weights, for an output [1, H, W, features]."""
        inputs = channel_of(self.variables["params"]["kernel"].shape[2], self.groups)
        counts = mask(self.window, self.order, inputs, channel_of(self.features, self.groups, self.parts))
        return math.prod(output[1:-1]) * int(counts.sum())

    def _whole(self, x: jax.Array, kernel: jax.Array, counts: np.ndarray) -> jax.Array:
        """Convolves x [B, H, W, I] with the rows and columns of the kernel that have unmasked weights: [B, H, W, features].

        Args:
            kernel: masked kernel [rows, columns, I, features].
            counts: mask of the kernel, of the same shape.
        """
        rows, columns = (np.flatnonzero(counts.any(axis=axes)) for axes in ((1, 2, 3), (0, 2, 3)))
        if not len(rows):
            return jnp.zeros((*x.shape[:3], self.features), x.dtype)
        # Rows and columns that are masked everywhere at the end are dropped: fewer products, and a window that ends before the
        # output pixel takes no padding on that side but a shorter input.
        kernel = kernel[: rows[-1] + 1, : columns[-1] + 1]
        below, right = self.window.top + int(rows[-1]), self.window.left + int(columns[-1])
        x = x[:, : x.shape[1] + min(below, 0), : x.shape[2] + min(right, 0)]
        return convolve(x, kernel, padding=((-self.window.top, max(below, 0)), (-self.window.left, max(right, 0))))

    def _by_products(self, x: jax.Array, kernel: jax.Array, counts: np.ndarray, at: Place) -> jax.Array:
        """Multiplies the concatenated pixels of the window, [B, h, w, taps · I], by their weights: [B, h, w, features].

        The arguments are those of `_whole`; h and w are 1 at a pixel.
        """
        taps = np.argwhere(counts.any(axis=(2, 3)))
        height, width = at.size if at.row is None else (1, at.size[1] if at.column is None else 1)
        if not len(taps):
            return jnp.zeros((x.shape[0], height, width, self.features), x.dtype)
        if self.window != POINT or self.of_image:
            x = self._surroundings(x, at, (height, width))
        shifted = [x[:, row : row + height, column : column + width] for row, column in taps]  # each [B, h, w, I]
        weights = [kernel[row, column] for row, column in taps]  # each [I, features]
        # [B, h, w, taps · I] @ [taps · I, features] -> [B, h, w, features]
        return jnp.concatenate(shifted, axis=-1) @ jnp.concatenate(weights, axis=0)

    def _surroundings(self, x: jax.Array, at: Place, size: tuple[int, int]) -> jax.Array:
        """Returns the pixels that the windows of the place cover: [B, h + rows − 1, w + columns − 1, I].

        They are zero outside the image. Unless x is the image itself, x is first written to the cache.
        """
        window = self.window
        around = ((0, 0), (-window.top, max(window.bottom, 0)), (-window.left, max(window.right, 0)), (0, 0))
        if at.row is None:
            return jnp.pad(x, around)
        if self.of_image:
            padded = jnp.pad(x, around)
        else:
            shape = [n + sum(pad) for n, pad in zip((x.shape[0], *at.size, x.shape[-1]), around, strict=True)]
            kept = self.variable("cache", "input", jnp.zeros, shape, x.dtype)
            kept.value = padded = put(kept.value, x, at, -window.top, -window.left)
        return take(padded, at, (size[0] + window.shape[0] - 1, size[1] + window.shape[1] - 1))


def put(kept: jax.Array, x: jax.Array, at: Place, above: int, left: int) -> jax.Array:
    """Writes x [B, 1, w, F] into kept [B, H', W', F] at the place, shifted by `above` rows and `left` columns of padding."""
    row, column = _corner(at)
    zero = jnp.int32(0)
    return jax.lax.dynamic_update_slice(kept, x, (zero, row + above, column + left, zero))


def take(kept: jax.Array, at: Place, size: tuple[int, int]) -> jax.Array:
    """Reads [B, h, w, F] from kept [B, H', W', F], starting at the place."""
    row, column = _corner(at)
    zero = jnp.int32(0)
    return jax.lax.dynamic_slice(kept, (zero, row, column, zero), (kept.shape[0], *size, kept.shape[-1]))


def _corner(at: Place) -> tuple[jax.Array, jax.Array]:
    """Returns (row, column) of the place, column 0 for a whole row, both i32 []."""
    return jnp.asarray(at.row, jnp.int32), jnp.asarray(0 if at.column is None else at.column, jnp.int32)


class ByClass(nn.Module):
    """Adds a bias of the class at every pixel (van den Oord et al. 2016, arXiv 1606.05328, eq. 4): `kernel` [K, features].

    Attributes:
        classes: number of classes; 0: nothing is added.
        features: number of units.
    """

    classes: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """Adds the bias of each label, i32 [B] or soft f32 [B, K], to x [B, H, W, features]."""
        if not self.classes:
            return x
        kernel = self.param("kernel", init.normal, (self.classes, self.features))
        # [K, features] by labels [B] or [B, K] -> [B, features] -> [B, 1, 1, features]
        bias = labels @ kernel if labels.ndim == 2 else jnp.take(kernel, labels, axis=0, mode="clip")
        return x + bias[:, None, None].astype(x.dtype)
