"""Pairs of a generator G and a discriminator D, built as `pair(image_shape, *, is_penalised, …) -> (G, D)`.

G maps codes f32 [B, Z] to images f32 [B, H, W, C] in [−1, 1]; D maps images to scores f32 [B]. Both are called with `train=…`.
Conditions are appended to the code and, as constant channels, to the image.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError
from cnnlab.models import norms
from cnnlab.models.layers import Conv, ConvTranspose, Dropout, flatten
from cnnlab.ops import init
from cnnlab.ops.activations import leaky_relu
from cnnlab.ops.bounds import largest
from cnnlab.ops.convolve import convolve
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.windows import explicit_padding
from cnnlab.values import Choice, Count, Fraction

Pair = tuple[nn.Module, nn.Module]

LEAK = 0.2
"""Slope of the discriminators' activations below zero (Radford et al. 2016, section 3)."""

OUTPUTS = {"tanh": jnp.tanh, "linear": lambda x: x}
SMALL_NORMAL = functools.partial(init.normal, std=0.02)
"""Initialiser of kernels of Radford et al. 2016, section 4."""

MOST_BASE = 7
"""Largest side of the output of the generator's first layer, in pixels."""


class MLPGenerator(nn.Module):
    """A fully connected generator with ReLU.

    Attributes:
        image_shape: (H, W, C) of the generated images.
        widths: units of each hidden layer.
        output: tanh, or linear for data that are not images.
        initializer: initialiser of the kernels; biases start at 0.
    """

    image_shape: tuple[int, int, int]
    widths: tuple[int, ...]
    output: Literal["tanh", "linear"] = "tanh"
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, codes: jax.Array, *, train: bool) -> jax.Array:
        """Maps codes f32 [B, Z] to images f32 [B, H, W, C]."""
        x = codes
        for number, width in enumerate(self.widths, start=1):
            x = jax.nn.relu(nn.Dense(width, kernel_init=self.initializer, name=f"dense{number}")(x))
        height, width, channels = self.image_shape
        x = nn.Dense(height * width * channels, kernel_init=self.initializer, name="output")(x)
        return OUTPUTS[self.output](x).reshape(-1, *self.image_shape)  # [B, H·W·C] -> [B, H, W, C]


