"""How much a trained network suffers where one layer alone is pruned, without training: which layers can lose more than others.

Han, Pool, Tran and Dally 2015, Learning both weights and connections, arXiv 1506.02626, figure 6; Li et al. 2017, Pruning
filters for efficient ConvNets, arXiv 1608.08710, figure 2.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnlab.core import TrainState
from cnnlab.engine import train
from cnnlab.engine.averages import evaluated
from cnnlab.engine.program import Program
from cnnlab.errors import UsageError
from cnnlab.figures.sensitivity import sensitivity
from cnnlab.metric import Metric
from cnnlab.ops import pruning, trees, units
from cnnlab.runs.network_function import divided, owners_of, units_of, variables_of
from cnnlab.runs.summaries import summarise
from cnnlab.terminal import Column, Terminal, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pruned = Literal["weights", "channels"]
Mask = Callable[[float], Mapping[str, np.ndarray]]
"""A function from a density to the masks u8 of a network's parameters, {"conv1/kernel": mask}."""
Say = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Scan:
    """A number of a network with one layer pruned, by layer and density."""

    metric: Metric
    split: str
    layers: tuple[str, ...]
    densities: tuple[float, ...]
    whole: float
    """The number without pruning."""
    values: np.ndarray
    """f64 [layers, densities]."""


def scan(
    program: Program, state: TrainState, *, kind: Pruned, densities: Sequence[float], say: Say = lambda done, total: None
) -> Scan:
    """Measures a trained network on the validation split, or test where there is none, with each layer pruned alone.

    The weights, or channels, of the smallest magnitude go. One program measures all, since only the weights differ.

    Args:
        program: compiled experiment of a run.
        state: state of the run, on the host; its average is pruned where it has one.
        kind: weights, single ones of each kernel; channels, whole ones.
        densities: shares of a layer that stay, in (0, 1].
        say: is called with (measurements done, in all).

    Raises UsageError for a density that is no share, and a task without a network of one player.
    """
    if not densities or not all(0.0 < density <= 1.0 for density in densities):
        raise UsageError(f"--densities={','.join(map(str, densities))}: they are shares of a layer that stay, in (0, 1].")
    experiment = program.experiment
    data = experiment.data
    split = "validation" if "validation" in data.measured_splits else data.report_split
    params, model_state = evaluated(state)
    owners, whole = owners_of(params), variables_of(params, model_state)
    masks = _masks(program, params, model_state, kind)

    def measured(changed: Mapping[str, Any]) -> float:
        given, statistics = divided({**whole, **changed}, owners)
        one = dataclasses.replace(state, params=given, model_state=statistics, average={}, average_statistics={})
        stats = train.evaluate(program, program.strategy.to_devices(one), split)
        return summarise(experiment.task, stats)[experiment.task.primary_metric.name]

    total, values = 1 + len(masks) * len(densities), list[float]()
    unpruned = measured({})
    for mask in masks.values():
        for density in densities:
            say(1 + len(values), total)
            kept = {f"params/{path}": np.asarray(whole[f"params/{path}"]) * each for path, each in mask(density).items()}
            values.append(measured(kept))
    shaped = np.array(values).reshape(len(masks), len(densities))  # [layers · densities] -> [layers, densities]
    return Scan(experiment.task.primary_metric, split, tuple(masks), tuple(densities), unpruned, shaped)


def _masks(program: Program, params: Any, model_state: Any, kind: Pruned) -> dict[str, Mask]:
    """Returns {name of a layer: its masks by density}, those of the last layer's weights included."""
    joined = trees.join(params.values())
    if kind == "weights":
        kernels = [path for path, leaf in trees.flatten(joined).items() if np.ndim(leaf) > 1]
        return {path.removesuffix("/kernel"): functools.partial(_of_weights, joined, path) for path in kernels}
    families = units_of(program.experiment, params, model_state).units
    if not families:
        raise UsageError("--prune=channels: this network has no channels that could go.\nTake --prune=weights.")
    return {_named(family): functools.partial(_of_channels, joined, family) for family in families}


def _named(family: units.Units) -> str:
    """Returns the name of a layer, and how many others have the same channels."""
    first, *others = (path.removesuffix("/kernel") for path in family.kernels)
    return f"{first} and {len(others)} more" if others else first


def _of_weights(params: Any, path: str, density: float) -> Mapping[str, np.ndarray]:
    return {path: trees.flatten(pruning.masks(params, {path: density}, "layer"))[path]}


def _of_channels(params: Any, family: units.Units, density: float) -> Mapping[str, np.ndarray]:
    return trees.flatten(units.masks(params, [family], [density], scope="layer", criterion="l1"))


def as_table(found: Scan, terminal: Terminal) -> str:
    """Formats a row for each layer and a column for each density."""
    cells = [[f"{value:.4f}" for value in row] for row in found.values.T]
    columns = [Column("layer", found.layers, least=16)]
    columns += [
        Column(f"{100 * density:g} %", column, is_right=True) for density, column in zip(found.densities, cells, strict=True)
    ]
    said = f"{found.metric.name} on {found.split} with one layer pruned to a share of its own; {found.whole:.4f} whole"
    return "\n".join([said, *table(terminal, columns)])


def picture(found: Scan, kind: Pruned, name: str) -> "Figure":
    """Draws the table of a network of this name."""
    title = f"{found.metric.name} of {name}, one layer pruned at a time"
    note = f"by the share of its {kind} that stay; {found.whole:.3f} without pruning, on {found.split}"
    return sensitivity(found.values, found.layers, found.densities, whole=found.whole, title=title, note=note)


def as_json(found: Scan) -> dict[str, Any]:
    """Returns the scan as JSON-like values."""
    return {
        "metric": found.metric.name,
        "split": found.split,
        "whole": found.whole,
        "densities": list(found.densities),
        "layers": {layer: row.tolist() for layer, row in zip(found.layers, found.values, strict=True)},
    }
