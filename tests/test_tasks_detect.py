"""Detection: metrics of a run, the loss of a batch, images without objects, what is predicted, what is refused."""

import functools
import json
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.data.placement import placement
from cnnlab.errors import UsageError
from cnnlab.models.anchor_head import AnchorHead
from cnnlab.models.fast_rcnn import FastRCNN
from cnnlab.models.ssd import SSD
from cnnlab.ops import metrics_of_boxes
from cnnlab.predict.write import RECORDS
from cnnlab.recipes.detection import checked_head, detection
from cnnlab.tasks import boxes_shown
from cnnlab.tasks.detect import detect
from cnnlab.tasks.detection_metrics import BoxMetrics, Suppression, objects_of

SCENES = {"dataset": "scenes", "dataset.examples": 24, "dataset.size": 16, "batch_size": 8, "duration": "3 steps"}
SMALL = {**SCENES, "model": "ssd", "model.width": 2, "model.levels": 2, "model.maps": 1}
NAMES = ("cat", "fire truck")
CELLS = np.asarray([[x, y, x + 8, y + 8] for y in (0, 8) for x in (0, 8, 16)], np.float32)
"""Anchors: the six squares of an image of 16 x 24."""


class Squares(nn.Module):
    """Predicts the class of each of six squares by its mean colour, in units of one weight, and no shift of its box."""

    classes: int

    @nn.compact
    def __call__(self, images, *, train):
        """Maps images [B, 16, 24, 3] to (outputs [B, 6, 4 + 1 + K], {})."""
        scale = self.param("scale", nn.initializers.constant(10.0), ())
        means = images.reshape(-1, 2, 8, 3, 8, 3).mean((2, 4)).reshape(-1, 6, 3)  # [B, 2, 8, 3, 8, 3] -> [B, 6, 3]
        return jnp.concatenate([jnp.zeros((*means.shape[:2], 4)), scale * means], axis=-1), {}

    def head(self, image_size):
        """Returns what the outputs mean."""
        return AnchorHead(CELLS, image_size, "softmax")


METRICS = BoxMetrics(NAMES, "objects", ("box_loss", "class_loss"), Suppression(most=10))


def batch(size=3):
    """Images of squares in the colours of their classes: red is background, green a cat, blue a fire truck."""
    colours = np.random.default_rng(0).integers(0, 3, (size, 2, 3))
    colours[:, 0, 0] = 1  # an object in every image
    images = np.eye(3, dtype=np.float32)[colours].repeat(8, axis=1).repeat(8, axis=2)
    kinds = colours.reshape(size, 6)
    return {
        "image": jnp.asarray(images),
        "objects": {
            "corners": jnp.asarray(np.tile(CELLS, (size, 1, 1))),
            "label": jnp.asarray(np.maximum(kinds - 1, 0), jnp.int32),
            "valid": jnp.asarray(kinds > 0),
        },
        "index": jnp.arange(size),
        "mask": jnp.ones(size, bool),
    }


@functools.cache
def trained():
    """(task, params, state, jitted measure) of the squares."""
    task = detect(Squares(2), metrics=METRICS)
    params, state = task.init(jax.random.key(0), batch())
    return task, params, state, jax.jit(task.measure)


def test_a_detector_that_sees_all_has_an_average_precision_of_one_and_one_that_is_wrong_has_less():
    task, params, state, measure = trained()
    found = task.summary(jax.device_get(measure(params, state, batch())))
    assert found["ap"] == found["ap50"] == found["voc_ap"] == found["ap50_fire_truck"] == found["recall"] == pytest.approx(1)
    assert found["loss"] == pytest.approx(found["class_loss"]) and found["box_loss"] == 0 and found["class_loss"] < 0.01
    assert set(found) <= {metric.name for metric in task.metrics} and "ap_large" not in found
    examples = batch()
    blind = {**examples, "image": examples["image"].at[0].set(examples["image"][1])}
    stats = jax.device_get(measure(params, state, blind))
    worse, images = task.summary(stats), objects_of(stats["rows"])
    assert worse["ap"] == pytest.approx(metrics_of_boxes.coco_summary(images, 2)["AP"], abs=1e-12) and worse["ap"] < 1
    total, (_, sums) = task.loss(params, state, blind, jax.random.key(1), "detector")
    assert float(total) == pytest.approx(worse["loss"], rel=1e-6)
    assert task.summary(jax.device_get(sums))["loss"] == pytest.approx(worse["loss"], rel=1e-6)


