"""Checks that tell a good map from a pretty one.

Letters in shapes: N images, H W space, C channels, P steps of a curve.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from cnnlab.core import Array
from cnnlab.explain.attribution import target_scores
from cnnlab.explain.methods import Maps
from cnnlab.explain.network import Network, in_batches, scores
from cnnlab.ops import trees

Predicts = Callable[[Array, Array], dict[str, Array]]
"""(scores [N, K], images) -> {"probabilities": f32 [N, K], …}."""
DEPTHS = ("last layer", "last half", "all layers")
"""How far down the weights are randomised, from the output on."""
STEPS = 10
"""Parts in which pixels are inserted or deleted."""
QUADRANTS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""(Lower half, right half) of the places of a pasted image."""


def kernels_in_order(network: Network) -> list[str]:
    """Returns the paths of all kernels (arrays of two or more axes), those next to the image first."""
    places = {layer.name: place for place, layer in enumerate(network.layers)}
    found = [path for path, leaf in trees.flatten(network.params).items() if leaf.ndim > 1]

    def place(path: str) -> int:
        # PLAYER/module/…/kernel: the module, or the innermost one around it that has a name in the program.
        parts = path.split("/")[1:-1]
        around = ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
        return next((places[name] for name in around if name in places), -1)

    return sorted(found, key=place)


def randomized(network: Network, share: float, *, seed: int = 0) -> Network:
    """Returns the network with the weights of its last kernels in random order (Adebayo et al. 2018, arXiv 1810.03292).

    Deviation: the authors draw weights anew from the initialiser; here each kernel's own weights are permuted, which keeps
    their distribution, so that the layers above stay in their range, and needs no initialiser.

    Args:
        network: the network.
        share: share of the kernels that are permuted, from the output on; at least one.
        seed: seed of the permutations.
    """
    paths, leaves = kernels_in_order(network), trees.flatten(network.params)
    count = max(1, round(share * len(paths)))
    for number, path in enumerate(paths[len(paths) - count :]):
        key = jax.random.fold_in(jax.random.key(seed), number)
        leaves[path] = jax.random.permutation(key, leaves[path].ravel()).reshape(leaves[path].shape)
    return network.with_params(trees.unflatten(leaves))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Returns Spearman's correlation of |first| and |second| [N, H, W], the mean over images; NaN where a map is constant."""
    found = []
    for one, other in zip(first, second, strict=True):
        flat = [np.abs(part).ravel() for part in (one, other)]
        if np.ptp(flat[0]) > 0 and np.ptp(flat[1]) > 0:
            found.append(float(stats.spearmanr(flat[0], flat[1]).statistic))
    return float(np.mean(found)) if found else float("nan")


def randomization(maps: Maps, network: Network, images: Array, target: Array) -> list[float]:
    """Returns the rank correlation of the maps with those of the network randomised to each of DEPTHS.

    A map that explains the network loses its likeness; one that stays shows the image, or the architecture.
    """
    before = np.asarray(maps(network, images, target))
    shares = (0.0, 0.5, 1.0)
    return [rank_correlation(before, np.asarray(maps(randomized(network, share), images, target))) for share in shares]


def completeness(attributed: np.ndarray, network: Network, images: Array, target: Array) -> list[tuple[float, float]]:
    """Returns (change of the score from the baseline to the image, sum of the map) of each image.

    Args:
        attributed: maps [N, H, W] of integrated gradients.
        network: the network.
        images: f32 [N, H, W, C], normalised.
        target: i32 [N].
    """
    change = target_scores(scores(network, images) - scores(network, jnp.zeros_like(images)), target)
    sums = np.asarray(attributed, np.float64).sum(axis=(1, 2))
    return [(float(one), float(total)) for one, total in zip(np.asarray(change), sums, strict=True)]


@dataclasses.dataclass(frozen=True)
class Curve:
    """The probability of the class while pixels are deleted or inserted in the order of a map."""

    deletion: np.ndarray
    """f64 [P], the mean over images; at 0, 1/STEPS, …, 1 of the pixels."""
    insertion: np.ndarray
    """As `deletion`."""

    @property
    def areas(self) -> tuple[float, float]:
        """The areas below deletion (low is good) and insertion (high is good)."""
        first, second = (float(np.trapezoid(curve, dx=1 / (len(curve) - 1))) for curve in (self.deletion, self.insertion))
        return first, second


def of_one_class(logits: Array, images: Array) -> dict[str, Array]:
    """Returns the probabilities f32 [N, K] of classes of which an image has one, as core.Prediction.arrays does."""
    return {"probabilities": jax.nn.softmax(logits)}


@functools.partial(jax.jit, static_argnums=0)
def _probability(arrays: Predicts, network: Network, images: Array, target: Array) -> Array:
    return target_scores(arrays(network.logits(images), images)["probabilities"], target)


