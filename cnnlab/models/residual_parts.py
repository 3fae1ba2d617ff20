"""Parts that the residual families share: shortcuts, squeeze-and-excitation, stochastic depth and a start at zero."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models import layers
from cnnlab.models.layers import Dropout
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice, Count

Convolutions = tuple[tuple[int, int, int], ...]
"""(channels that come out, side of the kernel, groups) of each convolution of a block."""

SQUEEZE = 16
"""Reduction ratio of squeeze-and-excitation, r of Hu et al. 2018, arXiv 1709.01507."""

REFERENCE_WIDTH = 64
"""`group_width` at which a block without groups is as wide as its stage."""


def block_convolutions(block: str, channels: int, groups: int = 1, group_width: int = REFERENCE_WIDTH) -> Convolutions:
    """The convolutions of one block of a stage of `channels`.

    A bottleneck narrows to the stage's channels and widens fourfold (He et al. 2015, Figure 5). With `groups` of
    `group_width` · channels / 64 channels each its middle is a ResNeXt's (Xie et al. 2017, arXiv 1611.05431, Figure 3c); with
    one group of twice 64 that of Wide ResNet-50-2. In a basic block groups amount to a wider, dense block (there, Figure 4).
    """
    inner = max(1, int(channels * group_width / REFERENCE_WIDTH)) * groups
    if block == "basic":
        return (inner, 3, 1), (channels, 3, 1)
    return (inner, 1, 1), (inner, 3, groups), (4 * channels, 1, 1)


def projects(shortcut: str, x: jax.Array, features: int, strides: int) -> bool:
    """Whether the shortcut around a block that makes `features` channels of x [B, H, W, C] is a 1x1 convolution.

    He et al. 2015, section 4.1: never in option A, where the shape changes in B, always in C.
    """
    return shortcut == "C" or (shortcut == "B" and (strides, features) != (1, x.shape[-1]))


def padded_identity(x: jax.Array, features: int, strides: int) -> jax.Array:
    """Every `strides`-th row and column of x [B, H, W, C], with zeros for the new channels: [B, H', W', features].

    The shortcut without parameters of He et al. 2015, option A.
    """
    if strides > 1:
        x = x[:, ::strides, ::strides]
    if features > x.shape[-1]:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))
    return x


def squeezed(channels: int, divisor: int = 1) -> int:
    """Hidden units of a squeeze-and-excitation of so many channels: C / 16, rounded to a multiple of `divisor`."""
    return layers.scaled(channels, 1 / SQUEEZE, divisor=divisor)


class SqueezeExcitation(nn.Module):
    """Weighs the channels by what all of space says (Hu et al. 2018, arXiv 1709.01507, section 3).

    Attributes:
        hidden: units of the layer between.
        activation: of those; the weights themselves are sigmoids.
        initializer: of the kernels; biases start at 0.
    """

    hidden: Count
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> the same shape."""
        weights = nn.Dense(self.hidden, kernel_init=self.initializer, name="squeeze")(jnp.mean(x, axis=(1, 2)))
        weights = nn.Dense(x.shape[-1], kernel_init=self.initializer, name="excite")(self.activation(weights))
        return x * jax.nn.sigmoid(weights)[:, None, None, :]


def drop_path(x: jax.Array, rate: float | jax.Array, *, train: bool) -> jax.Array:
    """Drops the whole branch x [B, H, W, C] of an example and scales the rest up (Huang et al. 2016, arXiv 1603.09382).

    Deviation: the paper scales the branch down outside training instead, by the same factor. Within a compact module.

    Args:
        rate: drop probability, not keep; may be a tracer.
    """
    if not train:
        return x
    return x * Dropout(rate, name="drop_path")(jnp.ones((x.shape[0], 1, 1, 1), x.dtype), train=train)


def zero_scale(module: nn.Module, name: str) -> None:
    """Lets the scale of `module`'s norm `name`, which has just been called, start at 0; after the start it does nothing.

    The call that makes the parameters has used the scale 1 already, so what that one call returns does not show it.
    """
    if module.is_initializing():
        made: dict[str, jax.Array] = module.get_variable("params", name)
        module.put_variable("params", name, {**made, "scale": jnp.zeros_like(made["scale"])})
