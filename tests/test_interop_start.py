"""The knobs --init_from and --new_head: a run begins where another ended, and says what it took."""

import logging

import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.core import TrainState
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.interop import files
from cnnlab.interop.start import part_started_from
from cnnlab.ops import trees
from cnnlab.recipes.autoencoder import reconstruction
from cnnlab.recipes.classification import classification
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec

SMALL = {"model": "mlp", "model.widths": "8", "duration": "3 steps", "validation": "0.1"}


def first_parameters(**given):
    """{path: array} of the parameters before the first step."""
    resolved = knobs.resolve(classification, {**SMALL, **given})
    program = build_program(resolved.call(), STRATEGIES["jit"](pick_devices(1)), precision="f32")
    params = program.strategy.to_host(program.init(1)).params
    return {path.partition("/")[2]: leaf for path, leaf in trees.flatten(params).items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of three steps, and its parameters at the end."""
    folder = tmp_path_factory.mktemp("source") / "run"
    resolved = knobs.resolve(classification, SMALL)
    plan = RunSpec("source", resolved.values, "f32", source="", devices=1, quiet=True)
    assert run.train_seeds(resolved, plan, {0: folder}, overwrite=False) == 0
    _, state, _ = run.restore_run(resolved, plan, folder, best=False)
    return folder, {path.partition("/")[2]: leaf for path, leaf in trees.flatten(state.params).items()}


@pytest.mark.parametrize("frozen", ["", "dense1"])
def test_a_run_begins_where_another_ended_whoever_owns_the_layers(trained, frozen, caplog):
    folder, ended = trained
    with caplog.at_level(logging.INFO, logger="cnnlab"):
        begun = first_parameters(init_from=str(folder), frozen=frozen)
    assert begun.keys() == ended.keys() and f"{len(ended)} leaves of cnnlab matched" in caplog.text
    for path, leaf in begun.items():
        np.testing.assert_array_equal(leaf, ended[path])


def test_a_new_head_starts_afresh_and_the_rest_does_not(trained):
    folder, ended = trained
    given = {"only_classes": "3,1,2"}
    begun, fresh = first_parameters(init_from=str(folder), new_head="true", **given), first_parameters(**given)
    for path, leaf in begun.items():
        np.testing.assert_array_equal(leaf, fresh[path] if path.startswith("output/") else ended[path])


def test_other_classes_without_a_new_head_are_refused(trained):
    with pytest.raises(CheckpointError, match=r"another number of classes.*\n.*--new_head"):
        first_parameters(init_from=str(trained[0]), only_classes="3,1,2")


def test_a_new_head_without_weights_is_refused():
    with pytest.raises(UsageError, match=r"--new_head .* without --init_from"):
        first_parameters(new_head="true")


@pytest.mark.parametrize("is_whole", [False, True])
def test_an_old_run_whose_statistics_were_not_averaged_says_so(is_whole, tmp_path):
    params = {"classifier": {"norm": {"scale": np.ones(3, np.float32)}}}
    raw = {"batch_stats": {"norm": {"var": np.ones(3, np.float32)}}}
    average = {"classifier": {"norm": {"scale": np.full(3, 2, np.float32)}}}
    statistics = {"batch_stats/norm/var": np.full(3, 4, np.float32)} if is_whole else {}
    state = TrainState(np.zeros((), np.int32), np.zeros(2, np.uint32), params, raw, {}, average, statistics)
    checkpoints = Checkpoints(tmp_path / "checkpoints", ranked_by=None)
    checkpoints.save(1, state, {}, None)
    checkpoints.close()
    leaves, source = files.load(tmp_path)
    assert leaves["params/norm/scale"][0] == 2 and leaves["batch_stats/norm/var"][0] == (4 if is_whole else 1)
    assert any("the statistics of the weights before averaging" in note for note in source.notes) is not is_whole


def saved(folder, params, model_state):
    """The folder of a run with a checkpoint of these parameters and this model state."""
    checkpoints = Checkpoints(folder / "checkpoints", ranked_by=None)
    checkpoints.save(1, TrainState(np.zeros((), np.int32), np.zeros(2, np.uint32), params, model_state, {}, {}), {}, None)
    checkpoints.close()
    return str(folder)


def test_half_of_an_autoencoder_starts_from_that_of_another_run(tmp_path, caplog):
    small = {
        "dataset": "stripes",
        "dataset.examples": 60,
        "dataset.size": 8,
        "model.widths": "6",
        "model.code": 3,
        "batch_size": 8,
    }

    def begun(seed, **given):
        made = knobs.resolve(reconstruction, {**small, "duration": "3 steps", **given}).call()
        program = build_program(made, STRATEGIES["jit"](pick_devices(1)), precision="f32")
        return program.strategy.to_host(program.init(seed))

    first, other = begun(0), begun(1)
    folder = saved(tmp_path, first.params, first.model_state)
    with caplog.at_level(logging.INFO, logger="cnnlab"):
        whole, half = begun(1, init_from=folder), begun(1, init_from=folder, init_into="encoder")
    ended, fresh = (trees.flatten(state.params) for state in (first, other))
    for path, leaf in trees.flatten(half.params).items():
        np.testing.assert_array_equal(leaf, (ended if "/encoder/" in path else fresh)[path])
    assert all(np.array_equal(leaf, ended[path]) for path, leaf in trees.flatten(whole.params).items())
    assert "starting autoencoder/encoder from" in caplog.text and "4 leaves of cnnlab matched" in caplog.text
    assert "read from its part autoencoder/encoder" in caplog.text and "other leaves of the file are left out" in caplog.text
    with pytest.raises(CheckpointError, match=r"do not fit autoencoder/encoder (.*\n)+.*of another shape"):
        begun(1, init_from=folder, init_into="encoder", **{"model.code": 4})
    with pytest.raises(UsageError, match="--init_into"):
        begun(1, init_into="encoder")


def layers(value):
    """A trunk of two layers and its batch statistics."""
    trunk = {"conv1": {"kernel": np.full((3, 3), value)}, "norm1": {"scale": np.full(3, value)}}
    return trunk, {"norm1": {"mean": np.full(3, value)}}


@pytest.mark.parametrize("kind", ["classifier", "player", "module"])
def test_a_trunk_starts_from_a_network_that_contains_it(kind, tmp_path):
    (trunk, statistics), (own, beside) = layers(np.float32(2)), layers(np.float32(1))
    head = {"output": {"kernel": np.ones((3, 2), np.float32)}}
    params, model_state = {
        "classifier": ({"classifier": {**trunk, **head}}, {"batch_stats": statistics}),
        "player": ({"critic": {**trunk, **head}, "actor": own}, {"critic": {"batch_stats": statistics}}),
        "module": ({"net": {"trunk": trunk, "top": head}}, {"batch_stats": {"trunk": statistics}, "seen": np.ones(2)}),
    }[kind]
    start = part_started_from(saved(tmp_path, params, model_state), into="detector/backbone")
    wanted = {"detector": {"backbone": own, "head": head}}
    given, state = start(wanted, {"batch_stats": {"backbone": beside}, "queue": (np.zeros(2),)})
    np.testing.assert_array_equal(given["detector"]["backbone"]["conv1"]["kernel"], 2)
    np.testing.assert_array_equal(given["detector"]["backbone"]["norm1"]["scale"], 2)
    np.testing.assert_array_equal(state["batch_stats"]["backbone"]["norm1"]["mean"], 2)
    assert given["detector"]["head"]["output"]["kernel"] is head["output"]["kernel"]
    with pytest.raises(UsageError, match=r"no part 'detector/bckbone'. Did you mean detector/backbone\?\nParts: detector, "):
        part_started_from("nowhere", into="detector/bckbone")(wanted, {})