def curve_of(
    order: np.ndarray, network: Network, images: np.ndarray, target: np.ndarray, arrays: Predicts = of_one_class
) -> Curve:
    """Returns the curves of pixels in an order (Petsiuk et al. 2018, arXiv 1806.07421).

    Deletion replaces pixels by the baseline; insertion begins with the blurred image and brings pixels back.

    Args:
        order: [N, H, W], large where a pixel comes first.
        network: the network.
        images: f32 [N, H, W, C], normalised.
        target: i32 [N].
        arrays: core.Prediction.arrays of a task with probabilities.
    """
    count = order[0].size
    flat = order.reshape(len(order), -1)  # [N, H, W] -> [N, H·W]
    # Equal values, such as those of pixels outside of a Grad-CAM, come in random order, not row by row.
    noise = np.random.default_rng(0).permutation(count)
    ranks = np.stack([np.argsort(np.lexsort((noise, -row))) for row in flat]).reshape(order.shape)
    deviation = max(1.0, min(order.shape[1:]) / 20)
    blurred = ndimage.gaussian_filter(images, (0, deviation, deviation, 0))
    deletion: list[float] = []
    insertion: list[float] = []
    for step in range(STEPS + 1):
        is_done = (ranks < round(step / STEPS * count))[..., None]  # [N, H, W] -> [N, H, W, 1]
        for curve, before, after in ((deletion, images, np.zeros_like(images)), (insertion, blurred, images)):
            mixed = jnp.asarray(np.where(is_done, after, before))
            curve.append(float(jnp.mean(_probability(arrays, network, mixed, jnp.asarray(target)))))
    return Curve(np.array(deletion), np.array(insertion))


def random_order(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an order of pixels by chance, with which the curves of a map are compared."""
    return np.random.default_rng(1).random(shape)


def pasted(images: np.ndarray, places: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns (images at half their size in a quadrant of one colour, bool [N, H, W] of the quadrants).

    The colour of the rest is the median of the image's border, so that the picture has as little of an edge as possible.

    Args:
        images: f32 [N, H, W, C], normalised.
        places: number of the quadrant of each.
    """
    count, height, width, channels = images.shape
    rows, columns = height // 2, width // 2
    small = np.asarray(jax.image.resize(jnp.asarray(images), (count, rows, columns, channels), "linear"))
    border = np.ones((height, width), bool)
    border[1:-1, 1:-1] = False
    # [N, H, W, C] at [H, W] -> [N, border pixels, C] -> [N, 1, 1, C]
    colour = np.median(images[:, border], axis=1)[:, None, None]
    out, inside = np.broadcast_to(colour, images.shape).copy(), np.zeros((count, height, width), bool)
    for number, place in enumerate(places):
        lower, right = QUADRANTS[place]
        top, left = lower * (height - rows), right * (width - columns)
        where: Any = (number, slice(top, top + rows), slice(left, left + columns))
        out[where] = small[number]
        inside[where] = True
    return out, inside


def pointing(maps: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Returns (share of maps whose largest value lies inside, share of the positive values inside) of [N, H, W] and bool alike.

    A map without a positive value points nowhere: it counts as a miss, and has no share.
    """
    positive = np.maximum(maps.astype(np.float64), 0)
    totals = positive.sum(axis=(1, 2))
    flat = positive.reshape(len(maps), -1)
    places = np.argmax(flat, axis=1)
    hits = inside.reshape(len(maps), -1)[np.arange(len(maps)), places] & (totals > 0)
    shares = (positive * inside).sum(axis=(1, 2))[totals > 0] / totals[totals > 0]
    return float(np.mean(hits)), float(np.mean(shares)) if len(shares) else float("nan")


def predicted(network: Network, images: np.ndarray, size: int) -> np.ndarray:
    """Returns the class i32 [N] of the largest score of images [N, H, W, C], `size` of which are classified at a time."""
    nothing = np.zeros(len(images), np.int32)
    found = in_batches(lambda network, images, _: scores(network, images), network, images, nothing, size)
    return np.argmax(found, axis=1).astype(np.int32)


def tried_quadrants(
    network: Network, images: np.ndarray, target: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (pasted images, bool of their quadrants, target) of the images that are still given their class when pasted.

    Each image stands in each of the four quadrants in turn; `size` pictures are classified at a time.
    """
    every = np.repeat(images, len(QUADRANTS), axis=0)
    classes = np.repeat(target, len(QUADRANTS))
    out, inside = pasted(every, [number % len(QUADRANTS) for number in range(len(every))])
    is_known = predicted(network, out, size) == classes
    return out[is_known], inside[is_known], classes[is_known]
