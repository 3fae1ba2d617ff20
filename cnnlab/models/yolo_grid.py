"""YOLO on a fine grid without anchors: the cells near the middle of an object predict its box, its class and its overlap.

After Ge, Liu, Wang, Li and Sun 2021, YOLOX: Exceeding YOLO series in 2021, arXiv 2107.08430, on one map.
"""

import dataclasses
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cnnlab.core import OUTPUT
from cnnlab.models.anchor_head import logit_of
from cnnlab.models.dense_maps import with_output
from cnnlab.models.detection import Detector, SharedOutput, cells, rows
from cnnlab.models.image_size import checks_image_size
from cnnlab.ops import box_losses, boxes
from cnnlab.ops.bounds import at_most
from cnnlab.ops.heads import Objects, points_on_crowds
from cnnlab.values import Count, NonNegative, Positive, Range

PRIOR = 0.01
"""Probability of an object, and of every class, with which training starts."""
BOX = 4
LARGEST_LOG = 8.0
"""Logarithm of the largest side of a decoded box in cells."""


@dataclasses.dataclass(frozen=True)
class FreeGridHead:
    """Rows of outputs are the cells: (x, y, log width, log height) in cells, the logit of an object, K of classes.

    Cells whose middle lies in an object and within `radius` cells of its centre answer for it, and the nearest cell in any
    case; of several objects the smallest has the cell. Their boxes have the loss 1 − GIoU, their classes binary cross-entropy.
    The logit of an object has binary cross-entropy in every cell, with the IoU of the box as its target where there is one (as
    in YOLO, version 1). All are divided by the number of cells that answer.

    Deviation: the assignment does not look at the losses (SimOTA does).
    """

    size: tuple[int, int]
    """(h, w), the numbers of cells."""
    stride: int
    """Side of a cell in pixels."""
    image_size: tuple[int, int]
    """(H, W), to which boxes are clipped."""
    radius: float = 1.5
    box_weight: float = 5.0
    terms: tuple[str, ...] = ("box_loss", "object_loss", "class_loss")

    def losses(self, outputs: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        owner = self._owners(objects)
        positive = owner >= 0
        owner = jnp.where(positive, owner, 0)
        truth = objects.corners[owner]  # [M, 4] at [N] -> [N, 4]
        predicted = self._corners(outputs)
        box = jnp.where(positive, box_losses.giou(predicted, truth), 0.0)
        overlap = jax.lax.stop_gradient(jnp.where(positive, boxes.iou_of_pairs(predicted, truth), 0.0))
        there = optax.sigmoid_binary_cross_entropy(outputs[:, BOX], overlap)
        there = jnp.where(~positive & points_on_crowds(self._middles(), objects), 0.0, there)
        logits = outputs[:, BOX + 1 :]
        of_class = jax.nn.one_hot(objects.label[owner], logits.shape[-1])
        kind = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, of_class), axis=-1)  # [N, K] -> [N]
        terms = (self.box_weight * jnp.sum(box), jnp.sum(there), jnp.sum(jnp.where(positive, kind, 0.0)))
        return jnp.stack(terms), jnp.sum(positive, dtype=jnp.float32)

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode: the score is the probability of the class times that of an object."""
        corners = boxes.clipped(self._corners(outputs), self.image_size)
        return corners, jax.nn.sigmoid(outputs[:, BOX : BOX + 1]) * jax.nn.sigmoid(outputs[:, BOX + 1 :])

    def _middles(self) -> jax.Array:
        """Returns the middles (x, y) of the cells in pixels, f32 [N, 2]."""
        return (cells(self.size) + 0.5) * self.stride

    def _corners(self, outputs: jax.Array) -> jax.Array:
        """Returns the corners f32 [N, 4] in pixels of outputs [N, P]."""
        middle = self._middles() + self.stride * outputs[:, :2]
        sides = self.stride * jnp.exp(at_most(outputs[:, 2:BOX], LARGEST_LOG))
        return boxes.corners(jnp.concatenate([middle, sides], axis=-1))

    def _owners(self, objects: Objects) -> jax.Array:
        """Returns for each cell the number of the object for which it answers, i32 [N], or −1."""
        middles = self._middles()[None]  # [1, N, 2]
        centre = boxes.centres(objects.corners)[:, None]  # [M, 1, 4]
        low, high = objects.corners[:, None, :2], objects.corners[:, None, 2:]
        apart = jnp.max(jnp.abs(middles - centre[..., :2]), axis=-1)  # [M, N]
        inside = jnp.all((middles > low) & (middles < high), axis=-1)
        # The nearest cell answers even for an object in which no cell has its middle.
        nearest = jnp.argmin(apart, axis=1)[:, None] == jnp.arange(middles.shape[1])[None]  # [M, N]
        answers = objects.valid[:, None] & ((inside & (apart < self.radius * self.stride)) | nearest)
        if not len(objects.valid):
            return jnp.full(middles.shape[1], -1, jnp.int32)
        area = jnp.where(answers, boxes.areas(objects.corners)[:, None], jnp.inf)
        return jnp.where(jnp.any(answers, axis=0), jnp.argmin(area, axis=0), -1).astype(jnp.int32)


class YOLOGrid(Detector):
    """YOLO without anchors on one map of a feature pyramid of any encoder, at any size of images.

    The head is decoupled: a convolution of 3x3 for boxes and objects, one for classes, and one more that predicts each.

    Attributes:
        level: the cells are 2^level pixels apart.
        channels: channels of the pyramid and of the last convolutions but one.
        radius: how far from an object's centre cells answer for it, in cells.
        box_weight: factor of the loss of boxes.
    """

    level: Annotated[int, Range(1)] = 2
    channels: Count = 64
    radius: Positive = 1.5
    box_weight: NonNegative = 5.0

    @nn.compact
    @checks_image_size
    def __call__(self, images: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Maps images f32 [B, H, W, C] to (outputs f32 [B, h · w, 5 + K], the map that predicts)."""
        x, ends = self.map_and_ends(images, self.level, self.channels, train=train)
        ends["object"] = ends["box"]
        features_of = {"box": BOX, "object": 1, "class": self.classes}
        biases = {"object": logit_of(PRIOR), "class": logit_of(PRIOR)}
        found = SharedOutput(features_of, biases, name=OUTPUT)(ends)
        return with_output(jnp.concatenate([rows(value) for value in found.values()], axis=-1), {"map": x})

    def head(self, image_size: tuple[int, int]) -> FreeGridHead:
        """Returns what the outputs mean for images (H, W)."""
        size = self.size_at(image_size, self.level)
        return FreeGridHead(size, 2**self.level, image_size, self.radius, self.box_weight)
