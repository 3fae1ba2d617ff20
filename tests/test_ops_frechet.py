"""Distances of sets of features against scipy, scikit-learn and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from cnnlab.ops.frechet import frechet, moments
from cnnlab.ops.sample_metrics import classes_hit, classifier_score, precision_recall, two_sample_accuracy


def normal(count: int, features: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, features)) @ draw.normal(size=(features, features)) + draw.normal(size=features)


def test_frechet_equals_the_formula_with_the_square_root_of_scipy():
    a, b = moments(normal(500, 12, 0)), moments(normal(400, 12, 1))
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance + b.covariance - 2 * root.real)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9) and frechet(b, a) == pytest.approx(expected, rel=1e-9)


def test_moments_are_the_mean_and_covariance_of_numpy_and_add_up():
    points = normal(300, 5, 2)
    whole, parts = moments(points), moments(points[:120]) + moments(points[120:])
    np.testing.assert_allclose(whole.mean, points.mean(axis=0))
    np.testing.assert_allclose(whole.covariance, np.cov(points.T))
    np.testing.assert_allclose(parts.covariance, whole.covariance)
    assert parts.count == 300 and frechet(parts, whole) == pytest.approx(0.0, abs=1e-9)


def test_distances_keep_their_digits_far_from_the_origin():
    one, other = normal(300, 4, 5), normal(300, 4, 6)
    near, far = (frechet(moments(one + at), moments(other[:150] + at) + moments(other[150:] + at)) for at in (0.0, 1e7))
    assert far == pytest.approx(near, rel=1e-5)
    assert precision_recall(one + 1e7, other + 1e7) == precision_recall(one, other)


def test_features_that_are_not_finite_have_no_distance_and_no_class():
    points = normal(50, 3, 7)
    assert np.isnan(frechet(moments(points), moments(np.where(np.eye(50, 3) > 0, np.nan, points))))
    assert classes_hit(np.full((10, 4), np.nan)) == (0, 0.0)


def test_frechet_of_shifted_and_scaled_points_is_known():
    points = normal(200, 3, 3)
    spread = np.trace(np.cov(points.T))
    assert frechet(moments(points), moments(points + 2.0)) == pytest.approx(12.0)
    assert frechet(moments(points - points.mean(0)), moments(3 * (points - points.mean(0)))) == pytest.approx(4 * spread)


def test_frechet_of_a_singular_covariance_is_finite():
    points = normal(50, 4, 4)
    flat = points * np.array([1.0, 1.0, 0.0, 0.0])
    assert np.isfinite(frechet(moments(points), moments(flat))) and frechet(moments(flat), moments(flat)) < 1e-9


def test_classifier_score_is_one_for_alike_and_the_classes_for_certain_and_even():
    assert classifier_score(np.full((8, 5), 0.2)) == pytest.approx(1.0)
    assert classifier_score(np.tile([[0.9, 0.1]], (8, 1))) == pytest.approx(1.0)
    assert classifier_score(np.tile(np.eye(5), (3, 1))) == pytest.approx(5.0)
    assert classifier_score(np.eye(4)[[0, 1]]) == pytest.approx(2.0)


def test_classes_hit_counts_a_tenth_of_an_even_share():
    said = np.eye(10)[np.repeat(np.arange(4), [500, 480, 10, 9])]
    assert classes_hit(said) == (3, pytest.approx(scipy.stats.entropy([500, 480, 10, 9])))
    assert classes_hit(np.eye(3)) == (3, pytest.approx(np.log(3))) and classes_hit(np.eye(3)[[1, 1]]) == (1, 0.0)


def test_precision_and_recall_equal_those_by_neighbours_of_scikit_learn():
    real, drawn = normal(700, 6, 5), 0.8 * normal(600, 6, 5)[::-1] + 0.3

    def covered(points: np.ndarray, manifold: np.ndarray) -> float:
        radii = NearestNeighbors(n_neighbors=4).fit(manifold).kneighbors(manifold)[0][:, 3]
        distances = np.linalg.norm(points[:, None] - manifold[None], axis=-1)
        return float(np.mean(np.any(distances <= radii, axis=1)))

    expected = covered(drawn, real), covered(real, drawn)
    assert precision_recall(real, drawn) == pytest.approx(expected) and 0.1 < expected[0] != expected[1]


def test_precision_tells_quality_and_recall_variety():
    draw = np.random.default_rng(6)
    two, one = draw.normal(size=(400, 2)), draw.normal(size=(400, 2))
    two[::2] += 50
    precision, recall = precision_recall(two, one)
    assert precision > 0.9 and 0.4 < recall < 0.6
    assert precision_recall(one, one + 1000) == (0.0, 0.0) and precision_recall(one[:3], one) == (0.0, 0.0)


def test_two_samples_are_distinguished_as_by_logistic_regression_of_scikit_learn():
    real, drawn = normal(400, 5, 7), normal(400, 5, 7)[::-1] * 1.0 + 0.7
    accuracy, chance = two_sample_accuracy(real, drawn)
    points = np.concatenate([real, drawn])
    points = (points - points.mean(0)) / points.std(0)
    learnt, labels = np.arange(800) % 2 == 0, np.repeat([0, 1], 400)
    theirs = LogisticRegression(C=1 / (0.01 * 400)).fit(points[learnt], labels[learnt])
    assert accuracy == pytest.approx(theirs.score(points[~learnt], labels[~learnt]), abs=0.006)
    assert chance == pytest.approx(scipy.stats.norm.sf((accuracy - 0.5) * 2 * 20))


def test_two_samples_of_one_distribution_are_not_distinguished():
    draw = np.random.default_rng(8)
    chances = [two_sample_accuracy(*draw.normal(size=(2, 200, 4)))[1] for _ in range(60)]
    assert np.mean(np.array(chances) < 0.05) < 0.15
    assert two_sample_accuracy(np.zeros((50, 2)), np.ones((50, 2)))[0] == 1.0
    assert two_sample_accuracy(np.zeros((3, 2)), np.ones((3, 2))) == (0.5, 1.0)
