"""BN-Inception (Inception-v2), the network that introduced batch normalisation.

Ioffe and Szegedy 2015, Batch normalization: accelerating deep network training by reducing internal covariate shift,
arXiv 1502.03167, figure 5 of its appendix.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.inception_blocks import AVERAGE_POOL, MAX_POOL, Convolution, Mixed, Pool, Steps
from cnnlab.models.layers import Conv, Dropout, MaxPool, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.windows import Padding
from cnnlab.values import Choice, Fraction, Positive

MODULES = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}
"""Module -> channels of 1x1; of 3x3 and the 1x1 before it; likewise of the two 3x3; of 1x1 after pooling (the reducing one
first in each pair). A module without the first and last halves the image."""

SAME_POOL: Pool = functools.partial(MaxPool, 3, 2, "same")
"""Pooling whose output has the size of the strided convolutions beside it. On an even grid it equals Caffe's pooling, which
counts an incomplete last window."""


def branches(module: str) -> tuple[Steps, ...]:
    """Returns the branches of a module of figure 5."""
    single, reduce, expand, reduce_twice, expand_twice, pooled = MODULES[module]
    if not single:
        return (
            (Convolution(reduce), Convolution(expand, 3, 2, 1)),
            (Convolution(reduce_twice), Convolution(expand_twice, 3), Convolution(expand_twice, 3, 2, 1)),
            (SAME_POOL,),
        )
    return (
        (Convolution(single),),
        (Convolution(reduce), Convolution(expand, 3)),
        (Convolution(reduce_twice), Convolution(expand_twice, 3), Convolution(expand_twice, 3)),
        (MAX_POOL if module == "5b" else AVERAGE_POOL, Convolution(pooled)),
    )


class BiasedConvNorm(nn.Module):
    """A convolution (`conv`), its normalisation (`norm`) and the activation; the convolution may keep its bias.

    Attributes:
        features, kernel, strides, padding, initializer: of the convolution.
        bias: whether the convolution has a bias although its norm has one.
        norm: applied after the convolution.
        activation: applied after the norm.
    """

    features: int
    kernel: int | tuple[int, int]
    strides: int = 1
    padding: Padding = "same"
    bias: bool = True
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features]."""
        bias = self.bias or norms.needs_bias(self.norm)
        convolution = Conv(
            self.features, self.kernel, self.strides, self.padding, bias=bias, initializer=self.initializer, name="conv"
        )
        return self.activation(self.norm(train=train, name="norm")(convolution(x)))


class InceptionBN(nn.Module):
    """Three convolutions and ten inception modules, averaged over space; for images of 224x224.

    Deviation: conv1 is dense (the paper's is separable, of depth multiplier 8), and modules 4c and 4d give 608 channels (576
    in the paper), as in the network whose weights are published.

    Attributes:
        classes: number of classes; 0: the output is the features.
        bias: whether convolutions have a bias in addition to that of their norm, as in the published weights.
        activation: applied after every convolution.
        norm: applied between each convolution and its activation.
        dropout: drop probability before the last layer; the paper has none (section 4.2.1).
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels.
        stem: small gives conv1 stride 1 and leaves out the pooling after it, for images of 32x32.
    """

    classes: int
    bias: bool = True
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = norms.batch_norm
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, inception_3a … inception_5b and features)."""
        intermediates, small = {}, self.stem == "small"
        convolution = functools.partial(
            BiasedConvNorm, bias=self.bias, norm=self.norm, activation=self.activation, initializer=self.initializer
        )
        x = convolution(scaled(64, self.width), 7, 1 if small else 2, 3, name="conv1")(images, train=train)
        if not small:
            x = MaxPool(3, 2, ceil=True, name="pool1")(x)
        x = convolution(scaled(64, self.width), 1, name="conv2")(x, train=train)
        x = convolution(scaled(192, self.width), 3, padding=1, name="conv3")(x, train=train)
        intermediates["stem"] = x = MaxPool(3, 2, ceil=True, name="pool2")(x)
        # Modules 3c and 4e halve the image themselves, so there is no pooling between the grids.
        for module in MODULES:
            name = f"inception_{module}"
            intermediates[name] = x = Mixed(branches(module), convolution, self.width, name=name)(x, train=train)
        intermediates["features"] = x = jnp.mean(x, (1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


inception_bn = functools.partial(InceptionBN)
"""BN-Inception, 11,295,240 parameters, for 224x224."""
