"""A batch taken in parts: the update of the whole batch where the loss is a mean, batch statistics of the parts in turn."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.core import Experiment
from cnnlab.data.pipeline import check_accumulate
from cnnlab.engine.parallel import STRATEGIES, check_batch, pick_devices
from cnnlab.engine.program import init_state, make_train_step
from cnnlab.errors import OutOfMemory, UsageError
from cnnlab.recipes.classification import classification
from cnnlab.runs.ways_on import saying_what_takes_memory
from tests.stages import slow_but
from tests.toys import INTERVALS, chase, run


def in_parts(experiment: Experiment, count: int) -> Experiment:
    """The experiment with batches in `count` parts."""
    return dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, accumulate=count))


def without_noise() -> Experiment:
    """The pursuit of two players with a scout whose loss is the plain mean over the examples."""
    whole = chase(steps=10)
    task = whole.task

    def loss(params: Any, model_state: Any, batch: Any, key: jax.Array, player: str) -> Any:
        value, (model_state, stats) = task.loss(params, model_state, batch, key, player)
        if player == "scout":
            each = jnp.sum((batch["image"] - params["scout"]["at"][None]) ** 2, axis=-1).astype(jnp.float32)
            value, stats = each.mean(), {"sums": {**stats["sums"], "scout_loss": each.sum()}}
        return value, (model_state, stats)

    return dataclasses.replace(whole, task=dataclasses.replace(task, loss=loss))


@functools.cache
def outcome(noise: bool, count: int, strategy: str, devices: int) -> tuple[Any, dict[int, dict[str, float]]]:
    """(parameters, model state and optimiser state; logged numbers) after ten steps of 16 examples in parts."""
    experiment = in_parts(chase(steps=10) if noise else without_noise(), count)
    state, _, logged, _ = run(experiment, strategy=strategy, devices=devices, intervals=INTERVALS)
    return (state.params, state.model_state, state.opt_state), logged


@pytest.mark.parametrize(
    ("count", "strategy", "devices"),
    slow_but([(2, "jit", 4), (4, "jit", 1), (4, "pmap", 4), (2, "fsdp", 8)], (2, "jit", 4)),
)
def test_parts_give_the_update_and_the_statistics_of_the_whole_batch(count: int, strategy: str, devices: int):
    (whole, logged), (parts, again) = outcome(False, 1, "jit", 1), outcome(False, count, strategy, devices)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6), whole, parts)
    assert again.keys() == logged.keys()
    for step, numbers in logged.items():
        assert again[step] == pytest.approx(numbers, rel=1e-6)


@pytest.mark.parametrize(("strategy", "devices"), slow_but([("pmap", 4), ("jit", 4)], ("pmap", 4)))
def test_the_noise_of_parts_does_not_depend_on_the_devices(strategy: str, devices: int):
    (alone, _), (shared, _) = outcome(True, 2, "jit", 1), outcome(True, 2, strategy, devices)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-6), alone, shared)


def test_one_part_has_no_loop():
    experiment = chase()
    resident, feed = experiment.data.resident["train"], next(experiment.data.train(0, 0))
    state = init_state(experiment, jnp.uint32(0), experiment.data.prepare(resident, feed, None))
    step = {
        count: str(jax.make_jaxpr(make_train_step(in_parts(experiment, count), precision="f32"))(state, resident, feed))
        for count in (1, 2)
    }
    assert "scan[" not in step[1] and step[2].count("scan[") == len(experiment.task.turns)


@pytest.mark.parametrize("precision", slow_but(["f32", "bf16"], "f32"))
def test_batch_statistics_are_those_of_the_parts_in_turn(precision: str):
    given = {"model": "mlp", "widths": (4,), "norm": "batch", "dataset": "digits", "batch_size": 12, "duration": "1 steps"}
    experiment = knobs.resolve(classification, {**given, "accumulate": 3}).call()
    data, task = experiment.data, experiment.task
    resident, feed = data.resident["train"], next(data.train(0, 0))
    batch = data.prepare(resident, feed, None)
    state = jax.jit(functools.partial(init_state, experiment))(np.uint32(0), batch)
    after, stats = jax.jit(make_train_step(experiment, precision=precision))(state, resident, feed)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((after.params, after.model_state)))
    loss, model_state, total = jax.jit(task.loss, static_argnums=4), state.model_state, 0.0
    for part in range(3):
        own = jax.tree.map(lambda leaf, part=part: leaf[part::3], batch)  # [12, …] -> [4, …]
        value, (model_state, _) = loss(state.params, model_state, own, jax.random.key(0), "classifier")
        total += float(value) / 3
    near = functools.partial(np.testing.assert_allclose, rtol=1e-5 if precision == "f32" else 0.05, atol=1e-5)
    if precision == "f32":
        jax.tree.map(near, after.model_state, model_state)
    near(stats["sums"]["loss"] / stats["sums"]["count"], total)


def test_parts_that_do_not_fit_are_refused_with_the_nearest():
    check_accumulate(64, 16)
    with pytest.raises(
        UsageError, match=r"=3: a batch of 64 has no 3 equal parts.\nTake --accumulate=2 or 4, or --batch_size=63 or 66"
    ):
        check_accumulate(64, 3)
    with pytest.raises(UsageError, match=r"Take --accumulate=8, or --batch_size=9\."):
        check_accumulate(8, 9)
    four = STRATEGIES["jit"](pick_devices(4))
    check_batch(64, four, 16)
    with pytest.raises(
        UsageError, match=r"--accumulate=8: each part, 6 of a batch of 48, cannot .* 4 devices\.\nTake --batch_size=32 or 64"
    ):
        check_batch(48, four, 8)
    assert knobs.resolve(classification, {"accumulate": "2"}).values["data.accumulate"] == 2


def test_memory_that_runs_out_names_what_a_device_held_and_the_flags():
    data = in_parts(chase(), 2).data
    with (
        pytest.raises(
            OutOfMemory, match=r"held 4 examples at a time on each device\. Lower it by --batch_size=8, or --accumulate=4\."
        ),
        saying_what_takes_memory(data, 2),
    ):
        raise MemoryError
    with pytest.raises(ValueError, match="a bug"), saying_what_takes_memory(data, 2):
        raise ValueError("a bug")
