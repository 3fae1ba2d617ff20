"""Any network whose convolutions and dense layers take their weights and inputs from few integers, without a change of it.

The weights are rounded where they enter the network, in its tree of parameters; the inputs, where a layer is called, by an
interceptor (flax.linen.intercept_methods), which knows the layer by its path. Nothing below could do both: ops/convolve.py sees
arrays without names, whose ranges have to be kept from step to step, and no dense layer passes there.

A batch norm that takes the output of a convolution, which nothing else takes, is folded into it before it is rounded: kernel ·
γ/σ, then + (β − μ γ/σ), by the running statistics (Jacob et al. 2018, arXiv 1712.05877, section 3.2). That is found out from
the traced program, not from names. Every other norm stays in floats, as do activations, sums of branches, pooling, biases, and
layers inside a loop, such as those of recurrent networks. A batch norm of flax.linen is not folded.

Letters in shapes: B batch, H W space, C channels, O output channels.
"""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from cnnlab.core import Array, PyTree
from cnnlab.models.layers import Conv
from cnnlab.models.norms import BatchNorm
from cnnlab.ops import quantize, trees
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.quantize import COLLECTION, Extent, Grid, Limits, Ranges

LAYERS = (Conv, nn.Conv, nn.Dense)
"""Modules that are quantised."""
SMALLEST = 1e-12
"""Magnitude of γ/σ by which nothing is divided."""


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How numbers are rounded."""

    bits: int
    """Of a weight."""
    activation_bits: int | None
    """Of an input; None: inputs stay as they are."""
    weights_by: Literal["channel", "tensor"]
    """What has a scale of its own."""
    symmetric: bool
    """Whether inputs have no zero point."""
    ranges: Ranges
    percentile: float

    @property
    def weight_codes(self) -> Limits:
        """Returns the least and most code of a weight."""
        return quantize.limits(self.bits, symmetric=True)

    @property
    def input_codes(self) -> Limits:
        """Returns the least and most code of an input."""
        return quantize.limits(self.activation_bits or 8, symmetric=self.symmetric)

    def of_weights(self, kernel: Array) -> Grid:
        """Returns the grid of a kernel [..., O]."""
        return quantize.of_weights(kernel, self.weight_codes, self.weights_by)

    def of_inputs(self, extent: Extent) -> Grid:
        """Returns the grid of a layer's input."""
        return (quantize.symmetric if self.symmetric else quantize.affine)(extent, self.input_codes)


@dataclasses.dataclass(frozen=True)
class Norm:
    """A batch norm that is folded into the convolution before it."""

    path: str
    epsilon: float

    def folded(self, variables: PyTree) -> tuple[Array, Array]:
        """Returns (γ/σ [O], β − μ γ/σ [O]) by the running statistics."""
        params, statistics = trees.flatten(variables["params"]), trees.flatten(variables["batch_stats"])
        scale, bias = (at_least_f32(params[f"{self.path}/{name}"]) for name in ("scale", "bias"))
        # No loss may depend on running statistics but through this (engine/averages.py).
        mean, variance = (
            jax.lax.stop_gradient(statistics[f"{self.path}/{name}"]).astype(scale.dtype) for name in ("mean", "var")
        )
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        return factor, bias - mean * factor


