"""Metrics of the quality and the diversity of generated examples, from their features or a classifier's predictions.

They run in NumPy on the host, but for `laplacian_energy`, which takes the images themselves.

Letters in shapes: N real examples, M generated ones, F features, K classes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 512
"""Rows of the distance matrix that are computed at a time."""
HIT = 0.1
"""A class counts as covered where its share of the generated examples is at least this part of an even share, 1 / K."""
RIDGE = 1e-2
"""Weight of the squared coefficients of the logistic regression, for each example."""
NEWTON_STEPS = 12


def laplacian_energy(images: jax.Array) -> jax.Array:
    """Returns f32 [B]: the mean square of the Laplacian of images [B, H, W, C] inside their border, a measure of sharp detail.

    Blur lowers it and noise raises it, so read it together with a measure of quality. Images without an inside have 0.
    """
    x = images.astype(jnp.float32)
    if min(x.shape[1:3]) < 3:
        return jnp.zeros(x.shape[0], jnp.float32)
    neighbours = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return jnp.mean((neighbours - 4.0 * x[:, 1:-1, 1:-1]) ** 2, axis=(1, 2, 3))


def classifier_score(probabilities: np.ndarray) -> float:
    """Returns exp of the mean KL(p(y|x) ‖ p(y)), p(y) the mean of p(y|x) [M, K], from 1 (all alike) to K (certain, balanced).

    The Inception score of Salimans et al. 2016 (arXiv 1606.03498, section 4) by another classifier, over one set of examples.
    """
    each = np.maximum(np.asarray(probabilities, np.float64), 1e-16)
    marginal = each.mean(axis=0, keepdims=True)  # [1, K]
    return float(np.exp(np.mean(np.sum(each * (np.log(each) - np.log(marginal)), axis=1))))


def classes_hit(probabilities: np.ndarray, good: np.ndarray | None = None) -> tuple[int, float]:
    """Returns (number of classes predicted for at least HIT / K of the M examples, entropy in nats of the predicted shares).

    The entropy is ln K where all classes are predicted equally often and 0 where only one is. An example whose
    probabilities are not finite has no class.

    Args:
        probabilities: predicted classes of the generated examples, [M, K].
        good: bool [M], which examples count, or None for all; the shares are of all M either way.
    """
    counted = np.isfinite(probabilities).all(axis=1)  # argmax would give NaN to a class
    counted = counted if good is None else counted & good
    predicted = np.argmax(probabilities[counted], axis=1)
    shares = np.bincount(predicted, minlength=probabilities.shape[1]) / max(len(probabilities), 1)
    some = shares[shares > 0] / max(shares.sum(), 1e-12)
    return int(np.sum(shares >= HIT / len(shares))), float(-np.sum(some * np.log(some)) + 0.0)


def precision_recall(real: np.ndarray, drawn: np.ndarray, *, k: int = 3) -> tuple[float, float]:
    """Returns (share of drawn [M, F] within the manifold of real [N, F], share of real within the manifold of drawn).

    A manifold is the union of balls around its examples, each reaching to its k-th neighbour in the same set (Kynkäänniemi et
    al. 2019, arXiv 1904.06991, eq. 1 and 2): precision measures quality, recall diversity. Both are 0 where a set
    has k examples or fewer.
    """
    if min(len(real), len(drawn)) <= k:
        return 0.0, 0.0
    real, drawn = (np.asarray(points, np.float64) for points in (real, drawn))
    return _covered(drawn, real, k), _covered(real, drawn, k)


def _covered(points: np.ndarray, manifold: np.ndarray, k: int) -> float:
    """Returns the share of points [N, F] that lie in the ball of some example of the manifold [M, F]."""
    chunks = range(0, len(manifold), CHUNK)
    # Every example is its own nearest, at distance 0, so the k-th neighbour has the index k: [M, M] -> [M].
    radii = np.concatenate([np.partition(_squared(manifold[at : at + CHUNK], manifold), k, axis=1)[:, k] for at in chunks])
    inside = [np.any(_squared(points[at : at + CHUNK], manifold) <= radii, axis=1) for at in range(0, len(points), CHUNK)]
    return float(np.mean(np.concatenate(inside)))


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the squared distances [N, M] of a [N, F] and b [M, F], at least 0 in spite of rounding."""
    centre = b.mean(axis=0)  # far from the origin |a|² + |b|² − 2ab would lose the digits of the difference
    a, b = a - centre, b - centre
    return np.maximum(np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2.0 * a @ b.T, 0.0)


def two_sample_accuracy(real: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """Returns (accuracy of a logistic regression that separates drawn [M, F] from real [N, F], p-value against chance).

    The classifier two-sample test of Lopez-Paz and Oquab 2017 (arXiv 1610.06545, section 3): it is trained on every
    other example and tested on the rest. At ½ no hyperplane separates the sets better than chance; at 1 one separates them
    fully. The p-value is one-sided, by the normal approximation of section 3, n the number of tested
    examples. The result is (½, 1) where a set has fewer than 4 examples.
    """
    count = min(len(real), len(drawn))
    if count < 4:
        return 0.5, 1.0
    points = np.concatenate([real[:count], drawn[:count]]).astype(np.float64)
    points = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-9)
    labels = np.repeat([0.0, 1.0], count)
    trained = np.tile(np.arange(count) % 2 == 0, 2)
    weights = _logistic(points[trained], labels[trained])
    predicted = _with_one(points[~trained]) @ weights > 0
    accuracy = float(np.mean(predicted == (labels[~trained] > 0.5)))
    above = (accuracy - 0.5) * 2.0 * math.sqrt(np.sum(~trained))
    return accuracy, 0.5 * math.erfc(above / math.sqrt(2.0))


def _with_one(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _logistic(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fits the weights [F + 1] of the ridge logistic regression of labels 0 or 1 [N] on points [N, F], by Newton's method.

    The last weight is the bias, which has no penalty.
    """
    x = _with_one(points)
    ridge = RIDGE * len(x) * np.append(np.ones(points.shape[1]), 0.0)
    weights = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        probability = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -30.0, 30.0)))
        gradient = x.T @ (probability - labels) + ridge * weights
        curvature = (x * (probability * (1.0 - probability))[:, None]).T @ x + np.diag(ridge + 1e-9)
        weights -= np.linalg.solve(curvature, gradient)
    return weights
