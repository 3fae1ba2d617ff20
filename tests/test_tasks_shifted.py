"""Test images that are shifted: by how many pixels to which side, and what is counted of the predictions."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.models.mlp import MLP
from cnnlab.tasks.classify import classify
from cnnlab.tasks.shifted import SHIFTED, shifted, with_shifts


def test_an_image_is_shifted_to_the_side_of_its_index_and_its_border_repeated():
    images = np.random.default_rng(0).normal(size=(6, 7, 5, 2)).astype(np.float32)
    index = np.array([0, 1, 2, 3, 4, 7], np.int32)
    found = np.asarray(shifted(jnp.asarray(images), jnp.asarray(index), jnp.int32(2), 3))
    by = [(0, 2), (0, -2), (2, 0), (-2, 0), (0, 2), (-2, 0)]  # (down, right)
    for image, (down, right), moved in zip(images, by, found, strict=True):
        rows, columns = np.clip(np.arange(7) - down, 0, 6), np.clip(np.arange(5) - right, 0, 4)
        np.testing.assert_array_equal(moved, image[rows][:, columns])


def test_the_metrics_count_the_answers_to_shifted_images():
    plain = classify(MLP(3, (4,)))
    task = with_shifts(plain, (1, 4))
    prediction, label = np.array([0, 1, 2, 1]), np.array([0, 1, 2, 0])
    rows = {"prediction": prediction, "label": label, "loss": np.ones(4)}
    held_out = plain.summary({"sums": {}, "rows": rows})
    assert task.summary({"sums": {}, "rows": rows}) == held_out
    answers = np.array([[0, 1], [1, 1], [0, 0], [1, 2]])  # [N, S]: 2 and 1 of 4 right, 3 and 1 as without the shift
    found = task.summary({"sums": {}, "rows": {**rows, SHIFTED: answers}})
    assert found == held_out | {
        "shift_1_accuracy": 0.5,
        "shift_4_accuracy": 0.25,
        "shift_loss": 0.75 - 0.375,
        "same_answer": 0.5,
    }
    assert set(found) <= {metric.name for metric in task.metrics}


def test_shifts_that_are_none_are_refused():
    for shifts in ((), (0, 1), (2, 2)):
        with pytest.raises(UsageError, match="from 1 on, each once"):
            with_shifts(classify(MLP(3, (4,))), shifts)
