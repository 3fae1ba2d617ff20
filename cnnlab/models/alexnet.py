"""AlexNet in its two-tower form of 2012, in the single tower of 2014 and without groups.

Three networks go by this name: 60,965,224 parameters (`alexnet_two_tower`: Krizhevsky, Sutskever and Hinton 2012, ImageNet
classification with deep convolutional neural networks, section 3), 61,100,840 (`alexnet`: Krizhevsky 2014, One weird trick
for parallelizing convolutional neural networks, arXiv 1404.5997) and 62,378,344 (`alexnet_ungrouped`).
"""

import functools
from typing import Literal

import flax.linen as nn
import jax

from cnnlab.models import norms
from cnnlab.models.convolutionalize import Head, fully_connected
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, MaxPool, scaled
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.local_response_norm import local_response_normalization
from cnnlab.values import Choice, Count, Fraction, Positive

GRID = 6
"""Side of the pooled conv5 for images of the published size; the maps of other sizes are pooled to it."""

POOLED = (1, 2, 5)
"""Numbers of the convolutions that are followed by pooling."""

GROUPED = (2, 4, 5)
"""Numbers of the convolutions that are connected within each tower only (Krizhevsky et al. 2012, figure 2)."""


class AlexNet(nn.Module):
    """Five convolutions, overlapping pooling after the first, second and fifth, and three fully connected layers.

    Deviation: all biases start at 0 and kernels are drawn by `initializer`. In the paper the biases of conv2, conv4, conv5,
    fc6 and fc7 start at 1, because with kernels from N(0, 0.01) (`--model.initializer=normal`) most ReLUs would get inputs
    near 0; He's variance makes that unnecessary.
    Deviation: dropout follows fc6 and fc7, as in 2012; torchvision applies it before them.

    Attributes:
        classes: number of classes.
        channels: channels of the five convolutions, both towers together.
        groups: number of towers; conv2, conv4 and conv5 connect channels of the same tower only.
        kernels: sides of the kernels of conv1 and conv2; those of the others are 3.
        strides: strides of conv1 and conv2.
        paddings: paddings of conv1 and conv2.
        lrn: whether local response normalisation follows conv1 and conv2.
        overlapping: whether pooling windows have a side of 3 with stride 2; otherwise they have a side of 2.
        ceil: whether incomplete windows at the border are pooled, as in Caffe.
        hidden: units of fc6 and fc7.
        head: dense layers, the equivalent convolutions, which slide over larger images, or pooled: the output layer alone, on
            the mean of the last maps.
        activation: applied after every layer but the last.
        norm: applied between each convolution and its activation.
        dropout: drop probability after fc6 and fc7.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels and hidden units.
        stem: small gives conv1 and conv2 stride 1 and kernels of at most 5, for images of 32x32.
    """

    classes: int
    channels: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)
    groups: Count = 1
    kernels: tuple[int, int] = (11, 5)
    strides: tuple[int, int] = (4, 1)
    paddings: tuple[int, int] = (2, 2)
    lrn: bool = False
    overlapping: bool = True
    ceil: bool = False
    hidden: tuple[int, int] = (4096, 4096)
    head: Head = "dense"
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0
    stem: Literal["imagenet", "small"] = "imagenet"

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], every layer by its name in the papers)."""
        x, intermediates = images, {}
        for number, channels in enumerate(self.channels, start=1):
            name = f"conv{number}"
            kernel, stride, padding = self._geometry(number)
            x = Conv(
                scaled(channels, self.width, divisor=self.groups),
                kernel,
                stride,
                padding,
                groups=self.groups if number in GROUPED else 1,
                bias=norms.needs_bias(self.norm),
                initializer=self.initializer,
                name=name,
            )(x)
            intermediates[name] = x = self.activation(self.norm(train=train, name=f"norm{number}")(x))
            # An intermediate is named after the layer that made it: `conv5` before the pooling, `pool5` after it.
            if number in POOLED:
                intermediates[f"pool{number}"] = x = self._shrink(x, number)
        hidden = (scaled(self.hidden[0], self.width), scaled(self.hidden[1], self.width))
        x, last = fully_connected(
            x,
            train=train,
            head=self.head,
            grid=GRID,
            hidden=hidden,
            classes=self.classes,
            activation=self.activation,
            dropout=self.dropout,
            initializer=self.initializer,
        )
        return x, {**intermediates, **last}

    def _geometry(self, number: int) -> tuple[int, int, int]:
        """Returns (kernel side, stride, padding) of convolution `number`."""
        if number > len(self.kernels):
            return 3, 1, 1
        kernel, stride, padding = self.kernels[number - 1], self.strides[number - 1], self.paddings[number - 1]
        if self.stem == "small":
            kernel, stride = min(kernel, 5), 1
            padding = kernel // 2
        return kernel, stride, padding

    def _shrink(self, x: jax.Array, number: int) -> jax.Array:
        """Applies local response normalisation, where there is one, and then pooling."""
        return self._pool(self._respond(x, number), number)

    def _respond(self, x: jax.Array, number: int) -> jax.Array:
        return local_response_normalization(x) if self.lrn and number <= 2 else x

    def _pool(self, x: jax.Array, number: int) -> jax.Array:
        return MaxPool(3 if self.overlapping else 2, 2, ceil=self.ceil, name=f"pool{number}")(x)


alexnet_two_tower = functools.partial(AlexNet, channels=(96, 256, 384, 384, 256), groups=2, paddings=(0, 2), lrn=True)
"""AlexNet of 2012, 60,965,224 parameters, for 227x227: two towers, local response normalisation."""

alexnet = functools.partial(AlexNet)
"""AlexNet of 2014 (One weird trick), 61,100,840 parameters, for 224x224: one tower, no local response normalisation."""

alexnet_ungrouped = functools.partial(AlexNet, channels=(96, 256, 384, 384, 256), paddings=(0, 2), lrn=True, ceil=True)
"""AlexNet of 2012 in one tower, 62,378,344 parameters, for 224x224."""
