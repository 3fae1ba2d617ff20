"""Logistic regression: the answer of scikit-learn, and a penalty that is chosen on held-out examples alone."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cnnlab.ops import logistic_regression
from cnnlab.ops.logistic_regression import centred, choose_penalty, fit, fit_features, hold_out, uncorrelated


def examples(count: int, width: int, classes: int = 4, seed: int = 0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count).astype(np.int32)
    centres = draw.normal(size=(classes, width)) * 0.4
    return centres[labels] + draw.normal(size=(count, width)), labels


@pytest.mark.parametrize(("count", "width"), [(150, 12), (40, 90)])
@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_the_solution_is_that_of_scikit_learn(count: int, width: int, penalty: float):
    """Also where there are more features than examples."""
    features, labels = examples(count, width)
    kernel, bias = fit(features, labels, 4, penalty=penalty)
    other = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(features, labels)
    np.testing.assert_allclose(kernel, other.coef_.T, atol=1e-4 * np.abs(kernel).max())
    np.testing.assert_allclose(bias, other.intercept_ - other.intercept_.mean(), atol=3e-4)


@pytest.mark.parametrize(("count", "width"), [(50, 7), (30, 80)])
def test_uncorrelated_coordinates_are_the_features_in_an_orthonormal_basis(count: int, width: int):
    features, _ = examples(count, width)
    features = features - features.mean(0)
    basis, coordinates = uncorrelated(features)
    products = coordinates.T @ coordinates
    np.testing.assert_allclose(basis.T @ basis, np.eye(min(count, width)), atol=1e-12)
    np.testing.assert_allclose(coordinates @ basis.T, features, atol=1e-12)
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-10 * np.diag(products).max())


def test_the_gradient_vanishes_at_the_solution():
    features, labels = examples(80, 7)
    kernel, bias = fit(features, labels, 4, penalty=2.0)
    scores = features @ kernel + bias
    shares = np.exp(scores - scores.max(1, keepdims=True))
    residuals = shares / shares.sum(1, keepdims=True) - np.eye(4)[labels]
    np.testing.assert_allclose(features.T @ residuals + 2.0 * kernel, 0, atol=1e-4)
    np.testing.assert_allclose(residuals.sum(0), 0, atol=1e-4)


def test_a_fit_of_features_is_that_of_scikit_learn_on_centred_ones_and_holds_for_features_as_they_are():
    features, labels = examples(120, 9)
    features = features * np.geomspace(0.1, 10, 9) + 5
    features[:, 3] = 7.0  # a dead unit
    kernel, bias, penalty = fit_features(features.astype(np.float32), labels, 4)
    moved = features - features.mean(0)
    moved /= moved.std()
    scores = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(moved, labels).decision_function(moved)
    np.testing.assert_allclose(features @ kernel + bias, scores - scores.mean(1, keepdims=True), atol=5e-3)


def test_a_unit_that_is_nearly_silent_on_the_examples_stays_so():
    features, labels = examples(120, 9)
    features[:, 3] *= 1e-4
    kernel, _, _ = fit_features(features, labels, 4)
    others = np.delete(np.abs(kernel), 3, axis=0).max()
    assert np.abs(kernel[3]).max() < 0.1 * others
    moved, mean, scale = centred(features)
    np.testing.assert_allclose([moved.mean(), moved.std()], [0, 1], atol=1e-9)
    np.testing.assert_allclose(moved * scale + mean, features)
    assert centred(np.ones((3, 2)))[2] == 1.0


def test_the_penalty_has_the_least_loss_on_examples_that_were_held_out():
    features, labels = examples(100, 30)
    held = hold_out(labels)
    assert 15 <= held.sum() <= 20 and set(labels[held]) == set(range(4))
    penalty, found = choose_penalty(features, labels, 4)
    assert found[penalty] == min(found.values()) and 0.1 <= penalty <= 1000
    kernel, bias = fit(features[~held], labels[~held], 4, penalty=penalty)
    scores = features[held] @ kernel + bias
    mean = np.mean(np.log(np.exp(scores).sum(1)) - scores[np.arange(held.sum()), labels[held]])
    assert found[penalty] == pytest.approx(mean, rel=1e-3)
    spoiled = np.where(held[:, None], 1e3, features)
    kept = fit(spoiled[~held], labels[~held], 4, penalty=penalty)[0]
    np.testing.assert_array_equal(kernel, kept)


def test_smaller_penalties_are_not_tried_once_two_in_a_row_are_worse():
    features, labels = examples(60, 30)
    penalty, found = choose_penalty(features, labels, 4)
    tried = list(found)
    assert tried == list(logistic_regression.PENALTIES[: len(tried)]) and len(tried) == tried.index(penalty) + 3


def test_one_example_of_a_class_cannot_be_held_out():
    labels = np.arange(4, dtype=np.int32)
    assert not hold_out(labels).any()
    assert choose_penalty(np.eye(4), labels, 4) == (1.0, {})
    assert hold_out(np.int32([0, 0, 1])).tolist() == [False, True, False]
