"""Layers that several families share: convolution, transposed convolution, pooling, dropout and the output layer."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.errors import UsageError
from cnnlab.models.image_size import TooSmall
from cnnlab.models.norms import NORMS, Layer, batch_norm, needs_bias
from cnnlab.ops import collectives, draws, init, pooling
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.convolve import convolve, convolve_transpose
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.windows import Geometry, Padding, Pairs, ceil_padding, explicit_padding
from cnnlab.values import Choice


def _both(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


def _checked_pairs(module: nn.Module, x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Any:
    """Returns the padding as ((above, below), (left, right)); raises TooSmall where not one window fits."""
    size = (x.shape[1], x.shape[2])
    long = explicit_padding(padding, size, window, strides)
    if any(n + sum(pad) < w for n, pad, w in zip(size, long, window, strict=True)):
        needs = [max(w - sum(pad), 1) for pad, w in zip(long, window, strict=True)]
        raise TooSmall(f"layer {'/'.join(module.path)} needs at least {needs[0]}x{needs[1]} and gets {size[0]}x{size[1]}.")
    return long


class Dropout(nn.Module):
    """Drops units in training and scales the rest up (Srivastava et al. 2014), with noise that belongs to the example.

    The noise of an example depends on its index in the global batch, so it is the same on one device and on eight. It is
    drawn from the stream `dropout`.

    Attributes:
        rate: drop probability, not keep probability; may be a tracer.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Applies dropout to x [B, …] in training; returns x itself otherwise, and where the rate is the number 0."""
        if not train or (isinstance(self.rate, float | int) and self.rate == 0):
            return x
        keep = 1.0 - jnp.asarray(self.rate, jnp.float32)
        keys = collectives.example_keys(self.make_rng("dropout"), x.shape[0])  # [B]: one key for each example
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(keys)  # bool [B, …]
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


def spatial_dropout(x: jax.Array, rate: float | jax.Array, *, train: bool, name: str) -> jax.Array:
    """Drops whole maps of x [B, H, W, C] in training and scales the rest up (Tompson et al. 2015, arXiv 1411.4280, 3.2).

    Neighbouring positions of a map are alike, so that single ones that are dropped are not missed. To be called inside a
    compact module; where nothing is dropped there is no layer.

    Args:
        rate: drop probability of a map, not keep probability; may be a tracer.
        name: name of the layer.
    """
    if not train or (isinstance(rate, float | int) and rate == 0):
        return x
    ones = jnp.ones((x.shape[0], 1, 1, x.shape[-1]), x.dtype)  # one number for each map of each example
    return x * Dropout(rate, name=name)(ones, train=train)


def gaussian_noise(x: jax.Array, std: float | jax.Array, *, train: bool, name: str) -> jax.Array:
    """Adds Gaussian noise to activations x [B, …] in training; it belongs to the example, as that of `Dropout` does.

    To be called inside a compact module; where nothing is added there is no layer.

    Args:
        std: standard deviation of the noise; may be a tracer.
        name: name of the layer.
    """
    is_off = not train or (isinstance(std, float | int) and std == 0)
    return x if is_off else _GaussianNoise(std, name=name)(x)


class _GaussianNoise(nn.Module):
    """Adds Gaussian noise of a standard deviation `std`, drawn from the stream `dropout`."""

    std: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns x [B, …] with noise."""
        keys = collectives.example_keys(self.make_rng("dropout"), x.shape[0])  # [B]: one key for each example
        noise = jax.vmap(lambda key: draws.normal(key, x.shape[1:], x.dtype))(keys)
        return x + jnp.asarray(self.std, x.dtype) * noise


def _mean_pool(x: jax.Array) -> jax.Array:
    return pooling.average_pool(x, window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))


def _max_pool(x: jax.Array) -> jax.Array:
    return pooling.max_pool(x, window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))


def _blurred_max_pool(x: jax.Array) -> jax.Array:
    """Takes the largest of 2x2 at stride 1, and of that a weighted mean at stride 2 (MaxBlurPool of Zhang 2019)."""
    dense = pooling.max_pool(x, window=(2, 2), strides=(1, 1), padding=((0, 1), (0, 1)))
    return pooling.blur_pool(dense)


