"""The vanilla recurrent network, the LSTM and the GRU, as layers of a sequence and as classifiers of images that are read.

Letters in shapes: B batch, T time, D inputs, U units, G gates, K classes, H W space, C channels.
"""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models.layers import Dropout
from cnnlab.ops import init
from cnnlab.ops.activations import PARAMETER_FREE
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.recurrence import State, over_time
from cnnlab.values import Choice, Fraction, Range


class Recurrent(nn.Module):
    """What the three layers share: products with the inputs of all times are taken at once, before the scan over time.

    Attributes:
        width: number of units U.
        initializer: initialiser of the kernels from the inputs; biases start at 0.
        recurrent_initializer: initialiser of the kernels from the state before.
    """

    width: int
    initializer: Choice[INITIALIZERS] = init.xavier
    recurrent_initializer: Choice[INITIALIZERS] = init.orthogonal

    def gates(self, x: jax.Array, count: int) -> jax.Array:
        """Maps the inputs [B, T, D] to their part of `count` gates, [B, T, G · U]."""
        return nn.Dense(count * self.width, kernel_init=self.initializer, name="inputs")(x)

    def kernel(self, count: int, dtype: Any) -> jax.Array:
        """Returns the kernel [U, G · U] from the state before to `count` gates, each of which is initialised by itself."""

        def start(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            keys = jax.random.split(key, count)
            return jnp.concatenate([self.recurrent_initializer(each, (shape[0], shape[0])) for each in keys], axis=1)

        return self.param("recurrent", start, (self.width, count * self.width)).astype(dtype)

    def zeros(self, x: jax.Array) -> jax.Array:
        """Returns a state [B, U] of zeros for inputs [B, T, D]."""
        return jnp.zeros((x.shape[0], self.width), x.dtype)

    def macs(self, output: Any) -> int:
        """Multiply-accumulates of one sequence from state to state; output: the hidden states [1, T, U]."""
        return math.prod(output[1:-1]) * math.prod(self.variables["params"]["recurrent"].shape)


class VanillaRNN(Recurrent):
    """The network of Elman 1990, Finding structure in time: h_t = φ(W x_t + U h_{t−1} + b).

    Attributes:
        activation: φ; with relu and the identity as --recurrent_initializer it is the IRNN of Le et al. 2015, arXiv 1504.00941.
    """

    activation: Choice[PARAMETER_FREE] = jnp.tanh

    @nn.compact
    def __call__(self, x: jax.Array, start: State = None) -> tuple[jax.Array, State]:
        """Maps inputs [B, T, D] and a state [B, U] (None: zeros) to (hidden states [B, T, U], the last state)."""
        given = self.gates(x, 1)
        kernel = self.kernel(1, given.dtype)

        activation = self.activation

        def step(_: None, __: State, now: jax.Array, product: jax.Array) -> State:
            return activation(now + product)

        return over_time(step, kernel, None, self.zeros(given) if start is None else start, given)


class LSTM(Recurrent):
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000).

    (i, f, g, o) = W x_t + U h_{t−1} + b, c_t = σ(f) c_{t−1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t); the order is that of torch.

    Attributes:
        forget_bias: added to f, so that cells remember when training begins (Jozefowicz et al. 2015, section 4); torch has 0.
        peepholes: whether gates also see the cell, through a weight for each unit: i and f that before, o that after the step.
    """

    forget_bias: Annotated[float, Range()] = 1.0
    peepholes: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, start: State = None) -> tuple[jax.Array, State]:
        """Maps inputs [B, T, D] and a state (h, c), each [B, U] (None: zeros), to (hidden states [B, T, U], the last state)."""
        given = self.gates(x, 4)
        kernel, width = self.kernel(4, given.dtype), self.width
        # [G · U]: the bias of f alone. It is no parameter, so that weight decay does not pull at it.
        shift = jnp.zeros((4, width), given.dtype).at[1].set(jnp.asarray(self.forget_bias, given.dtype)).reshape(-1)
        seen = self.param("peepholes", nn.initializers.zeros, (3, width)).astype(given.dtype) if self.peepholes else None

        def step(seen: jax.Array | None, state: State, now: jax.Array, product: jax.Array) -> State:
            cell = state[1]
            i, f, g, o = jnp.split(now + product, 4, axis=-1)  # [B, 4 · U] -> 4 x [B, U]
            if seen is not None:
                i, f = i + seen[None, 0] * cell, f + seen[None, 1] * cell
            cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
            o = o if seen is None else o + seen[None, 2] * cell
            return jax.nn.sigmoid(o) * jnp.tanh(cell), cell

        start = (self.zeros(given), self.zeros(given)) if start is None else start
        return over_time(step, kernel, seen, start, given + shift[None, None])


class GRU(Recurrent):
    """The gated recurrent unit of Cho et al. 2014, arXiv 1406.1078: h_t = z h_{t−1} + (1 − z) n, with a reset gate r in n.

    Attributes:
        reset: after: n = tanh(W x + b + r (U h + b′)), as in torch, Flax and cuDNN; before: n = tanh(W x + b + U (r h)), as in
            the paper, which has no b′ and calls 1 − z what is z here.
    """

    reset: Literal["after", "before"] = "after"

    @nn.compact
    def __call__(self, x: jax.Array, start: State = None) -> tuple[jax.Array, State]:
        """Maps inputs [B, T, D] and a state [B, U] (None: zeros) to (hidden states [B, T, U], the last state)."""
        given, width = self.gates(x, 3), self.width
        kernel = self.kernel(3, given.dtype)
        start = self.zeros(given) if start is None else start
        if self.reset == "after":
            bias = self.param("recurrent_bias", nn.initializers.zeros, (width,)).astype(given.dtype)
            return over_time(_reset_after, kernel, bias, start, given)
        return over_time(_reset_before, kernel[:, : 2 * width], kernel[:, 2 * width :], start, given)


def _reset_after(bias: jax.Array, hidden: State, now: jax.Array, product: jax.Array) -> State:
    """Takes a step of a GRU that resets what the kernel makes of the state."""
    width = hidden.shape[-1]
    r, z = jnp.split(jax.nn.sigmoid(now[:, : 2 * width] + product[:, : 2 * width]), 2, axis=-1)  # [B, 2 · U] -> 2 x [B, U]
    new = jnp.tanh(now[:, 2 * width :] + r * (product[:, 2 * width :] + bias[None]))
    return z * hidden + (1 - z) * new


def _reset_before(content: jax.Array, hidden: State, now: jax.Array, product: jax.Array) -> State:
    """Takes a step of a GRU that resets the state before the kernel [U, U] of the content sees it."""
    width = hidden.shape[-1]
    r, z = jnp.split(jax.nn.sigmoid(now[:, : 2 * width] + product), 2, axis=-1)  # [B, 2 · U] -> 2 x [B, U]
    return z * hidden + (1 - z) * jnp.tanh(now[:, 2 * width :] + (r * hidden) @ content)


LAYERS = {"rnn": VanillaRNN, "lstm": LSTM, "gru": GRU}
"""Recurrent layers by name: `layer(width=U)(inputs [B, T, D], state or None) -> (hidden states [B, T, U], state)`."""


class Stack(nn.Module):
    """Recurrent layers on top of each other.

    Attributes:
        layer: kind of the layers.
        widths: units of each layer, from the inputs to the output.
        dropout: drop probability of the inputs of every layer but the first (Zaremba et al. 2014, arXiv 1409.2329).
    """

    layer: Callable[..., nn.Module]
    widths: tuple[int, ...]
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, start: State = None, *, train: bool) -> tuple[jax.Array, State, dict[str, jax.Array]]:
        """Maps inputs [B, T, D] and a state of each layer to (hidden states [B, T, U], last states, those of all layers)."""
        last, intermediates = [], {}
        for number, width in enumerate(self.widths):
            if number:
                x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
            x, state = self.layer(width=width, name=f"layer{number + 1}")(x, None if start is None else start[number])
            last.append(state)
            intermediates[f"layer{number + 1}"] = x
        return x, tuple(last), intermediates


class SequenceClassifier(nn.Module):
    """A recurrent network that reads an image as a sequence and classifies what it has read at the end.

    Attributes:
        classes: number of classes.
        layer: kind of the layers.
        widths: units of each layer.
        read: rows: a step for each row, its inputs are the row's W · C values; pixels: a step for each pixel, row by row.
        bidirectional: whether a second stack reads from the end; both last states are classified.
        dropout: drop probability between layers and before the output.
        output_initializer: initialiser of the output's kernel; its bias starts at 0.
    """

    classes: int
    layer: Choice[LAYERS] = LSTM
    widths: tuple[int, ...] = (128,)
    read: Literal["rows", "pixels"] = "rows"
    bidirectional: bool = False
    dropout: Fraction = 0.0
    output_initializer: Choice[INITIALIZERS] = init.xavier

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], hidden states [B, T, U] of every layer)."""
        batch, height, width, channels = images.shape
        shape = (height, width * channels) if self.read == "rows" else (height * width, channels)
        x = images.reshape(batch, *shape)  # [B, H, W, C] -> [B, T, D]
        stack = functools.partial(Stack, self.layer, self.widths, self.dropout)
        hidden, _, intermediates = stack(name="forward")(x, train=train)
        features = hidden[:, -1]
        if self.bidirectional:
            hidden, _, others = stack(name="backward")(x[:, ::-1], train=train)
            features = jnp.concatenate([features, hidden[:, -1]], axis=-1)  # 2 x [B, U] -> [B, 2 · U]
            intermediates |= {f"backward_{name}": values for name, values in others.items()}
        intermediates["features"] = features
        x = Dropout(self.dropout, name="dropout")(features, train=train)
        intermediates["output"] = x = nn.Dense(self.classes, kernel_init=self.output_initializer, name="output")(x)
        return x, intermediates


rnn = functools.partial(SequenceClassifier, layer=VanillaRNN)
"""The vanilla recurrent network, which reads an image row by row or pixel by pixel."""

lstm = functools.partial(SequenceClassifier, layer=LSTM)
"""The same with long short-term memory."""

gru = functools.partial(SequenceClassifier, layer=GRU)
"""The same with gated recurrent units."""
