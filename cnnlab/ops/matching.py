"""Which anchor answers for which object, and which anchors enter the loss.

The objects of an image are padded to M places of which `valid` tells the real ones, and each of N anchors gets the number of an
object, BACKGROUND or IGNORED. All shapes are static; nothing here passes a gradient.

Letters in shapes: M places for objects, N anchors, S samples.
"""

import jax
import jax.numpy as jnp
from jax import lax

from cnnlab.errors import UsageError
from cnnlab.ops.precision import at_least_f32

BACKGROUND = -1
"""The number of an anchor that answers for no object."""
IGNORED = -2
"""The number of an anchor that counts for nothing, since its overlap is neither large nor small."""


def match(overlaps: jax.Array, valid: jax.Array, positive: float = 0.5, negative: float = 0.5, force: bool = True) -> jax.Array:
    """Returns for each anchor the number of the object that it overlaps most, BACKGROUND or IGNORED, i32 [N].

    Ren et al. 2015 (arXiv 1506.01497, 3.1.2), where positive is 0.7 and negative 0.3; ties go to the first object.

    Deviation: an object without any overlap forces no match, where torchvision and py-faster-rcnn force all anchors, as they
    all have its largest overlap, 0.

    Args:
        overlaps: IoU of objects with anchors, f32 [M, N].
        valid: which places hold an object, bool [M]; the others match nothing.
        positive: overlap from which an anchor answers for an object.
        negative: overlap below which it is background; between the two it is ignored.
        force: whether the anchors with the largest overlap of an object answer at any overlap, all of them where several are
            equal. Such an anchor answers for the object that *it* overlaps most, as torchvision's `Matcher` has it.
    """
    if not overlaps.shape[0]:
        return jnp.full(overlaps.shape[1:], BACKGROUND, jnp.int32)
    overlaps = _of_objects(overlaps, valid)
    nearest = jnp.argmax(overlaps, axis=0).astype(jnp.int32)  # [M, N] -> [N]
    found = _by_threshold(overlaps, nearest, positive, negative)
    if not force:
        return found
    best = jnp.max(overlaps, axis=1, keepdims=True)  # [M, 1]
    # The place of the largest is taken beside the comparison, which fails where XLA computes an overlap twice and differently.
    is_best = (overlaps >= best) | _at(jnp.argmax(overlaps, axis=1), overlaps.shape[1])
    return jnp.where(jnp.any(is_best & (best > 0), axis=0), nearest, found)


def match_best_first(overlaps: jax.Array, valid: jax.Array, positive: float = 0.5, negative: float = 0.5) -> jax.Array:
    """Returns for each anchor the number of an object, BACKGROUND or IGNORED, i32 [N], where each object has its own anchor.

    The largest overlap of all makes the first pair, the largest among the other objects and anchors the second, and so on;
    then anchors without a pair go by the overlaps as in `match` (Liu et al. 2016, arXiv 1512.02325, section 2.2, whose code
    pairs so). An object without any overlap has no pair.

    Two objects never share an anchor, while torchvision's SSD lets the last of them have it.

    Args:
        overlaps: IoU of objects with anchors, f32 [M, N].
        valid: which places hold an object, bool [M].
        positive: overlap from which an anchor answers for an object.
        negative: overlap below which it is background; between the two it is ignored.
    """
    places, anchors = overlaps.shape
    if not places:
        return jnp.full((anchors,), BACKGROUND, jnp.int32)
    overlaps = _of_objects(overlaps, valid)
    found = _by_threshold(overlaps, jnp.argmax(overlaps, axis=0).astype(jnp.int32), positive, negative)
    anchor, has_pair = _pairs(overlaps)
    own = _at(anchor, anchors) & has_pair[:, None]  # [M, N], at most one place a column
    return jnp.where(jnp.any(own, axis=0), jnp.argmax(own, axis=0).astype(jnp.int32), found)


