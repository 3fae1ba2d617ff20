"""Inception-ResNet-v2, whose modules add a scaled-down residual to their input.

Szegedy, Ioffe, Vanhoucke and Alemi 2016, Inception-v4, Inception-ResNet and the impact of residual connections on learning,
arXiv 1602.07261, figures 15 to 20 and section 3.3.
"""

import functools
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.inception_blocks import (
    IMAGE_AVERAGE_POOL,
    SHRINKING_POOL,
    Convolution,
    Mixed,
    Steps,
    factorized,
    shrinking,
    side_by_side,
)
from cnnlab.models.inception_v3 import NORM, Stem
from cnnlab.models.layers import Conv, ConvNorm, Dropout, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, identity
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive

ENTRY: tuple[Steps, ...] = (
    (Convolution(96),),
    (Convolution(48), Convolution(64, 5)),
    (Convolution(64), Convolution(96, 3), Convolution(96, 3)),
    (IMAGE_AVERAGE_POOL, Convolution(64)),
)

INCEPTION_A: tuple[Steps, ...] = (
    (Convolution(32),),
    (Convolution(32), Convolution(32, 3)),
    (Convolution(32), Convolution(48, 3), Convolution(64, 3)),
)
"""Figure 16."""

REDUCTION_A: tuple[Steps, ...] = (
    (shrinking(384),),
    (Convolution(256), Convolution(256, 3), shrinking(384)),
    (SHRINKING_POOL,),
)
"""Figure 7, with the k, l, m and n of table 1."""

INCEPTION_B: tuple[Steps, ...] = ((Convolution(192),), (Convolution(128), *factorized(160, 192)))
"""Figure 17."""

REDUCTION_B: tuple[Steps, ...] = (
    (Convolution(256), shrinking(384)),
    (Convolution(256), shrinking(288)),
    (Convolution(256), Convolution(288, 3), shrinking(320)),
    (SHRINKING_POOL,),
)
"""Figure 18."""

INCEPTION_C: tuple[Steps, ...] = ((Convolution(192),), (Convolution(192), *factorized(224, 256, size=3)))
"""Figure 19."""

GRIDS: tuple[tuple[str, tuple[Steps, ...], tuple[Steps, ...] | None], ...] = (
    ("a", INCEPTION_A, REDUCTION_A),
    ("b", INCEPTION_B, REDUCTION_B),
    ("c", INCEPTION_C, None),
)
"""(letter, repeated module, reduction after it) of each grid."""


class Residual(nn.Module):
    """Adds to x a linear 1x1 convolution (`project`) of its branches, times a scale (section 3.3).

    Attributes:
        branches: steps of each branch.
        scale: factor on the residual.
        activation: applied to the sum.
        convolution: makes a convolution with its norm and activation.
        initializer: initialiser of the kernel of `project`.
        width: factor on the branches' channels.
    """

    branches: tuple[Steps, ...]
    scale: float | jax.Array
    activation: Choice[ACTIVATIONS]
    convolution: Callable[..., nn.Module]
    initializer: Choice[INITIALIZERS]
    width: Positive

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        change = side_by_side(x, self.branches, train=train, convolution=self.convolution, width=self.width)
        change = Conv(x.shape[-1], 1, initializer=self.initializer, name="project")(change)
        return self.activation(x + jnp.asarray(self.scale, x.dtype) * change)


class InceptionResNetV2(nn.Module):
    """A stem and an inception module, then residual modules on grids of 35x35, 17x17 and 8x8; for images of 299x299.

    Deviation: the paper has Inception-v4's stem and grids of 384, 1154 and 2048 channels; this is the authors' published
    network, with Inception-v3's stem, one inception module after it and 320, 1088 and 2080 channels. As in that network, the
    last residual is not scaled down and its sum has no activation.

    Attributes:
        classes: number of classes; 0: the output is the features.
        depths: number of residual modules on each of the three grids.
        scales: factors on the residuals of each grid; 0.1 to 0.3 keep wide networks stable (section 3.3).
        activation: applied after every convolution and every sum.
        norm: applied between each convolution and its activation.
        dropout: drop probability before the last layer (figure 15 keeps 0.8).
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels.
        stem: `small` gives the stem's convolutions stride 1 and padding and leaves out its first pooling, for images of 32x32.
    """

    classes: int
    depths: tuple[Count, Count, Count] = (10, 20, 10)
    scales: tuple[Positive, Positive, Positive] = (0.17, 0.10, 0.20)
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = NORM
    dropout: Fraction = 0.2
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, every module, the last convolution and features)."""
        intermediates = {}
        convolution = functools.partial(ConvNorm, norm=self.norm, activation=self.activation, initializer=self.initializer)
        mixed = functools.partial(Mixed, convolution=convolution, width=self.width)
        x = Stem(self.stem == "small", convolution, self.width, name="stem")(images, train=train)
        intermediates["stem"] = x = mixed(ENTRY, name="entry")(x, train=train)
        for place, (letter, branches, reduction) in enumerate(GRIDS):
            for number in range(1, self.depths[place] + 1):
                name = f"inception_{letter}{number}"
                # The very last residual is neither scaled nor activated, as in the authors' published network.
                last = reduction is None and number == self.depths[place]
                scale, activation = (1.0, identity) if last else (self.scales[place], self.activation)
                residual = Residual(branches, scale, activation, convolution, self.initializer, self.width, name=name)
                intermediates[name] = x = residual(x, train=train)
            if reduction:
                name = f"reduction_{letter}"
                intermediates[name] = x = mixed(reduction, name=name)(x, train=train)
        intermediates["final"] = x = convolution(scaled(1536, self.width), 1, name="final")(x, train=train)
        intermediates["features"] = x = jnp.mean(x, (1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


inception_resnet_v2 = functools.partial(InceptionResNetV2)
"""Inception-ResNet-v2, 55,843,464 parameters, for 299x299."""
