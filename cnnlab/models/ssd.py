"""SSD: boxes of several scales against default boxes on maps of several resolutions, in one pass.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu and Berg 2016, SSD: Single shot multibox detector, arXiv 1512.02325.
"""

import math
from typing import Annotated, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.errors import UsageError
from cnnlab.models.anchor_head import AnchorHead, AnchorOutput, Classification
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import Detector
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import Conv, MaxPool, scaled
from cnnlab.ops import anchors, init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.precision import at_least_f32
from cnnlab.values import Choice, Count, Fraction, NonNegative, Positive, Range

STAGES = ((1, 64, 2), (2, 128, 2), (3, 256, 3), (4, 512, 3), (5, 512, 3))
"""Number, channels and convolutions of the stages of VGG-16."""
EXTRAS = ((8, 256, 512, 2), (9, 128, 256, 2), (10, 128, 256, 1), (11, 128, 256, 1))
"""Number, channels of the 1x1 and of the 3x3 convolution, and stride of the layers after VGG-16 (figure 2)."""
COCO_SIDES = (21, 45, 99, 153, 207, 261, 315)
"""Sides of the default boxes for COCO in pixels: the smallest of each map, and that of the next one (ssd_coco.py)."""
L2_SCALE = 20.0
"""Initial factor of normalised conv4_3 (section 3.1)."""
SIDE = 300


class L2Norm(nn.Module):
    """Divides the channels of each pixel by their L2 norm and multiplies each by a learnt factor, from `scale` on.

    Liu, Rabinovich and Berg 2015, ParseNet, arXiv 1506.04579, section 3.3.
    """

    scale: float = L2_SCALE

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [B, H, W, C]."""
        factor = self.param("scale", nn.initializers.constant(self.scale), x.shape[-1:])
        square = jnp.sum(at_least_f32(x) ** 2, axis=-1, keepdims=True)
        # A pixel of zeros stays so; 1e-10 is the authors' constant below the root.
        return (x * jax.lax.rsqrt(square + 1e-10).astype(x.dtype)) * factor.reshape(1, 1, 1, -1).astype(x.dtype)


class SSD300(nn.Module):
    """SSD300 on VGG-16 à trous, for images of 300x300: 8,732 default boxes, 26,285,486 parameters for 20 classes.

    fc6 is a convolution of 3x3 with holes of 6 pixels, fc7 one of 1x1, and pool5 has stride 1; conv4_3 is normalised. The
    layers `conv1_1` to `fc7` are those that the authors start from an ImageNet network.

    Attributes:
        classes: number of classes of objects, without a background.
        sides: sizes of the default boxes, the authors' for voc or for coco; torchvision: those for coco, none larger than the
            image.
        activation: applied after every convolution but those that predict.
        initializer: initialiser of the kernels, Xavier's uniform one in the authors' code; biases start at 0.
        width: factor on all numbers of channels but the outputs'.
    """

    classes: int
    sides: Literal["voc", "coco", "torchvision"] = "voc"
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.xavier
    width: Positive = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, 300, 300, C] to (outputs f32 [B, 8732, 5 + K], maps by name)."""
        _require_side(images)
        x, maps = images, {}
        for stage, channels, depth in STAGES:
            for number in range(1, depth + 1):
                x = self._conv(x, channels, f"conv{stage}_{number}")
            if stage == 4:
                maps["conv4_3"] = L2Norm(name="conv4_3_norm")(x)
            x = MaxPool(2, ceil=True, name=f"pool{stage}")(x) if stage < 5 else MaxPool(3, 1, 1, name="pool5")(x)
        x = self._conv(x, 1024, "fc6", padding=6, dilation=6)
        maps["fc7"] = x = self._conv(x, 1024, "fc7", 1, padding=0)
        for number, narrow, wide, strides in EXTRAS:
            x = self._conv(x, narrow, f"conv{number}_1", 1, padding=0)
            maps[f"conv{number}_2"] = x = self._conv(x, wide, f"conv{number}_2", 3, strides, padding=strides - 1)
        counts = [2 + 2 * len(ratios) for ratios in anchors.SSD300_RATIOS]
        output = AnchorOutput(1 + self.classes, counts, self.initializer, name=OUTPUT)
        return with_output(output(dict(enumerate(maps.values()))), maps)

    def head(self, image_size: tuple[int, int]) -> AnchorHead:
        """Returns what the outputs mean."""
        voc = (anchors.SSD300_SMALLEST, anchors.SSD300_LARGEST)
        smallest, largest = voc if self.sides == "voc" else (COCO_SIDES[:-1], COCO_SIDES[1:])
        sizes, ratios, steps = anchors.SSD300_SIZES, anchors.SSD300_RATIOS, anchors.SSD300_STEPS
        defaults = anchors.default_boxes(sizes, (SIDE, SIDE), smallest, largest, ratios, steps, self.sides == "torchvision")
        return AnchorHead(defaults, (SIDE, SIDE), "softmax")

    def _conv(
        self, x: jax.Array, channels: int, name: str, kernel: int = 3, strides: int = 1, padding: int = 1, dilation: int = 1
    ) -> jax.Array:
        """Convolves x [B, H, W, C] and applies the activation."""
        channels = scaled(channels, self.width)
        layer = Conv(channels, kernel, strides, padding, dilation, initializer=self.initializer, name=name)
        return self.activation(layer(x))


