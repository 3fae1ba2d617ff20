"""Inception-v4, deeper and more uniform than Inception-v3.

Szegedy, Ioffe, Vanhoucke and Alemi 2016, Inception-v4, Inception-ResNet and the impact of residual connections on learning,
arXiv 1602.07261, figures 3 to 9.
"""

import functools
from collections.abc import Callable, Iterator
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
    Fork,
    Mixed,
    Steps,
    factorized,
    shrinking,
)
from cnnlab.models.inception_v3 import NORM
from cnnlab.models.layers import ConvNorm, Dropout, MaxPool, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive


class Stem(nn.Module):
    """Three convolutions and three modules, which reduce the image to an eighth of its side: 299 -> 35 (figure 3).

    Attributes:
        small: whether all but the last module have stride 1 and padding: 32 -> 15.
        convolution: makes a convolution with its norm and activation.
        width: factor on all channels.
    """

    small: bool
    convolution: Callable[..., nn.Module]
    width: Positive

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', 384]."""
        strides, padding = (1, 1) if self.small else (2, 0)
        for number, (features, stride, pad) in enumerate(((32, strides, padding), (32, 1, padding), (64, 1, 1)), start=1):
            x = self.convolution(scaled(features, self.width), 3, stride, pad, name=f"conv{number}")(x, train=train)
        # Modules 1 and 3 halve the image by a convolution and a pooling in parallel (figure 3).
        last = Convolution(96, 3, 1, padding)
        mixed: tuple[tuple[Steps, ...], ...] = (
            ((functools.partial(MaxPool, 3, strides, padding),), (Convolution(96, 3, strides, padding),)),
            ((Convolution(64), last), (Convolution(64), *factorized(64, 64), last)),
            ((shrinking(192),), (SHRINKING_POOL,)),
        )
        for number, branches in enumerate(mixed, start=1):
            x = Mixed(branches, self.convolution, self.width, name=f"mixed{number}")(x, train=train)
        return x


INCEPTION_A: tuple[Steps, ...] = (
    (Convolution(96),),
    (Convolution(64), Convolution(96, 3)),
    (Convolution(64), Convolution(96, 3), Convolution(96, 3)),
    (IMAGE_AVERAGE_POOL, Convolution(96)),
)
"""Figure 4."""

REDUCTION_A: tuple[Steps, ...] = (
    (shrinking(384),),
    (Convolution(192), Convolution(224, 3), shrinking(256)),
    (SHRINKING_POOL,),
)
"""Figure 7, with the k, l, m and n of table 1."""

INCEPTION_B: tuple[Steps, ...] = (
    (Convolution(384),),
    (Convolution(192), *factorized(224, 256)),
    (Convolution(192), *factorized(192, 224, 224, 256, vertical=True)),
    (IMAGE_AVERAGE_POOL, Convolution(128)),
)
"""Figure 5."""

REDUCTION_B: tuple[Steps, ...] = (
    (Convolution(192), shrinking(192)),
    (Convolution(256), *factorized(256, 320), shrinking(320)),
    (SHRINKING_POOL,),
)
"""Figure 8."""

INCEPTION_C: tuple[Steps, ...] = (
    (Convolution(256),),
    (Convolution(384), Fork(256)),
    (Convolution(384), *factorized(448, 512, size=3, vertical=True), Fork(256)),
    (IMAGE_AVERAGE_POOL, Convolution(256)),
)
"""Figure 6."""


def modules(depths: tuple[int, int, int]) -> Iterator[tuple[str, tuple[Steps, ...]]]:
    """Yields (name, branches) of every module after the stem."""
    grids = (("a", INCEPTION_A, REDUCTION_A), ("b", INCEPTION_B, REDUCTION_B), ("c", INCEPTION_C, None))
    for depth, (letter, repeated, reduction) in zip(depths, grids, strict=True):
        yield from ((f"inception_{letter}{number}", repeated) for number in range(1, depth + 1))
        if reduction:
            yield f"reduction_{letter}", reduction


class InceptionV4(nn.Module):
    """A stem, then modules on grids of 35x35, 17x17 and 8x8, averaged over space; for images of 299x299.

    Attributes:
        classes: number of classes; 0: the output is the features.
        depths: number of modules on each of the three grids.
        activation: applied after every convolution.
        norm: applied between each convolution and its activation.
        dropout: drop probability before the last layer (figure 9 keeps 0.8).
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels.
        stem: `small` gives the stem stride 1 and padding everywhere but in its last module, for images of 32x32.
    """

    classes: int
    depths: tuple[Count, Count, Count] = (4, 7, 3)
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = NORM
    dropout: Fraction = 0.2
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, every module and features)."""
        intermediates = {}
        convolution = functools.partial(ConvNorm, norm=self.norm, activation=self.activation, initializer=self.initializer)
        intermediates["stem"] = x = Stem(self.stem == "small", convolution, self.width, name="stem")(images, train=train)
        for name, branches in modules(self.depths):
            intermediates[name] = x = Mixed(branches, convolution, self.width, name=name)(x, train=train)
        intermediates["features"] = x = jnp.mean(x, (1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


inception_v4 = functools.partial(InceptionV4)
"""Inception-v4, 42,679,816 parameters, for 299x299."""