@dataclasses.dataclass(frozen=True, eq=False)
class Quantized:
    """A network with rounded weights and inputs; called as the network is, with the same names of its parameters.

    Its model state has the collection COLLECTION besides. While `is_on` is False it computes what the network does.
    """

    network: nn.Module
    image_shape: tuple[int, int, int]
    scheme: Scheme
    aware: bool
    """Whether training, too, sees rounded numbers, and moves the ranges. A norm that is folded then normalises what its rounded
    convolution computes, divided by γ/σ again, by the statistics of the batch, which so become those of the rounded network;
    the running statistics are what is folded (Jacob et al. 2018, section 3.2; ConvBn2d of torch.ao.nn.intrinsic.qat)."""

    layers: dict[str, Norm | None] = dataclasses.field(init=False)
    """The quantised layers by path, with the norm that is folded into each."""

    def __post_init__(self) -> None:
        """Finds the layers, before any interceptor would see that."""
        object.__setattr__(self, "layers", layers_of(self.network, self.image_shape))

    def init(self, key: Array, images: Array, *, train: bool) -> PyTree:
        """Returns the variables of the network and COLLECTION, which is off."""
        nothing = {name: jnp.zeros((), jnp.float32) for name in Extent._fields}
        ranges = trees.unflatten(dict.fromkeys(self.layers, nothing)) if self.scheme.activation_bits else {}
        own = {"is_on": jnp.asarray(False), "ranges": ranges}
        return {**self.network.init(key, images, train=train), COLLECTION: own}

    def apply(self, variables: PyTree, images: Array, *, train: bool, mutable: Any = False, **more: Any) -> Any:
        """Returns what the network returns; with `mutable`, as training gives it, also the new model state."""
        plain = {name: tree for name, tree in variables.items() if name != COLLECTION}
        own = variables[COLLECTION]
        if not train:
            with self._rounding(variables, {}) as rounded:
                return self.network.apply(rounded, images, train=False, **more)
        others = [name for name in mutable if name != COLLECTION]
        if not self.aware:
            returned, updated = self.network.apply(plain, images, train=True, mutable=others, **more)
            return returned, {**updated, COLLECTION: own}
        moved: dict[str, Extent] = {}
        with self._rounding(variables, moved, train=True) as rounded:
            returned, updated = self.network.apply(rounded, images, train=True, mutable=others, **more)
        return returned, {**updated, COLLECTION: _with_ranges(own, moved)}

    def observe(self, variables: PyTree, images: Array) -> dict[str, Extent]:
        """Returns the range of each layer's input for a batch of images [B, H, W, C], in the network without rounding."""
        found: dict[str, list[Extent]] = collections.defaultdict(list)

        def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            if (path := _path(context)) in self.layers:
                found[path].append(quantize.extent_of(args[0], self.scheme.ranges, self.scheme.percentile))
            return call(*args, **kwargs)

        plain = {name: tree for name, tree in variables.items() if name != COLLECTION}
        with nn.intercept_methods(intercept):
            self.network.apply(plain, images, train=False)
        return {path: functools.reduce(_around, extents) for path, extents in found.items()}

    @contextlib.contextmanager
    def _rounding(self, variables: PyTree, moved: dict[str, Extent], *, train: bool = False) -> Any:
        """Gives the variables with rounded kernels, for a call of the network in which inputs are rounded.

        Args:
            variables: of the network, and COLLECTION.
            moved: gets the ranges after the call, where they move.
            train: whether they do, and norms normalise.
        """
        is_on, scheme, norms = variables[COLLECTION]["is_on"], self.scheme, dict[str, tuple[Array, Array]]()
        params = trees.flatten(variables["params"])
        for path, norm in self.layers.items():
            kernel, bias = folded(variables, params, path, norm)
            rounded = quantize.quantized(kernel, scheme.of_weights(kernel), scheme.weight_codes)
            params[f"{path}/kernel"] = _chosen(is_on, rounded, params[f"{path}/kernel"])
            if norm is not None:
                norms[norm.path] = norm.folded(variables)
            if bias is not None:
                params[f"{path}/bias"] = _chosen(is_on, bias, params[f"{path}/bias"])
        ranges = ranges_of(variables[COLLECTION])

        def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            path = _path(context)
            if path in norms:
                wide = at_least_f32(args[0])
                factor, shift = (each.reshape((1,) * (wide.ndim - 1) + each.shape) for each in norms[path])  # [C] -> [1, …, C]
                if not train:
                    return _chosen(is_on, wide + shift, call(*args, **kwargs))
                return call(_chosen(is_on, wide / nonzero(factor), args[0]), *args[1:], **kwargs)
            if path not in ranges:
                return call(*args, **kwargs)
            extent = moved.get(path, ranges[path])
            if train:
                seen = quantize.extent_of(args[0], scheme.ranges, scheme.percentile)
                moved[path] = extent = quantize.next_extent(extent, seen, scheme.ranges)
            wide = at_least_f32(args[0])
            rounded = quantize.quantized(wide, scheme.of_inputs(extent), scheme.input_codes)
            return call(_chosen(is_on, rounded, args[0]), *args[1:], **kwargs)

        rest = {name: tree for name, tree in variables.items() if name not in ("params", COLLECTION)}
        with nn.intercept_methods(intercept):
            yield {"params": trees.unflatten(params), **rest}


def nonzero(factor: Array) -> Array:
    """Returns γ/σ to divide by: 1 where it is nearly 0, as is then all of its channel."""
    return jnp.where(jnp.abs(factor) < SMALLEST, jnp.ones_like(factor), factor)


