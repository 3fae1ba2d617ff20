"""Whitening of image patches: filters whose responses are uncorrelated and have variance 1."""

import numpy as np


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