def _every_second(x: jax.Array) -> jax.Array:
    return x[:, : x.shape[1] // 2 * 2 : 2, : x.shape[2] // 2 * 2 : 2]


POOLS: dict[str, Layer] = {"average": _mean_pool, "max": _max_pool, "blur": _blurred_max_pool, "stride": _every_second}
"""Reduction by 2 in height and width by name, x [B, H, W, C] -> [B, ⌊H / 2⌋, ⌊W / 2⌋, C], without an odd last row or column.

`average` and `max` take windows of 2 × 2. `blur` takes the largest of 2 × 2 at every pixel and then, at every second one, the
mean by the weights (1, 2, 1) in both directions (Zhang 2019, arXiv 1904.11486). `stride` keeps every second pixel, as a
convolution of stride 2 does."""


def flatten(x: jax.Array) -> jax.Array:
    """Flattens all axes but the first: an image [B, H, W, C] becomes [B, H·W·C], channels fastest."""
    return x.reshape(x.shape[0], -1)  # [B, …] -> [B, product of the other axes]


class Conv(nn.Module):
    """The convolution of every model, with parameters `kernel` [h, w, C / groups, features] and `bias` [features].

    Attributes:
        features: number of output channels.
        kernel: side of the kernel, or (height, width).
        strides: stride in both directions, or (down, right).
        padding: number of zeros on each side, (rows, columns), ((above, below), (left, right)), "same" or "valid".
        dilation: distance between neighbouring taps of the kernel.
        groups: number of groups of channels that are convolved separately; with as many as input channels the convolution
            is depth-wise.
        bias: whether a bias is added.
        initializer: initialiser of the kernel; the bias starts at 0.
    """

    features: int
    kernel: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "same"
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features]."""
        height, width = _both(self.kernel)
        placed = self.geometry(x)
        kernel = self.param("kernel", self.initializer, (height, width, x.shape[-1] // self.groups, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        x = convolve(x, kernel, **vars(placed), groups=self.groups)
        return x if bias is None else x + bias.reshape(1, 1, 1, -1)  # [features] -> [1, 1, 1, features]

    @nn.nowrap
    def geometry(self, x: jax.Array) -> Geometry:
        """Returns where the windows lie on x [B, H, W, C]; raises TooSmall where not one fits."""
        height, width = _both(self.kernel)
        # Side of the region that a dilated kernel spans, holes included; padding and the check of the size refer to it.
        window = (self.dilation * (height - 1) + 1, self.dilation * (width - 1) + 1)
        long = _checked_pairs(self, x, window, _both(self.strides), self.padding)
        return Geometry(_both(self.strides), long, _both(self.dilation))


class ConvTranspose(nn.Module):
    """The transposed convolution that enlarges images in decoders; parameters `kernel` [h, w, C, features] and `bias`.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel, or (height, width).
        strides: factor by which the image grows, or (down, right).
        padding: "same" (the output has H · stride rows) or "valid", with the meaning and the parameters of Flax; or numbers
            as in `Conv`, with the meaning of torch: (H − 1) · stride + kernel rows less the padding on either side.
        output_padding: rows and columns that are added below and to the right, with a padding in numbers; as in torch.
        bias: whether a bias is added.
        initializer: initialiser of the kernel; the bias starts at 0.
    """

    features: int
    kernel: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "same"
    output_padding: int | tuple[int, int] = 0
    bias: bool = True
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features]."""
        sides, strides, cut = _both(self.kernel), _both(self.strides), self._cut()
        # The windows of all inputs cover (n − 1) · stride + kernel rows; `cut` is what padding takes off at either end.
        out = [(n - 1) * s + k - sum(c) for n, s, k, c in zip(x.shape[1:3], strides, sides, cut, strict=True)]
        if min(out) < 1:
            raise TooSmall(f"the padding of layer {'/'.join(self.path)} leaves nothing of {x.shape[1]}x{x.shape[2]}.")
        kernel = self.param("kernel", self.initializer, (*sides, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        x = convolve_transpose(x, kernel, strides=strides, padding=cut)
        return x if bias is None else x + bias.reshape(1, 1, 1, -1)  # [features] -> [1, 1, 1, features]

    def macs(self, output: tuple[int, ...]) -> int:
        """Counts multiply-accumulates for an output [B, H', W', features]: the whole kernel at every position of the input."""
        kernel = self.variables["params"]["kernel"]
        sides = zip(output[1:3], kernel.shape, _both(self.strides), self._cut(), strict=False)
        return math.prod((n + sum(cut) - k) // s + 1 for n, k, s, cut in sides) * math.prod(kernel.shape)

    def _cut(self) -> Pairs:
        """Rows and columns cut off on each side of the region that all windows cover; negative numbers are added."""
        kernel, strides, more = _both(self.kernel), _both(self.strides), _both(self.output_padding)
        if isinstance(self.padding, str):
            if more != (0, 0):
                raise UsageError("output_padding of a ConvTranspose goes with a padding in numbers, not 'same' or 'valid'.")
            cuts = {"same": _cut_same, "valid": _cut_valid}[self.padding]
            return cuts(kernel[0], strides[0]), cuts(kernel[1], strides[1])
        (above, below), (left, right) = explicit_padding(self.padding, (1, 1), kernel, strides)
        return (above, below - more[0]), (left, right - more[1])


def _cut_same(kernel: int, stride: int) -> tuple[int, int]:
    """(rows before, rows after) to cut for "same". As in Flax an odd row is cut below, unless the windows leave gaps."""
    before = min(kernel - 1, -(-(kernel + stride - 2) // 2))
    return kernel - 1 - before, before + 1 - stride


def _cut_valid(kernel: int, stride: int) -> tuple[int, int]:
    """(rows before, rows after) to cut for "valid": a stride above the kernel's side adds rows below."""
    return 0, min(kernel - stride, 0)


class ConvNorm(nn.Module):
    """A convolution (`conv`), its normalisation (`norm`) and an activation.

    Attributes:
        features, kernel, strides, padding, groups: as in `Conv`.
        norm: normalisation after the convolution.
        activation: activation after the norm; `identity` for none.
        initializer: initialiser of the kernel.
        bias: whether the convolution has a bias; none: only without a norm, which has its own.
    """

    features: int
    kernel: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "same"
    groups: int = 1
    norm: Choice[NORMS] = batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he
    bias: bool | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features]."""
        x = Conv(
            self.features,
            self.kernel,
            self.strides,
            self.padding,
            groups=self.groups,
            bias=needs_bias(self.norm) if self.bias is None else self.bias,
            initializer=self.initializer,
            name="conv",
        )(x)
        return self.activation(self.norm(train=train, name="norm")(x))


class MaxPool(nn.Module):
    """Takes the largest value of each window; padding counts as −∞.

    Attributes:
        window: side, or (height, width).
        strides: distance between windows; none: the window's side.
        padding: as in `Conv`.
        ceil: whether an incomplete last window is pooled too.
    """

    window: int | tuple[int, int]
    strides: int | tuple[int, int] | None = None
    padding: Padding = 0
    ceil: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', C]."""
        window, strides, long = pool_geometry(self, x)
        return pooling.max_pool(x, window=window, strides=strides, padding=long)


class AveragePool(nn.Module):
    """Takes the mean of each window.

    Attributes:
        window: side, or (height, width).
        strides: distance between windows; none: the window's side.
        padding: as in `Conv`.
        ceil: whether an incomplete last window is pooled too.
        count_padding: whether padding enters the mean as zeros; rows and columns that `ceil` adds never do.
    """

    window: int | tuple[int, int]
    strides: int | tuple[int, int] | None = None
    padding: Padding = 0
    ceil: bool = False
    count_padding: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', C]."""
        window, strides, long = pool_geometry(self, x)
        counted = explicit_padding(self.padding, (x.shape[1], x.shape[2]), window, strides) if self.count_padding else None
        return pooling.average_pool(x, window=window, strides=strides, padding=long, counted=counted)


def pool_geometry(module: MaxPool | AveragePool, x: jax.Array) -> tuple[tuple[int, int], tuple[int, int], Any]:
    """Returns (window, strides, ((above, below), (left, right)) of padding) of a pooling module for x [B, H, W, C]."""
    window = _both(module.window)
    strides = _both(module.strides or module.window)
    long = _checked_pairs(module, x, window, strides, module.padding)
    return window, strides, ceil_padding((x.shape[1], x.shape[2]), window, strides, long) if module.ceil else long


def output_layer(features: jax.Array, classes: int, initializer: Callable[..., jax.Array]) -> jax.Array:
    """Maps features [B, F] to logits [B, classes] by a dense layer named `output`; returns the features for 0 classes."""
    return nn.Dense(classes, kernel_init=initializer, name=OUTPUT)(features) if classes else features


def scaled(channels: int, width: float, *, divisor: int = 1) -> int:
    """Number of channels times the width factor, rounded to a multiple of `divisor` and at least `divisor`."""
    return max(divisor, round(channels * width / divisor) * divisor)
