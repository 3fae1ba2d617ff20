"""LeNet-5 as published in 1998, as in today's tutorials, and as in Caffe, the form that papers on compression use.

Three networks go by this name: 60,000 parameters (`lenet5_1998`), 61,706 (`lenet5`) and 431,080 (`lenet5_20_50_500`).
LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition, section II.B.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError
from cnnlab.models import layers, norms
from cnnlab.models.image_size import require_size
from cnnlab.models.layers import POOLS, Dropout, flatten, gaussian_noise, spatial_dropout
from cnnlab.models.norms import NORMS
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS, scaled_tanh
from cnnlab.ops.convolve import convolve
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Fraction, NonNegative

TABLE_I = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""The maps of S2 that each of the 16 maps of C3 is connected to (LeCun et al. 1998, Table I)."""


_DRAWINGS = """
..###.. ...##.. .#####. .#####. ##...## ####### ..####. ####### .#####. .#####.
.##.##. ..###.. ##...## ##...## ##...## ####### .##..#. ####### ##...## ##...##
##...## .####.. ##...## .....## ##...## ##..... ##..... ##...## ##...## ##...##
##...## ...##.. .....## .....## ##...## ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## ##...## ##..... ##..... ....##. ##...## ##...##
##...## ...##.. ....##. ..####. ##...## ######. ######. ....##. .#####. .######
##...## ...##.. ...##.. ..####. ####### .....## ##...## ...##.. .#####. .....##
##...## ...##.. ..##... .....## .###### .....## ##...## ...##.. ##...## .....##
##...## ...##.. .##.... .....## .....## .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## .....## ##...## ##...## ..##... ##...## .#...##
.##.##. ..####. ####### ##...## .....## ##...## .##.##. .##.... ##...## .#..##.
..###.. ..####. ####### .#####. .....## .#####. ..###.. .##.... .#####. ..####.
"""
"""The ten digits, drawn side by side on 7 x 12 pixels: the targets of F6 (LeCun et al. 1998, figure 3).

Deviation: drawn by hand after the figure, not copied pixel by pixel; ink is +1 and paper −1, as in the paper.
"""


def _codes() -> np.ndarray:
    """Reads the drawings: f32 [10, 84]."""
    rows = [line.split() for line in _DRAWINGS.split("\n") if line]
    digits = ["".join(row[digit] for row in rows) for digit in range(10)]  # 12 rows of 10 pieces -> 10 strings of 84
    return np.array([[1.0 if pixel == "#" else -1.0 for pixel in digit] for digit in digits], np.float32)


DIGIT_CODES = _codes()
"""f32 [10, 84]: the code of each digit, ±1 by pixel, row by row."""


class SparseConv(nn.Module):
    """A convolution in which each output map is connected to some of the input maps; only those kernels exist.

    Attributes:
        connections: for each output map the input maps that it is connected to.
        size: side of the kernels.
        initializer: initialiser of the kernels of one output map, so that fan-in counts its own inputs only.
    """

    connections: tuple[tuple[int, ...], ...]
    size: int
    initializer: Choice[INITIALIZERS]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x f32 [B, H, W, C] to [B, H − size + 1, W − size + 1, maps]."""
        kernel = self.param("kernel", self._connected_kernels)
        bias = self.param("bias", nn.initializers.zeros, (len(self.connections),))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        # One convolution with a dense kernel that is zero where there is no connection: a gather of input maps for each
        # output map would be 16 small convolutions.
        inputs = np.concatenate(self.connections)  # [N], the input map of each kernel
        outputs = np.repeat(np.arange(len(self.connections)), [len(maps) for maps in self.connections])
        full = jnp.zeros((self.size, self.size, x.shape[-1], len(self.connections)), kernel.dtype)
        full = full.at[:, :, inputs, outputs].set(jnp.moveaxis(kernel, 0, -1))  # [N, h, w] -> [h, w, N] -> [h, w, C, maps]
        return convolve(x, full) + bias.reshape(1, 1, 1, -1)  # [maps] -> [1, 1, 1, maps]

    def _connected_kernels(self, key: jax.Array) -> jax.Array:
        """Draws the kernels of all connections: f32 [N, size, size], output map by output map."""
        kernels = [
            self.initializer(jax.random.fold_in(key, number), (self.size, self.size, len(maps), 1))[..., 0]
            for number, maps in enumerate(self.connections)
        ]
        return jnp.moveaxis(jnp.concatenate(kernels, axis=-1), -1, 0)  # each [h, w, n] -> [h, w, N] -> [N, h, w]

    def macs(self, output: tuple[int, ...]) -> int:
        """Counts multiply-accumulates for an output [B, H, W, maps]: those of the connected kernels alone."""
        return int(np.prod(output[:-1])) * self.size**2 * sum(map(len, self.connections))


class SubSampling(nn.Module):
    """Sums 2 x 2 neighbours, multiplies by a coefficient of each map and adds its bias (LeCun et al. 1998, S2 and S4)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x f32 [B, H, W, C] to [B, H/2, W/2, C]."""
        # Deviation: the paper does not say how these start; here each map starts as the mean of its four inputs.
        coefficient = self.param("coefficient", nn.initializers.constant(0.25), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        x, coefficient, bias = nn.dtypes.promote_dtype(x, coefficient, bias)
        # [C] -> [1, 1, 1, C], for the coefficients and for the biases
        return 4.0 * POOLS["average"](x) * coefficient.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)


class RadialBasis(nn.Module):
    """Scores each class by minus the squared distance to its fixed code (LeCun et al. 1998, eq. 7): the nearest wins."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, 84] to f32 [B, 10]."""
        difference = x.astype(jnp.float32)[:, None] - jnp.asarray(DIGIT_CODES)[None]  # [B, 1, 84] − [1, 10, 84] -> [B, 10, 84]
        return -jnp.sum(difference**2, axis=-1)