def _pairs(overlaps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the anchor of each object's pair, i32 [M], and whether it has one, bool [M].

    Objects ask for their best anchor at once; of those that ask for one, all but the one with the largest overlap are refused
    and ask for their next. As both sides rank by the same numbers, this ends in the pairs that one takes from the largest
    overlap down, usually after two rounds instead of M.
    """
    order = jnp.arange(overlaps.shape[0], dtype=jnp.int32)

    def wanted(left: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The anchor that each object asks for and its overlap, [M] each, by what no anchor has refused, f32 [M, N]."""
        anchor = jnp.argmax(left, axis=1)
        return anchor.astype(jnp.int32), jnp.take_along_axis(left, anchor[:, None], axis=1)[:, 0]  # [M, N] at [M, 1] -> [M]

    def refused(left: jax.Array) -> jax.Array:
        anchor, value = wanted(left)
        same = (anchor[:, None] == anchor[None]) & (value > 0)[:, None] & (value > 0)[None]
        first = order[None] < order[:, None]
        ahead = (value[None] > value[:, None]) | (~(value[None] < value[:, None]) & first)
        return jnp.any(same & ahead, axis=1)  # [M, M] -> [M]

    def refuse(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        left, which = state
        left = jnp.where(_at(wanted(left)[0], left.shape[1]) & which[:, None], -1.0, left)
        return left, refused(left)

    left, _ = lax.while_loop(lambda state: jnp.any(state[1]), refuse, (overlaps, refused(overlaps)))
    anchor, value = wanted(left)
    return anchor, value > 0


def hard_negatives(losses: jax.Array, positive: jax.Array, candidates: jax.Array, ratio: float = 3) -> jax.Array:
    """Returns which anchors are the negatives of the loss, bool [N]: those with the largest losses.

    Liu et al. 2016 (arXiv 1512.02325, section 2.2). An image without positives has none. Ties go to the first anchor.

    Args:
        losses: loss of each anchor, f32 [N].
        positive: the anchors that answer for an object, bool [N].
        candidates: those that may be chosen, bool [N]; one that is positive is not.
        ratio: negatives for each positive.
    """
    candidates = candidates & ~positive
    rank = _ranks(losses, candidates)
    return candidates & (rank.astype(jnp.float32) < ratio * jnp.sum(positive).astype(jnp.float32))


def hardest(losses: jax.Array, candidates: jax.Array, count: int) -> jax.Array:
    """Returns which anchors are the `count` candidates with the largest losses, or all if there are fewer, bool [N].

    Args:
        losses: loss of each anchor, f32 [N]; ties go to the first.
        candidates: those that may be chosen, bool [N].
        count: number of anchors.
    """
    return candidates & (_ranks(losses, candidates) < count)


def _ranks(losses: jax.Array, candidates: jax.Array) -> jax.Array:
    """Returns the place of each candidate by its loss, the largest first, i32 [N]; those that are no candidates come last."""
    order = jnp.argsort(jnp.where(candidates, -lax.stop_gradient(at_least_f32(losses)), jnp.inf), stable=True)
    return jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(len(order), dtype=jnp.int32))  # [N] at [N]


def sampled(kind: jax.Array, key: jax.Array, count: int, positive_share: float) -> tuple[jax.Array, jax.Array]:
    """Returns the numbers of randomly drawn anchors, i32 [S], and the weight of each, f32 [S], 0 where there are too few.

    Positives come first, at most `positive_share` of S; negatives fill the rest (Girshick 2015, arXiv 1504.08083, section
    2.3; Ren et al. 2015, section 3.1.3). A place of weight 0 holds the number 0.

    Args:
        kind: for each anchor the number of its object, BACKGROUND or IGNORED, i32 [N].
        key: of the draw: one for each image, from its global index.
        count: S, the number of samples.
        positive_share: the largest share of positives, in [0, 1].

    Raises:
        UsageError: `count` is below 1, or the share is not in [0, 1].
    """
    if count < 1 or not 0 <= positive_share <= 1:
        raise UsageError(
            f"sampling of anchors: {count} samples of which {positive_share:g} are positive.\n"
            "Expected one sample at least, and a share between 0 and 1."
        )
    noise = jax.random.uniform(key, kind.shape)
    most = min(int(count * positive_share), len(kind))
    positives, are_positive = _drawn(kind >= 0, noise, most)
    negatives, are_negative = _drawn(kind == BACKGROUND, noise, min(count, len(kind)))
    found = jnp.sum(are_positive).astype(jnp.int32)
    slot = jnp.arange(count, dtype=jnp.int32)
    # Slots below `found` hold positives, those from there on negatives: [P] and [Q] at [S] -> [S].
    of_positives = jnp.zeros(count, jnp.int32).at[:most].set(positives)
    later = slot - found
    weight = jnp.where(later < 0, True, are_negative.at[later].get(mode="fill", fill_value=False))
    index = jnp.where(later < 0, of_positives, negatives.at[later].get(mode="fill", fill_value=0))
    return jnp.where(weight, index, 0), weight.astype(jnp.float32)


def _drawn(among: jax.Array, noise: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Returns the places of the largest noise f32 [N] among bool [N], i32 [count], and which of them are such, bool [count]."""
    value, place = lax.top_k(jnp.where(among, noise, -1.0), count)
    return place.astype(jnp.int32), value >= 0


def _of_objects(overlaps: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns overlaps f32 [M, N] without a gradient, −1 in the rows of places without an object."""
    return lax.stop_gradient(jnp.where(valid[:, None], at_least_f32(overlaps), -1.0))


def _by_threshold(overlaps: jax.Array, nearest: jax.Array, positive: float, negative: float) -> jax.Array:
    """Returns the nearest object i32 [N] where the overlap of [M, N] is large enough, else BACKGROUND or IGNORED."""
    largest = jnp.max(overlaps, axis=0)
    return jnp.where(largest >= positive, nearest, jnp.where(largest < negative, BACKGROUND, IGNORED))


def _at(places: jax.Array, count: int) -> jax.Array:
    """Returns rows that are true at one place each, bool [M, N], for places i32 [M] and N = `count`."""
    return places[:, None] == jnp.arange(count, dtype=places.dtype)[None]
