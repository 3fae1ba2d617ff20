"""A quantised network whose layers compute with i8 codes and sums in i32, and its variables, of which weights take a byte.

Their codes are those of the simulated network (models/quantized.py) to the bit, and so are the sums; the product of a sum and
the two scales is rounded once, where the simulated network rounds every product and sum: outputs differ by rounding of f32.
Modules other than layers.Conv and flax.linen.Dense, and layers whose inputs stay in floats, compute in floats from the codes.

Letters in shapes: B batch, C channels, O output channels.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Array, PyTree
from cnnlab.models.layers import Conv
from cnnlab.models.quantized import Quantized, folded, nonzero, ranges_of
from cnnlab.ops import integers, quantize, trees
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.quantize import COLLECTION, Grid


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """The variables of a quantised network; layers and norms are named by their paths."""

    codes: dict[str, Array]
    """Weights of the layers, norms folded in, i8 of the kernel's shape."""
    scales: dict[str, Array]
    """Scales of these, f32 [O] or []."""
    inputs: dict[str, Grid]
    """Grids of the layers' inputs, f32 []; a layer without one takes floats."""
    shifts: dict[str, Array]
    """What each folded norm adds, f32 [C]."""
    rest: PyTree
    """All other variables of the network: biases, norms that are not folded, their statistics."""


@dataclasses.dataclass(frozen=True, eq=False)
class IntegerNetwork(Quantized):
    """A quantised network that is trained as a simulated one and computes with integers outside of training."""

    def apply(self, variables: PyTree, images: Array, *, train: bool, mutable: Any = False, **more: Any) -> Any:
        """Implements Quantized.apply."""
        if train:
            return super().apply(variables, images, train=True, mutable=mutable, **more)
        plain = {name: tree for name, tree in variables.items() if name != COLLECTION}
        return jax.lax.cond(
            variables[COLLECTION]["is_on"],
            lambda: run(self, packed(self, variables), images),
            lambda: self.network.apply(plain, images, train=False, **more),
        )


def packed(network: Quantized, variables: PyTree) -> Packed:
    """Returns the variables of a quantised network with its weights as codes.

    Args:
        network: the network.
        variables: its variables, with the ranges of its inputs.
    """
    params, scheme = trees.flatten(variables["params"]), network.scheme
    codes, scales, shifts = dict[str, Array](), dict[str, Array](), dict[str, Array]()
    folded_norms = {norm.path for norm in network.layers.values() if norm is not None}
    for path, norm in network.layers.items():
        kernel, bias = folded(variables, params, path, norm)
        grid = scheme.of_weights(kernel)
        codes[path] = quantize.codes_of(kernel, grid, scheme.weight_codes).astype(jnp.int8)
        scales[path] = grid.scale
        if norm is not None:
            shifts[norm.path] = norm.folded(variables)[1]
        if bias is not None:
            params[f"{path}/bias"] = bias
    gone = {f"{path}/kernel" for path in codes} | {f"{path}/{name}" for path in folded_norms for name in ("scale", "bias")}
    rest = {name: tree for name, tree in variables.items() if name not in ("params", COLLECTION)}
    if folded_norms:
        statistics = trees.flatten(rest["batch_stats"])
        stay = {path: leaf for path, leaf in statistics.items() if path.rpartition("/")[0] not in folded_norms}
        rest["batch_stats"] = trees.unflatten(stay)
    rest["params"] = trees.unflatten({path: leaf for path, leaf in params.items() if path not in gone})
    inputs = {path: scheme.of_inputs(extent) for path, extent in ranges_of(variables[COLLECTION]).items()}
    return Packed(codes, scales, inputs, shifts, rest)


def codes_of_kernels(network: Quantized, variables: PyTree) -> dict[str, tuple[Array, Array]]:
    """Returns {path of a kernel: (codes i8 of its shape, scale f32 [O])}, whose products are rounded again to the same codes.

    Codes are of the kernels with their norms folded in; scales are without these, so that the products are weights of the
    network as it is.

    Args:
        network: the network.
        variables: its variables.
    """
    found = packed(network, variables)
    scales = {path: jnp.broadcast_to(scale, found.codes[path].shape[-1:]) for path, scale in found.scales.items()}
    for path, norm in network.layers.items():
        if norm is not None:
            scales[path] = scales[path] / nonzero(norm.folded(variables)[0])
    return {f"{path}/kernel": (found.codes[path], scale) for path, scale in scales.items()}


def run(network: Quantized, variables: Packed, images: Array) -> Any:
    """Returns what the network returns for images [B, H, W, C], computed from codes."""
    params = trees.flatten(variables.rest["params"])

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        path, module = "/".join(context.module.path), context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if path in variables.shifts:
            shift = variables.shifts[path]
            wide = at_least_f32(args[0]) + shift.reshape((1,) * (args[0].ndim - 1) + shift.shape)  # [C] -> [1, …, 1, C]
            return wide.astype(args[0].dtype)
        if path in variables.inputs and type(module) in (Conv, nn.Dense):
            return _layer(module, args[0], variables, path, params.get(f"{path}/bias"), network).astype(args[0].dtype)
        if path in variables.inputs:
            args = (_rounded(args[0], variables.inputs[path], network), *args[1:])
        return call(*args, **kwargs)

    floats = {f"{path}/kernel": _as_floats(codes, variables.scales[path]) for path, codes in variables.codes.items()}
    given = {**variables.rest, "params": trees.unflatten({**params, **floats})}
    with nn.intercept_methods(intercept):
        return network.network.apply(given, images, train=False)


def _layer(module: Any, x: Array, variables: Packed, path: str, bias: Array | None, network: Quantized) -> Array:
    """Returns the output f32 of a layer for inputs x, floats."""
    sums = sums_of(module, x, variables, path, network)
    scales = variables.inputs[path].scale * variables.scales[path]
    y = sums.astype(jnp.float32) * scales.reshape((1,) * (sums.ndim - scales.ndim) + scales.shape)  # [O] -> [1, …, O]
    return y if bias is None else y + bias.reshape((1,) * (sums.ndim - 1) + bias.shape)  # [O] -> [1, …, O]


def sums_of(module: Any, x: Array, variables: Packed, path: str, network: Quantized) -> Array:
    """Returns the sums i32 of a layer (integers.py) for inputs x, floats."""
    grid, kernel = variables.inputs[path], variables.codes[path]
    codes = quantize.codes_of(at_least_f32(x), grid, network.scheme.input_codes).astype(jnp.int8)
    zero = grid.zero.astype(jnp.int8)
    if isinstance(module, Conv):
        return integers.convolve(codes, zero, kernel, module.geometry(x), module.groups)
    return integers.dense(codes, zero, kernel)


def _rounded(x: Array, grid: Grid, network: Quantized) -> Array:
    return quantize.quantized(at_least_f32(x), grid, network.scheme.input_codes).astype(x.dtype)


def _as_floats(codes: Array, scale: Array) -> Array:
    """Returns the kernel f32 [..., O] for which codes stand."""
    return quantize.values_of(codes.astype(jnp.float32), Grid(scale, jnp.zeros_like(scale)))
