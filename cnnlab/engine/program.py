"""The state, the step, and an experiment compiled for its devices: one of each, for every task, strategy and number of players.

Nothing here reads or writes files or loops over a data set: runs/run.py and train.py do.

Letters in shapes: B examples of a batch, k steps of a dispatch, M members (batched runs), N images.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.core import Array, Batch, Dataset, Experiment, Feed, Params, Phase, PyTree, Stats, Strategy, Task, TrainState
from cnnlab.engine import accumulation, averages, gradients, line_search, loss_scaling, skipping
from cnnlab.engine.precision import cast_batch, computing_in
from cnnlab.engine.remat import check_remat, compiler_options, rematerialized
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream


def init_state(experiment: Experiment, seed: Array, batch: Batch, *, precision: str = "f32") -> TrainState:
    """Returns the state before the first step, a pure function of the seed (u32 []) and the shapes of one training batch."""
    key = jax.random.key(seed)
    params, model_state = experiment.task.init(stream(key, "init"), batch)
    moving = {player for phase in phases(experiment) for player in phase.turns}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=params,
        model_state=model_state,
        opt_state={
            player: experiment.optimizers[player].init(owned(experiment.task, params, player)) for player in sorted(moving)
        },
        average=jax.tree.map(jnp.copy, params) if experiment.averaging else {},
        average_statistics=jax.tree.map(jnp.copy, averages.batch_statistics(model_state)) if experiment.averaging else {},
        loss_scale=loss_scaling.initial(precision),
    )


def phases(experiment: Experiment) -> tuple[Phase, ...]:
    """Returns the phases of training in their order, at least one."""
    sequence = experiment.phases or (Phase(experiment.steps, experiment.task.turns),)
    assert sum(phase.steps for phase in sequence) == experiment.steps, "the phases make up the whole training"
    return sequence


def owned(task: Task, params: Params, player: str) -> PyTree:
    """Returns what a player moves: its own group of parameters, or a dict of the groups that it owns."""
    return {group: params[group] for group in task.param_groups[player]} if player in task.param_groups else params[player]


def with_owned(task: Task, params: Params, player: str, own: PyTree) -> Params:
    """Returns the parameters with the groups of one player replaced by `own`."""
    return {**params, **(own if player in task.param_groups else {player: own})}


def make_train_step(
    experiment: Experiment,
    *,
    precision: str,
    turns: tuple[str, ...] | None = None,
    gradient_norms: bool = False,
    skip_nonfinite: bool = False,
    remat: str = "none",
) -> Callable[..., tuple[TrainState, Stats]]:
    """Returns train_step(state, resident, feed) -> (state, stats): each player of `turns` (None: the task's) moves once.

    `remat` says what its gradients compute again (remat.py). With `gradient_norms` the statistics hold the sizes of its
    gradients and updates (gradients.py). With `skip_nonfinite` a step whose loss or gradients are not finite is left out
    (skipping.py), as always where the loss is scaled (loss_scaling.py).
    """
    turns = experiment.task.turns if turns is None else turns
    skip_nonfinite = skip_nonfinite or precision in loss_scaling.SCALED
    task, optimizers, cast = experiment.task, experiment.optimizers, computing_in(precision)
    gradient_of = accumulation.in_parts(experiment.data.accumulate)

    def train_step(state: TrainState, resident: PyTree, feed: dict[str, Array]) -> tuple[TrainState, Stats]:
        # The key is never split: step, turn and stream are folded in, so that a resumed run has the same numbers.
        key = jax.random.fold_in(state.key, state.step)
        batch = cast_batch(experiment.data, cast, experiment.data.prepare(resident, feed, stream(key, "augment")))
        params, model_state, opt_state = dict(state.params), state.model_state, dict(state.opt_state)
        sums: dict[str, Array] = {}
        is_finite = jnp.bool_(True)
        for turn, player in enumerate(turns):
            own = owned(task, params, player)
            loss_of = loss_scaling.scaled(functools.partial(_loss_of, task, cast, player, params), state.loss_scale)
            loss_of = rematerialized(loss_of, remat)
            given = (loss_of, own, model_state, batch, jax.random.fold_in(key, turn))
            value_fn = line_search.value_function(gradient_of, loss_of, *given[2:], state.loss_scale)
            loss, gradient, model_state, stats = gradient_of(*given)
            # The loss is for transformations that read it, such as reduce_on_plateau; where nothing does, XLA drops it.
            loss, gradient = loss_scaling.unscaled(collectives.global_mean((loss, gradient)), state.loss_scale)
            if skip_nonfinite:
                is_finite &= skipping.all_finite((loss, gradient))
            optimizer = optax.with_extra_args_support(optimizers[player])
            with jax.numpy_dtype_promotion("standard"):  # optax leans on promotion (decay ** count); our own code does not
                updates, opt_state[player] = optimizer.update(gradient, opt_state[player], own, value=loss, value_fn=value_fn)
            params = with_owned(task, params, player, optax.apply_updates(own, updates))
            # Gradients are those of the global batch already.
            more = gradients.measured(player, gradient, updates, own) if gradient_norms else {}
            for name, value in {**collectives.global_sum(stats), **more}.items():
                sums[name] = sums[name] + value if name in sums else value
        average, statistics = averages.updated(experiment.averaging, state, params, model_state)
        after = TrainState(state.step + 1, state.key, params, model_state, opt_state, average, statistics, state.loss_scale)
        if skip_nonfinite:
            after = loss_scaling.adjusted(skipping.unless_finite(is_finite, after, state), is_finite)
            sums |= {skipping.KEY: 1.0 - is_finite.astype(jnp.float32), **loss_scaling.measured(state.loss_scale)}
        return after, {"sums": sums, "rows": {}}

    return train_step


def _loss_of(
    task: Task,
    cast: Callable[[PyTree], PyTree],
    player: str,
    params: Params,
    own: PyTree,
    model_state: PyTree,
    batch: Batch,
    key: Array,
) -> tuple[Array, tuple[PyTree, Stats]]:
    """Returns the player's loss; the last four arguments are its own parameters and what differs between parts of a batch."""
    return task.loss(cast(with_owned(task, params, player, own)), model_state, batch, key, player)


def make_steps(train_step: Callable[..., tuple[TrainState, Stats]]) -> Callable[..., tuple[TrainState, Stats]]:
    """Returns steps(state, resident, feeds [k, B, …]) -> (state, stats [k]): k steps in one dispatch.

    A single step is called without a loop, which would take time to compile.
    """

    def steps(state: TrainState, resident: PyTree, feeds: PyTree) -> tuple[TrainState, Stats]:
        if jax.tree.leaves(feeds)[0].shape[0] == 1:
            state, stats = train_step(state, resident, jax.tree.map(lambda leaf: leaf[0], feeds))  # [1, B, …] -> [B, …]
            return state, jax.tree.map(lambda leaf: leaf[None], stats)  # […] -> [1, …]
        return jax.lax.scan(lambda carry, feed: train_step(carry, resident, feed), state, feeds)

    return steps


TracedKnobs = Mapping[str, Array]
"""{path of a knob: f32 []}: values that a compiled program takes as arguments."""


@dataclasses.dataclass(frozen=True)
class Program:
    """An experiment compiled for a strategy: shared by all seeds, and by experiments that differ in numbers alone."""

    experiment: Experiment
    strategy: Strategy
    shapes: TrainState
    """The host tree of a state, as shapes and dtypes."""
    compiled_init: Callable[..., TrainState]
    phase_steps: tuple[Callable[..., tuple[TrainState, Stats]], ...]
    """One for each phase: (state, step_inputs(split), feeds [k, B, …]) -> (state, stats [k])."""
    batched_phase_steps: tuple[Callable[..., tuple[TrainState, Stats]], ...]
    """The same for M batched runs: (state [M], step_inputs(split) with traced_knobs [M], feeds [k, B, M, …]) -> (state [M],
    stats [M, k])."""
    measure: Callable[..., Stats]
    """(params, model_state, step_inputs(split), feeds [1, B, …]) -> stats, whose sums are [1, …]."""
    final: Callable[..., Stats]
    """As `measure`, with the statistics that the task measures at the end of a run alone."""
    batch_statistics: Callable[..., Stats]
    """(params, model_state, (root key, number of the batch i32 []), step_inputs("train"), feeds [1, B, …]) -> the sums of
    averages.statistics_of_batch."""
    compiled_snapshot: Callable[..., dict[str, Array]]
    resident: dict[str, PyTree]
    traced_knobs: Mapping[str, Any]
    """{path of a knob: f32 []} of this experiment; for batched runs f32 [M]."""
    remat: str = "none"
    """What a backward pass computes again (remat.py)."""
    members: tuple["Program", ...] = ()
    """The programs of batched runs; () for a single one."""

    def init(self, seed: int) -> TrainState:
        """Returns the state before the first step, placed on the devices."""
        # Imported weights replace the random ones on the host: the compiled program stays that of a random start.
        start = self.experiment.start
        given = start(self.shapes.params, self.shapes.model_state) if start else None
        host = jax.tree.map(np.asarray, self.compiled_init(np.uint32(seed), self.traced_knobs))
        return self.strategy.to_devices(host if given is None else _with_given(host, *given))

    def snapshot(self, state: TrainState, batch: Batch) -> dict[str, np.ndarray]:
        """Returns {name: images f32 [N, H, W, C]}, the task's snapshot with the averages where there are any."""
        shown = self.compiled_snapshot(*averages.evaluated(self.strategy.to_host(state)), batch, self.traced_knobs)
        return jax.tree.map(np.asarray, shown)

    def step_inputs(self, split: str) -> PyTree:
        """Returns what every step or measurement of a split reads: the traced knobs and the resident arrays."""
        return self.strategy.replicate(self.traced_knobs), self.resident.get(split, {})

    def phase_at(self, step: int) -> tuple[Callable[..., tuple[TrainState, Stats]], int]:
        """Returns the compiled steps of the phase in which `step` lies, and the step at which that phase ends."""
        ends = list(itertools.accumulate(phase.steps for phase in phases(self.experiment)))
        number = min(bisect.bisect_right(ends, step), len(ends) - 1)
        return self.phase_steps[number], ends[number]

    def for_run(self, seed: int) -> "Program":
        """Returns the same compilation with the data as the run of a seed sees them."""
        if (data := self.experiment.data.for_run(seed)) is self.experiment.data:
            return self
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, data=data))

    def member(self, experiment: Experiment, traced_knobs: Mapping[str, float]) -> "Program":
        """Returns the same compilation for an experiment of the same family with other values of its traced knobs."""
        assert experiment.data.fingerprint == self.experiment.data.fingerprint, "members of a family share their data"
        return dataclasses.replace(self, experiment=experiment, traced_knobs=as_arrays(traced_knobs))