def frame_digits(images: jax.Array) -> jax.Array:
    """Enlarges images f32 [B, 28, 28, C] to 32x32 by repeating their border (the background); returns others unchanged."""
    if images.shape[1:3] != (28, 28):
        return images
    return jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")


class LeNet51998(nn.Module):
    """LeNet-5 as published: trainable sub-sampling, sparse C3, radial-basis output; 60,000 parameters on 32x32x1.

    Attributes:
        classes: number of classes; the radial-basis output needs ten.
        activation: activation after every layer up to F6, sub-sampling included.
        initializer: initialiser of the kernels; biases start at 0.
        sub_sampling: trainable (coefficient and bias for each map, then the activation), average or max.
        connections: the maps of S2 that each map of C3 is connected to: those of Table I, or all.
        output: rbf (distance to the drawn code of each digit) or softmax (a dense layer).
    """

    classes: int
    activation: Choice[ACTIVATIONS] = scaled_tanh
    initializer: Choice[INITIALIZERS] = init.lecun_1998
    sub_sampling: Literal["trainable", "average", "max"] = "trainable"
    connections: Literal["table", "full"] = "table"
    output: Literal["rbf", "softmax"] = "rbf"

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, 28 or 32, 28 or 32, C] to (logits f32 [B, K], every layer by its name in the paper)."""
        if self.output == "rbf" and self.classes != len(DIGIT_CODES):
            raise UsageError(
                f"the rbf output of lenet5_1998 has codes for the ten digits, and there are {self.classes} classes.\n"
                "Take --model.output=softmax."
            )
        x = frame_digits(images)
        if x.shape[1:3] != (32, 32):
            require_size(x, 32, layer="layer c5 (5x5 on what c1, s2, c3 and s4 leave)", smallest=28, image=images.shape)
            raise UsageError(f"lenet5_1998 takes images of 28x28 or 32x32, not {x.shape[1]}x{x.shape[2]}. Take --model=lenet5.")
        # The sub-sampling of the paper is a layer of its own (its maps pass the activation again); average and max only pool.
        intermediates = {}
        intermediates["c1"] = x = self.activation(self._convolution(6, "c1")(x))
        intermediates["s2"] = x = self._shrink(x, "s2")
        sparse = self.connections == "table"
        c3 = SparseConv(TABLE_I, 5, self.initializer, name="c3") if sparse else self._convolution(16, "c3")
        intermediates["c3"] = x = self.activation(c3(x))
        intermediates["s4"] = x = self._shrink(x, "s4")
        intermediates["c5"] = x = self.activation(self._convolution(120, "c5")(x))
        intermediates["f6"] = x = self.activation(nn.Dense(84, kernel_init=self.initializer, name="f6")(flatten(x)))
        dense = functools.partial(nn.Dense, self.classes, kernel_init=self.initializer)
        output = RadialBasis(name="output") if self.output == "rbf" else dense(name="output")
        intermediates["output"] = x = output(x)
        return x, intermediates

    def _convolution(self, maps: int, name: str) -> layers.Conv:
        return layers.Conv(maps, 5, padding="valid", initializer=self.initializer, name=name)

    def _shrink(self, x: jax.Array, name: str) -> jax.Array:
        if self.sub_sampling == "trainable":
            return self.activation(SubSampling(name=name)(x))
        return POOLS[self.sub_sampling](x)


class LeNet5(nn.Module):
    """LeNet-5 as usually re-implemented: dense C3, plain pooling, dense output; 61,706 parameters on 28x28x1 and 32x32x1.

    Attributes:
        classes: number of classes.
        activation: applied after every layer but the last.
        pool: pooling over 2x2 with stride 2.
        norm: normalisation before each activation.
        dropout: drop probability after each of the two hidden dense layers.
        spatial_dropout: drop probability of whole maps after each pooling.
        activation_noise: standard deviation of Gaussian noise on the activations of the four hidden layers, in training.
        initializer: initialiser of the kernels; biases start at 0.
    """

    classes: int
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    pool: Choice[POOLS] = POOLS["max"]
    norm: Choice[NORMS] = norms.no_norm
    dropout: Fraction = 0.0
    spatial_dropout: Fraction = 0.0
    activation_noise: NonNegative = 0.0
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C], at least 16x16, 28x28 framed to 32x32 to (logits f32 [B, K], every layer by name)."""
        x, intermediates = frame_digits(images), {}
        plain = norms.needs_bias(self.norm)
        for number, maps in enumerate((6, 16), start=1):
            name = f"conv{number}"
            require_size(x, 6, layer=f"layer {name} (5x5, pooled by 2)", smallest=16, image=images.shape)
            x = layers.Conv(maps, 5, padding="valid", bias=plain, initializer=self.initializer, name=name)(x)
            intermediates[name] = x = self.activation(self.norm(train=train, name=f"norm{number}")(x))
            x = gaussian_noise(x, self.activation_noise, train=train, name=f"noise{number}")
            intermediates[f"pool{number}"] = x = self.pool(x)
            x = spatial_dropout(x, self.spatial_dropout, train=train, name=f"spatial_dropout{number}")
        x = flatten(x)
        for number, width in enumerate((120, 84), start=1):
            name = f"dense{number}"
            x = nn.Dense(width, use_bias=plain, kernel_init=self.initializer, name=name)(x)
            intermediates[name] = x = self.activation(self.norm(train=train, name=f"norm{number + 2}")(x))
            x = gaussian_noise(x, self.activation_noise, train=train, name=f"noise{number + 2}")
            x = Dropout(self.dropout, name=f"dropout{number}")(x, train=train)
        intermediates["output"] = x = nn.Dense(self.classes, kernel_init=self.initializer, name="output")(x)
        return x, intermediates


