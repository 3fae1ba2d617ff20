"""The head of a detector in two stages: its losses against NumPy, images without objects, boxes that come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.region_head import BETA, PROPOSAL_VARIANCES, Lesson, ProposalHead
from cnnlab.ops import boxes, matching
from cnnlab.ops.heads import Objects
from cnnlab.ops.proposals import Regions

KEY = jax.random.key(0)
SIZE = (32, 40)
ANCHORS = np.asarray([[x, y, x + 10, y + 10] for y in (0, 10, 20) for x in (0, 10, 20, 30)], np.float32)
CLASSES = 3
OBJECTS = Objects(
    jnp.asarray([[1.0, 1.0, 10.0, 12.0], [20.0, 8.0, 33.0, 22.0], [0.0, 0.0, 0.0, 0.0]]),
    jnp.asarray([2, 0, 0]),
    jnp.asarray([True, True, False]),
)
NOTHING = OBJECTS._replace(valid=jnp.zeros(3, bool))
REGIONS = Regions(
    jnp.asarray([[0.0, 0.0, 10.0, 10.0], [18.0, 8.0, 30.0, 20.0], [1.0, 20.0, 9.0, 30.0], [0.0, 0.0, 0.0, 0.0]]),
    jnp.asarray([0, 1, matching.BACKGROUND, matching.BACKGROUND]),
    jnp.asarray([1.0, 1.0, 1.0, 0.0]),
)


def head(**more):
    return ProposalHead(anchors=(ANCHORS[:8], ANCHORS[8:]), image_size=SIZE, classes=CLASSES, before=8, after=10, **more)


def outputs(count, codes, scale=1.0):
    """Random outputs f32 [count, K + 1 + 4 · codes]."""
    return scale * jax.random.normal(KEY, (count, CLASSES + 1 + 4 * codes))


def smooth(errors):
    """Σ of the loss of boxes over errors [4]."""
    size = np.abs(errors)
    return float(np.where(size < BETA, 0.5 * size**2 / BETA, size - 0.5 * BETA).sum())


@pytest.mark.parametrize("codes", [1, CLASSES + 1])
def test_losses_of_regions_are_those_of_a_loop(codes):
    given = outputs(4, codes)
    terms, divisor = jax.jit(head().region_losses)(REGIONS, given, OBJECTS)
    rows = np.asarray(given, np.float64)
    box = kind = 0.0
    for number, owner in enumerate((0, 1, None)):
        logits, own = rows[number, : CLASSES + 1], rows[number, CLASSES + 1 :].reshape(codes, 4)
        label = 0 if owner is None else int(OBJECTS.label[owner]) + 1
        kind += np.log(np.exp(logits).sum()) - logits[label]
        if owner is not None:
            target = np.asarray(boxes.encode(OBJECTS.corners[owner], REGIONS.corners[number]))
            box += smooth(own[label if codes > 1 else 0] - target)
    np.testing.assert_allclose(terms, [box, kind], rtol=1e-5)
    assert divisor == 3


def test_losses_of_anchors_are_those_of_a_loop_over_all_where_all_are_drawn():
    given = jax.random.normal(KEY, (12, 5))
    own = head(anchor_samples=64)
    lesson = Lesson(REGIONS, outputs(4, 1), given, KEY)
    terms, divisors = jax.jit(own.losses)(lesson, OBJECTS)
    matched = matching.match(boxes.iou(OBJECTS.corners, jnp.asarray(ANCHORS)), OBJECTS.valid, 0.7, 0.3)
    box = kind = count = 0.0
    for row, owner, anchor in zip(np.asarray(given, np.float64), matched.tolist(), ANCHORS, strict=True):
        if owner == matching.IGNORED:
            continue
        count += 1
        kind += np.log1p(np.exp(-row[0] if owner >= 0 else row[0]))
        if owner >= 0:
            box += smooth(row[1:] - np.asarray(boxes.encode(OBJECTS.corners[owner], jnp.asarray(anchor), PROPOSAL_VARIANCES)))
    np.testing.assert_allclose(terms[:2], [box, kind], rtol=1e-5)
    np.testing.assert_array_equal(divisors, [count, count, 3, 3])
    assert box > 0


def test_without_objects_the_losses_of_boxes_are_zero_and_all_gradients_finite():
    own = head(region_samples=6, anchor_samples=6)

    def loss(of_anchors, of_regions, objects):
        regions = own.sample(own.propose(of_anchors), objects, KEY)
        terms, divisors = own.losses(Lesson(regions, of_regions, of_anchors, KEY), objects)
        return jnp.sum(terms / divisors), terms

    graded = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    for scale in (1.0, 100.0):
        for objects in (OBJECTS, NOTHING):
            (_, terms), slopes = graded(scale * jax.random.normal(KEY, (12, 5)), outputs(6, CLASSES + 1, scale), objects)
            assert np.isfinite(terms).all() and all(np.isfinite(slope).all() for slope in slopes)
            assert [term > 0 for term in terms[::2].tolist()] == 2 * [objects is OBJECTS]


@pytest.mark.parametrize("codes", [1, CLASSES + 1])
def test_decoded_are_the_boxes_of_the_classes_and_padding_has_no_score(codes):
    proposals = REGIONS.corners[:2]
    label = OBJECTS.label[:2]
    logits = 20.0 * jax.nn.one_hot(label + 1, CLASSES + 1)
    own = boxes.encode(OBJECTS.corners[:2], proposals)
    places = jnp.zeros((2, codes, 4)).at[jnp.arange(2), label + 1 if codes > 1 else jnp.zeros(2, int)].set(own)
    rows = jnp.concatenate([proposals, jnp.ones((2, 1)), logits, places.reshape(2, -1)], axis=1)
    padded = jnp.concatenate([rows, rows.at[:, 4].set(0.0)])
    corners, scores = jax.jit(head().decode)(padded)
    assert corners.shape == ((4, CLASSES, 4) if codes > 1 else (4, 4)) and scores.shape == (4, CLASSES)
    found = corners[jnp.arange(2), label] if codes > 1 else corners[:2]
    np.testing.assert_allclose(found, OBJECTS.corners[:2], atol=1e-4)
    np.testing.assert_allclose(scores[jnp.arange(2), label], 1.0, atol=1e-6)
    np.testing.assert_array_equal(scores[2:], 0.0)


def test_proposals_are_the_surest_anchors_moved_by_their_codes():
    given = jnp.zeros((12, 5)).at[:, 0].set(jnp.arange(12.0)).at[11, 1].set(-0.5)
    found = jax.jit(functools.partial(head().propose))(given)
    np.testing.assert_allclose(found.corners[0], boxes.clipped(jnp.asarray([25.0, 20.0, 35.0, 30.0]), SIZE))
    assert found.valid.all() and len(found.valid) == 10
