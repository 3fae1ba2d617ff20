"""Dense autoencoders of any depth (Hinton and Salakhutdinov 2006, Science 313), linear and convolutional ones.

Each is called as `model(images f32 [B, H, W, C], train=…) -> (outputs [B, H, W, C], intermediates)` and has the methods
`encode(images, train=…) -> codes [B, Z]` and `decode(codes, train=…) -> outputs`. The last layer has no activation: the loss
defines how outputs are interpreted (ops/reconstruction_losses.py).
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
    """An encoder and a decoder: the methods that all autoencoders share."""

    def encode(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps images f32 [B, H, W, C] to codes [B, Z]."""
        return self.encoder(images)

    def decode(self, codes: jax.Array, *, train: bool) -> jax.Array:
        """Maps codes [B, Z] to outputs [B, H, W, C]."""
        return self.decoder(codes)

    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs [B, H, W, C], {"code": [B, Z]})."""
        codes = self.encode(images, train=train)
        return self.decode(codes, train=train), {"code": codes}


class MLPAutoencoder(_Halves):
    """A dense encoder and its mirror image as decoder; 784-1000-500-250-30 has 2,837,314 parameters.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: units of the encoder's hidden layers, from the image to the code; none: the code is the only layer.
        code: units of the code.
        activation: applied after every hidden layer.
        code_activation: applied to the code; identity gives a linear code.
        initializer: initialiser of the kernels; biases start at 0.
        tied: whether the decoder's kernels are the transposed kernels of the encoder; its biases are its own.
    """

    image_shape: Shape
    widths: tuple[int, ...] = (1000, 500, 250)
    code: Count = 30
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    code_activation: Choice[ACTIVATIONS] = identity
    initializer: Choice[INITIALIZERS] = init.he
    tied: bool = False

    def setup(self) -> None:
        """Makes the encoder and the decoder."""
        sizes = (math.prod(self.image_shape), *self.widths)
        self.encoder = DenseEncoder((*self.widths, self.code), self.activation, self.code_activation, self.initializer)
        self.decoder = DenseDecoder(self.image_shape, sizes[::-1], self.activation, self.initializer, self.tied)

    def decode(self, codes: jax.Array, *, train: bool) -> jax.Array:
        """Maps codes [B, Z] to outputs [B, H, W, C]."""
        # The decoder goes through the encoder's layers backwards.
        names = [f"dense{number}" for number in range(len(self.widths) + 1, 0, -1)] if self.tied else []
        return self.decoder(codes, [self.encoder.variables["params"][name]["kernel"] for name in names])


class DenseEncoder(nn.Module):
    """Dense layers dense1, dense2, … from the image to the code, which is the last layer.

    Attributes:
        widths: units of every layer.
        activation: applied after all layers but the last.
        code_activation: applied after the last layer.
        initializer: initialiser of the kernels.
    """

    widths: tuple[int, ...]
    activation: Activation
    code_activation: Activation
    initializer: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [B, …] to codes [B, Z]."""
        x = flatten(images)
        for number, width in enumerate(self.widths, start=1):
            activation = self.code_activation if number == len(self.widths) else self.activation
            x = activation(nn.Dense(width, kernel_init=self.initializer, name=f"dense{number}")(x))
        return x


class DenseDecoder(nn.Module):
    """Dense layers dense1, dense2, … from the code to the image.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: units of every layer; those of the last are the pixels.
        activation: applied after all layers but the last.
        initializer: initialiser of the kernels.
        tied: whether the kernels are given in the call instead of being parameters.
    """

    image_shape: Shape
    widths: tuple[int, ...]
    activation: Activation
    initializer: Callable[..., jax.Array]
    tied: bool

    @nn.compact
    def __call__(self, codes: jax.Array, kernels: list[jax.Array]) -> jax.Array:
        """Maps codes [B, Z] to outputs [B, H, W, C]; kernels: if tied, the encoder's [I, O], its last layer first."""
        x = codes
        for number, width in enumerate(self.widths, start=1):
            name = f"dense{number}"
            if self.tied:
                x = Transposed(width, name=name)(x, kernels[number - 1])
            else:
                x = nn.Dense(width, kernel_init=self.initializer, name=name)(x)
            x = self.activation(x) if number < len(self.widths) else x
        return x.reshape(-1, *self.image_shape)  # [B, H·W·C] -> [B, H, W, C]


