"""Multinomial logistic regression with an L2 penalty: a convex problem, solved on the host in f64, hence with one answer.

Letters in shapes: N examples, F features, K classes.
"""

from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

PENALTIES = tuple(10.0**power for power in range(5, -4, -1))
"""Penalties among which `choose_penalty` chooses, the largest first: those of scikit-learn's C = 1 / penalty, 1e-5 to 1e3."""
WORSE = 2
"""Number of penalties in a row that are worse than the best one, after which no smaller ones, which take longest, are tried."""
TOLERANCE = 1e-8
"""Largest entry of the gradient, as a share of the number of examples, with which the optimiser ends."""
ROUGHLY = 1e-4
"""The same while the penalty is chosen."""
MOST_STEPS = 5000
"""Largest number of steps of the optimiser."""
EVERY = 5
"""Every so manieth example of a class is held out while the penalty is chosen."""


def fit(
    features: np.ndarray, labels: np.ndarray, classes: int, *, penalty: float, tolerance: float = TOLERANCE
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel f64 [F, K] and the bias f64 [K] with the least Σ cross-entropy + penalty / 2 · ‖kernel‖².

    The bias has no penalty; of all biases that only differ by a constant, it is the one with mean 0. It takes fewer steps
    the less the features correlate: `uncorrelated` turns them so.

    Args:
        features: f64 [N, F].
        labels: i32 [N] in [0, K).
        classes: K.
        penalty: weight of the penalty, > 0.
        tolerance: as TOLERANCE.
    """
    count, width = features.shape
    targets = np.eye(classes)[labels]  # [N] -> one-hot [N, K]
    # The curvature along a row of the kernel where all classes are as likely. The optimiser sees each row divided by its root,
    # so that all directions curve alike; relative to the largest, which keeps its gradient, so that none is seen too small.
    curvature = np.append(np.sum(features**2, axis=0), count) * (classes - 1) / classes**2 + np.append([penalty] * width, 0.0)
    units = np.sqrt(curvature.max() / curvature)[:, None]  # [F + 1, 1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns the objective and its gradient, both divided by N, at the kernel and the bias below it, flat, in `units`."""
        rows = units * flat.reshape(width + 1, classes)  # [(F + 1) · K] -> [F + 1, K]
        scores = features @ rows[:-1] + rows[-1]
        logs = scores - special.logsumexp(scores, axis=1, keepdims=True)
        residuals = np.exp(logs) - targets
        gradient = np.concatenate([features.T @ residuals + penalty * rows[:-1], residuals.sum(axis=0)[None]])
        value = -np.sum(logs * targets) + penalty / 2 * np.sum(rows[:-1] ** 2)
        return float(value) / count, (units * gradient).ravel() / count  # [F + 1, K] -> [(F + 1) · K]

    options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": tolerance, "ftol": 0.0, "maxcor": 20}
    first = np.zeros((width + 1) * classes)
    found = optimize.minimize(objective, first, jac=True, method="L-BFGS-B", options=options).x
    rows = units * found.reshape(width + 1, classes)  # [(F + 1) · K] -> [F + 1, K]
    return rows[:-1], rows[-1] - rows[-1].mean()


def uncorrelated(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns an orthonormal basis f64 [F, M] with the span of examples f64 [N, F], M = min(N, F), and coordinates f64 [N, M].

    The coordinates are uncorrelated where the features have mean 0: the basis has the principal components. A kernel with the
    least penalty lies in the span, so a regression on the coordinates is one on the features, but faster.
    """
    basis, triangle = np.linalg.qr(features.T) if features.shape[1] > len(features) else (np.eye(features.shape[1]), features.T)
    _, axes = np.linalg.eigh(triangle @ triangle.T)  # [M, M]
    basis = basis @ axes
    return basis, features @ basis


def hold_out(labels: np.ndarray) -> np.ndarray:
    """Returns bool [N]: the examples that are held out, every fifth of each class and at least one of two; i32 [N] labels."""
    chosen = np.zeros(len(labels), bool)
    for number in np.unique(labels):
        own = np.flatnonzero(labels == number)
        chosen[own[EVERY - 1 :: EVERY] if len(own) >= EVERY else own[1::2]] = True
    return chosen


def choose_penalty(
    features: np.ndarray, labels: np.ndarray, classes: int, penalties: Sequence[float] = PENALTIES
) -> tuple[float, dict[float, float]]:
    """Returns the penalty with the least mean cross-entropy on held-out examples, and that of each that was tried.

    The cross-entropy has no ties, and shows that a penalty is too small before errors do. Where no class has two examples
    nothing can be held out: the penalty is then 1, and there is no number.

    Args:
        features: f64 [N, F].
        labels: i32 [N] in [0, K).
        classes: K.
        penalties: those among which is chosen, in the order in which they are tried.
    """
    held = hold_out(labels)
    if not held.any():
        return 1.0, {}
    found: dict[float, float] = {}
    for penalty in penalties:
        best = min(found.values(), default=np.inf)
        if len(found) > WORSE and all(loss > best for loss in list(found.values())[-WORSE:]):
            break
        kernel, bias = fit(features[~held], labels[~held], classes, penalty=penalty, tolerance=ROUGHLY)
        scores = features[held] @ kernel + bias
        logs = scores - special.logsumexp(scores, axis=1, keepdims=True)
        found[penalty] = -float(np.mean(np.take_along_axis(logs, labels[held][:, None], axis=1)))  # [M, K] at [M, 1] -> [M, 1]
    return min(found, key=lambda penalty: found[penalty]), found


def centred(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns features f64 [N, F] with mean 0 and a mean variance of 1, their means f64 [F], and what all were divided by.

    All are divided by the same number. Divided by its own deviation, a unit that is nearly silent on a few labelled examples
    would speak loudest on others.
    """
    mean = features.mean(axis=0)
    scale = float(np.sqrt(np.mean((features - mean) ** 2)))
    scale = scale if scale > 0 else 1.0
    return (features - mean) / scale, mean, scale


def fit_features(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns the kernel f64 [F, K] and bias f64 [K] for features as they are, and the penalty that was chosen.

    The regression is that of `centred` features; their means and scale are part of the kernel and the bias that are returned.

    Args:
        features: [N, F].
        labels: i32 [N] in [0, K).
        classes: K.
    """
    moved, mean, scale = centred(features.astype(np.float64))
    basis, coordinates = uncorrelated(moved)
    penalty, _ = choose_penalty(coordinates, labels, classes)
    kernel, bias = fit(coordinates, labels, classes, penalty=penalty)
    kernel = basis @ kernel / scale
    return kernel, bias - mean @ kernel, penalty
