"""Activations inside a network by name, as `launch.py inspect` names its layers, without a change of the network."""

import contextlib
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab import home
from cnnlab.core import Array, PyTree
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.models.layers import MaxPool, pool_geometry
from cnnlab.ops import pooling

T = TypeVar("T")

SHOWN = 40
"""Number of layers that an error lists."""


class _AllSeen(Exception):
    """Ends a call of the network as soon as nothing more is asked for."""


def tapped(
    network: nn.Module, variables: PyTree, images: Array, names: Collection[str], *, average_pool: bool = False
) -> dict[str, Array]:
    """Returns {name: activations [B, …]} of some layers for images [B, H, W, C], as in evaluation.

    A name is the path of a module, `stage2_block1/expand`, whose output it is (in the first of several calls), or the name of
    an intermediate that the network returns, such as `stage2` or `output`. The network is not called beyond the last module
    that is asked for, so that a head of a fixed size does not matter to the layers before it.

    Args:
        network: `network(images, train=…) -> (output, intermediates)`.
        variables: its variables.
        images: images as the network takes them.
        names: the layers.
        average_pool: whether every MaxPool takes means instead (Gatys et al. 2015, section 2); for modules of `layers` alone.

    Raises UsageError for a layer that there is none of, and where `average_pool` has no MaxPool to change.
    """
    wanted, found = set(names), dict[str, Array]()
    averaged: list[str] = []

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        module = context.module
        if average_pool and isinstance(module, MaxPool):
            averaged.append("/".join(module.path))
            output = _averaged(module, *args)
        else:
            output = call(*args, **kwargs)
        if (name := "/".join(module.path)) in wanted:
            found.setdefault(name, output[0] if isinstance(output, tuple) else output)
            if len(found) == len(wanted):
                raise _AllSeen
        return output

    returned: Any = None
    with contextlib.suppress(_AllSeen), nn.intercept_methods(intercept):
        returned = network.apply(variables, images, train=False)
    if average_pool and not averaged:
        raise UsageError(
            f"--average_pool: no MaxPool comes before {', '.join(sorted(wanted))} whose maxima could become means.\n"
            "Leave it out, or read layers behind one; networks such as convnet have a knob of their own: --model.pool=average."
        )
    if wanted <= found.keys():
        return found
    intermediates = returned[1] if isinstance(returned, tuple) else {}
    found |= {name: intermediates[name] for name in wanted - found.keys() if name in intermediates}
    if missing := sorted(wanted - found.keys()):
        known = layer_shapes(network, images.shape[1:])
        require_layers(missing, list(known))
    return found


def _averaged(module: MaxPool, x: Array) -> Array:
    """Returns the means of the windows of a MaxPool; padding is not counted."""
    window, strides, padding = pool_geometry(module, x)
    return pooling.average_pool(x, window=window, strides=strides, padding=padding, counted=None)


def kept(function: Callable[..., T]) -> Callable[..., T]:
    """Decorates a function of a network that only traces shapes: its result is kept for each network and other arguments.

    An experiment is called several times before its first step, and each trace of EfficientNet-Lite0 takes 1 to 2 CPU seconds.
    A network with a tracer or an array among its attributes cannot be hashed, and is traced each time.
    """
    remembered = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def ask(*arguments: Any) -> T:
        try:
            hash(arguments)
        except TypeError:
            return function(*arguments)
        return remembered(*arguments)

    return ask


@kept
def layer_shapes(network: nn.Module, image_shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    """Returns {name: shape of its activations without the batch axis} of all that `tapped` knows, in the order of the calls.

    Nothing is computed. Raises what the network raises for images [H, W, C] that it does not take.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) else output
        if context.method_name == "__call__" and context.module.path and hasattr(first, "shape"):
            shapes.setdefault("/".join(context.module.path), tuple(first.shape[1:]))
        return output

    def called(key: Array, images: Array) -> Any:
        with nn.intercept_methods(intercept):
            return network.init_with_output(key, images, train=False)[0]

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    returned = jax.eval_shape(called, jax.eval_shape(lambda: jax.random.key(0)), images)
    intermediates = returned[1] if isinstance(returned, tuple) else {}
    return {**shapes, **{name: tuple(leaf.shape[1:]) for name, leaf in intermediates.items() if hasattr(leaf, "shape")}}


@kept
def intermediate_shapes(network: nn.Module, image_shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    """Returns {name: shape without the batch axis} of what the network returns beside its output; nothing is computed."""

    def called(key: Array, images: Array) -> Any:
        return network.init_with_output(key, images, train=False)[0]

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    returned = jax.eval_shape(called, jax.eval_shape(lambda: jax.random.key(0)), images)
    intermediates = returned[1] if isinstance(returned, tuple) else {}
    return {name: tuple(leaf.shape[1:]) for name, leaf in intermediates.items() if hasattr(leaf, "shape")}


def require_layers(names: Sequence[str], known: Sequence[str]) -> None:
    """Raises UsageError for a name that is not among those of the network's layers."""
    for name in names:
        if name not in known:
            outer = [one for one in known if "/" not in one]
            more = f", … ({len(known)} in all; `{home.COMMAND} inspect` lists them)" if len(known) > len(outer[:SHOWN]) else ""
            hint = did_you_mean(name, list(known))
            raise UsageError(f"the network has no layer {name!r}.{hint}\nLayers: {', '.join(outer[:SHOWN])}{more}.")
