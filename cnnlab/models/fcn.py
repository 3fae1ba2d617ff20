"""FCN: classifiers made fully convolutional, whose scores are enlarged and joined with those of finer maps.

Long, Shelhamer and Darrell 2015, Fully convolutional networks for semantic segmentation, arXiv 1411.4038; paddings, crops and
kernels as in the authors' net.py. The form on a dilated ResNet is that of torchvision.
"""

import functools
from typing import Annotated, Literal

import flax.linen as nn
import jax

from cnnlab.core import OUTPUT
from cnnlab.models import norms
from cnnlab.models.dense_maps import (
    BACKBONES,
    encoder,
    features_by_level,
    fitted,
    maps_of,
    own_encoder,
    pixel_logits,
    to_multiple,
    with_output,
)
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, ConvNorm, ConvTranspose, Dropout, MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.models.resnet import resnet50_v1_5, resnet101_v1_5
from cnnlab.models.unet import BACKBONE_MULTIPLE
from cnnlab.models.vgg import VGG
from cnnlab.ops import init, upsample
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Fraction, Positive, Range

MARGIN = 99
"""Rows of zeros around an image: the authors pad conv1_1 by 100, of which the convolution takes one."""
SKIP_OFFSETS = {4: 5, 3: 9}
"""First row and column of the finer scores that lies below the enlarged ones, by level (the authors' `crop`)."""
IMAGE_OFFSETS = (19, 27, 31)
"""First row and column of the enlarged scores that belongs to the image: of FCN-32s, 16s and 8s."""
SCALES = (1e-2, 1e-4)
"""Factors on pool4 and pool3 where all strides are trained at once."""


class CaffeVGG(VGG):
    """VGG whose pooling keeps an incomplete last window, as Caffe's does."""

    def pool(self, name: str) -> MaxPool:
        """Makes the pooling at the end of a stage."""
        return MaxPool(2, ceil=True, name=name)


