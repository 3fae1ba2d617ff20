"""Probes: the features that they remember, the solution of scikit-learn on these, the weights from which the trunk starts."""

import dataclasses
import functools
import pathlib
from unittest import mock

import jax
import numpy as np
import pytest
import toys
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import cnnlab
from cnnlab import inspect, knobs
from cnnlab.core import FROZEN, TRUNK
from cnnlab.data import few_labels
from cnnlab.data.images import images
from cnnlab.data.labelled_once import each_once_after
from cnnlab.engine import train
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.models.classifiers import MODELS
from cnnlab.models.trunk import trunk_of
from cnnlab.models.trunk_layers import init_trunk, layer_vectors
from cnnlab.ops import trees
from cnnlab.ops.logistic_regression import centred, fit_features
from cnnlab.recipes.classification import classification
from cnnlab.recipes.contrastive import contrastive_learning
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.recipes.probe import _probe_after, linear_probe, pretrained_probe
from cnnlab.tasks.probe import MEMORY, PROBE, trunk_of_pretext
from tests.commands import command
from tests.flipping import require_every_knob_does_something

DATA = {"dataset": "digits", "batch_size": 64}
NETWORK = {"model": "convnet", "model.widths": "4,8", "model.depth": 1}
LAYERS = {"layers": "stage2,stage1,features", "grid": 2, "examples_per_class": 12, "examples_seed": "run", "neighbours": 3}


def experiment(**values):
    return knobs.resolve(linear_probe, {**DATA, **NETWORK, **LAYERS, **values}).call()


@pytest.fixture(scope="module")
def ended():
    """(experiment, state at the end, statistics of test) of a probe of random weights."""
    made = experiment()
    program = build_program(made, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state, *_ = toys.run(made, program=program, seed=3)
    return made, state, train.evaluate(program, program.strategy.to_devices(state), "test")


def features_of(made, state, split: str, index: np.ndarray, layer: str) -> np.ndarray:
    """The features [N, F] of a layer, without the task."""
    batch = jax.jit(made.data.prepare)(made.data.resident[split], {"index": index.astype(np.int32)}, None)
    network = trunk_of(functools.partial(MODELS["convnet"], widths=(4, 8), depth=1), made.data.image_shape)
    variables = {"params": state.params[FROZEN], "batch_stats": state.model_state["batch_stats"]}
    return np.asarray(jax.jit(lambda x: layer_vectors(network, variables, x, [layer], grid=2)[layer])(batch["image"]))


def test_the_memory_holds_the_labelled_examples_of_the_seed_in_their_order(ended):
    made, state, _ = ended
    assert made.steps == 3 and [phase.steps for phase in made.phases] == [2, 1]
    memory = state.model_state[MEMORY]
    feeds = made.data.train(3, 0)
    index = np.concatenate([next(feeds)["index"] for _ in range(2)])[:120]
    assert np.all(np.diff(index) > 0)
    np.testing.assert_array_equal(memory["label"], made.data.resident["train"]["label"][index])
    np.testing.assert_array_equal(np.bincount(memory["label"]), np.full(10, 12))
    for layer, width in (("stage1", 2 * 2 * 4), ("stage2", 2 * 2 * 8), ("features", 8)):
        found = memory["features"][layer]
        assert found.shape == (120, width)
        np.testing.assert_allclose(found, features_of(made, state, "train", index, layer), rtol=1e-4, atol=1e-5)


def test_the_probe_is_the_logistic_regression_of_scikit_learn_on_the_same_features(ended):
    made, state, stats = ended
    numbers = made.task.summary(stats)
    for layer, name in (("stage2", "accuracy"), ("stage1", "accuracy_stage1"), ("features", "accuracy_features")):
        known, labels = state.model_state[MEMORY]["features"][layer], state.model_state[MEMORY]["label"]
        kernel, bias, penalty = fit_features(known, labels, 10)
        np.testing.assert_allclose(state.params[PROBE][layer]["kernel"], kernel, rtol=1e-5, atol=1e-6)
        moved, mean, scale = centred(known.astype(np.float64))
        other = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(moved, labels)
        held = features_of(made, state, "test", np.arange(made.data.sizes["test"]), layer)
        truth = made.data.resident["test"]["label"]
        answers = other.predict((held - mean) / scale)
        assert np.mean(answers != np.argmax(held @ kernel + bias, axis=1)) < 0.01
        assert numbers[name] == pytest.approx(np.mean(answers == truth), abs=0.006)  # two of 359 images
    # Chance is 0.1, and pixels as they are give 0.84.
    assert numbers["accuracy_stage1"] > 0.7


def test_neighbours_are_those_of_scikit_learn_by_the_cosine(ended):
    made, state, stats = ended
    memory = state.model_state[MEMORY]
    held = features_of(made, state, "test", np.arange(made.data.sizes["test"]), "stage2")
    # scikit-learn breaks ties of the votes as here, by the smaller label.
    other = KNeighborsClassifier(3, metric="cosine").fit(memory["features"]["stage2"], memory["label"])
    expected = other.score(held, made.data.resident["test"]["label"])
    assert made.task.summary(stats)["knn_accuracy"] == pytest.approx(expected, abs=0.006)


def test_the_trunk_does_not_move_and_the_result_is_the_same_again(ended):
    made, state, _ = ended
    first = first_state(made)
    jax.tree.map(np.testing.assert_array_equal, first.params[FROZEN], state.params[FROZEN])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(first.params[PROBE]))
    again, *_ = toys.run(made, seed=3)
    jax.tree.map(np.testing.assert_array_equal, again.params, state.params)


