"""Channels that go whole: which belong together, that a network without them computes the same, and what is refused."""

import functools

import jax
import numpy as np
import pytest
from contract import TRAINED

from cnnlab import knobs
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.models import MODELS
from cnnlab.models.narrowed import Narrowed, narrowed, shapes_of, units_of, widths
from cnnlab.models.norms import NORMS
from cnnlab.ops import trees, units
from cnnlab.recipes.classification import classification

SHAPE = (16, 16, 3)
CIFAR = functools.partial(MODELS["cifar_resnet20"], stages=(1, 1, 1), channels=4)
PRUNED = {**TRAINED, "model": "mlp", "model.widths": "12,8", "model.norm": "batch", "pruning": "channels", "dense": 0.5}


def families(make, shape=SHAPE):
    found = units_of(make(classes=10), shape)
    return {tuple(path.removesuffix("/kernel") for path in each.kernels): each.count for each in found.units}, found


def test_channels_of_plain_layers_are_alone_and_those_of_a_sum_belong_together():
    found, whole = families(MODELS["lenet5"], (28, 28, 1))
    assert found == {("conv1",): 6, ("conv2",): 16, ("dense1",): 120, ("dense2",): 84} and not whole.obstacles
    places = {path: positions.shape for (path, axis), positions in whole.units[1].places.items()}
    assert places == {"params/conv2/bias": (16, 1), "params/conv2/kernel": (16, 1), "params/dense1/kernel": (16, 25)}
    # Option A appends zeros: the first channels of a stage are those of the stage before it, and the others are its own.
    found, _ = families(CIFAR)
    assert found == {
        ("stage1_block1/conv1",): 4,
        ("stage1_block1/conv2", "stage2_block1/conv2", "stage3_block1/conv2", "stem/conv"): 4,
        ("stage2_block1/conv1",): 8,
        ("stage2_block1/conv2", "stage3_block1/conv2"): 4,
        ("stage3_block1/conv1",): 16,
        ("stage3_block1/conv2",): 8,
    }


def test_what_cannot_be_followed_is_named_with_the_layer():
    _, whole = families(MODELS["lenet5_1998"], (28, 28, 1))
    assert whole.obstacles["c3/kernel"] == "c3 computes scatter of them"
    assert "computes over all of them together" in whole.obstacles["f6/kernel"]
    for norm, why in (("layer", "computes over all of them together"), ("group", "divides them into groups")):
        _, whole = families(functools.partial(MODELS["convnet"], widths=(4, 8), depth=1, norm=NORMS[norm]))
        assert why in whole.obstacles["stage2_conv1/kernel"], norm


