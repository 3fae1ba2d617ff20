"""Non-maximum suppression with static shapes, exactly the greedy one, and a detector's last step from scores to detections.

A box suppresses those of lower score whose IoU with it is *above* the threshold, as in torchvision; of equal scores the one of
the lower index comes first. Overlaps are computed in f32 at least.

Letters in shapes: N boxes, K classes of objects (without the background).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from cnnlab.errors import UsageError
from cnnlab.ops.boxes import iou, iou_of_pairs
from cnnlab.ops.precision import at_least_f32


def nms(boxes: jax.Array, scores: jax.Array, valid: jax.Array, threshold: float) -> jax.Array:
    """Returns which boxes greedy suppression keeps, bool [N].

    Args:
        boxes: corners [N, 4].
        scores: of each box, [N].
        valid: which boxes there are, bool [N]; the others are not kept and suppress nothing.
        threshold: the largest IoU of two boxes that are both kept.
    """
    return _kept(boxes, scores, valid, threshold, None)


def class_wise(boxes: jax.Array, scores: jax.Array, labels: jax.Array, valid: jax.Array, threshold: float) -> jax.Array:
    """Returns which boxes are kept, bool [N], where a box suppresses those of its own class i32 [N] alone; else as `nms`."""
    return _kept(boxes, scores, valid, threshold, labels)


def _kept(boxes: jax.Array, scores: jax.Array, valid: jax.Array, threshold: float, labels: jax.Array | None) -> jax.Array:
    """Returns the boxes of which no kept one of a higher score is a rival, bool [N].

    The rule is applied to all boxes at once until nothing changes. That is exact: after n rounds the n first boxes, in the
    order of scores, have their final state, as each depends on earlier ones alone. It takes a handful of rounds where a loop
    over the boxes takes N steps one after the other. On two CPU cores both cost what the overlaps cost: 1.9 against 1.5 ms
    for 1,000 boxes, 17 against 16 ms for 160 sets of 200.
    """
    if not boxes.shape[0]:
        return jnp.zeros((0,), bool)
    order = _by_score(scores, valid)
    ordered = boxes[order]  # [N, 4] at [N] -> [N, 4]
    rivals = iou(ordered, ordered) > threshold
    if labels is not None:
        ordered_labels = labels[order]
        rivals &= ordered_labels[:, None] == ordered_labels[None]
    there = valid[order]
    rivals = jnp.triu(rivals, 1) & there[:, None]  # [i, j]: box i comes before j and excludes it

    def settle(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, _ = state
        after = there & ~jnp.any(rivals & keep[:, None], axis=0)
        return after, jnp.any(after != keep)

    keep, _ = lax.while_loop(lambda state: state[1], settle, (there, jnp.any(there)))
    return jnp.zeros_like(keep).at[order].set(keep)  # back to the order of the boxes: [N] at [N]


def soft(
    boxes: jax.Array,
    scores: jax.Array,
    valid: jax.Array,
    *,
    method: Literal["linear", "gaussian"] = "linear",
    threshold: float = 0.3,
    sigma: float = 0.5,
) -> jax.Array:
    """Returns scores f32 [N] that overlaps with boxes of higher scores have lowered (Bodla et al. 2017, arXiv 1704.04503).

    The box of the highest score is taken, the scores of those left are multiplied by a factor of their IoU with it, and so on.
    The caller leaves out what is below a score of its choice, 0.001 in the authors' code. Boxes that are not valid get 0.

    Args:
        boxes: corners [N, 4].
        scores: of each box, not negative, [N].
        valid: which boxes there are, bool [N].
        method: linear: the factor is 1 − IoU where the IoU is at least `threshold`, else 1 (eq. 3); gaussian: exp(−IoU² / σ).
        threshold: N_t of the linear factor.
        sigma: σ of the gaussian one.

    Raises:
        UsageError: there is no such method.
    """
    if method not in ("linear", "gaussian"):
        raise UsageError(f"soft suppression: there is no method {method!r}.\nExpected linear or gaussian.")
    count = boxes.shape[0]
    if not count:
        return jnp.zeros((0,), jnp.float32)
    places = jnp.arange(count, dtype=jnp.int32)

    def take(_: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        current, left = state
        best = jnp.argmax(jnp.where(left, current, -1.0)).astype(jnp.int32)
        left &= places != best
        overlap = iou_of_pairs(boxes[best][None], boxes)  # [1, 4] and [N, 4] -> [N]
        lowered = 1.0 - overlap if method == "linear" else jnp.exp(-(overlap**2) / sigma)
        applies = left & (overlap >= threshold) if method == "linear" else left
        return jnp.where(applies, current * lowered, current), left

    start = jnp.where(valid, at_least_f32(scores), 0.0)
    found, _ = lax.fori_loop(0, count, take, (start, valid))
    return found


def detections(
    boxes: jax.Array, scores: jax.Array, least_score: float, threshold: float, before: int, after: int
) -> dict[str, jax.Array]:
    """Returns what a detector finds in an image, sorted by score: suppression in each class, then the best of all classes.

    Args:
        boxes: corners [N, 4], or [N, K, 4] where each class has its own.
        scores: of each box in each class, f32 [N, K].
        least_score: what a score must exceed.
        threshold: the largest IoU of two detections of a class.
        before: how many boxes of each class enter the suppression, those of the highest scores (400 in SSD).
        after: how many detections there are room for, those of the highest scores (200 in SSD, 100 in COCO's scoring).

    Returns:
        `corners` f32 [after, 4], `score` f32 [after], `label` i32 [after] in [0, K) and `valid` bool [after]; a place without
        a detection holds zeros.

    Raises:
        UsageError: `before` or `after` is below 1.
    """
    if before < 1 or after < 1:
        raise UsageError(
            f"detections: before={before}, after={after}.\nExpected one box before and after suppression at least."
        )
    count, classes = scores.shape
    scores = at_least_f32(scores).T  # [N, K] -> [K, N]
    best, place = lax.top_k(scores, min(before, count))  # [K, P] each
    of_class = jnp.arange(classes, dtype=jnp.int32)
    boxes = at_least_f32(boxes)
    # [N, 4] at [K, P], or [N, K, 4] at [K, P] and [K, 1] -> [K, P, 4]
    chosen = boxes[place] if boxes.ndim == 2 else boxes[place, of_class[:, None]]
    kept = jax.vmap(nms, in_axes=(0, 0, 0, None))(chosen, best, best > least_score, threshold)
    score = jnp.where(kept, best, -jnp.inf).reshape(-1)  # [K, P] -> [K·P]
    room = max(after - score.shape[0], 0)
    score, place = lax.top_k(jnp.pad(score, (0, room), constant_values=-jnp.inf), after)
    valid = score > -jnp.inf
    place = jnp.where(valid, place, 0)
    return {
        "corners": jnp.where(valid[:, None], chosen.reshape(-1, 4)[place], 0.0),  # [K, P, 4] -> [K·P, 4] at [after]
        "score": jnp.where(valid, score, 0.0),
        "label": jnp.where(valid, (place // best.shape[1]).astype(jnp.int32), 0),
        "valid": valid,
    }


def _by_score(scores: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the places of boxes from the highest score down, those that are not valid at the end, i32 [N]."""
    return jnp.argsort(jnp.where(valid, -at_least_f32(scores), jnp.inf), stable=True)
