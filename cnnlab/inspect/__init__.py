"""Lists the layers of a network with output shape, parameters, multiply-accumulates, memory and receptive field.

Nothing is computed or allocated: the network is traced with shapes instead of arrays. The receptive field is that of the
theory, the window of pixels that one position of a layer's output can depend on (Araujo, Norris and Sim 2019, Computing
Receptive Fields of Convolutional Neural Networks, Distill); trained weights may use less (Luo et al. 2016, arXiv 1701.04128).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import text
from cnnlab.core import Experiment, Params, PyTree
from cnnlab.inspect.receptive_field.views import measures
from cnnlab.inspect.receptive_field.walk import LOST, Pair, mark, walk
from cnnlab.models import DETECTORS, LOCALIZERS, MODELS, SEGMENTERS
from cnnlab.models.layers import Conv
from cnnlab.models.lenet import LeNet5
from cnnlab.models.own_network import as_network
from cnnlab.values import Choice, Count

FLOAT_BYTES = 4
"""Bytes of one number in f32, in which memory is given."""
WITH_KERNEL = (Conv, nn.Conv, nn.ConvTranspose, nn.Dense, nn.DenseGeneral)
"""Modules whose multiplications are counted by their kernel."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a network, for one example.

    A convolution or dense layer multiplies its whole kernel at every output position, a transposed convolution at every
    input position; biases, norms, activations and pooling are not counted. Any other
    module that multiplies has a method `macs(output shape) -> int`.
    """

    name: str
    """Path of the module, as in the parameters."""
    type: str
    output: tuple[int, ...]
    """Shape without the batch axis."""
    params: int
    """Number of its own parameters, each counted once."""
    macs: int
    memory: int
    """Bytes of its output in f32. Summed over all layers this is less than what training needs: `jax.vjp` holds 2.0 to 2.5
    times the sum for the backward pass (ResNet-18 and -50, VGG-16, DenseNet-121, MobileNet-v2), before XLA fuses."""
    stride: tuple[Fraction | None, ...]
    """Pixels between neighbouring positions, (down, right); None where there are no positions left, or unknown."""
    receptive_field: tuple[float | None, ...]
    """Height and width in pixels of the window that a position depends on, where the image's border does not cut it;
    infinite: the whole image, 0: no pixel, None: unknown."""
    start: tuple[float | None, ...]
    """First row and column of the window of position 0, negative in the padding; that of position i begins
    at `start + i * stride`. None where there are no positions any more, for the whole image, or unknown."""


def layers(module: nn.Module, image_shape: tuple[int, ...]) -> list[Layer]:
    """Returns the layers of a model for images [H, W, C], in the order of calls."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return trace(lambda x: module.init_with_output(jax.random.key(0), x, train=False), image)


LARGE = 64
"""Side in pixels above which images count as ImageNet's, with 1000 classes."""

INSPECTED = {**MODELS, **LOCALIZERS, **SEGMENTERS, **DETECTORS}
"""Networks by name that `of_model` takes."""


def of_model(
    *, model: Choice[INSPECTED] = LeNet5, input: tuple[int, int, int] = (32, 32, 1), classes: Count | None = None
) -> list[Layer]:
    """Returns the layers of a model, chosen by name.

    Args:
        model: the network.
        input: height, width and channels of its images.
        classes: number of classes; none: 10, or 1000 for images of more than 64 pixels a side.
    """
    count = classes or (1000 if max(input[:2]) > LARGE else 10)
    return layers(as_network(model(classes=count), input, (count,), (*input[:2], count)), input)


def of_experiment(experiment: Experiment) -> list[Layer]:
    """The layers that a prediction of the experiment's task passes through; none for a task without a network."""
    params, model_state = _started(experiment)
    if not jax.tree.leaves(params):
        return []
    example = experiment.data.example()
    inputs = example["image"] if "image" in example else _read(example["text"])
    return trace(lambda *arguments: experiment.task.predict(*arguments), params, model_state, inputs)


