"""The head of a detector with masks: its loss against a loop, images without objects, detections that come back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models import mask_head
from cnnlab.models.mask_head import MaskHead
from cnnlab.models.region_head import Lesson
from cnnlab.ops import matching
from cnnlab.ops.heads import Objects
from cnnlab.ops.proposals import Regions

KEY = jax.random.key(0)
SIZE, BINS, CLASSES = (16, 20), 4, 3
SQUARES = np.zeros((3, *SIZE), np.uint8)
SQUARES[0, 2:10, 4:8] = SQUARES[1, 8:16, 10:20] = 1
OBJECTS = Objects(
    jnp.asarray([[4.0, 2.0, 8.0, 10.0], [10.0, 8.0, 20.0, 16.0], [0.0, 0.0, 0.0, 0.0]]),
    jnp.asarray([2, 0, 0]),
    jnp.asarray([True, True, False]),
    masks=jnp.asarray(SQUARES),
)
REGIONS = Regions(
    jnp.asarray([[0.0, 2.0, 8.0, 10.0], [10.0, 8.0, 18.0, 16.0], [0.0, 0.0, 8.0, 8.0], [1.0, 1.0, 9.0, 9.0]]),
    jnp.asarray([0, 1, matching.BACKGROUND, matching.BACKGROUND]),
    jnp.asarray([1.0, 1.0, 1.0, 0.0]),
)
OWN = MaskHead(
    anchors=(np.asarray([[0, 0, 8, 8], [8, 8, 20, 16]], np.float32),),
    image_size=SIZE,
    classes=CLASSES,
    region_samples=4,
    positive_share=0.75,
    anchor_samples=2,
)


def lesson(masks, scale=1.0):
    """Outputs for the four regions, of which three at most have an object, with logits of the masks."""
    rows = scale * jax.random.normal(KEY, (4, CLASSES + 1 + 4 * (CLASSES + 1)))
    return Lesson(REGIONS, rows, scale * jax.random.normal(KEY, (2, 5)), KEY, masks)


@pytest.mark.parametrize("masks", [1, CLASSES + 1])
def test_the_loss_of_masks_is_that_of_the_true_class_in_regions_with_an_object(masks):
    logits = jax.random.normal(KEY, (3, BINS, BINS, masks))
    terms, divisors = jax.jit(OWN.losses)(lesson(logits), OBJECTS)
    # The first object has the right half of its region, the second one all of it.
    targets, expected = np.stack([np.arange(BINS)[None].repeat(BINS, 0) >= 2, np.ones((BINS, BINS), bool)]), 0.0
    for number in range(2):
        own = np.asarray(logits, np.float64)[number, ..., 0 if masks == 1 else int(OBJECTS.label[number]) + 1]
        expected += np.mean(np.log1p(np.exp(np.where(targets[number], -own, own))))
    assert OWN.positives == 3 and OWN.terms[-1] == "mask_loss" and len(terms) == len(divisors) == 5
    np.testing.assert_allclose(terms[-1], expected, rtol=1e-5)
    assert divisors[-1] == 2


def test_without_objects_the_loss_of_masks_is_zero_and_all_gradients_finite():
    def loss(logits, objects, regions):
        terms, divisors = OWN.losses(lesson(logits)._replace(regions=regions), objects)
        return jnp.sum(terms / jnp.where(divisors > 1, divisors, 1.0)), terms

    graded = jax.jit(jax.value_and_grad(loss, has_aux=True))
    nothing = OBJECTS._replace(valid=jnp.zeros(3, bool)), REGIONS._replace(owner=jnp.full(4, matching.BACKGROUND))
    for scale in (1.0, 1000.0):
        logits = scale * jax.random.normal(KEY, (3, BINS, BINS, CLASSES + 1))
        (_, terms), slope = graded(logits, OBJECTS, REGIONS)
        assert np.isfinite(terms).all() and np.isfinite(slope).all() and terms[-1] > 0 and slope.any()
        (_, terms), slope = graded(logits, *nothing)
        assert terms[-1] == 0 and not slope.any()


def test_detections_come_back_from_the_outputs_with_their_masks():
    found = {
        "corners": OBJECTS.corners,
        "score": jnp.asarray([0.9, 0.4, 0.8]),
        "label": jnp.asarray([2, 0, 1], jnp.int32),
        "valid": jnp.asarray([True, True, False]),
    }
    masks = jax.random.uniform(KEY, (3, BINS, BINS))
    outputs = jax.jit(mask_head.packed)(found, masks)
    again = jax.jit(OWN.instances)(outputs)
    for name, values in {**found, "mask": masks}.items():
        np.testing.assert_array_equal(again[name], values)
        assert again[name].dtype == values.dtype, name
    corners, scores = jax.jit(functools.partial(OWN.decode))(outputs)
    np.testing.assert_array_equal(corners, OBJECTS.corners)
    np.testing.assert_array_equal(scores, np.asarray([[0, 0, 0.9], [0.4, 0, 0], [0, 0, 0]], np.float32))
