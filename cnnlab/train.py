"""The step, the loop and the evaluation: one of each, for every task, strategy and number of players.

Nothing here touches the world: `fit` calls back when it is time to log, evaluate or save (run.py does these).
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.core import Array, Batch, Experiment, Feed, Params, PyTree, Stats, Strategy, Task, TrainState
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream

PRECISIONS = {"f32": jnp.float32, "bf16": jnp.bfloat16}
"""What the network computes in. Parameters, batch statistics, losses and updates are f32 always."""

EVALUATION_BATCH = 250
"""Examples measured at once; on a CPU larger batches fall out of the cache."""

IN_FLIGHT = 8
"""Dispatches that may wait unfinished. Unbounded, forced CPU devices deadlock and the host runs far ahead of a SIGTERM."""


def computing_in(precision: str) -> Callable[[PyTree], PyTree]:
    """A function that casts the f32 leaves of a tree to the compute type; gradients flow back through it in f32."""
    dtype = PRECISIONS[precision]
    return lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, tree)


def init_state(experiment: Experiment, seed: Array, batch: Batch) -> TrainState:
    """The state before the first step; a pure function of the seed (u32 []) and the shapes of one training batch."""
    key = jax.random.key(seed)
    params, model_state = experiment.task.init(stream(key, "init"), batch)
    moving = set(experiment.task.turns)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        model_state=model_state,
        opt_state={player: experiment.optimizers[player].init(params[player]) for player in sorted(moving)},
        average=jax.tree.map(jnp.copy, params) if experiment.average_decay else {},
    )


def make_train_step(experiment: Experiment, *, precision: str) -> Callable[..., tuple[TrainState, Stats]]:
    """train_step(state, resident, feed) -> (state, stats): every player of `task.turns` takes its turn on one batch."""
    task, optimizers, cast = experiment.task, experiment.optimizers, computing_in(precision)

    def train_step(state: TrainState, resident: PyTree, feed: dict[str, Array]) -> tuple[TrainState, Stats]:
        key = jax.random.fold_in(state.key, state.step)
        batch = cast(experiment.data.prepare(resident, feed, stream(key, "augment")))
        params, model_state, opt_state = dict(state.params), state.model_state, dict(state.opt_state)
        sums: dict[str, Array] = {}
        for turn, player in enumerate(task.turns):
            loss_of = functools.partial(_loss_of, task, cast, player, params, model_state, batch, jax.random.fold_in(key, turn))
            gradient, (model_state, stats) = jax.grad(loss_of, has_aux=True)(params[player])
            gradient = collectives.mean(gradient)
            with jax.numpy_dtype_promotion("standard"):  # optax leans on promotion (decay ** count); our own code does not
                updates, opt_state[player] = optimizers[player].update(gradient, opt_state[player], params[player])
            params = {**params, player: optax.apply_updates(params[player], updates)}
            for name, value in collectives.total(stats["sums"]).items():
                sums[name] = sums[name] + value if name in sums else value
        average = _averaged(state.average, params, experiment.average_decay, state.step)
        state = TrainState(state.step + 1, state.key, params, model_state, opt_state, average)
        return state, {"sums": sums, "rows": {}}

    return train_step


def _loss_of(
    task: Task,
    cast: Callable[[PyTree], PyTree],
    player: str,
    params: Params,
    model_state: PyTree,
    batch: Batch,
    key: Array,
    own: PyTree,
) -> tuple[Array, tuple[PyTree, Stats]]:
    """The player's loss as a function of its own parameters, the last argument."""
    return task.loss(cast({**params, player: own}), model_state, batch, key, player)


def _averaged(average: Params, params: Params, decay: float, step: Array) -> Params:
    """Exponential moving average; its decay grows to `decay` as (1 + t) / (10 + t) so that the start is soon forgotten."""
    if not average:
        return average
    count = step.astype(jnp.float32)
    kept = jnp.minimum(jnp.float32(decay), (1.0 + count) / (10.0 + count))
    return jax.tree.map(lambda old, new: kept * old + (1.0 - kept) * new, average, params)


def make_steps(train_step: Callable[..., tuple[TrainState, Stats]]) -> Callable[..., tuple[TrainState, Stats]]:
    """steps(state, resident, feeds [k, B, …]) -> (state, stats [k]): k steps in one dispatch.

    One step is called as it is: XLA:CPU runs a convolution inside a loop body 5 to 7 times slower (jax issue 12868).
    """

    def steps(state: TrainState, resident: PyTree, feeds: PyTree) -> tuple[TrainState, Stats]:
        if jax.tree.leaves(feeds)[0].shape[0] == 1:
            state, stats = train_step(state, resident, jax.tree.map(lambda leaf: leaf[0], feeds))
            return state, jax.tree.map(lambda leaf: leaf[None], stats)
        return jax.lax.scan(lambda carry, feed: train_step(carry, resident, feed), state, feeds)

    return steps


@dataclasses.dataclass(frozen=True)
class Program:
    """An experiment compiled for a strategy: shared by all seeds of a command."""

    experiment: Experiment
    strategy: Strategy
    init: Callable[[int], TrainState]
    """seed -> placed state."""
    shapes: TrainState
    """The host tree of a state, as shapes and dtypes."""
    steps: Callable[..., tuple[TrainState, Stats]]
    measure: Callable[..., Stats]
    resident: dict[str, PyTree]


