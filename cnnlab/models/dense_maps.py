"""Parts of the networks that classify every pixel: sizes that fit, features of an encoder by their stride, the last layer.

Letters in shapes: B batch, H W space, C channels, K classes.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.errors import UsageError
from cnnlab.models.classifiers import MODELS
from cnnlab.models.layers import Conv, ConvTranspose
from cnnlab.ops import init, upsample
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice

Up = Literal["transposed", "nearest", "bilinear"]


def to_multiple(images: jax.Array, multiple: int) -> jax.Array:
    """Adds rows of zeros below and columns to the right of images [B, H, W, C], up to a multiple of both sides."""
    missing = [-side % multiple for side in images.shape[1:3]]
    return jnp.pad(images, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))


def fitted(x: jax.Array, size: tuple[int, ...]) -> jax.Array:
    """Cuts x [B, H, W, C] to a size (H', W') around its middle; where it is smaller, its border is repeated."""
    sides = [(have - want, (have - want) // 2) for have, want in zip(x.shape[1:3], size, strict=True)]
    more = [(max(-before, 0), max(before - surplus, 0)) for surplus, before in sides]
    if any(map(any, more)):
        x = jnp.pad(x, ((0, 0), *more, (0, 0)), mode="edge")
    (top, left), (height, width) = (max(before, 0) for _, before in sides), size
    return x[:, top : top + height, left : left + width]


def maps_of(backbone: nn.Module, images: jax.Array, *, train: bool) -> list[jax.Array]:
    """Returns the maps [B, H', W', C] among the intermediates of an encoder, in the order in which it computes them.

    To be called inside a compact module.

    Args:
        backbone: network of MODELS with 0 classes.
        images: [B, H, W, C] of any size that the network takes.

    Raises UsageError where the network returns no maps.
    """
    _, intermediates = backbone(images, train=train)
    if found := [value for value in intermediates.values() if value.ndim == 4]:
        return found
    raise UsageError(
        f"{type(backbone).__name__} cannot be an encoder: it returns no maps [B, H, W, C] among its intermediates.\n"
        "Take a convolutional network, such as --model.backbone=resnet18."
    )


def features_by_level(backbone: nn.Module, images: jax.Array, *, train: bool) -> dict[int, jax.Array]:
    """Returns the features of an encoder by level: those of level n are 2ⁿ pixels apart, {n: [B, H / 2ⁿ, W / 2ⁿ, C]}.

    They are found among its maps (`maps_of`) by their shapes, the sides of the images being multiples of their strides; of
    several of one level the last is taken.
    """
    maps = maps_of(backbone, images, train=train)
    found = {round(math.log2(images.shape[1] / value.shape[1])): value for value in maps}
    return dict(sorted(found.items()))


def own_encoder(*, classes: int) -> Any:
    """No network of the zoo: a network of segmentation has its own encoder."""


WITHOUT_ENCODER = (
    *("linear", "mlp", "lenet_300_100", "lenet5", "lenet5_1998", "lenet5_20_50_500", "convnet", "airbench94"),
    *("rnn", "lstm", "gru"),
)
"""Networks of MODELS that cannot be without classes, or that have no maps over the image."""
BACKBONES: dict[str, Any] = {
    "none": own_encoder,
    **{name: network for name, network in MODELS.items() if name not in WITHOUT_ENCODER},
}
"""Encoders by name, for the knob `backbone`; none: the network's own."""


def encoder(backbone: Callable[..., nn.Module]) -> nn.Module:
    """Makes the encoder `backbone` of a network of BACKBONES, without classes and without dense layers.

    Raises UsageError for `none`, where a network has no encoder of its own.
    """
    if backbone is own_encoder:
        raise UsageError("--model.backbone=none: this network has no encoder of its own. Take one, such as resnet50_v1_5.")
    takes_head = "head" in inspect.signature(backbone).parameters
    return backbone(classes=0, name="backbone", **({"head": "pooled"} if takes_head else {}))


class Upsample(nn.Module):
    """Doubles the height and width of a map and changes its number of channels.

    Attributes:
        features: number of output channels.
        up: transposed: a transposed convolution of 2x2 with stride 2; nearest and bilinear: interpolation, then a convolution
            of 3x3.
        initializer: initialiser of the kernel; the bias starts at 0.
    """

    features: int
    up: Up = "transposed"
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, 2 H, 2 W, features]."""
        if self.up == "transposed":
            return ConvTranspose(self.features, 2, 2, initializer=self.initializer, name="conv")(x)
        height, width = x.shape[1:3]
        x = upsample.nearest(x) if self.up == "nearest" else upsample.bilinear(x, (2 * height, 2 * width))
        return Conv(self.features, 3, initializer=self.initializer, name="conv")(x)


def pixel_logits(x: jax.Array, classes: int, initializer: Callable[..., jax.Array], name: str = OUTPUT) -> jax.Array:
    """Maps features [B, H, W, C] to logits [B, H, W, K] by a convolution of 1x1; called inside a compact module."""
    return Conv(classes, 1, initializer=initializer, name=name)(x)


def with_output(logits: jax.Array, intermediates: Mapping[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (logits, intermediates with the logits as `output`), what every network of segmentation returns."""
    return logits, {**intermediates, OUTPUT: logits}