def _require_side(images: jax.Array) -> None:
    """Raises UsageError where images [B, H, W, C] are not as high and wide as the only ones that SSD300 takes."""
    if images.shape[1:3] != (SIDE, SIDE):
        raise UsageError(
            f"the images are {images.shape[1]}x{images.shape[2]}: SSD300 takes {SIDE}x{SIDE} alone.\n"
            f"Give --image_size={SIDE}, or take --model=ssd, which takes any size."
        )


class SSD(Detector):
    """SSD on any encoder and at any size of images; further levels are convolutions of stride 2.

    Deviation: scales are shares of the geometric mean of the image's sides, evenly spaced by ratio instead of by difference
    (section 2.2, eq. 4), so that small images have small boxes; there are norms; and no map is L2-normalised.

    Attributes:
        first_level: the finest map, whose cells are 2^first_level pixels apart.
        maps: number of maps, each half as large as the one before.
        smallest: side of the default boxes of the first map as a share of the image's.
        largest: that of the last map.
        ratios: widths over heights of further boxes of each cell, each above 1; its inverse comes along.
        classification: softmax with a background on the worst negatives, or focal: RetinaNet's loss on all.
    """

    first_level: Annotated[int, Range(1)] = 2
    maps: Count = 3
    smallest: Fraction = 0.2
    largest: Fraction = 0.9
    ratios: tuple[float, ...] = (2.0,)
    classification: Classification = "softmax"
    box_weight: NonNegative = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, N, 4 + logits], the maps that predict)."""
        features = self.features(images, train=train)
        self.require_levels(features, self.first_level)
        maps: dict[int, jax.Array] = {}
        x = features[max(features)]
        for level in self._levels:
            if level in features:
                maps[level] = features[level]
                continue
            x = maps.get(level - 1, x)
            maps[level] = self.conv_norm(x.shape[-1], f"extra{level}", strides=2)(x, train=train)
        counts = [2 + 2 * len(self.ratios)] * self.maps
        logits = self.classes + (self.classification == "softmax")
        output = AnchorOutput(logits, counts, name=OUTPUT)
        return with_output(output(maps), {f"map{level}": value for level, value in maps.items()})

    @property
    def _levels(self) -> range:
        return range(self.first_level, self.first_level + self.maps)

    def head(self, image_size: tuple[int, int]) -> AnchorHead:
        """Returns what the outputs mean for images (H, W)."""
        side = math.sqrt(image_size[0] * image_size[1])
        growth = (self.largest / self.smallest) ** (1 / max(self.maps - 1, 1))
        sides = [side * self.smallest * growth**number for number in range(self.maps + 1)]
        defaults = anchors.default_boxes(
            [self.size_at(image_size, level) for level in self._levels],
            image_size,
            sides[:-1],
            sides[1:],
            [self.ratios] * self.maps,
            [2**level for level in self._levels],
        )
        return AnchorHead(defaults, image_size, self.classification, box_weight=self.box_weight)
