"""Detection against anchors: the layers that predict codes and classes, the loss by matching, and how outputs become boxes.

Letters in shapes: as in models/detection.py; A anchors of a cell.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.models.detection import rows
from cnnlab.models.layers import Conv
from cnnlab.ops import box_losses, boxes, init, matching
from cnnlab.ops.heads import Objects, beside_crowds
from cnnlab.ops.init import INITIALIZERS
from cnnlab.values import Choice

CODE = 4
"""Numbers that code a box."""
Classification = Literal["softmax", "focal"]


@dataclasses.dataclass(frozen=True, eq=False)
class AnchorHead:
    """Rows of outputs are four codes against an anchor and its logits: with a background first for softmax, without for focal.

    softmax is the loss of SSD: cross-entropy of the positives and of three times as many of the worst negatives (Liu et al.
    2016, arXiv 1512.02325, section 2.2). focal is that of RetinaNet: K sigmoids on all anchors (Lin et al. 2017, arXiv
    1708.02002, section 3). Both are divided by the number of positives.
    """

    anchors: np.ndarray
    """f32 [N, 4], corners in pixels."""
    image_size: tuple[int, int]
    """(H, W), to which boxes are clipped."""
    classification: Classification
    positive: float = 0.5
    """IoU from which an anchor answers for an object; the best anchor of each object always does."""
    negative: float = 0.5
    """IoU below which an anchor is background; between the two it counts for nothing."""
    negatives: float = 3.0
    """Negatives for each positive in cross-entropy."""
    variances: tuple[float, float, float, float] = boxes.VARIANCES
    """Units of the codes."""
    beta: float = 1.0
    """Error at which the loss of boxes turns from quadratic to linear, in units of codes."""
    box_weight: float = 1.0
    """Factor of the loss of boxes."""
    terms: tuple[str, ...] = ("box_loss", "class_loss")

    def losses(self, outputs: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        codes, logits = outputs[:, :CODE], outputs[:, CODE:]
        overlaps = boxes.iou(objects.corners, jnp.asarray(self.anchors))  # [M, N]
        # SSD gives each object an anchor of its own; RetinaNet, as Faster R-CNN, lets two share the best one.
        match = matching.match_best_first if self.classification == "softmax" else matching.match
        matched = match(overlaps, objects.valid, self.positive, self.negative)
        matched = beside_crowds(matched, jnp.asarray(self.anchors), objects)
        positive = matched >= 0
        owner = jnp.where(positive, matched, 0)
        targets = boxes.encode(objects.corners[owner], jnp.asarray(self.anchors), self.variances)  # [M, 4] at [N] -> [N, 4]
        each = box_losses.smooth_l1(codes, targets, beta=self.beta)  # [N, 4] -> [N]
        box = self.box_weight * jnp.sum(jnp.where(positive, each, 0.0))
        label = objects.label[owner]  # [M] at [N] -> [N]
        if self.classification == "softmax":
            entropy = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(positive, label + 1, 0))
            # The hardest negatives by their own loss, as if they were background, which is what they are.
            chosen = matching.hard_negatives(entropy, positive, matched == matching.BACKGROUND, self.negatives)
            kind = jnp.sum(jnp.where(positive | chosen, entropy, 0.0))
        else:
            truth = jnp.where(positive[:, None], jax.nn.one_hot(label, logits.shape[-1]), 0.0)
            focal = box_losses.sigmoid_focal(logits, truth)  # [N, K] -> [N]
            kind = jnp.sum(jnp.where(matched == matching.IGNORED, 0.0, focal))
        return jnp.stack([box, kind]), jnp.sum(positive, dtype=jnp.float32)

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode."""
        corners = boxes.clipped(boxes.decode(outputs[:, :CODE], jnp.asarray(self.anchors), self.variances), self.image_size)
        logits = outputs[:, CODE:]
        if self.classification == "softmax":
            return corners, jax.nn.softmax(logits)[:, 1:]
        return corners, jax.nn.sigmoid(logits)


class AnchorOutput(nn.Module):
    """A convolution of 3x3 for the codes and one for the logits of each map: `box{n}` and `class{n}` of level n.

    Attributes:
        logits: number of logits of an anchor.
        boxes: number of anchors of a cell at each level.
        initializer: initialiser of the kernels.
    """

    logits: int
    boxes: Sequence[int]
    initializer: Choice[INITIALIZERS] = init.xavier

    @nn.compact
    def __call__(self, maps: Mapping[int, jax.Array]) -> jax.Array:
        """Maps {level: [B, h, w, C]} to rows of outputs f32 [B, N, 4 + logits], level by level."""
        found = []
        for (level, x), count in zip(maps.items(), self.boxes, strict=True):
            codes = Conv(CODE * count, 3, padding=1, initializer=self.initializer, name=f"box{level}")(x)
            logits = Conv(self.logits * count, 3, padding=1, initializer=self.initializer, name=f"class{level}")(x)
            found.append(jnp.concatenate([rows(codes, count), rows(logits, count)], axis=-1))
        return jnp.concatenate(found, axis=1)  # of [B, h·w·A, P] -> [B, N, P]


def logit_of(probability: float) -> float:
    """Returns the logit of a probability in (0, 1)."""
    return math.log(probability / (1 - probability))
