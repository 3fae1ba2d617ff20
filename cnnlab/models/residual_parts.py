"""The parts that the residual families share: shortcuts, squeeze-and-excitation, stochastic depth, zero initialisation."""

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
"""(output channels, side of the kernel, groups) of each convolution of a block."""

SQUEEZE = 16
"""Reduction ratio of squeeze-and-excitation, r of Hu et al. 2018, arXiv 1709.01507."""

REFERENCE_WIDTH = 64
"""The `group_width` with which a block without groups has the channels of its stage."""


def block_convolutions(block: str, channels: int, groups: int = 1, group_width: int = REFERENCE_WIDTH) -> Convolutions:
    """Returns the convolutions of a block in a stage of `channels`.

    A bottleneck narrows to the stage's channels and widens fourfold (He et al. 2015, Figure 5). With `groups` of
    `group_width` · channels / 64 channels each it is the block of ResNeXt (Xie et al. 2017, arXiv 1611.05431, Figure 3c); with
    one group of width 128, that of Wide ResNet-50-2. In a basic block, groups amount to a wider dense block (Figure 4 there).
    """
    inner = max(1, int(channels * group_width / REFERENCE_WIDTH)) * groups
    if block == "basic":
        return (inner, 3, 1), (channels, 3, 1)
    return (inner, 1, 1), (inner, 3, groups), (4 * channels, 1, 1)


def projects(shortcut: str, x: jax.Array, features: int, strides: int) -> bool:
    """Whether the shortcut from x [B, H, W, C] to `features` channels is a 1x1 convolution.

    It never is with option A, always with C, and with B where the shape changes (He et al. 2015, section 4.1).
    """
    return shortcut == "C" or (shortcut == "B" and (strides, features) != (1, x.shape[-1]))


def padded_identity(x: jax.Array, features: int, strides: int) -> jax.Array:
    """Takes every `strides`-th row and column of x [B, H, W, C] and appends channels of zeros: [B, H', W', features].

    This is the shortcut without parameters, option A of He et al. 2015.
    """
    if strides > 1:
        x = x[:, ::strides, ::strides]
    if features > x.shape[-1]:
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, features - x.shape[-1])))
    return x


def squeezed(channels: int, divisor: int = 1) -> int:
    """Returns the hidden units of squeeze-and-excitation for `channels`: a 16th, rounded to a multiple of `divisor`."""
    return layers.scaled(channels, 1 / SQUEEZE, divisor=divisor)


class SqueezeExcitation(nn.Module):
    """Scales each channel by a weight computed from the means of all channels (Hu et al. 2018, arXiv 1709.01507, section 3).

    Attributes:
        hidden: units of the hidden layer.
        activation: applied to the hidden layer; the weights themselves are sigmoids.
        initializer: initialiser of the kernels; biases start at 0.
    """

    hidden: Count
    activation: Choice[ACTIVATIONS] = jax.nn.relu
    initializer: Choice[INITIALIZERS] = init.he

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x [B, H, W, C] to the same shape."""
        # [B, H, W, C] -> [B, C] -> [B, hidden] -> [B, C]
        weights = nn.Dense(self.hidden, kernel_init=self.initializer, name="squeeze")(jnp.mean(x, axis=(1, 2)))
        weights = nn.Dense(x.shape[-1], kernel_init=self.initializer, name="excite")(self.activation(weights))
        return x * jax.nn.sigmoid(weights)[:, None, None, :]  # [B, C] -> [B, 1, 1, C]


def drop_path(x: jax.Array, rate: float | jax.Array, *, train: bool) -> jax.Array:
    """Drops the whole branch x [B, H, W, C] of an example and scales the rest up (Huang et al. 2016, arXiv 1603.09382).

    To be called inside a compact module. Deviation: the paper instead scales the branch down by the same factor outside
    training.

    Args:
        rate: drop probability, not keep probability; may be a tracer.
    """
    if not train:
        return x
    # One number for each example, [B, 1, 1, 1]: dropout makes it 0 or 1 / (1 − rate).
    return x * Dropout(rate, name="drop_path")(jnp.ones((x.shape[0], 1, 1, 1), x.dtype), train=train)


def zero_scale(module: nn.Module, name: str) -> None:
    """Initialises the scale of `module`'s norm `name`, which has just been called, with 0; later calls change nothing.

    The call that creates the parameters has already used a scale of 1, so the output of that one call does not reflect it.
    """
    if module.is_initializing():
        made: dict[str, jax.Array] = module.get_variable("params", name)
        module.put_variable("params", name, {**made, "scale": jnp.zeros_like(made["scale"])})
