"""A trained network as one differentiable function with named layers, which every part of this room takes.

Letters in shapes: B images, H W space, C channels, K classes; h w C′ those of a layer.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Params, PyTree
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.explain import program
from cnnlab.explain.program import Predict, Rule, Traced
from cnnlab.inspect.receptive_field.views import measures
from cnnlab.inspect.receptive_field.walk import LOST, mark, walk

MOST_NAMED = 40
"""Number of layers that the message about an unknown one lists."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A value inside a network that has a name."""

    name: str
    shape: tuple[int, ...]
    """Shape without the axis of the images: (h, w, C′) or (C′,)."""
    is_returned: bool
    """Whether the model returns it among its intermediates; otherwise it is the output of a module."""
    stride: tuple[float | None, float | None]
    """Pixels between neighbouring positions, (down, right); None where unknown."""
    field: tuple[float | None, float | None]
    """Height and width in pixels of the window that a position depends on; infinite: the whole image, None: unknown."""
    start: tuple[float | None, float | None]
    """First row and column of the window of position 0, negative in the padding; None where unknown."""

    @property
    def is_spatial(self) -> bool:
        """Whether it has more than one position."""
        return len(self.shape) == 3 and math.prod(self.shape[:2]) > 1


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params", "model_state"],
    meta_fields=["predict", "layers", "image_shape", "relus"],
)
@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network; compiled functions take it as an argument, so that other weights need no new compilation."""

    params: Params
    model_state: PyTree
    predict: Predict
    layers: tuple[Layer, ...]
    """Named values in the order of computation."""
    image_shape: tuple[int, int, int]
    """(H, W, C) of an image."""
    relus: int
    """Number of ReLUs whose gradient can be replaced."""

    def logits(self, images: Array, *, rule: Rule = "plain") -> Array:
        """Returns the scores [B, K] of images f32 [B, H, W, C], normalised; `rule` is the gradient of its ReLUs."""
        if rule == "plain":
            return self.predict(self.params, self.model_state, images)
        return self.run(images, rule=rule)[0]

    def run(
        self, images: Array, *, rule: Rule = "plain", shifts: Mapping[str, Array] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Returns (logits [B, K], {layer: its value [B, …]}).

        Args:
            images: f32 [B, H, W, C], normalised.
            rule: gradient of the ReLUs.
            shifts: {layer: array [B, …] that is added to its value}, by which a gradient at the layer is taken.
        """
        traced = _traced(self.predict, self.params, self.model_state, images)
        arguments = jax.tree.leaves((self.params, self.model_state, images))
        logits, *values = program.evaluate(traced, arguments, rule=rule, shifts=shifts or {})
        return logits, dict(zip(traced.names, values, strict=True))

    def layer(self, name: str) -> Layer:
        """Returns the layer of a name; raises UsageError with the names that there are."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in self.layers]
        shown = [layer.name for layer in self.layers if layer.is_returned] or names
        inner = [one for one in names if one not in shown]
        more = f"; and {len(inner)} modules inside, such as {', '.join(inner[:4])}" if inner else ""
        listed = ", ".join(shown[:MOST_NAMED]) + (", …" if len(shown) > MOST_NAMED else "")
        raise UsageError(f"the network has no layer {name!r}.{did_you_mean(name, names)} Layers: {listed}{more}.")

    def last_spatial(self) -> Layer | None:
        """Returns the last layer with several positions, as Grad-CAM takes by default; None where there is none."""
        spatial = [layer for layer in self.layers if layer.is_spatial]
        return spatial[-1] if spatial else None

    def with_params(self, params: Params) -> "Network":
        """Returns the network with other parameters of the same shapes."""
        return dataclasses.replace(self, params=params)


def _traced(predict: Predict, params: Params, model_state: PyTree, images: Any) -> Traced:
    """Returns the program of a network for arrays of these shapes."""
    given: Any = (params, model_state, images)
    params, model_state, images = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), given)
    return program.trace(predict, params, model_state, images, lambda value, number: None)


def make_network(predict: Predict, params: Params, model_state: PyTree, image_shape: tuple[int, int, int]) -> Network:
    """Returns a network with its layers; nothing is computed.

    Args:
        predict: the function of the network.
        params: its parameters, NumPy arrays or arrays on the device.
        model_state: its state.
        image_shape: (H, W, C) of an image.
    """
    dtype = next((leaf.dtype for leaf in jax.tree.leaves(params)), jnp.float32)
    images = jax.ShapeDtypeStruct((1, *image_shape), dtype)
    marked = program.trace(predict, params, model_state, images, mark=mark)
    found = walk(marked.program, (image_shape[0], image_shape[1]))
    plain = _traced(predict, params, model_state, images)
    outputs = plain.program.jaxpr.outvars[1:]
    made = {variable: place for place, equation in enumerate(plain.program.jaxpr.eqns) for variable in equation.outvars}
    layers = []
    returned = set(outputs[: plain.returned])
    for number, (name, variable) in enumerate(zip(plain.names, outputs, strict=True)):
        is_returned = number < plain.returned
        if not is_returned and variable in returned:
            continue  # a module that hands on a value which the model itself names
        geometry: Any = tuple(zip(*map(measures, found.get(number, LOST)), strict=True))
        entry = Layer(name, tuple(variable.aval.shape[1:]), is_returned, *geometry)
        layers.append(((made.get(variable, -1), number), entry))
    ordered = tuple(entry for _, entry in sorted(layers, key=lambda pair: pair[0]))
    params, model_state = jax.tree.map(jnp.asarray, (params, model_state))
    return Network(params, model_state, predict, ordered, image_shape, program.count_relus(plain.program))


def in_batches(
    function: Callable[[Network, Array, Array], Array], network: Network, images: np.ndarray, target: np.ndarray, size: int
) -> np.ndarray:
    """Returns what a function of (network, images, target) gives for images [N, …], called with `size` of them at a time.

    The last batch is filled up with zeros, so that a function is compiled for one size alone.
    """
    found = []
    for start in range(0, len(images), size):
        parts = [part[start : start + size] for part in (images, target)]
        count = len(parts[0])
        filled = [np.concatenate([part, np.zeros((size - count, *part.shape[1:]), part.dtype)]) for part in parts]
        found.append(np.asarray(function(network, *map(jnp.asarray, filled)))[:count])
    return np.concatenate(found)


@jax.jit
def scores(network: Network, images: Array) -> Array:
    """Returns the logits [B, K] of images [B, H, W, C]."""
    return network.logits(images)


@functools.partial(jax.jit, static_argnames="names")
def values_of(network: Network, images: Array, *, names: tuple[str, ...]) -> dict[str, Array]:
    """Returns {layer: its value [B, …]} of some layers."""
    _, values = network.run(images)
    return {name: values[name] for name in names}
