"""Hints: a first stage in which a layer of the student learns to have the activations of a layer of its teacher.

Romero, Ballas, Kahou, Chassang, Gatta and Bengio 2015, FitNets: hints for thin deep nets, arXiv 1412.6550, section 2.2 and
Algorithm 1. Letters in shapes: B batch, H W positions, C channels of the student's layer, D of the teacher's.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from cnnlab.core import Array
from cnnlab.errors import UsageError
from cnnlab.values import Duration

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Hints:
    """A layer of the student that is guided, and the one of the teacher that guides it."""

    layer: str
    """Name of an intermediate that the student returns: a layer after its activation."""
    teacher_layer: str
    """Name of one that the teacher returns."""
    length: Duration
    """Length of the first stage, before the one with soft targets."""


def no_hints() -> None:
    """There is no first stage: the student learns from soft targets and labels alone."""


def fitnets(*, layer: str = "features", teacher_layer: str = "features", length: Duration = Duration(5, "epochs")) -> Hints:
    """In a first stage a layer of the student learns what a layer of the teacher has (Romero et al. 2015).

    Args:
        layer: layer of the student, one of those that it returns, such as stage2: all up to it are trained in this stage.
        teacher_layer: layer of the teacher, one of those that it returns.
        length: length of the stage.
    """
    return Hints(layer, teacher_layer, length)


HINTS = {"none": no_hints, "fitnets": fitnets}
"""What the student learns before the soft targets."""


class Regressor(nn.Module):
    """A dense layer on the channels, which on maps is a convolution of 1x1.

    Deviation: the paper's regressor has a larger kernel, without padding, since its maps may differ in size; ours are of one
    size, for which 1x1 has the fewest weights.

    Attributes:
        features: D.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x [B, C] or [B, H, W, C] to [B, D] or [B, H, W, D]."""
        return nn.Dense(self.features, name="output")(x)


def hint_losses(guided: Array, hint: Array) -> Array:
    """Returns half the mean squared difference of two layers [B, …] of one shape, f32 [B] (equation 3).

    Deviation: a mean over units where the paper has a sum, so that the learning rate need not follow the size of the layer.
    """
    difference = guided.astype(jnp.float32) - hint.astype(jnp.float32)
    return 0.5 * jnp.mean(jnp.square(difference), axis=tuple(range(1, difference.ndim)))


def regressor_for(hints: Hints, ours: Shape, theirs: Shape) -> Regressor | None:
    """Returns the regressor between the two layers; None where they have as many channels and need none.

    Args:
        hints: the layers.
        ours: shape of the student's without the batch axis.
        theirs: that of the teacher's.

    Raises UsageError where they differ in more than their channels.
    """
    if ours[:-1] != theirs[:-1]:
        raise UsageError(
            f"--hints.layer={hints.layer} of the student has the shape {shown(ours)} and --hints.teacher_layer="
            f"{hints.teacher_layer} of the teacher {shown(theirs)}.\n"
            "Expected layers that differ in channels at most, the last number. Name two of one height and width."
        )
    return None if ours[-1] == theirs[-1] else Regressor(theirs[-1])


def shown(shape: Shape) -> str:
    """Returns `14x14x32`, or `64` of a vector."""
    return "x".join(map(str, shape))
