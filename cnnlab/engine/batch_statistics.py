"""Recomputes the statistics of batch normalisation for averaged weights, by a pass over training batches.

Izmailov et al. 2018 (arXiv 1803.05407, section 3.2); torch.optim.swa_utils.update_bn with `momentum=None`: the statistics are
the mean of those of each batch, with equal weights. The batches are those of the run's first steps, with the augmentation and
dropout of these steps: a pure function of the averaged weights and the seed. Nothing else of the state is read or changed, so
training and resumption do not depend on when, or how often, the statistics are recomputed.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import TrainState
from cnnlab.engine.batched import select_member, stack_members
from cnnlab.engine.program import Program, stack_steps
from cnnlab.ops.averaging import Recomputing


def with_recomputed(program: Program, state: TrainState, *, seed: int | tuple[int, ...]) -> TrainState:
    """Returns the state with the statistics of its averaged weights, where the experiment asks for it; else as it is.

    Args:
        program: compiled experiment.
        state: state on the devices; for batched runs [M].
        seed: seed of the training batches; for batched runs one for each.
    """
    if not isinstance(program.experiment.averaging, Recomputing) or not state.average_statistics:
        return state
    if isinstance(seed, tuple):
        # [M, …] -> M of […], and back
        states = [select_member(state, number) for number in range(len(program.members))]
        found = [with_recomputed(*one, seed=own) for *one, own in zip(program.members, states, seed, strict=True)]
        statistics = stack_members([one.average_statistics for one in found])
    else:
        statistics = _on_devices(program, _recomputed(program, state, seed, program.experiment.averaging.batches))
    return dataclasses.replace(state, average_statistics=statistics)


def _recomputed(program: Program, state: TrainState, seed: int, batches: int) -> dict[str, np.ndarray]:
    """Returns {path: mean over the batches f32}; the averages that the state has where no batch moves them."""
    shared, strategy = program.step_inputs("train"), program.strategy
    feeds = program.experiment.data.for_process(strategy.rows).train(seed, 0)
    totals = []
    for number, feed in enumerate(itertools.islice(feeds, batches)):
        placed = strategy.shard_batch(stack_steps([feed]))
        key = (state.key, strategy.replicate(np.int32(number)))
        # Fetched at once: forced CPU devices wait for each other for ever where too many dispatches are under way.
        totals.append(jax.device_get(program.batch_statistics(state.average, state.model_state, key, shared, placed)["sums"]))
    total = jax.tree.map(lambda *parts: np.sum(np.asarray(parts, np.float64), axis=0), *totals)
    before = strategy.to_host(state).average_statistics
    return {
        name: np.where(total["counts"][name] > 0, value / np.maximum(total["counts"][name], 1), before[name]).astype(np.float32)
        for name, value in total["values"].items()
    }


def _on_devices(program: Program, statistics: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns statistics laid out as the strategy lays out those of a state."""
    key = program.shapes.key
    bare = TrainState(jnp.int32(0), jnp.zeros(key.shape, key.dtype), {}, {}, {}, {}, statistics)
    return program.strategy.to_devices(bare).average_statistics
