"""M17: autoencoders: dense of any depth (Hinton and Salakhutdinov 2006, Science 313), linear, and convolutional.

Every one: `model(images f32 [B, H, W, C], train=…) -> (outputs [B, H, W, C], intermediates)`, with the methods
`encode(images, train=…) -> codes [B, Z]` and `decode(codes, train=…) -> outputs`. Outputs go through no last activation: the
loss says how they become a reconstruction (ops/reconstruction_losses.py).
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax

from cnnlab.models.layers import Conv, ConvTranspose, flatten
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, identity
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count

Activation = Callable[[jax.Array], jax.Array]
Shape = tuple[int, int, int]


class _Halves(nn.Module):
    """An encoder and a decoder; what both kinds share."""

    def encode(self, images: jax.Array, *, train: bool) -> jax.Array:
        """images f32 [B, H, W, C] -> codes [B, Z]."""
        return self.encoder(images)

    def decode(self, codes: jax.Array, *, train: bool) -> jax.Array:
        """codes [B, Z] -> outputs [B, H, W, C]."""
        return self.decoder(codes)

    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """images f32 [B, H, W, C] -> (outputs [B, H, W, C], {"code": [B, Z]})."""
        codes = self.encode(images, train=train)
        return self.decode(codes, train=train), {"code": codes}


class MLPAutoencoder(_Halves):
    """Dense encoder and its mirror image as decoder; 784-1000-500-250-30 has 2,837,314 parameters.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: units of the encoder's hidden layers, from the image on; none: the code is the only layer.
        code: units of the code.
        activation: after every hidden layer.
        code_activation: of the code; identity: a linear code.
        initializer: of the kernels; biases start at 0.
        tied: the decoder's kernels are the encoder's, transposed; its biases are its own.
    """

    image_shape: Shape
    widths: tuple[int, ...] = (1000, 500, 250)
    code: Count = 30
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    code_activation: Choice[ACTIVATIONS] = identity
    initializer: Choice[INITIALIZERS] = init.he
    tied: bool = False

    def setup(self) -> None:
        """The two halves."""
        sizes = (math.prod(self.image_shape), *self.widths)
        self.encoder = DenseEncoder((*self.widths, self.code), self.activation, self.code_activation, self.initializer)
        self.decoder = DenseDecoder(self.image_shape, sizes[::-1], self.activation, self.initializer, self.tied)

    def decode(self, codes: jax.Array, *, train: bool) -> jax.Array:
        """codes [B, Z] -> outputs [B, H, W, C]."""
        names = [f"dense{number}" for number in range(len(self.widths) + 1, 0, -1)] if self.tied else []
        return self.decoder(codes, [self.encoder.variables["params"][name]["kernel"] for name in names])


class DenseEncoder(nn.Module):
    """Dense layers dense1, dense2, … down to the code, the last of them.

    Attributes:
        widths: units of every layer.
        activation: of all but the last.
        code_activation: of the last.
        initializer: of the kernels.
    """

    widths: tuple[int, ...]
    activation: Activation
    code_activation: Activation
    initializer: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """[B, …] -> codes [B, Z]."""
        x = flatten(images)
        for number, width in enumerate(self.widths, start=1):
            activation = self.code_activation if number == len(self.widths) else self.activation
            x = activation(nn.Dense(width, kernel_init=self.initializer, name=f"dense{number}")(x))
        return x


class DenseDecoder(nn.Module):
    """Dense layers dense1, dense2, … from the code to the image.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: units of every layer, the last of which is the image.
        activation: of all but the last.
        initializer: of the kernels.
        tied: whether the kernels come from elsewhere.
    """

    image_shape: Shape
    widths: tuple[int, ...]
    activation: Activation
    initializer: Callable[..., jax.Array]
    tied: bool

    @nn.compact
    def __call__(self, codes: jax.Array, kernels: list[jax.Array]) -> jax.Array:
        """codes [B, Z], where tied the encoder's kernels [O, I] from its last layer on -> outputs [B, H, W, C]."""
        x = codes
        for number, width in enumerate(self.widths, start=1):
            name = f"dense{number}"
            if self.tied:
                x = Transposed(width, name=name)(x, kernels[number - 1])
            else:
                x = nn.Dense(width, kernel_init=self.initializer, name=name)(x)
            x = self.activation(x) if number < len(self.widths) else x
        return x.reshape(-1, *self.image_shape)


