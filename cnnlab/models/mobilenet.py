"""MobileNet: depth-wise convolutions, which filter each channel in space, and 1x1 convolutions, which mix the channels.

Version 1: Howard et al. 2017, MobileNets, arXiv 1704.04861. Version 2: Sandler, Howard, Zhu, Zhmoginov and Chen 2018,
MobileNetV2: inverted residuals and linear bottlenecks, arXiv 1801.04381.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.inverted_residual import InvertedResidual, Stage, divisible, scaled_stages
from cnnlab.models.layers import ConvNorm, Dropout
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, relu6
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive


class SeparableConv(nn.Module):
    """A depth-wise 3x3 convolution, then a 1x1 convolution (MobileNet, Figure 3, right).

    Attributes:
        features: number of output channels.
        strides: stride of the depth-wise convolution.
        norm, activation, initializer: as in `MobileNetV1`, for both convolutions.
    """

    features: Count
    strides: Count = 1
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, ⌈H / strides⌉, ⌈W / strides⌉, features]."""
        conv_norm = functools.partial(ConvNorm, norm=self.norm, activation=self.activation, initializer=self.initializer)
        channels = x.shape[-1]
        x = conv_norm(channels, 3, self.strides, padding=1, groups=channels, name="depthwise")(x, train=train)
        return conv_norm(self.features, 1, padding=0, name="pointwise")(x, train=train)


class MobileNetV1(nn.Module):
    """MobileNet of depth-wise separable convolutions; 4,231,976 parameters (Howard et al. 2017, Table 1).

    Deviation: Table 1 gives the last depth-wise convolution a stride of 2 but sizes that need a stride of 1; it is 1 here, as
    in the authors' code.

    Attributes:
        classes: number of classes; 0: the output is the features.
        depths: number of separable convolutions of each stage; channels double and the image shrinks by 2 between stages. The
            shallow network of the paper's Table 5 has 1,2,2,1,2.
        stem: `imagenet` (strides as published, the image shrinks by 32) or `small` (the stem and stage 2 keep the image's size,
            which shrinks by 8), for images of about 32x32.
        norm: applied after every convolution.
        activation: applied after every norm; ReLU in the paper, relu6 in the authors' code.
        dropout: drop probability before the last layer.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels (α; section 3.3), which stay multiples of 8 (`divisible`).
    """

    classes: int
    depths: tuple[int, ...] = (1, 2, 2, 6, 2)
    stem: Literal["imagenet", "small"] = "imagenet"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], the stem, every stage, the pooled features and the output)."""
        small = self.stem == "small"
        chosen = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        intermediates = {}
        stem = ConvNorm(divisible(32, self.width), 3, 1 if small else 2, padding=1, name="stem", **chosen)
        intermediates["stem"] = x = stem(images, train=train)
        for stage, depth in enumerate(self.depths, start=1):
            features = divisible(32 * 2**stage, self.width)
            for number in range(1, depth + 1):
                # The first block of a stage halves the image; the first stage never does, the small stem's second neither.
                shrinks = number == 1 and stage > (2 if small else 1)
                block = SeparableConv(features, 2 if shrinks else 1, name=f"stage{stage}_block{number}", **chosen)
                x = block(x, train=train)
            intermediates[f"stage{stage}"] = x
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


class MobileNetV2(nn.Module):
    """MobileNetV2 of inverted residuals with linear bottlenecks; 3,504,872 parameters (Sandler et al. 2018, Table 2).

    Attributes:
        classes: number of classes; 0: the output is the features.
        expansion: ratio of the channels inside a block to its input channels (t); the first stage does not widen.
        depth: factor on the number of blocks of each stage, rounded up.
        shortcut: whether blocks have shortcuts, between their narrow ends (Figure 6b).
        linear: whether no activation follows the narrow ends (Figure 6a).
        stem: `imagenet` (strides as published, the image shrinks by 32) or `small` (the stem and stage 2 keep the image's size,
            which shrinks by 8), for images of about 32x32.
        norm: applied after every convolution.
        activation: applied after every norm but those of linear bottlenecks.
        dropout: drop probability before the last layer; the paper gives no value, the authors' code has 0.2.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels, which stay multiples of 8 (`divisible`); the last convolution's 1280 can
            only grow (section 6.1).
    """

    classes: int
    expansion: Count = 6
    depth: Positive = 1.0
    shortcut: bool = True
    linear: bool = True
    stem: Literal["imagenet", "small"] = "imagenet"
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = relu6
    dropout: Fraction = 0.2
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    TABLE_2 = (
        Stage(expansion=1, channels=16, depth=1, strides=1),
        Stage(expansion=6, channels=24, depth=2, strides=2),
        Stage(expansion=6, channels=32, depth=3, strides=2),
        Stage(expansion=6, channels=64, depth=4, strides=2),
        Stage(expansion=6, channels=96, depth=3, strides=1),
        Stage(expansion=6, channels=160, depth=3, strides=2),
        Stage(expansion=6, channels=320, depth=1, strides=1),
    )

    @nn.nowrap
    def stages(self) -> tuple[Stage, ...]:
        """Returns the rows of Table 2 with the knobs applied."""
        return scaled_stages(
            self.TABLE_2, expansion=self.expansion, width=self.width, depth=self.depth, small=self.stem == "small"
        )

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, every stage, head, the pooled features and the output)."""
        chosen = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        intermediates = {}
        strides = 1 if self.stem == "small" else 2
        stem = ConvNorm(divisible(32, self.width), 3, strides, padding=1, name="stem", **chosen)
        intermediates["stem"] = x = stem(images, train=train)
        for stage, row in enumerate(self.stages(), start=1):
            for number in range(1, row.depth + 1):
                x = InvertedResidual(
                    row.channels,
                    row.expansion,
                    row.strides if number == 1 else 1,
                    shortcut=self.shortcut,
                    linear=self.linear,
                    name=f"stage{stage}_block{number}",
                    **chosen,
                )(x, train=train)
            intermediates[f"stage{stage}"] = x
        # A width below 1 does not narrow the last convolution (section 6.1).
        head = ConvNorm(divisible(1280, max(1.0, self.width)), 1, padding=0, name="head", **chosen)
        intermediates["head"] = x = head(x, train=train)
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


mobilenet_v1 = functools.partial(MobileNetV1)
"""MobileNet, 4,231,976 parameters, 569 M multiply-accumulates (Howard et al. 2017, Tables 1 and 4)."""
mobilenet_v2 = functools.partial(MobileNetV2)
"""MobileNetV2, 3,504,872 parameters, 300.8 M multiply-accumulates (Sandler et al. 2018, Table 4)."""
