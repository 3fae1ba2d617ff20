"""Averaged weights are evaluated with batch statistics of their own, and with the rest of the state as it is."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from cnnlab import knobs
from cnnlab.core import Batch, Experiment, TrainState
from cnnlab.engine import averages, train
from cnnlab.engine.batched import select_member
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.ops import trees
from cnnlab.ops.averaging import Averaging, ema, swa
from cnnlab.ops.keys import stream
from cnnlab.recipes.classification import classification
from cnnlab.recipes.gan import adversarial_pair


def test_only_statistics_of_batch_norm_are_found_wherever_they_lie():
    mean, queue = jnp.zeros(2), jnp.ones(3)
    state = {"generator": {"batch_stats": {"norm1": {"mean": mean}}}, "codebook": {"mean": queue}, "batch_stats": {"a": queue}}
    assert set(averages.batch_statistics(state)) == {"generator/batch_stats/norm1/mean", "batch_stats/a"}
    assert averages.batch_statistics({}) == {}


def test_what_is_evaluated_has_the_averages_and_the_rest_of_the_model_state():
    model_state = {"batch_stats": {"norm": {"mean": jnp.full(2, 5.0)}}, "seen": jnp.float32(7)}
    plain = TrainState(jnp.int32(0), jax.random.key(0), {"net": jnp.ones(1)}, model_state, {}, {})
    params, state = averages.evaluated(plain)
    assert params is plain.params and state is model_state
    averaged = dataclasses.replace(
        plain, average={"net": jnp.zeros(1)}, average_statistics={"batch_stats/norm/mean": jnp.full(2, 3.0)}
    )
    params, state = averages.evaluated(averaged)
    assert params["net"] == 0 and state["seen"] == 7
    np.testing.assert_array_equal(state["batch_stats"]["norm"]["mean"], 3.0)


@pytest.mark.parametrize("averaging", [ema(30, average_decay=0.9), swa(30)])
def test_statistics_are_averaged_with_the_same_weights_as_the_parameters(averaging: Averaging):
    """The average is linear: that of 2 x is twice that of x."""
    average = (jnp.zeros(1), jnp.zeros(1))
    for step in range(30):
        new = jnp.float32(step * step)[None]
        average = averaging(average, (new, 2 * new), jnp.int32(step))
    assert 0 < average[0] < 29 * 29 and average[1] == 2 * average[0]


def test_stochastic_weight_averaging_weighs_all_steps_from_its_start_on_alike_and_follows_the_weights_before():
    weights, average = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32), jnp.zeros(3)
    for step, new in enumerate(weights):
        average = swa(12, average_from=0.5)(average, jnp.asarray(new), jnp.int32(step))
        expected = new if step < 6 else weights[6 : step + 1].mean(axis=0)
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def test_the_exponential_average_has_its_warm_up_and_no_decay_means_none():
    averaging = ema(100, average_decay=0.5)
    assert averaging is not None and ema(100) is None
    for step, kept in [(0, 0.1), (2, 0.25), (50, 0.5)]:
        assert averaging(jnp.float32(1), jnp.float32(0), jnp.int32(step)) == pytest.approx(kept, rel=1e-6)


def test_knobs_of_older_runs_name_the_exponential_average_and_others_can_be_chosen():
    given = {"dataset": "digits", "model": "linear", "duration": "8 steps"}
    plain, older, other = (
        knobs.resolve(classification, given | more) for more in ({}, {"average_decay": 0.9}, {"average": "swa"})
    )
    assert older.values["average"] == "ema" and older.values["average.average_decay"] == 0.9
    assert knobs.resolve(classification, given | {"average_decay": 0.0}).digest == plain.digest
    assert other.values["average.average_from"] == 0.75


DATA = {"dataset": "stripes", "dataset.examples": 90, "dataset.size": 8, "batch_size": 48, "accumulate": 2}
NETWORK = {"model": "mlp", "model.widths": "8,6", "model.norm": "batch", "optimizer": "momentum"}
AVERAGE = {"average": "swa", "average_from": 0.3, "average.statistics": "recomputed", "statistics.batches": 3}
INTERVALS = train.Intervals(log=2, evaluate=4, save=3)


def recomputing(strategy: str, devices: int, **more: object) -> Program:
    """A network with two layers of batch normalisation, whose statistics are recomputed over three batches of two parts."""
    given = {**DATA, **NETWORK, **AVERAGE, "duration": "6 steps", **more}
    experiment = knobs.resolve(classification, given).call()
    return build_program(experiment, STRATEGIES[strategy](pick_devices(devices)), precision="f32")


@pytest.fixture(scope="module")
def trained():
    """(program, host state, {step: what was saved}) on one device."""
    program = recomputing("jit", 1)
    state, _, _, saved = toys.run(program.experiment, program=program, intervals=INTERVALS)
    return program, state, saved


def test_recomputed_statistics_are_the_mean_of_those_of_the_first_batches_under_the_averaged_weights(trained):
    """Against NumPy: two layers, three batches, each in two parts as in the steps."""
    program, state, _ = trained
    data, params, seen = program.experiment.data, state.average["classifier"], []
    for feed, _ in zip(data.train(0, 0), range(3), strict=False):
        images = np.asarray(data.prepare(data.resident["train"], feed, None)["image"], np.float64)
        for x in (images[part::2].reshape(24, -1) for part in range(2)):
            found = {}
            for number in (1, 2):
                x = x @ params[f"dense{number}"]["kernel"]
                mean, variance = x.mean(axis=0), x.var(axis=0)
                found |= {f"norm{number}/mean": mean, f"norm{number}/var": variance}
                norm = params[f"norm{number}"]
                x = np.maximum((x - mean) / np.sqrt(variance + 1e-5) * norm["scale"] + norm["bias"], 0)
            seen.append(found)
    statistics = {name.removeprefix("batch_stats/"): leaf for name, leaf in state.average_statistics.items()}
    assert statistics.keys() == seen[0].keys()
    for name, leaf in statistics.items():
        np.testing.assert_allclose(leaf, np.mean([found[name] for found in seen], axis=0), rtol=1e-5, atol=1e-6, err_msg=name)


def test_recomputing_leaves_the_training_as_it_is_and_a_resumed_run_ends_in_the_same_state(trained):
    program, state, saved = trained
    resumed, *_ = toys.run(program.experiment, program=program, intervals=INTERVALS, resume=(*saved[3], 3))
    each = train.Intervals(log=2, evaluate=1, save=6)
    often, _, _, late = toys.run(program.experiment, program=program, intervals=each)
    assert tree_digest(resumed) == tree_digest(often) == tree_digest(state) == tree_digest(late[6][0])
    assert tree_digest(saved[3][0].average_statistics) != tree_digest(state.average_statistics)


def test_recomputed_statistics_are_the_same_on_eight_devices(trained):
    program = recomputing("jit", 8)
    state, *_ = toys.run(program.experiment, program=program, intervals=INTERVALS)
    assert toys.gap(state, trained[1]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "devices"), [("pmap", 2), ("fsdp", 2)])
def test_recomputed_statistics_are_the_same_by_every_strategy(strategy: str, devices: int, trained):
    program = recomputing(strategy, devices)
    state, *_ = toys.run(program.experiment, program=program, intervals=INTERVALS)
    assert toys.gap(state, trained[1]) < 1e-5


@pytest.mark.slow
def test_recomputed_statistics_of_batched_runs_are_those_of_single_ones(trained):
    program = trained[0]
    state = toys.two_batched(program, intervals=INTERVALS)
    for member in (0, 1):
        alone, *_ = toys.run(program.experiment, program=program, seed=member, intervals=INTERVALS)
        assert toys.gap(program.strategy.to_host(select_member(state, member)), alone) < 1e-5


@pytest.mark.slow
def test_recomputed_statistics_of_a_gan_follow_every_turn_of_its_players():
    """Each turn moves its own player's statistics: those of the discriminator twice in a turn, by real and generated images."""
    given = {**DATA, "accumulate": 1, "dataset.size": 16, "model": "dcgan", "model.width": 4, "latent": 8, "optimizer": "sgd"}
    given |= {"duration": "2 steps", "average_decay": 0.5, "average.statistics": "recomputed", "statistics.batches": 2}
    experiment = knobs.resolve(adversarial_pair, given).call()
    state, *_ = toys.run(experiment)
    expected, recomputed = by_turns(experiment, state, batches=2), state.average_statistics
    assert expected.keys() == recomputed.keys() and {name.split("/")[0] for name in expected} == {"generator", "discriminator"}
    for name, leaf in recomputed.items():
        assert len(expected[name]) == 2, f"{name} moves in one turn of each batch"
        np.testing.assert_allclose(leaf, np.mean(expected[name], axis=0), rtol=1e-3, atol=1e-4, err_msg=name)


