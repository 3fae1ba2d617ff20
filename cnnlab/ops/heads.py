"""The head of a detector, by which its outputs become losses and boxes, and the objects of an image that it is told.

Letters in shapes: K classes of objects (without a background), M places for objects, N rows of outputs, P numbers of a row,
T terms of the loss.
"""

from typing import Any, NamedTuple, Protocol

import jax


class Objects(NamedTuple):
    """The objects of one image, a column of kind `Boxes`."""

    corners: jax.Array
    """f32 [M, 4], (x1, y1, x2, y2) in pixels."""
    label: jax.Array
    """i32 [M] in [0, K)."""
    valid: jax.Array
    """bool [M]: the places that hold an object."""


class Head(Protocol):
    """What the outputs of a detector mean, at one size of images."""

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the T terms of the loss, which are added."""
        ...

    def losses(self, outputs: Any, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Returns (the terms of an image, weighted and summed over its rows: f32 [T]; what they are divided by).

        The divisor is one number f32 [], or one for each term f32 [T]. The loss of a batch is the sum of all terms, each summed
        over the images and divided by the sum of its divisors, which is taken as 1 where it is less.

        Args:
            outputs: f32 [N, P]; of a network that is told the objects, what it then returns for an image.
            objects: of the image.
        """
        ...

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (corners f32 [N', 4] or [N', K, 4], scores f32 [N', K] in [0, 1]) of outputs f32 [N, P]."""
        ...
