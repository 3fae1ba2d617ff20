"""Causal convolution: what a pixel is told by is above it, or left of it in its row, or an earlier channel of its own.

One definition of a network serves two ways of computing it. Over a whole image, in training, every layer is a convolution. In
sampling it is evaluated at one pixel (or row) after another: each layer keeps its input of earlier pixels in the collection
`cache`, writes that of the pixel, and computes from a window of it (Ramachandran et al. 2017, arXiv 1704.06001).
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
from cnnlab.values import Choice

Order = Literal["a", "b", "free"]
"""Which channels of the pixel itself are seen: a: earlier ones, b: earlier ones and its own (van den Oord et al. 2016, arXiv
1601.06759, section 3.4), both with nothing after the pixel; free: whatever the window covers, which then ends before it or
covers what knows nothing of the pixel."""


@dataclasses.dataclass(frozen=True)
class Window:
    """Which pixels a convolution sees, as offsets from its own: rows top to bottom, columns left to right, ends included."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.bottom - self.top + 1, self.right - self.left + 1


def square(reach: int) -> Window:
    """`reach` pixels to every side of the own one."""
    return Window(-reach, reach, -reach, reach)


def above(reach: int) -> Window:
    """The upper part of a square, without the own row."""
    return Window(-reach, -1, -reach, reach)


def down_to(reach: int) -> Window:
    """The upper part of a square, with the own row."""
    return Window(-reach, 0, -reach, reach)


def along(reach: int) -> Window:
    """The left part of the own row, with the own pixel."""
    return Window(0, 0, -reach, 0)


POINT = Window()
"""The own pixel."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network is evaluated in sampling: at a pixel, in a row, or (row None) everywhere, by matrix products alone.

    XLA's CPU backend runs the library's convolution in a loop 5 to 7 times slower than outside (jax issue 12868).
    """

    size: tuple[int, int]
    """(H, W) of the image."""
    row: jax.Array | None = None
    column: jax.Array | None = None
    """None: the whole row."""


