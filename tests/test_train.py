"""One step and one loop for any number of players, on any number of devices."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys
from toys import INTERVALS, gap, run

from cnnlab.core import Batch, Feed, Phase, Stats, TrainState
from cnnlab.engine import train
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.in_memory import train_in_memory
from cnnlab.engine.parallel import STRATEGIES, check_batch, fsdp_bytes, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.errors import DataError, UsageError
from cnnlab.ops.trees import named_leaves
from cnnlab.runs.trained_function import kept_rows

CHASE = toys.chase()


@functools.cache
def program(strategy: str = "jit", devices: int = 1, precision: str = "f32") -> Program:
    """The pursuit, compiled once for all tests."""
    return build_program(CHASE, STRATEGIES[strategy](pick_devices(devices)), precision=precision)


def chased(strategy: str = "jit", devices: int = 1, precision: str = "f32", **how: Any) -> Any:
    """What `run` gives of the pursuit."""
    return run(CHASE, program=program(strategy, devices, precision), **how)


@functools.cache
def whole_chase() -> Any:
    """The reference run."""
    return chased()


def test_two_players_reach_the_equilibrium_and_the_third_never_moves():
    experiment = toys.chase(steps=1000, lr=0.02)
    state, step, logged, _ = run(experiment)
    scout, hunter = state.params["scout"]["at"], state.params["hunter"]["at"]
    assert step == 1000 and state.step == 1000
    np.testing.assert_allclose(scout, toys.POINTS[:64].mean(0), atol=0.15)
    np.testing.assert_allclose(hunter, 2 * scout, atol=0.3)
    np.testing.assert_array_equal(state.params["rock"]["at"], run(experiment, stop=0)[0].params["rock"]["at"])
    assert set(state.opt_state) == {"scout", "hunter"} and logged[1000]["hunter_loss"] < logged[5]["hunter_loss"] / 100


def test_training_in_memory_gives_the_numbers_of_a_run_and_its_states_at_chosen_steps():
    state, step, logged, saved = whole_chase()
    found = train_in_memory(program(), 0, at=(0, 10), log_every=INTERVALS.log)
    assert found.logged == logged and list(found.states) == [0, 10, step]
    assert gap(found.states[step], state) == 0 and gap(found.states[10], saved[10][0]) == 0
    assert gap(found.states[0], program().strategy.to_host(program().init(0))) == 0


def test_turns_count_k_steps_of_one_player_to_one_of_the_other():
    state, *_ = run(toys.chase(steps=3))
    assert int(state.opt_state["hunter"][0].count) == 3
    assert state.model_state["seen"] == 3 * 3 * 16  # three turns a step, sixteen examples a turn


def test_one_step_of_one_player_equals_plain_optax():
    experiment = dataclasses.replace(toys.chase(steps=1, average_decay=0.0), task=toys.pursuit(turns=("hunter",)))
    before, *_ = run(experiment, stop=0)
    after, *_ = run(experiment)
    target = 2 * before.params["scout"]["at"]
    gradient = 2 * (before.params["hunter"]["at"] - target)
    with jax.numpy_dtype_promotion("standard"):  # as optax wants it
        update, _ = optax.adam(0.1).update(jnp.asarray(gradient), optax.adam(0.1).init(jnp.zeros(4)))
    np.testing.assert_allclose(after.params["hunter"]["at"], before.params["hunter"]["at"] + np.asarray(update), rtol=1e-5)
    assert after.average == {}


def test_fsdp_splits_large_arrays_and_checkpoints_are_whole():
    strategy = STRATEGIES["fsdp"](pick_devices(8))
    state = chased(stop=0)[0]
    kernel = np.arange(64 * 48, dtype=np.float32).reshape(64, 48)
    placed = strategy.to_devices(dataclasses.replace(state, params={"scout": {"kernel": kernel}}))
    assert {shard.data.shape for shard in placed.params["scout"]["kernel"].addressable_shards} == {(8, 48)}
    np.testing.assert_array_equal(strategy.to_host(placed).params["scout"]["kernel"], kernel)
    assert fsdp_bytes(placed.params, 8) == (64 * 48 * 4 // 8, 0) and fsdp_bytes(state.params, 8) == (0, 3 * 4 * 4)


@pytest.mark.parametrize("strategy", ["jit", "pmap", "fsdp"])
def test_a_state_saved_on_four_devices_goes_on_alone_on_one(strategy: str):
    whole, *_ = whole_chase()
    saved = chased(strategy, 4)[3]
    state, _, _, _ = chased(resume=(*saved[20], 20))
    assert gap(whole, state) < 2e-5


def test_a_stop_between_two_logs_loses_no_statistics():
    whole, _, curve, _ = whole_chase()
    kept: dict[str, Any] = {}

    def on_stop(step: int) -> bool:
        return step >= 13

    program_steps: list[int] = []

    def should_stop() -> bool:
        program_steps.append(1)
        return on_stop(len(program_steps) - 1)

    recent: list[Stats] = []
    state, step = train.fit(
        program(),
        program().init(0),
        seed=0,
        step=0,
        stop=40,
        intervals=INTERVALS,
        pending_stats=recent,
        on_log=lambda step, stats: None,
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, recent: None,
        should_stop=should_stop,
    )
    assert step == 13 and len(recent) == 3
    kept = train.merge(jax.device_get(recent))
    resumed, _, rest, _ = chased(resume=(program().strategy.to_host(state), [train.as_part(kept)], 13))
    assert tree_digest(resumed) == tree_digest(whole) and rest == {
        step: numbers for step, numbers in curve.items() if step > 13
    }


def test_an_error_of_the_data_is_raised_after_a_checkpoint_of_the_steps_before_it():
    whole, broken = program(), []

    def feeds(seed: int, step: int) -> Iterator[Feed]:
        yield from itertools.islice(CHASE.data.train(seed, step), 7 - step)
        broken.append(step)
        raise DataError("cat/7.png changed since it was checked")

    data = dataclasses.replace(CHASE.data, train=feeds)
    saved: dict[int, TrainState] = {}
    with pytest.raises(DataError, match=r"cat/7\.png"):
        train.fit(
            dataclasses.replace(whole, experiment=dataclasses.replace(CHASE, data=data)),
            whole.init(0),
            seed=0,
            step=0,
            stop=CHASE.steps,
            intervals=INTERVALS,
            pending_stats=[],
            on_log=lambda step, parts: None,
            on_evaluate=lambda step, state: None,
            on_save=lambda step, state, pending_stats: saved.update({step: whole.strategy.to_host(state)}),
            should_stop=lambda: False,
        )
    assert broken == [0] and max(saved) == 7
    assert gap(saved[7], chased(stop=7)[0]) == 0


@pytest.mark.parametrize("dispatch", [2, 8, 32])
def test_several_steps_in_one_dispatch_change_nothing(dispatch: int):
    whole, _, curve, _ = whole_chase()
    intervals = train.Intervals(log=5, evaluate=20, save=20, steps_per_dispatch=dispatch)
    state, _, other, _ = chased(intervals=intervals)
    assert gap(whole, state) < 1e-5 and other.keys() == curve.keys()
    assert other[40] == pytest.approx(curve[40], rel=1e-4)


def test_seeds_differ_and_repeat():
    first, again, other = (chased(seed=seed)[0] for seed in (1, 1, 2))
    assert tree_digest(first) == tree_digest(again) != tree_digest(other)


def test_bf16_computes_in_bf16_and_keeps_everything_else_in_f32():
    state, *_ = chased(precision="bf16")
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.average, state.model_state))} == {np.dtype("float32")}
    full, *_ = whole_chase()
    assert 0 < gap(full, state) < 0.1


def test_the_average_is_what_is_evaluated():
    experiment = toys.chase(average_decay=0.99)
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state = program.init(0)
    moved = dataclasses.replace(state, average=jax.tree.map(lambda leaf: leaf + 1.0, state.average))
    plain, shifted = (experiment.task.summary(train.evaluate(program, s, "test")) for s in (state, moved))
    assert plain != shifted


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_counts_every_example_once_whatever_the_padding(
    strategy: str, devices: int, monkeypatch: pytest.MonkeyPatch
):
    built = program(strategy, devices)
    state = built.init(0)
    scout = built.strategy.to_host(state).average["scout"]["at"]
    expected = ((toys.POINTS[80:] - scout) ** 2).sum(1)
    for size in (3, 5, 16, 250):
        monkeypatch.setattr(train, "EVALUATION_BATCH", size)
        stats = train.evaluate(built, state, "test")
        assert stats["sums"]["scout_count"] == 16
        np.testing.assert_array_equal(np.sort(stats["rows"]["index"]), np.arange(16))
        np.testing.assert_allclose(stats["rows"]["distance"], expected[stats["rows"]["index"]], rtol=1e-5)


def test_rows_for_figures_are_those_of_the_first_examples():
    built = program()
    task = dataclasses.replace(built.experiment.task, first_rows={"distance": 5})
    few = dataclasses.replace(built, experiment=dataclasses.replace(built.experiment, task=task))
    whole, stats = (train.evaluate(one, built.init(0), "test", batch_size=3) for one in (built, few))
    np.testing.assert_array_equal(stats["rows"]["distance"], whole["rows"]["distance"][:5])
    np.testing.assert_array_equal(stats["rows"]["index"], np.arange(16))
    assert "distance" in kept_rows(built.experiment, whole, "test") and list(kept_rows(few.experiment, stats, "test")) == [
        "index"
    ]


def test_large_examples_are_measured_in_smaller_batches():
    data = toys.points()
    for side, batch in [(28, 250), (299, 250), (600, 62), (20_000, 1)]:
        image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
        with mock.patch.object(type(data), "example", lambda _, image=image: {"image": image}):
            assert train.evaluation_batch(data) == batch


def test_a_batch_that_devices_cannot_split_is_refused_with_the_nearest():
    strategy = STRATEGIES["jit"](pick_devices(4))
    with pytest.raises(UsageError, match=r"130 cannot be split evenly over 4 devices\.\nTake --batch_size=128 or 132"):
        check_batch(130, strategy)
    with pytest.raises(UsageError, match=r"--devices=9: this process sees 8 cpu device"):
        pick_devices(9)


def test_leaf_paths_are_readable():
    assert "params/scout/at" in named_leaves(chased(stop=0)[0])


def pair(task: Any) -> Any:
    """The pursuit with a third player, who moves two groups of parameters towards 1."""

    def loss(params: Any, model_state: Any, batch: Any, key: Any, player: str) -> Any:
        if player != "pair":
            return task.loss(params, model_state, batch, key, player)
        each = sum(jnp.sum((params[group]["at"] - 1.0) ** 2) for group in ("hunter", "rock"))
        return each, (model_state, {"sums": {"pair_loss": each, "pair_count": jnp.float32(1)}, "rows": {}})

    return dataclasses.replace(task, loss=loss, param_groups={"pair": ("hunter", "rock")}, turns=("pair",))


def test_a_player_may_move_several_groups_with_one_optimiser():
    optimizers = {"pair": optax.sgd(0.25)}
    experiment = dataclasses.replace(toys.chase(steps=1, average_decay=0.0), task=pair(toys.pursuit()), optimizers=optimizers)
    before, *_ = run(experiment, stop=0)
    after, *_ = run(experiment)
    for group in ("hunter", "rock"):
        np.testing.assert_allclose(after.params[group]["at"], (before.params[group]["at"] + 1.0) / 2, rtol=1e-6)
    np.testing.assert_array_equal(after.params["scout"]["at"], before.params["scout"]["at"])


@functools.cache
def in_phases() -> Any:
    """Seven steps of the scout, then eight of the hunter and the scout, then five of the pair."""
    whole = toys.chase(steps=20)
    phases = (Phase(7, ("scout",)), Phase(8, ("hunter", "scout")), Phase(5, ("pair",)))
    optimizers = {**whole.optimizers, "pair": optax.adam(0.1)}
    return dataclasses.replace(whole, task=pair(whole.task), optimizers=optimizers, phases=phases)


@functools.cache
def phased_program() -> Program:
    """The sequence of games, compiled once for all tests."""
    return build_program(in_phases(), STRATEGIES["jit"](pick_devices(1)), precision="f32")


def played(**how: Any) -> Any:
    """What `run` gives of the sequence of games."""
    return run(in_phases(), program=phased_program(), **how)


def test_games_are_played_one_after_another():
    start, first, second, end = (played(stop=stop)[0] for stop in (0, 7, 15, 20))
    np.testing.assert_array_equal(first.params["hunter"]["at"], start.params["hunter"]["at"])
    np.testing.assert_array_equal(second.params["rock"]["at"], start.params["rock"]["at"])
    np.testing.assert_array_equal(end.params["scout"]["at"], second.params["scout"]["at"])
    assert not np.array_equal(end.params["rock"]["at"], start.params["rock"]["at"])
    assert int(end.opt_state["hunter"][0].count) == 8 and int(end.opt_state["pair"][0].count) == 5


@pytest.mark.parametrize("stop", [5, 7, 11, 15, 18])
def test_a_sequence_of_games_goes_on_at_any_step_as_if_it_had_never_stopped(stop: int):
    every_step = dataclasses.replace(INTERVALS, save=1, steps_per_dispatch=4)
    whole, _, curve, _ = played(intervals=every_step)
    _, _, _, saved = played(intervals=every_step, stop=stop)
    state, recent = saved[stop]
    again, _, rest, _ = played(intervals=every_step, resume=(state, recent, stop))
    assert tree_digest(again) == tree_digest(whole)
    assert rest == {step: numbers for step, numbers in curve.items() if step > stop}


@functools.cache
def operated() -> Any:
    """(program, what `run` gives) of a training with a surgery before its steps 0 and 6, saved after every step."""
    built = build_program(toys.surgery(), STRATEGIES["jit"](pick_devices(1)), precision="f32")
    return built, run(built.experiment, program=built, intervals=dataclasses.replace(INTERVALS, save=1))


@pytest.mark.parametrize("stop", [0, 5, 6, 7])
def test_a_surgery_happens_once_however_near_to_it_a_run_is_killed(stop: int):
    built, (whole, _, curve, _) = operated()
    often = dataclasses.replace(INTERVALS, save=1)
    begun, step, _, saved = run(built.experiment, program=built, intervals=often, stop=stop)
    resume = (*saved[stop], stop) if stop else (begun, [], 0)
    again, _, rest, _ = run(built.experiment, program=built, intervals=often, resume=resume)
    assert step == stop and tree_digest(again) == tree_digest(whole)
    assert rest == {step: numbers for step, numbers in curve.items() if step > stop}


def test_a_surgery_gets_the_state_before_its_step_and_the_batch_of_that_step():
    built, (_, _, _, saved) = operated()
    seen = []

    def keep(state: TrainState, batch: Batch) -> TrainState:
        seen.append((state, batch))
        return toys.moved(state, batch)

    experiment = built.experiment
    kept = tuple(dataclasses.replace(phase, begin=keep) for phase in experiment.phases)
    program = dataclasses.replace(built, experiment=dataclasses.replace(experiment, phases=kept))
    run(experiment, program=program, stop=8)
    (first, _), (state, batch) = seen
    assert (first.step, state.step) == (0, 6) and tree_digest(state) == tree_digest(saved[6][0])
    feed = next(experiment.data.train(0, 6))
    np.testing.assert_array_equal(batch["index"], feed["index"])
    plain = toys.POINTS[feed["index"]]
    assert 0.05 < np.abs(batch["image"] - plain).mean() < 0.15  # augmented, as in the step
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((state, batch)))


def test_a_surgery_that_changes_shapes_is_refused():
    built, _ = operated()
    phase = Phase(9, ("scout",), begin=lambda state, batch: dataclasses.replace(state, params={"scout": np.zeros(3)}))
    changed = dataclasses.replace(built, experiment=dataclasses.replace(built.experiment, phases=(phase,)))
    with pytest.raises(UsageError, match="begins at step 0: its `begin` returns a state of other leaves, shapes or dtypes"):
        run(built.experiment, program=changed)


def test_what_is_done_at_the_end_of_training_is_measured_and_saved_once():
    """After the last step alone, also of a resumed run; a finished run that is taken up has it already."""
    built, (whole, *_) = operated()
    seen: list[int] = []

    def end(state, batch):
        seen.append(int(state.step))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((state, batch)))
        return dataclasses.replace(state, params=jax.tree.map(lambda leaf: leaf + 1, state.params))

    ended = dataclasses.replace(built, experiment=dataclasses.replace(built.experiment, end=end))
    often = {"program": ended, "intervals": dataclasses.replace(INTERVALS, save=1)}
    state, _, _, saved = run(ended.experiment, **often)
    assert seen == [9] and tree_digest(saved[9][0]) == tree_digest(state)
    assert tree_digest(state.params) == tree_digest(jax.tree.map(lambda leaf: leaf + 1, whole.params))
    for at, times in ((8, 2), (9, 2)):
        assert tree_digest(run(ended.experiment, **often, resume=(*saved[at], at))[0]) == tree_digest(state)
        assert len(seen) == times
    run(ended.experiment, **often, stop=8)
    assert len(seen) == 2, "it has not come to its end"
    wrong = dataclasses.replace(ended.experiment, end=lambda state, batch: dataclasses.replace(state, params={}))
    with pytest.raises(UsageError, match="the `end` of training returns a state of other leaves"):
        run(wrong, program=dataclasses.replace(ended, experiment=wrong))


def test_a_sequence_of_games_is_the_same_on_four_devices_under_pmap():
    assert gap(played()[0], run(in_phases(), strategy="pmap", devices=4)[0]) < 2e-5


def test_a_log_that_spans_two_games_has_the_numbers_of_both():
    _, _, logged, _ = played()
    assert set(logged[5]) == {"scout_loss"} and set(logged[10]) == {"scout_loss", "hunter_loss"}
    assert set(logged[20]) == {"pair_loss"}
