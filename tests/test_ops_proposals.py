"""Proposals and the regions that are learnt from, against loops in NumPy; no objects, too few and too many."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import boxes, matching, proposals
from cnnlab.ops.heads import Objects
from cnnlab.ops.proposals import Proposals

KEY = jax.random.key(0)
OBJECTS = Objects(
    jnp.asarray([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 40.0], [0.0, 0.0, 0.0, 0.0]]),
    jnp.asarray([1, 0, 0]),
    jnp.asarray([True, True, False]),
)


def random_boxes(seed, count):
    """Corners f32 [count, 4] in an image of 40 x 40, the first one without an area, and scores [count]."""
    draws = np.random.default_rng(seed)
    low, sides = draws.uniform(0, 30, (count, 2)), draws.uniform(4, 10, (count, 2))
    corners = np.concatenate([low, low + sides], axis=1).astype(np.float32)
    corners[0, 2] = corners[0, 0]
    return corners, draws.normal(size=count).astype(np.float32)


def greedy(levels, threshold, before, after):
    """The corners of the best boxes of all levels, by the definition."""
    left = []
    for corners, scores in levels:
        kept = []
        for place in np.argsort(-scores, kind="stable")[:before]:
            box = corners[place]
            overlaps = boxes.iou(jnp.asarray(box[None]), jnp.asarray(corners[kept]))[0] if kept else np.zeros(0)
            if np.all(box[2:] - box[:2] >= proposals.LEAST_SIDE) and np.all(np.asarray(overlaps) <= threshold):
                kept.append(place)
        left += [(scores[place], corners[place]) for place in kept]
    return np.asarray([box for _, box in sorted(left, key=lambda one: -one[0])[:after]])


@functools.cache
def compiled(after):
    return jax.jit(functools.partial(proposals.proposed, threshold=0.3, before=12, after=after))


@pytest.mark.parametrize("after", [8, 40])
def test_proposals_are_the_best_of_all_levels_after_suppression_in_each(after):
    levels = [random_boxes(0, 24), random_boxes(1, 7)]
    found = compiled(after)(*([jnp.asarray(each) for each in part] for part in zip(*levels, strict=True)))
    expected = greedy(levels, 0.3, 12, after)
    assert found.corners.shape == (after, 4) and int(found.valid.sum()) == len(expected) > 5
    np.testing.assert_array_equal(found.corners[: len(expected)], expected)
    np.testing.assert_array_equal(found.corners[len(expected) :], 0.0)


def test_no_room_for_proposals_is_refused():
    with pytest.raises(UsageError, match="0 before suppression, 5 after"):
        proposals.proposed([jnp.zeros((1, 4))], [jnp.zeros(1)], threshold=0.5, before=0, after=5)


@functools.cache
def drawing(count, share=0.25, least=0.0):
    return jax.jit(functools.partial(proposals.sampled, count=count, positive_share=share, least=least))


PROPOSED = Proposals(
    # a hit of each object, one near the first (IoU 0.25), three far from all; the last place is empty
    jnp.asarray(
        [[0, 0, 10, 9], [20, 20, 30, 36], [0, 0, 5, 5], [32, 0, 38, 6], [0, 30, 6, 36], [12, 0, 18, 6], [0, 0, 0, 0]], float
    ),
    jnp.asarray([True] * 6 + [False]),
)


def test_regions_have_an_object_first_and_the_objects_are_among_them():
    found = drawing(20, 1.0)(PROPOSED, OBJECTS, KEY)
    assert sorted(found.owner[:4].tolist()) == [0, 0, 1, 1]
    np.testing.assert_array_equal(found.weight, [1.0] * 8 + [0.0] * 12)
    assert np.all(np.asarray(found.owner[4:]) == matching.BACKGROUND)
    hits = {tuple(box) for box in np.asarray(found.corners[:4]).tolist()}
    assert hits == {tuple(box) for box in np.asarray([*PROPOSED.corners[:2], *OBJECTS.corners[:2]]).tolist()}


def test_a_share_bounds_the_regions_with_an_object_and_the_key_draws_them():
    seen = set()
    for number in range(8):
        found = drawing(4)(PROPOSED, OBJECTS, jax.random.key(number))
        assert found.weight.tolist() == [1.0] * 4 and (np.asarray(found.owner) >= 0).tolist() == [True, False, False, False]
        seen.add(tuple(np.asarray(found.corners).ravel().tolist()))
    assert len(seen) > 3
    again = drawing(4)(PROPOSED, OBJECTS, jax.random.key(7))
    assert tuple(np.asarray(again.corners).ravel().tolist()) in seen


def test_with_a_least_overlap_only_regions_near_an_object_are_background():
    found = drawing(20, 1.0, 0.1)(PROPOSED, OBJECTS, KEY)
    np.testing.assert_array_equal(found.weight, [1.0] * 5 + [0.0] * 15)
    np.testing.assert_array_equal(found.corners[4], [0, 0, 5, 5])


def test_without_objects_all_regions_are_background():
    found = drawing(4)(PROPOSED, OBJECTS._replace(valid=jnp.zeros(3, bool)), KEY)
    assert found.owner.tolist() == [matching.BACKGROUND] * 4 and found.weight.tolist() == [1.0] * 4


def test_regions_on_a_crowd_are_no_background():
    corners = OBJECTS.corners.at[2].set(jnp.asarray([30.0, 0.0, 40.0, 10.0]))
    crowd = Objects(corners, OBJECTS.label, OBJECTS.valid, jnp.asarray([False, False, True]))
    found = drawing(20, 1.0)(PROPOSED, crowd, KEY)
    learnt = np.asarray(found.corners)[np.asarray(found.weight) > 0].tolist()
    assert len(learnt) == 7 and [32.0, 0.0, 38.0, 6.0] not in learnt
