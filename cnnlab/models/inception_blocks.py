"""What all inception modules are made of: branches side by side, concatenated by channel (arXiv 1409.4842, figure 2)."""

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
    """A convolution of a branch; its norm and activation are the network's."""

    features: int
    """Channels that come out, before the network's width factor."""
    kernel: int | tuple[int, int] = 1
    """Side of the kernel, or (height, width)."""
    strides: int = 1
    padding: Padding = "same"


@dataclasses.dataclass(frozen=True)
class Fork:
    """Convolutions of 1x3 and 3x1 side by side, concatenated (Szegedy et al. 2015, arXiv 1512.00567, figure 7)."""

    features: int
    """Channels of each, before the network's width factor."""


Pool = Callable[..., nn.Module]
"""Makes a pooling layer: `Pool(name=…)`."""
Step = Convolution | Fork | Pool
Steps = tuple[Step, ...]
"""A branch, from its input to its end."""

MAX_POOL: Pool = functools.partial(MaxPool, 3, 1, 1)
AVERAGE_POOL: Pool = functools.partial(AveragePool, 3, 1, 1)
IMAGE_AVERAGE_POOL: Pool = functools.partial(AveragePool, 3, 1, 1, count_padding=False)
"""At the border the mean of the neighbours that exist."""
SHRINKING_POOL: Pool = functools.partial(MaxPool, 3, 2)


def shrinking(features: int) -> Convolution:
    """A 3x3 convolution that halves the image and does not pad it."""
    return Convolution(features, 3, strides=2, padding=0)


def factorized(*features: int, size: int = 7, vertical: bool = False) -> Steps:
    """Convolutions of 1 x size and size x 1 in turn (Szegedy et al. 2015, arXiv 1512.00567, figure 3).

    Args:
        features: channels of each.
        size: the longer side of the kernels.
        vertical: begin with size x 1.
    """
    kernels = ((1, size), (size, 1))
    return tuple(Convolution(each, kernels[(place + vertical) % 2]) for place, each in enumerate(features))


class Branch(nn.Module):
    """One branch: `conv1`, `conv2`, … and `pool` in their order, and a fork's `conv1x3` and `conv3x1`.

    Attributes:
        steps: from the input to the end.
        convolution: makes a convolution with its norm and activation of (features, kernel, strides, padding).
        width: factor on all channels.
    """

    steps: Steps
    convolution: Callable[..., nn.Module]
    width: Positive = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x [B, H, W, C] -> [B, H', W', features of the last step]."""
        number = 0
        for step in self.steps:
            if isinstance(step, Convolution):
                number += 1
                x = self._convolve(step, f"conv{number}", x, train)
            elif isinstance(step, Fork):
                wide, high = Convolution(step.features, (1, 3)), Convolution(step.features, (3, 1))
                sides = [self._convolve(wide, "conv1x3", x, train), self._convolve(high, "conv3x1", x, train)]
                x = jnp.concatenate(sides, axis=-1)
            else:
                x = step(name="pool")(x)
        return x

    def _convolve(self, step: Convolution, name: str, x: jax.Array, train: bool) -> jax.Array:
        features = scaled(step.features, self.width)
        return self.convolution(features, step.kernel, step.strides, step.padding, name=name)(x, train=train)


def side_by_side(x: jax.Array, branches: tuple[Steps, ...], *, train: bool, **knobs: Any) -> jax.Array:
    """What branches named branch1, branch2, … of the calling module make of x, concatenated: [B, H', W', C']."""
    ends = [Branch(steps, name=f"branch{number}", **knobs)(x, train=train) for number, steps in enumerate(branches, start=1)]
    return jnp.concatenate(ends, axis=-1)


class Mixed(nn.Module):
    """Branches side by side (`branch1`, `branch2`, …) over one input, concatenated by channel.

    Attributes:
        branches: the steps of each.
        convolution, width: as of `Branch`.
    """

    branches: tuple[Steps, ...]
    convolution: Callable[..., nn.Module]
    width: Positive = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """x [B, H, W, C] -> [B, H', W', C']."""
        return side_by_side(x, self.branches, train=train, convolution=self.convolution, width=self.width)
