"""ResNet: blocks of convolutions with a shortcut, and the families that changed the block or its width.

He, Zhang, Ren and Sun 2015, Deep residual learning for image recognition, arXiv 1512.03385. ResNeXt: Xie et al. 2017, arXiv
1611.05431. Wide ResNet-50-2: Zagoruyko and Komodakis 2016, arXiv 1605.07146. Squeeze-and-excitation: Hu et al. 2018, arXiv
1709.01507. The small networks for CIFAR are in cifar_resnet.py, those with pre-activation in preact_resnet.py.
"""

import functools
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError
from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, ConvNorm, Dropout, MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.models.residual_parts import (
    REFERENCE_WIDTH,
    Convolutions,
    SqueezeExcitation,
    block_convolutions,
    drop_path,
    padded_identity,
    projects,
    squeezed,
    zero_scale,
)
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, identity
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive, Range


class ResidualBlock(nn.Module):
    """Convolutions with norms in parallel to a shortcut; the last activation follows the sum (He et al. 2015, Figure 2).

    Attributes:
        convolutions: (output channels, side of the kernel, groups) of each convolution.
        strides: factor by which the block shrinks the image.
        stride_at: number of the convolution with that stride.
        dilation: distance between the taps of the 3x3 convolutions up to that one.
        dilation_after: distance between the taps of those after it.
        shortcut: A, B or C of He et al. 2015, section 4.1; none: no shortcut, as in a plain network.
        se_divisor: divisor of the hidden units of squeeze-and-excitation before the sum; none: no squeeze-and-excitation.
        zero_init: whether the last norm's scale starts at 0.
        drop_path: probability that an example skips the convolutions.
        norm, activation, initializer: as in `ResNet`.
    """

    convolutions: Convolutions
    strides: Count = 1
    stride_at: Count = 1
    dilation: Count = 1
    dilation_after: Count = 1
    shortcut: Literal["A", "B", "C"] | None = "B"
    se_divisor: Count | None = None
    zero_init: bool = False
    drop_path: Fraction = 0.0
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, ⌈H / strides⌉, ⌈W / strides⌉, channels of the last convolution]."""
        before, last, unnormed = x, len(self.convolutions), norms.needs_bias(self.norm)
        for number, (features, kernel, groups) in enumerate(self.convolutions, start=1):
            zeros = self.zero_init and unnormed and number == last
            dilation = 1 if kernel == 1 else self.dilation if number <= self.stride_at else self.dilation_after
            x = Conv(
                features,
                kernel,
                self.strides if number == self.stride_at else 1,
                padding=kernel // 2 * dilation,
                dilation=dilation,
                groups=groups,
                bias=unnormed,
                initializer=init.zeros if zeros else self.initializer,
                name=f"conv{number}",
            )(x)
            x = self.norm(train=train, name=f"norm{number}")(x)
            if number < last:
                x = self.activation(x)
        # With the last scale at 0 every block starts as its shortcut, whatever its convolutions compute.
        if self.zero_init and not unnormed:
            zero_scale(self, f"norm{last}")
        if self.se_divisor:
            x = SqueezeExcitation(squeezed(x.shape[-1], self.se_divisor), self.activation, self.initializer, name="se")(x)
        if self.shortcut is not None:
            x = drop_path(x, self.drop_path, train=train) + self._shortcut(before, x.shape[-1], train=train)
        return self.activation(x)

    def _shortcut(self, x: jax.Array, features: int, *, train: bool) -> jax.Array:
        if not projects(self.shortcut or "", x, features, self.strides):
            return padded_identity(x, features, self.strides)
        return ConvNorm(
            features,
            1,
            self.strides,
            0,
            norm=self.norm,
            activation=identity,
            initializer=self.initializer,
            name="shortcut",
        )(x, train=train)


class ResNet(nn.Module):
    """ResNet-50 with the stride in the 3x3 (v1.5), and by its knobs every ResNet, ResNeXt, SE-ResNet and plain network.

    Attributes:
        classes: number of classes; 0: the output is the features.
        stages: number of blocks of each stage; the image shrinks by 2 between stages and the channels double.
        block: basic (two 3x3) or bottleneck (1x1, 3x3, 1x1 to four times the channels).
        channels: channels of the stem and the first stage.
        stride_at: which convolution of a block shrinks the image: the first (v1, He et al. 2015) or the second (v1.5).
        groups: groups of the bottleneck's 3x3 (cardinality; Xie et al. 2017); each makes the block wider.
        group_width: channels of a group in a stage of 64; 128 with one group is twice as wide (Zagoruyko and Komodakis).
        shortcut: where the shape changes, A pads with zeros and B projects; C projects everywhere (He et al. 2015, 4.1).
        residual: whether there are shortcuts; without them this is the paper's plain network.
        se: whether blocks end with squeeze-and-excitation, of reduction 16.
        se_divisor: divisor of its hidden units: 1 in the paper, 8 in timm.
        zero_init: whether the last norm of a block (without norms, its last kernel) starts at 0, so that every block starts
            as its shortcut (Goyal et al. 2017, arXiv 1706.02677, section 5.1).
        drop_path: probability that an example skips the convolutions of the last block; it grows linearly from the first
            (stochastic depth; Huang et al. 2016, arXiv 1603.09382, eq. 4).
        dilated: number of the last stages that do not shrink the image: their convolutions are dilated instead, so that they
            compute the same at more positions (Yu and Koltun 2016, arXiv 1511.07122); for segmentation.
        stem: `imagenet` (7x7 with stride 2, then 3x3 max pooling with stride 2) or `small` (3x3 with stride 1 and no pooling,
            as for CIFAR in section 4.2), for images of about 32x32.
        norm: applied after every convolution.
        activation: applied after every norm but a block's last, after every sum, and in squeeze-and-excitation.
        dropout: drop probability before the last layer.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels.
    """

    classes: int
    stages: tuple[int, ...] = (3, 4, 6, 3)
    block: Literal["basic", "bottleneck"] = "bottleneck"
    channels: Count = 64
    stride_at: Literal["first", "second"] = "second"
    groups: Count = 1
    group_width: Count = REFERENCE_WIDTH
    shortcut: Literal["A", "B", "C"] = "B"
    residual: bool = True
    se: bool = False
    se_divisor: Count = 1
    zero_init: bool = False
    drop_path: Fraction = 0.0
    dilated: Annotated[int, Range(0, 3)] = 0
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
        if not self.residual and (self.zero_init or isinstance(self.drop_path, jax.Array) or self.drop_path != 0):
            raise UsageError("a plain network has no shortcuts, so zero_init and drop_path would cut it. Take residual=True.")
        intermediates = {}
        intermediates["stem"] = x = self._stem(images, train=train)
        done, shrinking = 0, max(len(self.stages) - self.dilated, 1)  # the last stage whose output is smaller than its input
        for stage, depth in enumerate(self.stages, start=1):
            dilations = [2 ** max(number - shrinking, 0) for number in (stage - 1, stage)]  # before it would shrink, after it
            channels = layers.scaled(self.channels * 2 ** (stage - 1), self.width)
            for number in range(1, depth + 1):
                done += 1  # stochastic depth: the drop probability is proportional to the block's number
                x = ResidualBlock(
                    block_convolutions(self.block, channels, self.groups, self.group_width),
                    strides=2 if 1 < stage <= shrinking and number == 1 else 1,
                    stride_at=1 if self.stride_at == "first" else 2,
                    dilation=dilations[number > 1],
                    dilation_after=dilations[1],
                    shortcut=self.shortcut if self.residual else None,
                    se_divisor=self.se_divisor if self.se else None,
                    zero_init=self.zero_init,
                    drop_path=self.drop_path * done / sum(self.stages),
                    norm=self.norm,
                    activation=self.activation,
                    initializer=self.initializer,
                    name=f"stage{stage}_block{number}",
                )(x, train=train)
            intermediates[f"stage{stage}"] = x
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates

    def _stem(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, C] to [B, H / 4, W / 4, channels], or [B, H, W, channels] by the small stem."""
        large = self.stem == "imagenet"
        x = ConvNorm(
            layers.scaled(self.channels, self.width),
            kernel=7 if large else 3,
            strides=2 if large else 1,
            padding=3 if large else 1,
            norm=self.norm,
            activation=self.activation,
            initializer=self.initializer,
            name="stem",
        )(images, train=train)
        return MaxPool(3, 2, padding=1, name="stem_pool")(x) if large else x


