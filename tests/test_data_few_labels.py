"""Few labels after all images: which examples, in which steps."""

import itertools

import numpy as np
import pytest

from cnnlab.data import DATASETS
from cnnlab.data.few_labels import few_labels_after, few_per_class
from cnnlab.data.pipeline import build
from cnnlab.data.stream_order import sequential_order
from cnnlab.errors import UsageError


def digits(**how):
    return build(DATASETS["digits"](), batch_size=64, **how)


def test_few_examples_are_balanced_and_always_the_same():
    labels = np.random.default_rng(0).integers(0, 5, 400).astype(np.int32)
    chosen = few_per_class(labels, 5, 12)
    np.testing.assert_array_equal(np.bincount(labels[chosen]), np.full(5, 12))
    np.testing.assert_array_equal(chosen, few_per_class(labels, 5, 12))
    assert np.all(np.diff(chosen) > 0) and set(few_per_class(labels, 5, 3)) < set(chosen)


def test_training_sees_all_examples_before_the_border_and_the_few_ones_after_it():
    data = digits()
    late, size = few_labels_after(data, steps=30, examples_per_class=5)
    assert size == 50 and late.fingerprint != data.fingerprint
    feeds = list(itertools.islice(late.train(3, 0), 40))
    for step, (ours, theirs) in enumerate(zip(feeds, itertools.islice(data.train(3, 0), 30), strict=False)):
        np.testing.assert_array_equal(ours["index"], theirs["index"], err_msg=str(step))
    seen = np.concatenate([feed["index"] for feed in feeds[30:]])
    labels = data.resident["train"]["label"]
    assert len(np.unique(seen)) == 50
    np.testing.assert_array_equal(np.bincount(labels[np.unique(seen)]), np.full(10, 5))
    first = np.unique(seen[:50], return_counts=True)
    assert len(first[0]) == 50 and np.all(first[1] == 1)  # an epoch has every example once
    other = np.concatenate([feed["index"] for feed in itertools.islice(late.train(4, 30), 10)])
    assert set(other) == set(seen) and not np.array_equal(other, seen)


def test_the_few_ones_come_in_the_order_of_the_others():
    late, size = few_labels_after(digits(order=sequential_order), steps=1, examples_per_class=5)
    seen = np.concatenate([feed["index"] for feed in itertools.islice(late.train(3, 1), 4)])
    assert np.all(np.diff(seen[:size]) > 0) and np.array_equal(seen[size:], seen[: len(seen) - size])


@pytest.mark.parametrize("step", [0, 17, 29, 30, 31, 45])
def test_feeds_from_any_step_are_those_of_the_whole_stream(step: int):
    late, _ = few_labels_after(digits(), steps=30, examples_per_class=5)
    whole = list(itertools.islice(late.train(0, 0), 50))
    for ours, theirs in zip(late.train(0, step), whole[step:], strict=False):
        np.testing.assert_array_equal(ours["index"], theirs["index"])


def test_too_many_labels_and_a_streamed_split_are_refused():
    with pytest.raises(
        UsageError, match=r"--examples_per_class=500: class \d has \d+ training examples\.\nGive a smaller --examples_per"
    ):
        few_labels_after(digits(), steps=1, examples_per_class=500)
    with pytest.raises(UsageError, match=r"too many to stay on the device(.|\n)*smaller --image_size, or leave --examples_per"):
        few_labels_after(digits(resident_mib=0), steps=1, examples_per_class=5)
