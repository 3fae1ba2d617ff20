"""Channels and units that can be taken away whole: which there are, which matter least, and the parameters without them.

Li, Kadav, Durdanovic, Samet and Graf 2017, Pruning filters for efficient ConvNets, arXiv 1608.08710; Liu, Li, Shen, Huang, Yan
and Zhang 2017, Learning efficient convolutional networks through network slimming, arXiv 1708.06519.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from cnnlab.errors import UsageError
from cnnlab.ops import coupling, trees
from cnnlab.ops.coupling_rules import RULES, unknown

Criterion = Literal["l1", "l2", "scale"]
Place = tuple[str, int]
"""Path of a parameter, "params/conv1/kernel", and one of its axes."""


@dataclasses.dataclass(frozen=True)
class Units:
    """The channels of a layer, or of several whose channels are tied, all of which can go alike."""

    places: Mapping[Place, np.ndarray]
    """{where they are: positions i64 [units, n], n for each of them}."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of the parameters."""

    @property
    def count(self) -> int:
        """Number of units."""
        return len(next(iter(self.places.values())))

    @property
    def kernels(self) -> tuple[str, ...]:
        """Paths of the kernels whose outputs they are, without the collection: "conv1/kernel"."""
        outputs = [path for path, axis in self.places if is_output(axis, self.shapes[path])]
        return tuple(path.partition("/")[2] for path in outputs)


@dataclasses.dataclass(frozen=True)
class Found:
    """What can go of a network."""

    units: tuple[Units, ...]
    obstacles: Mapping[str, str]
    """{path of a kernel whose outputs cannot be followed: why}."""


def is_output(axis: int, shape: Sequence[int]) -> bool:
    """Whether an axis of a parameter is the outputs of a kernel, its last axis."""
    return len(shape) > 1 and axis == len(shape) - 1


