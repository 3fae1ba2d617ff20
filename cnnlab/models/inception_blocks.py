"""The parts of all inception modules: parallel branches, concatenated by channel (arXiv 1409.4842, figure 2)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.models.layers import AveragePool, MaxPool, scaled
from cnnlab.ops.windows import Padding
from cnnlab.values import Positive


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of a branch; its norm and activation are those of the network."""

    features: int
    """Number of output channels, before the network's width factor."""
    kernel: int | tuple[int, int] = 1
    """Side of the kernel, or (height, width)."""
    strides: int = 1
    padding: Padding = "same"


@dataclasses.dataclass(frozen=True)
class Fork:
    """Parallel convolutions of 1x3 and 3x1, concatenated (Szegedy et al. 2015, arXiv 1512.00567, figure 7)."""

    features: int
    """Number of output channels of each, before the network's width factor."""


Pool = Callable[..., nn.Module]
"""A function that makes a pooling layer: `pool(name=…)`."""
Step = Convolution | Fork | Pool
Steps = tuple[Step, ...]
"""The steps of a branch, from its input to its output."""

MAX_POOL: Pool = functools.partial(MaxPool, 3, 1, 1)
AVERAGE_POOL: Pool = functools.partial(AveragePool, 3, 1, 1)
IMAGE_AVERAGE_POOL: Pool = functools.partial(AveragePool, 3, 1, 1, count_padding=False)
"""Average pooling that takes the mean of existing pixels only, at the border too."""
SHRINKING_POOL: Pool = functools.partial(MaxPool, 3, 2)


def shrinking(features: int) -> Convolution:
    """Returns a 3x3 convolution that halves the image and does not pad it."""
    return Convolution(features, 3, strides=2, padding=0)


def factorized(*features: int, size: int = 7, vertical: bool = False) -> Steps:
    """Returns convolutions of 1 x size and size x 1 in turn (Szegedy et al. 2015, arXiv 1512.00567, figure 3).

    Args:
        features: number of output channels of each.
        size: longer side of the kernels.
        vertical: whether the first one is size x 1.
    """
    kernels = ((1, size), (size, 1))
    return tuple(Convolution(each, kernels[(place + vertical) % 2]) for place, each in enumerate(features))


class Branch(nn.Module):
    """One branch: `conv1`, `conv2`, … and `pool` in their order, and a fork's `conv1x3` and `conv3x1`.

    Attributes:
        steps: steps from the input to the output.
        convolution: makes a convolution with its norm and activation from (features, kernel, strides, padding).
        width: factor on all channels.
    """

    steps: Steps
    convolution: Callable[..., nn.Module]
    width: Positive = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', features of the last step]."""
        # Only convolutions are numbered, so that a pooling in front does not shift the names of parameters.
        number = 0
        for step in self.steps:
            if isinstance(step, Convolution):
                number += 1
                x = self._convolve(step, f"conv{number}", x, train)
            elif isinstance(step, Fork):
                wide, high = Convolution(step.features, (1, 3)), Convolution(step.features, (3, 1))
                sides = [self._convolve(wide, "conv1x3", x, train), self._convolve(high, "conv3x1", x, train)]
                x = jnp.concatenate(sides, axis=-1)  # 2 x [B, H, W, features] -> [B, H, W, 2 · features]
            else:
                x = step(name="pool")(x)
        return x

    def _convolve(self, step: Convolution, name: str, x: jax.Array, train: bool) -> jax.Array:
        features = scaled(step.features, self.width)
        return self.convolution(features, step.kernel, step.strides, step.padding, name=name)(x, train=train)


def side_by_side(x: jax.Array, branches: tuple[Steps, ...], *, train: bool, **knobs: Any) -> jax.Array:
    """Applies parallel branches branch1, branch2, … inside the calling module to x and concatenates: [B, H', W', C']."""
    ends = [Branch(steps, name=f"branch{number}", **knobs)(x, train=train) for number, steps in enumerate(branches, start=1)]
    return jnp.concatenate(ends, axis=-1)  # [B, H', W', C_n] of each branch n -> [B, H', W', sum of C_n]


class Mixed(nn.Module):
    """Parallel branches (`branch1`, `branch2`, …) on one input, concatenated by channel.

    Attributes:
        branches: steps of each branch.
        convolution, width: as in `Branch`.
    """

    branches: tuple[Steps, ...]
    convolution: Callable[..., nn.Module]
    width: Positive = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps x [B, H, W, C] to [B, H', W', C']."""
        return side_by_side(x, self.branches, train=train, convolution=self.convolution, width=self.width)
