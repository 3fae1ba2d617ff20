"""Training that ends in a quantised network, with ranges from training images: after the last step, or in the last part.

The sources are those of ops/quantize.py. What a quantised network is stands in models/quantized.py.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import jax
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Phase, PyTree, TrainState
from cnnlab.errors import UsageError
from cnnlab.ops import quantize
from cnnlab.ops.quantize import COLLECTION, Extent, Ranges
from cnnlab.tasks.beginnings import Begin, one_after_other
from cnnlab.tasks.network_player import joined
from cnnlab.values import Choice, Count, Range

Evaluated = Callable[[TrainState], tuple[PyTree, PyTree]]
"""State -> (params, model state) that are evaluated: the averages where there are any."""
Activations = Literal["affine", "symmetric", "none"]
Arithmetic = Literal["simulated", "integer"]


class Network(Protocol):
    """A quantised network (models/quantized.py), as far as its ranges go."""

    def observe(self, variables: PyTree, images: Array) -> dict[str, Extent]:
        """Returns {path of a layer: the range of its input for a batch of images}, in floats."""


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How, when and from what a network is quantised."""

    bits: int
    activation_bits: int
    weights_by: Literal["channel", "tensor"]
    activations: Activations
    ranges: Ranges
    percentile: float
    calibration: int
    """Number of training images from which ranges are found, rounded up to whole batches."""
    part: float
    """Share of the steps, the last ones, in which training sees rounded numbers."""
    arithmetic: Arithmetic

    @property
    def aware(self) -> bool:
        """Returns whether training sees rounded numbers."""
        return self.part > 0

    def begun(self, network: Network, dataset: Dataset, evaluated: Evaluated) -> Begin:
        """Returns the change of a state with which its network is quantised from then on (core.Phase.begin).

        Args:
            network: the quantised network.
            dataset: its data; the first training images of the run are seen, without variations.
            evaluated: which weights are measured; training goes on with its own.
        """

        def begin(state: TrainState, batch: Batch) -> TrainState:
            params, model_state = (state.params, state.model_state) if self.aware else evaluated(state)
            own = {"is_on": np.asarray(True), "ranges": state.model_state[COLLECTION]["ranges"]}
            if self.activations != "none":
                variables = {"params": joined(params), **model_state}
                images = _images(dataset, seed_of(state), self.calibration)
                observe = jax.jit(network.observe)
                batches = [jax.device_get(observe(variables, one)) for one in images]
                found = {path: quantize.first_extent([one[path] for one in batches], self.ranges) for path in batches[0]}
                own["ranges"] = _filled(own["ranges"], found)
            return dataclasses.replace(state, model_state={**state.model_state, COLLECTION: own})

        return begin

    def lengths(self, steps: int) -> tuple[int, int]:
        """Returns the steps before the network is quantised, and those with rounded numbers."""
        last = round(self.part * steps)
        return steps - last, last


def seed_of(state: TrainState) -> int:
    """Returns the seed of a run from the host tree of its state: jax.random.key keeps it in the last of the key's words."""
    return int(np.asarray(state.key).reshape(-1)[-1])


