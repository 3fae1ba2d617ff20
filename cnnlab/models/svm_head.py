"""The head of R-CNN: linear support vector machines, one for each class, beside the classes by which the features learn.

Letters in shapes: as in models/region_head.py; P numbers of a region: K + 1 logits, codes, and K decision values.
"""

import dataclasses

import jax
import jax.numpy as jnp

from cnnlab.models.region_head import Lesson, RegionHead
from cnnlab.ops import bounds, boxes, matching
from cnnlab.ops.heads import Objects
from cnnlab.ops.proposals import Regions

SLOPE = 4.0
"""Logistic slope by which decision values become scores: at the margins, −1 and 1, these are 0.02 and 0.98. It changes no
ranking of one class."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class SVMHead(RegionHead):
    """As RegionHead, from whose losses the features learn; the scores are those of K linear machines, each of one class.

    Girshick et al. 2014 (arXiv 1311.2524), section 2.3 and appendix B. A machine learns from regions that cover an object of
    its class well and, of those that cover none of its class, from the hardest of each image, by the hinge loss.

    Deviation: in the paper the true boxes alone are positive, and a machine is solved exactly, with negatives that are mined
    from all images in turn. Here it learns in the steps that fine-tune the features, from the regions that are drawn there.
    """

    positive_svm: float = 0.7
    """IoU with an object of its class from which a region is positive for a machine."""
    negative_svm: float = 0.3
    """IoU with all objects of its class below which it is negative (appendix B); between the two it counts for nothing."""
    hard_negatives: int = 8
    """Negatives of an image from which a machine learns, those with the largest losses."""
    terms: tuple[str, ...] = ("box_loss", "class_loss", "svm_loss")

    def losses(self, outputs: Lesson, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        terms, regions = super().losses(outputs, objects)
        hinge, examples = self.hinge(outputs.regions, outputs.outputs[:, -self.classes :], objects)
        return jnp.append(terms, hinge), jnp.stack([regions, regions, examples])

    def hinge(self, regions: Regions, decisions: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Returns the sum of the hinge losses of all machines f32 [], and the number of their examples f32 []."""
        overlaps = boxes.iou(regions.corners, objects.corners)  # [S, M]
        own = (objects.label[:, None] == jnp.arange(self.classes)[None]) & objects.valid[:, None]  # [M, K]
        # [S, M, 1] and [1, M, K] -> [S, K]
        nearest = jnp.max(jnp.where(own[None], overlaps[:, :, None], 0.0), axis=1, initial=0.0)
        drawn = regions.weight[:, None] > 0
        positive = drawn & (nearest >= self.positive_svm)
        found, missed = (bounds.at_least(1 + sign * decisions, 0.0) for sign in (1.0, -1.0))
        hardest = jax.vmap(lambda loss, among: matching.hardest(loss, among, self.hard_negatives), in_axes=1, out_axes=1)
        negative = hardest(found, drawn & (nearest < self.negative_svm))
        total = jnp.where(positive, missed, 0.0) + jnp.where(negative, found, 0.0)
        return jnp.sum(total), jnp.sum(positive | negative, dtype=jnp.float32)

    def parts(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements RegionHead.parts: logits and codes, without the decision values behind them."""
        return super().parts(outputs[:, : -self.classes])

    def scores(self, outputs: jax.Array) -> jax.Array:
        """Implements RegionHead.scores: logistic functions of the decision values, f32 [S, K]."""
        return jax.nn.sigmoid(SLOPE * outputs[:, -self.classes :])
