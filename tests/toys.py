"""Tiny data and games that the tests of the loop share. No image, no network: what is tested is how they are trained."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.core import Batch, Dataset, Experiment, Feed, Phase, Rows, Stats, Task, TrainState
from cnnlab.data.kinds import Image, Label
from cnnlab.engine import train
from cnnlab.engine.batched import batch_programs, stack_members
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.engine.skipping import LeftOut
from cnnlab.inputs import InputSpec
from cnnlab.metric import Metric
from cnnlab.ops import collectives
from cnnlab.ops.averaging import ema, swa

POINTS = np.random.default_rng(0).normal(3.0, 1.0, size=(96, 4)).astype(np.float32)


def compiled(task: Task) -> Task:
    """The task with its functions compiled, as in training: one operation after another takes a test several times as long."""
    draws = task.sampler and dataclasses.replace(
        task.sampler,
        **{
            field.name: jax.jit(value)
            for field in dataclasses.fields(task.sampler)
            if callable(value := getattr(task.sampler, field.name))
        },
    )
    return dataclasses.replace(
        task,
        init=jax.jit(task.init),
        loss=jax.jit(task.loss, static_argnums=4),
        measure=jax.jit(task.measure),
        measure_final=task.measure_final and jax.jit(task.measure_final),
        sampler=draws,
    )


def points(batch_size: int = 16) -> Dataset:
    """96 points in four dimensions, their parity as label, resident on the device; noise as augmentation."""
    labels = (np.arange(96) % 2).astype(np.int32)
    arrays = {
        "train": (POINTS[:64], labels[:64]),
        "validation": (POINTS[64:80], labels[64:80]),
        "test": (POINTS[80:], labels[80:]),
    }

    def train(seed: int, step: int, *, rows: Rows = np.arange) -> Iterator[Feed]:
        while True:
            order = np.random.default_rng([seed, step]).permutation(64)[:batch_size]
            yield {"index": order[rows(batch_size)].astype(np.int32)}
            step += 1

    def evaluate(split: str, size: int, *, rows: Rows = np.arange) -> Iterator[Feed]:
        count = len(arrays[split][1])
        for start in range(0, count, size):
            index = start + rows(size)
            yield {"index": (index % count).astype(np.int32), "mask": index < count}

    def prepare(inputs: InputSpec, resident: Any, feed: Mapping[str, jax.Array], key: jax.Array | None) -> Batch:
        found = resident or feed
        image, label = (found[name][feed["index"]] if resident else found[name] for name in ("image", "label"))
        if key is not None:
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, feed["index"])
            image = image + 0.1 * jax.vmap(lambda k: jax.random.normal(k, (4,)))(keys)
        mask = feed.get("mask", jnp.ones(label.shape, bool))
        return {"image": image, "label": label, "index": feed["index"], "mask": mask}

    return Dataset(
        name="points",
        inputs=InputSpec((1, 1, 4), "float32", np.zeros(1, np.float32), np.ones(1, np.float32), ("even", "odd")),
        kinds={"image": Image(), "label": Label(("even", "odd"))},
        stored={"image": jax.ShapeDtypeStruct((4,), np.float32), "label": jax.ShapeDtypeStruct((), np.int32)},
        sizes={split: len(y) for split, (_, y) in arrays.items()},
        batch_size=batch_size,
        train=train,
        evaluate=evaluate,
        resident={split: {"image": x, "label": y} for split, (x, y) in arrays.items()},
        preparation=prepare,
        images=lambda split, index: arrays[split][0][index].reshape(-1, 1, 1, 4),
        fingerprint="points",
    )


def pursuit(turns: tuple[str, ...] = ("scout", "scout", "hunter")) -> Task:
    """Two players: the scout follows the mean of the data, the hunter follows the scout at twice the place.

    A third group of parameters, `rock`, never moves. Where both stand still: scout = mean, hunter = 2 · scout.
    """

    def init(key: jax.Array, batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
        start = jax.random.normal(key, (4,))
        return {"scout": {"at": start}, "hunter": {"at": -start}, "rock": {"at": start}}, {"seen": jnp.zeros((), jnp.float32)}

    def loss(params: Any, model_state: Any, batch: Batch, key: jax.Array, player: str) -> Any:
        at = params[player]["at"]
        if player == "scout":
            noise = 0.01 * jax.vmap(lambda k: jax.random.normal(k, (4,), at.dtype))(
                collectives.example_keys(key, len(batch["label"]))
            )
            each = jnp.sum((batch["image"] + noise - at[None]) ** 2, axis=-1)
        else:
            each = jnp.broadcast_to(jnp.sum((2 * jax.lax.stop_gradient(params["scout"]["at"]) - at) ** 2), batch["label"].shape)
        each = each.astype(jnp.float32)
        seen = model_state["seen"] + collectives.global_sum(jnp.float32(len(each)))
        count = jnp.float32(len(each))
        return each.mean(), ({"seen": seen}, {"sums": {f"{player}_loss": each.sum(), f"{player}_count": count}})

    def predict(params: Any, model_state: Any, inputs: jax.Array) -> jax.Array:
        return inputs - params["scout"]["at"][None]

    def measure(params: Any, model_state: Any, batch: Batch) -> Any:
        each = jnp.sum(predict(params, model_state, batch["image"]).astype(jnp.float32) ** 2, axis=-1)
        count = jnp.sum(batch["mask"]).astype(jnp.float32)
        sums = {"scout_loss": jnp.sum(jnp.where(batch["mask"], each, 0.0)), "scout_count": count}
        return {"sums": sums, "rows": {"distance": each, "index": batch["index"], "mask": batch["mask"]}}

    def summary(stats: Any) -> dict[str, float]:
        sums = stats["sums"]
        players = [name.removesuffix("_loss") for name in sums if name.endswith("_loss")]
        return {f"{player}_loss": float(sums[f"{player}_loss"] / sums[f"{player}_count"]) for player in players}

    return Task(
        init=init,
        loss=loss,
        predict=predict,
        measure=measure,
        summary=summary,
        figures=lambda params, model_state, stats, data, split: {},
        turns=turns,
        metrics=(Metric("scout_loss", higher_is_better=False), Metric("hunter_loss", higher_is_better=False)),
        logged_metrics=(),
    )


def chase(*, lr: float = 0.05, steps: int = 40, batch_size: int = 16, average_decay: float = 0.9) -> Experiment:
    """The pursuit as an experiment, with momentum for the one player and Adam for the other."""
    optimizers = {"scout": optax.sgd(lr, momentum=0.5), "hunter": optax.adam(2 * lr)}
    return Experiment(pursuit(), points(batch_size), optimizers, steps, ema(steps, average_decay=average_decay))


def with_bad_steps(experiment: Experiment, bad: Mapping[int, float]) -> Experiment:
    """The experiment with data whose batches of some steps hold an example that is not finite; its player is the scout."""
    data = experiment.data

    def train(seed: int, step: int, *, rows: Rows = np.arange) -> Iterator[Feed]:
        for number, feed in enumerate(data.train(seed, step, rows=rows), step):
            factor = np.ones(data.batch_size, np.float32)
            factor[-1] = bad.get(number, 1.0)
            yield {**feed, "factor": factor[rows(data.batch_size)]}

    def prepare(inputs: Any, resident: Any, feed: Mapping[str, jax.Array], key: jax.Array | None) -> Batch:
        rest = {name: value for name, value in feed.items() if name != "factor"}
        batch = data.preparation(inputs, resident, rest, key)
        return {**batch, "image": batch["image"] * feed["factor"][:, None]} if "factor" in feed else batch

    changed = dataclasses.replace(data, train=train, preparation=prepare)
    return dataclasses.replace(experiment, data=changed)


def weighted(task: Task) -> Task:
    """The pursuit with a scout whose loss is a weighted mean: two of seven points count, whatever device they lie on."""

    def loss(params: Any, model_state: Any, batch: Batch, key: jax.Array, player: str) -> Any:
        value, (model_state, stats) = task.loss(params, model_state, batch, key, player)
        if player == "scout":
            each = jnp.sum((batch["image"] - params["scout"]["at"][None]) ** 2, axis=-1).astype(jnp.float32)
            weights = (batch["index"] % 7 < 2).astype(jnp.float32)
            value = collectives.weighted_mean(each, weights)
            stats = {"sums": {"scout_loss": jnp.sum(each * weights), "scout_count": jnp.sum(weights)}}
        return value, (model_state, stats)

    return dataclasses.replace(task, loss=loss)


def moved(state: TrainState, batch: Batch) -> TrainState:
    """Puts the scout onto the mean of the batch and the hunter to where the rock is."""
    params = {**state.params, "scout": {"at": batch["image"].mean(axis=0)}, "hunter": {"at": state.params["rock"]["at"] + 1}}
    return dataclasses.replace(state, params=params)


def surgery(*, steps: int = 9, border: int = 6, batch_size: int = 24) -> Experiment:
    """Two phases, both of which begin with `moved`; weighted losses, a rate that falls on plateaus, and averaged weights."""
    reduced = optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=0.4, accumulation_size=2)
    optimizers = {"scout": optax.chain(optax.sgd(0.05, momentum=0.5), reduced), "hunter": optax.adam(0.1)}
    phases = (Phase(border, ("scout",), begin=moved), Phase(steps - border, ("hunter", "scout"), begin=moved))
    task, averaging = weighted(pursuit(("scout", "hunter"))), swa(steps, average_from=0.4)
    return Experiment(task, points(batch_size), optimizers, steps, averaging, phases=phases)


INTERVALS = train.Intervals(log=5, evaluate=10, save=10)


def run(
    experiment: Experiment,
    *,
    strategy: str = "jit",
    devices: int = 1,
    seed: int = 0,
    precision: str = "f32",
    program: Program | None = None,
    **how: Any,
):
    """(host state, step, {step: train numbers}, {step: (host state, pending_stats)}) of a run of `fit`.

    program: the experiment compiled already, for its own strategy and precision.
    """
    program = program or build_program(experiment, STRATEGIES[strategy](pick_devices(devices)), precision=precision)
    logged: dict[int, dict[str, float]] = {}
    saved: dict[int, tuple[TrainState, list[Stats]]] = {}

    def on_log(step: int, parts: list[Stats]) -> None:
        left_out, kept = LeftOut().after(parts)  # of a program that leaves no step out, all are kept
        numbers = experiment.task.summary(train.merge(kept)) if kept else {}
        logged[step] = numbers | ({"left_out": left_out.total} if left_out.total else {})

    def on_save(step: int, state: TrainState, pending_stats: list[Stats]) -> None:
        merged = [train.as_part(train.merge(jax.device_get(pending_stats)))] if pending_stats else []
        saved[step] = (program.strategy.to_host(state), merged)

    start, pending_stats, step = how.pop("resume", (None, [], 0))
    state, step = train.fit(
        program,
        program.init(seed) if start is None else program.strategy.to_devices(start),
        seed=seed,
        step=step,
        stop=how.pop("stop", experiment.steps),
        intervals=how.pop("intervals", INTERVALS),
        pending_stats=list(pending_stats),
        on_log=on_log,
        on_evaluate=lambda step, state: None,
        on_save=on_save,
        should_stop=how.pop("should_stop", lambda: False),
    )
    return program.strategy.to_host(state), step, logged, saved


def two_batched(program: Program, *, intervals: train.Intervals) -> TrainState:
    """The state [M, ...] of seeds 0 and 1, trained to the end in one batched program."""
    state, _ = train.fit(
        batch_programs([program] * 2),
        stack_members([program.init(seed) for seed in (0, 1)]),
        seed=(0, 1),
        step=0,
        stop=program.experiment.steps,
        intervals=intervals,
        pending_stats=[],
        on_log=lambda step, parts: None,
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, pending: None,
        should_stop=lambda: False,
    )
    return state


def gap(a: Any, b: Any) -> float:
    """Largest absolute difference over the leaves of two states; infinity where only one of two numbers is finite."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(_difference(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs)


def _difference(x: np.ndarray, y: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        distances = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    return float(np.max(np.where(np.isnan(distances), np.inf, distances), initial=0.0))
