"""U-Net: the published network of valid convolutions, and the padded one of today with any network as its encoder.

Ronneberger, Fischer and Brox 2015, U-Net: Convolutional networks for biomedical image segmentation, arXiv 1505.04597.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import norms
from cnnlab.models.dense_maps import (
    BACKBONES,
    Up,
    Upsample,
    encoder,
    features_by_level,
    fitted,
    own_encoder,
    pixel_logits,
    to_multiple,
    with_output,
)
from cnnlab.models.image_size import checks_image_size
from cnnlab.models.layers import ConvNorm, ConvTranspose, Dropout, MaxPool
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.windows import Padding
from cnnlab.values import Choice, Count, Fraction


class TwoConvolutions(nn.Module):
    """Two convolutions of 3x3, each with its norm and activation.

    Attributes:
        features: number of output channels of both.
        padding: as in `Conv`.
        norm, activation, initializer: as in `UNet`.
    """

    features: int
    padding: Padding = 1
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features]."""
        for number in (1, 2):
            x = ConvNorm(
                self.features,
                3,
                padding=self.padding,
                norm=self.norm,
                activation=self.activation,
                initializer=self.initializer,
                name=f"layer{number}",
            )(x, train=train)
        return x


class UNet(nn.Module):
    """U-Net of today: padded convolutions with norms, so that logits are as large as the image; any network as encoder.

    Deviation: the convolutions are padded and normalised, which the paper's are not (`unet_2015`). The image is padded with
    zeros to a multiple of 2^levels, and the logits are cut. With width 64, 3 channels and 2 classes there are 31,037,698
    parameters.

    Attributes:
        classes: number of classes.
        width: channels at full resolution, which double with each level.
        levels: number of times that the image is halved; a backbone has its own.
        skips: whether the decoder is given the encoder's features of each level beside those from below.
        up: how the decoder doubles its maps: transposed convolution, or interpolation (nearest, bilinear) and a convolution.
        backbone: network of the zoo that is the encoder, in the parameters `backbone`; none: U-Net's own. Of its
            intermediates the decoder takes the last ones of each resolution.
        norm: applied after every convolution of 3x3.
        activation: applied after every norm.
        dropout: drop probability of the deepest features.
        initializer: initialiser of the kernels; biases start at 0.
    """

    classes: int
    width: Count = 64
    levels: Count = 4
    skips: bool = True
    up: Up = "transposed"
    backbone: Choice[BACKBONES] = own_encoder
    norm: Choice[NORMS] = norms.batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], the features of each level, the output)."""
        padded = to_multiple(images, 2**self.levels if self.backbone is own_encoder else BACKBONE_MULTIPLE)
        features = self._encode(padded, train=train)
        intermediates = {f"encoder{level}": value for level, value in features.items()}
        deepest = max(features)
        x = Dropout(self.dropout, name="dropout")(features[deepest], train=train)
        for level in reversed(range(deepest)):
            channels = self.width * 2**level
            x = Upsample(channels, self.up, self.initializer, name=f"up{level}")(x)
            if level in features:
                x = fitted(x, features[level].shape[1:3])  # of other sizes only where the backbone does not pad
                # [B, H, W, C] and [B, H, W, channels] -> [B, H, W, C + channels]
                x = jnp.concatenate([features[level], x], axis=-1) if self.skips else x
            intermediates[f"decoder{level}"] = x = self._convolutions(level, f"decoder{level}")(x, train=train)
        x = fitted(x, padded.shape[1:3])[:, : images.shape[1], : images.shape[2]]
        return with_output(pixel_logits(x, self.classes, self.initializer), intermediates)

    def _encode(self, images: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        """Returns the features {level: [B, H / 2^level, W / 2^level, C]} of padded images."""
        if self.backbone is not own_encoder:
            return features_by_level(encoder(self.backbone), images, train=train)
        x, features = images, {}
        for level in range(self.levels + 1):
            x = MaxPool(2, name=f"pool{level}")(x) if level else x
            features[level] = x = self._convolutions(level, f"encoder{level}")(x, train=train)
        return features

    def _convolutions(self, level: int, name: str) -> TwoConvolutions:
        return TwoConvolutions(self.width * 2**level, 1, self.norm, self.activation, self.initializer, name=name)


BACKBONE_MULTIPLE = 32
"""Multiple to which the sides of an image are padded for a backbone; networks for ImageNet shrink images by 32."""


class UNet2015(nn.Module):
    """U-Net as published: valid convolutions without norms, 31,030,658 parameters for 1 channel and 2 classes.

    Its logits are smaller than what it is given, 388x388 of 572x572. An image is therefore continued by reflection on all
    sides, as the paper does for its overlapping tiles, so that every pixel has a prediction.

    Attributes:
        classes: number of classes.
        width: channels at full resolution, which double with each level.
        levels: number of times that the image is halved.
        skips: whether the decoder is given the encoder's features of each level beside those from below.
        border: mirror continues the image by reflection, and the logits are as large as the image. none does not: the
            logits are those of its middle.
        norm: applied after every convolution of 3x3; the paper has none.
        activation: applied after every norm.
        dropout: drop probability of the features at the end of the contracting path (level `levels` − 1 and the deepest).
        initializer: initialiser of the kernels, N(0, 2 / fan-in) in the paper (section 3); biases start at 0.
    """

    classes: int
    width: Count = 64
    levels: Count = 4
    skips: bool = True
    border: Literal["mirror", "none"] = "mirror"
    norm: Choice[NORMS] = norms.no_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (logits f32 [B, H, W, K], the features of each level, the output)."""
        height, width = images.shape[1:3]
        x, intermediates = mirrored(images, self.levels) if self.border == "mirror" else images, {}
        for level in range(self.levels + 1):
            x = MaxPool(2, name=f"pool{level}")(x) if level else x
            x = self._convolutions(level, f"encoder{level}")(x, train=train)
            if level >= self.levels - 1:
                x = Dropout(self.dropout, name=f"dropout{level}")(x, train=train)
            intermediates[f"encoder{level}"] = x
        for level in reversed(range(self.levels)):
            channels = self.width * 2**level
            x = ConvTranspose(channels, 2, 2, initializer=self.initializer, name=f"up{level}")(x)
            if self.skips:
                skip = fitted(intermediates[f"encoder{level}"], x.shape[1:3])  # the middle, as large as what comes from below
                x = jnp.concatenate([skip, x], axis=-1)  # [B, H', W', channels] twice -> [B, H', W', 2 · channels]
            intermediates[f"decoder{level}"] = x = self._convolutions(level, f"decoder{level}")(x, train=train)
        x = x[:, :height, :width]
        return with_output(pixel_logits(x, self.classes, self.initializer), intermediates)

    def _convolutions(self, level: int, name: str) -> TwoConvolutions:
        return TwoConvolutions(self.width * 2**level, 0, self.norm, self.activation, self.initializer, name=name)


def valid_size(side: int, levels: int) -> tuple[int, int]:
    """Returns (input, output) of the smallest valid U-Net whose output has at least `side` pixels: (572, 388) of 388.

    With b pixels before the deepest convolutions, the image has 2^levels · (b + 4) − 4 pixels and the output 2^levels · (b − 8)
    + 4; b is at least 5, and at least 9 to leave an output.
    """
    cells = max(-(-(side - 4) // 2**levels), 1)
    return 2**levels * (cells + 12) - 4, 2**levels * cells + 4


def mirrored(images: jax.Array, levels: int) -> jax.Array:
    """Continues images [B, H, W, C] by reflection at their outermost pixels, so that a valid U-Net has logits for all pixels.

    The context is equally wide above and to the left of an image; below and to the right are the rows and columns, too, that
    complete a size that can be halved.
    """
    around = []
    for side in images.shape[1:3]:
        whole, output = valid_size(side, levels)
        before = (whole - output) // 2
        around.append((before, whole - before - side))
    return jnp.pad(images, ((0, 0), *around, (0, 0)), mode="reflect")
