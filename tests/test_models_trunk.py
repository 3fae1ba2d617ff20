"""A network without its last layer has the names and the numbers of the whole one, and other tasks start from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import kinds, thin

from cnnlab import inspect, knobs
from cnnlab.core import OUTPUT, PRETEXT, TRUNK
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.models import MODELS, native_shape
from cnnlab.models.pieces import PieceClassifier
from cnnlab.models.trunk import require_same_weights, trunk_of
from cnnlab.ops import trees
from cnnlab.recipes.classification import classification
from cnnlab.recipes.localization import localization
from cnnlab.recipes.pretext import pretext_learning
from tests import jitted
from tests.stages import slow_but

DATA = {"dataset": "stripes", "dataset.size": 16, "dataset.examples": 60, "batch_size": 8, "duration": "3 steps"}
NETWORK = {"model": "convnet", "model.widths": "4,8"}


@pytest.mark.parametrize(
    "name", slow_but(dict.fromkeys([*MODELS][:11] + kinds()), "linear", "lenet5", "convnet", "squeezenet1_0")
)
def test_a_trunk_has_all_layers_of_the_network_but_the_last(name: str):
    shape = native_shape(name)
    make = functools.partial(MODELS[name], **thin(name))
    refused = {"linear": "no layer before its last one", "lenet5_1998": "--model.output=softmax"}
    if name in refused:
        with pytest.raises(UsageError, match=refused[name]):
            trunk_of(make, shape)
        return
    network = PieceClassifier(trunk_of(make, shape), answers=4, together=False)
    key, images = jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    pieces = jax.ShapeDtypeStruct((1, 2, *shape), jnp.float32)
    whole = trees.flatten(jax.eval_shape(lambda k, x: make(classes=10).init(k, x, train=False)["params"], key, images))
    params = jax.eval_shape(lambda k, x: network.init(k, x, train=False)["params"], key, pieces)
    found = {path: leaf.shape for path, leaf in trees.flatten(params[TRUNK]).items()}
    assert found == {path: leaf.shape for path, leaf in whole.items() if path.split("/")[0] != OUTPUT}


def test_the_features_are_what_the_last_layer_gets():
    whole, images = MODELS["lenet5"](classes=3), jax.random.normal(jax.random.key(1), (2, 16, 16, 1))
    variables = jitted.init(whole, jax.random.key(0), images, train=False)
    logits, _ = jitted.apply(whole, variables, images, train=False)
    last = variables["params"][OUTPUT]
    network = PieceClassifier(MODELS["lenet5"](classes=0), answers=4, together=True)
    params = {TRUNK: {name: layer for name, layer in variables["params"].items() if name != OUTPUT}}
    features = jitted.apply(network, {"params": params}, images, method="features")
    np.testing.assert_allclose(features @ last["kernel"] + last["bias"][None], logits, rtol=1e-5, atol=1e-5)


OWN = """
import flax.linen as nn

class Own(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, images, *, train):
        features = nn.relu(nn.Dense(5)(images.mean((1, 2))))
        return nn.Dense(self.classes)(features)
"""


def test_a_network_of_ones_own_needs_a_layer_called_output(tmp_path):
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    with pytest.raises(UsageError, match=r"no layer called 'output'.*\n.*Name its last layer"):
        knobs.resolve(pretext_learning, {**DATA, "model": f"{tmp_path}/mine.py:Own"}).call()
    (tmp_path / "named.py").write_text(OWN.replace("self.classes)", 'self.classes, name="output")'), encoding="utf-8")
    experiment = knobs.resolve(pretext_learning, {**DATA, "model": f"{tmp_path}/named.py:Own"}).call()
    params, _ = jax.eval_shape(experiment.task.init, jax.eval_shape(lambda: jax.random.key(0)), experiment.data.example(2))
    assert params[PRETEXT][TRUNK].keys() == {"Dense_0"}


def test_a_layer_whose_size_depends_on_the_image_is_refused_for_pieces():
    require_same_weights(trunk_of(MODELS["convnet"], (32, 32, 3)), (32, 32, 3), (16, 16, 3))
    with pytest.raises(UsageError, match=r"layer dense1 of LeNet5 has a size for pieces of 16x16"):
        require_same_weights(trunk_of(MODELS["lenet5"], (32, 32, 3)), (32, 32, 3), (16, 16, 3))


def test_the_inspector_lists_a_trunk_without_the_layer_that_is_left_out():
    experiment = knobs.resolve(pretext_learning, {**DATA, **NETWORK}).call()
    names = [layer.name for layer in inspect.of_experiment(experiment)]
    assert "trunk/stage1_conv1" in names and not [name for name in names if name.endswith(OUTPUT)]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A folder with a checkpoint of a pretext task, and the variables of its trunk."""
    resolved = knobs.resolve(pretext_learning, {**DATA, **NETWORK})
    state = first_state(resolved.call())
    folder = tmp_path_factory.mktemp("pretext") / "run"
    save(folder, state)
    return folder, {**state.params[PRETEXT][TRUNK], "batch_stats": state.model_state["batch_stats"][TRUNK]}


def save(folder, state):
    """Writes a checkpoint of a state into the folder of a run."""
    checkpoints = Checkpoints(folder / "checkpoints", ranked_by=None)
    checkpoints.save(1, state, {}, None)
    checkpoints.close()


def first_state(experiment):
    """The host tree of the state before the first step."""
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    return program.strategy.to_host(program.init(3))


def begun(recipe, values):
    """{path: array} of the parameters before the first step, without the player."""
    params = first_state(knobs.resolve(recipe, {**DATA, **values}).call()).params
    return {path.partition("/")[2]: leaf for path, leaf in trees.flatten(params).items()}


def test_a_classifier_starts_from_the_trunk_of_a_pretext_task(pretrained):
    folder, trunk = pretrained
    params = begun(classification, {**NETWORK, "init_from": str(folder), "new_head": "true"})
    expected = {path: leaf for path, leaf in trees.flatten(trunk).items() if not path.startswith("batch_stats/")}
    assert params.keys() - expected.keys() == {"output/kernel", "output/bias"}
    for path, leaf in expected.items():
        np.testing.assert_array_equal(params[path], leaf)


def test_without_a_new_head_the_flag_is_named(pretrained):
    with pytest.raises(CheckpointError, match=r"no last layer.*\n.*--new_head"):
        begun(classification, {**NETWORK, "init_from": str(pretrained[0])})


def test_a_pretext_task_starts_from_the_trunk_of_another(pretrained):
    folder, trunk = pretrained
    params = begun(pretext_learning, {**NETWORK, "init_from": str(folder)})
    np.testing.assert_array_equal(params["trunk/stage2_conv1/kernel"], trunk["stage2_conv1"]["kernel"])


@pytest.mark.slow
def test_a_backbone_starts_from_the_trunk_of_a_pretext_task(tmp_path):
    network = {"model": "resnet18", "model.width": 0.125, "model.stem": "small"}
    state = first_state(knobs.resolve(pretext_learning, {**DATA, **network}).call())
    save(tmp_path, state)
    below = {name.replace("model", "model.backbone"): value for name, value in network.items()}
    scenes = {
        "dataset": "scenes",
        "dataset.size": 16,
        "dataset.examples": 60,
        "dataset.most_objects": 1,
        "dataset.colour": "false",
    }
    params = begun(localization, {**scenes, **below, "init_from": str(tmp_path)})
    wanted = state.params[PRETEXT][TRUNK]["stage2_block1"]
    for path, leaf in trees.flatten(wanted).items():
        np.testing.assert_array_equal(params[f"backbone/stage2_block1/{path}"], leaf)
