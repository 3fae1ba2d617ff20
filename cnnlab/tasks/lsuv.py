"""Initialisation from data: LSUV, by which the outputs of every layer have variance 1 on the first training batch."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, PyTree, TrainState
from cnnlab.ops import trees
from cnnlab.tasks.beginnings import Begin
from cnnlab.tasks.classify import PLAYER
from cnnlab.tasks.network_player import joined
from cnnlab.values import Count, Positive


def as_drawn(network: nn.Module) -> None:
    """Leaves the weights as the network's initialisers draw them."""
    return


def lsuv(network: nn.Module, *, tolerance: Positive = 0.1, most_passes: Count = 10) -> Begin:
    """Makes kernels orthonormal, then scales them, layer by layer, to outputs of variance 1 (LSUV).

    Mishkin and Matas 2016, All you need is a good init, arXiv 1511.06422, algorithm 1: on the first training batch, before the
    activation, with norms as in evaluation. Layers that do not move stay as they are.

    Args:
        network: the network, whose initialisers draw the kernels; each is replaced by the orthonormal one nearest to it.
        tolerance: how far the variance of a layer's outputs may be from 1.
        most_passes: largest number of forward passes for a layer.
    """

    def begin(state: TrainState, batch: Batch) -> TrainState:
        order: list[str] = []

        def variances(params: PyTree, images: Array) -> dict[str, Array]:
            found = output_variances(network, {"params": params, **state.model_state}, images)
            order[:] = found  # in the order of calls, which compiled functions sort away
            return found

        # One compilation serves all layers and passes.
        measure, whole = jax.jit(variances), joined(state.params)
        leaves = {path: np.asarray(leaf) for path, leaf in trees.flatten(whole).items()}
        measure(whole, batch["image"])
        moving = {path.removesuffix("/kernel") for path in trees.flatten(state.params[PLAYER]) if path.endswith("/kernel")}
        for layer in [name for name in order if name in moving]:
            path = f"{layer}/kernel"
            leaves[path] = orthonormal(leaves[path])
            for _ in range(most_passes):
                variance = float(measure(trees.unflatten(leaves), batch["image"])[layer])
                if abs(variance - 1.0) < tolerance or not 0.0 < variance < np.inf:
                    break
                leaves[path] = leaves[path] / np.float32(np.sqrt(variance))
        own = {path: leaves[path] for path in trees.flatten(state.params[PLAYER])}
        params = {**state.params, PLAYER: trees.unflatten(own)}
        return dataclasses.replace(state, params=params, average=params if state.average else state.average)

    return begin


def orthonormal(kernel: np.ndarray) -> np.ndarray:
    """Returns the kernel with orthonormal rows or columns (as a matrix [space · I, O]) that is nearest to one [..., I, O]."""
    matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])  # [..., I, O] -> [space · I, O]
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return (left @ right).reshape(kernel.shape).astype(np.float32)  # [space · I, O] -> [..., I, O]


def output_variances(network: nn.Module, variables: PyTree, images: Array) -> dict[str, Array]:
    """Returns {path of a layer with a kernel: variance f32 [] of all its outputs for a batch}, in the order of the calls."""
    found: dict[str, Array] = {}

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        result, path = call(*args, **kwargs), "/".join(context.module.path)
        if context.method_name == "__call__" and context.module.has_variable("params", "kernel"):
            found.setdefault(path, jnp.var(result.astype(jnp.float32)))
        return result

    with nn.intercept_methods(intercept):
        network.apply(variables, images, train=False)
    return found


DATA_INITS: dict[str, Callable[..., Begin | None]] = {"none": as_drawn, "lsuv": lsuv}
"""Initialisations from data by name, for `Choice[DATA_INITS]`."""
