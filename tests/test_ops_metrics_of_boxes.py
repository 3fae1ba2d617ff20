"""Average precision against pycocotools on random sets, and VOC's against a loop over its rules."""

import contextlib
import functools
import io

import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import metrics_of_boxes, objects

CLASSES = 3


def random_set(seed, images=5):
    """Truth and detections of some images: near misses, duplicates, crowds, ties, empty images, over a hundred detections."""
    draw = np.random.default_rng(seed)
    made = []
    for number in range(images):
        count = int(draw.integers(0, 7)) if number else 3
        low = draw.integers(0, 150, (count, 2))
        corners = np.concatenate([low, low + draw.integers(4, 140, (count, 2))], axis=1).astype(np.float32)
        label = draw.integers(0, CLASSES - (seed % 2), count).astype(np.int32)  # every second set lacks a class
        truth = {"corners": corners, "label": label, "valid": np.ones(count, bool), "crowd": draw.random(count) < 0.15}
        shaken = np.repeat(corners, 3, axis=0) + draw.normal(0, draw.choice([1, 6], (3 * count, 1)), (3 * count, 4))
        many = 500 if seed % 10 == 3 and number == 1 else int(draw.integers(0, 8))  # over a hundred of each class
        away = draw.uniform(0, 150, (many, 2))
        found = np.concatenate([shaken, np.concatenate([away, away + draw.uniform(3, 120, (many, 2))], axis=1)])
        found = np.concatenate([np.minimum(found[:, :2], found[:, 2:]), np.maximum(found[:, :2], found[:, 2:])], axis=1)
        labels = np.concatenate([np.repeat(label, 3), draw.integers(0, CLASSES, many)])
        valid = draw.random(len(found)) < 0.8 if seed % 7 else np.zeros(len(found), bool)  # every seventh finds nothing
        guess = {"score": np.round(draw.random(len(found)), 1), "corners": found.astype(np.float32), "label": labels}
        made.append((truth, {**guess, "valid": valid}))
    return made