def build(experiment: Experiment, strategy: Strategy, *, precision: str) -> Program:
    """Places the resident data and wraps the step for the strategy; nothing is compiled until it is first called."""
    data, task, cast = experiment.data, experiment.task, computing_in(precision)
    first = next(data.train(0, 0))

    def init(seed: Array, resident: PyTree, feed: PyTree) -> TrainState:
        state = init_state(experiment, seed, data.prepare(resident, feed, None))
        return dataclasses.replace(state, key=jax.random.key_data(state.key))

    def measure(params: Params, model_state: PyTree, resident: PyTree, feeds: PyTree) -> Stats:
        feed = jax.tree.map(lambda leaf: leaf[0], feeds)
        stats = task.measure(cast(params), model_state, cast(data.prepare(resident, feed, None)))
        return {"sums": collectives.total(stats["sums"]), "rows": stats["rows"]}

    # Drawing truncated normals takes XLA:CPU 9 s to compile for eight kernels at its default level, 0.8 s at level 1; the
    # numbers are the same to the bit.
    quickly = {"xla_backend_optimization_level": 1} if strategy.devices[0].platform == "cpu" else None
    compiled_init = jax.jit(init, compiler_options=quickly)
    resident = data.resident.get("train", {})
    shapes = jax.eval_shape(init, np.uint32(0), resident, first)

    def start(seed: int) -> TrainState:
        given = experiment.start(shapes.params, shapes.model_state) if experiment.start else None
        host = jax.tree.map(np.asarray, compiled_init(np.uint32(seed), resident, first))
        return strategy.place(host if given is None else _with_given(host, *given))

    return Program(
        experiment=experiment,
        strategy=strategy,
        init=start,
        shapes=shapes,
        steps=strategy.compile_steps(make_steps(make_train_step(experiment, precision=precision))),
        measure=strategy.compile_measure(measure),
        resident={split: strategy.share(arrays) for split, arrays in data.resident.items()},
    )


def _with_given(host: TrainState, params: Params, model_state: PyTree) -> TrainState:
    """A fresh host state with the leaves that `Experiment.start` gives in place of its own."""

    def chosen(given: Any, fresh: np.ndarray) -> np.ndarray:
        return fresh if isinstance(given, jax.ShapeDtypeStruct) else np.asarray(given, fresh.dtype)

    params = jax.tree.map(chosen, params, host.params)
    model_state = jax.tree.map(chosen, model_state, host.model_state)
    return dataclasses.replace(host, params=params, model_state=model_state, average=params if host.average else {})


def merge(parts: Sequence[Stats]) -> Stats:
    """Merges fetched statistics: sums add in f64, rows concatenate, rows whose `mask` is False are dropped."""
    names = parts[0]["sums"] if parts else {}
    sums = {name: sum(np.asarray(part["sums"][name], np.float64).sum() for part in parts) for name in names}
    rows = {
        name: np.concatenate([np.asarray(part["rows"][name]) for part in parts]) for name in (parts[0]["rows"] if parts else {})
    }
    if "mask" in rows:
        real = rows.pop("mask")
        rows = {name: values[real] for name, values in rows.items()}
    return {"sums": sums, "rows": rows}


def evaluate(program: Program, state: TrainState, split: str) -> Stats:
    """Merged statistics of one pass over a split, with the averaged parameters where there are any."""
    count = len(program.strategy.devices)
    data = program.experiment.data
    batch_size = -(-min(EVALUATION_BATCH, data.sizes[split]) // count) * count
    params, resident = state.average or state.params, program.resident.get(split, {})
    parts = []
    for feed in data.evaluate(split, batch_size):
        placed = program.strategy.split(_stack([feed]))
        parts.append(jax.device_get(program.measure(params, state.model_state, resident, placed)))
    return merge(parts)


def _stack(feeds: list[Feed]) -> Feed:
    """k feeds [B, …] -> one feed [k, B, …]."""
    return {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}


@dataclasses.dataclass(frozen=True)
class Cadence:
    """Every how many steps to log, evaluate and save; `dispatch` is the most steps sent to the device at once."""

    log: int
    evaluate: int
    save: int
    dispatch: int = 1


def fit(
    program: Program,
    state: TrainState,
    *,
    seed: int,
    step: int,
    stop: int,
    cadence: Cadence,
    recent: list[Stats],
    on_log: Callable[[int, Stats], None],
    on_evaluate: Callable[[int, TrainState], None],
    on_save: Callable[[int, TrainState, list[Stats]], None],
    should_stop: Callable[[], bool],
) -> tuple[TrainState, int]:
    """Trains from `step` to `stop` (at most `experiment.steps`); returns the state and the step reached.

    It ends earlier only when `should_stop()` says so.

    Callbacks come after the step whose number they get, in the order log, evaluate, save. `recent` holds the statistics
    since the last log; what a checkpoint keeps of it makes a resumed log equal to an uninterrupted one.
    """
    last = program.experiment.steps
    feeds = program.experiment.data.train(seed, step)
    resident = program.resident.get("train", {})
    in_flight: collections.deque[Stats] = collections.deque()
    while step < stop and not should_stop():
        size = _dispatch_size(step, stop, cadence)
        placed = program.strategy.split(_stack([next(feeds) for _ in range(size)]))
        state, stats = program.steps(state, resident, placed)
        step += size
        recent.append(stats)
        in_flight.append(stats)
        if len(in_flight) > IN_FLIGHT:
            jax.block_until_ready(in_flight.popleft())
        if step % cadence.log == 0 or step == last:
            on_log(step, merge(jax.device_get(recent)))
            recent.clear()
        if step % cadence.evaluate == 0 or step == last:
            on_evaluate(step, state)
        if step % cadence.save == 0 or step == last:
            on_save(step, state, recent)
    return state, step


def _dispatch_size(step: int, stop: int, cadence: Cadence) -> int:
    """The largest power of two of steps (few shapes to compile) that does not pass the next callback."""
    until = min(stop, *(step - step % every + every for every in (cadence.log, cadence.evaluate, cadence.save))) - step
    return 1 << (min(until, cadence.dispatch).bit_length() - 1)