class MLPDiscriminator(nn.Module):
    """A fully connected discriminator with maxout units (Goodfellow et al. 2013, arXiv 1302.4389) and dropout.

    Attributes:
        widths: units of each hidden layer.
        pieces: number of linear functions of which a unit takes the maximum; with 1, leaky ReLU is used instead.
        dropout: drop probability after each hidden layer.
        initializer: initialiser of the kernels; biases start at 0.
    """

    widths: tuple[int, ...]
    pieces: Count = 5
    dropout: Fraction = 0.5
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images f32 [B, H, W, C] to scores f32 [B]."""
        x = flatten(images)
        for number, width in enumerate(self.widths, start=1):
            x = nn.Dense(width * self.pieces, kernel_init=self.initializer, name=f"dense{number}")(x)
            # Maxout: [B, width · pieces] -> [B, width, pieces] -> [B, width].
            x = largest(x.reshape(-1, width, self.pieces), axis=-1) if self.pieces > 1 else leaky_relu(x, slope=LEAK)
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        return nn.Dense(1, kernel_init=self.initializer, name="output")(x)[:, 0]  # [B, 1] -> [B]


def mlp(
    image_shape: tuple[int, int, int],
    *,
    is_penalised: bool,
    generator_widths: tuple[int, ...] = (1200, 1200),
    discriminator_widths: tuple[int, ...] = (240, 240),
    pieces: Count = 5,
    dropout: Fraction | None = None,
    output: Literal["tanh", "linear"] = "tanh",
    initializer: Choice[INITIALIZERS] = init.he,
) -> Pair:
    """Builds the fully connected pair of Goodfellow et al. 2014 (arXiv 1406.2661), in the sizes of the authors' code for MNIST.

    Deviation: kernels are drawn by He's rule instead of uniformly from ranges set by hand, and the output is tanh in [−1, 1]
    instead of a sigmoid in [0, 1].

    Args:
        generator_widths: units of the generator's hidden layers.
        discriminator_widths: units of the discriminator's hidden layers.
        pieces: number of linear functions of a maxout unit of the discriminator; with 1, leaky ReLU is used instead.
        dropout: drop probability in the discriminator; none: 0.5, but 0 where its gradient is penalised, which noise would
            hide.
        output: output of the generator: tanh, or linear for data that are not images.
        initializer: initialiser of all kernels.
    """
    rate = (0.0 if is_penalised else 0.5) if dropout is None else dropout
    generator = MLPGenerator(image_shape, generator_widths, output, initializer)
    return generator, MLPDiscriminator(discriminator_widths, pieces, rate, initializer)


class SpectralConv(nn.Module):
    """A convolution whose kernel, as a matrix [h · w · C, features], is divided by its largest singular value.

    Each call in training updates the estimate of that value by one step of power iteration (Miyato et al. 2018, arXiv
    1802.05957, algorithm 1); the singular vector is kept in the collection `spectral`.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel.
        strides: stride in both directions.
        padding: number of zeros on every side.
        initializer: initialiser of the kernel; there is no bias.
    """

    features: int
    kernel: int
    strides: int
    padding: int
    initializer: Choice[INITIALIZERS] = SMALL_NORMAL

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features]."""
        window, steps = (self.kernel, self.kernel), (self.strides, self.strides)
        kernel = self.param("kernel", self.initializer, (*window, x.shape[-1], self.features))
        singular = self.variable(
            "spectral", "left", lambda: _unit(jax.random.normal(self.make_rng("params"), (self.features,), jnp.float32))
        )
        matrix = kernel.reshape(-1, self.features).astype(jnp.float32)  # [h, w, C, features] -> [h·w·C, features]
        # The vectors are constants for the gradient (Miyato et al. 2018); only the product below depends on the kernel.
        fixed = jax.lax.stop_gradient(matrix)
        right = _unit(fixed @ singular.value)
        left = _unit(right @ fixed) if train else singular.value
        if train and not self.is_initializing():
            singular.value = left
        largest = jnp.dot(right @ matrix, left)
        kernel = kernel / largest.astype(kernel.dtype)
        return convolve(
            x, kernel, strides=steps, padding=explicit_padding(self.padding, (x.shape[1], x.shape[2]), window, steps)
        )


def _unit(vector: jax.Array) -> jax.Array:
    """Scales a vector to length 1; zeros stay zeros."""
    return vector / jnp.maximum(jnp.linalg.norm(vector), 1e-12)


class DCGANGenerator(nn.Module):
    """Transposed convolutions that double an image of at most 7x7 until it is large enough, with batch norm and ReLU.

    Attributes:
        image_shape: (H, W, C) of the generated images.
        width: input channels of the last layer; each layer before has twice as many.
        initializer: initialiser of the kernels; there are no biases.
    """

    image_shape: tuple[int, int, int]
    width: int
    initializer: Choice[INITIALIZERS] = SMALL_NORMAL

    @nn.compact
    def __call__(self, codes: jax.Array, *, train: bool) -> jax.Array:
        """Maps codes f32 [B, Z] to images f32 [B, H, W, C] in [−1, 1]."""
        base, doublings = stages(self.image_shape)
        x = codes[:, None, None, :]  # [B, Z] -> [B, 1, 1, Z]
        for number in range(doublings + 1):
            last = number == doublings
            features = self.image_shape[2] if last else self.width * 2 ** (doublings - 1 - number)
            # The first layer turns one pixel into base x base; each later one doubles the image.
            kernel, strides, padding = (base, 1, 0) if number == 0 else (4, 2, 1)
            name = "output" if last else f"up{number + 1}"
            x = ConvTranspose(features, kernel, strides, padding, bias=False, initializer=self.initializer, name=name)(x)
            if not last:
                x = jax.nn.relu(norms.batch_norm(train=train, name=f"norm{number + 1}")(x))
        return jnp.tanh(x)


