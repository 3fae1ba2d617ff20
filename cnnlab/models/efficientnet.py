"""EfficientNet: inverted residuals with squeeze-and-excitation, whose depth, width and image size grow together.

Tan and Le 2019, EfficientNet: rethinking model scaling for convolutional neural networks, arXiv 1905.11946. EfficientNet-Lite,
for mobile devices, was published as code alone (tensorflow/tpu, models/official/efficientnet/lite).
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


class EfficientNet(nn.Module):
    """EfficientNet-B0, 5,288,548 parameters (Tan and Le 2019, Table 1), and by width and depth the larger ones.

    The authors' code has (width, depth, image) of B1 (1, 1.1, 240), B2 (1.1, 1.2, 260), B3 (1.2, 1.4, 300), B4 (1.4, 1.8, 380),
    B5 (1.6, 2.2, 456), B6 (1.8, 2.6, 528) and B7 (2, 3.1, 600).

    Attributes:
        classes: number of classes; 0: the output is the features.
        expansion: ratio of the channels inside a block to its input channels, except in the first stage, which does not widen.
        squeeze: ratio of the hidden units of squeeze-and-excitation to the input channels of the block, rounded down; 0: none.
        depth: factor on the number of blocks of each stage, rounded up.
        drop_path: stochastic depth: an example skips block i of n, counted from 0, with i / n of this probability (the paper's
            survival probability is 0.8, section 5.2). Blocks without a shortcut are never skipped.
        stem: `imagenet` (strides as published, the image shrinks by 32) or `small` (the stem and stage 2 keep the image's size,
            which shrinks by 8), for images of about 32x32.
        padding: zeros around convolutions: `symmetric`, as many on all sides, or `same`, as in the authors' code in TensorFlow,
            which pads below and to the right alone where the stride is 2 and the image's side is even. Deviation: it is
            symmetric here, as in torchvision, whose weights fit.
        scale_ends: whether width scales stem and head, and depth the first and the last stage; EfficientNet-Lite leaves them.
        norm: applied after every convolution. Deviation: the authors' code has an epsilon of 1e-3 and a momentum of 0.99; here
            they are 1e-5 and 0.9, as in torchvision, whose weights fit (knobs norm.epsilon and norm.momentum).
        activation: applied after every norm but a block's last, and in squeeze-and-excitation.
        dropout: drop probability before the last layer; the paper's grows from 0.2 for B0 to 0.5 for B7.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels, which stay multiples of 8 (`inverted_residual.divisible`).
    """

    classes: int
    expansion: Count = 6
    squeeze: Fraction = 0.25
    depth: Positive = 1.0
    drop_path: Fraction = 0.2
    stem: Literal["imagenet", "small"] = "imagenet"
    padding: Literal["symmetric", "same"] = "symmetric"
    scale_ends: bool = True
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.silu
    dropout: Fraction = 0.2
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    TABLE_1 = (
        Stage(expansion=1, channels=16, depth=1, strides=1, kernel=3),
        Stage(expansion=6, channels=24, depth=2, strides=2, kernel=3),
        Stage(expansion=6, channels=40, depth=2, strides=2, kernel=5),
        Stage(expansion=6, channels=80, depth=3, strides=2, kernel=3),
        Stage(expansion=6, channels=112, depth=3, strides=1, kernel=5),
        Stage(expansion=6, channels=192, depth=4, strides=2, kernel=5),
        Stage(expansion=6, channels=320, depth=1, strides=1, kernel=3),
    )

    @nn.nowrap
    def stages(self) -> tuple[Stage, ...]:
        """Returns stages 2 to 8 of Table 1 with the knobs applied."""
        factors = {"width": self.width, "depth": self.depth}
        small = self.stem == "small"
        return scaled_stages(self.TABLE_1, expansion=self.expansion, small=small, ends=self.scale_ends, **factors)

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], stem, every stage, head, the pooled features and the output)."""
        chosen = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        rows, intermediates = self.stages(), {}
        strides, ends = 1 if self.stem == "small" else 2, self.width if self.scale_ends else 1.0
        padding = "same" if self.padding == "same" else 1
        stem = ConvNorm(divisible(32, ends), 3, strides, padding=padding, name="stem", **chosen)
        intermediates["stem"] = x = stem(images, train=train)
        # Stochastic depth: the drop probability grows linearly with the number of blocks before.
        done, blocks = 0, sum(row.depth for row in rows)
        for stage, row in enumerate(rows, start=1):
            for number in range(1, row.depth + 1):
                # Squeeze-and-excitation counts from the narrow input of a block, not from its widened channels.
                x = InvertedResidual(
                    row.channels,
                    row.expansion,
                    row.strides if number == 1 else 1,
                    row.kernel,
                    self.padding,
                    squeezed=max(1, int(self.squeeze * x.shape[-1])) if self.squeeze else 0,
                    drop_path=self.drop_path * done / blocks,
                    name=f"stage{stage}_block{number}",
                    **chosen,
                )(x, train=train)
                done += 1
            intermediates[f"stage{stage}"] = x
        head = ConvNorm(divisible(1280, ends), 1, padding=0, name="head", **chosen)
        intermediates["head"] = x = head(x, train=train)
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates


efficientnet_b0 = functools.partial(EfficientNet)
"""EfficientNet-B0, 5,288,548 parameters, 386 M multiply-accumulates (Tan and Le 2019, Tables 1 and 2)."""

efficientnet_lite0 = functools.partial(
    EfficientNet,
    squeeze=0.0,
    padding="same",
    scale_ends=False,
    norm=functools.partial(norms.batch_norm, momentum=0.99, epsilon=1e-3),
    activation=relu6,
)
"""EfficientNet-Lite0, 4,652,008 parameters, top-1 accuracy 75.1 % (the authors' README): without squeeze-and-excitation, whose
global average is slow on accelerators of phones, and with ReLU6, which can be quantised."""

efficientnet_lite1 = functools.partial(efficientnet_lite0, depth=1.1)
"""EfficientNet-Lite1, 5,416,680 parameters, for images of 240x240; this and the following by the authors' code
(efficientnet_lite_builder.py). timm runs Lite3 and Lite4 on images of 300x300 and 380x380."""

efficientnet_lite2 = functools.partial(efficientnet_lite0, width=1.1, depth=1.2, dropout=0.3)
"""EfficientNet-Lite2, 6,092,072 parameters, for images of 260x260."""

efficientnet_lite3 = functools.partial(efficientnet_lite0, width=1.2, depth=1.4, dropout=0.3)
"""EfficientNet-Lite3, 8,197,096 parameters, for images of 280x280."""

efficientnet_lite4 = functools.partial(efficientnet_lite0, width=1.4, depth=1.8, dropout=0.3)
"""EfficientNet-Lite4, 13,006,568 parameters, for images of 300x300."""
