"""The networks of nets.py as cnnlab has them: its models where it has the same network, else its layers.

Each is called as `apply(variables, inputs, train=True)` and returns (outputs, intermediates); the VAE has two methods.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.steps import nets
from cnnlab.models.layers import Conv, ConvNorm, ConvTranspose
from cnnlab.models.lenet import LeNet5
from cnnlab.models.resnet import resnet18
from cnnlab.models.ssd import SSD
from cnnlab.models.unet import UNet
from cnnlab.models.vae import mlp
from cnnlab.models.writer import RecurrentWriter

Returned = tuple[jax.Array, dict[str, jax.Array]]


class Autoencoder(nn.Module):
    """Two convolutions of stride 2 and two transposed ones."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Returned:
        """Maps images [B, 28, 28, 1] to outputs of the same shape."""
        for features in (32, 64):
            x = nn.relu(Conv(features, 3, 2, 1)(x))
        x = nn.relu(ConvTranspose(32, 3, 2, 1, output_padding=1)(x))
        return ConvTranspose(1, 3, 2, 1, output_padding=1)(x), {}


class Depthwise(nn.Module):
    """Seven depth-wise separable convolutions, as in MobileNet."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Returned:
        """Maps images [B, 32, 32, 3] to logits [B, K]."""
        x = ConvNorm(32, 3, padding=1)(x, train=train)
        for features, strides in nets.SEPARABLE:
            x = ConvNorm(x.shape[-1], 3, strides, 1, groups=x.shape[-1])(x, train=train)
            x = ConvNorm(features, 1)(x, train=train)
        return nn.Dense(nets.CLASSES)(x.mean((1, 2))), {}  # [B, H, W, C] -> [B, C] -> [B, K]


OURS: dict[str, Callable[[], Any]] = {
    "lenet5": lambda: LeNet5(classes=nets.CLASSES),
    "autoencoder": Autoencoder,
    "depthwise": Depthwise,
    "resnet18": lambda: resnet18(classes=nets.CLASSES, stem="small"),
    "unet": lambda: UNet(classes=nets.CLASSES, width=16, levels=3),
    "ssd": lambda: SSD(classes=nets.CLASSES),
    "lstm": lambda: RecurrentWriter(classes=nets.CHARACTERS, widths=(nets.UNITS,)),
    "vae": lambda: mlp(image_shape=(28, 28, 1), outputs=1, classes=0, activation=jnp.tanh),
}
