"""Localisation: its metrics on known answers, what the loss is made of, images without an object, what is refused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.recipes.localization import checked_localizer, localization
from cnnlab.tasks.localization_metrics import PlaceMetrics
from cnnlab.tasks.localize import localize

SCENES = {"dataset": "scenes", "dataset.examples": 24, "dataset.size": 16, "batch_size": 8, "duration": "3 steps"}
NAMES = ("cat", "dog")
METRICS = PlaceMetrics(NAMES, "objects", 2.0, 3.0)
SIZE = (16, 32)
"""Height and width."""


class Told(nn.Module):
    """Returns the first pixels of an image: two logits, then a box or two, in units of one weight."""

    boxes: int = 1

    @nn.compact
    def __call__(self, images, *, train):
        """Maps images [B, 16, 32, 1] to ({"logits": [B, 2], "box": [B, 4] or [B, 2, 4]}, {})."""
        numbers = self.param("scale", nn.initializers.ones, ()) * images[:, 0, :, 0]
        box = numbers[:, 2:6] if self.boxes == 1 else numbers[:, 2:10].reshape(-1, 2, 4)  # [B, 8] -> [B, 2, 4]
        return {"logits": numbers[:, :2], "box": box}, {}


def batch():
    """Right; the class wrong; the box half as wide and a pixel less; no object; padding. True boxes are (8, 4, 24, 12)."""
    right, narrow = [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 7 / 32, 0.5]
    answers = [[3, 0, *right], [0, 3, *right], [3, 0, *narrow], [3, 0, *right], [0, 9, 5, 5, 5, 5]]
    images = np.zeros((5, *SIZE, 1), np.float32)
    images[:, 0, :6, 0] = answers
    corners = np.tile(np.asarray([8, 4, 24, 12], np.float32), (5, 1, 1))
    return {
        "image": jnp.asarray(images),
        "objects": {
            "corners": jnp.asarray(corners).at[3].set(jnp.nan),
            "label": jnp.zeros((5, 1), jnp.int32),
            "valid": jnp.asarray([True, True, True, False, True])[:, None],
        },
        "index": jnp.arange(5),
        "mask": jnp.arange(5) < 4,
    }


@functools.cache
def told():
    """(task, params, state, its compiled loss with the gradient)."""
    task = localize(Told(), metrics=METRICS)
    params, state = task.init(jax.random.key(0), batch())

    def loss(params, given):
        return task.loss(params, state, given, jax.random.key(1), "localizer")

    return task, params, state, jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_a_prediction_is_right_where_the_class_is_and_the_boxes_overlap_by_half():
    task, params, state, loss = told()
    stats = jax.device_get(jax.jit(task.measure)(params, state, batch()))
    rows = {name: values[:4] for name, values in stats["rows"].items()}  # without padding
    found = task.summary({"sums": {}, "rows": rows})
    np.testing.assert_allclose(rows["iou"], [1, 1, 7 / 16, 0], atol=1e-6)
    assert found["localization_error"] == pytest.approx(2 / 3) and found["accuracy"] == pytest.approx(2 / 3)
    assert found["mean_iou"] == pytest.approx((1 + 1 + 7 / 16) / 3, abs=1e-6)
    assert set(found) == {metric.name for metric in task.metrics}
    entropies = np.log1p(np.exp(-3.0)) + np.asarray([0, 3, 0])
    assert found["class_loss"] == pytest.approx(entropies.mean(), rel=1e-5)
    assert found["box_loss"] == pytest.approx((9 / 32) ** 2 / 3, rel=1e-5)
    (value, (_, sums)), gradient = loss(params, batch())
    assert float(value) == pytest.approx(2 * found["class_loss"] + 3 * found["box_loss"], rel=1e-5)
    assert np.isfinite(gradient["localizer"]["scale"])  # though the image without an object has corners of NaN
    of_sums = task.summary(jax.device_get(sums))
    assert of_sums["loss"] == pytest.approx(found["loss"], rel=1e-5)
    assert of_sums["localization_error"] == pytest.approx(2 / 3)


def test_a_box_on_a_canvas_ends_with_its_image_for_rows_and_overlap():
    task, params, state, _ = told()
    corners = jnp.tile(jnp.asarray([8.0, 4.0, 16.0, 12.0]), (5, 1, 1))
    given = batch() | {"objects": batch()["objects"] | {"corners": corners}, "extent": jnp.tile(jnp.asarray([16, 16]), (5, 1))}
    rows = jax.device_get(jax.jit(task.measure)(params, state, given))["rows"]
    np.testing.assert_allclose(rows["found_corners"][0, 0], [8, 4, 16, 12], rtol=1e-6)
    assert rows["iou"][0] == pytest.approx(1, abs=1e-6)


def test_a_batch_without_objects_has_no_loss_and_no_gradient():
    task, params, _, loss = told()
    void = {**batch(), "objects": {**batch()["objects"], "valid": jnp.zeros((5, 1), bool)}}
    (value, _), gradient = loss(params, void)
    assert float(value) == 0 and float(gradient["localizer"]["scale"]) == 0
    assert task.summary({"sums": {}, "rows": {"index": np.zeros(0), "true_valid": np.zeros((0, 1), bool)}}) == {}


def test_the_box_of_the_true_class_learns_and_that_of_the_predicted_class_is_measured():
    task = localize(Told(boxes=2), metrics=METRICS)
    examples = batch()
    right, wrong = [0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.1, 0.1]
    image = examples["image"].at[:, 0, :10, 0].set(jnp.asarray([0, 3, *right, *wrong]))  # class 1 is predicted, 0 is true
    params, state = task.init(jax.random.key(0), examples)
    stats = jax.device_get(jax.jit(task.measure)(params, state, {**examples, "image": image}))
    np.testing.assert_allclose(stats["rows"]["box_loss"][:3], 0, atol=1e-10)
    assert np.all(stats["rows"]["iou"] < 0.1)
    np.testing.assert_allclose(stats["rows"]["found_corners"][0, 0], [6.4, 3.2, 9.6, 4.8], rtol=1e-5)


def test_scores_that_are_not_numbers_are_wrong():
    task, params, state, _ = told()
    broken = {**batch(), "image": batch()["image"].at[0, 0, 0, 0].set(jnp.nan)}
    stats = jax.device_get(jax.jit(task.measure)(params, state, broken))
    found = task.summary({"sums": {}, "rows": {name: values[:4] for name, values in stats["rows"].items()}})
    assert found["localization_error"] == 1 and found["accuracy"] == pytest.approx(1 / 3)


def test_one_box_of_each_image_is_predicted_in_pixels():
    task, params, state, _ = told()
    images = batch()["image"]
    arrays = task.prediction.arrays(task.predict(params, state, images), images)
    one = {name: np.asarray(values)[0] for name, values in arrays.items()}
    (row,) = task.prediction.rows(one, None)
    assert row["class"] == "cat" and [row[side] for side in ("x1", "y1", "x2", "y2")] == [8, 4, 24, 12]
    assert task.prediction.caption(one, None) == "1 cat"


def test_data_and_networks_that_cannot_be_localised_are_refused():
    def made(**given):
        return knobs.resolve(localization, {**SCENES, **given}).call()

    with pytest.raises(UsageError, match="have up to 5 boxes"):
        made()
    with pytest.raises(UsageError, match="has no column of boxes"):
        knobs.resolve(localization, {"dataset": "stripes", "dataset.examples": 90, "batch_size": 24}).call()
    with pytest.raises(UsageError, match="without --init_from every layer is"):
        made(new_head=True)
    with pytest.raises(UsageError, match="leave nothing to learn"):
        made(class_weight=0, box_weight=0)
    with pytest.raises(UsageError, match=r"no localiser: for an image it returns logits \[1, 2\] and box \[1, 4\]"):
        checked_localizer(Told(), 3, (*SIZE, 1))
    with pytest.raises(UsageError, match=r"no localiser: for an image it returns an array \[1, 2\]"):
        checked_localizer(MODELS["mlp"](classes=2), 2, (*SIZE, 1))
