"""Whitening of images and of their patches: numbers that are uncorrelated and have variance 1.

Letters in shapes: B images, D = H · W · C numbers of an image.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.inputs import InputSpec


def whitening_matrix(covariance: np.ndarray, *, epsilon: float, rotate_back: bool) -> np.ndarray:
    """Returns the matrix f32 [D, D] by which a centred row vector is multiplied, so that its covariance becomes the identity.

    Its columns are the eigenvectors of the covariance, that of the largest eigenvalue first, each divided by the root of its
    eigenvalue; their signs are such that the largest entry is positive. Rotated back, it is symmetric, and of all matrices that
    whiten the one that changes the vectors least (ZCA; Bell and Sejnowski 1997, The "independent components" of natural scenes
    are edge filters).

    Args:
        covariance: f64 [D, D].
        epsilon: constant added to the eigenvalues, which keeps directions without variance from being enlarged.
        rotate_back: whether the result is rotated back into the space of the images (ZCA), or holds the components (PCA).
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]  # the largest first; rounding may make them negative
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]  # [D, D] at ([D], [D]) -> [D]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    scaled = vectors / np.sqrt(values + epsilon)
    return (scaled @ vectors.T if rotate_back else scaled).astype(np.float32)


def whitened(images: jax.Array, matrix: np.ndarray) -> jax.Array:
    """Returns centred images f32 [B, H, W, C] multiplied by a matrix f32 [D, D], in full precision on every device."""
    rows = images.reshape(images.shape[0], -1)  # [B, H, W, C] -> [B, D]
    return jnp.matmul(rows, matrix, precision="highest").reshape(images.shape)  # [B, D] -> [B, H, W, C]


def normalised(inputs: InputSpec, images: jax.Array) -> jax.Array:
    """Returns images f32 [B, H, W, C], in the unit of the stored values, as the network takes them."""
    centred = (images - inputs.subtract) / inputs.divide
    return centred if inputs.whiten is None else whitened(centred, inputs.whiten)


def patch_whitening(images: np.ndarray, *, side: int, epsilon: float = 5e-4) -> np.ndarray:
    """Returns the kernel f32 [side, side, C, 2 · side² · C] that whitens the patches of images [N, H, W, C].

    The first half of the filters are the eigenvectors of the patches' second moments, each divided by the root of its
    eigenvalue; the second half are their negatives, for an activation that keeps one sign (Jordan 2024, arXiv 2404.00498,
    section 3.2). Every patch counts once, overlapping ones too.

    Args:
        images: normalised images, whose patches have a mean near 0.
        side: side of the patches in pixels.
        epsilon: constant added to the eigenvalues, which keeps directions without variance from being enlarged.
    """
    count, height, width, channels = images.shape
    size = side * side * channels
    patches = np.lib.stride_tricks.sliding_window_view(np.asarray(images, np.float64), (side, side), axis=(1, 2))
    # [N, H', W', C, side, side] -> [N, H', W', side, side, C] -> [N · H' · W', side · side · C], the order of a kernel's axes
    rows = patches.transpose(0, 1, 2, 4, 5, 3).reshape(count * (height - side + 1) * (width - side + 1), size)
    moments = rows.T @ rows / len(rows)
    values, vectors = np.linalg.eigh(moments)
    filters = vectors / np.sqrt(np.maximum(values, 0) + epsilon)  # [size, size], a filter in each column
    both = np.concatenate([filters, -filters], axis=1)
    return both.reshape(side, side, channels, 2 * size).astype(np.float32)  # [size, 2 · size] -> [side, side, C, 2 · size]
