"""M20: PixelRNN with Row LSTM layers."""

import functools
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models.causal import ByClass, Causal, Place, Window, put, square, take
from cnnlab.models.pixelcnn import Numbers, finished
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count


class RowLSTM(nn.Module):
    """Row LSTM of van den Oord et al. 2016, arXiv 1601.06759, section 3.1: row after row, each whole row at once.

    A 1x3 convolution with mask b from the input and one, unmasked, from the state of the row above give the four gates (eq. 3).

    Attributes:
        width: units.
        groups: channels that come one after another.
        initializer: of the kernels; biases start at 0.
    """

    width: int
    groups: int = 1
    initializer: Choice[INITIALIZERS] = init.lecun

    @nn.compact
    def __call__(self, x: jax.Array, at: Place | None = None) -> jax.Array:
        """x [B, H, W, I] -> hidden states [B, H, W, width]; at a pixel H = W = 1."""
        given = Causal(
            4 * self.width,
            Window(left=-1, right=1),
            groups=self.groups,
            parts=4,
            initializer=self.initializer,
            name="input_to_state",
        )(x, at)
        kernel = self.param("state_to_state", self.initializer, (3, self.width, 4 * self.width)).astype(given.dtype)
        weights = kernel.reshape(-1, 4 * self.width)
        if at is not None and at.row is not None:
            return self._at(given, weights, at)
        batch, _, columns, _ = given.shape

        def next_row(carry: tuple[jax.Array, jax.Array], row: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            hidden, cell = carry
            wide = jnp.pad(hidden, ((0, 0), (1, 1), (0, 0)))
            beside = jnp.concatenate([wide[:, k : k + columns] for k in range(3)], axis=-1)
            carry = _step(row + beside @ weights, cell)
            return carry, carry[0]

        start = jnp.zeros((batch, columns, self.width), given.dtype)
        _, hidden = jax.lax.scan(next_row, (start, start), jnp.moveaxis(given, 1, 0))
        return jnp.moveaxis(hidden, 0, 1)

    def macs(self, output: tuple[int, ...]) -> int:
        """Multiply-accumulates of one image from state to state; output: [1, H, W, width]."""
        return math.prod(output[1:-1]) * math.prod(self.variables["params"]["state_to_state"].shape)

    def _at(self, given: jax.Array, weights: jax.Array, at: Place) -> jax.Array:
        """The same at one pixel, from the kept states of the row above, which stand one row lower and one column right."""
        (rows, columns), batch = at.size, given.shape[0]
        hidden = self.variable("cache", "hidden", jnp.zeros, (batch, rows + 1, columns + 2, self.width), given.dtype)
        cell = self.variable("cache", "cell", jnp.zeros, (batch, rows + 1, columns, self.width), given.dtype)
        beside = take(hidden.value, at, (1, 3)).reshape(batch, 1, 1, -1)
        now, state = _step(given + beside @ weights, take(cell.value, at, (1, 1)))
        hidden.value, cell.value = put(hidden.value, now, at, 1, 1), put(cell.value, state, at, 1, 0)
        return now


def _step(gates: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(hidden, cell) from gates [..., 4 · width] (output, forget, input, content) and the cell of the row above (eq. 3)."""
    output, forget, entry, content = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(entry) * jnp.tanh(content)
    return jax.nn.sigmoid(output) * jnp.tanh(cell), cell


class PixelRNN(nn.Module):
    """PixelRNN with Row LSTM layers, of arXiv 1601.06759, Table 1: a 7x7 convolution with mask a, LSTMs with residual
    connections (Figure 5, right), two 1x1 convolutions and the output.

    Attributes:
        outputs: numbers of a distribution for each pixel.
        groups: channels that come one after another; 1 where the distribution orders them itself.
        classes: that images are drawn by; 0: none.
        width: units of a Row LSTM; twice as many come in and, by a 1x1 convolution, out.
        layers: of Row LSTM.
        reach: of the first convolution, in pixels: 3 for 7x7.
        head: units of the two 1x1 convolutions before the output: 32 for MNIST and 1024 for CIFAR-10 in the paper.
        initializer: of the kernels; biases start at 0.
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
    """Whether a whole row is to be evaluated before its pixels."""

    @nn.compact
    def __call__(self, images: jax.Array, labels: jax.Array, *, train: bool, at: Place | None = None) -> Numbers:
        """images f32 [B, H, W, C] (whole, at every place) -> (numbers [B, H, W, P], every layer by name)."""
        convolution = functools.partial(Causal, groups=self.groups, initializer=self.initializer)
        x = convolution(2 * self.width, square(self.reach), "a", of_image=True, name="conv0")(images, at)
        x = ByClass(self.classes, 2 * self.width, name="class0")(x, labels)
        seen = {"conv0": x}
        for number in range(1, self.layers + 1):
            hidden = RowLSTM(self.width, self.groups, self.initializer, name=f"lstm{number}")(x, at)
            y = convolution(2 * self.width, name=f"expand{number}")(hidden, at)
            seen[f"lstm{number}"] = x = x + ByClass(self.classes, 2 * self.width, name=f"class{number}")(y, labels)
        x, heads = finished(x, at, self.head, self.outputs, convolution)
        return x, seen | heads
