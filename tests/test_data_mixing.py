"""Mixtures of examples, their soft labels in losses and tasks, and two views of an example."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab import knobs
from cnnlab.data.variations.compose import Augmentation
from cnnlab.data.variations.examples import Examples
from cnnlab.data.variations.mix import _with_partners, cutmix, mixup
from cnnlab.engine import tracing
from cnnlab.errors import UsageError
from cnnlab.ops.losses import LOSSES
from cnnlab.recipes.classification import classification
from tests.varied import KINDS, MIXED, examples_of, images_and_keys


def test_mixup_is_a_weighted_mean_with_the_example_before_in_the_batch():
    images, keys = images_and_keys(batch=200, height=3, width=2)
    examples = examples_of(images, MIXED)
    out = jax.jit(lambda keys: mixup(examples, keys, alpha=1.0).columns)(keys)
    partner = np.roll(np.asarray(images), 1, axis=0)
    change = np.asarray(images) - partner
    shares = ((np.asarray(out["image"]) - partner) * change).sum(axis=(1, 2, 3)) / (change**2).sum(axis=(1, 2, 3))
    by_hand = shares[:, None, None, None] * np.asarray(images) + (1 - shares)[:, None, None, None] * partner
    np.testing.assert_allclose(out["image"], by_hand, atol=1e-5)
    one_hot = np.eye(3)[np.asarray(examples.columns["label"])]
    expected = shares[:, None] * one_hot + (1 - shares)[:, None] * np.roll(one_hot, 1, axis=0)
    np.testing.assert_allclose(out["label"], expected, atol=1e-4)
    # Beta(1, 1) is uniform: mean 1/2, standard deviation 0.289; Beta(0.2, 0.2) is near 0 and 1.
    assert abs(shares.mean() - 0.5) < 0.09 and abs(shares.std() - 0.289) < 0.05
    steep = np.asarray(mixup(examples, keys, alpha=0.1).columns["label"]).max(axis=1)
    assert (steep > 0.95).mean() > 0.5
    whole = mixup(examples, keys, probability=0.0).columns
    np.testing.assert_array_equal(whole["image"], images)
    np.testing.assert_array_equal(whole["label"], one_hot)


def test_cutmix_pastes_a_rectangle_and_its_labels_count_the_pixels_that_are_replaced():
    images, keys = images_and_keys(batch=150, height=10, width=8)
    examples = examples_of(images, (*MIXED, "mask"))
    values = jnp.broadcast_to(jnp.arange(150, dtype=jnp.uint8)[:, None, None], (150, 10, 8))
    out = jax.jit(lambda keys: cutmix(examples.with_columns({"mask": values}), keys).columns)(keys)
    pasted = np.asarray(out["mask"]) != np.arange(150)[:, None, None]
    partner = np.roll(np.asarray(images), 1, axis=0)
    np.testing.assert_array_equal(out["image"], np.where(pasted[..., None], partner, images))
    np.testing.assert_array_equal(np.asarray(out["mask"])[pasted], np.repeat(np.roll(np.arange(150), 1), pasted.sum((1, 2))))
    shares = 1 - pasted.mean(axis=(1, 2))
    one_hot = np.eye(3)[np.asarray(examples.columns["label"])]
    expected = shares[:, None] * one_hot + (1 - shares)[:, None] * np.roll(one_hot, 1, axis=0)
    np.testing.assert_allclose(out["label"], expected, atol=1e-6)
    assert shares.min() < 0.5 and shares.max() > 0.95


def test_the_partner_is_the_example_before_in_the_global_batch_on_any_number_of_devices():
    images, keys = images_and_keys(batch=16, height=2, width=2)
    columns = {"image": images, "label": jnp.arange(16, dtype=jnp.int32)}

    def partners(keys: jax.Array, columns: Any) -> Any:
        return _with_partners(Examples(columns, KINDS), keys, lambda key, values, partners: partners).columns

    split = jax.tree.map(lambda leaf: leaf.reshape(8, 2, *leaf.shape[1:]), (keys, columns))
    whole, eight = jax.jit(partners)(keys, columns), jax.pmap(partners, axis_name="devices")(*split)
    for name, values in columns.items():
        np.testing.assert_array_equal(whole[name], np.roll(values, 1, axis=0))
        np.testing.assert_array_equal(np.asarray(eight[name]).reshape(values.shape), whole[name])


def test_a_column_of_which_there_are_no_mixtures_is_refused():
    images, keys = images_and_keys(batch=3)
    for mix, name in ((mixup, "mask"), (mixup, "boxes"), (cutmix, "points")):
        with pytest.raises(UsageError, match=r"no mixture of two values of the kind \w+\.\nExpected images with labels"):
            jax.eval_shape(lambda keys, mix=mix, name=name: mix(examples_of(images, ("image", name)), keys).columns, keys)


def test_a_mixture_may_follow_another():
    images, keys = images_and_keys(batch=5)
    columns = jax.eval_shape(lambda keys: Augmentation((cutmix, mixup))(examples_of(images, MIXED), keys).columns, keys)
    assert columns["label"].shape == (5, 3) and columns["image"].shape == images.shape


SOFT = jnp.float32([[0.7, 0.0, 0.3], [0.0, 1.0, 0.0]])
LOGITS = jnp.float32([[1.0, -2.0, 0.5], [0.1, 0.2, -0.4]])


def test_losses_of_soft_labels_are_the_means_over_the_classes_where_that_is_what_they_are():
    np.testing.assert_allclose(LOSSES["cross_entropy"](LOGITS, SOFT), optax.softmax_cross_entropy(LOGITS, SOFT), rtol=1e-6)
    smoothed = LOSSES["cross_entropy"](LOGITS, SOFT, smoothing=0.3)
    np.testing.assert_allclose(smoothed, optax.softmax_cross_entropy(LOGITS, 0.7 * SOFT + 0.1), rtol=1e-6)
    np.testing.assert_allclose(LOSSES["squared"](LOGITS, SOFT), jnp.sum((LOGITS - SOFT) ** 2, axis=1), rtol=1e-6)
    for name in ("cross_entropy", "sigmoid", "squared"):
        np.testing.assert_array_equal(LOSSES[name](LOGITS, SOFT)[1], LOSSES[name](LOGITS, jnp.int32([0, 1]))[1])
    for name in ("focal", "hinge", "perceptron"):
        with pytest.raises(UsageError, match=rf"--loss={name}: it takes one class for each image(.|\n)*leave mixup and cutmix"):
            LOSSES[name](LOGITS, SOFT)


def test_a_classifier_trains_on_mixtures_and_a_loss_without_soft_labels_is_refused_before_it_compiles():
    base = {"dataset": "stripes", "dataset.size": 8, "model": "linear", "duration": "2 steps", "augment": "flip,mixup"}
    resolved = knobs.resolve(classification, {**base, "mixup.alpha": "1"})
    assert resolved.values["data.augment.mixup.alpha"] == 1.0
    tracing.trace(resolved.call(), precision="f32", experiment_of=resolved.call_with, traced_knobs={})
    other = knobs.resolve(classification, {**base, "loss": "hinge"})
    with pytest.raises(UsageError, match="--loss=hinge: it takes one class"):
        tracing.trace(other.call(), precision="f32", experiment_of=other.call_with, traced_knobs={})
