"""The networks of the vector-quantised autoencoder, from images to a grid of vectors and back.

A. van den Oord, O. Vinyals, K. Kavukcuoglu, Neural discrete representation learning, 2017, arXiv 1711.00937, section 4.1. The
codebook is not a parameter: it follows the vectors by a moving average, in the task's model state (tasks/vq_vae.py).

Letters in shapes: B batch, H W space, C channels, h w the grid of codes, D units of a vector, P parameters for each
value of an image.
"""

import functools
from typing import Annotated

import flax.linen as nn
import jax

from cnnlab.models.layers import Conv, ConvTranspose
from cnnlab.models.vae import halved
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.values import Choice, Count, Range


class ResidualBlock(nn.Module):
    """Adds to x its ReLU, 3x3 convolution, ReLU and 1x1 convolution (van den Oord et al. 2017, section 4.1).

    Attributes:
        activation: applied before each convolution.
    """

    activation: Choice[ACTIVATIONS]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, h, w, channels] to the same shape."""
        inside = Conv(x.shape[3], 3, name="conv1")(self.activation(x))
        return x + Conv(x.shape[3], 1, name="conv2")(self.activation(inside))


class GridEncoder(nn.Module):
    """Convolutions that halve the image, residual blocks, and a 1x1 convolution to vectors.

    Attributes:
        widths: channels of each convolution (4x4, stride 2).
        dimension: D, units of a vector.
        blocks: number of residual blocks.
        activation: applied between layers.
    """

    widths: tuple[int, ...]
    dimension: int
    blocks: int
    activation: Choice[ACTIVATIONS]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C] to vectors [B, h, w, D]."""
        x = images
        for number, channels in enumerate(self.widths, start=1):
            x = self.activation(Conv(channels, 4, 2, name=f"conv{number}")(x))
        for number in range(1, self.blocks + 1):
            x = ResidualBlock(self.activation, name=f"block{number}")(x)
        return Conv(self.dimension, 1, initializer=init.lecun, name="vectors")(self.activation(x))


class GridDecoder(nn.Module):
    """Inverts `GridEncoder`: a 3x3 convolution, residual blocks, transposed convolutions cropped to the image's size.

    Attributes:
        image_shape: (H, W, C).
        outputs: P, parameters for each value of an image.
        widths: channels, from the grid to the image.
        blocks: number of residual blocks.
        activation: applied between layers.
    """

    image_shape: tuple[int, int, int]
    outputs: int
    widths: tuple[int, ...]
    blocks: int
    activation: Choice[ACTIVATIONS]

    @nn.compact
    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Maps vectors [B, h, w, D] to parameters [B, H, W, C · P]."""
        height, width, channels = self.image_shape
        x = Conv(self.widths[0], 3, name="conv")(vectors)
        for number in range(1, self.blocks + 1):
            x = ResidualBlock(self.activation, name=f"block{number}")(x)
        grown = [*self.widths[1:], channels * self.outputs]
        sizes = halved(height, width, len(self.widths))
        # The encoder rounds odd sides up, so that doubling gives a row too many: each map is cropped to the encoder's size.
        for number, (maps, size) in enumerate(zip(grown, sizes[-2::-1], strict=True), start=1):
            x = ConvTranspose(maps, 4, 2, name=f"grow{number}")(self.activation(x))[:, : size[0], : size[1]]
        return x


class VQVAE(nn.Module):
    """An encoder to a grid of vectors and a decoder from it; the task replaces the vectors by entries of a codebook.

    Attributes:
        encoder: images [B, H, W, C] -> vectors [B, h, w, D].
        decoder: vectors [B, h, w, D] -> parameters [B, H, W, C · P].
        grid: (h, w) of the codes.
        dimension: D, units of a vector.
        entries: number of entries of the codebook.
    """

    encoder: nn.Module
    decoder: nn.Module
    grid: tuple[int, int]
    dimension: int
    entries: int

    def __call__(self, images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (parameters [B, H, W, C · P] decoded without quantisation, {"vectors"})."""
        vectors = self.encode(images)
        return self.decode(vectors), {"vectors": vectors}

    def encode(self, images: jax.Array) -> jax.Array:
        """Maps images f32 [B, H, W, C] to vectors [B, h, w, D]."""
        return self.encoder(images)

    def decode(self, vectors: jax.Array) -> jax.Array:
        """Maps vectors [B, h, w, D] to parameters [B, H, W, C · P]."""
        return self.decoder(vectors)


def vq_vae(
    *,
    image_shape: tuple[int, int, int],
    outputs: int,
    entries: Annotated[int, Range(2)] = 128,
    dimension: Count = 32,
    widths: tuple[Count, ...] = (32, 64),
    blocks: Annotated[int, Range(0)] = 2,
    activation: Choice[ACTIVATIONS] = jax.nn.relu,
) -> VQVAE:
    """Builds a VQ-VAE whose grid has a quarter of the image's side by default.

    The paper's network has a codebook of 512 entries of 64 units and 256 channels.

    Args:
        entries: number of entries of the codebook.
        dimension: units of each entry.
        widths: channels of the encoder's convolutions, each of which halves the image; the decoder reverses them.
        blocks: number of residual blocks of either half.
        activation: applied between layers.
    """
    grid = halved(*image_shape[:2], len(widths))[-1]
    encoder = GridEncoder(widths, dimension, blocks, activation)
    decoder = GridDecoder(image_shape, outputs, widths[::-1], blocks, activation)
    return VQVAE(encoder, decoder, grid, dimension, entries)


vq_vae_2017 = functools.partial(vq_vae, entries=512, dimension=64, widths=(256, 256))
"""The paper's network for CIFAR-10: 8x8 codes for images of 32x32."""