class Transposed(nn.Module):
    """A dense layer with the transposed kernel of another layer and a bias of its own.

    Attributes:
        features: number of units.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Maps x [B, I], kernel [features, I] to [B, features]."""
        # [B, I] @ [I, features] + [1, features]
        return x @ kernel.T + self.param("bias", nn.initializers.zeros, (self.features,))[None].astype(x.dtype)


def linear_autoencoder(
    *, image_shape: Shape, code: Count = 30, initializer: Choice[INITIALIZERS] = init.lecun, tied: bool = False
) -> MLPAutoencoder:
    """Builds one linear layer to the code and one back; the optimum spans the subspace of PCA (Baldi and Hornik 1989).

    Args:
        image_shape: (H, W, C) of the images.
        code: units of the code.
        initializer: initialiser of the kernels; biases start at 0.
        tied: whether the decoder's kernel is the transposed kernel of the encoder.
    """
    return MLPAutoencoder(image_shape, widths=(), code=code, initializer=initializer, tied=tied)


class ConvAutoencoder(_Halves):
    """3x3 convolutions that halve the image, a dense code, and transposed convolutions back to the image.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: channels of the encoder's convolutions, each of which halves the image.
        code: units of the code.
        activation: applied after every hidden layer.
        code_activation: applied to the code; identity gives a linear code.
        initializer: initialiser of the kernels; biases start at 0.
    """

    image_shape: Shape
    widths: tuple[int, ...] = (32, 64)
    code: Count = 64
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    code_activation: Choice[ACTIVATIONS] = identity
    initializer: Choice[INITIALIZERS] = init.he

    def setup(self) -> None:
        """Makes the encoder and the decoder."""
        self.encoder = ConvEncoder(self.widths, self.code, self.activation, self.code_activation, self.initializer)
        self.decoder = ConvDecoder(self.image_shape, self.widths, self.activation, self.initializer)


class ConvEncoder(nn.Module):
    """Convolutions conv1, conv2, … of stride 2, then the dense layer `code`.

    Attributes:
        widths: channels.
        code: units of the code.
        activation: applied after every convolution.
        code_activation: applied to the code.
        initializer: initialiser of the kernels.
    """

    widths: tuple[int, ...]
    code: int
    activation: Activation
    code_activation: Activation
    initializer: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [B, H, W, C] to codes [B, Z]."""
        x = images
        for number, width in enumerate(self.widths, start=1):
            x = self.activation(Conv(width, 3, 2, 1, initializer=self.initializer, name=f"conv{number}")(x))
        # [B, h, w, c] -> [B, h·w·c] -> [B, Z]
        return self.code_activation(nn.Dense(self.code, kernel_init=self.initializer, name="code")(flatten(x)))


class ConvDecoder(nn.Module):
    """The dense layer `spread`, then transposed convolutions grow1, grow2, … of stride 2 to the image.

    Attributes:
        image_shape: (H, W, C) of the images.
        widths: channels of the encoder's convolutions.
        activation: applied after every layer but the last.
        initializer: initialiser of the kernels.
    """

    image_shape: Shape
    widths: tuple[int, ...]
    activation: Activation
    initializer: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, codes: jax.Array) -> jax.Array:
        """Maps codes [B, Z] to outputs [B, H, W, C]."""
        # The sizes that the encoder passed through, from the image down: a convolution of stride 2 leaves half, rounded up.
        sizes = [self.image_shape[:2]]
        for _ in self.widths:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        channels = (self.image_shape[2], *self.widths)
        smallest = (*sizes[-1], channels[-1])
        x = nn.Dense(math.prod(smallest), kernel_init=self.initializer, name="spread")(codes)
        x = self.activation(x).reshape(-1, *smallest)  # [B, h·w·c] -> [B, h, w, c]
        for number, depth in enumerate(reversed(range(len(self.widths))), start=1):
            (height, width), (above, beside) = sizes[depth], sizes[depth + 1]
            more = (height - (2 * above - 1), width - (2 * beside - 1))  # an even side needs one row more than an odd one
            grown = ConvTranspose(
                channels[depth], 3, 2, 1, output_padding=more, initializer=self.initializer, name=f"grow{number}"
            )
            x = grown(x)
            x = self.activation(x) if depth else x
        return x
