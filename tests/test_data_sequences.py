"""Sequences that ask for memory: what is asked is what the definition says, and nothing else tells it."""

import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.data.sequences import adding, recall
from cnnlab.errors import UsageError
from cnnlab.recipes.classification import classification


def test_the_sum_of_the_two_marked_numbers_is_asked():
    source = adding(lag=9, examples=500, test_examples=50)
    images, sums = source.splits["train"].images[:, :, :, 0], source.splits["train"].columns["target"]
    assert images.shape == (500, 9, 2) and len(source.splits["test"]) == 50
    numbers, marks = images[..., 0], images[..., 1]
    assert set(np.unique(marks)) == {0, 1} and (marks[:, :4].sum(1) == 1).all() and (marks[:, 4:].sum(1) == 1).all()
    np.testing.assert_allclose(sums[:, 0], (numbers * marks).sum(1), rtol=1e-6)
    assert np.mean((sums - 1) ** 2) == pytest.approx(1 / 6, abs=0.02)
    assert len({source.fingerprint, adding(lag=9, examples=500, test_examples=50, data_seed=1).fingerprint}) == 2


def test_the_first_symbol_is_asked_and_no_other_tells_it():
    source = recall(lag=6, symbols=3, examples=3000, test_examples=100)
    images, labels = source.splits["train"].images[..., 0], source.splits["train"].labels
    assert images.shape == (3000, 7, 3) and (images.sum(-1) == 1).all()
    symbols = images.argmax(-1)
    np.testing.assert_array_equal(symbols[:, 0], labels)
    assert all(np.mean(symbols[:, place] == labels) == pytest.approx(1 / 3, abs=0.04) for place in range(1, 7))


def test_a_recurrent_network_trains_on_both_and_a_loss_of_classes_is_refused_for_sums():
    short = {"model": "lstm", "model.widths": "4", "duration": "2 steps", "batch_size": 8}
    for name, loss, length in (("adding", "squared", 100), ("recall", "cross_entropy", 51)):
        made = knobs.resolve(classification, {**short, "dataset": name, "dataset.examples": 40, "loss": loss}).call()
        assert made.steps == 2 and made.data.image_shape[0] == length
    with pytest.raises(UsageError, match="cross_entropy"):
        knobs.resolve(classification, {**short, "dataset": "adding", "dataset.examples": 40}).call()
