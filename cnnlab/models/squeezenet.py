"""SqueezeNet 1.0 and 1.1, AlexNet's accuracy with fifty times fewer parameters (Iandola et al. 2016, arXiv 1602.07360)."""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.models import norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, ConvNorm, Dropout, MaxPool, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive

FIRES = {number: (16 * (number // 2), 64 * (number // 2)) for number in range(2, 10)}
"""Number of a Fire module, 2 to 9 -> (channels of its squeeze layer, channels of each of its two expansions) (table 1)."""


class Fire(nn.Module):
    """Squeezes the channels by a 1x1 convolution, then expands them by parallel 1x1 and 3x3 convolutions (section 3.2).

    Attributes:
        squeeze: channels of the squeeze layer.
        expand: channels of each expansion; the output has twice as many.
        bypass: whether the input is added, where it has as many channels as the output (simple bypass, section 6).
        norm: applied after each convolution, which has a bias only without one.
        activation: applied after each convolution.
        initializer: initialiser of the kernels.
    """

    squeeze: int
    expand: int
    bypass: bool
    norm: Choice[NORMS]
    activation: Choice[ACTIVATIONS]
    initializer: Choice[INITIALIZERS]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H, W, 2 · expand]."""
        convolution = functools.partial(
            ConvNorm, norm=self.norm, activation=self.activation, initializer=self.initializer, padding=0
        )
        squeezed = convolution(self.squeeze, 1, name="squeeze")(x, train=train)
        sides = (
            convolution(self.expand, 1, name="expand1x1")(squeezed, train=train),
            convolution(self.expand, 3, padding=1, name="expand3x3")(squeezed, train=train),
        )
        expanded = jnp.concatenate(sides, axis=-1)  # 2 x [B, H, W, expand] -> [B, H, W, 2 · expand]
        return x + expanded if self.bypass and x.shape == expanded.shape else expanded


class SqueezeNet(nn.Module):
    """A convolution, eight Fire modules and a 1x1 convolution to the classes, averaged over space; for 224x224.

    Deviation: every kernel is drawn by `initializer`; in the authors' code that of the last layer is drawn from N(0, 0.01).

    Attributes:
        classes: number of classes.
        channels: output channels of conv1.
        kernel: side of conv1's kernel.
        pools: numbers of the Fire modules that are preceded by pooling with stride 2.
        bypass: whether the input of fire3, fire5, fire7 and fire9 is added to their output (simple bypass, section 6).
        activation: applied after every convolution, the last one included.
        norm: applied between each convolution but the last and its activation.
        dropout: drop probability before the last convolution.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels.
        stem: `small` gives conv1 stride 1 and padding and leaves out the pooling before fire2, for images of 32x32.
    """

    classes: int
    channels: Count = 96
    kernel: Count = 7
    pools: tuple[int, ...] = (2, 5, 9)
    bypass: bool = False
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], conv1, fire2 … fire9, class_map [B, H', W', K] and features)."""
        intermediates, small = {}, self.stem == "small"
        knobs = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        strides, padding = (1, self.kernel // 2) if small else (2, 0)
        stem = ConvNorm(scaled(self.channels, self.width), self.kernel, strides, padding, name="conv1", **knobs)
        intermediates["conv1"] = x = stem(images, train=train)
        for number, (squeeze, expand) in FIRES.items():
            name = f"fire{number}"
            if number in self.pools and not (small and number == min(FIRES)):
                x = MaxPool(3, 2, ceil=True, name=f"pool{number}")(x)
            squeeze, expand = scaled(squeeze, self.width), scaled(expand, self.width)
            intermediates[name] = x = Fire(squeeze, expand, self.bypass, name=name, **knobs)(x, train=train)
        intermediates["features"] = jnp.mean(x, (1, 2))  # [B, H', W', C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        if self.classes:
            x = Conv(self.classes, 1, initializer=self.initializer, name=OUTPUT)(x)
            # Unlike in most networks the scores pass the activation too, so that logits of a ReLU network are never negative.
            intermediates["class_map"] = x = self.activation(x)
        intermediates["output"] = x = jnp.mean(x, (1, 2))  # [B, H', W', K] -> [B, K]
        return x, intermediates


squeezenet1_0 = functools.partial(SqueezeNet)
"""SqueezeNet 1.0, the paper's, 1,248,424 parameters."""

squeezenet1_1 = functools.partial(SqueezeNet, channels=64, kernel=3, pools=(2, 4, 6))
"""SqueezeNet 1.1, which pools earlier: 1,235,496 parameters and 2.3 times fewer multiplications."""
