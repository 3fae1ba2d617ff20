"""Quantisation in the course of training: when it begins, what it sees, resuming, files, accuracy by bits, what is refused."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
import toys
from contract import TRAINED

from cnnlab import knobs
from cnnlab.core import Phase
from cnnlab.engine.averages import evaluated
from cnnlab.engine.batched import select_member
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.engine.train import Intervals, evaluate
from cnnlab.errors import UsageError
from cnnlab.interop import files
from cnnlab.interop.export import load_stablehlo
from cnnlab.interop.without_channels import smaller_network
from cnnlab.ops import trees
from cnnlab.ops.quantize import COLLECTION
from cnnlab.recipes.classification import classification
from cnnlab.tasks.quantize import seed_of, with_quantised_part
from tests.commands import command

SMALL = {**TRAINED, "model": "convnet", "model.widths": "4,8", "model.depth": 1, "optimizer": "momentum", "duration": "8 steps"}
AFTER = {**SMALL, "quantization": "integers", "calibration": 30}
EVERY = Intervals(log=2, evaluate=100, save=3)


def made(**more):
    return knobs.resolve(classification, {**AFTER, **more}).call()


def program_of(experiment):
    return build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")


@functools.cache
def trained():
    """(the program, the state at the end, {step: curve}, {step: (state, pending statistics)}) of a run with training=after."""
    program = program_of(made())
    state, _, curve, saved = toys.run(program.experiment, program=program, intervals=EVERY)
    return program, state, curve, saved


@pytest.mark.slow
def test_training_goes_on_in_floats_and_the_last_state_is_quantised():
    program, state, curve, saved = trained()
    assert program.experiment.phases == () and [
        bool(saved[step][0].model_state[COLLECTION]["is_on"]) for step in (3, 6, 8)
    ] == [
        False,
        False,
        True,
    ]
    plain = knobs.resolve(classification, SMALL).call()
    same, _, expected, _ = toys.run(plain, program=program_of(plain), intervals=EVERY)
    assert expected == curve and tree_digest(same.params) == tree_digest(state.params)
    ranges = trees.flatten(state.model_state[COLLECTION]["ranges"])
    assert len(ranges) == 6 and all(ranges[path] > ranges[path.replace("high", "low")] for path in ranges if "high" in path)


@pytest.mark.slow
def test_ranges_are_those_of_the_first_training_images_of_the_run_by_the_weights_that_are_measured():
    """30 images are two batches of 24, without variations; the range of the first layer's input is that of the images."""
    _, state, _, _ = trained()
    data = made().data
    feeds = data.train(seed_of(state), 0)
    images = [np.asarray(data.prepare(data.resident["train"], next(feeds), None)["image"]) for _ in range(2)]
    first = state.model_state[COLLECTION]["ranges"]["stage1_conv1"]
    assert first["low"] == pytest.approx(np.mean([one.min() for one in images]))
    assert first["high"] == pytest.approx(np.mean([one.max() for one in images]))
    averaged = dataclasses.replace(state, average=jax.tree.map(lambda leaf: 2 * leaf, state.params))
    changed = made().end(averaged, {}).model_state[COLLECTION]["ranges"]["stage2_conv1"]
    assert changed["high"] != state.model_state[COLLECTION]["ranges"]["stage2_conv1"]["high"]
    assert evaluated(averaged)[0] is averaged.average


@pytest.mark.slow
def test_the_seed_of_a_run_is_read_from_its_key():
    for seed in (0, 7, 2**32 - 1):
        state = dataclasses.replace(trained()[1], key=np.asarray(jax.random.key_data(jax.random.key(seed))))
        assert seed_of(state) == seed


def test_the_phase_at_whose_step_numbers_begin_to_be_rounded_is_divided():
    calls = []

    def begins(name):
        return lambda state, batch: calls.append(name) or state

    turns, quantise = ("classifier",), begins("quantise")

    def shape(phases):
        found = []
        for phase in phases:
            calls.clear()
            if phase.begin:
                phase.begin(None, None)
            found.append((phase.steps, list(calls)))
        return found

    assert shape(with_quantised_part((), turns, (6, 3), quantise)) == [(6, []), (3, ["quantise"])]
    assert shape(with_quantised_part((), turns, (0, 3), quantise)) == [(3, ["quantise"])]
    pruned = (Phase(4, turns), Phase(0, turns, begins("never")), Phase(5, turns, begins("prune")))
    assert shape(with_quantised_part(pruned, turns, (6, 3), quantise)) == [
        (4, []),
        (0, ["never"]),
        (2, ["prune"]),
        (3, ["quantise"]),
    ]
    assert shape(with_quantised_part(pruned, turns, (4, 5), quantise))[2] == (5, ["prune", "quantise"])


