"""The average of a state, which is evaluated, sampled and exported in place of the state itself (Experiment.averaging).

The weights are averaged, and with them the running statistics of batch normalisation. Averaged weights under the statistics of
the raw ones are another network: after 500 steps of a small convnet on the digits its test accuracy was 0.80, and 0.98 with
statistics of its own. There are two ways to such statistics (ops/averaging.py):

- They are averaged like the weights (`use_buffers` of torch.optim.swa_utils.AveragedModel; timm's ModelEmaV2; the variables
  that the code of Tan and Le 2019, arXiv 1905.11946, averages). This takes no pass over the data.
- They are recomputed by a pass over training batches (Izmailov et al. 2018, arXiv 1803.05407, section 3.2), before every
  evaluation and every checkpoint (batch_statistics.py), so that whatever restores a checkpoint finds them in it.

Only statistics of batch normalisation are meant. Other model state (codebooks, counters, remembered examples) follows
rules of its own and is taken as it is.

Letters in shapes: B examples of a batch, K parts of it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cnnlab.core import Array, Experiment, Params, PyTree, Stats, TrainState
from cnnlab.engine import accumulation
from cnnlab.engine.precision import cast_batch
from cnnlab.ops import collectives, trees
from cnnlab.ops.averaging import Recomputing
from cnnlab.ops.keys import stream

COLLECTION = "batch_stats"
"""Name of the collection of variables in which Flax's batch normalisation keeps its running statistics."""


def batch_statistics(model_state: PyTree) -> dict[str, Any]:
    """Returns {path: leaf} of the running statistics of batch normalisation anywhere in a model state."""
    return {name: leaf for name, leaf in trees.named_leaves(model_state).items() if COLLECTION in name.split("/")}


def evaluated(state: TrainState) -> tuple[PyTree, PyTree]:
    """Returns (params, model state) that are evaluated: the averages where there are any, else the state's own."""
    if not state.average:
        return state.params, state.model_state
    return state.average, trees.replaced(state.model_state, state.average_statistics)


def updated(averaging: Any, state: TrainState, params: Params, model_state: PyTree) -> tuple[Params, dict[str, Any]]:
    """Returns (average, average of the statistics) after a step.

    Args:
        averaging: `Experiment.averaging`; None: nothing is averaged.
        state: state before the step.
        params: parameters after it.
        model_state: model state after it.
    """
    if averaging is None:
        return state.average, state.average_statistics
    if isinstance(averaging, Recomputing):
        return averaging(state.average, params, state.step), state.average_statistics
    average: tuple[Params, dict[str, Any]] = averaging(
        (state.average, state.average_statistics), (params, batch_statistics(model_state)), state.step
    )
    return average


def statistics_of_batch(
    experiment: Experiment,
    cast: Callable[[PyTree], PyTree],
    variables: tuple[Params, PyTree],
    key: Array,
    resident: PyTree,
    feed: Mapping[str, Array],
) -> Stats:
    """Returns the sums over one training batch's turns and parts of {path: statistics of the batch}, and their counts.

    A network's statistics are those by which it moves its running ones, kept · old + (1 − kept) · batch: `kept` is the
    derivative by the old ones, 1 where a turn leaves them alone, and what remains of the new ones is the batch's. So this holds
    for whatever task, and for the layers of a user's own network. No loss may depend on the running statistics in training but
    through `stop_gradient`, as the images of an attack do.

    Args:
        experiment: the experiment.
        cast: function that casts to the dtype in which the network computes.
        variables: (params, model state) of the network; the running statistics in the latter have no influence but by rounding.
        key: key of the step whose augmentation and dropout the batch gets.
        resident: resident arrays of the training split.
        feed: the batch's feed, [B, …].
    """
    task, data, (params, model_state) = experiment.task, experiment.data, variables
    batch = cast_batch(data, cast, data.prepare(resident, feed, stream(key, "augment")))
    old = {name: leaf.astype(jnp.float32) for name, leaf in batch_statistics(model_state).items()}
    sums, counts = jax.tree.map(jnp.zeros_like, old), jax.tree.map(jnp.zeros_like, old)
    for turn, player in enumerate(task.turns):
        for part, noise in accumulation.parts(batch, data.accumulate, jax.random.fold_in(key, turn)):

            def moved(old: dict[str, Array], part: Any = part, noise: Array = noise, player: str = player) -> dict[str, Array]:
                after = task.loss(cast(params), trees.replaced(model_state, old), part, noise, player)[1][0]
                return {name: leaf.astype(jnp.float32) for name, leaf in batch_statistics(after).items()}

            new, kept = jax.jvp(moved, (old,), (jax.tree.map(jnp.ones_like, old),))
            for name, leaf in new.items():
                is_moved = kept[name] < 1.0
                of_batch = (leaf - kept[name] * old[name]) / jnp.where(is_moved, 1.0 - kept[name], 1.0)
                sums[name] += jnp.where(is_moved, of_batch, 0.0)
                counts[name] += is_moved.astype(jnp.float32)
    return {"sums": collectives.global_mean({"values": sums, "counts": counts}), "rows": {}}
