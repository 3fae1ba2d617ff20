"""The layers of a network: output shape, parameters and multiply-accumulates, without computing or allocating anything."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Experiment
from cnnlab.models import MODELS
from cnnlab.models.layers import Conv
from cnnlab.models.lenet import LeNet5
from cnnlab.values import Choice, Count


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a network, for one example.

    A convolution or dense layer multiplies its whole kernel at every output position, a transposed convolution at every
    input position; biases, norms, activations and pooling are not counted. A module that is none of these and multiplies
    all the same says so by a method `macs(output shape) -> int`.
    """

    name: str
    """Path of the module, as in the parameters."""
    type: str
    output: tuple[int, ...]
    """Shape without the batch axis."""
    params: int
    """Its own, each counted once."""
    macs: int


def layers(module: nn.Module, image_shape: tuple[int, ...]) -> list[Layer]:
    """The layers of a model for images [H, W, C], in the order of calls."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return trace(lambda x: module.init_with_output(jax.random.key(0), x, train=False), image)


def of_model(*, model: Choice[MODELS] = LeNet5, input: tuple[int, int, int] = (32, 32, 1), classes: Count = 10) -> list[Layer]:
    """The layers of a model by name.

    Args:
        model: the network.
        input: height, width and channels of its images.
        classes: how many.
    """
    return layers(model(classes=classes), input)


def of_experiment(experiment: Experiment) -> list[Layer]:
    """The layers that a prediction of the experiment's task passes through; none for a task without a network."""
    shape = experiment.data.image_shape
    numbers = jax.ShapeDtypeStruct((1,), jnp.int32)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    batch = {"image": images, "label": numbers, "index": numbers, "mask": jax.ShapeDtypeStruct((1,), jnp.bool_)}
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, model_state = jax.eval_shape(experiment.task.init, key, batch)
    return trace(lambda *arguments: experiment.task.predict(*arguments), params, model_state, images)


def trace(function: Callable[..., Any], *arguments: Any) -> list[Layer]:
    """Layers of all Linen modules that `function` calls at batch size 1; arguments may be shapes.

    A module is listed when it calls no other, or has parameters of its own.
    """
    found: list[Layer | None] = []
    counted: set[tuple[str, ...]] = set()
    parents: list[bool] = []

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        place, module = len(found), context.module
        found.append(None)
        parents[:] = [True] * len(parents)
        parents.append(False)
        result = call(*args, **kwargs)
        own = {} if module.path in counted else _own_parameters(module)
        counted.add(module.path)
        is_parent = parents.pop()
        if own or not is_parent:
            found[place] = _layer(module, args[0], result, own)
        return result

    with nn.intercept_methods(intercept):
        jax.eval_shape(lambda *inputs: function(*inputs), *arguments)
    return [layer for layer in found if layer is not None]


def _own_parameters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes by name of the parameters that belong to the module itself, not to one inside it."""
    params = module.variables.get("params", {})
    return {name: np.shape(leaf) for name, leaf in params.items() if not isinstance(leaf, Mapping)}


def _layer(module: nn.Module, first: Any, result: Any, own: dict[str, tuple[int, ...]]) -> Layer:
    """The row of a module that was called with `first` and gave `result`."""
    output = result[0] if isinstance(result, tuple) else result
    if hasattr(module, "macs"):
        macs = module.macs(output.shape)
    elif isinstance(module, Conv | nn.Conv | nn.ConvTranspose | nn.Dense | nn.DenseGeneral):
        kernel = np.shape(module.variables["params"]["kernel"])
        where = first if isinstance(module, nn.ConvTranspose) else output
        macs = int(np.prod(where.shape[1:-1], dtype=np.int64) * np.prod(kernel, dtype=np.int64))
    else:
        macs = 0
    params = sum(int(np.prod(shape, dtype=np.int64)) for shape in own.values())
    return Layer("/".join(module.path), type(module).__name__, tuple(output.shape[1:]), params, macs)


def as_table(layers: list[Layer]) -> str:
    """The layers as aligned text, with a last row of totals."""
    rows = [("layer", "type", "output", "parameters", "MACs")]
    rows += [(row.name, row.type, "x".join(map(str, row.output)), f"{row.params:,}", f"{row.macs:,}") for row in layers]
    rows += [("total", "", "", f"{sum(row.params for row in layers):,}", f"{sum(row.macs for row in layers):,}")]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def as_json(layers: list[Layer]) -> dict[str, Any]:
    """{"layers": [{name, type, output, params, macs}], "total": {params, macs}}."""
    rows = [{**dataclasses.asdict(row), "output": list(row.output)} for row in layers]
    return {
        "layers": rows,
        "total": {"params": sum(row.params for row in layers), "macs": sum(row.macs for row in layers)},
    }
