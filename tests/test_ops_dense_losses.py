"""Losses of dense prediction against their definitions in NumPy, and what ignored pixels do to them: nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.dense_losses import DENSE_LOSSES, cross_entropy, dice, focal
from tests.equalities import float_equalities

draw = np.random.default_rng(0)
LOGITS = draw.normal(0, 2, (3, 4, 5, 3)).astype(np.float32)
LABELS = draw.integers(0, 3, (3, 4, 5)).astype(np.int32)
VALID = draw.random((3, 4, 5)) > 0.3
VALID[2] = False  # an image of which nothing counts
WEIGHTS = np.asarray([1.0, 0.5, 3.0], np.float32)


def probabilities():
    exp = np.exp(LOGITS.astype(np.float64) - LOGITS.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def of_label(values):
    return np.take_along_axis(values, LABELS[..., None], -1)[..., 0]


@pytest.mark.parametrize(("loss", "gamma"), [(cross_entropy, 0.0), (functools.partial(focal, gamma=1.5), 1.5)])
def test_cross_entropy_and_focal_are_weighted_means_over_the_pixels_that_count(loss, gamma):
    values, shares = jax.jit(loss)(LOGITS, np.where(VALID, LABELS, 255), VALID, WEIGHTS)
    p = of_label(probabilities())
    weights = WEIGHTS[LABELS] * VALID
    np.testing.assert_allclose(shares, weights.sum((1, 2)), rtol=1e-6)
    each = -((1 - p) ** gamma) * np.log(p)
    expected = (weights * each).sum((1, 2))[:2] / weights.sum((1, 2))[:2]
    np.testing.assert_allclose(values[:2], expected, rtol=2e-5)
    assert values[2] == shares[2] == 0


@pytest.mark.parametrize("background", [True, False])
def test_dice_is_the_mean_over_classes_of_its_definition(background):
    values, shares = dice(LOGITS, np.where(VALID, LABELS, 255), VALID, WEIGHTS, smooth=2.0, background=background)
    p, t = probabilities() * VALID[..., None], np.eye(3)[LABELS] * VALID[..., None]
    each = 1 - (2 * (p * t).sum((1, 2)) + 2.0) / (p.sum((1, 2)) + t.sum((1, 2)) + 2.0)
    has = t.any((1, 2))[:, 0 if background else 1 :]
    np.testing.assert_allclose(values, (has * each[:, 0 if background else 1 :]).sum(1) / np.maximum(has.sum(1), 1), rtol=1e-5)
    np.testing.assert_array_equal(shares, [1, 1, 0])
    # A class that an image does not have has no share in it.
    only, _ = dice(LOGITS, np.zeros_like(LABELS), VALID, WEIGHTS)
    p = probabilities()[..., 0] * VALID
    np.testing.assert_allclose(only[:2], (1 - (2 * p.sum((1, 2)) + 1) / (p.sum((1, 2)) + VALID.sum((1, 2)) + 1))[:2], rtol=1e-5)


@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_what_is_ignored_changes_neither_loss_nor_gradient(name):
    def total(logits, labels):
        values, shares = DENSE_LOSSES[name](logits, labels, VALID, WEIGHTS)
        return jnp.sum(values * shares)

    compiled = jax.jit(jax.value_and_grad(total))
    found, gradient = compiled(LOGITS, np.where(VALID, LABELS, 255))
    other = np.where(VALID[..., None], LOGITS, 7.0).astype(np.float32)
    again, _ = compiled(other, np.where(VALID, LABELS, 0))
    assert found == pytest.approx(float(again), rel=1e-6)
    assert np.all(np.asarray(gradient)[~VALID] == 0) and np.all(np.isfinite(gradient)) and np.any(np.asarray(gradient)[VALID])
    assert float_equalities(jax.make_jaxpr(jax.grad(total))(LOGITS, LABELS).jaxpr) == []


@pytest.mark.parametrize("name", DENSE_LOSSES)
def test_sure_and_right_logits_have_next_to_no_loss(name):
    values, _ = DENSE_LOSSES[name](40.0 * np.eye(3, dtype=np.float32)[LABELS], LABELS, VALID, WEIGHTS)
    np.testing.assert_allclose(values, 0.0, atol=1e-6)