def test_maps_are_averaged_over_the_cells_of_torch():
    """AdaptiveAvgPool2d: cell i of G of a side s goes from floor(i s / G) to ceil((i + 1) s / G)."""
    network = trunk_of(functools.partial(MODELS["convnet"], widths=(3,), depth=1), (7, 5, 1))
    pixels = np.random.default_rng(0).normal(size=(2, 7, 5, 1)).astype(np.float32)
    variables = init_trunk(network, jax.random.key(0), pixels)
    whole = np.asarray(layer_vectors(network, variables, pixels, ["stage1"], grid=9)["stage1"]).reshape(2, 7, 5, 3)
    cells = np.asarray(layer_vectors(network, variables, pixels, ["stage1"], grid=3)["stage1"]).reshape(2, 3, 3, 3)
    rows, columns = [(0, 3), (2, 5), (4, 7)], [(0, 2), (1, 4), (3, 5)]
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            np.testing.assert_allclose(cells[:, i, j], whole[:, top:bottom, left:right].mean((1, 2)), rtol=1e-4, atol=1e-6)
    pooled = layer_vectors(network, variables, pixels, ["features"], grid=1)["features"]
    np.testing.assert_allclose(pooled, whole.mean((1, 2)), rtol=1e-4, atol=1e-6)


def test_labelled_examples_are_seen_once_and_as_they_are_after_training():
    data = images(batch_size=64, augment=(lambda images, keys: 1 - images,))
    late, size = each_once_after(data, steps=5, examples_per_class=7, examples_seed="run")
    feeds = [next(late.train(2, step)) for step in range(4, 9)]
    assert size == 70 and "place" not in feeds[0]
    np.testing.assert_array_equal(feeds[0]["index"], next(data.train(2, 4))["index"])
    places = np.concatenate([feed["place"] for feed in feeds[1:]])
    np.testing.assert_array_equal(places, np.arange(4 * 64))
    index = np.concatenate([feed["index"] for feed in feeds[1:3]])
    assert len(np.unique(index[:70])) == 70 and set(index[70:]) < set(index[:70])
    key, train_arrays = jax.random.key(0), data.resident["train"]
    shown = jax.jit(late.prepare)(train_arrays, feeds[1], key)
    plain = jax.jit(data.prepare)(train_arrays, {"index": feeds[1]["index"]}, None)
    np.testing.assert_array_equal(shown["image"], plain["image"])
    assert not np.array_equal(jax.jit(late.prepare)(train_arrays, feeds[0], key)["image"], plain["image"])
    other, _ = each_once_after(data, steps=5, examples_per_class=7, examples_seed="run")
    assert not np.array_equal(next(other.train(3, 5))["index"], feeds[1]["index"])
    assert each_once_after(data, steps=0, examples_per_class=None)[1] == data.sizes["train"]
    with pytest.raises(UsageError, match="too many to stay on the device"):
        each_once_after(images(batch_size=64, resident_mib=0), steps=0, examples_per_class=None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": "stage9"}, r"no layer 'stage9'(.|\n)*Layers: stage1"),
        ({"layers": "output"}, "no layer 'output'"),
        ({"neighbours": 130}, "--neighbours=130: there are 120 labelled examples"),
        ({"layers": ""}, "--layers: a probe needs at least one layer"),
        ({"examples_per_class": 500}, r"--examples_per_class=500: class \d has"),
    ],
)
def test_what_cannot_be_probed_is_refused(values: dict, message: str):
    with pytest.raises(UsageError, match=message):
        experiment(**values)


