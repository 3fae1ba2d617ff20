"""Regions of a detector in two stages: which boxes are proposed, and which of them the second stage learns from.

All shapes are static: there is room for a number of proposals, and `valid` or a weight tells which places hold one. Boxes pass
no gradient.

Letters in shapes: L levels, N boxes of a level, R proposals, M places for objects, S samples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnlab.errors import UsageError
from cnnlab.ops import boxes, matching
from cnnlab.ops.heads import Objects, beside_crowds
from cnnlab.ops.nms import nms
from cnnlab.ops.precision import at_least_f32

LEAST_SIDE = 1e-3
"""Side in pixels below which a box is not proposed (torchvision's)."""


class Proposals(NamedTuple):
    """The proposals of one image, the surest first."""

    corners: jax.Array
    """f32 [R, 4] in pixels; zeros where there is none."""
    valid: jax.Array
    """bool [R]: the places that hold a proposal."""


class Regions(NamedTuple):
    """The regions of one image from which the second stage learns."""

    corners: jax.Array
    """f32 [S, 4] in pixels."""
    owner: jax.Array
    """The object of each region, or matching.BACKGROUND, i32 [S]."""
    weight: jax.Array
    """1 where a place holds a region, else 0, f32 [S]."""


def proposed(
    corners: Sequence[jax.Array], scores: Sequence[jax.Array], *, threshold: float, before: int, after: int
) -> Proposals:
    """Returns the best boxes of all levels after suppression in each (Ren et al. 2015, arXiv 1506.01497, section 3.1.3).

    The best `before` of each level enter its suppression, as in torchvision, and the best `after` of what is left are taken.

    Args:
        corners: boxes of each level, L of [N, 4].
        scores: of the boxes, L of [N], such as logits.
        threshold: the largest IoU of two proposals of a level.
        before: boxes of a level at most.
        after: R.

    Raises:
        UsageError: `before` or `after` is below 1.
    """
    if before < 1 or after < 1:
        raise UsageError(f"proposals: {before} before suppression, {after} after.\nExpected one at least of each.")
    chosen, ranked = [], []
    for level_corners, level_scores in zip(corners, scores, strict=True):
        best, place = lax.top_k(lax.stop_gradient(at_least_f32(level_scores)), min(before, len(level_scores)))
        own = lax.stop_gradient(at_least_f32(level_corners))[place]  # [N, 4] at [P] -> [P, 4]
        sides = own[:, 2:] - own[:, :2]
        kept = nms(own, best, jnp.all(sides >= LEAST_SIDE, axis=1), threshold)
        chosen.append(own)
        ranked.append(jnp.where(kept, best, -jnp.inf))
    joined, score = jnp.concatenate(chosen), jnp.concatenate(ranked)
    room = max(after - len(score), 0)
    score, place = lax.top_k(jnp.pad(score, (0, room), constant_values=-jnp.inf), after)
    valid = score > -jnp.inf
    found = joined[jnp.where(valid, place, 0)]  # [L·P, 4] at [R] -> [R, 4]
    return Proposals(jnp.where(valid[:, None], found, 0.0), valid)


def sampled(
    proposals: Proposals,
    objects: Objects,
    key: jax.Array,
    *,
    count: int,
    positive_share: float,
    positive: float = 0.5,
    least: float = 0.0,
) -> Regions:
    """Returns regions that are drawn from the proposals and the objects themselves, those with an object first.

    Girshick 2015 (arXiv 1504.08083), section 2.3; Ren et al. 2015 add the objects, so that there is something to learn from
    while proposals are poor.

    Args:
        proposals: R of them.
        objects: of the image.
        key: of the draw: one for each image.
        count: S, the number of regions.
        positive_share: the largest share of regions with an object, a quarter in the paper.
        positive: IoU from which a region has an object.
        least: IoU from which a region without one may be drawn: 0.1 in the paper, 0 in torchvision.
    """
    corners = jnp.concatenate([proposals.corners, lax.stop_gradient(at_least_f32(objects.corners))])  # [R + M, 4]
    there = jnp.concatenate([proposals.valid, objects.valid])
    overlaps = boxes.iou(objects.corners, corners)  # [M, R + M]
    owner = beside_crowds(matching.match(overlaps, objects.valid, positive, positive, force=False), corners, objects)
    largest = jnp.max(jnp.where(objects.valid[:, None], overlaps, 0.0), axis=0, initial=0.0)
    usable = there & ((owner >= 0) | (largest >= least))
    kind = jnp.where(usable, owner, matching.IGNORED)
    index, weight = matching.sampled(kind, key, count, positive_share)
    # [R + M, 4] and [R + M] at [S]; a place without a region learns from none
    return Regions(corners[index], jnp.where(weight > 0, owner[index], matching.BACKGROUND), weight)