def test_crowds_and_difficult_objects_need_not_be_found_and_only_crowds_are_left_out_of_the_loss():
    """The flags reach the metrics, which tests/test_ops_metrics_of_boxes.py compares with pycocotools, and the loss."""
    _, params, state, measure = trained()
    examples = batch()
    objects = examples["objects"]
    crowd, difficult = (objects["valid"] & (objects["label"] == label) for label in (0, 1))
    flagged = {**examples, "objects": {**objects, "crowd": crowd, "difficult": difficult}}
    stats = jax.device_get(measure(params, state, flagged))
    images = objects_of(stats["rows"])
    assert sum(int(each.crowd.sum()) for each in images) == int(crowd.sum()) > 0
    assert sum(int(each.difficult.sum()) for each in images) == int(difficult.sum()) > 0
    assert all(each.optional.all() for each in images)
    # Each object has an anchor of its own, and a crowd none: the divisor is the number of anchors that answer.
    np.testing.assert_array_equal(stats["rows"]["loss_terms"][:, 1, 0], difficult.sum(axis=1))


def test_precision_is_that_at_the_size_of_the_images_themselves():
    """Detections at half of the width and a quarter of the height, on a canvas: as at the images' own size, areas included."""
    random, count = np.random.default_rng(0), 40
    low = random.uniform(0, 200, (count, 6, 2))
    own = np.concatenate([low, low + random.uniform(4, 120, low.shape)], axis=2).astype(np.float32)
    guess = (own + random.normal(0, 6, own.shape)).clip(0).astype(np.float32)
    there = {"label": random.integers(0, 2, (count, 6), np.int32), "valid": random.random((count, 6)) < 0.8}
    found = {**there, "corners": guess, "score": random.random((count, 6)).astype(np.float32)}
    batch = {"objects": {**there, "corners": own}, "index": np.arange(count), "mask": np.ones(count, bool)}
    shrunk = np.asarray([0.5, 0.25, 0.5, 0.25], np.float32)
    scaled = {**batch["objects"], "corners": own * shrunk, "scale": np.tile(np.float32([0.25, 0.5]), (count, 1))}
    beside = np.float32(40) * (guess[..., 2:] > 300)  # what reaches into the padding of the canvas is cut off
    cut = {**found, "corners": np.concatenate([guess[..., :2], np.minimum(guess[..., 2:], 300)], axis=2)}
    wide = {**found, "corners": np.concatenate([guess[..., :2], np.minimum(guess[..., 2:], 300) + beside], axis=2) * shrunk}
    on_canvas = {**batch, "objects": scaled, "extent": np.tile(np.int32([75, 150]), (count, 1))}
    summaries = []
    for detections, given in ((cut, batch), (wide, on_canvas)):
        rows = METRICS.rows(detections, given) | {"loss_terms": np.ones((count, 2, 2))}
        summaries.append(METRICS.summary({"sums": {}, "rows": rows}))
    assert 0.1 < summaries[0]["ap"] < 0.9 and {"ap_small", "ap_medium", "ap_large"} <= set(summaries[0])
    assert summaries[0].keys() == summaries[1].keys()
    np.testing.assert_allclose(list(summaries[1].values()), list(summaries[0].values()), rtol=1e-6)


def test_images_without_objects_and_padding_are_finite_and_count_for_nothing():
    task, params, state, measure = trained()
    examples, key = batch(), jax.random.key(1)
    graded = jax.jit(jax.value_and_grad(lambda params, given: task.loss(params, state, given, key, "detector")[0]))

    def loss(given):
        value, gradient = graded(params, given)
        assert np.isfinite(gradient["detector"]["scale"])
        return float(value)

    plain = loss(examples)
    void = {**examples["objects"], "valid": jnp.zeros((3, 6), bool)}
    assert loss({**examples, "objects": void}) == 0
    more = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf[:2]]), examples)
    padded = {**more, "mask": jnp.arange(5) < 3}
    assert loss(padded) == pytest.approx(plain, rel=1e-6)
    last_two = {**more["objects"], "valid": more["objects"]["valid"].at[3:].set(False)}
    # An image without objects adds no negatives to SSD's loss, which takes three for each positive.
    assert loss({**more, "objects": last_two}) == pytest.approx(plain, rel=1e-6)
    numbers = task.summary(jax.device_get(measure(params, state, {**examples, "objects": void})))
    assert np.isnan(numbers["ap"]) and numbers["loss"] == 0