def _read(windows: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """Returns the shape of what a network that writes reads of windows [B, T + 1]: all characters but the last, [B, T]."""
    return jax.ShapeDtypeStruct((windows.shape[0], windows.shape[1] - 1), windows.dtype)


def training_bytes(layers: Sequence[Layer], parameters: int, batch_size: int) -> int:
    """Estimates the bytes that a training step takes: activations of a batch with their gradients, weights and optimiser."""
    return int(2.5 * batch_size * sum(layer.memory for layer in layers) + 16 * parameters)


def parameters(experiment: Experiment) -> int:
    """How many numbers all players of the experiment's task have, those that no prediction passes through too."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_started(experiment)[0]))


def _started(experiment: Experiment) -> tuple[Params, PyTree]:
    """Returns the shapes of the parameters and of the model state, in which some tasks keep their first batch."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(experiment.task.init, key, experiment.data.example(experiment.data.batch_size))


def trace(function: Callable[..., Any], *arguments: Any) -> list[Layer]:
    """Returns the layers of all Linen modules that `function` calls at batch size 1.

    Arguments may be arrays or their shapes; the last one is images [B, H, W, C], or characters [B, T], which count as rows.

    A module is listed when it calls no other, or has parameters of its own.
    """
    found: list[Layer | None] = []
    counted: set[tuple[str, ...]] = set()
    parents: list[bool] = []

    def intercept(call: Callable[..., Any], args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        # A module takes its place before the modules inside it are called, which keeps the order of calls; whether it is listed
        # is known only afterwards.
        place, module = len(found), context.module
        found.append(None)
        parents[:] = [True] * len(parents)
        parents.append(False)
        result = call(*args, **kwargs)
        own = {} if module.path in counted else _own_parameters(module)
        counted.add(module.path)
        is_parent = parents.pop()
        # A layer that a trunk does without (models/trunk.py) is called, but computes nothing and has no kernel.
        is_left_out = isinstance(module, WITH_KERNEL) and "params" not in module.variables
        if (own or not is_parent) and not is_left_out:
            output = result[0] if isinstance(result, tuple) else result
            found[place] = _layer(module, args[0], output, own)
            mark(output, place)
        return result

    with nn.intercept_methods(intercept):
        program = jax.make_jaxpr(lambda *inputs: function(*inputs))(*arguments)
    found_views = walk(program, (*arguments[-1].shape[1:3], 1)[:2])
    return [
        _with_receptive_field(layer, found_views.get(place, LOST)) for place, layer in enumerate(found) if layer is not None
    ]


def _own_parameters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Returns the shapes, by name, of the parameters of the module itself, without those of inner modules."""
    params = module.variables.get("params", {})
    return {name: np.shape(leaf) for name, leaf in params.items() if not isinstance(leaf, Mapping)}


def _layer(module: nn.Module, first: Any, output: Any, own: dict[str, tuple[int, ...]]) -> Layer:
    """Makes the entry of a module that was called with `first` and returned `output`, still without receptive field."""
    if hasattr(module, "macs"):
        macs = module.macs(output.shape)
    elif isinstance(module, WITH_KERNEL):
        kernel = np.shape(module.variables["params"]["kernel"])
        where = first if isinstance(module, nn.ConvTranspose) else output
        # Each position of the output takes the whole kernel once; the features of a DenseGeneral may have several axes.
        axes = len(module.features) if isinstance(module, nn.DenseGeneral) and isinstance(module.features, Sequence) else 1
        macs = math.prod(where.shape[1 : where.ndim - axes]) * math.prod(kernel)
    else:
        macs = 0
    params = sum(math.prod(shape) for shape in own.values())
    memory = math.prod(output.shape[1:]) * FLOAT_BYTES
    name, kind = "/".join(module.path), type(module).__name__
    return Layer(name, kind, tuple(output.shape[1:]), params, macs, memory, (None, None), (None, None), (None, None))


def _with_receptive_field(layer: Layer, pair: Pair) -> Layer:
    """Returns the entry with the stride, receptive field and start that its views give."""
    strides, sizes, starts = zip(*map(measures, pair), strict=True)
    return dataclasses.replace(layer, stride=strides, receptive_field=sizes, start=starts)


COLUMNS = ("layer", "type", "output", "parameters", "MACs", "memory", "stride", "receptive field")


More = tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]
"""Headings of further columns, their cells of each layer, and those of the total."""


def as_table(layers: list[Layer], more: More | None = None) -> str:
    """Formats the layers as aligned text, with totals in the last rows; memory is in f32 and for one image.

    A receptive field of `all` is the whole image, `?` is unknown; a stride of `-` belongs to a layer without positions.
    """
    total, memory = as_json(layers)["total"], as_json(layers)["memory"]
    heads, cells, sums = more or ((), [()] * len(layers), ())
    rows = [(*COLUMNS, *heads), *((*_row(layer), *own) for layer, own in zip(layers, cells, strict=True))]
    rows.append(("parameters in f32", "", "", text.format_bytes(memory["parameters"]), "", "", "", "", *("" for _ in heads)))
    counts = (f"{total['params']:,}", f"{total['macs']:,}", text.format_bytes(memory["activations"]))
    rows.append(("total", "", "", *counts, "", "", *sums))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        aligned = [
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:]])


def _row(layer: Layer) -> tuple[str, ...]:
    """Returns the cells of a layer, in the order of COLUMNS."""
    fields = layer.receptive_field
    strides = [
        "?" if size is None else "-" if stride is None else str(stride)
        for stride, size in zip(layer.stride, fields, strict=True)
    ]
    windows = ["?" if size is None else "all" if math.isinf(size) else f"{size:g}" for size in fields]
    counts = (f"{layer.params:,}", f"{layer.macs:,}", text.format_bytes(layer.memory))
    return (layer.name, layer.type, "x".join(map(str, layer.output)), *counts, _sides(strides), _sides(windows))


def _sides(pair: Sequence[str]) -> str:
    """Formats two sides, `3` if they are equal, otherwise `1x7`."""
    return pair[0] if pair[0] == pair[1] else "x".join(pair)


def _number(side: float | Fraction | None) -> float | str | None:
    """Returns a length for JSON: whole numbers as int, "all" for the whole image, None for unknown."""
    if side is None or side == math.inf:
        return None if side is None else "all"
    return int(side) if side == int(side) else float(side)


def as_json(layers: list[Layer]) -> dict[str, Any]:
    """Returns {"layers": [fields of Layer], "total": {params, macs}, "memory": {parameters, activations}}.

    Memory is in bytes of f32: of the network's parameters, and of the outputs of all layers for one image. Strides, receptive
    fields and starts are [down, right], null where they are None and "all" for the whole image.
    """
    rows = []
    for row in layers:
        numbers = {name: [_number(side) for side in getattr(row, name)] for name in ("stride", "receptive_field", "start")}
        rows.append({**dataclasses.asdict(row), "output": list(row.output), **numbers})
    params = sum(row.params for row in layers)
    return {
        "layers": rows,
        "total": {"params": params, "macs": sum(row.macs for row in layers)},
        "memory": {"parameters": params * FLOAT_BYTES, "activations": sum(row.memory for row in layers)},
    }
