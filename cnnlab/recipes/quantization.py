"""What a recipe does so that its network is quantised (tasks/quantize.py): the network, the phases, the start and the file."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cnnlab.core import Array, Experiment, Params, PyTree, Task
from cnnlab.engine.averages import evaluated
from cnnlab.errors import UsageError
from cnnlab.interop.start import start_beside
from cnnlab.models.integer_network import IntegerNetwork, Packed, codes_of_kernels, packed, run
from cnnlab.models.quantized import Quantized, Scheme
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.quantize import COLLECTION
from cnnlab.ops.views import Views, over_views
from cnnlab.tasks.network_player import joined
from cnnlab.tasks.prune import SIZES, count_file
from cnnlab.tasks.quantize import Quantization, with_quantised_part


@dataclasses.dataclass(frozen=True)
class Rounding:
    """A network as its task trains and measures it, and what its experiment does so that it is quantised."""

    network: Any
    """As `flax.linen.Module`s are called."""
    plan: Quantization | None
    """How, when and from what; None: it is not."""
    views: Views
    """Views over which the task averages logits."""

    def __call__(self, experiment: Experiment) -> Experiment:
        """Returns the experiment of training `network`, whose ranges are found where the plan says; without one, itself.

        Raises UsageError where training might end before the network is quantised.
        """
        if self.plan is None:
            return experiment
        if experiment.patience is not None:
            raise UsageError("--quantization and --early_stopping: the best weights may be those before. Leave one out.")
        begin, lengths = self.plan.begun(self.network, experiment.data, evaluated), self.plan.lengths(experiment.steps)
        found = dataclasses.replace(
            experiment,
            task=_counted(experiment.task, self.network, self.views),
            # The ranges are found later.
            start=None if experiment.start is None else start_beside(experiment.start, collections=(COLLECTION,)),
        )
        if not lengths[1]:  # training=after, or no steps
            return dataclasses.replace(found, end=begin)
        return dataclasses.replace(found, phases=with_quantised_part(found.phases, found.task.turns, lengths, begin))


def rounding_of(network: nn.Module, image_shape: tuple[int, int, int], plan: Quantization | None, views: Views) -> Rounding:
    """Returns how a network is quantised; UsageError where it has neither a convolution nor a dense layer.

    Args:
        network: the network.
        image_shape: (H, W, C) of its images.
        plan: how, when and from what; None: it is not.
        views: views over which the task averages logits.
    """
    if plan is None:
        return Rounding(network, None, views)
    bits = None if plan.activations == "none" else plan.activation_bits
    is_symmetric = plan.activations == "symmetric"
    scheme = Scheme(plan.bits, bits, plan.weights_by, is_symmetric, plan.ranges, plan.percentile)
    kind = IntegerNetwork if plan.arithmetic == "integer" else Quantized
    found = kind(network, image_shape, scheme, plan.aware)
    if not found.layers:
        raise UsageError(f"--quantization: {type(network).__name__} has no convolution or dense layer outside of a loop.")
    return Rounding(found, plan, views)


def require_gradient(network: Any, *, is_attacked: bool) -> None:
    """Raises UsageError where an attack would follow the gradient of integers."""
    if is_attacked and isinstance(network, IntegerNetwork):
        raise UsageError(
            "--quantization.arithmetic=integer has no gradient, and an attack, or robust_accuracy, follows one.\n"
            "Leave one of them out."
        )


def _counted(task: Task, network: Quantized, views: Views) -> Task:
    """Returns the task of a quantised network with its files of few bytes, whose size is among its results."""

    def codes(params: Params, model_state: PyTree) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        if not model_state[COLLECTION]["is_on"]:
            return {}
        found = jax.device_get(codes_of_kernels(network, {"params": joined(params), **model_state}))
        return {f"params/{path}": each for path, each in found.items()}

    if task.count_file is None:
        task = dataclasses.replace(task, metrics=(*task.metrics, *SIZES), count_file=count_file)
    return dataclasses.replace(task, packed=_packing(network, views), codes=codes)


def _packing(network: Quantized, views: Views) -> Callable[[Params, PyTree], tuple[Callable[[PyTree, Array], Array], PyTree]]:
    """Makes core.Task.packed, whose variables are codes of i8; before the network is quantised they are as they were."""

    def plain(variables: PyTree, images: Array) -> Array:
        return over_views(lambda seen: at_least_f32(network.apply(variables, seen, train=False)[0]), views)(images)

    def from_codes(variables: Packed, images: Array) -> Array:
        return over_views(lambda seen: at_least_f32(run(network, variables, seen)[0]), views)(images)

    def of_state(params: Params, model_state: PyTree) -> tuple[Callable[[Any, Array], Array], PyTree]:
        variables = {"params": joined(params), **model_state}
        return (from_codes, packed(network, variables)) if model_state[COLLECTION]["is_on"] else (plain, variables)

    return of_state
