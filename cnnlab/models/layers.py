"""Blocks that several families share: convolution, normalisation, pooling, dropout and the check of an image's size."""

import contextvars
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.errors import UsageError
from cnnlab.ops import collectives, init, pooling
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.convolve import convolve, convolve_transpose
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.windows import Padding, Pairs, ceil_padding, explicit_padding
from cnnlab.values import Choice, Count, Fraction, Positive

Layer = Callable[[jax.Array], jax.Array]

OUTPUT = "output"
"""What models call their last layer, which gives the logits."""


class TooSmall(UsageError):
    """Space ran out at a layer; `sized` adds the smallest image that works."""


def _both(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


def _checked_pairs(module: nn.Module, x: jax.Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Any:
    """The padding in its long form; TooSmall where not one window fits."""
    size = (x.shape[1], x.shape[2])
    long = explicit_padding(padding, size, window, strides)
    if any(n + sum(pad) < w for n, pad, w in zip(size, long, window, strict=True)):
        needs = [max(w - sum(pad), 1) for pad, w in zip(long, window, strict=True)]
        raise TooSmall(f"layer {'/'.join(module.path)} needs at least {needs[0]}x{needs[1]} and gets {size[0]}x{size[1]}.")
    return long


class Dropout(nn.Module):
    """Drops units in training and scales the rest up (Srivastava et al. 2014), with noise that belongs to the example.

    The noise of an example depends on its place in the global batch, so it is the same on one device and on eight. Draws
    from the stream `dropout`.

    Attributes:
        rate: drop probability, not keep; may be a tracer.
    """

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x [B, …] -> the same shape; x itself outside training or where the rate is the number 0."""
        if not train or (isinstance(self.rate, float | int) and self.rate == 0):
            return x
        keep = 1.0 - jnp.asarray(self.rate, jnp.float32)
        keys = collectives.example_keys(self.make_rng("dropout"), x.shape[0])
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x.shape[1:]))(keys)
        return jnp.where(kept, x / keep.astype(x.dtype), jnp.zeros((), x.dtype))


class BatchNorm(nn.Module):
    """Batch normalisation over the global batch, on however many devices (Ioffe and Szegedy 2015, arXiv 1502.03167).

    The numbers and the leaves of Flax's. Scale and shift are folded into one multiply-add, γ/σ · x + (β − μ γ/σ), so that
    nothing as large as x is kept for the gradient but x (64 channels of 32x32, batch 64, one core: 38 ms become 18).

    Attributes:
        momentum: how much of the running statistics is kept each step.
        epsilon: added to the variance.
    """

    momentum: Fraction = 0.9
    epsilon: Positive = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x [B, …, C] -> the same shape; outside training by the running statistics."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean_seen = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        variance_seen = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        if train:
            axes, axis = tuple(range(x.ndim - 1)), collectives.bound_axis()
            mean, square = jnp.mean(wide, axes), jnp.mean(wide * wide, axes)
            if axis is not None and not self.is_initializing():
                mean, square = jax.lax.pmean((mean, square), axis)
            variance = jnp.maximum(square - mean * mean, 0)  # rounding may leave it below
            if not self.is_initializing():
                for seen, now in ((mean_seen, mean), (variance_seen, variance)):
                    seen.value = (self.momentum * seen.value + (1 - self.momentum) * now).astype(seen.value.dtype)
        else:
            mean, variance = (seen.value.astype(wide.dtype) for seen in (mean_seen, variance_seen))
        factor = scale.astype(wide.dtype) * jax.lax.rsqrt(variance + self.epsilon)
        shift = bias.astype(wide.dtype) - mean * factor
        across = (1,) * (x.ndim - 1) + channels
        return (wide * factor.reshape(across) + shift.reshape(across)).astype(x.dtype)


def batch_norm(*, train: bool, name: str, momentum: Fraction = 0.9, epsilon: Positive = 1e-5) -> Layer:
    """`BatchNorm` as one of the NORMS.

    Args:
        momentum: how much of the running statistics is kept each step.
        epsilon: added to the variance.
    """
    norm = BatchNorm(momentum, epsilon, name=name)
    return lambda x: norm(x, train=train)


def layer_norm(*, train: bool, name: str, epsilon: Positive = 1e-5) -> Layer:
    """Layer normalisation over all units of an example, scaled by channel (Ba et al. 2016, arXiv 1607.06450).

    Args:
        epsilon: added to the variance.
    """
    return _mixed(lambda x: nn.LayerNorm(epsilon=epsilon, reduction_axes=tuple(range(1, x.ndim)), name=name)(x))


def group_norm(*, train: bool, name: str, groups: Count = 8, epsilon: Positive = 1e-5) -> Layer:
    """Group normalisation over space and a group of channels (Wu and He 2018, arXiv 1803.08494).

    Args:
        groups: how many groups; of C channels the greatest common divisor with C.
        epsilon: added to the variance.
    """
    return _mixed(lambda x: nn.GroupNorm(num_groups=math.gcd(groups, x.shape[-1]), epsilon=epsilon, name=name)(x))


def instance_norm(*, train: bool, name: str, epsilon: Positive = 1e-5) -> Layer:
    """Instance normalisation over space, channel by channel (Ulyanov et al. 2016, arXiv 1607.08022); images only.

    Args:
        epsilon: added to the variance.
    """

    def normalise(x: jax.Array) -> jax.Array:
        if x.ndim < 3:
            raise UsageError(f"instance norm averages over space and {name} has none. Take norm=layer, batch or none there.")
        return nn.InstanceNorm(epsilon=epsilon, name=name)(x)

    return _mixed(normalise)


def no_norm(*, train: bool, name: str) -> Layer:
    """No normalisation."""
    return lambda x: x


def _mixed(normalise: Layer) -> Layer:
    """Lets flax compute the statistics of bf16 activations in f32 and return bf16, under strict promotion too."""

    def apply(x: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):
            return normalise(x)

    return apply


NORMS: dict[str, Callable[..., Layer]] = {
    "batch": batch_norm,
    "layer": layer_norm,
    "group": group_norm,
    "instance": instance_norm,
    "none": no_norm,
}
"""`norm(train=…, name=…)` is a layer, called within a compact module; `batch` has statistics in `batch_stats`."""


def needs_bias(norm: Callable[..., Layer]) -> bool:
    """Whether the layer before `norm` wants a bias of its own: a normalisation brings one, and takes the former's away."""
    return norm is no_norm


def _mean_pool(x: jax.Array) -> jax.Array:
    return pooling.average_pool(x, window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))


def _max_pool(x: jax.Array) -> jax.Array:
    return pooling.max_pool(x, window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))


