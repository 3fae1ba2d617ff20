"""Suppression against a greedy loop in NumPy, and a detector's last step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import nms as suppression

draw = np.random.default_rng(7)
nms, class_wise = jax.jit(suppression.nms), jax.jit(suppression.class_wise)
soft = jax.jit(suppression.soft, static_argnames=("method",))


def overlaps_with(box, others):
    """The IoU of a box with others [N, 4], in f64."""
    box, others = box.astype(np.float64), others.astype(np.float64)
    sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
    both = sides.prod(axis=1)
    whole = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - both
    return np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)


def greedy(boxes, scores, valid, threshold):
    """Which boxes are kept: the best one that is left, until none is."""
    kept, left = np.zeros(len(boxes), bool), [index for index in np.argsort(-scores, kind="stable") if valid[index]]
    while left:
        best, rest = left[0], np.asarray(left[1:], int)
        kept[best] = True
        left = list(rest[overlaps_with(boxes[best], boxes[rest]) <= threshold])
    return kept


def some(count):
    """Random boxes that overlap a lot, scores of which several are equal, and which are valid."""
    low = draw.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + draw.uniform(5, 40, (count, 2))], axis=1).astype(np.float32)
    return boxes, (draw.integers(0, 50, count) / 50).astype(np.float32), draw.random(count) < 0.9


@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.5, 0.7])
def test_suppression_is_the_greedy_one(threshold):
    for _ in range(5):
        boxes, scores, valid = some(200)
        expected = greedy(boxes, scores, valid, threshold)
        assert 3 < expected.sum() < 190
        np.testing.assert_array_equal(nms(boxes, scores, valid, threshold), expected)


def test_equal_scores_go_by_index_and_an_overlap_at_the_threshold_does_not_suppress():
    boxes, same, there = np.zeros((200, 4), np.float32), np.full(200, 0.5, np.float32), np.arange(200) < 4
    boxes[:4] = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 5, 10, 10], [20, 0, 30, 10]]
    assert np.flatnonzero(nms(boxes, same, there, 0.5)).tolist() == [0, 2, 3]  # the IoU of 0 and 2 is 1/2
    assert np.flatnonzero(nms(boxes, same, there, 0.49)).tolist() == [0, 3]
    assert np.flatnonzero(nms(boxes, same, there & (np.arange(200) > 0), 0.4)).tolist() == [1, 3]


def test_no_box_and_one_box():
    none, one = (some(count) for count in (0, 1))
    assert nms(*none, 0.5).shape == (0,) and soft(*none).shape == (0,)
    assert nms(one[0], one[1], np.ones(1, bool), 0.5).tolist() == [True]
    assert nms(one[0], one[1], np.zeros(1, bool), 0.5).tolist() == [False]


def test_a_chain_takes_as_many_rounds_as_it_has_boxes():
    """Each box overlaps with its neighbours alone, so that every second one stays."""
    left = 4 * np.arange(200, dtype=np.float32)
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], axis=1)
    scores = np.linspace(1, 0.1, 200, dtype=np.float32)
    np.testing.assert_array_equal(nms(boxes, scores, np.ones(200, bool), 0.3), np.arange(200) % 2 == 0)


def test_classes_do_not_suppress_each_other():
    boxes, scores, valid = some(200)
    labels = draw.integers(0, 3, 200).astype(np.int32)
    expected = np.zeros(200, bool)
    for label in range(3):
        expected |= greedy(boxes, scores, valid & (labels == label), 0.4)
    np.testing.assert_array_equal(class_wise(boxes, scores, labels, valid, 0.4), expected)


def test_suppression_is_batched_and_computed_in_single_precision():
    sets = [some(50) for _ in range(3)]
    batch = [np.stack(each) for each in zip(*sets, strict=True)]
    half = jnp.asarray(batch[0], jnp.bfloat16)
    found = jax.jit(jax.vmap(suppression.nms, in_axes=(0, 0, 0, None)))(half, *batch[1:], 0.5)
    rounded = np.asarray(half, np.float32)
    expected = [greedy(boxes, *each[1:], 0.5) for boxes, each in zip(rounded, sets, strict=True)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_suppression_is_that_of_a_loop(method):
    boxes, scores, valid = some(60)
    expected, left = np.where(valid, scores, 0).astype(np.float64), list(np.flatnonzero(valid))
    while left:
        best = max(left, key=lambda index: (expected[index], -index))
        left.remove(best)
        overlap = overlaps_with(boxes[best], boxes[left])
        factor = np.where(overlap >= 0.3, 1 - overlap, 1) if method == "linear" else np.exp(-(overlap**2) / 0.5)
        expected[left] *= factor
    np.testing.assert_allclose(soft(boxes, scores, valid, method=method), expected, atol=1e-5)
    with pytest.raises(UsageError, match="linear or gaussian"):
        suppression.soft(boxes, scores, valid, method="hard")


@pytest.mark.parametrize("of_each_class", [False, True])
def test_detections_are_the_best_of_all_classes_after_suppression_in_each(of_each_class):
    count, classes, before, after = 40, 3, 25, 30
    scores = draw.permutation(np.arange(count * classes)).reshape(count, classes).astype(np.float32) / (count * classes)
    boxes = np.stack([some(count)[0] for _ in range(classes)], axis=1)  # [N, K, 4]
    boxes = boxes if of_each_class else boxes[:, 0]
    found = jax.jit(suppression.detections, static_argnums=(4, 5))(boxes, scores, 0.35, 0.45, before, after)
    expected = []
    for label in range(classes):
        own = boxes[:, label] if of_each_class else boxes
        first = np.argsort(-scores[:, label], kind="stable")[:before]
        kept = greedy(own[first], scores[first, label], scores[first, label] > 0.35, 0.45)
        expected += [(scores[index, label], label, *own[index]) for index in first[kept]]
    expected = sorted(expected, reverse=True)[:after]
    valid = np.asarray(found["valid"])
    assert valid.sum() == len(expected) and np.all(valid[: len(expected)])
    np.testing.assert_allclose(np.asarray(found["score"])[valid], [row[0] for row in expected])
    np.testing.assert_array_equal(np.asarray(found["label"])[valid], [row[1] for row in expected])
    np.testing.assert_array_equal(np.asarray(found["corners"])[valid], [row[2:] for row in expected])
    assert all(not np.any(np.asarray(value)[~valid]) for value in found.values())


def test_more_room_than_boxes_and_no_score_above_the_least():
    scores = np.asarray([[0.9, 0.0], [0.2, 0.1]], np.float32)
    boxes = np.asarray([[0, 0, 1, 1], [5, 5, 6, 6]], np.float32)
    detections = jax.jit(suppression.detections, static_argnums=(4, 5))
    assert np.asarray(detections(boxes, scores, 0.15, 0.5, 10, 7)["valid"]).tolist() == [True, True] + 5 * [False]
    assert not np.any(detections(boxes, scores, 0.95, 0.5, 10, 7)["valid"])
    with pytest.raises(UsageError, match="one box before and after"):
        suppression.detections(boxes, scores, 0.1, 0.5, 10, 0)