def same_without(make, shape, precision=np.float64, criterion="l1"):
    """(largest difference between the masked network and the smaller one, as a share of the outputs; numbers of each)."""
    network = make(classes=10)
    found = units_of(network, shape).units
    random = np.random.default_rng(0)
    leaves = {}
    for path, size in shapes_of(network, shape).items():
        drawn = random.normal(size=size)
        leaves[path] = (np.abs(drawn) + 0.5 if path.endswith("/var") else drawn / np.sqrt(max(np.prod(size[:-1]), 1))).astype(
            precision
        )
    params = trees.unflatten(
        {path.removeprefix("params/"): leaf for path, leaf in leaves.items() if path.startswith("params/")}
    )
    mask = trees.flatten(units.masks(params, found, [0.5] * len(found), scope="layer", criterion=criterion))
    masked = {path: leaf * mask.get(path.removeprefix("params/"), 1) for path, leaf in leaves.items()}
    gone = [units.unused(each, masked) for each in found]
    assert all(np.count_nonzero(each) == len(each) // 2 for each in gone)
    left = units.without(masked, found, gone)
    small = narrowed(network, widths(lambda texts: shapes_of(narrowed(network, texts, shape), shape), left), shape)
    images = random.normal(size=(3, *shape)).astype(precision)
    with jax.enable_x64(precision == np.float64):
        one, other = (
            np.asarray(jax.jit(functools.partial(each.apply, train=False))(trees.unflatten(given), images)[0])
            for each, given in ((network, masked), (small, left))
        )
    numbers = [sum(leaf.size for path, leaf in each.items() if path.startswith("params/")) for each in (leaves, left)]
    return np.max(np.abs(one - other)) / np.max(np.abs(one)), *numbers


LEAKY = functools.partial(MODELS["mlp"], widths=(12, 8), norm=NORMS["batch"], activation=jax.nn.sigmoid)
"""A sigmoid of 0 is no 0: that channels are gone must not depend on what follows them."""
CONVNET = functools.partial(MODELS["convnet"], widths=(4, 8), depth=1)


@pytest.mark.parametrize("make", [LEAKY, CONVNET, CIFAR], ids=["mlp", "convnet", "residual"])
def test_a_network_without_its_channels_computes_the_same(make):
    difference, before, after = same_without(make, SHAPE)
    assert difference < 1e-12 and after < 0.6 * before


def test_in_f32_it_computes_the_same_within_rounding():
    assert same_without(CONVNET, SHAPE, np.float32)[0] < 1e-5


ZOO = {
    "lenet5": (MODELS["lenet5"], (28, 28, 1)),
    "lenet_300_100": (MODELS["lenet_300_100"], (28, 28, 1)),
    "alexnet": (functools.partial(MODELS["alexnet"], width=0.1), (64, 64, 3)),
    "towers": (functools.partial(MODELS["alexnet_two_tower"], width=0.1, lrn=False), (67, 67, 3)),
    "vgg11_a_bn": (functools.partial(MODELS["vgg11_a_bn"], width=0.1), (32, 32, 3)),
    "resnet50": (functools.partial(MODELS["resnet50_v1_5"], stages=(1, 2), width=0.2), (32, 32, 3)),
    "se_resnext": (functools.partial(MODELS["se_resnext50_32x4d"], stages=(1, 1), groups=4, width=0.5), (32, 32, 3)),
    "preact": (functools.partial(MODELS["preact_resnet18"], stages=(1, 1), width=0.2), (32, 32, 3)),
    "densenet": (functools.partial(MODELS["cifar_densenet40_12"], blocks=(2, 2), growth=4), (16, 16, 3)),
    "mobilenet_v1": (functools.partial(MODELS["mobilenet_v1"], depths=(1, 1), width=0.5, stem="small"), (16, 16, 3)),
    "mobilenet_v2": (functools.partial(MODELS["mobilenet_v2"], depth=0.1, width=0.5, stem="small"), (32, 32, 3)),
    "squeezenet": (MODELS["squeezenet1_1"], (64, 64, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo_without_their_channels_compute_the_same(name):
    difference, before, after = same_without(*ZOO[name])
    assert difference < 1e-12 and after < 0.6 * before


def test_what_matters_least_is_measured_as_in_the_papers():
    random = np.random.default_rng(1)
    network = CONVNET(classes=10)
    first = units_of(network, SHAPE).units[0]
    assert first.kernels == ("stage1_conv1/kernel",)
    leaves = {path.removeprefix("params/"): random.normal(size=size) for path, size in shapes_of(network, SHAPE).items()}
    kernel, scale = leaves["stage1_conv1/kernel"], leaves["stage1_norm1/scale"]  # [3, 3, 3, 4], [4]
    np.testing.assert_allclose(units.scores(first, leaves, "l1"), np.abs(kernel).sum((0, 1, 2)) / 27)
    np.testing.assert_allclose(units.scores(first, leaves, "l2"), np.sqrt((kernel**2).sum((0, 1, 2)) / 27))
    np.testing.assert_allclose(units.scores(first, leaves, "scale"), np.abs(scale))
    without = units_of(MODELS["lenet5"](classes=10), (28, 28, 1)).units[0]
    with pytest.raises(UsageError, match="no norm with a scale follows conv1"):
        units.scores(without, leaves, "scale")


def test_all_layers_together_keep_as_many_and_each_at_least_one():
    found = units_of(CONVNET(classes=10), SHAPE).units  # of 4 and 8 channels
    shapes = shapes_of(CONVNET(classes=10), SHAPE)
    params = {
        path.removeprefix("params/"): np.ones(size, np.float32) for path, size in shapes.items() if path.startswith("params/")
    }
    params["stage1_conv1/kernel"] = params["stage1_conv1/kernel"] * 0.1  # small beside all others
    mask = trees.flatten(units.masks(trees.unflatten(params), found, [0.5, 0.5], scope="network", criterion="l2"))
    assert mask["stage1_norm1/scale"].tolist() == [1, 0, 0, 0] and mask["stage2_norm1/bias"].tolist() == [1] * 5 + [0] * 3
    assert mask["stage2_conv1/kernel"].sum() == 9 * 1 * 5 and mask["output/kernel"].sum() == 5 * 10


def test_a_round_takes_everything_of_a_channel_and_training_leaves_it_at_0():
    made = knobs.resolve(
        classification, {**PRUNED, "density": 0.25, "density_by_layer": "dense2=0.5", "rounds": 1, "duration": "2 steps"}
    ).call()
    program = build_program(made, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state = jax.device_get(program.init(0))
    begun = made.phases[-1].begin(state, {})
    params = trees.flatten(begun.params["classifier"])
    alive = {name: np.flatnonzero(params[f"{name}/kernel"].any(0)) for name in ("dense1", "dense2")}
    assert [len(each) for each in alive.values()] == [3, 4]  # of 12 and of 8
    for number, name in enumerate(("dense1", "dense2"), start=1):
        gone = np.setdiff1d(np.arange(len(params[f"norm{number}/scale"])), alive[name])
        assert not params[f"norm{number}/scale"][gone].any()
        assert not begun.opt_state["classifier"].mask[f"norm{number}"]["bias"][gone].any()
        assert not params["dense2/kernel" if number == 1 else "output/kernel"][gone].any()
    assert params["output/bias"].shape == (4,) and begun.opt_state["classifier"].mask["output"]["bias"].all()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model.norm": "layer"}, "those of dense1 cannot go, since norm1 computes over all of them together"),
        ({"density_by_layer": "conv1=1"}, "matches no layer"),
        ({"density": 1.5}, "at most 1"),
        ({"pruning": "none", "units_by_layer": "dense1"}, "is not REGEX=NUMBER"),
        ({"pruning": "none", "units_by_layer": "dense9=3"}, "matches no layer"),
    ],
)
def test_knobs_that_fit_nothing_are_refused_before_training(given, expected):
    values = {name: value for name, value in PRUNED.items() if given.get("pruning") != "none" or name != "dense"}
    with pytest.raises(UsageError, match=expected):
        knobs.resolve(classification, {**values, **given, "duration": "2 steps"}).call()


def test_widths_that_do_not_go_together_are_refused_and_none_change_nothing():
    network = CIFAR(classes=10)
    assert narrowed(network, (), SHAPE) is network
    with pytest.raises(UsageError, match="do not go together"):
        narrowed(network, ("stage3_block1/conv2=3",), SHAPE)
    small = narrowed(network, (".*/conv1=2",), SHAPE)
    assert isinstance(small, Narrowed) and shapes_of(small, SHAPE)["params/stage2_block1/conv2/kernel"] == (3, 3, 2, 8)
    assert shapes_of(small, SHAPE)["params/stage2_block1/conv1/kernel"] == (3, 3, 4, 2)


def test_a_layer_that_cannot_be_followed_may_stay_whole():
    made = knobs.resolve(
        classification,
        {**PRUNED, "model.norm": "layer", "density_by_layer": "dense1=1", "model.widths": "4", "duration": "2 steps"},
    )
    with pytest.raises(UsageError, match="the network has none that could go"):
        made.call()
