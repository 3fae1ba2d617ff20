"""What a trunk computes, as numbers that a linear model or a neighbour can be asked about: a vector for each image and layer.

Letters in shapes: B batch, H W space, C channels, G side of a grid, F features.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cnnlab.core import OUTPUT, Array, PyTree
from cnnlab.models.taps import kept, layer_shapes, require_layers, tapped

FEATURES = "features"
"""Name of what the last layer takes, in every network."""


def init_trunk(network: nn.Module, key: Array, images: Array) -> PyTree:
    """Returns the initial variables of a network without its last layer, for images [B, H, W, C]."""
    with nn.intercept_methods(_without_output({})):
        return dict(network.init(key, images, train=False))


def layer_vectors(
    network: nn.Module, variables: PyTree, images: Array, layers: Sequence[str], *, grid: int
) -> dict[str, Array]:
    """Returns {layer: f32 [B, F]} of images [B, H, W, C], as in evaluation.

    Maps [B, h, w, C] are averaged over the G x G cells of a grid, of which each may share rows and columns with the next, as in
    torch.nn.AdaptiveAvgPool2d; smaller maps stay as they are. F is then G · G · C.

    Args:
        network: a network of models/trunk.py.
        variables: its variables; those of a last layer may be missing.
        images: images as the network takes them.
        layers: names as in `tapped`, or `features`, what the last layer takes.
        grid: G.
    """
    found = dict[str, Array]()
    inner = [name for name in layers if name != FEATURES]
    if inner:
        with nn.intercept_methods(_without_output({})):
            found |= tapped(network, variables, images, inner)
    if FEATURES in layers:
        with nn.intercept_methods(_without_output(found)):
            network.apply(variables, images, train=False)
    return {name: _vectors(found[name].astype(jnp.float32), grid) for name in layers}


def require_trunk_layers(network: nn.Module, image_shape: tuple[int, int, int], layers: Sequence[str]) -> None:
    """Raises UsageError for a layer that the network, a classifier of any number of classes, has not before its last one."""
    known = _known(network, image_shape)
    require_layers([name for name in layers if name != FEATURES], [name for name in known if name != OUTPUT])


@kept
def _known(network: nn.Module, image_shape: tuple[int, int, int]) -> list[str]:
    """Returns the names of the layers."""
    with nn.intercept_methods(_without_output({})):
        return list(layer_shapes(network, image_shape))


def _without_output(found: dict[str, Array]) -> Callable[..., Any]:
    """Returns an interceptor by which the last layer returns what it takes, and which writes that into `found`."""

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if context.module.path != (OUTPUT,) or context.method_name != "__call__":
            return call(*args, **kwargs)
        found[FEATURES] = args[0]
        return args[0]

    return intercept


def _vectors(x: Array, grid: int) -> Array:
    """Returns x [B, h, w, C], averaged over the cells of a grid, or [B, F] as vectors f32 [B, F]."""
    if x.ndim == 4:
        rows, columns = (jnp.asarray(_cells(side, grid)) for side in x.shape[1:3])
        x = jnp.einsum("gh,bhwc,kw->bgkc", rows, x, columns)  # [B, h, w, C] -> [B, G, G, C]
    return x.reshape(len(x), -1)  # [B, G, G, C] -> [B, G · G · C]


def _cells(side: int, grid: int) -> np.ndarray:
    """Returns the matrix f32 [G, side] whose rows average one of G cells of `side` pixels; the identity where G is larger."""
    grid = min(grid, side)
    weights = np.zeros((grid, side), np.float32)
    for cell in range(grid):
        first, end = cell * side // grid, -(-(cell + 1) * side // grid)
        weights[cell, first:end] = 1 / (end - first)
    return weights