def folded(variables: PyTree, params: Mapping[str, Array], path: str, norm: Norm | None) -> tuple[Array, Array | None]:
    """Returns (kernel, bias) of a layer, at least f32, with its norm folded in; None: it has no bias.

    Args:
        variables: of the network.
        params: its parameters by path.
        path: the layer's.
        norm: the norm that is folded into it.
    """
    kernel, bias = at_least_f32(params[f"{path}/kernel"]), params.get(f"{path}/bias")
    bias = None if bias is None else at_least_f32(bias)
    if norm is None:
        return kernel, bias
    factor, _ = norm.folded(variables)
    of_outputs = factor.reshape((1,) * (kernel.ndim - 1) + factor.shape)  # [O] -> [1, …, O]
    return kernel * of_outputs, None if bias is None else bias * factor


def ranges_of(own: PyTree) -> dict[str, Extent]:
    """Returns {path of a layer: range of its input} of COLLECTION."""
    leaves = trees.flatten(own["ranges"])
    paths = [path.removesuffix("/low") for path in leaves if path.endswith("/low")]
    return {path: Extent(*(leaves[f"{path}/{name}"] for name in Extent._fields)) for path in paths}


def with_ranges(found: Mapping[str, Extent]) -> PyTree:
    """Returns {path of a layer: range} as the tree `ranges` of COLLECTION."""
    return trees.unflatten({path: extent._asdict() for path, extent in found.items()})


def _with_ranges(own: PyTree, moved: Mapping[str, Extent]) -> PyTree:
    """Returns COLLECTION with ranges that moved, where numbers are rounded."""
    found = {
        path: Extent(*(jnp.where(own["is_on"], new, old) for old, new in zip(before, moved.get(path, before), strict=True)))
        for path, before in ranges_of(own).items()
    }
    return {**own, "ranges": with_ranges(found)}


def _around(one: Extent, other: Extent) -> Extent:
    """Returns a range that holds both."""
    return Extent(jnp.minimum(one.low, other.low), jnp.maximum(one.high, other.high))


def _chosen(is_on: Array, rounded: Array, plain: Array) -> Array:
    return jnp.where(is_on, rounded.astype(plain.dtype), plain)


def _path(context: nn.module.InterceptorContext) -> str | None:
    """Returns the path of the module that is called; None for another method than the call."""
    return "/".join(context.module.path) if context.method_name == "__call__" else None


def layers_of(network: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Norm | None]:
    """Returns {path of a convolution or dense layer: the batch norm that alone takes its output, or None}, in order of calls.

    A layer that is called several times, or whose norm is, has none; one that is called inside a loop is left out.
    """
    calls: collections.Counter[str] = collections.Counter()
    norms: dict[str, Norm] = {}

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        module, path = context.module, _path(context)
        if path is None:
            return call(*args, **kwargs)
        calls[path] += 1
        if type(module) in LAYERS and args:
            return checkpoint_name(call(*args, **kwargs), f"out of {path}")
        if isinstance(module, BatchNorm):
            norms[path] = Norm(path, module.epsilon)
            return call(checkpoint_name(args[0], f"into {path}"), *args[1:], **kwargs)
        return call(*args, **kwargs)

    images, key = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32), jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(lambda key, images: network.init(key, images, train=False), key, images)
    with nn.intercept_methods(intercept):
        program = jax.make_jaxpr(lambda *given: network.apply(*given, train=False))(variables, images).jaxpr
    takers: dict[Any, list[Any]] = collections.defaultdict(list)
    for equation in program.eqns:
        for value in {id(value): value for value in equation.invars if not isinstance(value, jax.extend.core.Literal)}.values():
            takers[value].append(equation)
    returned = {id(value) for value in program.outvars}
    found: dict[str, Norm | None] = {}
    for equation in program.eqns:
        if not (path := _named(equation, "out of ")):
            continue
        (value,) = equation.outvars
        taken = [_named(taker, "into ") for taker in takers[value]]
        alone = len(taken) == 1 and taken[0] and id(value) not in returned
        found[path] = norms[taken[0]] if alone and calls[path] == calls[taken[0]] == 1 else None
    return found


def _named(equation: Any, prefix: str) -> str:
    """Returns the path that an equation marks; empty where it marks none."""
    name = equation.params.get("name", "") if equation.primitive.name == "name" else ""
    return name.removeprefix(prefix) if name.startswith(prefix) else ""