class LeNet5Caffe(nn.Module):
    """LeNet-5 as in Caffe and Deep Compression: 20 and 50 maps, 500 units; 431,080 parameters on 28x28x1.

    Max-pooling is the only non-linearity before the dense layers (BVLC/caffe, examples/mnist/lenet.prototxt).

    Attributes:
        classes: number of classes.
        activation: activation after the hidden dense layer.
        pool: pooling over 2x2 with stride 2.
        dropout: drop probability after the hidden dense layer.
        initializer: initialiser of the kernels; biases start at 0. Caffe's "xavier" is uniform of variance 1 / fan-in.
    """

    classes: int
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    pool: Choice[POOLS] = POOLS["max"]
    dropout: Fraction = 0.0
    initializer: Choice[INITIALIZERS] = functools.partial(init.lecun, distribution="uniform")

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C], at least 16x16 to (logits f32 [B, K], every layer by name)."""
        x, intermediates = images, {}
        for number, maps in enumerate((20, 50), start=1):
            name = f"conv{number}"
            require_size(x, 6, layer=f"layer {name} (5x5, pooled by 2)", smallest=16, image=images.shape)
            intermediates[name] = x = layers.Conv(maps, 5, padding="valid", initializer=self.initializer, name=name)(x)
            intermediates[f"pool{number}"] = x = self.pool(x)
        x = nn.Dense(500, kernel_init=self.initializer, name="dense1")(flatten(x))
        intermediates["dense1"] = x = self.activation(x)
        x = Dropout(self.dropout, name="dropout1")(x, train=train)
        intermediates["output"] = x = nn.Dense(self.classes, kernel_init=self.initializer, name="output")(x)
        return x, intermediates