def test_an_average_of_the_weights_is_refused_before_a_probe():
    before = dataclasses.replace(knobs.resolve(pretext_learning, {**DATA, **NETWORK}).call(), averaging=lambda *_: None)
    network = trunk_of(functools.partial(MODELS["convnet"], widths=(4, 8), depth=1), before.data.image_shape)
    with pytest.raises(UsageError, match="a probe follows the last step of training"):
        _probe_after(before, trunk_of_pretext(network))


PRETRAINED = {
    "pretext": (pretext_learning, {}),
    "contrastive": (contrastive_learning, {"augment": "shift_rotate", "negatives": "queue", "negatives.size": 64}),
    "classifier": (classification, {}),
    "probe": (pretrained_probe, {"examples_per_class": 1}),
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_probe_starts_from_the_trunk_of_any_run(name: str, tmp_path: pathlib.Path):
    """Weights and statistics; a run that was probed already has a trunk, too."""
    recipe, more = PRETRAINED[name]
    state = first_state(knobs.resolve(recipe, {**DATA, **NETWORK, **more, "duration": "1 steps"}).call())
    network = next(tree for player, tree in state.params.items() if player != PROBE)
    trunk, statistics = network.get(TRUNK, network), state.model_state["batch_stats"]
    checkpoints = Checkpoints(tmp_path / "checkpoints", ranked_by=None)
    checkpoints.save(1, state, {}, None)
    checkpoints.close()
    begun = first_state(experiment(init_from=str(tmp_path)), seed=4)
    for path, leaf in trees.flatten(begun.params[FROZEN]).items():
        np.testing.assert_array_equal(leaf, trees.flatten(trunk)[path], err_msg=path)
    for path, leaf in trees.flatten(begun.model_state["batch_stats"]).items():
        np.testing.assert_array_equal(leaf, trees.flatten(statistics.get(TRUNK, statistics))[path], err_msg=path)
    assert "stage1_conv1/kernel" in trees.flatten(begun.params[FROZEN])


def first_state(made, seed: int = 3):
    """The host tree of the state before the first step."""
    program = build_program(made, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    return program.strategy.to_host(program.init(seed))


STRIPES = {
    "dataset": "stripes",
    "dataset.examples": 60,
    "dataset.size": 8,
    "batch_size": 8,
    "image_size": 10,
    "image_fit": "pad",
}
SEEN = {**STRIPES, **NETWORK, "layers": "features", "examples_per_class": 5}


ELSEWHERE = ("init_from", "grid", "data.resident_mib", "start.pretext", "start.augment.color_distortion.grey_share")
"""Knobs that other tests have: a grid needs a layer with maps, the labels of a streamed split are not known, grey images
have no colours, and not every puzzle takes images of this size."""


@pytest.mark.slow
def test_every_knob_does_something():
    others = {
        "model": "mlp",
        "layers": "stage1",
        "batch_size": 10,
        "neighbours": 3,
        "duration": "41 steps",
        "examples_per_class": 6,
    }
    require_every_knob_does_something(linear_probe, SEEN, others=others, but=ELSEWHERE)
    before = {**SEEN, "duration": "40 steps"}
    others |= {"start": "contrastive", "images_per_class": 10}
    require_every_knob_does_something(pretrained_probe, before, others=others, but=ELSEWHERE)
    for start, more in (("pretext", {}), ("contrastive", {"hidden": "7"}), ("supervised", {})):
        more = {**others, **more, "start.augment": "shift"}
        require_every_knob_does_something(
            pretrained_probe, {**before, "start": start}, below="start", others=more, but=ELSEWHERE
        )


def test_a_run_predicts_without_its_data(tmp_path: pathlib.Path):
    words = ["--experiment=probe_digits", "--model.widths=4,8", "--model.depth=1", "--layers=stage2,stage1"]
    assert command("train", *words, "--workdir=run", cwd=tmp_path)[0] == 0
    shades = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    with mock.patch.object(few_labels, "few_per_class", side_effect=AssertionError("the data were opened")):
        found = cnnlab.load(tmp_path / "run").predict(shades)
    assert found["probabilities"].shape == (3, 10)


def test_the_table_of_layers_has_the_trunk_and_not_the_layer_that_it_does_without():
    names = [layer.name for layer in inspect.of_experiment(experiment())]
    assert "stage2_conv1" in names and "output" not in names
