"""The inception families against their papers' tables, layer by layer, and the parts that parity cannot see."""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.errors import UsageError
from cnnlab.interop.families.inception import SCHEMES
from cnnlab.models import layers, norms
from cnnlab.models.googlenet import AuxiliaryHead, googlenet, googlenet_bn
from cnnlab.models.inception_blocks import MAX_POOL, Branch, Convolution, Fork, Mixed, factorized, shrinking
from cnnlab.models.inception_bn import inception_bn
from cnnlab.models.inception_resnet_v2 import Residual, inception_resnet_v2
from cnnlab.models.inception_v3 import inception_v3
from cnnlab.models.inception_v4 import inception_v4
from cnnlab.models.layers import ConvNorm
from tests import jitted
from tests.stages import slow_but

KEY = jax.random.key(0)
PLAIN = functools.partial(ConvNorm, norm=norms.no_norm)
THIN = {"width": 0.125, "stem": "small"}


@functools.cache
def counts(model, size, kind):
    """{module: parameters or MACs} of the parts that have some."""
    total = collections.Counter()
    for row in inspect.layers(model, (size, size, 3)):
        total[row.name.split("/")[0]] += getattr(row, kind)
    return {name: count for name, count in total.items() if count}


@functools.cache
def taps(model, size, *, train=False, batch=1):
    """{intermediate: shape without the batch}."""
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)

    def call(x):
        streams = {"params": KEY, "dropout": KEY}
        (_, seen), _ = model.init_with_output(streams, x, train=train)
        return seen

    return {name: tap.shape[1:] for name, tap in jax.eval_shape(call, images).items()}


def total(model, size=32):
    return inspect.as_json(inspect.layers(model, (size, size, 3)))["total"]["params"]


def test_googlenet_modules_have_the_parameters_of_caffes_file():
    assert counts(googlenet(classes=1000, auxiliary=True), 224, "params") == {
        "conv1": 9_472,
        "conv2": 4_160,
        "conv3": 110_784,
        "inception_3a": 163_696,
        "inception_3b": 388_736,
        "inception_4a": 376_176,
        "auxiliary1": 3_188_840,
        "inception_4b": 449_160,
        "inception_4c": 510_104,
        "inception_4d": 605_376,
        "auxiliary2": 3_190_888,
        "inception_4e": 868_352,
        "inception_5a": 1_043_456,
        "inception_5b": 1_444_080,
        "output": 1_025_000,
    }


def test_googlenet_multiplies_as_often_as_table_1_says():
    """Column "ops", in millions; its 34 for conv1 and 54 for 5a do not follow from its own sizes, which give 118 and 51."""
    macs = counts(googlenet(classes=1000), 224, "macs")
    table = {"3a": 128, "3b": 304, "4a": 73, "4b": 88, "4c": 100, "4d": 119, "4e": 170, "5b": 71}
    found = {module: macs[f"inception_{module}"] / 1e6 for module in table}
    np.testing.assert_allclose(list(found.values()), list(table.values()), atol=0.7)
    np.testing.assert_allclose((macs["conv2"] + macs["conv3"]) / 1e6, 360, atol=0.5)
    assert (macs["conv1"], macs["inception_5a"], macs["output"]) == (118_013_952, 51_079_168, 1_024_000)


def test_googlenet_grids_are_those_of_table_1():
    shapes = taps(googlenet(classes=1000), 224)
    channels = {"3a": 256, "3b": 480, "4a": 512, "4b": 512, "4c": 512, "4d": 528, "4e": 832, "5a": 832, "5b": 1024}
    sides = {"3": 28, "4": 14, "5": 7}
    expected = {f"inception_{module}": (sides[module[0]],) * 2 + (count,) for module, count in channels.items()}
    assert {name: shape for name, shape in shapes.items() if name in expected} == expected
    assert shapes["stem"] == (28, 28, 192)
    assert shapes["features"] == (1024,)


@pytest.mark.parametrize("train", [pytest.param(False, marks=pytest.mark.slow), True])
def test_auxiliary_heads_give_logits_in_training_and_outside(train):
    shapes = taps(googlenet(classes=7, auxiliary=True, **THIN), 32, train=train, batch=2)
    assert shapes["auxiliary1"] == shapes["auxiliary2"] == shapes["output"] == (7,)
    assert taps(inception_v3(classes=7, auxiliary=True, **THIN), 32, train=train, batch=2)["auxiliary"] == (7,)


