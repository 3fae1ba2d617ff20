"""How good and how varied drawn examples are, by their features or by what a classifier says of them. NumPy on the host, but
for `laplacian_energy`, which reads the images themselves.

Letters in shapes: N real examples, M drawn ones, F features, K classes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

CHUNK = 512
"""Rows of distances at a time."""
HIT = 0.1
"""A class is hit where the drawn examples have at least this part of an even share, 1 / K, of it."""
RIDGE = 1e-2
"""Weight of the squared coefficients of the logistic regression, for each example."""
NEWTON_STEPS = 12


def laplacian_energy(images: jax.Array) -> jax.Array:
    """f32 [B]: mean square of the Laplacian of images [B, H, W, C] inside their border: how much sharp detail there is.

    Blur takes it away, noise adds to it, so that it is to be read beside a measure of quality; 0 for images without an inside.
    """
    x = images.astype(jnp.float32)
    if min(x.shape[1:3]) < 3:
        return jnp.zeros(x.shape[0], jnp.float32)
    around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return jnp.mean((around - 4.0 * x[:, 1:-1, 1:-1]) ** 2, axis=(1, 2, 3))


def classifier_score(probabilities: np.ndarray) -> float:
    """exp of the mean of KL(p(y|x) ‖ p(y)), p(y) the mean of p(y|x) [M, K]: 1 (all alike) to K (certain, all classes alike).

    The Inception score of Salimans et al. 2016 (arXiv 1606.03498, section 4) by another classifier, over one set.
    """
    each = np.maximum(np.asarray(probabilities, np.float64), 1e-16)
    together = each.mean(axis=0, keepdims=True)
    return float(np.exp(np.mean(np.sum(each * (np.log(each) - np.log(together)), axis=1))))


def classes_hit(probabilities: np.ndarray, good: np.ndarray | None = None) -> tuple[int, float]:
    """(classes that are predicted for HIT / K of the M examples or more, entropy in nats of the shares predicted).

    The entropy is ln K where all classes are predicted alike often, 0 where only one is. Only `good` ones, bool [M], are
    counted where they are told; the shares are still of all M.
    """
    said = np.argmax(probabilities, axis=1)
    shares = np.bincount(said if good is None else said[good], minlength=probabilities.shape[1]) / max(len(said), 1)
    some = shares[shares > 0] / max(shares.sum(), 1e-12)
    return int(np.sum(shares >= HIT / len(shares))), float(-np.sum(some * np.log(some)) + 0.0)


def precision_recall(real: np.ndarray, drawn: np.ndarray, *, k: int = 3) -> tuple[float, float]:
    """(share of drawn [M, F] within the manifold of real [N, F], share of real within that of drawn).

    A manifold is the union of balls around its examples, each as far as its k-th neighbour in the same set (Kynkäänniemi et
    al. 2019, arXiv 1904.06991, eq. 1 and 2): precision tells quality, recall variety. 0 where a set has k examples or fewer.
    """
    if min(len(real), len(drawn)) <= k:
        return 0.0, 0.0
    real, drawn = (np.asarray(points, np.float64) for points in (real, drawn))
    return _covered(drawn, real, k), _covered(real, drawn, k)


def _covered(points: np.ndarray, manifold: np.ndarray, k: int) -> float:
    """Share of points [N, F] that lie in the ball of some example of the manifold [M, F]."""
    chunks = range(0, len(manifold), CHUNK)
    # Every example is its own nearest, at 0: the k-th neighbour is number k from 0 on.
    radii = np.concatenate([np.partition(_squared(manifold[at : at + CHUNK], manifold), k, axis=1)[:, k] for at in chunks])
    inside = [np.any(_squared(points[at : at + CHUNK], manifold) <= radii, axis=1) for at in range(0, len(points), CHUNK)]
    return float(np.mean(np.concatenate(inside)))


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances [N, M] of a [N, F] and b [M, F]; rounding leaves none below 0."""
    return np.maximum(np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1) - 2.0 * a @ b.T, 0.0)


def two_sample_accuracy(real: np.ndarray, drawn: np.ndarray) -> tuple[float, float]:
    """(accuracy of a logistic regression that tells drawn [M, F] from real [N, F], p-value of ½).

    The classifier two-sample test of Lopez-Paz and Oquab 2017 (arXiv 1610.06545, section 3): it learns from every other
    example and is tested on the rest. Around ½ the sets cannot be told apart by a line; at 1 always. The p-value is one-sided,
    by the normal approximation of section 3, n the number of tested examples. (½, 1) where a set has fewer than 4 examples.
    """
    count = min(len(real), len(drawn))
    if count < 4:
        return 0.5, 1.0
    points = np.concatenate([real[:count], drawn[:count]]).astype(np.float64)
    points = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-9)
    labels = np.repeat([0.0, 1.0], count)
    learnt = np.tile(np.arange(count) % 2 == 0, 2)
    weights = _logistic(points[learnt], labels[learnt])
    said = _with_one(points[~learnt]) @ weights > 0
    accuracy = float(np.mean(said == (labels[~learnt] > 0.5)))
    above = (accuracy - 0.5) * 2.0 * math.sqrt(np.sum(~learnt))
    return accuracy, 0.5 * math.erfc(above / math.sqrt(2.0))


def _with_one(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def _logistic(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights [F + 1] of the ridge logistic regression of labels 0 or 1 [N] on points [N, F], by Newton's method."""
    x = _with_one(points)
    ridge = RIDGE * len(x) * np.append(np.ones(points.shape[1]), 0.0)
    weights = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -30.0, 30.0)))
        gradient = x.T @ (chance - labels) + ridge * weights
        curvature = (x * (chance * (1.0 - chance))[:, None]).T @ x + np.diag(ridge + 1e-9)
        weights -= np.linalg.solve(curvature, gradient)
    return weights