class FCN(nn.Module):
    """FCN-8s, and by its knobs FCN-16s and 32s: on VGG-16 as published, or on any network of the zoo.

    On VGG-16, fc6 and fc7 are convolutions, in the parameters `backbone`; 134,362,751 parameters for 21 classes. The layers
    that score start at 0, so that with the weights of FCN-32s, FCN-16s starts as that, and FCN-8s likewise.

    On another backbone the deepest maps are scored, and the last ones of the next finer resolutions. The image is padded with
    zeros to a multiple of 32, and the logits are cut.

    Attributes:
        classes: number of classes.
        skips: number of finer maps that are scored too: 0 is FCN-32s, 1 FCN-16s, 2 FCN-8s.
        backbone: network of the zoo that gives the maps, in the parameters `backbone`; none: VGG-16 with fc6 and fc7. With
            --model.backbone.dilated a ResNet gives finer ones.
        upsampling: fixed: bilinear interpolation. learnt: transposed convolutions that start as it.
        at_once: whether finer maps are multiplied by 0.01 and 0.0001 before they are scored, with which the authors train all
            strides at once instead of one after another.
        activation: applied after every layer of VGG-16 but those that score.
        norm: applied before the activations of VGG-16 below fc6; none in the paper.
        dropout: drop probability after fc6 and fc7, or of the deepest maps of another backbone.
        initializer: initialiser of the kernels of VGG-16; biases start at 0.
        width: factor on all numbers of channels of VGG-16.
    """

    classes: int
    skips: Annotated[int, Range(0, 2)] = 2
    backbone: Choice[BACKBONES] = own_encoder
    upsampling: Literal["fixed", "learnt"] = "fixed"
    at_once: bool = False
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], the joined scores of each level, the output)."""
        published, intermediates = self.backbone is own_encoder, {}
        padded = to_multiple(images, 1 if published else BACKBONE_MULTIPLE)
        maps = self._published_maps(images, train=train) if published else self._maps(padded, train=train)
        (level, deepest), *finer = maps.items()
        x = Dropout(self.dropout, name="dropout")(deepest, train=train)
        intermediates[f"score{level}"] = x = pixel_logits(x, self.classes, init.zeros, f"score{level}")
        for scale, (finer_level, values) in zip(SCALES, finer, strict=False):
            x = self._enlarged(x, level - finer_level, f"upscore{finer_level}")
            values = values * scale if self.at_once else values
            scores = pixel_logits(values, self.classes, init.zeros, f"score{finer_level}")
            if published:
                x = x + _cut(scores, SKIP_OFFSETS[finer_level], x.shape[1:3])
            else:
                x = fitted(x, scores.shape[1:3]) + scores
            level = finer_level
            intermediates[f"score{level}"] = x
        x = self._enlarged(x, level, "upscore0")
        x = x if published else fitted(x, padded.shape[1:3])
        return with_output(_cut(x, IMAGE_OFFSETS[self.skips] if published else 0, images.shape[1:3]), intermediates)

    def _published_maps(self, images: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        """Returns {5: fc7, 4: pool4, 3: pool3} of VGG-16, as many as are scored."""
        x = jax.numpy.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
        _, maps = CaffeVGG(
            0,
            head="convolution",
            activation=self.activation,
            norm=self.norm,
            dropout=self.dropout,
            initializer=self.initializer,
            width=self.width,
            name="backbone",
        )(x, train=train)
        return dict([(5, maps["fc7"]), (4, maps["stage4"]), (3, maps["stage3"])][: 1 + self.skips])

    def _maps(self, images: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        """Returns {level: maps} of the backbone from the deepest on, as many as are scored."""
        maps = features_by_level(encoder(self.backbone), images, train=train)
        return dict(sorted(maps.items(), reverse=True)[: 1 + self.skips])

    def _enlarged(self, x: jax.Array, levels: int, name: str) -> jax.Array:
        """Enlarges scores [B, H, W, K] by 2^levels; those of the published network overlap the border by half of that."""
        factor, published = 2**levels, self.backbone is own_encoder
        if factor == 1:
            return x
        if self.upsampling == "fixed":
            size = (factor * x.shape[1], factor * x.shape[2])
            return upsample.spread(x, factor) if published else upsample.bilinear(x, size)
        cut, kernel = 0 if published else factor // 2, upsample.bilinear_kernel
        return ConvTranspose(self.classes, 2 * factor, factor, cut, bias=False, initializer=kernel, name=name)(x)


def _cut(x: jax.Array, start: int, size: tuple[int, ...]) -> jax.Array:
    """Returns the part of x [B, H, W, C] of a size (H', W') that begins at row and column `start`."""
    return x[:, start : start + size[0], start : start + size[1]]


fcn32s = functools.partial(FCN, skips=0)
"""FCN-32s, 134,346,581 parameters for 21 classes (Long et al. 2015, section 4.1)."""
fcn16s = functools.partial(FCN, skips=1)
"""FCN-16s, 134,357,354 parameters for 21 classes (Long et al. 2015, section 4.2)."""
fcn8s = functools.partial(FCN, skips=2)
"""FCN-8s, 134,362,751 parameters for 21 classes (Long et al. 2015, section 4.2)."""


class DilatedFCN(nn.Module):
    """FCN of torchvision: two convolutions on the last maps of a dilated ResNet-50, enlarged by bilinear interpolation.

    It has 32,957,013 parameters for 21 classes, with the auxiliary head 35,322,218. The logits have the size of the image
    whatever that is, without padding.

    Attributes:
        classes: number of classes.
        backbone: network of the zoo that gives the maps, in the parameters `backbone`.
        auxiliary: whether a second head scores the last maps but one, for deep supervision.
        dropout: drop probability before the last convolution of a head.
        norm: applied after the first convolution of a head.
        activation: applied after that norm.
        initializer: initialiser of the kernels of the heads; biases start at 0.
    """

    classes: int
    backbone: Choice[BACKBONES] = functools.partial(resnet50_v1_5, dilated=2)
    auxiliary: bool = False
    dropout: Fraction = 0.1
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], the maps, the logits of the auxiliary head, the output)."""
        *earlier, last = maps_of(encoder(self.backbone), images, train=train)
        intermediates, size = {"maps": last}, (images.shape[1], images.shape[2])
        if self.auxiliary:
            scores = self._head(earlier[-1] if earlier else last, "auxiliary_head", "auxiliary_output", train=train)
            intermediates["auxiliary"] = upsample.bilinear(scores, size)
        return with_output(upsample.bilinear(self._head(last, "head", OUTPUT, train=train), size), intermediates)

    def _head(self, x: jax.Array, hidden: str, output: str, *, train: bool) -> jax.Array:
        """Maps maps [B, h, w, C] to scores [B, h, w, K] by a layer of C / 4 channels and one of K."""
        channels = max(x.shape[-1] // 4, 1)
        how = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        x = ConvNorm(channels, 3, padding=1, name=hidden, **how)(x, train=train)
        x = Dropout(self.dropout, name=f"{hidden}_dropout")(x, train=train)
        return Conv(self.classes, 1, initializer=self.initializer, name=output)(x)


fcn_resnet50 = functools.partial(DilatedFCN)
"""torchvision's fcn_resnet50, 32,957,013 parameters for 21 classes."""
fcn_resnet101 = functools.partial(DilatedFCN, backbone=functools.partial(resnet101_v1_5, dilated=2))
"""torchvision's fcn_resnet101, 51,949,141 parameters for 21 classes."""