@pytest.mark.slow
def test_proposals_of_the_batch_are_what_fast_rcnn_classifies():
    """Only what overlaps a proposal is found; images alone get a grid of boxes."""
    network = FastRCNN(classes=2, width=2, levels=2, maps=1, channels=4, hidden=8, depth=1, region_samples=8)
    metrics = BoxMetrics(NAMES, "objects", network.head((16, 24)).terms, Suppression(0.0, 1.0, most=10))
    task, examples = detect(network, metrics=metrics), batch()
    wide = jnp.asarray([[[0.0, 0.0, 8.0, 8.0], [10.0, 2.0, 20.0, 14.0], [0.0, 0.0, 0.0, 0.0]]] * 3)
    examples["proposals"] = {"corners": wide, "valid": jnp.asarray([[True, True, False]] * 3)}
    params, state = task.init(jax.random.key(0), examples)

    @jax.jit
    def graded(params, given):
        slopes = jax.grad(lambda params: task.loss(params, state, given, jax.random.key(1), "detector")[0])(params)
        return task.measure(params, state, given), slopes, task.predict(params, state, given["image"])

    stats, slopes, alone = jax.device_get(graded(params, examples))
    assert all(np.isfinite(slope).all() and np.any(slope) for slope in jax.tree.leaves(slopes["detector"]["output"]))
    found = stats["rows"]
    assert found["found_valid"].sum(axis=1).tolist() == [4, 4, 4], "two classes of each of two proposals"
    assert np.abs(found["found_corners"][:, :4] - np.asarray(wide)[:, None, 0]).max(axis=-1).min(axis=1).max() < 1
    assert alone.shape[1] == 4 * 6 * 6, "anchors of 4 x 6 cells"
    assert set(task.summary(stats)) >= {"box_loss", "class_loss", "ap"}


def test_detections_are_given_in_pixels_of_the_image_itself():
    task, params, state, _ = trained()
    prediction, images = task.prediction, batch()["image"]
    arrays = prediction.arrays(task.predict(params, state, images), images)
    one = {name: np.asarray(values)[0] for name, values in arrays.items()}
    place = placement({"name": "canvas", "scale": 0.5, "height": 16, "width": 24}, (30, 40), 16)
    rows = prediction.rows(prediction.placed(one, place), None)
    records = prediction.records(prediction.placed(one, place), None, "folder/000042.jpg")
    assert len(rows) == len(records) == int(one["valid"].sum()) > 0
    assert all(0 <= row["x1"] < row["x2"] <= 40 and 0 <= row["y1"] < row["y2"] <= 30 for row in rows)
    first, record = rows[0], records[0]
    assert record["image_id"] == 42 and record["category"] == first["class"] and json.dumps(records)
    np.testing.assert_allclose(record["bbox"], [first["x1"], first["y1"], first["x2"] - first["x1"], first["y2"] - first["y1"]])
    assert "cat" in prediction.caption(one, None)
    picture = prediction.maps(np.zeros((200, 300, 1), np.float32), one, placement({"name": "none"}, (200, 300), 16))["boxes"]
    assert picture.shape == (200, 300, 3) and picture.max() > 0