class Transposed(nn.Module):
    """A dense layer by the transpose of another's kernel, with a bias of its own.

    Attributes:
        features: units.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """x [B, I], kernel [features, I] -> [B, features]."""
        return x @ kernel.T + self.param("bias", nn.initializers.zeros, (self.features,))[None].astype(x.dtype)


def linear_autoencoder(
    *, image_shape: Shape, code: Count = 30, initializer: Choice[INITIALIZERS] = init.lecun, tied: bool = False
) -> MLPAutoencoder:
    """One linear layer to the code and one back, whose best is the subspace of PCA (Baldi and Hornik 1989).

    Args:
        image_shape: (H, W, C) of the images.
        code: units of the code.
        initializer: of the kernels; biases start at 0.
        tied: the decoder's kernel is the encoder's, transposed.
    """
    return MLPAutoencoder(image_shape, widths=(), code=code, initializer=initializer, tied=tied)


class ConvAutoencoder(_Halves):
    """3x3 convolutions that halve the image, a dense code, and transposed convolutions back.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: channels of the encoder's convolutions; each halves the image.
        code: units of the code.
        activation: after every hidden layer.
        code_activation: of the code; identity: a linear code.
        initializer: of the kernels; biases start at 0.
    """

    image_shape: Shape
    widths: tuple[int, ...] = (32, 64)
    code: Count = 64
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    code_activation: Choice[ACTIVATIONS] = identity
    initializer: Choice[INITIALIZERS] = init.he

    def setup(self) -> None:
        """The two halves."""
        self.encoder = ConvEncoder(self.widths, self.code, self.activation, self.code_activation, self.initializer)
        self.decoder = ConvDecoder(self.image_shape, self.widths, self.activation, self.initializer)


class ConvEncoder(nn.Module):
    """Convolutions conv1, conv2, … of stride 2, then the dense layer `code`.

    Attributes:
        widths: channels.
        code: units of the code.
        activation: after every convolution.
        code_activation: of the code.
        initializer: of the kernels.
    """

    widths: tuple[int, ...]
    code: int
    activation: Activation
    code_activation: Activation
    initializer: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """images [B, H, W, C] -> codes [B, Z]."""
        x = images
        for number, width in enumerate(self.widths, start=1):
            x = self.activation(Conv(width, 3, 2, 1, initializer=self.initializer, name=f"conv{number}")(x))
        return self.code_activation(nn.Dense(self.code, kernel_init=self.initializer, name="code")(flatten(x)))


class ConvDecoder(nn.Module):
    """The dense layer `spread`, then transposed convolutions grow1, grow2, … of stride 2 to the image.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: channels of the encoder's convolutions.
        activation: after every layer but the last.
        initializer: of the kernels.
    """

    image_shape: Shape
    widths: tuple[int, ...]
    activation: Activation
    initializer: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        """codes [B, Z] -> outputs [B, H, W, C]."""
        sizes = [self.image_shape[:2]]
        for _ in self.widths:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        channels = (self.image_shape[2], *self.widths)
        smallest = (*sizes[-1], channels[-1])
        x = nn.Dense(math.prod(smallest), kernel_init=self.initializer, name="spread")(codes)
        x = self.activation(x).reshape(-1, *smallest)
        for number, depth in enumerate(reversed(range(len(self.widths))), start=1):
            (height, width), (above, beside) = sizes[depth], sizes[depth + 1]
            more = (height - (2 * above - 1), width - (2 * beside - 1))  # an even side needs a row more than an odd one
            grown = ConvTranspose(
                channels[depth], 3, 2, 1, output_padding=more, initializer=self.initializer, name=f"grow{number}"
            )
            x = grown(x)
            x = self.activation(x) if depth else x
        return x
