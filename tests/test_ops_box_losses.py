"""Losses of boxes: published forms, and that their gradients are finite and compare no equals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops import box_losses
from tests.equalities import float_equalities


@pytest.mark.parametrize("beta", [1.0, 1 / 9])
def test_smooth_l1_is_quadratic_up_to_beta(beta):
    errors = np.asarray([[0, beta / 2, beta, -3]], np.float32)
    expected = 0 + beta / 8 + beta / 2 + (3 - beta / 2)
    loss = jax.jit(lambda codes: box_losses.smooth_l1(codes, 0 * codes, beta=beta))
    np.testing.assert_allclose(loss(errors), [expected], rtol=1e-6)
    with pytest.raises(UsageError, match="a number above 0"):
        box_losses.smooth_l1(errors, errors, beta=0.0)


def test_focal_loss_is_the_papers_and_without_gamma_cross_entropy():
    logits = np.asarray([[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]])
    targets = np.asarray([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    p = 1 / (1 + np.exp(-logits))
    right, share = np.where(targets > 0, p, 1 - p), np.where(targets > 0, 0.25, 0.75)
    loss = jax.jit(box_losses.sigmoid_focal, static_argnames=("alpha", "gamma"))
    given = logits.astype(np.float32), targets.astype(np.float32)
    np.testing.assert_allclose(loss(*given), np.sum(-share * (1 - right) ** 2 * np.log(right), axis=1), rtol=1e-5)
    np.testing.assert_allclose(loss(*given, alpha=None, gamma=0.0), np.sum(-np.log(right), axis=1), rtol=1e-5)


@pytest.mark.parametrize("loss", [box_losses.smooth_l1, box_losses.sigmoid_focal, box_losses.giou])
def test_gradients_are_finite_at_the_edges_and_compare_no_equals(loss):
    edge = np.asarray([[0, 0, 0, 0], [1e3, -1e3, 80, -80], [5, 5, 5, 5]], np.float32)
    target = np.asarray([[0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], np.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(loss(x, target))))(edge)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    assert float_equalities(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(loss(x, target))))(edge).jaxpr) == []
    assert jax.eval_shape(loss, jax.ShapeDtypeStruct((2, 4), jnp.bfloat16), edge[:2]).dtype == jnp.float32


def test_a_box_on_its_target_has_no_loss():
    box = np.asarray([[1, 2, 5, 9], [1, 2, 5, 9]], np.float32)
    away = box + np.asarray([[0], [100]], np.float32)
    loss = jax.jit(jax.value_and_grad(lambda x: box_losses.giou(x, box)[1]))
    value, pulled = loss(away)
    assert value > 1 and np.all(np.asarray(pulled)[1, :2] > 0), "far apart there is no gradient towards the target"
    np.testing.assert_allclose(jax.jit(box_losses.giou)(box, box), [0.0, 0.0], atol=1e-6)