def test_outlines_have_the_colour_of_their_class_and_the_first_lies_on_top():
    drawn = jax.jit(boxes_shown.outlined)(
        jnp.zeros((6, 8, 3)),
        {
            "corners": jnp.asarray([[1.0, 1.0, 5.0, 5.0], [1.0, 1.0, 7.0, 4.0], [0.0, 0.0, 8.0, 6.0]]),
            "label": jnp.asarray([0, 1, 0]),
            "valid": jnp.asarray([True, True, False]),
        },
        colours=jnp.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    )
    shown = np.asarray(drawn)
    assert shown[1, 1].tolist() == [1, 0, 0] and shown[1, 6].tolist() == [0, 1, 0] and shown[0, 0].tolist() == [0, 0, 0]
    assert shown[4, 4].tolist() == [1, 0, 0] and shown[2, 3].tolist() == [0, 0, 0] and shown[3, 3].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dataset": "stripes", "dataset.size": 16, "dataset.examples": 24}, "no column of boxes"),
        (
            {"model": "fast_rcnn", "model.width": 2, "model.levels": 2, "model.maps": 1},
            r"FastRCNN classifies boxes that are proposed, and scenes.* no column proposals.*\n.*--proposals=selective_search",
        ),
        (
            {"model": "mask_rcnn", "model.maps": 1, "model.levels": 2},
            r"MaskRCNN learns a mask of each object, and scenes has no column of them.*\n.*--dataset.instances",
        ),
        ({"early_stopping": 3, "validation": 0.0}, "no validation split"),
        ({"new_head": True}, "without --init_from every layer is"),
        ({"model": "ssd300", "model.width": 0.1, "model.levels": None, "model.maps": None}, "SSD300 takes 300x300 alone"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_compiles(values, said):
    given = {name: value for name, value in {**SMALL, **values}.items() if value is not None}
    with pytest.raises(UsageError, match=said):
        knobs.resolve(detection, given, {"data_dir": None}).call()


def test_a_network_without_a_head_is_no_detector():
    assert checked_head(SSD(classes=2, width=2), (16, 16, 3)).terms == ("box_loss", "class_loss")
    with pytest.raises(UsageError, match=r"Dense is no detector.\n.*method head"):
        checked_head(nn.Dense(3), (16, 16, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"), [("yolo_scenes", ["--model.channels=4"]), ("rcnn_scenes", ["--model.crop=16", "--proposals.least=4"])]
)
def test_a_run_draws_its_figures_and_predicts_boxes_and_records(here, name: str, more: list[str], tmp_path: pathlib.Path):
    words = [f"--experiment={name}", "--dataset.size=16", "--dataset.examples=24", "--batch_size=8", "--steps=2"]
    words += ["--model.width=2", "--model.levels=2", "--least_score=0", *more]
    code, _, errors = here(*words, f"--workdir={tmp_path}/run")
    assert code == 0, errors
    drawn = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert {"boxes", "precision_recall", "errors", "mistakes"} <= drawn
    (tmp_path / "photos").mkdir()
    from PIL import Image

    Image.fromarray(np.zeros((21, 33, 3), np.uint8)).save(tmp_path / "photos" / "7.png")
    code, _, errors = here("predict", f"--workdir={tmp_path}/run", f"--images={tmp_path}/photos", f"--to={tmp_path}/out")
    assert code == 0, errors
    with Image.open(tmp_path / "out" / "boxes" / "7.png") as picture:
        assert picture.size == (33, 21)
    records = json.loads((tmp_path / "out" / RECORDS).read_text())
    assert records and {record["image_id"] for record in records} == {7}
    found = np.asarray([record["bbox"] for record in records])
    assert np.all(found >= 0) and np.all(found[:, 0] + found[:, 2] <= 33.001)


def write_coco(folder: pathlib.Path, count: int, first: int) -> str:
    """Writes images of many sizes with red and green boxes, numbered from `first`; returns the file of annotations."""
    from PIL import Image

    random, images, annotations = np.random.default_rng(first), [], []
    folder.mkdir()
    for number in range(first, first + count):
        height, width = (int(side) for side in random.integers(50, 110, 2))
        pixels = random.integers(0, 60, (height, width, 3)).astype(np.uint8)
        for _ in range(int(random.integers(1, 4))):
            kind, (wide, high) = int(random.integers(0, 2)), (int(side) for side in random.integers(12, 46, 2))
            x, y = int(random.integers(0, width - wide)), int(random.integers(0, height - high))
            pixels[y : y + high, x : x + wide, kind] = 220
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": (3, 8)[kind], "bbox": [x, y, wide, high]}
            area, crowd = float(wide * high * random.uniform(0.5, 1)), int(random.random() < 0.1)
            annotations.append({**one, "area": area, "iscrowd": crowd})
        Image.fromarray(pixels).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
    categories = [{"id": 3, "name": "red"}, {"id": 8, "name": "green"}]
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(folder / "labels.json")


@pytest.mark.slow
def test_the_precision_of_a_run_on_a_canvas_is_that_of_its_predictions_by_pycocotools(here, tmp_path: pathlib.Path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed (tests/requirements.txt)")
    from pycocotools.cocoeval import COCOeval

    train, test = write_coco(tmp_path / "train", 40, 1), write_coco(tmp_path / "test", 30, 1001)
    words = ["--experiment=ssd_scenes", f"--dataset=coco:{train}", f"--dataset.test={test}", "--image_fit=canvas"]
    words += ["--image_fit.scale=0.5", "--model.width=4", "--model.levels=2", "--model.maps=2", "--batch_size=8", "--steps=40"]
    code, _, errors = here(*words, f"--workdir={tmp_path}/run", "--devices=1")
    assert code == 0, errors
    photos, found = f"--images={tmp_path}/test", f"--to={tmp_path}/found.json"
    code, _, errors = here("predict", f"--workdir={tmp_path}/run", photos, found, "--devices=1")
    assert code == 0, errors
    truth = coco.COCO(test)
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    names = {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "recall": 8}
    ours = {name: metrics[f"test/{name}"] for name in names}
    np.testing.assert_allclose(list(ours.values()), evaluation.stats[list(names.values())], rtol=1e-6)
    assert ours["ap50"] > 0.01 and ours["ap_medium"] != ours["ap_small"]
