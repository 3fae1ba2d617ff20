"""Variational autoencoders, fully connected and convolutional, with or without labels.

D. P. Kingma and M. Welling, Auto-encoding variational Bayes, 2014, arXiv 1312.6114, appendix C; conditional: K. Sohn, H. Lee,
X. Yan, Learning structured output representation using deep conditional generative models, 2015.

Letters in shapes: B batch, H W space, C channels, K classes, Z units of the code, P parameters of p(x | z) for each value of
an image.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models.layers import Conv, ConvTranspose, flatten
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.labels import class_shares
from cnnlab.values import Choice, Count


class VAE(nn.Module):
    """An encoder to normal distributions over codes, and a decoder to the parameters of a distribution over images.

    Attributes:
        encoder: (images [B, H, W, C], condition [B, K]) -> features [B, F].
        decoder: (codes [B, Z], condition [B, K]) -> parameters [B, H, W, C · P].
        latent: Z, units of the code.
        classes: K; both halves get the label as a one-hot vector. 0: labels are ignored.
        initializer: initialiser of the two heads of the encoder.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent: int
    classes: int
    initializer: Choice[INITIALIZERS] = init.xavier

    def setup(self) -> None:
        """Makes the two heads of the encoder."""
        self.mean = nn.Dense(self.latent, kernel_init=self.initializer)
        self.log_variance = nn.Dense(self.latent, kernel_init=self.initializer)

    def __call__(self, images: jax.Array, labels: jax.Array | None = None) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (parameters [B, H, W, C · P] of the mean code, {"code", "log_variance"})."""
        mean, log_variance = self.encode(images, labels)
        return self.decode(mean, labels), {"code": mean, "log_variance": log_variance}

    def encode(self, images: jax.Array, labels: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
        """Maps images f32 [B, H, W, C], labels i32 [B] to (mean [B, Z], log variance [B, Z]) of q(z | x)."""
        features = self.encoder(images, self._condition(images, labels))
        return self.mean(features), self.log_variance(features)

    def decode(self, codes: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Maps codes [B, Z], labels i32 [B] to parameters [B, H, W, C · P] of p(x | z)."""
        return self.decoder(codes, self._condition(codes, labels))

    def _condition(self, like: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns the labels as one-hot vectors [B, K] in the type of `like` [B, …], or zeros where there are none."""
        if labels is None:
            return jnp.zeros((like.shape[0], self.classes), like.dtype)
        return class_shares(labels, self.classes, like.dtype)


class DenseLayers(nn.Module):
    """Dense layers, each followed by an activation.

    Attributes:
        widths: units of each layer.
        activation: applied after each layer.
        initializer: initialiser of the kernels; biases start at 0.
    """

    widths: tuple[int, ...]
    activation: Choice[ACTIVATIONS]
    initializer: Choice[INITIALIZERS]

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """Maps x [B, …], condition [B, K] to [B, last width]."""
        x = jnp.concatenate([flatten(x), condition], axis=1)  # [B, D], [B, K] -> [B, D + K]
        for number, width in enumerate(self.widths, start=1):
            x = self.activation(nn.Dense(width, kernel_init=self.initializer, name=f"dense{number}")(x))
        return x


class DenseDecoder(nn.Module):
    """Dense layers from a code to an image.

    Attributes:
        image_shape: (H, W, C).
        outputs: P, parameters for each value of an image.
        widths: units of the hidden layers, from the code to the image.
        activation: applied after each hidden layer.
        initializer: initialiser of the kernels; biases start at 0.
    """

    image_shape: tuple[int, int, int]
    outputs: int
    widths: tuple[int, ...]
    activation: Choice[ACTIVATIONS]
    initializer: Choice[INITIALIZERS]

    @nn.compact
    def __call__(self, codes: jax.Array, condition: jax.Array) -> jax.Array:
        """Maps codes [B, Z], condition [B, K] to [B, H, W, C · P]."""
        x = DenseLayers(self.widths, self.activation, self.initializer, name="hidden")(codes, condition)
        height, width, channels = self.image_shape
        x = nn.Dense(math.prod(self.image_shape) * self.outputs, kernel_init=self.initializer, name="output")(x)
        return x.reshape(-1, height, width, channels * self.outputs)  # [B, H·W·C·P] -> [B, H, W, C·P]


class ConvEncoder(nn.Module):
    """Convolutions that halve the image, then a dense layer; the condition enters as constant channels.

    Attributes:
        widths: channels of each convolution (4x4, stride 2).
        features: units of the dense layer.
        activation: applied after every layer.
        initializer: initialiser of the kernels; biases start at 0.
    """

    widths: tuple[int, ...]
    features: int
    activation: Choice[ACTIVATIONS]
    initializer: Choice[INITIALIZERS]

    @nn.compact
    def __call__(self, images: jax.Array, condition: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C], condition [B, K] to [B, features]."""
        # [B, K] -> [B, 1, 1, K] -> [B, H, W, K]
        planes = jnp.broadcast_to(condition[:, None, None, :], (*images.shape[:3], condition.shape[1]))
        x = jnp.concatenate([images, planes], axis=3)  # [B, H, W, C + K]
        for number, channels in enumerate(self.widths, start=1):
            x = self.activation(Conv(channels, 4, 2, initializer=self.initializer, name=f"conv{number}")(x))
        # [B, h, w, c] -> [B, h·w·c] -> [B, features]
        return self.activation(nn.Dense(self.features, kernel_init=self.initializer, name="dense")(flatten(x)))


class ConvDecoder(nn.Module):
    """Inverts `ConvEncoder`: two dense layers, then transposed convolutions that double the image, cropped to its size.

    Attributes:
        image_shape: (H, W, C).
        outputs: P, parameters for each value of an image.
        widths: channels, from the code to the image.
        features: units of the first dense layer.
        activation: applied after every layer but the last.
        initializer: initialiser of the kernels; biases start at 0.
    """

    image_shape: tuple[int, int, int]
    outputs: int
    widths: tuple[int, ...]
    features: int
    activation: Choice[ACTIVATIONS]
    initializer: Choice[INITIALIZERS]

    @nn.compact
    def __call__(self, codes: jax.Array, condition: jax.Array) -> jax.Array:
        """Maps codes [B, Z], condition [B, K] to [B, H, W, C · P]."""
        height, width, channels = self.image_shape
        sizes = halved(height, width, len(self.widths))
        dense = functools.partial(nn.Dense, kernel_init=self.initializer)
        # [B, Z], [B, K] -> [B, Z + K] -> [B, features] -> [B, h·w·c]
        x = self.activation(dense(self.features, name="dense1")(jnp.concatenate([codes, condition], axis=1)))
        x = self.activation(dense(math.prod(sizes[-1]) * self.widths[0], name="dense2")(x))
        x = x.reshape(-1, *sizes[-1], self.widths[0])  # [B, h·w·c] -> [B, h, w, c]
        grown = [*self.widths[1:], channels * self.outputs]
        for number, (maps, size) in enumerate(zip(grown, sizes[-2::-1], strict=True), start=1):
            x = ConvTranspose(maps, 4, 2, initializer=self.initializer, name=f"grow{number}")(x)
            x = x[:, : size[0], : size[1]]  # doubling an odd side, which the encoder rounded up, gives a row too many
            x = self.activation(x) if number < len(grown) else x
        return x


def halved(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """Returns [(height, width), the half of it rounded up, …]: the sizes that convolutions of stride 2 leave."""
    sizes = [(height, width)]
    for _ in range(times):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def mlp(
    *,
    image_shape: tuple[int, int, int],
    outputs: int,
    classes: int,
    latent: Count = 20,
    widths: tuple[Count, ...] = (500,),
    activation: Choice[ACTIVATIONS] = jnp.tanh,
    initializer: Choice[INITIALIZERS] = init.xavier,
) -> VAE:
    """Builds the fully connected VAE, 815,824 parameters for 28x28 images (Kingma and Welling 2014, section 5: 500 tanh units).

    Deviation: the paper draws weights from N(0, 0.01) and optimises by Adagrad.

    Args:
        latent: units of the code.
        widths: units of the encoder's hidden layers, from the image to the code; the decoder has them in reverse order.
        activation: applied after every hidden layer.
        initializer: initialiser of the kernels; biases start at 0.
    """
    encoder = DenseLayers(widths, activation, initializer)
    decoder = DenseDecoder(image_shape, outputs, widths[::-1], activation, initializer)
    return VAE(encoder, decoder, latent, classes, initializer)


def conv(
    *,
    image_shape: tuple[int, int, int],
    outputs: int,
    classes: int,
    latent: Count = 20,
    widths: tuple[Count, ...] = (32, 64),
    features: Count = 256,
    activation: Choice[ACTIVATIONS] = jax.nn.relu,
    initializer: Choice[INITIALIZERS] = init.he,
) -> VAE:
    """Builds a convolutional VAE for images of any size.

    Args:
        latent: units of the code.
        widths: channels of the encoder's convolutions, each of which halves the image; the decoder reverses them.
        features: units of the dense layer between convolutions and code.
        activation: applied after every hidden layer.
        initializer: initialiser of the kernels; biases start at 0.
    """
    encoder = ConvEncoder(widths, features, activation, initializer)
    decoder = ConvDecoder(image_shape, outputs, widths[::-1], features, activation, initializer)
    return VAE(encoder, decoder, latent, classes, initializer)


mlp_400_20 = functools.partial(mlp, widths=(400,), activation=jax.nn.relu)
"""The VAE of PyTorch's examples (vae/main.py): 652,824 parameters."""

iwae_200_200_50 = functools.partial(mlp, widths=(200, 200), latent=50)
"""The network with one stochastic layer of Burda et al. 2016 (arXiv 1509.00519, section 5): 425,284 parameters."""