def by_turns(experiment: Experiment, state: TrainState, *, batches: int) -> dict[str, list[np.ndarray]]:
    """{path: statistics of each turn that moves them}, by losses whose running statistics are all 0, then all 1.

    A turn moves them to kept · old + (1 − kept) · batch, so the difference of the two is kept, and the first the rest.
    """
    data, task, found = experiment.data, experiment.task, {}

    @functools.partial(jax.jit, static_argnums=3)
    def moved(value: jax.Array, batch: Batch, key: jax.Array, player: str) -> dict[str, jax.Array]:
        old = {name: jnp.full_like(leaf, value) for name, leaf in averages.batch_statistics(state.model_state).items()}
        _, (after, _) = task.loss(state.average, trees.replaced(state.model_state, old), batch, key, player)
        return averages.batch_statistics(after)

    for number, feed in enumerate(itertools.islice(data.train(0, 0), batches)):
        key = jax.random.fold_in(state.key, number)
        batch = data.prepare(data.resident["train"], feed, stream(key, "augment"))
        for turn, player in enumerate(task.turns):
            zeros, ones = (moved(jnp.float32(value), batch, jax.random.fold_in(key, turn), player) for value in (0, 1))
            for name, rest in zeros.items():
                kept = np.asarray(ones[name] - rest)
                if (kept < 0.999).all():
                    found.setdefault(name, []).append(np.asarray(rest) / (1 - kept))
    return found