def painted(corners, label):
    """Masks of ellipses in boxes, bool [N, 60, 70], on a grid of 4 pixels."""
    y, x = np.mgrid[:60, :70] * 4 + 2
    middle, half = (corners[:, :2] + corners[:, 2:]) / 2, np.maximum((corners[:, 2:] - corners[:, :2]) / 2, 1)
    far = [((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 for (cx, cy), (w, h) in zip(middle, half, strict=True)]
    return np.asarray(far).reshape(len(label), 60, 70) <= 1


def of_pycocotools(made, masks=False):
    """The twelve numbers, and precision [T, R, K, A, C], by pycocotools, with NaN for its −1."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (tests/requirements.txt)")
    from pycocotools import mask as codes
    from pycocotools.cocoeval import COCOeval

    def region(corners, mask):
        x1, y1, x2, y2 = corners.astype(np.float64).tolist()
        box = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
        return box if not masks else {**box, "segmentation": codes.encode(np.asfortranarray(mask.astype(np.uint8)))}

    annotations, results = [], []
    for image, (truth, found) in enumerate(made):
        for corners, label, crowd, mask in zip(
            truth["corners"], truth["label"], truth["crowd"], painted(truth["corners"], truth["label"]), strict=True
        ):
            width, height = (corners[2:].astype(np.float64) - corners[:2]).tolist()
            area = float(mask.sum()) if masks else width * height
            one = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(label),
                "iscrowd": int(crowd),
                "area": area,
            }
            annotations.append({**one, **region(corners, mask)})
        places = np.flatnonzero(found["valid"])
        shapes = painted(found["corners"], found["label"])
        for place in places:
            one = {"image_id": image, "category_id": int(found["label"][place]), "score": float(found["score"][place])}
            results.append({**one, **region(found["corners"][place], shapes[place])})
            if masks:
                del results[-1]["bbox"]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "images": [{"id": number, "height": 60, "width": 70} for number in range(len(made))],
            "annotations": annotations,
            "categories": [{"id": number, "name": str(number)} for number in range(CLASSES)],
        }
        truth.createIndex()
        guess = truth.loadRes(results) if results else coco.COCO()
        if not results:
            guess.dataset = {**truth.dataset, "annotations": []}
            guess.createIndex()
        run = COCOeval(truth, guess, "segm" if masks else "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return (np.where(each == -1, np.nan, each) for each in (run.stats, run.eval["precision"], run.eval["recall"]))


def of_ours(made, masks=False):
    """The objects of each image."""
    if not masks:
        return [objects.of_boxes(truth, found) for truth, found in made]
    shapes = [[painted(each["corners"], each["label"]) for each in pair] for pair in made]
    return [objects.of_masks(truth, own, found, guessed) for (truth, found), (own, guessed) in zip(made, shapes, strict=True)]


@pytest.mark.parametrize(("seeds", "masks"), [(range(8), False), (range(4), True)])
def test_numbers_are_those_of_pycocotools(seeds, masks):
    compare(seeds, masks)


@pytest.mark.slow
def test_numbers_are_those_of_pycocotools_on_fifty_sets():
    compare(range(8, 50), False)
    compare(range(4, 12), True)


def compare(seeds, masks):
    seen = 0
    for seed in seeds:
        made = random_set(seed)
        stats, precision, recall = of_pycocotools(made, masks)
        images = of_ours(made, masks)
        curves = metrics_of_boxes.coco_curves(images, CLASSES)
        np.testing.assert_allclose(curves.precision, precision, rtol=0, atol=1e-12, err_msg=str(seed))
        np.testing.assert_allclose(curves.recall, recall, rtol=0, atol=1e-12, err_msg=str(seed))
        ours = list(metrics_of_boxes.coco_summary(images, CLASSES).values())
        np.testing.assert_allclose(ours, stats, rtol=0, atol=1e-12, err_msg=str(seed))
        np.testing.assert_allclose(np.nanmean(curves.by_class(0.5)), stats[1], atol=1e-12)
        seen += 0.05 < stats[0] < 0.95
    assert seen >= len(seeds) // 2, "most of these sets are trivial"


def boxes(*rows, score=None, **flags):
    """Truth, or detections with scores, of boxes (x1, y1, x2, y2, class)."""
    rows = np.asarray(rows, np.float32).reshape(-1, 5)
    values = {"corners": rows[:, :4], "label": rows[:, 4].astype(np.int32), "valid": np.ones(len(rows), bool), **flags}
    return values if score is None else {**values, "score": np.asarray(score, np.float32)}


def test_a_perfect_detector_has_one_and_an_image_more_of_nothing_changes_nothing():
    truth = boxes((0, 0, 40, 40, 0), (50, 50, 90, 70, 2))
    image = objects.of_boxes(truth, {**truth, "score": np.asarray([0.9, 0.3])})
    nothing = objects.of_boxes(boxes(), boxes(score=()))
    found = metrics_of_boxes.coco_summary([image, nothing], CLASSES)
    np.testing.assert_allclose(
        [found[name] for name in ("AP", "AR_100", "AP_medium", "AP_large")], [1, 1, 1, np.nan], atol=1e-12
    )
    np.testing.assert_allclose(metrics_of_boxes.coco_curves([image], CLASSES).by_class(), [1, np.nan, 1], atol=1e-12)
    assert np.isnan(metrics_of_boxes.coco_curves([nothing], CLASSES).average_precision())
    with pytest.raises(UsageError, match="expected one of"):
        metrics_of_boxes.coco_curves([image], CLASSES).average_precision(0.42)


@functools.cache
def voc_image():
    """Two objects and a difficult one; found in the order of scores: right, again the same, nothing, the difficult, right."""
    truth = boxes((0, 0, 20, 20, 0), (40, 0, 60, 20, 0), (80, 0, 99, 20, 0), difficult=np.asarray([False, False, True]))
    rows = [(1, 0, 20, 20, 0), (0, 1, 20, 20, 0), (20, 40, 40, 60, 0), (80, 0, 99, 19, 0), (40, 2, 60, 20, 0)]
    return objects.of_boxes(truth, boxes(*rows, score=[0.9, 0.8, 0.7, 0.6, 0.5]))


def test_voc_counts_duplicates_as_wrong_and_difficult_objects_not_at_all():
    recall, precision = metrics_of_boxes.voc_curve([voc_image()], 0)
    np.testing.assert_allclose(recall, [0.5, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(precision, [1, 1 / 2, 1 / 3, 2 / 4])
    # Area: half at precision 1 and half at 1/2. Eleven points: recalls 0 to 0.5 at 1, 0.6 to 1 at 1/2.
    np.testing.assert_allclose(metrics_of_boxes.voc_average_precision([voc_image()], 2), [0.75, np.nan])
    np.testing.assert_allclose(metrics_of_boxes.voc_average_precision([voc_image()], 1, points=11), [(6 + 5 / 2) / 11])


def test_voc_of_objects_that_nobody_finds_is_0():
    image = objects.of_boxes(boxes((0, 0, 9, 9, 1)), boxes((0, 0, 9, 9, 0), score=[0.5]))
    np.testing.assert_array_equal(metrics_of_boxes.voc_average_precision([image], 2), [np.nan, 0])
    recall, _ = metrics_of_boxes.voc_curve([image], 0)
    assert np.isnan(recall).all()
