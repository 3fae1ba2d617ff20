"""The Fréchet distance between the Gaussians of two sets of features. NumPy in f64, because it subtracts large numbers.

Letters in shapes: N examples, F features.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """The mean and the spread of a set of features; those of two sets add up (Chan et al. 1979, STAN-CS-79-773, eq. 1.5)."""

    count: int
    mean: np.ndarray
    """f64 [F]."""
    scatter: np.ndarray
    """f64 [F, F]: Σ (f − mean) (f − mean)ᵀ, which loses no digits where the mean is large."""

    def __add__(self, other: "Moments") -> "Moments":
        count, shift = self.count + other.count, other.mean - self.mean
        weight = other.count / max(count, 1)
        between = self.count * weight * np.outer(shift, shift)
        return Moments(count, self.mean + weight * shift, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """Returns the covariance f64 [F, F], divided by N − 1."""
        return self.scatter / max(self.count - 1, 1)


def moments(features: np.ndarray) -> Moments:
    """Returns the moments of features [N, F]."""
    wide = np.asarray(features, np.float64)
    mean = wide.mean(axis=0)
    centred = wide - mean
    return Moments(len(wide), mean, centred.T @ centred)


def frechet(a: Moments, b: Moments) -> float:
    """Returns ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), the squared 2-Wasserstein distance of the two Gaussians.

    Dowson and Landau 1982, eq. 4; on features of Inception it is the FID of Heusel et al. 2017 (arXiv 1706.08500, section 3).
    It is NaN where a feature is not finite, and biased upwards where N is not much larger than F, so compare only
    sets of equal size.
    """
    if not all(np.isfinite(part).all() for one in (a, b) for part in (one.mean, one.scatter)):
        return float("nan")  # features that are not finite lie nowhere; eigh would raise
    # tr (Σ_a Σ_b)^½ = tr (Σ_a^½ Σ_b Σ_a^½)^½, which takes the root of a symmetric matrix, so that rounding gives no complex
    # roots.
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b.covariance @ root), 0.0)).sum()
    distance = float(np.sum((a.mean - b.mean) ** 2))
    return max(0.0, distance + float(np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross))
