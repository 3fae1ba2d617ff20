"""Boxes against loops over pairs and definitions: overlaps, codes, and that empty boxes give no NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import boxes
from tests.equalities import float_equalities

draw = np.random.default_rng(3)
iou, giou = jax.jit(boxes.iou), jax.jit(boxes.giou)


def some(count, extent=60.0):
    """Random corners f32 [count, 4]."""
    low = draw.uniform(-5, extent, (count, 2))
    return np.concatenate([low, low + draw.uniform(1, extent / 2, (count, 2))], axis=1).astype(np.float32)


A, B = some(7), some(5)
EMPTY = np.asarray([[0, 0, 0, 0], [3, 3, 3, 9], [5, 5, 2, 2], [0, 0, 10, 10]], np.float32)
"""Padding, a line, corners in the wrong order, and one box."""


def iou_of(a, b):
    """The IoU of two boxes, in f64."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = max(sides[0], 0) * max(sides[1], 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_overlaps_are_those_of_a_loop():
    expected = np.asarray([[iou_of(a, b) for b in B] for a in A])
    assert (expected > 0).any() and (expected == 0).any()
    np.testing.assert_allclose(iou(A, B), expected, atol=1e-6)
    np.testing.assert_allclose(iou(A, A).diagonal(), 1.0, atol=1e-6)
    np.testing.assert_allclose(jax.jit(boxes.areas)(A), np.prod(A[:, 2:] - A[:, :2], axis=1), rtol=1e-6)


def test_generalised_overlap_is_negative_far_apart_and_at_most_the_overlap():
    apart = np.asarray([[0, 0, 1, 1], [0, 0, 2, 2]], np.float32), np.asarray([[9, 0, 10, 1], [1, 1, 3, 3]], np.float32)
    # Hulls of 10 and 9 pixels, unions of 2 and 7.
    np.testing.assert_allclose(giou(*apart), [0 - 8 / 10, 1 / 7 - 2 / 9], atol=1e-6)
    assert np.all(giou(A[:5], B) <= jax.jit(boxes.iou_of_pairs)(A[:5], B) + 1e-6)


def test_empty_boxes_have_no_overlap_and_finite_gradients():
    overlaps = np.asarray(iou(EMPTY, EMPTY))
    assert overlaps[3, 3] == 1 and overlaps.sum() == 1
    for function in (
        lambda a: jnp.sum(boxes.iou(a, EMPTY)),
        lambda a: jnp.sum(boxes.giou(a, EMPTY[::-1])),
        lambda a: jnp.sum(boxes.giou(a, a)),
        lambda a: jnp.sum(boxes.encode(a, EMPTY)),
        lambda a: jnp.sum(boxes.encode(a, A[:4])),
        lambda a: jnp.sum(boxes.decode(a, EMPTY)),
        lambda a: jnp.sum(boxes.clipped(a, (5, 5))),
    ):
        value, gradient = jax.jit(jax.value_and_grad(function))(EMPTY)
        assert np.isfinite(value) and np.all(np.isfinite(gradient))
        assert float_equalities(jax.make_jaxpr(jax.grad(function))(EMPTY).jaxpr) == []


@pytest.mark.parametrize("variances", [boxes.VARIANCES, (1.0, 1.0, 1.0, 1.0)])
def test_a_decoded_code_is_the_box(variances):
    anchors = some(7)
    codes = jax.jit(lambda a, b: boxes.encode(a, b, variances))(A, anchors)
    np.testing.assert_allclose(jax.jit(lambda c, b: boxes.decode(c, b, variances))(codes, anchors), A, atol=1e-3)
    first, anchor = A[0].astype(np.float64), anchors[0].astype(np.float64)
    width, height = anchor[2:] - anchor[:2]
    x = ((first[0] + first[2]) - (anchor[0] + anchor[2])) / 2 / width / variances[0]
    tall = np.log((first[3] - first[1]) / height) / variances[3]
    np.testing.assert_allclose(np.asarray(codes)[0, [0, 3]], [x, tall], rtol=1e-4)


def test_a_decoded_box_is_at_most_so_many_times_its_anchor():
    anchor = np.asarray([[0, 0, 16, 16]], np.float32)
    corners = np.asarray(jax.jit(boxes.decode)(np.asarray([[0, 0, 1e4, 1e4]], np.float32), anchor))
    np.testing.assert_allclose(corners[0, 2:] - corners[0, :2], 1000, rtol=1e-5)


def test_clipping_keeps_what_is_on_the_image_for_a_size_that_is_traced_too():
    corners = np.asarray([[-3, -4, 5, 6], [8, 1, 30, 40], [50, 2, 60, 4]], np.float32)
    expected = [[0, 0, 5, 6], [8, 1, 20, 10], [20, 2, 20, 4]]
    np.testing.assert_array_equal(boxes.clipped(corners, (10, 20)), expected)
    np.testing.assert_array_equal(jax.jit(boxes.clipped)(corners, jnp.asarray([10, 20])), expected)
    np.testing.assert_allclose(boxes.corners(boxes.centres(corners)), corners, atol=1e-5)


def test_half_precision_is_computed_in_single():
    """Two boxes whose IoU is 7/13; in bf16 their areas alone are wrong by a percent."""
    a, b = (np.asarray([box], np.float32) for box in ([100, 100, 200, 200], [130, 100, 230, 200]))
    found = iou(jnp.asarray(a, jnp.bfloat16), jnp.asarray(b, jnp.bfloat16))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, iou(np.asarray(jnp.asarray(a, jnp.bfloat16), np.float32), b), atol=1e-6)


def test_leading_axes_are_a_batch():
    batch = np.stack([A, A[::-1]]), np.stack([B, B])
    np.testing.assert_array_equal(iou(*batch), jax.jit(jax.vmap(boxes.iou))(*batch))
