"""Losses against NumPy, scikit-learn and optax, at their extremes and with traced knobs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
from sklearn import metrics

from cnnlab.ops import losses
from cnnlab.ops.losses import LOSSES
from cnnlab.tasks.class_weights import mean_loss

B, K = 32, 7
random = np.random.default_rng(0)
logits = random.normal(0, 2, (B, K)).astype(np.float32)
labels = random.integers(0, K, B).astype(np.int32)
one_hot = np.eye(K, dtype=np.float32)[labels]
own = logits[np.arange(B), labels]


def of(name, **knobs):
    return np.asarray(LOSSES[name](jnp.asarray(logits), jnp.asarray(labels), **knobs))


def log_softmax():
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cross_entropy", np.log(K)), ("hinge", K - 1), ("perceptron", 0), ("sigmoid", K * np.log(2)), ("squared", 1)],
)
def test_loss_of_zero_scores(name, expected):
    np.testing.assert_allclose(LOSSES[name](jnp.zeros((B, K)), jnp.asarray(labels)), np.full(B, expected), atol=1e-5)


def test_cross_entropy_agrees_with_scikit_learn():
    expected = metrics.log_loss(labels, special.softmax(logits.astype(np.float64), axis=1), labels=range(K))
    np.testing.assert_allclose(of("cross_entropy").mean(), expected, rtol=1e-5)


def test_cross_entropy_smooths_the_target():
    targets = 0.9 * one_hot + 0.1 / K
    np.testing.assert_allclose(of("cross_entropy", smoothing=0.1), -(targets * log_softmax()).sum(1), rtol=1e-5)


def test_hinge_is_that_of_weston_and_watkins():
    expected = [sum(max(0, 1 + logits[i, j] - own[i]) for j in range(K) if j != labels[i]) for i in range(B)]
    np.testing.assert_allclose(of("hinge"), expected, rtol=1e-5, atol=1e-5)


def test_hinge_of_two_classes_agrees_with_scikit_learn():
    scores = np.stack([np.zeros(B), logits[:, 0]], 1).astype(np.float32)
    binary = (labels % 2).astype(np.int32)
    ours = LOSSES["hinge"](jnp.asarray(scores), jnp.asarray(binary))
    np.testing.assert_allclose(np.mean(ours), metrics.hinge_loss(binary, logits[:, 0]), rtol=1e-5)


def test_perceptron_is_zero_exactly_where_the_prediction_is_right():
    np.testing.assert_array_equal(of("perceptron") == 0, logits.argmax(1) == labels)
    np.testing.assert_allclose(of("perceptron"), logits.max(1) - own, atol=1e-5)


def test_perceptron_gradient_is_rosenblatts_rule():
    gradient = jax.jit(jax.grad(lambda s: LOSSES["perceptron"](s[None], jnp.array([2]))[0]))(
        jnp.asarray(logits[0]).at[4].set(9.0)
    )
    np.testing.assert_allclose(gradient, np.eye(K)[4] - np.eye(K)[2], atol=1e-6)


def test_sigmoid_sums_binary_log_losses():
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = -(one_hot * np.log(probability) + (1 - one_hot) * np.log1p(-probability)).sum(1)
    np.testing.assert_allclose(of("sigmoid"), expected, rtol=1e-5)


def test_squared_sums_over_classes():
    np.testing.assert_allclose(of("squared"), ((logits - one_hot) ** 2).sum(1), rtol=1e-5)


def test_focal_is_weighted_cross_entropy():
    log_p = log_softmax()[np.arange(B), labels]
    np.testing.assert_allclose(of("focal", gamma=2.0), -((1 - np.exp(log_p)) ** 2) * log_p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(of("focal", gamma=0.0), of("cross_entropy"), rtol=1e-6)


def test_focal_counts_by_class_where_classes_have_weights():
    """The α of Lin et al. 2017, eq. 5, is the weight of the label's class: --loss=focal with --class_weights."""
    alpha = np.arange(1, K + 1, dtype=np.float32)
    log_p = log_softmax()[np.arange(B), labels]
    expected = np.sum(-alpha[labels] * (1 - np.exp(log_p)) ** 2 * log_p) / alpha[labels].sum()
    np.testing.assert_allclose(mean_loss(alpha)(jnp.asarray(of("focal")), jnp.asarray(labels)), expected, rtol=1e-4)


def test_focal_of_two_classes_agrees_with_optax():
    binary = (labels % 2).astype(np.int32)
    scores = np.stack([np.zeros(B), logits[:, 0]], 1).astype(np.float32)
    expected = optax.sigmoid_focal_loss(jnp.asarray(logits[:, 0]), jnp.asarray(binary, jnp.float32), alpha=None, gamma=2.0)
    np.testing.assert_allclose(LOSSES["focal"](jnp.asarray(scores), jnp.asarray(binary)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_gradients_are_finite(name, scale):
    gradient = jax.jit(jax.grad(lambda s: jnp.mean(LOSSES[name](s, jnp.asarray(labels)))))(jnp.asarray(logits * scale))
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("loss", "knob", "value"),
    [(losses.cross_entropy, "smoothing", 0.2), (losses.focal, "gamma", 1.5), (losses.hinge, "margin", 0.5)],
)
def test_knobs_may_be_tracers_and_matter(loss, knob, value):
    scores, classes = jnp.asarray(logits), jnp.asarray(labels)
    traced = jax.jit(lambda v: loss(scores, classes, **{knob: v}))(value)
    np.testing.assert_allclose(traced, loss(scores, classes, **{knob: value}), rtol=1e-5, atol=1e-6)
    assert not np.allclose(traced, loss(scores, classes))