def _images(dataset: Dataset, seed: int, count: int) -> list[np.ndarray]:
    """Returns the first batches of images [B, H, W, C] of a run, as evaluation sees them, with at least `count` images."""
    feeds = itertools.islice(dataset.train(seed, 0), -(-count // dataset.batch_size))
    prepare, resident = jax.jit(lambda resident, feed: dataset.prepare(resident, feed, None)["image"]), dataset.resident
    return [np.asarray(prepare(resident.get("train", {}), feed)) for feed in feeds]


def _filled(tree: PyTree, found: Mapping[str, Extent]) -> PyTree:
    """Returns the tree of ranges with the numbers that were found by path."""

    def leaf(path: Any, old: Any) -> np.ndarray:
        *above, name = (entry.key for entry in path)
        return np.asarray(getattr(found["/".join(above)], name), np.float32)

    return jax.tree.map_with_path(leaf, tree)


def with_quantised_part(phases: Sequence[Phase], turns: tuple[str, ...], lengths: tuple[int, int], begin: Begin) -> Any:
    """Returns the phases of training, of which the one at whose step numbers begin to be rounded is divided there.

    Args:
        phases: those without quantisation; (): one with all steps.
        turns: players of each step.
        lengths: steps before and after.
        begin: what quantises.
    """
    before, after = lengths
    found, start = list[Phase](), 0
    for phase in phases or (Phase(before + after, turns),):
        into = before - start
        if 0 < into < phase.steps:
            found += [dataclasses.replace(phase, steps=into), Phase(phase.steps - into, phase.turns, begin)]
        elif into == 0 and phase.steps:
            found.append(dataclasses.replace(phase, begin=one_after_other(phase.begin, begin)))
        else:
            found.append(phase)
        start += phase.steps
    return tuple(found)


def after() -> float:
    """Rounds the network that training in floats has reached, after its last step."""
    return 0.0


def aware(*, part: Annotated[float, Range(0, 1, open_low=True)] = 0.5) -> float:
    """Trains with rounded numbers in the last part: gradients pass straight through, and ranges move on.

    Args:
        part: share of the steps in which numbers are rounded.
    """
    return part


TRAININGS: dict[str, Callable[..., float]] = {"after": after, "aware": aware}
"""When numbers are rounded, by name, for `Choice[TRAININGS]`: the share of training that sees it."""


def minmax() -> tuple[Ranges, float]:
    """Takes the extremes of all batches."""
    return "minmax", 100.0


def average() -> tuple[Ranges, float]:
    """Takes the mean of the extremes of each batch, which a new batch of training moves by a hundredth."""
    return "average", 100.0


def percentile(*, reaches: Annotated[float, Range(50, 100, open_low=True)] = 99.9) -> tuple[Ranges, float]:
    """Takes the mean, over images, of a percentile of the values of each, and of its counterpart at the lower end.

    Args:
        reaches: the percentile; values beyond it are cut.
    """
    return "percentile", reaches


RANGES: dict[str, Callable[..., tuple[Ranges, float]]] = {"minmax": minmax, "average": average, "percentile": percentile}
"""How far the grid of an input reaches, by name, for `Choice[RANGES]`."""


def unquantized() -> None:
    """Leaves the network in floats."""
    return


def integers(
    *,
    bits: Annotated[int, Range(2, 8)] = 8,
    activation_bits: Annotated[int, Range(2, 8)] | None = None,
    weights_by: Literal["channel", "tensor"] = "channel",
    activations: Activations = "affine",
    ranges: Choice[RANGES] = average,
    calibration: Count = 512,
    training: Choice[TRAININGS] = after,
    arithmetic: Arithmetic = "simulated",
) -> Quantization:
    """Rounds the weights and inputs of convolutions and dense layers to few integers, batch norms folded in.

    Args:
        bits: bits of a weight, and of an input.
        activation_bits: bits of an input; none: as many as of a weight.
        weights_by: what has a scale of its own: each output channel, or a whole kernel.
        activations: grid of the inputs: affine, with a zero point; symmetric, without; none: inputs stay in floats.
        ranges: how far a grid of inputs reaches.
        calibration: training images from which ranges are found, as many whole batches as hold them.
        training: whether the trained network is rounded, or the last part of training sees rounded numbers.
        arithmetic: what measures: simulated, in floats of rounded numbers; integer, i8 operands with sums in i32, which has no
            gradient.
    """
    if arithmetic == "integer" and activations == "none":
        raise UsageError("--quantization.arithmetic=integer needs inputs in integers, too: leave out --activations=none.")
    how, reaches = ranges()
    of_inputs = activation_bits or bits
    return Quantization(bits, of_inputs, weights_by, activations, how, reaches, calibration, training(), arithmetic)


QUANTIZATIONS: dict[str, Callable[..., Quantization | None]] = {"none": unquantized, "integers": integers}
"""How a network is quantised, by name, for `Choice[QUANTIZATIONS]`."""