@pytest.mark.parametrize("model", slow_but([googlenet, googlenet_bn, inception_v3], googlenet))
def test_auxiliary_heads_are_none_by_default_and_without_classes(model):
    for knobs in ({"classes": 7}, {"classes": 0, "auxiliary": True}):
        assert not any(name.startswith("auxiliary") for name in taps(model(**knobs, **THIN), 32))


@pytest.mark.parametrize("pooling", ["caffe", "torchvision"])
def test_an_auxiliary_head_of_googlenet_has_the_same_parameters_at_every_image_size(pooling):
    head = AuxiliaryHead(5, pooling, PLAIN, jax.nn.relu, jax.nn.initializers.ones, 1.0)
    shapes = [
        jax.tree.map(jnp.shape, jax.eval_shape(functools.partial(head.init, train=False), KEY, jnp.zeros((1, side, side, 8))))
        for side in (5, 8, 14, 20)
    ]
    assert all(each == shapes[0] for each in shapes) and shapes[0]["params"]["fc"]["kernel"] == (2048, 1024)


def test_caffe_pools_an_auxiliary_head_by_windows_that_differ_from_torchvisions_cells():
    x = jax.random.normal(KEY, (1, 14, 14, 3))
    caffe, torchvision = (
        AuxiliaryHead(5, pooling, PLAIN, jax.nn.relu, layers.init.he, 1.0) for pooling in ("caffe", "torchvision")
    )
    variables = jitted.init(caffe, KEY, x, train=False)
    assert not np.allclose(jitted.apply(caffe, variables, x, train=False), jitted.apply(torchvision, variables, x, train=False))
    flat = jnp.ones_like(x)
    np.testing.assert_allclose(
        jitted.apply(caffe, variables, flat, train=False), jitted.apply(torchvision, variables, flat, train=False), rtol=1e-5
    )


def test_the_batch_normalised_form_has_torchvisions_parameters_with_its_heads():
    assert total(googlenet_bn(classes=1000, auxiliary=True), 224) == 13_004_888
    assert counts(googlenet_bn(classes=1000), 224, "params")["inception_3a"] == 163_696 - 16 * 16 * 32 + 368
    # the third branch has 3x3 for 5x5, and each of 368 channels has a scale and a shift for a bias


@pytest.mark.slow
def test_local_response_normalisation_damps_the_stem():
    images = 100 * jax.random.normal(KEY, (2, 32, 32, 3))  # the paper's alpha is small

    def stem(lrn):
        model = googlenet(classes=4, lrn=lrn, **THIN)
        return jax.jit(lambda: model.init_with_output(KEY, images, train=False)[0][1]["stem"])()

    assert float(jnp.abs(stem(True)).max()) < 0.9 * float(jnp.abs(stem(False)).max())


def test_bn_inception_grids_and_modules_are_those_of_its_table():
    shapes = taps(inception_bn(classes=1000), 224)
    channels = {"3a": 256, "3b": 320, "3c": 576, "4a": 576, "4b": 576, "4c": 608, "4d": 608, "4e": 1056, "5a": 1024, "5b": 1024}
    sides = {"3a": 28, "3b": 28, "4e": 7, "5a": 7, "5b": 7}
    for module, count in channels.items():
        side = sides.get(module, 14)
        assert shapes[f"inception_{module}"] == (side, side, count)


@pytest.mark.slow
def test_bn_inception_without_biases_has_one_parameter_less_for_each_channel_of_a_convolution():
    channels = sum(row.output[-1] for row in inspect.layers(inception_bn(classes=10), (224, 224, 3)) if row.type == "Conv")
    assert total(inception_bn(classes=1000), 224) - total(inception_bn(classes=1000, bias=False), 224) == channels
    assert total(inception_bn(classes=10, norm=norms.no_norm, bias=False)) == total(
        inception_bn(classes=10, norm=norms.no_norm)
    )


