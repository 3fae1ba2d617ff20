"""The parts that MobileNet and EfficientNet share: rounding of channels, the inverted residual block and its stages."""

import functools
import math
from typing import Literal, NamedTuple

import flax.linen as nn
import jax

from cnnlab.models import norms, residual_parts
from cnnlab.models.layers import ConvNorm
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, identity, relu6
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction

DIVISOR = 8
"""Numbers of channels are multiples of this."""


class Stage(NamedTuple):
    """One row of the tables of MobileNetV2 and EfficientNet."""

    expansion: int
    """Ratio of the channels inside a block to its input channels (t)."""
    channels: int
    """Output channels (c)."""
    depth: int
    """Number of blocks (n)."""
    strides: int
    """Stride of the first block (s)."""
    kernel: int = 3
    """Side of the depth-wise kernel."""


def divisible(channels: float, width: float) -> int:
    """Rounds channels times the width factor to a multiple of 8: the nearest, or the next above if that loses over a tenth.

    The rule of the authors' code of MobileNetV2, which the networks that followed kept; the papers say only "width".
    """
    wanted = channels * width
    rounded = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * wanted else rounded


class InvertedResidual(nn.Module):
    """Widens, filters each channel in space and narrows again; the shortcut joins the narrow ends (MobileNetV2, Table 1).

    Attributes:
        features: number of output channels.
        expansion: ratio of the channels inside to the input channels; with 1 the widening convolution is left out.
        strides: stride of the depth-wise convolution.
        kernel: side of the depth-wise kernel.
        padding: zeros around the depth-wise convolution: `symmetric`, as many on all sides, or `same`, as TensorFlow pads.
        squeezed: hidden units of squeeze-and-excitation after the depth-wise convolution; 0: none.
        drop_path: probability that an example skips the block, where there is a shortcut.
        shortcut: whether there is a shortcut where shapes allow it.
        linear: whether no activation follows the narrowing convolution.
        norm, activation, initializer: as in the network.
    """

    features: Count
    expansion: Count = 6
    strides: Count = 1
    kernel: Count = 3
    padding: Literal["symmetric", "same"] = "symmetric"
    squeezed: int = 0
    drop_path: Fraction = 0.0
    shortcut: bool = True
    linear: bool = True
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = relu6
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, ⌈H / strides⌉, ⌈W / strides⌉, features]."""
        before = x
        conv_norm = functools.partial(ConvNorm, norm=self.norm, initializer=self.initializer)
        if self.expansion != 1:
            widened = conv_norm(self.expansion * x.shape[-1], 1, padding=0, activation=self.activation, name="expand")
            x = widened(x, train=train)
        channels = x.shape[-1]
        x = conv_norm(
            channels,
            self.kernel,
            self.strides,
            padding="same" if self.padding == "same" else self.kernel // 2,
            groups=channels,
            activation=self.activation,
            name="depthwise",
        )(x, train=train)
        if self.squeezed:
            x = residual_parts.SqueezeExcitation(self.squeezed, self.activation, self.initializer, name="se")(x)
        # The narrow end is a linear bottleneck: a ReLU on few channels would lose information (MobileNetV2, section 3.2).
        last = identity if self.linear else self.activation
        x = conv_norm(self.features, 1, padding=0, activation=last, name="project")(x, train=train)
        if self.shortcut and x.shape == before.shape and self.strides == 1:
            x = residual_parts.drop_path(x, self.drop_path, train=train) + before
        return x


def scaled_stages(
    table: tuple[Stage, ...], *, expansion: int, width: float, depth: float, small: bool, ends: bool = True
) -> tuple[Stage, ...]:
    """Applies a network's knobs to the rows of a table.

    Args:
        table: the rows as published.
        expansion: replaces the expansion of every row that widens.
        width: factor on the channels, which stay multiples of 8.
        depth: factor on the number of blocks, rounded up.
        small: whether the first row with a stride of 2 gets a stride of 1.
        ends: whether `depth` holds for the first and the last row too.
    """
    first = next(number for number, row in enumerate(table) if row.strides == 2)
    return tuple(
        row._replace(
            expansion=expansion if row.expansion > 1 else 1,
            channels=divisible(row.channels, width),
            depth=math.ceil(depth * row.depth) if ends or 0 < number < len(table) - 1 else row.depth,
            strides=1 if small and number == first else row.strides,
        )
        for number, row in enumerate(table)
    )
