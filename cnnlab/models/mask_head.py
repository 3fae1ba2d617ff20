"""What the outputs of a detector with masks mean: the loss of the masks, and detections with a mask each.

Letters in shapes: as in models/region_head.py; H W space, D detections, B bins of a mask along each axis, J masks of a region:
K + 1, the first of which is the background's and is not read, or one for all classes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from cnnlab.models.region_head import CODE, Lesson, ProposalHead
from cnnlab.ops import regions
from cnnlab.ops.heads import Objects
from cnnlab.ops.precision import at_least_f32

PLAIN = CODE + 3
"""Numbers of a detection before its mask: corners, score, class, and whether it is one (1 or 0)."""


def packed(found: dict[str, jax.Array], masks: jax.Array) -> jax.Array:
    """Returns detections with masks as outputs f32 [D, 7 + B·B].

    Args:
        found: corners [D, 4], score [D], label [D] and valid [D], as of nms.detections.
        masks: probability that a bin belongs to the object, [D, B, B].
    """
    plain = [at_least_f32(found[name])[:, None] for name in ("score", "label", "valid")]
    flat = masks.reshape(len(masks), -1)  # [D, B, B] -> [D, B·B]
    return jnp.concatenate([found["corners"], *plain, flat], axis=1)


def unpacked(outputs: jax.Array) -> dict[str, jax.Array]:
    """Returns {corners [D, 4], score [D], label i32 [D], valid bool [D], mask f32 [D, B, B]} of outputs f32 [D, 7 + B·B]."""
    bins = round((outputs.shape[1] - PLAIN) ** 0.5)
    return {
        "corners": outputs[:, :CODE],
        "score": outputs[:, CODE],
        "label": outputs[:, CODE + 1].astype(jnp.int32),
        "valid": outputs[:, CODE + 2] > 0,
        "mask": outputs[:, PLAIN:].reshape(-1, bins, bins),  # [D, B·B] -> [D, B, B]
    }


def scored(outputs: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """Returns corners f32 [D, 4] and scores f32 [D, K] of packed detections, which have a score in one class each."""
    found = unpacked(outputs)
    own = jax.nn.one_hot(found["label"], classes, dtype=outputs.dtype)  # [D, K]
    return found["corners"], jnp.where(found["valid"], found["score"], 0.0)[:, None] * own


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MaskHead(ProposalHead):
    """As ProposalHead, with a mask in each region; outputs are detections with their masks (`packed`).

    The loss of masks is binary cross-entropy, averaged over the bins of the true class's mask, of the regions with an object
    alone, and is divided by their number (He et al. 2017, arXiv 1703.06870, section 3). The target of a bin is the share of it
    that the object covers, as in torchvision: the authors' code takes 1 from a half on, and the border of an object that lies
    there would depend on rounding.
    """

    terms: tuple[str, ...] = (*ProposalHead.terms, "mask_loss")

    @property
    def positives(self) -> int:
        """S', the number of regions with an object at most, which come first (matching.sampled)."""
        return int(self.region_samples * self.positive_share)

    def losses(self, outputs: Lesson, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses; the objects have masks."""
        terms, divisors = super().losses(outputs, objects)
        assert outputs.masks is not None and objects.masks is not None
        corners, owner = outputs.regions.corners[: self.positives], outputs.regions.owner[: self.positives]
        positive = owner >= 0
        owner = jnp.where(positive, owner, 0)
        bins = outputs.masks.shape[1]
        covered = regions.cropped_masks(objects.masks, corners, owner, bins)  # [S', B, B]
        logits = of_class(outputs.masks, objects.label[owner])  # [M] at [S'] -> [S', B, B]
        each = optax.sigmoid_binary_cross_entropy(logits, covered.astype(logits.dtype))
        total = jnp.sum(jnp.where(positive, jnp.mean(each, axis=(1, 2)), 0.0))
        count = jnp.sum(positive.astype(terms.dtype))
        return jnp.append(terms, total), jnp.append(divisors, count)

    def region_boxes(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (corners f32 [R, K, 4] or [R, 4], scores f32 [R, K]) of the outputs f32 [R, 5 + P] of proposals."""
        return super().decode(outputs)

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode: corners f32 [D, 4] and scores f32 [D, K] of outputs f32 [D, 7 + B·B]."""
        return scored(outputs, self.classes)

    def instances(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """Implements InstanceHead.instances."""
        return unpacked(outputs)


@dataclasses.dataclass(frozen=True)
class InstancesAlone:
    """Outputs are detections with their masks (`packed`), from which nothing is learnt."""

    classes: int
    """K."""
    terms: tuple[str, ...] = ()

    def losses(self, outputs: jax.Array, objects: Objects) -> tuple[jax.Array, jax.Array]:
        """Implements Head.losses: there is no term."""
        return jnp.zeros(0), jnp.ones(())

    def decode(self, outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Implements Head.decode."""
        return scored(outputs, self.classes)

    def instances(self, outputs: jax.Array) -> dict[str, jax.Array]:
        """Implements InstanceHead.instances."""
        return unpacked(outputs)


def of_class(logits: jax.Array, label: jax.Array) -> jax.Array:
    """Returns the masks f32 [S, B, B] of the classes i32 [S] in [0, K), of the logits f32 [S, B, B, J] of all of them."""
    if logits.shape[-1] == 1:
        return logits[..., 0]
    place = (label + 1)[:, None, None, None]  # [S] -> [S, 1, 1, 1]
    return jnp.take_along_axis(logits, place, axis=-1)[..., 0]  # [S, B, B, J] at [S, 1, 1, 1] -> [S, B, B]
