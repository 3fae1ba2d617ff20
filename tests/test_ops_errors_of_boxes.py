"""Kinds of errors of a detector on cases whose answer one sees, and that their costs are those of its average precision."""

import numpy as np
import pytest

from cnnlab.ops import errors_of_boxes, metrics_of_boxes, objects


def boxes(*rows, score=None, **flags):
    """Truth, or detections with scores, of boxes (x1, y1, x2, y2, class)."""
    rows = np.asarray(rows, np.float32).reshape(-1, 5)
    values = {"corners": rows[:, :4], "label": rows[:, 4].astype(np.int32), "valid": np.ones(len(rows), bool), **flags}
    return values if score is None else {**values, "score": np.asarray(score, np.float32)}


TRUTH = boxes((0, 0, 20, 20, 0), (40, 0, 60, 20, 1), (80, 0, 99, 20, 0), (0, 40, 20, 60, 1), (40, 40, 60, 60, 0))
FOUND = boxes(
    (0, 0, 20, 19, 0),  # right
    (0, 1, 20, 20, 0),  # the same again
    (40, 0, 60, 19, 0),  # an object of class 1
    (85, 8, 99, 20, 0),  # too small an overlap
    (70, 70, 90, 90, 1),  # nothing
    (4, 40, 20, 50, 0),  # on the edge of an object of class 1
    score=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
)


def test_every_kind_of_error_is_told():
    found = errors_of_boxes.verdicts(objects.of_boxes(TRUTH, FOUND))
    assert found.kind == ("right", "duplicate", "classification", "localisation", "background", "both")
    np.testing.assert_array_equal(found.aim, [0, -1, 1, 2, -1, -1])
    np.testing.assert_array_equal(found.missed, [False, False, False, True, True])  # an error aims at the second and the third


def test_costs_are_those_of_corrected_sets():
    image = objects.of_boxes(TRUTH, FOUND)
    found = errors_of_boxes.breakdown([image], 2)
    assert found.counts == dict.fromkeys((*errors_of_boxes.KINDS,), 1) | {"missed": 2}

    def ap50(truth, rows, score):
        return metrics_of_boxes.coco_curves([objects.of_boxes(truth, boxes(*rows, score=score))], 2).average_precision(0.5)

    rows = [(*corners, label) for corners, label in zip(FOUND["corners"], FOUND["label"], strict=True)]
    score = FOUND["score"]
    before = ap50(TRUTH, rows, score)
    assert found.average_precision == pytest.approx(before, abs=1e-12)
    without = {"duplicate": 1, "background": 4, "both": 5}
    for kind, place in without.items():
        left = [row for number, row in enumerate(rows) if number != place]
        assert found.costs[kind] == pytest.approx(ap50(TRUTH, left, np.delete(score, place)) - before, abs=1e-12)
    for kind, place, right in (("classification", 2, 1), ("localisation", 3, 2)):
        own = (*TRUTH["corners"][right], TRUTH["label"][right])
        fixed = [own if number == place else row for number, row in enumerate(rows)]
        assert found.costs[kind] == pytest.approx(ap50(TRUTH, fixed, score) - before, abs=1e-12) and found.costs[kind] > 0
    fewer = {name: value[:3] for name, value in TRUTH.items()}
    assert found.costs["missed"] == pytest.approx(ap50(fewer, rows, score) - before, abs=1e-12)


def test_objects_that_need_not_be_found_make_no_errors():
    crowd = np.asarray([False, True, False, False, False])
    found = errors_of_boxes.verdicts(objects.of_boxes({**TRUTH, "crowd": crowd}, boxes((45, 5, 55, 15, 1), score=[0.9])))
    assert found.kind == ("ignored",)
    np.testing.assert_array_equal(found.missed, ~crowd)
    nothing = errors_of_boxes.breakdown([objects.of_boxes(boxes(), boxes((0, 0, 9, 9, 1), score=[0.3]))], 2)
    assert np.isnan(nothing.average_precision) and nothing.counts["background"] == 1


def test_the_average_precision_is_cocos_on_random_sets():
    draw = np.random.default_rng(2)
    images = []
    for _ in range(20):
        low = draw.uniform(0, 80, (6, 2))
        corners = np.concatenate([low, low + draw.uniform(10, 60, (6, 2))], axis=1)
        label = draw.integers(0, 3, 6)
        found = np.concatenate([corners + draw.uniform(-4.5, 4.5, (6, 4)), corners[::-1]])
        rows = np.column_stack([found, np.where(draw.random(12) < 0.7, np.tile(label, 2), draw.integers(0, 3, 12))])
        truth = boxes(*np.column_stack([corners, label]), crowd=draw.random(6) < 0.2)
        images.append(objects.of_boxes(truth, boxes(*rows, score=draw.random(12))))
    found = errors_of_boxes.breakdown(images, 3)
    curves = metrics_of_boxes.coco_curves(images, 3)
    assert 0.1 < found.average_precision < 0.9
    assert found.average_precision == pytest.approx(curves.average_precision(0.5), abs=1e-12)
    assert all(cost >= 0 for cost in found.costs.values()) and sum(found.counts.values()) > 50


def test_a_localisation_needs_the_class_and_the_place():
    labels, corners = np.asarray([2, 2, 2, 2]), np.tile(np.asarray([0, 0, 10, 10], np.float32), (4, 1))
    guesses = np.asarray([[2, 0], [0, 2], [2, 0], [0, 1]])
    near, far = [0, 0, 10, 6], [0, 0, 10, 4]
    guessed = np.asarray([[near, far], [near, near], [far, near], [near, near]], np.float32)
    assert errors_of_boxes.localisation_error(labels, corners, guesses, guessed) == 0.5
    assert errors_of_boxes.localisation_error(labels, corners, guesses[:, :1], guessed[:, :1]) == 0.75
    assert np.isnan(errors_of_boxes.localisation_error(labels[:0], corners[:0], guesses[:0], guessed[:0]))
