"""A recurrent network that writes: the probability of every next character of a text (Graves 2013, arXiv 1308.0850)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models.layers import Dropout
from cnnlab.models.recurrent import LAYERS, LSTM, Stack
from cnnlab.ops import init
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Fraction


class RecurrentWriter(nn.Module):
    """Recurrent layers on characters, each 1 of K, with a softmax over the next one at every place.

    Attributes:
        classes: number K of characters.
        layer: kind of the layers.
        widths: units of each layer.
        dropout: drop probability between layers and before the output (Zaremba et al. 2014, arXiv 1409.2329).
        output_initializer: initialiser of the output's kernel; its bias starts at 0.
    """

    classes: int
    layer: Choice[LAYERS] = LSTM
    widths: tuple[int, ...] = (192,)
    dropout: Fraction = 0.0
    output_initializer: Choice[INITIALIZERS] = init.lecun

    @nn.compact
    def __call__(
        self, characters: jax.Array, start: Any = None, *, train: bool, dtype: Any = jnp.float32
    ) -> tuple[jax.Array, Any, dict[str, jax.Array]]:
        """Maps characters i32 [B, T] and states (None: zeros) to (logits [B, T, K], last states, hidden states by layer)."""
        x = jax.nn.one_hot(characters, self.classes, dtype=dtype)  # a number below 0, no character, becomes zeros
        x, last, intermediates = Stack(self.layer, self.widths, self.dropout, name="stack")(x, start, train=train)
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        logits = nn.Dense(self.classes, kernel_init=self.output_initializer, name="output")(x)
        return logits, last, intermediates | {"output": logits}


WRITERS = {"recurrent": RecurrentWriter}
"""Networks that write, by name: `model(characters i32 [B, T], states or None, train=…) -> (logits, states, intermediates)`."""
