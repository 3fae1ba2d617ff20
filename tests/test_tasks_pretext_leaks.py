"""What leaks the answer of a pretext task: a fringe of the lens, a mark in a corner; and data in which nothing else does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnnlab import knobs
from cnnlab.data.procedural import smooth_noise
from cnnlab.data.variations.lens import corner_mark, lens_fringe, random_fringe
from cnnlab.errors import UsageError
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.tasks.leaks import diagnosis

KEYS = jax.random.split(jax.random.key(0), 2)
PLAIN = {"model.depth": 1, "model.norm": "none"}
SMALL = {"dataset": "smooth_noise", "dataset.size": 24, "dataset.examples": 40, "model.widths": "4", "batch_size": 8, **PLAIN}


def test_a_fringe_moves_red_outwards_and_blue_inwards_by_more_the_farther_away():
    """Against interpolation by SciPy, at places that are computed pixel by pixel."""
    images = np.random.default_rng(0).uniform(size=(2, 9, 13, 3)).astype(np.float32)
    found = jax.jit(lambda x: lens_fringe(x, KEYS, strength=1.5))(images)
    centre, corner = np.array([4.0, 6.0])[:, None, None], np.hypot(4, 6)
    offsets = np.indices((9, 13)) - centre
    for channel, moved in ((0, 1.5), (1, 0.0), (2, -1.5)):
        # What lies at p now was at a distance smaller by the factor 1 + moved / corner.
        places = centre + offsets / (1 + moved / corner)
        expected = [ndimage.map_coordinates(each[..., channel], places, order=1, mode="nearest") for each in images]
        np.testing.assert_allclose(found[..., channel], expected, atol=1e-5)


def test_a_random_fringe_has_another_strength_in_each_image_up_to_the_largest():
    images = np.random.default_rng(0).uniform(size=(1, 9, 9, 3)).astype(np.float32).repeat(2, axis=0)
    found = jax.jit(lambda x: random_fringe(x, KEYS, strength=2.0))(images)
    strengths = 2 * np.array([jax.random.uniform(key, minval=-1.0, maxval=1.0) for key in KEYS])
    for image, strength, one in zip(images, strengths, found, strict=True):
        np.testing.assert_allclose(lens_fringe(jnp.asarray(image[None]), KEYS[:1], strength=strength)[0], one, atol=1e-5)


def test_a_mark_lies_in_the_upper_left_corner_alone():
    images = np.zeros((2, 6, 6, 1), np.float32)
    found = np.asarray(jax.jit(lambda x: corner_mark(x, KEYS, size=2))(images))
    assert (found[:, :2, :2] == 1).all() and found.sum() == 2 * 4


def test_what_images_cannot_have_is_refused():
    with pytest.raises(UsageError, match="images have 1 channel"):
        lens_fringe(np.zeros((2, 6, 6, 1), np.float32), KEYS)
    with pytest.raises(UsageError, match="square of 6 pixels"):
        corner_mark(np.zeros((2, 6, 6, 1), np.float32), KEYS, size=6)


def test_smooth_noise_is_alike_everywhere_has_no_labels_and_correlates_as_its_scale_says():
    source = smooth_noise(examples=400, size=16, scale=1.5)
    images = source.splits["train"].columns["image"].astype(np.float64) / 255
    assert list(source.kinds) == ["image"] and images.shape == (400, 16, 16, 3)
    assert abs(images.mean() - 0.5) < 0.01 and images.std() == pytest.approx(1 / 6, rel=0.05)
    by_place = images[..., 0].mean(axis=0)
    assert np.abs(by_place - 0.5).max() < 5 / 6 / np.sqrt(400)
    grey = images[..., 0] - 0.5
    for distance in (1, 3):
        for axis in (1, 2):
            found = np.mean(grey * np.roll(grey, distance, axis=axis)) / np.mean(grey**2)
            assert found == pytest.approx(np.exp(-(distance**2) / (4 * 1.5**2)), abs=0.03)


def test_a_leak_is_in_training_and_held_out_images_and_the_task_is_measured_without_it_too():
    plain, leaky = (knobs.resolve(pretext_learning, {**SMALL, **more}).call() for more in ({}, {"leak": "corner_mark"}))
    data = plain.data
    feed = next(data.evaluate("test", 8))
    batch = data.prepare(data.resident["test"], feed, None)
    state = leaky.task.init(jax.random.key(0), batch)
    pixels = np.asarray(batch["image"]) * data.inputs.divide / 255 + data.inputs.subtract / 255
    marked = {
        **batch,
        "image": (np.asarray(corner_mark(jnp.asarray(pixels), KEYS)) * 255 - data.inputs.subtract) / data.inputs.divide,
    }
    with_it, without = (jax.jit(leaky.task.measure)(*state, batch), jax.jit(leaky.task.measure_final)(*state, batch))
    own = jax.jit(plain.task.measure)
    np.testing.assert_allclose(with_it["rows"]["loss"], own(*state, marked)["rows"]["loss"], rtol=1e-4)
    np.testing.assert_allclose(without["rows"]["without_leak/loss"], own(*state, batch)["rows"]["loss"], rtol=1e-5)
    numbers = leaky.task.summary({"sums": {}, "rows": jax.device_get({**with_it["rows"], **without["rows"]})})
    assert numbers.keys() == {"accuracy", "loss", "accuracy_without_leak"} <= {metric.name for metric in leaky.task.metrics}


def test_the_diagnosis_names_a_leak_where_the_task_is_solved_worse_without_it():
    task = knobs.resolve(pretext_learning, SMALL).call().task
    text = diagnosis(task, {"test/accuracy": 0.9, "test/accuracy_without_leak": 0.25})
    assert text == "the leak solves the task: accuracy is 90 % with it and 25 % on images without it."
    assert diagnosis(task, {"test/accuracy": 0.9, "test/accuracy_without_leak": 0.89}) == ""
    assert diagnosis(task, {"test/accuracy": 0.9}) == ""
    lower = dataclasses.replace(task, metrics=(dataclasses.replace(task.metrics[1], name="error"),))
    assert "error is 0.1 with it and 2" in diagnosis(lower, {"test/error": 0.1, "test/error_without_leak": 2.0})
