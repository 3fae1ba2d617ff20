"""Boxes that may hold an object, by grouping regions of an image from small to large. NumPy, on the host.

Selective search (Uijlings et al. 2013, IJCV 104(2)), the proposals of R-CNN and Fast R-CNN. The first regions are those of a
graph of the pixels (Felzenszwalb and Huttenlocher 2004, IJCV 59(2)), by scikit-image.
"""

import dataclasses
import heapq
from collections.abc import Callable, Sequence

import numpy as np

from cnnlab.errors import UsageError

COLOUR_BINS, TEXTURE_BINS, DIRECTIONS = 25, 10, 8
COLOUR_SPACES = ("rgb", "hsv", "lab")
"""Names of the colour spaces."""


@dataclasses.dataclass
class _Region:
    """A region of an image, with what its similarity to others takes."""

    size: float  # pixels
    box: tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, of whole pixels
    colour: np.ndarray  # f64 [C · COLOUR_BINS], of sum 1
    texture: np.ndarray  # f64 [C · DIRECTIONS · TEXTURE_BINS], of sum 1
    neighbours: set[int]


def proposals(
    image: np.ndarray,
    *,
    spaces: Sequence[str] = ("hsv", "lab"),
    scales: Sequence[float] = (50.0, 100.0),
    colour: Sequence[bool] = (True, False),
    sigma: float = 0.8,
    least: int = 20,
    smallest_side: int = 4,
    seed: int = 0,
) -> np.ndarray:
    """Returns boxes that may hold an object, f32 [N, 4], the likelier ones first, none of them twice.

    For each colour space and scale, the regions of a graph are joined, two neighbours of the largest similarity at a time,
    until one is left; the box of every region on the way is a proposal (section 3.1). The similarity is the sum of those of
    colour, texture and size and of how well the two fill their common box (section 3.2). The k-th last region of a grouping has
    the rank k times a random number (section 3.4). The defaults are those of the paper's fast version: eight groupings.

    Args:
        image: u8 [H, W, 3], red, green and blue.
        spaces: colour spaces, of COLOUR_SPACES.
        scales: scales of the first regions, k of Felzenszwalb and Huttenlocher: a larger one gives larger regions.
        colour: whether the similarity has that of colour among its parts; both: once with it and once without.
        sigma: width in pixels of the Gaussian filter before the first regions.
        least: pixels of a first region at least.
        smallest_side: shortest side in pixels of a box that is kept.
        seed: of the random numbers.

    Raises:
        UsageError: there is no such colour space.
    """
    from skimage.segmentation import felzenszwalb

    unknown = [space for space in spaces if space not in COLOUR_SPACES]
    if unknown or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(
            f"proposals: colour spaces {', '.join(unknown) or 'are right'}; the image has the shape {list(image.shape)}.\n"
            f"Expected spaces among {', '.join(COLOUR_SPACES)}, and an image [H, W, 3]."
        )
    random, ranks = np.random.default_rng(seed), dict[tuple[int, int, int, int], float]()
    for space in spaces:
        colours = _conversion(space)(image)
        for scale in scales:
            first = _first_regions(colours, felzenszwalb(colours, scale=scale, sigma=sigma, min_size=least))
            for has_colour in colour:
                found = _hierarchy(first, float(colours.shape[0] * colours.shape[1]), has_colour)
                for place, box in enumerate(reversed(found), start=1):
                    ranks[box] = min(place * float(random.random()), ranks.get(box, np.inf))
    kept = [box for box in ranks if min(box[2] - box[0], box[3] - box[1]) >= smallest_side]
    return np.asarray(sorted(kept, key=lambda box: (ranks[box], box)), np.float32).reshape(-1, 4)


def recall(
    proposed: Sequence[np.ndarray], truth: Sequence[np.ndarray], *, most: int | None = None, threshold: float = 0.5
) -> float:
    """Returns the share of true boxes that one of the first proposals of their image overlaps enough; NaN where there is none.

    Args:
        proposed: boxes of each image, [N, 4], the likelier ones first.
        truth: its true boxes, [G, 4].
        most: how many proposals of an image count; None: all.
        threshold: the least IoU.
    """
    from cnnlab.ops.objects import box_overlaps

    hits = [
        (
            box_overlaps(np.asarray(found[:most], np.float64), np.asarray(boxes, np.float64), np.zeros(len(boxes), bool))
            >= threshold
        ).any(axis=0)
        for found, boxes in zip(proposed, truth, strict=True)
    ]
    every = np.concatenate(hits) if hits else np.zeros(0, bool)
    return float(every.mean()) if len(every) else float("nan")


