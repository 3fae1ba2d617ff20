"""VGG, networks A to E of Simonyan and Zisserman 2015 (arXiv 1409.1556, table 1), with and without batch norm."""

import functools

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

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of the five stages."""


class VGG(nn.Module):
    """Five stages of 3x3 convolutions, each pooled by 2, then three fully connected layers; for 224x224.

    Other images of at least 32x32 work too: the last map is pooled to the grid before the dense layers, as in torchvision.

    Deviation: kernels are drawn by `initializer`; the paper draws network A from N(0, 0.1) (variance 0.01) and starts the
    deeper ones from a trained A.

    Attributes:
        classes: number of classes.
        depths: number of convolutions of each stage.
        pointwise: whether the last convolution of every stage of three or more is 1x1 (network C).
        lrn: whether local response normalisation follows the first convolution (network A-LRN).
        bias: whether the convolutions have a bias, even before a norm (as in torchvision).
        hidden: units of fc6 and fc7.
        grid: height and width of the input of fc6.
        head: dense layers, the equivalent convolutions, which slide over larger images, or pooled: the output layer alone, on
            the mean of the last maps.
        activation: applied after every layer but the last.
        norm: applied between each convolution and its activation.
        dropout: drop probability after fc6 and fc7.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all channels and hidden units.
    """

    classes: int
    depths: tuple[int, int, int, int, int] = (2, 2, 3, 3, 3)
    pointwise: bool = False
    lrn: bool = False
    bias: bool = True
    hidden: tuple[int, int] = (4096, 4096)
    grid: Count = 7
    head: Head = "dense"
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], conv1_1 …, each stage pooled as stage1 …, fc6 and fc7)."""
        x, intermediates = images, {}
        for stage, (depth, channels) in enumerate(zip(self.depths, CHANNELS, strict=True), start=1):
            for number in range(1, depth + 1):
                place = f"{stage}_{number}"
                # Network C ends its deeper stages with 1x1 convolutions: more non-linearity, the same receptive field.
                kernel = 1 if self.pointwise and number == depth >= 3 else 3
                x = Conv(
                    scaled(channels, self.width),
                    kernel,
                    padding=kernel // 2,
                    bias=self.bias,
                    initializer=self.initializer,
                    name=f"conv{place}",
                )(x)
                intermediates[f"conv{place}"] = x = self.activation(self.norm(train=train, name=f"norm{place}")(x))
                if self.lrn and place == "1_1":
                    x = local_response_normalization(x)
            intermediates[f"stage{stage}"] = x = self.pool(f"pool{stage}")(x)
        hidden = (scaled(self.hidden[0], self.width), scaled(self.hidden[1], self.width))
        x, last = fully_connected(
            x,
            train=train,
            head=self.head,
            grid=self.grid,
            hidden=hidden,
            classes=self.classes,
            activation=self.activation,
            dropout=self.dropout,
            initializer=self.initializer,
        )
        return x, {**intermediates, **last}

    def pool(self, name: str) -> MaxPool:
        """Makes the pooling at the end of a stage."""
        return MaxPool(2, name=name)


vgg11_a = functools.partial(VGG, depths=(1, 1, 2, 2, 2))
"""VGG-11, network A, 132,863,336 parameters."""

vgg11_a_lrn = functools.partial(VGG, depths=(1, 1, 2, 2, 2), lrn=True)
"""VGG-11 with local response normalisation, network A-LRN, 132,863,336 parameters."""

vgg13_b = functools.partial(VGG, depths=(2, 2, 2, 2, 2))
"""VGG-13, network B, 133,047,848 parameters."""

vgg16_c = functools.partial(VGG, depths=(2, 2, 3, 3, 3), pointwise=True)
"""VGG-16 with 1x1 convolutions, network C, 133,638,952 parameters."""

vgg16_d = functools.partial(VGG, depths=(2, 2, 3, 3, 3))
"""VGG-16, network D, 138,357,544 parameters."""

vgg19_e = functools.partial(VGG, depths=(2, 2, 4, 4, 4))
"""VGG-19, network E, 143,667,240 parameters."""

vgg11_a_bn = functools.partial(VGG, depths=(1, 1, 2, 2, 2), norm=norms.batch_norm)
"""VGG-11, network A, with batch norm as in torchvision, 132,868,840 parameters."""

vgg13_b_bn = functools.partial(VGG, depths=(2, 2, 2, 2, 2), norm=norms.batch_norm)
"""VGG-13, network B, with batch norm as in torchvision, 133,053,736 parameters."""

vgg16_d_bn = functools.partial(VGG, depths=(2, 2, 3, 3, 3), norm=norms.batch_norm)
"""VGG-16, network D, with batch norm as in torchvision, 138,365,992 parameters."""

vgg19_e_bn = functools.partial(VGG, depths=(2, 2, 4, 4, 4), norm=norms.batch_norm)
"""VGG-19, network E, with batch norm as in torchvision, 143,678,248 parameters."""
