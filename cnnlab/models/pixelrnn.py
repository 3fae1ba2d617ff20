"""PixelRNN with Row LSTM layers (van den Oord et al. 2016, arXiv 1601.06759)."""

import functools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models.causal import ByClass, Causal, Window, put, square, take
from cnnlab.models.pixelcnn import Numbers, finished
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.raster_scan import Place
from cnnlab.values import Choice, Count


class RowLSTM(nn.Module):
    """The Row LSTM of van den Oord et al. 2016, arXiv 1601.06759, section 3.1, which processes one row after another.

    The four gates are the sum of a 1x3 convolution of the input with mask b and an unmasked 1x3 convolution of the hidden state
    of the row above (eq. 3).

    Attributes:
        width: number of units.
        groups: number of channels that are predicted one after another.
        initializer: initialiser of the kernels; biases start at 0.
    """

    width: int
    groups: int = 1
    initializer: Choice[INITIALIZERS] = init.lecun

    @nn.compact
    def __call__(self, x: jax.Array, at: Place | None = None) -> jax.Array:
        """Maps x [B, H, W, I] to hidden states [B, H, W, width]; at a pixel H = W = 1."""
        given = Causal(
            4 * self.width,
            Window(left=-1, right=1),
            groups=self.groups,
            parts=4,
            initializer=self.initializer,
            name="input_to_state",
        )(x, at)
        kernel = self.param("state_to_state", self.initializer, (3, self.width, 4 * self.width)).astype(given.dtype)
        weights = kernel.reshape(-1, 4 * self.width)  # [3, width, 4 · width] -> [3 · width, 4 · width]
        if at is not None and at.row is not None:
            return self._at(given, weights, at)
        batch, _, columns, _ = given.shape

        def next_row(carry: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            hidden, cell = carry  # of the row above, each [B, W, width]
            padded = jnp.pad(hidden, ((0, 0), (1, 1), (0, 0)))
            # The three neighbours above each pixel: 3 x [B, W, width] -> [B, W, 3 · width]; a 1x3 convolution as one product.
            neighbours = jnp.concatenate([padded[:, k : k + columns] for k in range(3)], axis=-1)
            carry = _step(row + neighbours @ weights, cell)
            return carry, carry[0]

        start = jnp.zeros((batch, columns, self.width), given.dtype)
        _, hidden = jax.lax.scan(next_row, (start, start), jnp.moveaxis(given, 1, 0))  # [B, H, W, F] -> [H, B, W, F]
        return jnp.moveaxis(hidden, 0, 1)  # [H, B, W, width] -> [B, H, W, width]

    def macs(self, output: tuple[int, ...]) -> int:
        """Multiply-accumulates of one image from state to state; output: [1, H, W, width]."""
        return math.prod(output[1:-1]) * math.prod(self.variables["params"]["state_to_state"].shape)

    def _at(self, given: jax.Array, weights: jax.Array, at: Place) -> jax.Array:
        """Returns the hidden state at one pixel, [B, 1, 1, width], from the cached states of the row above.

        The cache has one row of zeros above the image and, for the hidden state, a column of zeros at either side: row r of
        the image is row r + 1 of the cache.
        """
        (rows, columns), batch = at.size, given.shape[0]
        hidden = self.variable("cache", "hidden", jnp.zeros, (batch, rows + 1, columns + 2, self.width), given.dtype)
        cell = self.variable("cache", "cell", jnp.zeros, (batch, rows + 1, columns, self.width), given.dtype)
        neighbours = take(hidden.value, at, (1, 3)).reshape(batch, 1, 1, -1)  # [B, 1, 3, width] -> [B, 1, 1, 3 · width]
        now, state = _step(given + neighbours @ weights, take(cell.value, at, (1, 1)))
        hidden.value, cell.value = put(hidden.value, now, at, 1, 1), put(cell.value, state, at, 1, 0)
        return now


def _step(gates: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (hidden, cell) from gates [..., 4 · width] and the cell of the row above [..., width] (eq. 3)."""
    output, forget, entry, content = jnp.split(gates, 4, axis=-1)  # [..., 4 · width] -> 4 x [..., width]
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(entry) * jnp.tanh(content)
    return jax.nn.sigmoid(output) * jnp.tanh(cell), cell


class PixelRNN(nn.Module):
    """The PixelRNN with Row LSTM layers of arXiv 1601.06759, Table 1.

    It consists of a 7x7 convolution with mask a, LSTMs with residual connections (Figure 5, right), two 1x1 convolutions and
    the output layer.

    Attributes:
        outputs: P, parameters of the distribution of a pixel.
        groups: number of channels that are predicted one after another; 1 where the distribution itself orders them.
        classes: number of classes that condition the images; 0: none.
        width: units of a Row LSTM; its input and, after a 1x1 convolution, its output have twice as many.
        layers: number of Row LSTM layers.
        reach: reach of the first convolution in pixels: 3 for 7x7.
        head: units of the two 1x1 convolutions before the output: 32 for MNIST and 1024 for CIFAR-10 in the paper.
        initializer: initialiser of the kernels; biases start at 0.
    """

    outputs: int
    groups: int
    classes: int
    width: Count = 16
    layers: Count = 3
    reach: Count = 3
    head: Count = 32
    initializer: Choice[INITIALIZERS] = init.lecun
    by_row: ClassVar[bool] = False
    """Whether a row must be evaluated as a whole before its pixels."""

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array, *, train: bool, at: Place | None = None) -> Numbers:
        """Maps whole images f32 [B, H, W, C] to (numbers [B, H, W, P], every layer by name); at a pixel, H = W = 1."""
        convolution = functools.partial(Causal, groups=self.groups, initializer=self.initializer)
        x = convolution(2 * self.width, square(self.reach), "a", of_image=True, name="conv0")(images, at)
        x = ByClass(self.classes, 2 * self.width, name="class0")(x, labels)
        intermediates = {"conv0": x}
        for number in range(1, self.layers + 1):
            hidden = RowLSTM(self.width, self.groups, self.initializer, name=f"lstm{number}")(x, at)
            y = convolution(2 * self.width, name=f"expand{number}")(hidden, at)
            intermediates[f"lstm{number}"] = x = x + ByClass(self.classes, 2 * self.width, name=f"class{number}")(y, labels)
        x, heads = finished(x, at, self.head, self.outputs, convolution)
        return x, intermediates | heads
