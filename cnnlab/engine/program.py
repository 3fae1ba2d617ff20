"""The state, the step, and an experiment compiled for its devices: one of each, for every task, strategy and number of players.

Nothing here touches the world or loops over a data set (train.py does the latter, run.py the former).
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.core import Array, Batch, Experiment, Feed, Params, Phase, PyTree, Stats, Strategy, Task, TrainState
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream

PRECISIONS = {"f32": jnp.float32, "bf16": jnp.bfloat16}
"""What the network computes in. Parameters, batch statistics, losses and updates are f32 always."""


def computing_in(precision: str) -> Callable[[PyTree], PyTree]:
    """A function that casts the f32 leaves of a tree to the compute type; gradients flow back through it in f32."""
    dtype = PRECISIONS[precision]
    return lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, tree)


def init_state(experiment: Experiment, seed: Array, batch: Batch) -> TrainState:
    """The state before the first step; a pure function of the seed (u32 []) and the shapes of one training batch."""
    key = jax.random.key(seed)
    params, model_state = experiment.task.init(stream(key, "init"), batch)
    moving = {player for phase in phases(experiment) for player in phase.turns}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        model_state=model_state,
        opt_state={
            player: experiment.optimizers[player].init(_owned(experiment.task, params, player)) for player in sorted(moving)
        },
        average=jax.tree.map(jnp.copy, params) if experiment.average_decay else {},
    )


def phases(experiment: Experiment) -> tuple[Phase, ...]:
    """The games that are played one after another; at least one."""
    played = experiment.phases or (Phase(experiment.steps, experiment.task.turns),)
    assert sum(phase.steps for phase in played) == experiment.steps, "the phases make up the whole training"
    return played


def _owned(task: Task, params: Params, player: str) -> PyTree:
    """What a player moves: its own group of parameters, or a dict of the groups that it owns."""
    return {group: params[group] for group in task.owns[player]} if player in task.owns else params[player]


def _with_owned(task: Task, params: Params, player: str, own: PyTree) -> Params:
    """The parameters with what a player moves put in place."""
    return {**params, **(own if player in task.owns else {player: own})}


def make_train_step(
    experiment: Experiment, *, precision: str, turns: tuple[str, ...] | None = None
) -> Callable[..., tuple[TrainState, Stats]]:
    """train_step(state, resident, feed) -> (state, stats): every player of `turns` (None: the task's) moves on one batch."""
    turns = experiment.task.turns if turns is None else turns
    task, optimizers, cast = experiment.task, experiment.optimizers, computing_in(precision)

    def train_step(state: TrainState, resident: PyTree, feed: dict[str, Array]) -> tuple[TrainState, Stats]:
        key = jax.random.fold_in(state.key, state.step)
        batch = cast(experiment.data.prepare(resident, feed, stream(key, "augment")))
        params, model_state, opt_state = dict(state.params), state.model_state, dict(state.opt_state)
        sums: dict[str, Array] = {}
        for turn, player in enumerate(turns):
            loss_of = functools.partial(_loss_of, task, cast, player, params, model_state, batch, jax.random.fold_in(key, turn))
            own = _owned(task, params, player)
            gradient, (model_state, stats) = jax.grad(loss_of, has_aux=True)(own)
            gradient = collectives.mean(gradient)
            with jax.numpy_dtype_promotion("standard"):  # optax leans on promotion (decay ** count); our own code does not
                updates, opt_state[player] = optimizers[player].update(gradient, opt_state[player], own)
            params = _with_owned(task, params, player, optax.apply_updates(own, updates))
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
    return task.loss(cast(_with_owned(task, params, player, own)), model_state, batch, key, player)


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


Numbers = Mapping[str, Array]
"""f32 [] by the path of a knob: values that a compiled program takes as arguments."""


@dataclasses.dataclass(frozen=True)
class Program:
    """An experiment compiled for a strategy: shared by all seeds, and by experiments that differ in numbers alone."""

    experiment: Experiment
    strategy: Strategy
    shapes: TrainState
    """The host tree of a state, as shapes and dtypes."""
    compiled_init: Callable[..., TrainState]
    games: tuple[Callable[..., tuple[TrainState, Stats]], ...]
    """One for each phase: (state, shared(split), feeds [k, B, …]) -> (state, stats [k])."""
    games_together: tuple[Callable[..., tuple[TrainState, Stats]], ...]
    """The same for a crowd of M members: (state [M], shared(split) with numbers [M], feeds [k, B, M, …]) -> (state [M],
    stats [M, k])."""
    measure: Callable[..., Stats]
    """(params, model_state, shared(split), feeds [1, B, …]) -> stats."""
    final: Callable[..., Stats]
    """As `measure`, with what the task measures at the end alone."""
    compiled_snapshot: Callable[..., dict[str, Array]]
    resident: dict[str, PyTree]
    numbers: Mapping[str, Any]
    """The experiment's own, for its family: f32 []."""

    def init(self, seed: int) -> TrainState:
        """The placed state before the first step."""
        start = self.experiment.start
        given = start(self.shapes.params, self.shapes.model_state) if start else None
        host = jax.tree.map(np.asarray, self.compiled_init(np.uint32(seed), self.numbers))
        return self.strategy.place(host if given is None else _with_given(host, *given))

    def snapshot(self, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
        """{name: images f32 [N, H, W, C]} of the task's snapshot, with the averaged parameters where there are any."""
        host = self.strategy.fetch(state)
        shown = self.compiled_snapshot(host.average or host.params, host.model_state, batch, self.numbers)
        return jax.tree.map(np.asarray, shown)

    def shared(self, split: str) -> PyTree:
        """What every step or measurement of a split reads: the numbers and the resident arrays."""
        return self.strategy.share(self.numbers), self.resident.get(split, {})

    def game(self, step: int) -> tuple[Callable[..., tuple[TrainState, Stats]], int]:
        """(compiled steps of the phase in which `step` lies, the step at which that phase ends)."""
        ends = list(itertools.accumulate(phase.steps for phase in phases(self.experiment)))
        number = min(bisect.bisect_right(ends, step), len(ends) - 1)
        return self.games[number], ends[number]

    def member(self, experiment: Experiment, numbers: Mapping[str, float]) -> "Program":
        """The same compilation for an experiment of the same family with other numbers."""
        assert experiment.data.fingerprint == self.experiment.data.fingerprint, "members of a family share their data"
        return dataclasses.replace(self, experiment=experiment, numbers=_as_arrays(numbers))


def build_program(
    experiment: Experiment,
    strategy: Strategy,
    *,
    precision: str,
    family: Callable[[Numbers], Experiment] | None = None,
    numbers: Mapping[str, float] | None = None,
) -> Program:
    """Places the resident data and wraps the step for the strategy; nothing is compiled until it is first called.

    Args:
        experiment: to train.
        strategy: where.
        precision: one of PRECISIONS.
        family: numbers -> the experiment with these numbers; it is called with tracers, so that one compilation serves all
            members. None: a family of one.
        numbers: of `experiment` itself, for which `family` gives what it does.
    """
    data = experiment.data
    resident, first = data.resident.get("train", {}), next(data.train(0, 0))
    init, steps, measure = _functions(family or (lambda _: experiment), precision=precision)
    host = _as_arrays(numbers or {})
    games = [functools.partial(steps, turns=phase.turns) for phase in phases(experiment)]

    # Drawing truncated normals takes XLA:CPU 9 s to compile for eight kernels at its default level, 0.8 s at level 1; the
    # numbers are the same to the bit.
    def snapshot(params: Params, model_state: PyTree, batch: Batch, numbers: Numbers) -> dict[str, Array]:
        task = (family(numbers) if family else experiment).task
        return task.snapshot(params, model_state, batch, jax.random.key(0)) if task.snapshot else {}

    quickly = {"xla_backend_optimization_level": 1} if strategy.devices[0].platform == "cpu" else None
    compiled_init, compiled_measure = jax.jit(init, compiler_options=quickly), strategy.compile_measure(measure)
    return Program(
        experiment=experiment,
        strategy=strategy,
        shapes=jax.eval_shape(init, np.uint32(0), (host, resident), first),
        compiled_init=lambda seed, numbers: compiled_init(seed, (numbers, resident), first),
        games=tuple(strategy.compile_steps(game) for game in games),
        games_together=tuple(strategy.compile_steps(jax.vmap(game, in_axes=(0, (0, None), 2))) for game in games),
        measure=compiled_measure,
        final=strategy.compile_measure(functools.partial(measure, final=True)) if experiment.task.final else compiled_measure,
        compiled_snapshot=jax.jit(snapshot),
        resident={split: strategy.share(arrays) for split, arrays in data.resident.items()},
        numbers=host,
    )


def _functions(
    family: Callable[[Numbers], Experiment], *, precision: str
) -> tuple[Callable[..., TrainState], Callable[..., tuple[TrainState, Stats]], Callable[..., Stats]]:
    """(init, steps, measure) of a family, not compiled; `shared` is (numbers, resident arrays of the split).

    init(seed, shared, feed) -> host-like state, steps(state, shared, feeds [k, B, …], turns=…) -> (state, stats [k]),
    measure(params, model_state, shared, feeds [1, B, …], final=…) -> stats.
    """

    def init(seed: Array, shared: PyTree, feed: PyTree) -> TrainState:
        numbers, resident = shared
        experiment = family(numbers)
        state = init_state(experiment, seed, experiment.data.prepare(resident, feed, None))
        return dataclasses.replace(state, key=jax.random.key_data(state.key))

    def steps(
        state: TrainState, shared: PyTree, feeds: PyTree, *, turns: tuple[str, ...] | None = None
    ) -> tuple[TrainState, Stats]:
        numbers, resident = shared
        return make_steps(make_train_step(family(numbers), precision=precision, turns=turns))(state, resident, feeds)

    def measure(params: Params, model_state: PyTree, shared: PyTree, feeds: PyTree, *, final: bool = False) -> Stats:
        (numbers, resident), feed, cast = shared, jax.tree.map(lambda leaf: leaf[0], feeds), computing_in(precision)
        experiment = family(numbers)
        task, batch = experiment.task, cast(experiment.data.prepare(resident, feed, None))
        stats = task.measure(cast(params), model_state, batch)
        if final and task.final:
            more = task.final(cast(params), model_state, batch)
            stats = {kind: {**stats[kind], **more[kind]} for kind in stats}
        return {"sums": collectives.total(stats["sums"]), "rows": stats["rows"]}

    return init, steps, measure


def trace(
    experiment: Experiment, *, precision: str, family: Callable[[Numbers], Experiment], numbers: Mapping[str, float]
) -> None:
    """Traces a start, a step and a measurement over shapes alone: whatever is wrong with a network or a knob shows here."""
    init, steps, measure = _functions(family, precision=precision)
    data = experiment.data
    shared, feed = (_as_arrays(numbers), data.resident.get("train", {})), in_steps([next(data.train(0, 0))])
    host = jax.eval_shape(init, np.uint32(0), shared, jax.tree.map(lambda leaf: leaf[0], feed))
    state = dataclasses.replace(host, key=jax.eval_shape(jax.random.key, np.uint32(0)))
    for phase in phases(experiment):
        jax.eval_shape(functools.partial(steps, turns=phase.turns), state, shared, feed)
    jax.eval_shape(measure, host.params, host.model_state, shared, feed)


def together(members: Sequence[Program]) -> Program:
    """Members of one family as a crowd that takes its steps in one batched program, for `fit`.

    Each member keeps its own batches, randomness and numbers. What is batched is the members' parameters too, so that
    convolutions become grouped ones: good for an accelerator that a single small network leaves idle, bad for a CPU.
    """
    first = members[0]
    numbers = {path: np.stack([member.numbers[path] for member in members]) for path in first.numbers}
    train = functools.partial(_feeds_together, first.experiment.data.train)
    experiment = dataclasses.replace(first.experiment, data=dataclasses.replace(first.experiment.data, train=train))
    return dataclasses.replace(first, experiment=experiment, games=first.games_together, numbers=numbers)


def _feeds_together(train: Callable[[int, int], Iterator[Feed]], seeds: tuple[int, ...], step: int) -> Iterator[Feed]:
    """The feeds of M seeds as one, [B, M, …]."""
    for feeds in zip(*(train(seed, step) for seed in seeds), strict=True):
        yield {name: np.stack([feed[name] for feed in feeds], axis=1) for name in feeds[0]}


def stacked(trees: Sequence[PyTree]) -> PyTree:
    """Trees of M members as one with a leading axis M."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def part(tree: PyTree, member: int) -> PyTree:
    """What belongs to one member of a crowd."""
    return jax.tree.map(lambda leaf: leaf[member], tree)


def _as_arrays(numbers: Mapping[str, float]) -> dict[str, np.ndarray]:
    return {path: np.asarray(value, np.float32) for path, value in numbers.items()}


def _with_given(host: TrainState, params: Params, model_state: PyTree) -> TrainState:
    """A fresh host state with the leaves that `Experiment.start` gives in place of its own."""

    def chosen(given: Any, fresh: np.ndarray) -> np.ndarray:
        return fresh if isinstance(given, jax.ShapeDtypeStruct) else np.asarray(given, fresh.dtype)

    params = jax.tree.map(chosen, params, host.params)
    model_state = jax.tree.map(chosen, model_state, host.model_state)
    return dataclasses.replace(host, params=params, model_state=model_state, average=params if host.average else {})


def in_steps(feeds: list[Feed]) -> Feed:
    """k feeds [B, …] -> one feed [k, B, …]."""
    return {name: np.stack([feed[name] for feed in feeds]) for name in feeds[0]}
