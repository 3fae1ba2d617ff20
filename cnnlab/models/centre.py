"""Objects as points: a heat map of their centres for each class, and at every centre the size of the box; no anchors.

Zhou, Wang and Krähenbühl 2019, Objects as points (CenterNet), arXiv 1904.07850.
"""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import OUTPUT
from cnnlab.models.anchor_head import logit_of
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import Detector, SharedOutput, cells, rows
from cnnlab.models.image_size import checks_image_size
from cnnlab.ops import boxes, pooling
from cnnlab.ops.bounds import at_least, at_most
from cnnlab.ops.heads import Objects, points_on_crowds
from cnnlab.values import Count, NonNegative, Range

PRIOR = 0.1
"""Probability of every class and place with which training starts (as CornerNet's, Law and Deng 2018)."""
LARGEST_LOG = 8.0
"""Logarithm of the largest side of a decoded box in cells."""
OVERLAP = 0.7
"""IoU that a box of the object's size has at least where the heat of the target is above about a hundredth."""
ALPHA, BETA = 2.0, 4.0
"""Exponents of the loss of the heat map (eq. 1)."""


@dataclasses.dataclass(frozen=True)
class CentreHead:
    """Rows of outputs are (offset x, offset y, log width, log height), in cells, and K logits of the heat.

    The target of the heat is a Gaussian around each object's centre, the largest where several overlap; the loss is eq. 1, and
    offset and size have the mean absolute error (eq. 2 and 3). All are divided by the number of objects.

    Deviation: the log of the size is predicted instead of the size, so that boxes of all sizes count alike, and boxes are
    suppressed where they overlap, too.
    """

    size: tuple[int, int]
    """(h, w) of the heat map."""
    stride: int
    """Side of a cell in pixels."""
    image_size: tuple[int, int]
    """(H, W), to which boxes are clipped."""
    box_weight: float = 1.0
    """Factor of the loss of offset and size."""
    terms: tuple[str, ...] = ("box_loss", "class_loss")

    def losses(self, outputs: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        height, width = self.size
        codes, logits = outputs[:, :4], outputs[:, 4:]
        middle = boxes.centres(objects.corners) / self.stride  # [M, 4] in cells: x, y, width, height
        # Of the places for objects without one, too, all numbers are finite.
        sides = at_least(middle[:, 2:], 1e-3)
        column, row = (jnp.clip(jnp.floor(middle[:, axis]), 0, last - 1) for axis, last in ((0, width), (1, height)))
        target = self._heat(row, column, sides, objects, logits.shape[-1])
        # −(1 − p)^α log p at centres, −(1 − target)^β p^α log(1 − p) elsewhere
        is_centre = target >= 1.0
        probability = jax.nn.sigmoid(logits)
        found = (1 - probability) ** ALPHA * jax.nn.log_sigmoid(logits)
        missed = (1 - target) ** BETA * probability**ALPHA * jax.nn.log_sigmoid(-logits)
        on_crowd = points_on_crowds((cells(self.size) + 0.5) * self.stride, objects)[:, None]
        heat = -jnp.sum(jnp.where(is_centre, found, jnp.where(on_crowd, 0.0, missed)))
        place = (row * width + column).astype(jnp.int32)
        wanted = jnp.concatenate([middle[:, :2] - jnp.stack([column, row], -1), jnp.log(sides)], axis=-1)  # [M, 4]
        errors = jnp.sum(jnp.abs(codes[place] - wanted), axis=-1)  # [N, 4] at [M] -> [M, 4] -> [M]
        box = self.box_weight * jnp.sum(jnp.where(objects.valid, errors, 0.0))
        return jnp.stack([box, heat]), jnp.sum(objects.valid, dtype=jnp.float32)

    def _heat(self, row: jax.Array, column: jax.Array, sides: jax.Array, objects: Objects, classes: int) -> jax.Array:
        """Returns the target f32 [N, K] of the heat map, 1 at the cell of each object's centre.

        Args:
            row: of the cell of each centre, a whole number, f32 [M].
            column: likewise.
            sides: (width, height) of each object in cells, f32 [M, 2].
            objects: the objects.
            classes: K.
        """
        height, width = self.size
        deviation = at_least(radius(sides[:, 0], sides[:, 1]) / 3, 1 / 6)
        down = (jnp.arange(height, dtype=jnp.float32)[None] - row[:, None]) ** 2  # [M, h]
        right = (jnp.arange(width, dtype=jnp.float32)[None] - column[:, None]) ** 2  # [M, w]
        square = (down[:, :, None] + right[:, None, :]).reshape(len(row), -1)  # [M, h, w] -> [M, N]
        heat = jnp.where(objects.valid[:, None], jnp.exp(-square / (2 * deviation[:, None] ** 2)), 0.0)
        # The largest of each class: [M, N] at [M] -> [K, N] -> [N, K]
        return jnp.zeros((classes, heat.shape[1]), heat.dtype).at[objects.label].max(heat).T

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode: only a cell that none of the eight around it exceeds has a score."""
        height, width = self.size
        codes, logits = outputs[:, :4], outputs[:, 4:]
        heat = logits.reshape(1, height, width, -1)  # [N, K] -> [1, h, w, K]
        around = pooling.max_pool(heat, window=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1)))
        peak = (heat >= around).reshape(logits.shape)  # [1, h, w, K] -> [N, K]
        middle = codes[:, :2] + cells(self.size).astype(codes.dtype)
        found = jnp.concatenate([middle, jnp.exp(at_most(codes[:, 2:], LARGEST_LOG))], axis=-1)
        corners = boxes.clipped(self.stride * boxes.corners(found), self.image_size)
        return corners, jnp.where(peak, jax.nn.sigmoid(logits), 0.0)


def radius(width: jax.Array, height: jax.Array) -> jax.Array:
    """Returns by how much both corners of a box may move so that its IoU with the box is OVERLAP at least, f32 [...].

    The smallest of the three cases of CornerNet (Law and Deng 2018, arXiv 1808.01244, section 3.2): both corners move the same
    way, or inwards, or outwards. (The authors' code solves the last two wrongly.)

    Args:
        width: of the box, positive.
        height: of the box, positive.
    """
    both, area = width + height, width * height
    shifted = (both - jnp.sqrt(at_least(both**2 - 4 * area * (1 - OVERLAP) / (1 + OVERLAP), 0.0))) / 2
    shrunk = (both - jnp.sqrt(at_least(both**2 - 4 * area * (1 - OVERLAP), 0.0))) / 4
    grown = (jnp.sqrt((OVERLAP * both) ** 2 + 4 * OVERLAP * (1 - OVERLAP) * area) - OVERLAP * both) / (4 * OVERLAP)
    return at_most(at_most(shifted, shrunk), grown)


class Centre(Detector):
    """CenterNet on one map of a feature pyramid of any encoder: the heat of centres, and the box at each of them.

    Heat and box have a convolution of 3x3 each, and one more that predicts.

    Deviation: the features come from a feature pyramid instead of an hourglass or deformable up-convolutions.

    Attributes:
        level: the cells are 2^level pixels apart.
        channels: channels of the pyramid and of the last convolutions but one.
        box_weight: factor of the loss of offset and size.
    """

    level: Annotated[int, Range(1)] = 2
    channels: Count = 64
    box_weight: NonNegative = 1.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, h · w, 4 + K], the map that predicts)."""
        x, ends = self.map_and_ends(images, self.level, self.channels, train=train)
        found = SharedOutput({"box": 4, "class": self.classes}, {"class": logit_of(PRIOR)}, name=OUTPUT)(ends)
        return with_output(jnp.concatenate([rows(value) for value in found.values()], axis=-1), {"map": x})

    def head(self, image_size: tuple[int, int]) -> CentreHead:
        """Returns what the outputs mean for images (H, W)."""
        return CentreHead(self.size_at(image_size, self.level), 2**self.level, image_size, self.box_weight)
