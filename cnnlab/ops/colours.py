"""Colours of sRGB in CIE Lab, and the bins of a and b in which a network predicts them.

Letters in shapes: B batch, H W space, Q bins, N colours.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

TO_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], np.float64)
"""Linear red, green and blue (columns) to X, Y, Z (rows), by the numbers of scikit-image (skimage.color.xyz_from_rgb)."""
WHITE = np.array([0.95047, 1.0, 1.08883], np.float64)
"""X, Y, Z of the white point D65 for the observer of 2 degrees."""
SIDE = 10
"""Side of a bin of a and b (Zhang, Isola and Efros 2016, arXiv 1603.08511, section 2.1)."""
NEAREST = 5
"""Number of bins among which a colour is divided, and the standard deviation of the weights (section 2.2): both are 5."""


def rgb_to_lab(images: jax.Array) -> jax.Array:
    """Converts sRGB f32 [..., 3] in [0, 1] to Lab f32 [..., 3]: L in [0, 100], a and b, as skimage.color.rgb2lab does."""
    linear = jnp.where(images > 0.04045, ((jnp.maximum(images, 0.04045) + 0.055) / 1.055) ** 2.4, images / 12.92)
    scaled = _times(linear, TO_XYZ / WHITE[:, None])
    small, cube = scaled <= 0.008856, jnp.cbrt(jnp.maximum(scaled, 0.008856))
    x, y, z = jnp.moveaxis(jnp.where(small, 7.787 * scaled + 16.0 / 116.0, cube), -1, 0)  # [..., 3] -> three of [...]
    return jnp.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def lab_to_rgb(lab: jax.Array) -> jax.Array:
    """Converts Lab [..., 3] to sRGB [..., 3] in [0, 1], as skimage.color.lab2rgb does; what no screen shows is cut off."""
    lightness, a, b = jnp.moveaxis(lab, -1, 0)  # [..., 3] -> three of [...]
    y = (lightness + 16.0) / 116.0
    root = jnp.stack([y + a / 500.0, y, jnp.maximum(y - b / 200.0, 0.0)], axis=-1)
    scaled = jnp.where(root > 0.2068966, root**3, (root - 16.0 / 116.0) / 7.787)
    linear = _times(scaled, np.linalg.inv(TO_XYZ) * WHITE[None])
    curved = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.clip(jnp.where(linear > 0.0031308, curved, 12.92 * linear), 0.0, 1.0)


def _times(x: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Returns x [..., 3] times the transposed matrix [3, 3], written out: a product of matrices may round to fewer digits."""
    rows = [sum(x[..., i] * jnp.asarray(row[i], x.dtype) for i in range(3)) for row in matrix]
    return jnp.stack(rows, axis=-1)


@functools.cache
def bins() -> np.ndarray:
    """Returns the centres (a, b) of the bins that hold a colour of sRGB, f32 [Q, 2], on a grid of SIDE.

    They are found among the colours of u8 whose levels are multiples of 3: Q = 261. Deviation: Zhang et al. count 313.
    """
    levels = np.arange(0, 256, 3) / 255
    cube = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)  # [86³, 3]
    found = np.rint(_lab_by_numpy(cube)[:, 1:] / SIDE).astype(np.int64)
    numbers = np.unique(found[:, 0] * 100 + found[:, 1] + 50)  # one number of a pair: to sort pairs takes ten times as long
    centres = np.stack([numbers // 100, numbers % 100 - 50], axis=1).astype(np.float32) * SIDE
    centres.setflags(write=False)
    return centres


def _lab_by_numpy(rgb: np.ndarray) -> np.ndarray:
    """As `rgb_to_lab`, without a device: bins are found where nothing is compiled yet."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    scaled = linear @ (TO_XYZ / WHITE[:, None]).T
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def soft_bins(ab: jax.Array) -> jax.Array:
    """Divides colours (a, b) f32 [..., 2] among their NEAREST bins, by a Gaussian of their distances: f32 [..., Q], sums 1."""
    distances = _squared_distances(ab)
    _, nearest = jax.lax.top_k(-distances, NEAREST)  # i32 [..., NEAREST]
    is_near = jnp.sum(jax.nn.one_hot(nearest, distances.shape[-1], dtype=distances.dtype), axis=-2)  # [..., Q]
    # Relative to the nearest one, whose weight is 1, so that colours far from all bins keep theirs.
    least = jnp.min(distances, axis=-1, keepdims=True)
    weights = is_near * jnp.exp((least - distances) / (2.0 * NEAREST**2))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def nearest_bin(ab: jax.Array) -> jax.Array:
    """Returns the number of the bin nearest to each colour (a, b) f32 [..., 2], i32 [...]."""
    return jnp.argmin(_squared_distances(ab), axis=-1).astype(jnp.int32)


def _squared_distances(ab: jax.Array) -> jax.Array:
    centres = bins()
    a, b = (jnp.asarray(centres[:, i]).reshape((1,) * (ab.ndim - 1) + (-1,)) for i in range(2))
    return (ab[..., :1] - a) ** 2 + (ab[..., 1:] - b) ** 2  # [..., 1] by [..., Q]


@functools.cache
def _smoothing() -> np.ndarray:
    """Returns the weights f32 [Q, Q] of a Gaussian by which the share of a bin is divided among those around it."""
    centres = bins()
    squared = np.sum((centres[:, None] - centres[None]) ** 2, axis=-1)
    weights = np.exp(-squared / (2 * NEAREST**2))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def rarity(shares: jax.Array, uniform: float) -> jax.Array:
    """Returns weights of the bins, f32 [Q], that are larger the rarer a bin is (Zhang et al. 2016, section 2.2, equation 4).

    w = 1 / ((1 − λ) p̃ + λ / Q), scaled so that Σ p̃ w = 1, with p̃ the shares smoothed by a Gaussian.

    Args:
        shares: share of each bin, f32 [Q], Σ = 1.
        uniform: λ, how much of a uniform share is mixed in.
    """
    smooth = jnp.sum(shares[:, None] * jnp.asarray(_smoothing()), axis=0)  # [Q, 1] by [Q, Q] -> [Q]
    weights = 1.0 / ((1.0 - uniform) * smooth + uniform / len(smooth))
    return weights / jnp.sum(smooth * weights)


def annealed_mean(logits: jax.Array, temperature: float) -> jax.Array:
    """Returns the colours (a, b) f32 [..., 2] of logits [..., Q]: the mean of the bins under softmax(logits / T).

    Zhang et al. 2016, section 2.3, equation 5: T = 1 is the mean, which is dull, and T → 0 the mode, which is spotty.
    """
    p = jax.nn.softmax(logits / temperature, axis=-1)
    centres = bins()
    return jnp.stack(
        [jnp.sum(p * jnp.asarray(centres[:, i]).reshape((1,) * (p.ndim - 1) + (-1,)), axis=-1) for i in range(2)], -1
    )
