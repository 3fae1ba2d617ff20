"""Detection in two stages: what the outputs of regions and of proposals mean, and the terms of their losses.

Letters in shapes: K classes of objects, N anchors, R proposals, S regions that are learnt from, A anchors that are, P numbers
of a region: K + 1 logits, the first of which is the background's, and 4 or 4 (K + 1) codes.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from cnnlab.ops import box_losses, boxes, matching
from cnnlab.ops.heads import Objects, beside_crowds
from cnnlab.ops.proposals import Proposals, Regions, proposed, sampled

CODE = 4
"""Numbers that code a box."""
BETA = 1 / 9
"""Error at which the losses of boxes turn linear, as in torchvision and the authors' code, where σ is 3."""
PROPOSAL_VARIANCES = (1.0, 1.0, 1.0, 1.0)
"""Units of the codes against anchors."""
LEAST_SIDE = 1e-2
"""Side in pixels from which a box is a detection (torchvision's)."""


class Lesson(NamedTuple):
    """What the loss of an image reads."""

    regions: Regions
    """Those that were drawn, S of them."""
    outputs: jax.Array
    """Outputs of these f32 [S, P]."""
    proposals: jax.Array | None = None
    """Outputs f32 [N, 5] for the anchors: a logit and four codes; None where the proposals are given."""
    key: jax.Array | None = None
    """Of the draw of anchors, a key []."""
    masks: jax.Array | None = None
    """Logits f32 [S', 2 Q, 2 Q, J] of the masks in the first regions, those that may have an object (mask_head.py); None: there
    are none."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class RegionHead:
    """Outputs for regions: rows of a box, whether it is a proposal (1 or 0), K + 1 logits, and codes against the box.

    The loss is cross-entropy and smooth L1 of regions that are drawn from the proposals and the objects (Girshick 2015, arXiv
    1504.08083, eq. 1). Both are divided by the number of regions that are drawn, with and without an object.
    """

    image_size: tuple[int, int]
    """(H, W), to which boxes are clipped."""
    classes: int
    """K."""
    region_samples: int = 512
    """S."""
    positive_share: float = 0.25
    """Largest share of regions with an object."""
    positive_region: float = 0.5
    """IoU from which a region has an object."""
    least_overlap: float = 0.0
    """IoU from which a region without one may be drawn."""
    terms: tuple[str, ...] = ("box_loss", "class_loss")

    def sample(self, proposals: Proposals, objects: Objects, key: jax.Array) -> Regions:
        """Returns the regions of an image from which is learnt."""
        return sampled(
            proposals,
            objects,
            key,
            count=self.region_samples,
            positive_share=self.positive_share,
            positive=self.positive_region,
            least=self.least_overlap,
        )

    def losses(self, outputs: Lesson, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        return self.region_losses(outputs.regions, outputs.outputs, objects)

    def region_losses(self, regions: Regions, outputs: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Returns (the terms of boxes and of classes, f32 [2]; the number of regions f32 []) of outputs f32 [S, P]."""
        logits, codes = self.parts(outputs)
        positive = regions.owner >= 0
        owner = jnp.where(positive, regions.owner, 0)
        label = jnp.where(positive, objects.label[owner] + 1, 0)  # [M] at [S] -> [S]
        if codes.shape[1] > 1:
            codes = jnp.take_along_axis(codes, label[:, None, None], axis=1)  # [S, K + 1, 4] at [S, 1, 1] -> [S, 1, 4]
        targets = boxes.encode(objects.corners[owner], regions.corners)  # [M, 4] at [S] -> [S, 4]
        each = box_losses.smooth_l1(codes[:, 0], targets, beta=BETA)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        terms = [jnp.sum(jnp.where(positive, each, 0.0)), jnp.sum(jnp.where(regions.weight > 0, entropy, 0.0))]
        return jnp.stack(terms), jnp.sum(regions.weight)

    def parts(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (logits f32 [S, K + 1], codes f32 [S, K + 1, 4], or [S, 1, 4] for all classes) of outputs f32 [S, P]."""
        logits, codes = outputs[:, : self.classes + 1], outputs[:, self.classes + 1 :]
        return logits, codes.reshape(len(codes), -1, CODE)

    def scores(self, outputs: jax.Array) -> jax.Array:
        """Returns the score of each class of objects, f32 [S, K] in [0, 1], of outputs f32 [S, P]."""
        return jax.nn.softmax(self.parts(outputs)[0])[:, 1:]

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode: corners f32 [R, K, 4], or [R, 4] for all classes, of outputs f32 [R, 5 + P]."""
        corners, valid = outputs[:, :CODE], outputs[:, CODE] > 0
        _, codes = self.parts(outputs[:, CODE + 1 :])
        codes = codes[:, 1:] if codes.shape[1] > 1 else codes  # without the background's
        found = boxes.clipped(boxes.decode(codes, corners[:, None]), self.image_size)  # [R, K or 1, 4]
        is_box = jnp.all(found[..., 2:] - found[..., :2] >= LEAST_SIDE, axis=-1)
        scores = jnp.where(valid[:, None] & is_box, self.scores(outputs[:, CODE + 1 :]), 0.0)  # [R, K]
        return (found if found.shape[1] == scores.shape[1] else found[:, 0]), scores


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class ProposalHead(RegionHead):
    """As RegionHead, with a network that proposes: it has a logit and four codes for each anchor.

    The loss of Faster R-CNN (Ren et al. 2015, arXiv 1506.01497, eq. 1) has, beside that of regions, cross-entropy and smooth L1
    of anchors that are drawn in equal numbers from those with and without an object. All terms are divided by the number of
    anchors or regions that are drawn, also those of boxes, as in torchvision.
    """

    anchors: tuple[np.ndarray, ...]
    """f32 [N, 4] of each level, corners in pixels."""
    proposal_threshold: float = 0.7
    """Largest IoU of two proposals of a level."""
    before: int = 1000
    """Anchors of a level that enter the suppression."""
    after: int = 1000
    """R."""
    anchor_samples: int = 256
    """A, of which at most half have an object."""
    positive_anchor: float = 0.7
    """IoU from which an anchor has an object; the best anchor of each object always does."""
    negative_anchor: float = 0.3
    """IoU below which it has none."""
    terms: tuple[str, ...] = ("proposal_box_loss", "proposal_loss", "box_loss", "class_loss")

    def propose(self, outputs: jax.Array) -> Proposals:
        """Returns the proposals of an image, for the outputs f32 [N, 5] of its anchors."""
        outputs = lax.stop_gradient(outputs)
        ends = np.cumsum([len(level) for level in self.anchors])[:-1].tolist()
        decoded = boxes.decode(outputs[:, 1:], jnp.asarray(self._all_anchors), PROPOSAL_VARIANCES)
        corners = jnp.split(boxes.clipped(decoded, self.image_size), ends)  # [N, 4] of all levels -> of each
        scores = jnp.split(outputs[:, 0], ends)
        return proposed(corners, scores, threshold=self.proposal_threshold, before=self.before, after=self.after)

    def losses(self, outputs: Lesson, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses."""
        assert outputs.proposals is not None and outputs.key is not None
        of_anchors, anchors = self._anchor_losses(outputs.proposals, objects, outputs.key)
        of_regions, regions = super().losses(outputs, objects)
        return jnp.concatenate([of_anchors, of_regions]), jnp.stack([anchors, anchors, regions, regions])

    def _anchor_losses(self, outputs: jax.Array, objects: Objects, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (the terms of boxes and of objects, f32 [2]; the number of anchors f32 []) of outputs f32 [N, 5]."""
        anchors = jnp.asarray(self._all_anchors)
        overlaps = boxes.iou(objects.corners, anchors)  # [M, N]
        matched = matching.match(overlaps, objects.valid, self.positive_anchor, self.negative_anchor)
        matched = beside_crowds(matched, anchors, objects)
        index, weight = matching.sampled(matched, key, self.anchor_samples, 0.5)
        drawn, owner = outputs[index], jnp.where(weight > 0, matched[index], matching.BACKGROUND)  # [N, …] at [A]
        positive = owner >= 0
        targets = boxes.encode(objects.corners[jnp.where(positive, owner, 0)], anchors[index], PROPOSAL_VARIANCES)  # [A, 4]
        each = box_losses.smooth_l1(drawn[:, 1:], targets, beta=BETA)
        entropy = optax.sigmoid_binary_cross_entropy(drawn[:, 0], positive.astype(drawn.dtype))
        terms = [jnp.sum(jnp.where(positive, each, 0.0)), jnp.sum(jnp.where(weight > 0, entropy, 0.0))]
        return jnp.stack(terms), jnp.sum(weight)

    @property
    def _all_anchors(self) -> np.ndarray:
        return np.concatenate(self.anchors)
