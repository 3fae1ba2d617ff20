"""Pre-activation ResNet: norm and activation precede each convolution, so that the shortcuts are pure identities.

He, Zhang, Ren and Sun 2016, Identity mappings in deep residual networks, arXiv 1603.05027. The wide ones are in wide_resnet.py.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers, norms
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, Dropout, MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.models.residual_parts import Convolutions, block_convolutions, drop_path, padded_identity, projects
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count, Fraction, Positive


class PreActBlock(nn.Module):
    """Repeated norm, activation and convolution in parallel to a shortcut (He et al. 2016, Figure 4e).

    Attributes:
        convolutions: (output channels, side of the kernel, groups) of each convolution.
        strides: factor by which the block shrinks the image.
        stride_at: number of the convolution with that stride.
        shortcut: A, B or C; a projection starts from the activated input, an identity from the input itself.
        zero_init: whether the last convolution's kernel starts at 0.
        drop_path: probability that an example skips the convolutions.
        dropout: drop probability between the first two convolutions.
        norm, activation, initializer: as in `PreActResNet`.
    """

    convolutions: Convolutions
    strides: Count = 1
    stride_at: Count = 1
    shortcut: Literal["A", "B", "C"] = "B"
    zero_init: bool = False
    drop_path: Fraction = 0.0
    dropout: Fraction = 0.0
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, ⌈H / strides⌉, ⌈W / strides⌉, channels of the last convolution]."""
        before, activated, last = x, x, len(self.convolutions)
        convolution = functools.partial(Conv, bias=norms.needs_bias(self.norm))
        for number, (channels, kernel, groups) in enumerate(self.convolutions, start=1):
            x = self.activation(self.norm(train=train, name=f"norm{number}")(x))
            activated = x if number == 1 else activated
            if number == 2:
                x = Dropout(self.dropout, name="dropout")(x, train=train)
            strides = self.strides if number == self.stride_at else 1
            start = init.zeros if self.zero_init and number == last else self.initializer
            x = convolution(channels, kernel, strides, kernel // 2, groups=groups, initializer=start, name=f"conv{number}")(x)
        features = x.shape[-1]
        # A projection shares the first norm and activation with the convolutions; an identity takes the raw input.
        if projects(self.shortcut, before, features, self.strides):
            project = convolution(features, 1, self.strides, 0, initializer=self.initializer, name="shortcut")
            before = project(activated)
        else:
            before = padded_identity(before, features, self.strides)
        return before + drop_path(x, self.drop_path, train=train)


class PreActResNet(nn.Module):
    """Pre-activation ResNet-50, and by its knobs every pre-activation ResNet.

    Attributes:
        classes: number of classes; 0: the output is the features.
        stages: number of blocks of each stage; the image shrinks by 2 between stages and the channels double.
        block: basic (two 3x3) or bottleneck (1x1, 3x3, 1x1 to four times the channels).
        channels: channels of the stem and the first stage.
        widen: factor on the channels of the stages and not of the stem (k of Zagoruyko and Komodakis 2016).
        stride_at: which convolution of a block shrinks the image: the first or, in a bottleneck, the second (v1.5).
        shortcut: where the shape changes, A pads with zeros and B projects; C projects everywhere.
        zero_init: whether the last kernel of a block starts at 0, so that every block starts as its shortcut.
        drop_path: probability that an example skips the convolutions of the last block; it grows linearly from the first
            (stochastic depth; Huang et al. 2016, arXiv 1603.09382, eq. 4).
        block_dropout: drop probability between the first two convolutions of a block (Zagoruyko and Komodakis 2016, 2.4).
        stem: `imagenet` (7x7 with stride 2, then 3x3 max pooling with stride 2) or `small` (3x3 with stride 1 and no pooling,
            as for CIFAR), for images of about 32x32.
        stem_norm: whether the stem has a norm and an activation too, as in the first code for ImageNet; the first block has
            its own in any case.
        norm: applied before every convolution but the first, and before the pooling at the end.
        activation: applied after every norm.
        dropout: drop probability before the last layer.
        initializer: initialiser of the kernels; biases start at 0.
        width: factor on all numbers of channels.
    """

    classes: int
    stages: tuple[int, ...] = (3, 4, 6, 3)
    block: Literal["basic", "bottleneck"] = "bottleneck"
    channels: Count = 64
    widen: Positive = 1.0
    stride_at: Literal["first", "second"] = "second"
    shortcut: Literal["A", "B", "C"] = "B"
    zero_init: bool = False
    drop_path: Fraction = 0.0
    block_dropout: Fraction = 0.0
    stem: Literal["imagenet", "small"] = "imagenet"
    stem_norm: bool = False
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, K], the stem, the stages, the final maps, their mean, the output)."""
        intermediates = {}
        intermediates["stem"] = x = self._stem(images, train=train)
        done = 0
        for stage, depth in enumerate(self.stages, start=1):
            channels = layers.scaled(self.channels * 2 ** (stage - 1), self.widen * self.width)
            for number in range(1, depth + 1):
                done += 1  # stochastic depth: the drop probability is proportional to the block's number
                x = PreActBlock(
                    block_convolutions(self.block, channels),
                    strides=2 if stage > 1 and number == 1 else 1,
                    stride_at=1 if self.stride_at == "first" else 2,
                    shortcut=self.shortcut,
                    zero_init=self.zero_init,
                    drop_path=self.drop_path * done / sum(self.stages),
                    dropout=self.block_dropout,
                    norm=self.norm,
                    activation=self.activation,
                    initializer=self.initializer,
                    name=f"stage{stage}_block{number}",
                )(x, train=train)
            intermediates[f"stage{stage}"] = x
        # The sum of the last block has passed no norm: it gets its own before the mean (He et al. 2016).
        intermediates["final"] = x = self.activation(self.norm(train=train, name="norm")(x))
        intermediates["features"] = x = jnp.mean(x, axis=(1, 2))  # [B, H, W, C] -> [B, C]
        x = Dropout(self.dropout, name="dropout")(x, train=train)
        intermediates["output"] = x = layers.output_layer(x, self.classes, self.initializer)
        return x, intermediates

    def _stem(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [B, H, W, C] to [B, H / 4, W / 4, channels], or [B, H, W, channels] by the small stem."""
        large = self.stem == "imagenet"
        x = Conv(
            layers.scaled(self.channels, self.width),
            kernel=7 if large else 3,
            strides=2 if large else 1,
            padding=3 if large else 1,
            bias=norms.needs_bias(self.norm),
            initializer=self.initializer,
            name="stem_conv",
        )(images)
        if self.stem_norm:
            x = self.activation(self.norm(train=train, name="stem_norm")(x))
        return MaxPool(3, 2, padding=1, name="stem_pool")(x) if large else x


