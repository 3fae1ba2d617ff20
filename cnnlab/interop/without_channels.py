"""The network of a run without the channels that pruning took away: its weights, its knobs, and that it computes the same."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Experiment, TrainState
from cnnlab.engine.averages import evaluated
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved, merged, resolve
from cnnlab.models.narrowed import KNOB, widths
from cnnlab.ops import units
from cnnlab.ops.draws import normal
from cnnlab.runs.network_function import divided, owners_of, predicted, units_of, variables_of
from cnnlab.runs.run import call
from cnnlab.runs.without_data import experiment_without_data

TRIED = 8
"""Number of random images on which both networks are compared."""
MOST_DIFFERENCE = 1e-3
"""Largest difference of their outputs, as a share of the largest; rounding in f32 gives 1e-7 to 1e-5."""


@dataclasses.dataclass(frozen=True)
class Smaller:
    """A network without the channels that are gone."""

    experiment: Experiment
    state: TrainState
    """The run's state with its weights, in place of an average where there was one."""
    knobs: Mapping[str, Any]
    """The run's knobs, with the widths of its layers and without pruning."""
    given: Mapping[str, Any]
    """Those of the knobs that are not as the experiment has them."""
    widths: tuple[str, ...]
    """LAYER=NUMBER of the layers that are narrower, for --units_by_layer."""
    numbers: tuple[int, int]
    """How many numbers the parameters have, before and after."""
    difference: float
    """Largest difference of the outputs for random images, as a share of their largest magnitude."""


def smaller_network(resolved: Resolved, experiment: Experiment, state: TrainState, folder: pathlib.Path) -> Smaller:
    """Takes the channels whose parameters are all 0 out of the network of a run, of the average where there is one.

    Args:
        resolved: the run's function and its knobs.
        experiment: the run's experiment.
        state: state of the run, on the host.
        folder: folder of the run.

    Raises UsageError where there are no such channels, and for experiments other than those of classification.
    """
    if KNOB not in resolved.knobs:
        raise UsageError("--smaller: channels are taken out of the networks of classification alone. Leave it out.")
    if resolved.values["quantization"] != "none":
        raise UsageError(
            "--smaller: channels are not followed through rounded numbers. Train with --quantization=none, export that, and\n"
            "round the smaller network by --init_from=FILE --units_by_layer=… --steps=0 --quantization=integers."
        )
    params, model_state = evaluated(state)
    whole, owners = variables_of(params, model_state), owners_of(params)
    found = units_of(experiment, params, model_state).units
    gone = [units.unused(each, whole) for each in found]
    if not any(each.any() for each in gone):
        raise UsageError(
            "--smaller: no channel of this network is 0 in all its parameters, so that none can go.\n"
            "Train it with --pruning=channels, or leave --smaller out."
        )
    # A layer all of whose channels are 0 keeps one of them.
    gone = [each & (np.arange(len(each)) > 0) if each.all() else each for each in gone]
    left = units.without(whole, found, gone)
    knobs = {path: value for path, value in resolved.values.items() if not path.startswith("pruning.")}

    def narrow(texts: tuple[str, ...]) -> Resolved:
        more = {"pruning": "none", "init_from": None, KNOB: (*texts, *(resolved.values[KNOB] or ()))}
        return resolve(resolved.function, merged(knobs, more), resolved.context)

    def built(texts: tuple[str, ...]) -> Experiment:
        return experiment_without_data(narrow(texts), folder) or call(narrow(texts))

    texts = widths(lambda texts: _shapes(built(texts)), left)
    made = built(texts)
    images = normal(jax.random.key(0), (TRIED, *experiment.data.image_shape), jnp.float32)
    before, after = (
        np.asarray(jax.jit(functools.partial(predicted, each, owners))(given, images))
        for each, given in ((experiment, whole), (made, left))
    )
    difference = float(np.max(np.abs(after - before)) / np.max(np.abs(before)))
    if not difference < MOST_DIFFERENCE:
        raise UsageError(
            f"--smaller: without the channels that are gone the network computes something else: on random images its outputs "
            f"differ by {difference:.0e} of their size.\nExport it as it is, without --smaller."
        )
    numbers = (_numbers(whole), _numbers(left))
    given, model_state = divided(left, owners)
    made = dataclasses.replace(made, data=experiment.data)
    state = dataclasses.replace(state, params=given, model_state=model_state, average={}, average_statistics={})
    narrower = narrow(texts)
    return Smaller(made, state, narrower.values, narrower.given, texts, numbers, difference)


def as_text(found: Smaller) -> str:
    """Describes what was taken out, and how the smaller network is built from a file of its weights."""
    before, after = found.numbers
    return (
        f"{after:,} of {before:,} numbers of its parameters are left, without the channels that pruning took away\n"
        f"  on {TRIED} random images its outputs differ by {found.difference:.0e} of their size\n"
        f"  the smaller network has --pruning=none --{KNOB}={','.join(found.widths)}"
    )


def _shapes(experiment: Experiment) -> dict[str, tuple[int, ...]]:
    """Returns {"params/conv1/kernel": shape} of the network of an experiment."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, model_state = jax.eval_shape(experiment.task.init, key, experiment.data.example(experiment.data.batch_size))
    return {path: tuple(leaf.shape) for path, leaf in variables_of(params, model_state).items()}


def _numbers(weights: Mapping[str, Any]) -> int:
    """Returns how many numbers the parameters have."""
    return sum(np.size(leaf) for path, leaf in weights.items() if path.startswith("params/"))