class DCGANDiscriminator(nn.Module):
    """Strided convolutions down to an image of at most 7x7, with a norm and leaky ReLU, and one convolution over all of it.

    Attributes:
        width: channels of the first layer; each later one has twice as many.
        norm: applied after every convolution but the first and the last.
        is_spectral: whether every kernel is divided by its largest singular value.
        initializer: initialiser of the kernels; there are no biases.
    """

    width: int
    norm: Literal["batch", "layer", "none"] = "batch"
    is_spectral: bool = False
    initializer: Choice[INITIALIZERS] = SMALL_NORMAL

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images f32 [B, H, W, C] to scores f32 [B]."""
        base, halvings = stages(images.shape[1:])
        x = images
        for number in range(halvings):
            x = self._convolved(x, self.width * 2**number, 4, 2, 1, f"down{number + 1}", train=train)
            if number > 0:
                x = norms.NORMS[self.norm](train=train, name=f"norm{number + 1}")(x)
            x = leaky_relu(x, slope=LEAK)
        return self._convolved(x, 1, base, 1, 0, "output", train=train)[:, 0, 0, 0]  # [B, 1, 1, 1] -> [B]

    def _convolved(
        self, x: jax.Array, features: int, kernel: int, strides: int, padding: int, name: str, *, train: bool
    ) -> jax.Array:
        if self.is_spectral:
            return SpectralConv(features, kernel, strides, padding, self.initializer, name=name)(x, train=train)
        return Conv(features, kernel, strides, padding, bias=False, initializer=self.initializer, name=name)(x)


def stages(image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns (side of the smallest image, number of doublings) for images (H, W, C): 64 = 4 · 2⁴, 28 = 7 · 2².

    Raises UsageError where the image is not square, or its side is not 4 to 7 times a power of 2.
    """
    height, width, _ = image_shape
    side, doublings = height, 0
    while side > MOST_BASE and side % 2 == 0:
        side, doublings = side // 2, doublings + 1
    if height != width or not 4 <= side <= MOST_BASE or doublings == 0:
        raise UsageError(
            f"dcgan makes square images whose side is 4, 5, 6 or 7 doubled once or more, not {height}x{width}.\n"
            "Give --image_size=32, say, or take --model=mlp."
        )
    return side, doublings


def dcgan(
    image_shape: tuple[int, int, int],
    *,
    is_penalised: bool,
    width: Count = 64,
    norm: Literal["batch", "layer", "none"] | None = None,
    spectral: bool = False,
    initializer: Choice[INITIALIZERS] = SMALL_NORMAL,
) -> Pair:
    """Builds DCGAN (Radford, Metz and Chintala 2016, arXiv 1511.06434), with a depth that follows from the images' size.

    It has 3,576,704 and 2,765,568 parameters for codes of 100, images of 64x64x3 and a width of 64, as in PyTorch's examples.
    The paper's generator begins with 1024 channels, which is a width of 128.

    Args:
        width: channels at half of the images' size; doubled at each halving.
        norm: normalisation in the discriminator. If not given: batch; layer where the gradient at each image is penalised,
            which a norm over the batch would make depend on the others (Gulrajani et al. 2017, section 4); and no norm with
            spectral normalisation.
        spectral: whether to divide the discriminator's kernels by their largest singular values (Miyato et al. 2018, arXiv
            1802.05957).
        initializer: initialiser of all kernels.
    """
    if norm == "batch" and is_penalised:
        raise UsageError(
            "--norm=batch: the slope of the discriminator is penalised at each image, and a norm over the batch mixes them.\n"
            "Take --norm=layer or none, or leave it out."
        )
    fitting: Literal["batch", "layer", "none"] = "none" if spectral else "layer" if is_penalised else "batch"
    stages(image_shape)
    return DCGANGenerator(image_shape, width, initializer), DCGANDiscriminator(width, norm or fitting, spectral, initializer)