preact_resnet18 = functools.partial(PreActResNet, stages=(2, 2, 2, 2), block="basic", stride_at="first")
"""Pre-activation ResNet-18, 11,687,720 parameters."""
preact_resnet34 = functools.partial(PreActResNet, stages=(3, 4, 6, 3), block="basic", stride_at="first")
"""Pre-activation ResNet-34, 21,795,880 parameters."""
preact_resnet50 = functools.partial(PreActResNet)
"""Pre-activation ResNet-50, the stride in the 3x3; 25,549,352 parameters."""
preact_resnet101 = functools.partial(PreActResNet, stages=(3, 4, 23, 3))
"""Pre-activation ResNet-101, 44,541,480 parameters."""
preact_resnet152 = functools.partial(PreActResNet, stages=(3, 8, 36, 3))
"""Pre-activation ResNet-152, 60,185,128 parameters (He et al. 2016, Table 5)."""

_cifar = functools.partial(PreActResNet, channels=16, stem="small")
"""Builds networks with stages of 16, 32 and 64 channels; those of bottlenecks have four times as many."""

cifar_preact_resnet20 = functools.partial(_cifar, stages=(3, 3, 3), block="basic", stride_at="first")
"""Pre-activation ResNet-20 for CIFAR, 272,282 parameters."""
cifar_preact_resnet56 = functools.partial(_cifar, stages=(9, 9, 9), block="basic", stride_at="first")
"""Pre-activation ResNet-56 for CIFAR, 855,578 parameters."""
cifar_preact_resnet110 = functools.partial(_cifar, stages=(18, 18, 18), block="basic", stride_at="first")
"""Pre-activation ResNet-110 for CIFAR, 1,730,522 parameters (He et al. 2016, Table 3: 6.37 % error)."""
cifar_preact_resnet164 = functools.partial(_cifar, stages=(18, 18, 18))
"""Pre-activation ResNet-164 of bottlenecks for CIFAR, 1,703,258 parameters (He et al. 2016, Table 3: 5.46 % error)."""
