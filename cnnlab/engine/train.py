"""The loop and the evaluation: one of each, for every task, strategy and number of players.

Nothing here reads or writes files: `fit` calls back when it is time to log, evaluate or save (runs/recorder.py).

Letters in shapes: B examples of a batch, k steps, K classes, M members (batched runs).
"""

import collections
import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Batch, Dataset, Feed, PyTree, Stats, TrainState
from cnnlab.engine import processes
from cnnlab.engine.averages import evaluated
from cnnlab.engine.batch_statistics import with_recomputed
from cnnlab.engine.clock import StepClock
from cnnlab.engine.program import Program, stack_steps
from cnnlab.engine.surgery import begin_phase, end_training
from cnnlab.errors import DataError, Preempted

EVALUATION_BATCH = 250
"""Largest number of examples measured at once; on a CPU larger batches do not fit into the cache."""

EVALUATION_BYTES = 2**28
"""Largest size of the examples measured at once, in bytes as the network takes them: 256 MiB hold 250 images of 299x299x3."""

IN_FLIGHT = 8
"""Number of dispatches that may be unfinished. Without a limit, forced CPU devices deadlock and the host runs far ahead of a
SIGTERM."""


def merge(parts: Sequence[Stats]) -> Stats:
    """Merges fetched statistics: sums add in f64, rows concatenate, rows whose `mask` is False are dropped.

    Each leaf of the sums is [k, …], one for each of k steps (1 of a measured batch): it is added over this first axis alone and
    over the parts that have it (players differ by phase), so that a confusion matrix [k, K, K] stays a matrix [K, K].
    """
    names = dict.fromkeys(name for part in parts for name in part["sums"])
    sums = {
        name: sum(np.asarray(part["sums"][name], np.float64).sum(axis=0) for part in parts if name in part["sums"])
        for name in names
    }
    # Parts of [B, …] -> [N, …], the examples of the whole split; rows that later parts lack are those of the first ones
    rows = {
        name: np.concatenate([np.asarray(part["rows"][name]) for part in parts if name in part["rows"]])
        for name in (parts[0]["rows"] if parts else {})
    }
    if "mask" in rows:
        real = rows.pop("mask")
        rows = {name: values[real[: len(values)]] for name, values in rows.items()}
    return {"sums": sums, "rows": rows}


def as_part(merged: Stats) -> Stats:
    """Returns merged statistics as a part that can be merged with later ones: every sum […] becomes [1, …]."""
    return {"sums": {name: np.asarray(value)[None] for name, value in merged["sums"].items()}, "rows": merged["rows"]}


def snapshot_batch(data: Dataset, count: int) -> Batch:
    """Returns the first `count` held-out examples, as a batch of NumPy arrays for `Program.snapshot`.

    They are those of the validation split, else of the test split; of the training split where nothing is held out.
    """
    split = "validation" if "validation" in data.sizes else data.report_split
    feed = next(data.evaluate(split, min(count, data.sizes[split])))
    return jax.tree.map(np.asarray, data.prepare(data.resident.get(split, {}), jax.tree.map(jnp.asarray, feed), None))


