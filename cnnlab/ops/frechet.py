"""The Fréchet distance between the Gaussians of two sets of features. NumPy in f64, because it subtracts large numbers.

Letters in shapes: N examples, F features.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over examples that give a mean and a covariance; those of two sets add up."""

    count: int
    total: np.ndarray
    """f64 [F]: Σ f."""
    products: np.ndarray
    """f64 [F, F]: Σ f fᵀ."""

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    @property
    def mean(self) -> np.ndarray:
        """Returns the mean f64 [F]."""
        return self.total / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Returns the covariance f64 [F, F], divided by N − 1."""
        return (self.products - self.count * np.outer(self.mean, self.mean)) / max(self.count - 1, 1)


def moments(features: np.ndarray) -> Moments:
    """Sums up features [N, F]."""
    wide = np.asarray(features, np.float64)
    return Moments(len(wide), wide.sum(axis=0), wide.T @ wide)


def frechet(a: Moments, b: Moments) -> float:
    """Returns ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½), the squared 2-Wasserstein distance of the two Gaussians.

    Dowson and Landau 1982, eq. 4; on features of Inception it is the FID of Heusel et al. 2017 (arXiv 1706.08500, section 3).
    It is biased upwards where N is not much larger than F, so compare only sets of equal size.
    """
    # tr (Σ_a Σ_b)^½ = tr (Σ_a^½ Σ_b Σ_a^½)^½, which takes the root of a symmetric matrix, so that rounding gives no complex
    # roots.
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b.covariance @ root), 0.0)).sum()
    distance = float(np.sum((a.mean - b.mean) ** 2))
    return max(0.0, distance + float(np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross))
