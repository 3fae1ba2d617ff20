"""What is known of an experiment's step from shapes alone: whether it traces, and how many operations it takes."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np

from cnnlab.core import Experiment
from cnnlab.engine.program import TracedKnobs, as_arrays, functions, phases, stack_steps


def trace(
    experiment: Experiment,
    *,
    precision: str,
    experiment_of: Callable[[TracedKnobs], Experiment],
    traced_knobs: Mapping[str, float],
) -> None:
    """Traces init, a step of each phase and a measurement over shapes alone, which raises the errors of a network or a knob."""
    init, steps, measure = functions(experiment_of, precision=precision)
    data = experiment.data
    shared, feed = (as_arrays(traced_knobs), data.resident.get("train", {})), stack_steps([next(data.train(0, 0))])
    host = jax.eval_shape(init, np.uint32(0), shared, jax.tree.map(lambda leaf: leaf[0], feed))
    state = dataclasses.replace(host, key=jax.eval_shape(jax.random.key, np.uint32(0)))
    for phase in phases(experiment):
        jax.eval_shape(functools.partial(steps, turns=phase.turns), state, shared, feed)
    jax.eval_shape(measure, host.params, host.model_state, shared, feed)


def step_operations(experiment: Experiment) -> float | None:
    """Returns the floating-point operations of a training step in f32, the mean over all steps; None where XLA counts none.

    XLA counts those of the program as it is before compilation: all turns with their gradients, the body of a loop once.
    Therefore the batch is counted whole where a step takes it in parts.
    """
    experiment = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, accumulate=1))
    if not experiment.steps:
        return None
    init, steps, _ = functions(lambda _: experiment, precision="f32")
    shared, feed = (as_arrays({}), experiment.data.resident.get("train", {})), stack_steps([next(experiment.data.train(0, 0))])
    host = jax.eval_shape(init, np.uint32(0), shared, jax.tree.map(lambda leaf: leaf[0], feed))
    state, total = dataclasses.replace(host, key=jax.eval_shape(jax.random.key, np.uint32(0))), 0.0
    for phase in phases(experiment):
        counted = jax.jit(functools.partial(steps, turns=phase.turns)).lower(state, shared, feed).cost_analysis() or {}
        total += phase.steps * counted.get("flops", 0.0)
    return total / experiment.steps if total > 0 else None