@pytest.mark.slow
def test_resumed_before_the_end_it_is_quantised_to_the_same_bits():
    program, whole, _, saved = trained()
    resumed, *_ = toys.run(program.experiment, program=program, intervals=EVERY, resume=(*saved[6], 6))
    assert tree_digest(resumed) == tree_digest(whole)


@pytest.mark.slow
def test_runs_in_one_batched_program_have_ranges_of_their_own():
    program, alone, _, _ = trained()
    state = toys.two_batched(program, intervals=EVERY)
    first, second = (
        trees.flatten(jax.device_get(select_member(state, member)).model_state[COLLECTION]["ranges"]) for member in range(2)
    )
    expected = trees.flatten(alone.model_state[COLLECTION]["ranges"])
    first, second, expected = (np.asarray([float(tree[path]) for path in sorted(tree)]) for tree in (first, second, expected))
    np.testing.assert_allclose(first, expected, rtol=1e-4)
    assert np.abs(second - expected).max() > 0.01


def test_without_steps_the_weights_that_are_given_are_quantised():
    program = program_of(made(duration="0 steps"))
    state, step, _, _ = toys.run(program.experiment, program=program, intervals=EVERY)
    assert step == 0 and state.model_state[COLLECTION]["is_on"]


@pytest.mark.slow
def test_every_knob_changes_what_is_predicted():
    _, state, _, saved = trained()
    images = jax.device_get(made().data.images("test", np.arange(20))).astype(np.float32) / 255

    def found(**more):
        experiment = made(**more)
        floats = dataclasses.replace(saved[6][0], model_state=state.model_state)
        if more.get("activations") == "none":
            floats.model_state[COLLECTION] |= {"ranges": {}}
        ended = experiment.end(floats, {})
        return np.asarray(jax.jit(experiment.task.predict)(*evaluated(ended), images)).tobytes()

    given = [
        {},
        {"bits": 4},
        {"activation_bits": 4},
        {"weights_by": "tensor"},
        {"activations": "symmetric"},
        {"ranges": "minmax"},
        {"ranges": "percentile"},
        {"ranges": "percentile", "reaches": 90.0},
        {"calibration": 12},
        {"arithmetic": "integer"},
        {"activations": "none"},
    ]
    assert len({found(**each) for each in given}) == len(given)


@pytest.mark.slow
def test_pruned_and_rounded_weights_stay_zero():
    experiment = made(
        pruning="magnitude", density=0.3, rounds=1, training="aware", **{"pruning.dense": 0.5, "training.part": 0.25}
    )
    state, *_ = toys.run(experiment, program=program_of(experiment), intervals=EVERY)
    assert [phase.steps for phase in experiment.phases] == [4, 2, 2] and state.model_state[COLLECTION]["is_on"]
    kernels = [leaf for path, leaf in trees.flatten(state.params).items() if path.endswith("kernel")]
    assert sum(np.count_nonzero(leaf) for leaf in kernels) / sum(leaf.size for leaf in kernels) == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"early_stopping": 2}, "--quantization and --early_stopping"),
        ({"activations": "none", "arithmetic": "integer"}, "needs inputs in integers, too"),
        ({"training": "aware", "training.part": 0}, r"quantization.training.part=0: expected float in \(0, 1\]"),
        ({"arithmetic": "integer", "adversarial": "fgsm"}, "has no gradient, and an attack"),
        ({"arithmetic": "integer", "metrics": "robust_accuracy"}, "has no gradient, and an attack"),
        ({"bits": 1}, r"expected int in \[2, 8\]"),
    ],
)
def test_knobs_that_fit_nothing_are_refused(given, expected):
    with pytest.raises(UsageError, match=expected):
        made(**given)