def units_of(network: Callable[[Any, jax.Array], Any], variables: Any, image_shape: tuple[int, ...]) -> Found:
    """Follows the channels of a network.

    Args:
        network: (variables, images) -> all arrays that are computed of them.
        variables: nested dicts of arrays or their shapes, {"params": …, "batch_stats": …}.
        image_shape: (H, W, C) of its images.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(variables).items()}
    # A program for any number of images is written with the library's convolutions, whatever the backend (ops/convolve.py).
    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("images"), *image_shape), np.float32)
    given = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), variables)
    labels, axes = coupling.walk(jax.make_jaxpr(network)(given, images), RULES, unknown)
    positions: dict[int, dict[Place, list[int]]] = {}
    # The leaves of nested dicts are the arguments of the program in the same order.
    for path, of_leaf in zip(shapes, axes, strict=True):
        for axis, found in enumerate(of_leaf):
            for position, label in enumerate([] if found is None else found.tolist()):
                positions.setdefault(labels.root(label), {}).setdefault((path, axis), []).append(position)
    kept, obstacles = labels.kept(), dict[str, str]()
    alike: dict[tuple[tuple[Place, int], ...], list[dict[Place, list[int]]]] = {}
    for root, places in positions.items():
        outputs = [path for path, axis in places if is_output(axis, shapes[path])]
        if kept.get(root):
            obstacles |= {path.partition("/")[2]: kept[root] for path in outputs}
        elif outputs and root not in kept:
            alike.setdefault(tuple((place, len(found)) for place, found in places.items()), []).append(places)
    units = [
        Units({place: np.array([one[place] for one in several]) for place in several[0]}, shapes) for several in alike.values()
    ]
    return Found(tuple(units), obstacles)


def scores(units: Units, leaves: Mapping[str, Any], criterion: Criterion) -> np.ndarray:
    """Returns how much each unit matters, f64 [units], by numbers that compare between layers.

    Args:
        units: the channels.
        leaves: {"conv1/kernel": array} of the parameters.
        criterion: l1, l2: mean magnitude, or root mean square, of the weights that compute it (Li et al. 2017, section 3.1,
            with sums); scale: the magnitude of its scale in the norm behind it (Liu et al. 2017, section 3).

    Raises UsageError where there is no such scale.
    """
    found, total = np.zeros(units.count), 0
    for (path, axis), positions in units.places.items():
        is_scale = path.endswith("/scale") and axis == 0
        if not (is_scale if criterion == "scale" else is_output(axis, units.shapes[path])):
            continue
        leaf = np.abs(np.moveaxis(np.asarray(leaves[path.partition("/")[2]], np.float64), axis, 0))
        parts = leaf[positions].reshape(len(positions), -1)  # [units, n, …] -> [units, numbers]
        found += np.sum(parts**2 if criterion == "l2" else parts, axis=1)
        total += parts.shape[1]
    if not total:
        raise UsageError(
            f"--criterion=scale: no norm with a scale follows {units.kernels[0].removesuffix('/kernel')}.\n"
            "Take a network with norms, as --model.norm=batch has, or --criterion=l1."
        )
    return np.sqrt(found / total) if criterion == "l2" else found / total


def masks(
    params: Any, families: Sequence[Units], shares: Sequence[float], *, scope: Literal["layer", "network"], criterion: Criterion
) -> Any:
    """Returns the mask u8 of the parameters' tree in which everything of the units that matter least is 0.

    Args:
        params: a player's parameters, on the host.
        families: the channels of all layers; those with a parameter of another player stay.
        shares: share of the units of each that stay, at least one of them.
        scope: layer: each keeps its own share; network: all keep as many together, wherever those are that matter most.
        criterion: as in `scores`.
    """
    leaves = trees.flatten(params)
    kept = {path: np.ones(np.shape(leaf), np.uint8) for path, leaf in leaves.items()}
    pairs = [pair for pair in zip(families, shares, strict=True) if _parameters(pair[0]) <= leaves.keys()]
    found = [scores(units, leaves, criterion) for units, _ in pairs]
    counts = [max(1, math.ceil(share * units.count)) for units, share in pairs]
    if scope == "network" and found:
        counts = _together(found, sum(counts))
    for (units, _), score, count in zip(pairs, found, counts, strict=True):
        gone = np.argsort(-score, kind="stable")[count:]
        for (path, axis), positions in units.places.items():
            if path.startswith("params/"):
                np.moveaxis(kept[path.removeprefix("params/")], axis, 0)[positions[gone].reshape(-1)] = 0
    return trees.unflatten(kept)


def _parameters(units: Units) -> set[str]:
    """Returns the paths of the parameters that units are in, without the collection."""
    return {path.removeprefix("params/") for path, _ in units.places if path.startswith("params/")}


def _together(found: Sequence[np.ndarray], count: int) -> list[int]:
    """Returns how many units of each layer are among the `count` of all that matter most; at least one of each."""
    ends = np.cumsum([0, *map(len, found)])
    order = np.concatenate(found)
    order[[start + int(np.argmax(each)) for start, each in zip(ends, found, strict=False)]] = np.inf
    largest = np.argsort(-order, kind="stable")[:count]
    return [int(np.count_nonzero((largest >= start) & (largest < end))) for start, end in itertools.pairwise(ends)]


def unused(units: Units, leaves: Mapping[str, Any]) -> np.ndarray:
    """Returns bool [units]: whether all of a unit's parameters are 0, so that the network computes the same without it.

    Args:
        units: the channels.
        leaves: {"params/conv1/kernel": array}.
    """
    empty = np.ones(units.count, bool)
    for (path, axis), positions in units.places.items():
        if path.startswith("params/"):
            taken = np.moveaxis(np.asarray(leaves[path]), axis, 0)[positions]  # [units, n, …]
            empty &= ~np.any(taken.reshape(len(positions), -1), axis=1)
    return empty


def without(leaves: Mapping[str, Any], families: Sequence[Units], gone: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Returns {"params/conv1/kernel": array} without the units that are `gone`, bool [units] of each of the families."""
    left = {path: np.asarray(leaf) for path, leaf in leaves.items()}
    removed: dict[Place, list[int]] = {}
    for units, each in zip(families, gone, strict=True):
        for place, positions in units.places.items():
            removed.setdefault(place, []).extend(positions[each].reshape(-1).tolist())
    for (path, axis), each_gone in removed.items():
        left[path] = np.delete(left[path], each_gone, axis)
    return left