@pytest.mark.parametrize("size", slow_but([32, 33, 47, 65], 33))
def test_bn_inception_halves_odd_grids_too(size):
    shapes = taps(inception_bn(classes=10, **THIN), size)
    for before, after in (("3b", "3c"), ("4d", "4e")):
        assert shapes[f"inception_{after}"][0] == -(-shapes[f"inception_{before}"][0] // 2)


GRIDS = {
    "inception_v3": (inception_v3, (192, 288, 768, 2048), (3, 4, 2)),
    "inception_v4": (inception_v4, (384, 384, 1024, 1536), (4, 7, 3)),
    "inception_resnet_v2": (inception_resnet_v2, (320, 320, 1088, 2080), (10, 20, 10)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_35_17_and_8_with_the_papers_channels(name):
    model, channels, depths = GRIDS[name]
    shapes = taps(model(classes=1000), 299)
    ends = ("stem", *(f"inception_{letter}{depth}" for letter, depth in zip("abc", depths, strict=True)))
    for tap, side, count in zip(ends, (35, 35, 17, 8), channels, strict=True):
        assert shapes[tap] == (side, side, count)


@pytest.mark.parametrize("name", slow_but(GRIDS, "inception_v4"))
def test_the_stem_for_small_images_leaves_a_grid_of_15(name):
    shapes = taps(GRIDS[name][0](classes=10, **THIN), 32)
    assert [shapes[tap][0] for tap in ("stem", "inception_a1", "inception_b1", "inception_c1")] == [15, 15, 7, 3]


@pytest.mark.parametrize("model", [googlenet, googlenet_bn, inception_bn])
def test_the_stem_for_small_images_leaves_a_grid_of_16(model):
    shapes = taps(model(classes=10, **THIN), 32)
    assert [shapes[f"inception_{module}"][0] for module in ("3a", "4a", "5b")] == [16, 8, 4]


@pytest.mark.parametrize("name", slow_but(GRIDS, "inception_v3"))
def test_75_pixels_are_enough(name):
    assert taps(GRIDS[name][0](classes=10, width=0.125), 75)["inception_c1"][:2] == (1, 1)


@pytest.mark.slow
def test_74_pixels_are_too_few_for_inception_v3():
    with pytest.raises(UsageError, match=r"too small: layer reduction_b/\S+ needs at least 3x3 .*\n.* is 75x75"):
        taps(inception_v3(classes=10, width=0.125), 74)


@pytest.mark.slow
def test_the_auxiliary_head_of_inception_v3_needs_the_whole_image():
    with pytest.raises(UsageError, match=r"layer auxiliary/conv2/conv needs at least 5x5 .*\n.* is 299x299"):
        taps(inception_v3(classes=10, auxiliary=True, width=0.125), 298)
    assert total(inception_v3(classes=1000, auxiliary=True), 299) == 27_161_264


@pytest.mark.slow
def test_depths_add_modules():
    for name, (model, _, depths) in GRIDS.items():
        more = (depths[0] + 1, *depths[1:])
        added = set(taps(model(classes=10, depths=more, **THIN), 32)) - set(taps(model(classes=10, **THIN), 32))
        assert added == {f"inception_a{more[0]}"}, name


def test_mixed_concatenates_its_branches_in_order():
    branches = (
        (Convolution(4),),
        (Convolution(2), Convolution(3, 5)),
        (Convolution(2), Fork(3)),
        (MAX_POOL, Convolution(2)),
        (Convolution(2), *factorized(2, 3, size=3, vertical=True)),
    )
    x = jax.random.normal(KEY, (2, 7, 7, 5))
    mixed = Mixed(branches, PLAIN)
    variables = jitted.init(mixed, KEY, x, train=False)
    alone = [
        jitted.apply(Branch(steps, PLAIN), {"params": variables["params"][f"branch{number}"]}, x, train=False)
        for number, steps in enumerate(branches, start=1)
    ]
    assert [end.shape[-1] for end in alone] == [4, 3, 6, 2, 3]
    np.testing.assert_array_equal(jitted.apply(mixed, variables, x, train=False), jnp.concatenate(alone, axis=-1))
    kernels = variables["params"]["branch3"]
    assert kernels["conv1x3"]["conv"]["kernel"].shape == (1, 3, 2, 3) and kernels["conv3x1"]["conv"]["kernel"].shape == (
        3,
        1,
        2,
        3,
    )
    assert variables["params"]["branch5"]["conv2"]["conv"]["kernel"].shape == (3, 1, 2, 2)


def test_shrinking_convolutions_halve_without_padding():
    x = jnp.ones((1, 9, 9, 1))
    branch = Branch((shrinking(1),), PLAIN)
    out, _ = jitted.init_with_output(branch, KEY, x, train=False)
    assert out.shape == (1, 4, 4, 1)
    assert float(jnp.ptp(out)) < 1e-5  # no border sees padding


def test_a_residual_module_adds_its_scaled_change():
    x = jax.random.normal(KEY, (2, 5, 5, 6))
    branches = ((Convolution(4),), (Convolution(3), Convolution(5, 3)))
    residual = functools.partial(
        Residual, branches, convolution=PLAIN, initializer=layers.init.he, width=1.0, activation=lambda x: x
    )
    variables = jitted.init(residual(scale=1.0), KEY, x, train=False)
    whole, part = (jitted.apply(residual(scale=scale), variables, x, train=False) - x for scale in (1.0, 0.17))
    np.testing.assert_allclose(part, 0.17 * whole, atol=1e-5)
    change = jitted.apply(
        Mixed(branches, PLAIN),
        {"params": {name: leaf for name, leaf in variables["params"].items() if name != "project"}},
        x,
        train=False,
    )
    kernel = variables["params"]["project"]["kernel"][0, 0]
    np.testing.assert_allclose(whole, jnp.einsum("bhwc,cd->bhwd", change, kernel), atol=1e-4)


@pytest.mark.slow
def test_only_the_last_module_of_inception_resnet_may_be_negative():
    model = inception_resnet_v2(classes=4, depths=(1, 1, 2), **THIN)
    images = jax.random.normal(KEY, (2, 32, 32, 3))
    seen = jax.jit(lambda x: model.init_with_output(KEY, x, train=False)[0][1])(images)
    lowest = {name: float(tap.min()) for name, tap in seen.items() if name.startswith("inception")}
    assert lowest.pop("inception_c2") < 0
    assert min(lowest.values()) >= 0


def scheme(model, library):
    return next(each for each in SCHEMES[type(model)] if each.library == library)


@pytest.mark.parametrize("model", [googlenet_bn, inception_v3])
def test_an_auxiliary_head_is_read_only_where_there_is_one(model):
    heads = ("aux1.conv.conv", "aux2.fc1", "aux2.fc2") if model is googlenet_bn else ("AuxLogits.conv0.bn", "AuxLogits.fc")
    for name in heads:
        assert scheme(model(classes=10), "torchvision").rename(name, model(classes=10)) is None
        with_head = model(classes=10, auxiliary=True)
        assert scheme(with_head, "torchvision").rename(name, with_head).startswith("auxiliary")


@pytest.mark.parametrize(
    ("model", "library", "theirs", "ours"),
    [
        (googlenet_bn, "torchvision", "inception4e.branch3.1.bn", "inception_4e/branch3/conv2/norm"),
        (inception_v3, "torchvision", "Mixed_7c.branch3x3dbl_3b.conv", "inception_c2/branch3/conv3x1/conv"),
        (inception_v3, "timm", "Mixed_6a.branch3x3dbl_3.bn", "reduction_a/branch2/conv3/norm"),
        (
            inception_v3,
            "pytorchcv",
            "features.stage3.unit1.branches.branch2.conv_list.conv4.conv",
            "reduction_b/branch2/conv4/conv",
        ),
        (inception_v4, "timm", "features.21.branch2_3a.bn", "inception_c3/branch3/conv1x3/norm"),
        (
            functools.partial(inception_v4, depths=(1, 1, 1)),
            "timm",
            "features.9.branch0.1.conv",
            "reduction_b/branch1/conv2/conv",
        ),
        (inception_resnet_v2, "timm", "block8.conv2d", "inception_c10/project"),
        (
            functools.partial(inception_resnet_v2, depths=(2, 3, 4)),
            "timm",
            "block8.branch1.2.bn",
            "inception_c4/branch2/conv3/norm",
        ),
        (inception_resnet_v2, "pytorchcv", "features.stage2.unit21.conv", "inception_b20/project"),
        (inception_bn, "pytorchcv", "features.stage3.unit1.branches.branch2.conv3.bn", "inception_4e/branch2/conv3/norm"),
    ],
)
def test_names_are_mapped_by_rule(model, library, theirs, ours):
    network = model(classes=10)
    assert scheme(network, library).rename(theirs, network) == ours


@pytest.mark.parametrize(
    "model", slow_but([googlenet, googlenet_bn, inception_bn, inception_v3, inception_v4, inception_resnet_v2], googlenet_bn)
)
def test_every_convolution_belongs_to_a_named_branch_or_the_stem(model):
    network = model(classes=10, **THIN)
    assert isinstance(network, nn.Module)
    for row in inspect.layers(network, (32, 32, 3)):
        if row.type == "Conv":
            assert row.name.rsplit("/", 1)[-1] in ("conv", "project"), row.name