def build_program(
    experiment: Experiment,
    strategy: Strategy,
    *,
    precision: str,
    experiment_of: Callable[[TracedKnobs], Experiment] | None = None,
    traced_knobs: Mapping[str, float] | None = None,
    gradient_norms: bool = False,
    skip_nonfinite: bool = False,
    remat: str = "none",
) -> Program:
    """Places the resident data and wraps the step for the strategy; nothing is compiled until it is first called.

    Args:
        experiment: experiment to train; a UsageError where the variations of its training do not fit its examples.
        strategy: strategy that places and compiles it.
        precision: name of a dtype of PRECISIONS.
        experiment_of: traced knobs -> the experiment with these values; it is called with tracers, so that one compilation
            serves all members of a family. None: a family of one.
        traced_knobs: the values with which `experiment_of` returns `experiment` itself.
        gradient_norms: whether every step also measures the sizes of its gradients and updates.
        skip_nonfinite: whether steps whose loss or gradients are not finite are left out.
        remat: what the backward pass computes again, or fetches from the host (remat.MODES); a UsageError where the devices
            cannot do it.
    """
    check_remat(remat, strategy.devices)
    resident, first = _first_batch(experiment.data)
    init, steps, measure = functions(experiment_of or (lambda _: experiment), precision=precision)
    of_batch = functools.partial(_batch_statistics, experiment_of or (lambda _: experiment), precision)
    host = as_arrays(traced_knobs or {})
    options = {"gradient_norms": gradient_norms, "skip_nonfinite": skip_nonfinite, "remat": remat}
    phase_steps = [functools.partial(steps, turns=phase.turns, **options) for phase in phases(experiment)]

    def snapshot(params: Params, model_state: PyTree, batch: Batch, traced_knobs: TracedKnobs) -> dict[str, Array]:
        task = (experiment_of(traced_knobs) if experiment_of else experiment).task
        return task.snapshot(params, model_state, batch, jax.random.key(0)) if task.snapshot else {}

    # XLA:CPU compiles the truncated normals of eight kernels in 9 s at its default level and in 0.8 s at level 1, and the
    # numbers are the same to the bit.
    quickly = {"xla_backend_optimization_level": 1} if strategy.devices[0].platform == "cpu" else None
    compiled = functools.partial(strategy.compile_steps, options=compiler_options(remat, strategy.devices))
    compiled_init, compiled_measure = jax.jit(init, compiler_options=quickly), strategy.compile_measure(measure)
    return Program(
        experiment=experiment,
        strategy=strategy,
        shapes=jax.eval_shape(init, np.uint32(0), (host, resident), first),
        compiled_init=lambda seed, traced_knobs: compiled_init(seed, (traced_knobs, resident), first),
        phase_steps=tuple(compiled(phase) for phase in phase_steps),
        batched_phase_steps=tuple(compiled(jax.vmap(phase, in_axes=(0, (0, None), 2))) for phase in phase_steps),
        measure=compiled_measure,
        final=strategy.compile_measure(functools.partial(measure, final=True))
        if experiment.task.measure_final
        else compiled_measure,
        batch_statistics=strategy.compile_measure(of_batch),
        compiled_snapshot=jax.jit(snapshot),
        resident=_replicated(experiment.data.resident, strategy),
        traced_knobs=host,
        remat=remat,
    )