resnet18 = functools.partial(ResNet, stages=(2, 2, 2, 2), block="basic", stride_at="first")
"""ResNet-18, 11,689,512 parameters (He et al. 2015, Table 1; projections where the shape changes, as in PyTorch)."""
resnet34 = functools.partial(ResNet, stages=(3, 4, 6, 3), block="basic", stride_at="first")
"""ResNet-34, 21,797,672 parameters (He et al. 2015, Table 1, option B)."""
resnet50_v1 = functools.partial(ResNet, stride_at="first")
"""ResNet-50 as published, the stride in the first 1x1; 25,557,032 parameters, 3.86 G multiply-accumulates."""
resnet50_v1_5 = functools.partial(ResNet)
"""ResNet-50 with the stride in the 3x3, as in PyTorch and most tables since; 4.09 G multiply-accumulates."""
resnet101_v1 = functools.partial(ResNet, stages=(3, 4, 23, 3), stride_at="first")
"""ResNet-101 as published; 44,549,160 parameters (He et al. 2015, Table 1)."""
resnet101_v1_5 = functools.partial(ResNet, stages=(3, 4, 23, 3))
"""ResNet-101 with the stride in the 3x3."""
resnet152_v1 = functools.partial(ResNet, stages=(3, 8, 36, 3), stride_at="first")
"""ResNet-152 as published; 60,192,808 parameters (He et al. 2015, Table 1)."""
resnet152_v1_5 = functools.partial(ResNet, stages=(3, 8, 36, 3))
"""ResNet-152 with the stride in the 3x3."""
wide_resnet50_2 = functools.partial(ResNet, group_width=128)
"""ResNet-50 with 3x3 convolutions twice as wide, 68,883,240 parameters (Zagoruyko and Komodakis 2016)."""
wide_resnet101_2 = functools.partial(ResNet, stages=(3, 4, 23, 3), group_width=128)
"""ResNet-101 with 3x3 convolutions twice as wide."""
resnext50_32x4d = functools.partial(ResNet, groups=32, group_width=4)
"""ResNeXt-50 of 32 groups, 25,028,904 parameters (Xie et al. 2017, Table 1)."""
resnext101_32x8d = functools.partial(ResNet, stages=(3, 4, 23, 3), groups=32, group_width=8)
"""ResNeXt-101 of 32 groups, as in torchvision; the paper's groups are half as wide."""
se_resnet50 = functools.partial(ResNet, se=True)
"""SE-ResNet-50 (Hu et al. 2018, Table 1), the stride in the 3x3."""
se_resnext50_32x4d = functools.partial(ResNet, groups=32, group_width=4, se=True)
"""SE-ResNeXt-50 of 32 groups (Hu et al. 2018, Table 1)."""