def test_the_channels_of_a_quantised_network_are_not_taken_out():
    with pytest.raises(UsageError, match=r"not followed through rounded numbers(.|\n)*--quantization=none"):
        smaller_network(knobs.resolve(classification, AFTER), None, None, None)


DIGITS = {
    "data.dataset": "digits",
    "model": "convnet",
    "model.widths": "8,16",
    "model.depth": 1,
    "optimizer.lr": 0.1,
    "batch_size": 64,
}


def accuracy(steps, **more):
    experiment = knobs.resolve(classification, {**DIGITS, "duration": f"{steps} steps", **more}).call()
    program = program_of(experiment)
    state, *_ = toys.run(experiment, program=program, intervals=Intervals(log=50, evaluate=1000, save=1000))
    return experiment.task.summary(evaluate(program, program.strategy.to_devices(state), "test"))["accuracy"]


@pytest.mark.slow
def test_eight_bits_lose_nearly_nothing_two_after_training_much_and_aware_training_regains_it():
    found = {"floats": accuracy(200)}
    for name, bits, training in (("8", 8, "after"), ("2", 2, "after"), ("2 aware", 2, "aware")):
        found[name] = accuracy(200, quantization="integers", bits=bits, training=training)
    assert found["floats"] > 0.9
    assert found["8"] > found["floats"] - 0.02
    assert found["2"] < found["floats"] - 0.3
    assert found["2 aware"] > found["2"] + 0.3


@pytest.mark.slow
def test_a_trained_run_is_quantised_without_steps_and_its_program_has_a_byte_for_a_weight(tmp_path):
    words = ["--experiment=mlp_digits", "--widths=256"]
    rounded = ["--steps=0", "--init_from=floats", "--quantization=integers"]
    sizes = {}
    for name, more in {"floats": ["--steps=20"], "codes": rounded}.items():
        assert command(*words, *more, f"--workdir={name}", cwd=tmp_path)[0] == 0
        assert command("export", f"--workdir={name}", f"--to={name}.stablehlo", cwd=tmp_path)[0] == 0
        sizes[name] = (tmp_path / f"{name}.stablehlo").stat().st_size
    # Three bytes less for each weight, a few thousand more for what is computed with them.
    assert sizes["floats"] - sizes["codes"] > 3 * (64 * 256 + 256 * 10) - 8_000
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    floats, codes = (np.asarray(load_stablehlo(tmp_path / f"{name}.stablehlo")(images)) for name in sizes)
    assert 0 < np.abs(floats - codes).max() < 0.1 * np.abs(floats).max()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_the_file_of_a_quantised_run_has_its_numbers_and_its_codes(tmp_path, bits):
    words = ["--experiment=mlp_digits", "--widths=128", "--model.norm=batch", "--steps=30", "--quantization=integers"]
    assert command(*words, f"--bits={bits}", "--workdir=run", cwd=tmp_path)[0] == 0
    for suffix in ("cnnz", "safetensors"):
        assert command("export", "--workdir=run", f"--to=run.{suffix}", cwd=tmp_path)[0] == 0
    found = [command("evaluate", f"--workdir={name}", cwd=tmp_path)[1] for name in ("run", "run.cnnz")]
    numbers = [{name: float(value) for name, value in re.findall(r"test/(\w+) +([\d.]+)", text)} for text in found]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4) and "accuracy" in numbers[0]
    weights, rest = 64 * 128 + 128 * 10, 4 * (128 * 5 + 10 * 2) + 1000
    size = (tmp_path / "run.cnnz").stat().st_size
    assert numbers[1]["file_bytes"] == size < weights * bits / 8 + rest + 2_000
    assert (tmp_path / "run.safetensors").stat().st_size < weights + rest + 8_000
    kernels = [files.load(tmp_path / f"run.{suffix}")[0]["params/dense1/kernel"] for suffix in ("cnnz", "safetensors")]
    np.testing.assert_array_equal(*kernels)
    assert kernels[0].dtype == np.float32 and max(len(np.unique(unit)) for unit in kernels[0].T) <= 2**bits - 1
    more = ["--experiment=mlp_digits", "--widths=128", "--model.norm=batch", "--steps=0", "--init_from=run.cnnz"]
    assert command(*more, "--workdir=floats", cwd=tmp_path)[0] == 0
