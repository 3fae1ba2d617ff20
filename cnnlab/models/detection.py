"""What all detectors share: features by their stride, a pyramid of them, and the layers that predict.

A detector is a Linen module `detector(images f32 [B, H, W, C], train=…) -> (outputs f32 [B, N, P], intermediates)`: P raw
numbers for each of N anchors or cells. What they mean is known by its `head(image_size)`, see ops/heads.py.

Letters in shapes: B batch, H W space, C channels, K classes of objects (without a background), M places for objects, N rows of
outputs, P numbers of a row, T terms of the loss.
"""

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError
from cnnlab.models import norms
from cnnlab.models.dense_maps import BACKBONES, encoder, features_by_level, fitted, own_encoder, to_multiple
from cnnlab.models.layers import Conv, ConvNorm
from cnnlab.models.norms import NORMS
from cnnlab.models.unet import BACKBONE_MULTIPLE
from cnnlab.ops import init, upsample
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count


class SmallEncoder(nn.Module):
    """Two convolutions of 3x3 at each resolution, the first with stride 2; `width` channels at half of it, which double.

    Attributes:
        width: channels of level 1.
        levels: number of times that the image is halved.
        norm, activation, initializer: as in `Detector`.
    """

    width: int
    levels: int
    norm: Choice[NORMS] = norms.group_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        """Maps images f32 [B, H, W, C] to {level: features [B, ⌈H / 2^level⌉, ⌈W / 2^level⌉, width · 2^(level − 1)]}."""
        x, found = images, {}
        how = {"norm": self.norm, "activation": self.activation, "initializer": self.initializer}
        for level in range(1, self.levels + 1):
            channels = self.width * 2 ** (level - 1)
            x = ConvNorm(channels, 3, 2, 1, name=f"down{level}", **how)(x, train=train)
            found[level] = x = ConvNorm(channels, 3, padding=1, name=f"level{level}", **how)(x, train=train)
        return found