def _hierarchy(first: list[_Region], whole: float, has_colour: bool) -> list[tuple[int, int, int, int]]:
    """Returns the boxes of all regions of a grouping, from the first ones to the whole image, of `whole` pixels."""
    regions = {number: dataclasses.replace(region, neighbours=set(region.neighbours)) for number, region in enumerate(first)}
    boxes = [region.box for region in regions.values()]
    queue = [
        (-_similarity(regions[one], regions[other], whole, has_colour), one, other)
        for one, region in regions.items()
        for other in region.neighbours
        if one < other
    ]
    heapq.heapify(queue)
    while queue:
        _, one, other = heapq.heappop(queue)
        if one not in regions or other not in regions:
            continue  # one of them has been joined with another since
        a, b, new = regions.pop(one), regions.pop(other), len(boxes)
        joined = _together(a, b)
        joined.neighbours -= {one, other}
        for number in joined.neighbours:
            regions[number].neighbours = (regions[number].neighbours - {one, other}) | {new}
            heapq.heappush(queue, (-_similarity(regions[number], joined, whole, has_colour), number, new))
        regions[new] = joined
        boxes.append(joined.box)
    return boxes


def _first_regions(colours: np.ndarray, segments: np.ndarray) -> list[_Region]:
    """Returns the regions of segments i64 [H, W] with their features, from colours f64 [H, W, C] in [0, 1].

    Texture is the response to derivatives of a Gaussian in DIRECTIONS (section 3.2); its bins have one range for all of them.
    """
    count = int(segments.max()) + 1
    sizes = np.bincount(segments.reshape(-1), minlength=count)
    colour, texture = (_histograms(each, segments, count, bins) for each, bins in _features(colours))
    y, x = np.indices(segments.shape)
    low, high = np.full((count, 2), segments.size), np.zeros((count, 2), np.int64)
    places = np.stack([x.reshape(-1), y.reshape(-1)], axis=1)  # [H, W] twice -> [H·W, 2]
    np.minimum.at(low, segments.reshape(-1), places)
    np.maximum.at(high, segments.reshape(-1), places + 1)
    neighbours: list[set[int]] = [set() for _ in range(count)]
    for one, other in ((segments[:, 1:], segments[:, :-1]), (segments[1:], segments[:-1])):
        pairs = np.unique(np.stack([one[one != other], other[one != other]], axis=1), axis=0)
        for a, b in pairs.tolist():
            neighbours[a].add(b)
            neighbours[b].add(a)
    return [
        _Region(float(sizes[k]), (*low[k].tolist(), *high[k].tolist()), colour[k], texture[k], neighbours[k])
        for k in range(count)
    ]


def _features(colours: np.ndarray) -> tuple[tuple[np.ndarray, int], tuple[np.ndarray, int]]:
    """Returns the colours and the derivatives in DIRECTIONS, each [H, W, F] in [0, 1], with the numbers of their bins."""
    from scipy import ndimage

    down, right = (ndimage.gaussian_filter1d(colours, 1.0, axis=axis, order=1) for axis in (0, 1))
    angles = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    slopes = np.concatenate([np.maximum(np.cos(a) * right + np.sin(a) * down, 0) for a in angles], axis=2)
    return (colours, COLOUR_BINS), (slopes / max(float(slopes.max()), 1e-12), TEXTURE_BINS)


def _histograms(features: np.ndarray, segments: np.ndarray, count: int, bins: int) -> np.ndarray:
    """Returns the histogram of features f64 [H, W, F] in each segment, f64 [count, F · bins], of sum 1."""
    channels = features.shape[2]
    place = np.clip((features * bins).astype(np.int64), 0, bins - 1) + bins * np.arange(channels)  # [H, W, F]
    flat = segments[..., None] * (channels * bins) + place
    counts = np.bincount(flat.reshape(-1), minlength=count * channels * bins).reshape(count, channels * bins)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _similarity(a: _Region, b: _Region, whole: float, has_colour: bool) -> float:
    """Returns the sum of four similarities, each in [0, 1] (section 3.2), or of three, in an image of `whole` pixels."""
    x1, y1, x2, y2 = _around(a.box, b.box)
    size = 1 - (a.size + b.size) / whole
    fill = 1 - ((x2 - x1) * (y2 - y1) - a.size - b.size) / whole
    colour = np.minimum(a.colour, b.colour).sum() if has_colour else 0.0
    return float(colour + np.minimum(a.texture, b.texture).sum() + size + fill)


def _together(a: _Region, b: _Region) -> _Region:
    """Returns two regions as one: its histograms are their means by size."""
    size = a.size + b.size
    colour, texture = ((a.size * one + b.size * other) / size for one, other in ((a.colour, b.colour), (a.texture, b.texture)))
    return _Region(size, _around(a.box, b.box), colour, texture, a.neighbours | b.neighbours)


def _around(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Returns the smallest box around two."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _conversion(space: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that brings colours u8 [H, W, 3] of sRGB into a space, f64 [H, W, 3] in [0, 1]."""
    from skimage import color

    def lab(image: np.ndarray) -> np.ndarray:
        """L* is in [0, 100], the others in [-128, 127] about."""
        return (color.rgb2lab(image) + np.asarray([0.0, 128.0, 128.0])) / np.asarray([100.0, 255.0, 255.0])

    return {"rgb": lambda image: np.asarray(image, np.float64) / 255, "hsv": color.rgb2hsv, "lab": lab}[space]
