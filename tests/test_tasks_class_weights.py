"""Weights of classes: balanced ones as scikit-learn has them, and the weighted mean of torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from cnnlab.errors import UsageError
from cnnlab.ops.collectives import AXIS
from cnnlab.tasks.class_weights import mean_loss, weights_of

NAMES = ("a", "b", "c")
LABELS = np.array([0, 0, 0, 0, 1, 2, 2, 0], np.int32)


def test_balanced_weights_are_those_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(weights_of("balanced", NAMES, np.bincount(LABELS).tolist()), expected, rtol=1e-6)
    assert weights_of(None, NAMES, ()) is None


@pytest.mark.parametrize(
    ("wanted", "counts", "says"),
    [
        ("balanced", (3, 0, 2), "no training example is of class b"),
        ("balanced", (), "is unknown"),
        ((1.0, 2.0), (1, 1, 1), "there are 3 classes"),
        ((1.0, -2.0, 1.0), (1, 1, 1), ">= 0"),
        ((0.0, 0.0, 0.0), (1, 1, 1), "not all 0"),
    ],
)
def test_weights_that_do_not_fit_are_refused(wanted, counts, says):
    with pytest.raises(UsageError, match=says):
        weights_of(wanted, NAMES, counts)


def test_the_mean_is_weighted_by_class_over_the_global_batch():
    losses, weights = np.arange(1.0, 9.0, dtype=np.float32), np.array([0.5, 2.0, 1.0], np.float32)
    expected = np.sum(weights[LABELS] * losses) / np.sum(weights[LABELS])
    mean = jax.jit(mean_loss(weights))
    np.testing.assert_allclose(mean(losses, LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(mean(losses, np.eye(3, dtype=np.float32)[LABELS]), expected, rtol=1e-6)  # soft labels
    parts = jax.vmap(mean_loss(weights), axis_name=AXIS)(losses.reshape(4, 2), jnp.asarray(LABELS).reshape(4, 2))
    np.testing.assert_allclose(parts, np.full(4, expected), rtol=1e-6)  # the same on each of four devices
