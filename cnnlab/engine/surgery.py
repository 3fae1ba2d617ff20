"""Changes of the state where a phase of training begins (core.Phase.begin) and where training ends, for every strategy alike.

Letters in shapes: M members (batched runs).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from cnnlab.core import Batch, PyTree, TrainState
from cnnlab.engine.batched import select_member, stack_members
from cnnlab.engine.program import Program, phases
from cnnlab.errors import UsageError
from cnnlab.ops.keys import stream


def begin_phase(program: Program, state: TrainState, *, seed: int | tuple[int, ...], step: int) -> TrainState:
    """Returns the state with which a step starts: where a phase begins there, what its `begin` makes of the state.

    Args:
        program: compiled experiment.
        state: state on the devices; for batched runs [M].
        seed: seed of the training batches; for batched runs one for each.
        step: number of steps taken.

    Raises UsageError where `begin` returns a state of other leaves, shapes or dtypes.
    """
    starts = itertools.accumulate((phase.steps for phase in phases(program.experiment)), initial=0)
    begins = [
        phase.begin for start, phase in zip(starts, phases(program.experiment), strict=False) if start == step and phase.steps
    ]
    if not begins or begins[0] is None:
        return state
    if isinstance(seed, tuple):
        return _of_members(begin_phase, program, state, seed, step)
    return _changed(program, state, begins[0], seed=seed, what=f"the phase that begins at step {step}: its `begin`")


def end_training(program: Program, state: TrainState, *, seed: int | tuple[int, ...], step: int) -> TrainState:
    """Returns what `Experiment.end` makes of the state after the last step; after others itself. Arguments: `begin_phase`."""
    end = program.experiment.end
    if end is None or step != program.experiment.steps:
        return state
    if isinstance(seed, tuple):
        return _of_members(end_training, program, state, seed, step)
    return _changed(program, state, end, seed=seed, what="the `end` of training")


def _of_members(change: Callable[..., TrainState], program: Program, state: TrainState, seeds: Sequence[int], step: int) -> Any:
    """Returns the state of batched runs in which each was changed by its own experiment: [M, …] -> M of […], and back."""
    states = [select_member(state, number) for number in range(len(program.members))]
    parts = zip(program.members, states, seeds, strict=True)
    return stack_members([change(member, own, seed=one, step=step) for member, own, one in parts])


def _changed(program: Program, state: TrainState, change: Callable[..., TrainState], *, seed: int, what: str) -> TrainState:
    """Returns the state that a function of the host tree makes; UsageError where it has other leaves, shapes or dtypes."""
    host = program.strategy.to_host(state)
    changed = change(host, _training_batch(program, host, seed))
    if _shapes(changed) != _shapes(host):
        raise UsageError(
            f"{what} returns a state of other leaves, shapes or dtypes.\n"
            "It may change values alone, as in dataclasses.replace(state, params=…) with leaves of the same shapes."
        )
    return program.strategy.to_devices(changed)


def _training_batch(program: Program, host: TrainState, seed: int) -> Batch:
    """Returns the global batch of the next step as the step makes it: on one device, hence the same for all strategies."""
    data = program.experiment.data
    feed = next(data.train(seed, int(host.step)))
    key = stream(jax.random.fold_in(jax.random.wrap_key_data(host.key), host.step), "augment")
    return jax.tree.map(np.asarray, jax.jit(data.prepare)(data.resident.get("train", {}), feed, key))


def _shapes(tree: PyTree) -> tuple[Any, list[Any]]:
    """Returns the structure of a host tree, and the shape and dtype of every leaf."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in leaves]