class Pyramid(nn.Module):
    """Feature pyramid: coarse features are enlarged and added to fine ones (Lin et al. 2017, arXiv 1612.03144, section 3).

    Each level has a lateral convolution of 1x1 and, after the sum, one of 3x3, without norms and activations. Levels beyond the
    deepest features are convolutions of 3x3 with stride 2, with a ReLU before all but the first (P6 and P7 of RetinaNet, Lin et
    al. 2017, arXiv 1708.02002, section 4, there from C5, here from P5 as in torchvision).

    Attributes:
        channels: number of channels of every level.
        initializer: initialiser of the kernels; biases start at 0.
    """

    channels: int
    initializer: Choice[INITIALIZERS] = init.xavier

    @nn.compact
    def __call__(self, features: Mapping[int, jax.Array], levels: range) -> dict[int, jax.Array]:
        """Maps features {level: [B, h, w, C]} to {level: [B, h, w, channels]} for `levels`, the first of which they have."""
        deepest = max(features)
        joined: dict[int, jax.Array] = {}
        for level in reversed(range(levels[0], deepest + 1)):
            lateral = self._conv(1, f"lateral{level}")(features[level])
            below = joined.get(level + 1)
            joined[level] = lateral if below is None else lateral + _doubled(below, lateral.shape[1:3])
        found = {level: self._conv(3, f"level{level}")(joined[level]) for level in levels if level <= deepest}
        for level in range(deepest + 1, levels[-1] + 1):
            x = found[level - 1]
            x = x if level == deepest + 1 else jax.nn.relu(x)
            found[level] = self._conv(3, f"level{level}", 2)(x)
        return found

    def _conv(self, kernel: int, name: str, strides: int = 1) -> Conv:
        return Conv(self.channels, kernel, strides, kernel // 2, initializer=self.initializer, name=name)


def _doubled(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Copies each pixel of x [B, h, w, C] into a block of 2x2 and cuts the first rows and columns: [B, *size, C]."""
    return upsample.nearest(x)[:, : size[0], : size[1]]


class Detector(nn.Module):
    """A detector on features of its own small encoder or of any network of the zoo; the subclasses add what predicts.

    The image is padded with zeros, below and to the right, to a multiple of the deepest stride, so that level n has cells of
    exactly 2ⁿ pixels.

    Attributes:
        classes: number of classes of objects, without a background.
        backbone: network of the zoo that gives the features, in the parameters `backbone`; none: convolutions of 3x3, two at
            each resolution.
        width: channels of the own encoder at half resolution, which double with each level.
        levels: number of times that the own encoder halves the image.
        norm: applied after the convolutions that are not the backbone's. Group norm does not depend on the batch, which is
            small in detection.
        activation: applied after these norms.
        initializer: initialiser of their kernels.
    """

    classes: int
    backbone: Choice[BACKBONES] = own_encoder
    width: Count = 16
    levels: Count = 4
    norm: Choice[NORMS] = norms.group_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @property
    def multiple(self) -> int:
        """The number of pixels of which the sides of a padded image are multiples."""
        return 2**self.levels if self.backbone is own_encoder else BACKBONE_MULTIPLE

    def size_at(self, image_size: tuple[int, int], level: int) -> tuple[int, int]:
        """Returns (h, w) of the features of a level for images (H, W)."""
        multiple = self.multiple
        height, width = (-(-(-(-side // multiple) * multiple) // 2**level) for side in image_size)
        return height, width

    def features(self, images: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        """Returns {level: features [B, h, w, C]} of images f32 [B, H, W, C]; called inside a compact module."""
        padded, size = to_multiple(images, self.multiple), (images.shape[1], images.shape[2])
        if self.backbone is own_encoder:
            own = SmallEncoder(self.width, self.levels, self.norm, self.activation, self.initializer, name="encoder")
            return own(padded, train=train)
        found = features_by_level(encoder(self.backbone), padded, train=train)
        # of other sizes only where the backbone does not pad
        return {level: fitted(value, self.size_at(size, level)) for level, value in found.items()}

    def require_levels(self, features: Mapping[int, jax.Array], first: int) -> None:
        """Raises UsageError where the features do not reach from a level on down without a gap."""
        missing = [level for level in range(first, max(max(features), first) + 1) if level not in features]
        if missing:
            given = ", ".join(f"{2**level}" for level in features)
            raise UsageError(
                f"--model: the detector needs features {2 ** missing[0]} pixels apart, and its encoder has strides {given}.\n"
                "Take another --model.backbone, or other levels."
            )

    def map_and_ends(
        self, images: jax.Array, level: int, channels: int, *, train: bool
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Returns one map of a feature pyramid, and what a convolution of 3x3 makes of it for `box` and `class`.

        Args:
            images: images f32 [B, H, W, C].
            level: the cells of the map are 2^level pixels apart.
            channels: channels of the map and of both convolutions.
            train: whether the network is trained.
        """
        features = self.features(images, train=train)
        self.require_levels(features, level)
        x = Pyramid(channels, name="pyramid")(features, range(level, level + 1))[level]
        return x, {part: self.conv_norm(channels, f"{part}_layer")(x, train=train) for part in ("box", "class")}

    def conv_norm(self, features: int, name: str, kernel: int = 3, strides: int = 1) -> ConvNorm:
        """Makes a padded convolution with the norm and activation of the detector."""
        return ConvNorm(
            features,
            kernel,
            strides,
            kernel // 2,
            norm=self.norm,
            activation=self.activation,
            initializer=self.initializer,
            name=name,
        )


def cells(size: tuple[int, int]) -> jax.Array:
    """Returns (column, row) of each cell of a map of size (h, w), row by row as in `rows`: f32 [h · w, 2]."""
    row, column = jnp.divmod(jnp.arange(size[0] * size[1]), size[1])
    return jnp.stack([column, row], axis=-1).astype(jnp.float32)


def rows(maps: jax.Array, boxes: int = 1) -> jax.Array:
    """Returns maps [B, h, w, boxes · P] as rows of outputs [B, h · w · boxes, P], cells row by row."""
    return maps.reshape(maps.shape[0], -1, maps.shape[-1] // boxes)


class SharedOutput(nn.Module):
    """The last convolutions of 3x3 of a head, one for each of its parts, which all levels share.

    Kernels are drawn from N(0, 0.01²), so that training starts near the biases (Lin et al. 2017, arXiv 1708.02002, section
    4.1).

    Attributes:
        features: number of output channels of each part.
        biases: first bias of each part; 0 where it is not named.
    """

    features: Mapping[str, int]
    biases: Mapping[str, float]

    def setup(self) -> None:
        """Makes the convolutions."""
        self.parts = {part: _LastConv(count, self.biases.get(part, 0.0), name=part) for part, count in self.features.items()}

    def __call__(self, values: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Maps {part: [B, h, w, C]} to {part: [B, h, w, features]}."""
        return {part: layer(values[part]) for part, layer in self.parts.items()}


class _LastConv(nn.Module):
    """A convolution of 3x3 whose bias starts at a number."""

    features: int
    first_bias: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, h, w, C] to [B, h, w, features]."""
        kernel = functools.partial(init.normal, std=0.01)
        x = Conv(self.features, 3, padding=1, bias=False, initializer=kernel, name="conv")(x)
        bias = self.param("bias", nn.initializers.constant(self.first_bias), (self.features,))
        return x + bias.reshape(1, 1, 1, -1).astype(x.dtype)  # [features] -> [1, 1, 1, features]