def _first_batch(data: Dataset) -> tuple[PyTree, Feed]:
    """Returns the resident arrays of training and its first feed.

    The batch is prepared over shapes alone: what its variations refuse is refused before anything is compiled or written.
    """
    resident, first = data.resident.get("train", {}), next(data.train(0, 0))
    jax.eval_shape(data.prepare, resident, first, jax.eval_shape(lambda: jax.random.key(0)))
    return resident, first


def _replicated(resident: Mapping[str, PyTree], strategy: Strategy) -> dict[str, PyTree]:
    """Returns the resident arrays by split on the devices; those that two splits share are placed once."""
    arrays = {id(leaf): leaf for leaf in jax.tree.leaves(dict(resident))}
    placed = {key: strategy.replicate(leaf) for key, leaf in arrays.items()}
    return jax.tree.map(lambda leaf: placed[id(leaf)], dict(resident))


def functions(
    experiment_of: Callable[[TracedKnobs], Experiment], *, precision: str
) -> tuple[Callable[..., TrainState], Callable[..., tuple[TrainState, Stats]], Callable[..., Stats]]:
    """Returns (init, steps, measure) of a family, not compiled; `shared` is (traced_knobs, resident arrays of the split).

    init(seed, shared, feed) -> host-like state, steps(state, shared, feeds [k, B, …], turns=…, …) -> (state, stats [k]),
    measure(params, model_state, shared, feeds [1, B, …], final=…) -> stats.
    """

    def init(seed: Array, shared: PyTree, feed: PyTree) -> TrainState:
        traced_knobs, resident = shared
        experiment = experiment_of(traced_knobs)
        state = init_state(experiment, seed, experiment.data.prepare(resident, feed, None), precision=precision)
        return dataclasses.replace(state, key=jax.random.key_data(state.key))

    def steps(state: TrainState, shared: PyTree, feeds: PyTree, **options: Any) -> tuple[TrainState, Stats]:
        traced_knobs, resident = shared
        step = make_train_step(experiment_of(traced_knobs), precision=precision, **options)
        return make_steps(step)(state, resident, feeds)

    def measure(params: Params, model_state: PyTree, shared: PyTree, feeds: PyTree, *, final: bool = False) -> Stats:
        # A measurement is given one feed as a dispatch of one step, [1, B, …] -> [B, …]
        (traced_knobs, resident), feed, cast = shared, jax.tree.map(lambda leaf: leaf[0], feeds), computing_in(precision)
        experiment = experiment_of(traced_knobs)
        task, batch = experiment.task, cast_batch(experiment.data, cast, experiment.data.prepare(resident, feed, None))
        stats = task.measure(cast(params), model_state, batch)
        if final and task.measure_final:
            more = task.measure_final(cast(params), model_state, batch)
            stats = {kind: {**stats[kind], **more[kind]} for kind in stats}
        sums = jax.tree.map(lambda leaf: leaf[None], collectives.global_sum(stats["sums"]))  # […] -> [1, …], as of one step
        return {"sums": sums, "rows": stats["rows"]}

    return init, steps, measure


