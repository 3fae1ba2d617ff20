"""Regions of similar colour by the graph of neighbouring pixels (Felzenszwalb and Huttenlocher 2004, IJCV 59(2)). NumPy."""

import numpy as np

from cnnlab.errors import UsageError


def graph_segments(image: np.ndarray, *, scale: float = 100.0, sigma: float = 0.8, least: int = 20) -> np.ndarray:
    """Returns the number of each pixel's region, i64 [H, W] from 0, by rows of first pixels.

    Edges between the eight neighbours of pixels, from the smallest difference of colours up, join two regions if the difference
    is below the largest one inside either plus `scale` over its size (section 3, definition 3 and equation 4). Equal to
    `felzenszwalb` of scikit-image where no two differences are equal.

    Args:
        image: colours of any space, [H, W, C], in the range of [0, 255].
        scale: k of the paper: a larger one gives larger regions.
        sigma: width of the Gaussian filter before, in pixels.
        least: pixels that a region has at least; smaller ones join the neighbour of the smallest difference.

    Raises:
        UsageError: `scale` or `least` is not positive, or `sigma` is negative.
    """
    from scipy import ndimage

    if not scale > 0 or least < 1 or sigma < 0:
        raise UsageError(
            f"segments of a graph: scale={scale:g}, sigma={sigma:g}, least={least}.\n"
            "Expected scale above 0, sigma of 0 or more pixels, and one pixel at least in a region."
        )
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), (sigma, sigma, 0))
    ends, costs = _edges(smooth)
    order = np.argsort(costs, kind="stable")
    first, second = (each[order].tolist() for each in ends)
    parents = _joined(first, second, costs[order].tolist(), image.shape[0] * image.shape[1], scale, least)
    roots = np.asarray([_root(parents, pixel) for pixel in range(len(parents))])
    _, place, number = np.unique(roots, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(place))  # regions by their first pixel
    return np.asarray(ranks[number].reshape(image.shape[:2]))  # [H·W] -> [H, W]


def _edges(image: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Returns the two pixels of each edge of an image [H, W, C], i64 [E] each, and the distance of their colours, f64 [E]."""
    pixels = np.arange(image.shape[0] * image.shape[1]).reshape(image.shape[:2])
    pairs = (
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),  # right
        ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),  # down
        ((slice(1, None), slice(1, None)), (slice(None, -1), slice(None, -1))),  # down to the right
        ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))),  # down to the left
    )
    first, second = (np.concatenate([pixels[pair[side]].reshape(-1) for pair in pairs]) for side in (0, 1))
    costs = [np.sqrt(np.sum((image[one] - image[other]) ** 2, axis=-1)).reshape(-1) for one, other in pairs]
    return (first, second), np.concatenate(costs)


def _joined(first: list[int], second: list[int], costs: list[float], pixels: int, scale: float, least: int) -> list[int]:
    """Returns the parent of each pixel in the tree of its region, from edges in the order of their costs."""
    parents, sizes, inner = list(range(pixels)), [1] * pixels, [0.0] * pixels
    for one, other, cost in zip(first, second, costs, strict=True):
        a, b = _root(parents, one), _root(parents, other)
        if a != b and cost < min(inner[a] + scale / sizes[a], inner[b] + scale / sizes[b]):
            parents[b] = a
            sizes[a], inner[a] = sizes[a] + sizes[b], cost
    for one, other in zip(first, second, strict=True):
        a, b = _root(parents, one), _root(parents, other)
        if a != b and min(sizes[a], sizes[b]) < least:
            parents[b] = a
            sizes[a] += sizes[b]
    return parents


def _root(parents: list[int], pixel: int) -> int:
    """Returns the root of a pixel's tree, and shortens the way to it."""
    while parents[pixel] != pixel:
        parents[pixel] = pixel = parents[parents[pixel]]
    return pixel
