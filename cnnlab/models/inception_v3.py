"""Inception-v3, which factorises large convolutions into smaller and asymmetric ones.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2015, Rethinking the Inception architecture for computer vision, arXiv 1512.00567,
table 1 and figures 5 to 7 and 10; the channels inside the modules are those of the authors' published network.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.inception_blocks import AVERAGE_POOL, SHRINKING_POOL, Convolution, Fork, Mixed, Steps, factorized, shrinking
from cnnlab.models.layers import AveragePool, ConvNorm, Dropout, MaxPool, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive

NORM = functools.partial(norms.batch_norm, epsilon=1e-3)
"""The batch normalisation of Inception-v3, Inception-v4 and Inception-ResNet."""


class Stem(nn.Module):
    """Five convolutions and two poolings, which reduce the image to an eighth of its side: 299 -> 35.

    Attributes:
        small: whether every convolution has stride 1 and padding and the first pooling is left out: 32 -> 15.
        convolution: makes a convolution with its norm and activation.
        width: factor on all channels.
    """

    small: bool
    convolution: Callable[..., nn.Module]
    width: Positive

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', 192]."""
        strides, padding = (1, 1) if self.small else (2, 0)
        for number, (features, kernel, stride, pad) in enumerate(
            ((32, 3, strides, padding), (32, 3, 1, padding), (64, 3, 1, 1), (80, 1, 1, 0), (192, 3, 1, padding)), start=1
        ):
            if number == 4 and not self.small:
                x = MaxPool(3, 2, name="pool1")(x)
            x = self.convolution(scaled(features, self.width), kernel, stride, pad, name=f"conv{number}")(x, train=train)
        return MaxPool(3, 2, name="pool2")(x)


def inception_a(pooled: int) -> tuple[Steps, ...]:
    """Returns the module of figure 5, with a 5x5 convolution kept in one branch.

    Args:
        pooled: channels of the branch with the pooling.
    """
    return (
        (Convolution(64),),
        (Convolution(48), Convolution(64, 5)),
        (Convolution(64), Convolution(96, 3), Convolution(96, 3)),
        (AVERAGE_POOL, Convolution(pooled)),
    )


REDUCTION_A: tuple[Steps, ...] = (
    (shrinking(384),),
    (Convolution(64), Convolution(96, 3), shrinking(96)),
    (SHRINKING_POOL,),
)
"""Figure 10."""


def inception_b(inner: int) -> tuple[Steps, ...]:
    """Returns the module of figure 6, with n = 7.

    Args:
        inner: channels between the asymmetric convolutions.
    """
    return (
        (Convolution(192),),
        (Convolution(inner), *factorized(inner, 192)),
        (Convolution(inner), *factorized(inner, inner, inner, 192, vertical=True)),
        (AVERAGE_POOL, Convolution(192)),
    )


REDUCTION_B: tuple[Steps, ...] = (
    (Convolution(192), shrinking(320)),
    (Convolution(192), *factorized(192, 192), shrinking(192)),
    (SHRINKING_POOL,),
)

INCEPTION_C: tuple[Steps, ...] = (
    (Convolution(320),),
    (Convolution(384), Fork(384)),
    (Convolution(448), Convolution(384, 3), Fork(384)),
    (AVERAGE_POOL, Convolution(192)),
)
"""Figure 7."""


def modules(depths: tuple[int, int, int]) -> Iterator[tuple[str, tuple[Steps, ...]]]:
    """Yields (name, branches) of every module after the stem."""
    for number in range(1, depths[0] + 1):
        yield f"inception_a{number}", inception_a(32 if number == 1 else 64)
    yield "reduction_a", REDUCTION_A
    for number in range(1, depths[1] + 1):
        yield f"inception_b{number}", inception_b(128 if number == 1 else 192 if number == depths[1] else 160)
    yield "reduction_b", REDUCTION_B
    for number in range(1, depths[2] + 1):
        yield f"inception_c{number}", INCEPTION_C


class AuxiliaryHead(nn.Module):
    """Classifies from the last 17x17 grid (figure 8).

    Attributes:
        classes: number of classes.
        small: whether the pooling is left out, for grids of 5x5 to 16x16.
        convolution: makes a convolution with its norm and activation.
        initializer: initialiser of the last layer's kernel.
        width: factor on all channels.
    """

    classes: int
    small: bool
    convolution: Callable[..., nn.Module]
    initializer: Choice[INITIALIZERS]
    width: Positive

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to logits [B, K]."""
        if not self.small:
            x = AveragePool(5, 3, name="pool")(x)
        x = self.convolution(scaled(128, self.width), 1, name="conv1")(x, train=train)
        x = self.convolution(scaled(768, self.width), 5, padding=0, name="conv2")(x, train=train)
        # 17x17 pooled to 5x5, which the 5x5 convolution reduces to 1x1; the mean serves larger images: [B, H, W, C] -> [B, C].
        return layers.output_layer(jnp.mean(x, (1, 2)), self.classes, self.initializer)


class InceptionV3(nn.Module):
    """A stem, then modules on grids of 35x35, 17x17 and 8x8, averaged over space; for images of 299x299.

    Attributes:
        classes: number of classes; 0: the output is the features, and there is no auxiliary head.
        auxiliary: whether a head follows the last 17x17 grid too; its logits are the intermediate `auxiliary`.
        depths: number of modules on each of the three grids.
        activation: applied after every convolution.
        norm: applied between each convolution and its activation.
        dropout: drop probability before the last layer; the paper gives no value, the default is torchvision's.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels.
        stem: `small` gives the stem's convolutions stride 1 and padding and leaves out its first pooling, and that of the
            auxiliary head, for images of 32x32.
    """

    classes: int
    auxiliary: bool = False
    depths: tuple[Count, Count, Count] = (3, 4, 2)
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = NORM
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, every module, auxiliary and features)."""
        intermediates, small = {}, self.stem == "small"
        convolution = functools.partial(ConvNorm, norm=self.norm, activation=self.activation, initializer=self.initializer)
        intermediates["stem"] = x = Stem(small, convolution, self.width, name="stem")(images, train=train)
        for name, branches in modules(self.depths):
            # The head is on the last 17x17 grid, hence before the reduction to 8x8.
            if name == "reduction_b" and self.auxiliary and self.classes:
                head = AuxiliaryHead(self.classes, small, convolution, self.initializer, self.width, name="auxiliary")
                intermediates["auxiliary"] = head(x, train=train)
            intermediates[name] = x = Mixed(branches, convolution, self.width, name=name)(x, train=train)
        intermediates["features"] = x = jnp.mean(x, (1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


inception_v3 = functools.partial(InceptionV3)
"""Inception-v3, 23,834,568 parameters, for 299x299; 27,161,264 with the auxiliary head."""
