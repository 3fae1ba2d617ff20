"""Metrics against scikit-learn."""

import jax.numpy as jnp
import numpy as np
from sklearn import metrics

from cnnlab.ops.metrics import confusion_counts, predicted, top_correct

random = np.random.default_rng(0)


def test_top_correct_agrees_with_scikit_learn():
    scores, labels = random.normal(size=(100, 9)).astype(np.float32), random.integers(0, 9, 100)
    for top in (1, 2, 5):
        ours = float(top_correct(jnp.asarray(scores), jnp.asarray(labels, jnp.int32), top).mean())
        np.testing.assert_allclose(ours, metrics.top_k_accuracy_score(labels, scores, k=top, labels=range(9)), atol=1e-6)


def test_top_correct_gives_ties_to_the_smaller_class():
    found = [top_correct(jnp.zeros((6, 6)), jnp.arange(6, dtype=jnp.int32), top) for top in (1, 3, 6)]
    assert [int(f.sum()) for f in found] == [1, 3, 6]
    assert bool(found[1][2]) and not bool(found[1][3])


def test_confusion_counts_agree_with_scikit_learn():
    labels, predictions = random.integers(0, 5, (2, 200), dtype=np.int32)
    counts = confusion_counts(labels, predictions, 6)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(labels, predictions, labels=range(6)))
    assert counts.dtype == np.int64


def test_scores_with_a_nan_are_never_right():
    """Every label is tried, so that one of them is where argmax or a comparison with NaN points."""
    labels = jnp.arange(6, dtype=jnp.int32)
    for scores in (jnp.full((6, 6), jnp.nan), jnp.eye(6).at[:, 3].set(jnp.nan), jnp.where(jnp.eye(6) > 0, jnp.nan, 1.0)):
        assert (predicted(scores) == -1).all()
        assert not any(bool(top_correct(scores, labels, top).any()) for top in (1, 5, 6))
    infinite = jnp.where(jnp.eye(6) > 0, jnp.inf, -jnp.inf)
    assert (predicted(infinite) == labels).all() and bool(top_correct(infinite, labels, 1).all())


def test_a_prediction_of_no_class_is_not_in_the_confusion_counts():
    counts = confusion_counts(np.array([0, 1, 1]), np.array([0, -1, 1]), 2)
    np.testing.assert_array_equal(counts, [[1, 0], [0, 1]])
