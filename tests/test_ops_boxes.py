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


A, B = some(7), some(7)
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
    first, second = A.copy(), B.copy()
    first[:2], second[:2] = [[0, 0, 1, 1], [0, 0, 2, 2]], [[9, 0, 10, 1], [1, 1, 3, 3]]
    found = np.asarray(giou(first, second))
    np.testing.assert_allclose(found[:2], [0 - 8 / 10, 1 / 7 - 2 / 9], atol=1e-6)  # hulls of 10 and 9 pixels, unions of 2 and 7
    assert np.all(found <= np.asarray(iou(first, second)).diagonal() + 1e-6)


def test_empty_boxes_have_no_overlap_and_finite_gradients():
    def everything(a):
        overlaps = boxes.iou(a, EMPTY)
        others = boxes.giou(a, EMPTY[::-1]) + boxes.giou(a, a)
        codes = boxes.encode(a, EMPTY) + boxes.encode(a, A[:4]) + boxes.decode(a, EMPTY) + boxes.clipped(a, (5, 5))
        return jnp.sum(overlaps) + jnp.sum(others) + jnp.sum(codes), overlaps

    (value, overlaps), gradient = jax.jit(jax.value_and_grad(everything, has_aux=True))(EMPTY)
    assert np.asarray(overlaps)[3, 3] == 1 and np.sum(overlaps) == 1
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    assert float_equalities(jax.make_jaxpr(jax.grad(everything, has_aux=True))(EMPTY).jaxpr) == []


@pytest.mark.parametrize("variances", [boxes.VARIANCES, (1.0, 1.0, 1.0, 1.0)])
def test_a_decoded_code_is_the_box(variances):
    anchors = some(7)
    coded = jax.jit(lambda a, b: (code := boxes.encode(a, b, variances), boxes.decode(code, b, variances)))
    codes, back = coded(A, anchors)
    np.testing.assert_allclose(back, A, atol=1e-3)
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

    @jax.jit
    def found(corners, size):
        return boxes.clipped(corners, (10, 20)), boxes.clipped(corners, size), boxes.corners(boxes.centres(corners))

    static, traced, back = found(corners, np.asarray([10, 20]))
    np.testing.assert_array_equal(static, expected)
    np.testing.assert_array_equal(traced, expected)
    np.testing.assert_allclose(back, corners, atol=1e-5)


def test_half_precision_is_computed_in_single_and_leading_axes_are_a_batch():
    half = jnp.asarray(np.stack([A, A[::-1]]), jnp.bfloat16)
    found = iou(half, np.stack([B, B]))
    assert found.dtype == jnp.float32
    rounded = np.asarray(half, np.float32)
    np.testing.assert_allclose(found, np.stack([iou(each, B) for each in rounded]), atol=1e-6)
