"""The head of a detector, by which its outputs become losses and boxes, and the objects of an image that it is told.

Letters in shapes: K classes of objects (without a background), M places for objects, N rows of outputs, P numbers of a row,
T terms of the loss, H W space.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from cnnlab.ops import boxes, matching

MOST_COVERED = 0.5
"""Share of an anchor inside of a crowd above which it is no background."""


class Objects(NamedTuple):
    """The objects of one image, a column of kind `Boxes`."""

    corners: jax.Array
    """f32 [M, 4], (x1, y1, x2, y2) in pixels."""
    label: jax.Array
    """i32 [M] in [0, K)."""
    valid: jax.Array
    """bool [M]: the places that hold an object that is to be found."""
    ignored: jax.Array | None = None
    """bool [M]: the places that hold a crowd, on which a detection is neither right nor wrong; None: there are none."""
    masks: jax.Array | None = None
    """u8 [M, H, W] of 0 and 1, the pixels of each object, for a network that learns masks; None: it learns none."""


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


class InstanceHead(Head, Protocol):
    """The head of a detector whose outputs are detections, with a mask each."""

    def instances(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """Returns {corners f32 [N, 4], score f32 [N], label i32 [N], valid bool [N], mask f32 [N, B, B]} of outputs f32 [N, P].

        A mask has the probability that each of its B·B bins, which divide the box evenly, belongs to the object.
        """
        ...


def beside_crowds(matched: jax.Array, anchors: jax.Array, objects: Objects) -> jax.Array:
    """Returns a match i32 [N] in which background on a crowd is ignored.

    Args:
        matched: the object of each anchor or region, BACKGROUND or IGNORED (ops/matching.py).
        anchors: their corners f32 [N, 4]; one lies on a crowd of any class by more than MOST_COVERED of its area.
        objects: of the image.
    """
    if objects.ignored is None or not len(objects.ignored):
        return matched
    covered = boxes.covered(anchors, objects.corners)  # [N, M]
    on_crowd = jnp.any((covered > MOST_COVERED) & objects.ignored[None], axis=1)
    return jnp.where((matched == matching.BACKGROUND) & on_crowd, matching.IGNORED, matched)


def points_on_crowds(points: jax.Array, objects: Objects) -> jax.Array:
    """Returns which points (x, y) f32 [N, 2], such as the middles of cells, lie on a crowd of any class, bool [N]."""
    if objects.ignored is None or not len(objects.ignored):
        return jnp.zeros(len(points), bool)
    low, high = objects.corners[None, :, :2], objects.corners[None, :, 2:]  # [1, M, 2]
    inside = jnp.all((points[:, None] > low) & (points[:, None] < high), axis=-1)  # [N, 1, 2] -> [N, M]
    return jnp.any(inside & objects.ignored[None], axis=1)