def evaluation_batch(data: Dataset) -> int:
    """Returns the number of examples that are measured at once: EVALUATION_BATCH, or as many as EVALUATION_BYTES hold."""
    each = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(data.example()))
    return max(1, min(EVALUATION_BATCH, EVALUATION_BYTES // each))


def evaluate(
    program: Program,
    state: TrainState,
    split: str,
    *,
    final: bool = False,
    batch_size: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Stats:
    """Returns the merged statistics of one pass over a split, with the averages where there are any.

    Raises Preempted between two batches where `should_stop()` returns true.

    Args:
        program: compiled experiment.
        state: state on the devices.
        split: name of the split.
        final: whether to add the statistics that the task measures at the end of a run alone.
        batch_size: number of examples that are measured at once; None: `evaluation_batch`.
        should_stop: whether a signal asked the process to end.
        on_batch: is called with (batches done, batches in all) before the first batch, which may compile, and after each.
    """
    count = len(program.strategy.devices)
    data = program.experiment.data
    # Rounded up to a multiple of the devices: what is too much is padding, which `merge` drops.
    batch_size = -(-min(batch_size or evaluation_batch(data), data.sizes[split]) // count) * count
    (params, model_state), shared = evaluated(state), program.step_inputs(split)
    measure, first = program.final if final else program.measure, program.experiment.task.first_rows
    parts: list[Stats] = []
    total = -(-data.sizes[split] // batch_size)
    on_batch(0, total)
    for feed in data.for_process(program.strategy.rows).evaluate(split, batch_size):
        if should_stop():
            raise Preempted(f"stopped by a signal while the {split} split was measured. The same command measures it again.")
        placed = program.strategy.shard_batch(stack_steps([feed]))
        stats, seen = measure(params, model_state, shared, placed), len(parts) * batch_size
        rows = {name: values for name, values in stats["rows"].items() if seen < first.get(name, seen + 1)}
        parts.append(jax.device_get({"sums": stats["sums"], "rows": rows}))
        on_batch(len(parts), total)
    merged = merge(parts)
    return {**merged, "rows": {name: values[: first.get(name)] for name, values in merged["rows"].items()}}


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Numbers of steps between logs, evaluations and checkpoints, and the most steps sent to the device at once."""

    log: int
    evaluate: int
    save: int
    steps_per_dispatch: int = 1

    @property
    def callbacks(self) -> tuple[int, int, int]:
        """Returns the steps between logs, evaluations and checkpoints, in the order in which they are called back."""
        return self.log, self.evaluate, self.save

    def due(self, step: int, last: int) -> tuple[bool, bool, bool]:
        """Returns whether to log, to evaluate and to save after a step; all three come after the last one."""
        log, evaluate, save = (step == last or step % every == 0 for every in self.callbacks)
        return log, evaluate, save


def fit(
    program: Program,
    state: TrainState,
    *,
    seed: int | tuple[int, ...],
    step: int,
    stop: int,
    intervals: Intervals,
    pending_stats: list[Stats],
    on_log: Callable[[int, list[Stats]], None],
    on_evaluate: Callable[[int, TrainState], None],
    on_save: Callable[[int, TrainState, list[Stats]], None],
    should_stop: Callable[[], bool],
    clock: StepClock | None = None,
) -> tuple[TrainState, int]:
    """Trains from `step` to `stop` (at most `experiment.steps`), or until `should_stop()`; returns (state, the step reached).

    For batched runs (batch_programs), `seed` has one for each, and state and statistics have a leading axis of members.

    Callbacks come after the step whose number they get, in the order log, evaluate, save. `pending_stats` holds the statistics
    since the last log; a checkpoint keeps them for the log of a resumed run. `clock` gets the seconds of compilation and of
    steps. An error of the data is raised after a checkpoint of the steps before it.
    """
    clock, first, last = clock or StepClock(), step, program.experiment.steps
    feeds = program.experiment.data.for_process(program.strategy.rows).train(seed, step)  # batched runs take a tuple of seeds
    shared, in_flight = program.step_inputs("train"), collections.deque[Stats]()
    state = state if last else end_training(program, state, seed=seed, step=step)  # without steps
    while step < stop and not should_stop():
        steps, end = program.phase_at(step)
        size = _dispatch_size(step, min(stop, end), intervals)
        unsaved = functools.partial(on_save, step, state, pending_stats) if step > first and step % intervals.save else None
        with _saved_first(unsaved):
            placed = _fetch(program, feeds, size, clock, in_flight)
        state = begin_phase(program, state, seed=seed, step=step)  # after all that may save the state without its step
        began = time.perf_counter()
        state, stats = steps(state, shared, placed)
        step += size
        clock.dispatched((end, size), began, size, stats)
        pending_stats.append(stats)
        in_flight.append(stats)
        # The device works on while the next feeds are made; only the oldest dispatch is waited for.
        if len(in_flight) > IN_FLIGHT:
            jax.block_until_ready(in_flight.popleft())
        log, evaluation, save = intervals.due(step, last)
        if not (log or evaluation or save):
            continue
        jax.block_until_ready(stats)  # as a callback does in any case; what it takes is no time of steps
        clock.end_window()
        if log:
            on_log(step, jax.device_get(pending_stats))
            pending_stats.clear()
        state = _finished(program, state, seed=seed, step=step) if evaluation or save else state
        if evaluation:
            with _saved_first(functools.partial(on_save, step, state, pending_stats)):
                on_evaluate(step, state)
        if save:
            on_save(step, state, pending_stats)
        clock.begin_window()
    has_statistics = any(intervals.due(step, last)[1:])  # those of the averaged weights of this step
    return state if has_statistics else with_recomputed(program, state, seed=seed), step


def _finished(program: Program, state: TrainState, *, seed: int | tuple[int, ...], step: int) -> TrainState:
    """Returns a state as it is measured and saved after a step: with statistics of its averages, and ended after the last."""
    return end_training(program, with_recomputed(program, state, seed=seed), seed=seed, step=step)


@contextlib.contextmanager
def _saved_first(save: Callable[[], None] | None) -> Iterator[None]:
    """Calls `save`, where there is something to save, before an error of the data leaves the block, such as a lost file.

    One of several processes saves nothing: the others do not know of its error, and a state is fetched by all together.
    """
    try:
        yield
    except (DataError, OSError):
        if save and processes.count() == 1:
            save()
        raise


def _fetch(program: Program, feeds: Iterator[Feed], count: int, clock: StepClock, in_flight: Sequence[Stats]) -> PyTree:
    """Returns the next feeds on the devices; what is waited for those of a streamed split counts."""
    began = time.perf_counter()
    fetched = [next(feeds) for _ in range(count)]
    if not program.experiment.data.is_resident("train"):
        clock.fetched(began, in_flight[-1] if in_flight else None)
    return program.strategy.shard_batch(stack_steps(fetched))


def _dispatch_size(step: int, stop: int, intervals: Intervals) -> int:
    """Returns the largest power of two of steps (few shapes to compile) that does not pass the next callback."""
    until = min(stop, *(step - step % every + every for every in intervals.callbacks)) - step
    return 1 << (min(until, intervals.steps_per_dispatch).bit_length() - 1)