def channel_of(units: int, groups: int, parts: int = 1) -> np.ndarray:
    """i64 [units]: the channel that each unit belongs to, in `parts` equal runs of 0 … groups − 1 in order."""
    run = units // parts
    return np.tile(np.arange(run) * groups // run, parts)


def mask(window: Window, order: Order, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """bool [rows, columns, I, O]: which weights count; inputs [I] and outputs [O] are the channels that units belong to."""
    rows = np.arange(window.top, window.bottom + 1)[:, None]
    columns = np.arange(window.left, window.right + 1)[None]
    seen = np.ones((*window.shape, len(inputs), len(outputs)), bool)
    if order == "free":
        return seen
    seen[(rows > 0) | ((rows == 0) & (columns > 0))] = False
    own = inputs[:, None] < outputs[None] if order == "a" else inputs[:, None] <= outputs[None]
    seen[(rows == 0) & (columns == 0)] = own
    return seen


class Causal(nn.Module):
    """Convolution over a window, with the weights masked that would look ahead; `kernel` [rows, columns, I, O] and `bias`.

    Attributes:
        features: units that come out.
        window: which pixels are seen.
        order: which channels of the pixel itself are.
        groups: channels that come one after another; the units that come in, and out, are divided among them in order.
        parts: of the units that come out, each divided among the channels: 2 for a pair of gates.
        of_image: the input is the image itself, which is whole at every place.
        bias: whether one is added.
        initializer: of the kernel; the bias starts at 0.
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
        """x [B, H, W, I] -> [B, H, W, features]; at a row, x and what comes out have H = 1; at a pixel, W = 1 too."""
        inputs = x.shape[-1]
        kernel = self.param("kernel", self.initializer, (*self.window.shape, inputs, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        outputs = channel_of(self.features, self.groups, self.parts)
        counts = mask(self.window, self.order, channel_of(inputs, self.groups), outputs)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        kernel = kernel * jnp.asarray(counts, kernel.dtype)
        x = self._whole(x, kernel, counts) if at is None else self._by_products(x, kernel, counts, at)
        return x if bias is None else x + bias.reshape(1, 1, 1, -1)

    def macs(self, output: tuple[int, ...]) -> int:
        """Multiply-accumulates of one image with the weights that count; output: [1, H, W, features]."""
        inputs = channel_of(self.variables["params"]["kernel"].shape[2], self.groups)
        counts = mask(self.window, self.order, inputs, channel_of(self.features, self.groups, self.parts))
        return math.prod(output[1:-1]) * int(counts.sum())

    def _whole(self, x: jax.Array, kernel: jax.Array, counts: np.ndarray) -> jax.Array:
        """A convolution with the rows and columns of the kernel that count; the image is cut where windows end before it."""
        rows, columns = (np.flatnonzero(counts.any(axis=axes)) for axes in ((1, 2, 3), (0, 2, 3)))
        if not len(rows):
            return jnp.zeros((*x.shape[:3], self.features), x.dtype)
        kernel = kernel[: rows[-1] + 1, : columns[-1] + 1]
        below, right = self.window.top + int(rows[-1]), self.window.left + int(columns[-1])
        x = x[:, : x.shape[1] + min(below, 0), : x.shape[2] + min(right, 0)]
        return convolve(x, kernel, padding=((-self.window.top, max(below, 0)), (-self.window.left, max(right, 0))))

    def _by_products(self, x: jax.Array, kernel: jax.Array, counts: np.ndarray, at: Place) -> jax.Array:
        """The taps that count side by side, [B, h, w, taps · I], times their weights."""
        seen = np.argwhere(counts.any(axis=(2, 3)))
        height, width = at.size if at.row is None else (1, at.size[1] if at.column is None else 1)
        if not len(seen):
            return jnp.zeros((x.shape[0], height, width, self.features), x.dtype)
        if self.window != POINT or self.of_image:
            x = self._surroundings(x, at, (height, width))
        beside = [x[:, row : row + height, column : column + width] for row, column in seen]
        weights = [kernel[row, column] for row, column in seen]
        return jnp.concatenate(beside, axis=-1) @ jnp.concatenate(weights, axis=0)

    def _surroundings(self, x: jax.Array, at: Place, size: tuple[int, int]) -> jax.Array:
        """[B, h + rows − 1, w + columns − 1, I]: what the windows of the place cover, zeros beyond the image."""
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
    """kept [B, H', W', F] with x [B, 1, w, F] written at the place, `above` rows and `left` columns from the corner."""
    row, column = _corner(at)
    zero = jnp.int32(0)
    return jax.lax.dynamic_update_slice(kept, x, (zero, row + above, column + left, zero))


def take(kept: jax.Array, at: Place, size: tuple[int, int]) -> jax.Array:
    """[B, h, w, F] of kept [B, H', W', F] from the place on."""
    row, column = _corner(at)
    zero = jnp.int32(0)
    return jax.lax.dynamic_slice(kept, (zero, row, column, zero), (kept.shape[0], *size, kept.shape[-1]))


def _corner(at: Place) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(at.row, jnp.int32), jnp.asarray(0 if at.column is None else at.column, jnp.int32)


class ByClass(nn.Module):
    """A bias for each class, at every pixel (van den Oord et al. 2016, arXiv 1606.05328, eq. 4): `kernel` [K, features].

    Attributes:
        classes: how many; 0: nothing is added.
        features: units.
    """

    classes: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array) -> jax.Array:
        """x [B, H, W, features], labels i32 [B] -> the same shape."""
        if not self.classes:
            return x
        kernel = self.param("kernel", init.normal, (self.classes, self.features))
        return x + jnp.take(kernel, labels, axis=0, mode="clip")[:, None, None].astype(x.dtype)
