"""Blocks that several families share: dropout, normalisation, pooling and the check that an image is large enough."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.errors import UsageError
from cnnlab.ops import collectives
from cnnlab.values import Count, Fraction, Positive

Layer = Callable[[jax.Array], jax.Array]


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


def batch(*, train: bool, name: str, momentum: Fraction = 0.9, epsilon: Positive = 1e-5) -> Layer:
    """Batch normalisation over the global batch, on however many devices (Ioffe and Szegedy 2015, arXiv 1502.03167).

    Args:
        momentum: how much of the running statistics is kept each step.
        epsilon: added to the variance.
    """
    return _mixed(
        nn.BatchNorm(
            use_running_average=not train, momentum=momentum, epsilon=epsilon, axis_name=collectives.bound_axis(), name=name
        )
    )


def layer(*, train: bool, name: str, epsilon: Positive = 1e-5) -> Layer:
    """Layer normalisation over all units of an example, scaled by channel (Ba et al. 2016, arXiv 1607.06450).

    Args:
        epsilon: added to the variance.
    """
    return _mixed(lambda x: nn.LayerNorm(epsilon=epsilon, reduction_axes=tuple(range(1, x.ndim)), name=name)(x))


def group(*, train: bool, name: str, groups: Count = 8, epsilon: Positive = 1e-5) -> Layer:
    """Group normalisation over space and a group of channels (Wu and He 2018, arXiv 1803.08494).

    Args:
        groups: how many groups; of C channels the greatest common divisor with C.
        epsilon: added to the variance.
    """
    return _mixed(lambda x: nn.GroupNorm(num_groups=math.gcd(groups, x.shape[-1]), epsilon=epsilon, name=name)(x))


def instance(*, train: bool, name: str, epsilon: Positive = 1e-5) -> Layer:
    """Instance normalisation over space, channel by channel (Ulyanov et al. 2016, arXiv 1607.08022); images only.

    Args:
        epsilon: added to the variance.
    """

    def normalise(x: jax.Array) -> jax.Array:
        if x.ndim < 3:
            raise UsageError(f"instance norm averages over space and {name} has none. Take norm=layer, batch or none there.")
        return nn.InstanceNorm(epsilon=epsilon, name=name)(x)

    return _mixed(normalise)


def none(*, train: bool, name: str) -> Layer:
    """No normalisation."""
    return lambda x: x


def _mixed(normalise: Layer) -> Layer:
    """Lets flax compute the statistics of bf16 activations in f32 and return bf16, under strict promotion too."""

    def apply(x: jax.Array) -> jax.Array:
        with jax.numpy_dtype_promotion("standard"):
            return normalise(x)

    return apply


NORMS: dict[str, Callable[..., Layer]] = {"batch": batch, "layer": layer, "group": group, "instance": instance, "none": none}
"""`norm(train=…, name=…)` is a layer, called within a compact module; `batch` has statistics in `batch_stats`."""


def needs_bias(norm: Callable[..., Layer]) -> bool:
    """Whether the layer before `norm` wants a bias of its own: a normalisation brings one, and takes the former's away."""
    return norm is none


def _mean_pool(x: jax.Array) -> jax.Array:
    return nn.pooling.pool(x, 0.0, jax.lax.add, (2, 2), (2, 2), "VALID") / 4.0  # nn.avg_pool divides by an integer


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (2, 2), (2, 2))


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
