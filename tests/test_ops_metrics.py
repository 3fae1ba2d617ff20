"""Metrics against scikit-learn."""

import jax.numpy as jnp
import numpy as np
from sklearn import metrics

from cnnlab.ops.metrics import confusion_counts, top_correct

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