def _batch_statistics(
    experiment_of: Callable[[TracedKnobs], Experiment],
    precision: str,
    params: Params,
    model_state: PyTree,
    step_key: tuple[Array, Array],
    shared: PyTree,
    feeds: PyTree,
) -> Stats:
    """Returns the sums of averages.statistics_of_batch for the batch [1, B, …] of a step; see Program.batch_statistics."""
    (traced_knobs, resident), feed = shared, jax.tree.map(lambda leaf: leaf[0], feeds)  # [1, B, …] -> [B, …]
    experiment, key = experiment_of(traced_knobs), jax.random.fold_in(*step_key)
    return averages.statistics_of_batch(experiment, computing_in(precision), (params, model_state), key, resident, feed)


def as_arrays(traced_knobs: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Returns the values as f32 []."""
    return {path: np.asarray(value, np.float32) for path, value in traced_knobs.items()}


def _with_given(host: TrainState, params: Params, model_state: PyTree) -> TrainState:
    """Returns a fresh host state with the leaves that `Experiment.start` gives in place of its own."""

    def chosen(given: Any, fresh: np.ndarray) -> np.ndarray:
        return fresh if isinstance(given, jax.ShapeDtypeStruct) else np.asarray(given, fresh.dtype)

    params = jax.tree.map(chosen, params, host.params)
    model_state = jax.tree.map(chosen, model_state, host.model_state)
    statistics = averages.batch_statistics(model_state) if host.average else {}
    average = params if host.average else {}
    return dataclasses.replace(host, params=params, model_state=model_state, average=average, average_statistics=statistics)


def stack_steps(feeds: list[Feed]) -> Feed:
    """Returns k feeds [B, …] as one feed [k, B, …]."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *feeds)  # k of [B, …] -> [k, B, …]