POOLS: dict[str, Layer] = {"average": _mean_pool, "max": _max_pool}
"""2 × 2 pooling with stride 2, x [B, H, W, C] -> [B, H/2, W/2, C]; an odd last row or column is left out."""


def require_size(x: jax.Array, size: int, *, layer: str, smallest: int, image: tuple[int, ...]) -> None:
    """UsageError where x [B, H, W, C] is smaller than the `size` that `layer` needs; `image` is the network's [B, H, W, C]."""
    height, width = x.shape[1:3]
    if min(height, width) < size:
        raise UsageError(
            f"the image of {image[1]}x{image[2]} is too small: {layer} needs {size}x{size} and gets {height}x{width}.\n"
            f"The smallest image for this network is {smallest}x{smallest}. Enlarge the images, or take another model."
        )


def flatten(x: jax.Array) -> jax.Array:
    """[B, …] -> [B, everything else]."""
    return x.reshape(x.shape[0], -1)


class Conv(nn.Module):
    """Convolution, through which every model convolves; parameters `kernel` [h, w, C / groups, features] and `bias`.

    Attributes:
        features: channels that come out.
        kernel: side of the kernel, or (height, width).
        strides: in both directions, or (down, right).
        padding: number of zeros on each side, (rows, columns), ((above, below), (left, right)), "same" or "valid".
        dilation: distance between the kernel's taps.
        groups: of channels that do not see one another; as many as channels come in: depth-wise.
        bias: whether one is added.
        initializer: of the kernel; the bias starts at 0.
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
        """x [B, H, W, C] -> [B, H', W', features]."""
        height, width = _both(self.kernel)
        window = (self.dilation * (height - 1) + 1, self.dilation * (width - 1) + 1)
        long = _checked_pairs(self, x, window, _both(self.strides), self.padding)
        kernel = self.param("kernel", self.initializer, (height, width, x.shape[-1] // self.groups, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        x = convolve(x, kernel, strides=_both(self.strides), padding=long, dilation=_both(self.dilation), groups=self.groups)
        return x if bias is None else x + bias.reshape(1, 1, 1, -1)


class ConvTranspose(nn.Module):
    """Transposed convolution: what decoders grow images by; parameters `kernel` [h, w, C, features] and `bias`, as in Flax.

    Attributes:
        features: channels that come out.
        kernel: side of the kernel, or (height, width).
        strides: how many times the image grows, or (down, right).
        padding: "same" (H · stride rows come out) or "valid" as in Flax, whose parameters fit; or as of `Conv` and then with
            torch's meaning: (H − 1) · stride + kernel rows less the padding on either side.
        output_padding: rows and columns more, below and right, with a padding in numbers; torch's.
        bias: whether one is added.
        initializer: of the kernel; the bias starts at 0.
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
        """x [B, H, W, C] -> [B, H', W', features]."""
        sides, strides, cut = _both(self.kernel), _both(self.strides), self._cut()
        out = [(n - 1) * s + k - sum(c) for n, s, k, c in zip(x.shape[1:3], strides, sides, cut, strict=True)]
        if min(out) < 1:
            raise TooSmall(f"layer {'/'.join(self.path)} cuts all of {x.shape[1]}x{x.shape[2]} away.")
        kernel = self.param("kernel", self.initializer, (*sides, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.bias else None
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias)
        x = convolve_transpose(x, kernel, strides=strides, padding=cut)
        return x if bias is None else x + bias.reshape(1, 1, 1, -1)

    def macs(self, output: tuple[int, ...]) -> int:
        """Multiply-accumulates for an output [B, H', W', features]: the whole kernel at every position of the input."""
        kernel = self.variables["params"]["kernel"]
        sides = zip(output[1:3], kernel.shape, _both(self.strides), self._cut(), strict=False)
        return math.prod((n + sum(cut) - k) // s + 1 for n, k, s, cut in sides) * math.prod(kernel.shape)

    def _cut(self) -> Pairs:
        """How much is taken off on each side of what all windows cover; negative: added."""
        kernel, strides, more = _both(self.kernel), _both(self.strides), _both(self.output_padding)
        if isinstance(self.padding, str):
            if more != (0, 0):
                raise UsageError("output_padding of a ConvTranspose goes with a padding in numbers, not 'same' or 'valid'.")
            cuts = {"same": _cut_same, "valid": _cut_valid}[self.padding]
            return cuts(kernel[0], strides[0]), cuts(kernel[1], strides[1])
        (above, below), (left, right) = explicit_padding(self.padding, (1, 1), kernel, strides)
        return (above, below - more[0]), (left, right - more[1])


def _cut_same(kernel: int, stride: int) -> tuple[int, int]:
    """Flax's choice where an odd row is to be cut: below, unless the windows leave gaps."""
    before = min(kernel - 1, -(-(kernel + stride - 2) // 2))
    return kernel - 1 - before, before + 1 - stride


def _cut_valid(kernel: int, stride: int) -> tuple[int, int]:
    return 0, min(kernel - stride, 0)


class ConvNorm(nn.Module):
    """A convolution (`conv`), its normalisation (`norm`) and the activation: what modern families repeat.

    Attributes:
        features, kernel, strides, padding, groups: of the convolution.
        norm: after the convolution, which has a bias only where there is none.
        activation: last; `identity` for none.
        initializer: of the kernel.
    """

    features: int
    kernel: int | tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "same"
    groups: int = 1
    norm: Choice[NORMS] = batch_norm
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x [B, H, W, C] -> [B, H', W', features]."""
        x = Conv(
            self.features,
            self.kernel,
            self.strides,
            self.padding,
            groups=self.groups,
            bias=needs_bias(self.norm),
            initializer=self.initializer,
            name="conv",
        )(x)
        return self.activation(self.norm(train=train, name="norm")(x))


class MaxPool(nn.Module):
    """Largest value of each window; padding never wins.

    Attributes:
        window: side, or (height, width).
        strides: distance between windows; none: the window's side.
        padding: as of `Conv`.
        ceil: whether an incomplete last window counts.
    """

    window: int | tuple[int, int]
    strides: int | tuple[int, int] | None = None
    padding: Padding = 0
    ceil: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> [B, H', W', C]."""
        window, strides, long = _pool_geometry(self, x)
        return pooling.max_pool(x, window=window, strides=strides, padding=long)


class AveragePool(nn.Module):
    """Mean of each window.

    Attributes:
        window: side, or (height, width).
        strides: distance between windows; none: the window's side.
        padding: as of `Conv`.
        ceil: whether an incomplete last window counts.
        count_padding: whether padding takes part in the mean, as zeros; what `ceil` adds never does.
    """

    window: int | tuple[int, int]
    strides: int | tuple[int, int] | None = None
    padding: Padding = 0
    ceil: bool = False
    count_padding: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> [B, H', W', C]."""
        window, strides, long = _pool_geometry(self, x)
        counted = explicit_padding(self.padding, (x.shape[1], x.shape[2]), window, strides) if self.count_padding else None
        return pooling.average_pool(x, window=window, strides=strides, padding=long, counted=counted)


def _pool_geometry(module: MaxPool | AveragePool, x: jax.Array) -> tuple[tuple[int, int], tuple[int, int], Any]:
    """(window, strides, padding in its long form) of a pooling module for x."""
    window = _both(module.window)
    strides = _both(module.strides or module.window)
    long = _checked_pairs(module, x, window, strides, module.padding)
    return window, strides, ceil_padding((x.shape[1], x.shape[2]), window, strides, long) if module.ceil else long


def output_layer(features: jax.Array, classes: int, initializer: Callable[..., jax.Array]) -> jax.Array:
    """Logits [B, classes] of features [B, F] by a dense layer named `output`; the features themselves for no classes."""
    return nn.Dense(classes, kernel_init=initializer, name=OUTPUT)(features) if classes else features


def scaled(channels: int, width: float, *, divisor: int = 1) -> int:
    """Channels times the width factor, rounded to a multiple of `divisor` and at least that."""
    return max(divisor, round(channels * width / divisor) * divisor)


_searching: contextvars.ContextVar[bool] = contextvars.ContextVar("searching", default=False)

LARGEST = 1024
"""Side of the largest image that the search for the smallest one tries."""


def checks_image_size(call: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a model's `__call__` (below nn.compact): where space runs out, the error names the smallest image."""

    @functools.wraps(call)
    def checked(self: nn.Module, images: jax.Array, *, train: bool) -> Any:
        try:
            return call(self, images, train=train)
        except TooSmall as error:
            if _searching.get():
                raise
            smallest = smallest_image(self, images.shape[-1])
            raise UsageError(
                f"the image of {images.shape[1]}x{images.shape[2]} is too small: {error}\n"
                f"The smallest image for this network is {smallest}x{smallest}. Enlarge the images (--image_size), or take "
                "another model."
            ) from None

    return checked


def smallest_image(model: nn.Module, channels: int) -> int:
    """Side of the smallest square image that a model takes, by bisection over shapes; nothing is computed."""
    fresh = model.clone(parent=None)

    def fits(side: int) -> bool:
        images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
        try:
            jax.eval_shape(functools.partial(fresh.init, train=False), jax.eval_shape(lambda: jax.random.key(0)), images)
        except TooSmall:
            return False
        return True

    token = _searching.set(True)
    try:
        low, high = 0, 1
        while not fits(high) and high < LARGEST:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high
    finally:
        _searching.reset(token)
