"""The residual families against their papers: depths, stages, shortcuts, strides, groups, and what a block adds."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.errors import UsageError
from cnnlab.interop.families.resnet import SCHEMES
from cnnlab.models import cifar_resnet, preact_resnet, resnet, wide_resnet
from cnnlab.models.layers import Dropout
from cnnlab.models.norms import NORMS
from cnnlab.models.preact_resnet import PreActBlock, PreActResNet
from cnnlab.models.residual_parts import SqueezeExcitation, block_convolutions, drop_path, padded_identity, squeezed
from cnnlab.models.resnet import ResidualBlock, ResNet
from cnnlab.ops import trees
from tests import jitted
from tests.stages import slow_but

KEY = jax.random.key(0)
IMAGES = jax.random.normal(KEY, (4, 8, 8, 3))
small = functools.partial(ResNet, 10, stages=(1, 1), block="basic", channels=4, stem="small")
small_preact = functools.partial(PreActResNet, 10, stages=(1, 1), block="basic", channels=4, stem="small")


def variables(model, side=32):
    """Shapes of a model's variables."""
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return trees.flatten(jax.eval_shape(functools.partial(model.init, train=False), KEY, images))


def total(model, side=32):
    return inspect.as_json(inspect.layers(model, (side, side, 3)))["total"]


def started(module, x):
    return jax.jit(functools.partial(module.init, train=False))(KEY, x)


def applied(module, weights, x):
    return jax.jit(functools.partial(module.apply, train=False))(weights, x)


def noisy(tree, scale=0.3):
    """The tree with every leaf moved, so that no scale is 1 and no bias 0."""
    leaves, structure = jax.tree.flatten(tree)
    moved = [leaf + scale * jax.random.uniform(jax.random.fold_in(KEY, i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, moved)


@pytest.mark.parametrize("depth", slow_but([20, 32, 44, 56, 110], 20, 110))
def test_cifar_networks_have_6n_plus_2_weighted_layers(depth):
    networks = [getattr(cifar_resnet, f"cifar_{kind}{depth}", None) for kind in ("resnet", "plain")]
    for network in filter(None, networks):
        rows = [row for row in inspect.layers(network(classes=10), (32, 32, 3)) if row.type in ("Conv", "Dense")]
        assert len(rows) == depth
        sides = [row.output for row in rows[:-1]]
        stage = (depth - 2) // 3
        assert sides == [(32, 32, 16)] * (stage + 1) + [(16, 16, 32)] * stage + [(8, 8, 64)] * stage


@pytest.mark.parametrize("depth", slow_but([20, 32, 44, 56], 20))
def test_plain_network_is_the_residual_one_of_option_a_without_its_shortcuts(depth):
    plain = getattr(cifar_resnet, f"cifar_plain{depth}")(classes=10)
    residual = getattr(cifar_resnet, f"cifar_resnet{depth}")(classes=10)
    assert variables(plain) == variables(residual) and total(plain) == total(residual)
    assert residual.residual and residual.shortcut == "A"


@pytest.mark.slow
def test_plain_network_computes_without_shortcuts():
    weights = noisy(started(small(shortcut="A"), IMAGES))
    plain, _ = applied(small(residual=False), weights, IMAGES)
    residual, _ = applied(small(shortcut="A"), weights, IMAGES)
    assert not np.allclose(plain, residual)


@pytest.mark.parametrize("knobs", [{"zero_init": True}, {"drop_path": 0.1}])
def test_plain_network_refuses_what_only_shortcuts_survive(knobs):
    with pytest.raises(UsageError, match=r"no shortcuts, so zero_init and drop_path .* Take residual=True"):
        variables(small(residual=False, **knobs))


def test_shortcuts_cost_what_the_paper_says():
    a, b, c = (total(cifar_resnet.cifar_resnet20(classes=10, shortcut=kind))["params"] for kind in "ABC")
    projection = {channels: channels * channels + 2 * channels for channels in (16, 32, 64)}
    assert b - a == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert c - b == 3 * projection[16] + 2 * projection[32] + 2 * projection[64]


@pytest.mark.parametrize("side", [8, 7])
def test_option_a_keeps_every_second_pixel_and_adds_zero_channels(side):
    x = jax.random.normal(KEY, (2, side, side, 3))
    block = ResidualBlock(((5, 3, 1), (5, 3, 1)), strides=2, shortcut="A", zero_init=True)
    y = applied(block, started(block, x), x)  # the convolutions add 0
    expected = np.zeros((2, -(-side // 2), -(-side // 2), 5), np.float32)
    expected[..., :3] = np.maximum(x[:, 0::2, 0::2], 0)
    np.testing.assert_allclose(y, expected, atol=1e-6)
    assert padded_identity(x, 3, 1) is x


def test_a_block_adds_its_convolutions_to_its_input():
    block = ResidualBlock(((3, 3, 1), (3, 3, 1)))
    weights = noisy(started(block, IMAGES))
    alone = ResidualBlock(((3, 3, 1), (3, 3, 1)), shortcut=None, activation=lambda x: x)
    plain = ResidualBlock(((3, 3, 1), (3, 3, 1)), activation=lambda x: x)
    np.testing.assert_allclose(applied(plain, weights, IMAGES), applied(alone, weights, IMAGES) + IMAGES, atol=1e-5)
    assert float(applied(block, weights, IMAGES).min()) == 0.0


def test_v1_and_v1_5_are_alike_but_for_where_the_stride_is():
    # The first block of a stage alone has a stride.
    first, second = (getattr(resnet, f"resnet50_{version}")(classes=1000, stages=(1,) * 4) for version in ("v1", "v1_5"))
    assert variables(first) == variables(second)
    first, second = ({row.name: row for row in inspect.layers(model, (224, 224, 3))} for model in (first, second))
    changed = {name: (first[name].output, second[name].output) for name in first if first[name].output != second[name].output}
    sides = {2: 28, 3: 14, 4: 7}
    assert {name: out for name, out in changed.items() if "conv" in name} == {
        f"stage{stage}_block1/conv1": ((side, side, 64 * 2 ** (stage - 1)), (2 * side, 2 * side, 64 * 2 ** (stage - 1)))
        for stage, side in sides.items()
    }
    dearer = sum(3 * side**2 * (256 * 2 ** (stage - 2)) * (64 * 2 ** (stage - 1)) for stage, side in sides.items())
    assert sum(row.macs for row in second.values()) - sum(row.macs for row in first.values()) == dearer == 231_211_008


@pytest.mark.parametrize(
    ("network", "blocks", "channels"),
    slow_but(
        [
            (resnet.resnet18, (2, 2, 2, 2), 64),
            (resnet.resnet34, (3, 4, 6, 3), 64),
            (resnet.resnet50_v1, (3, 4, 6, 3), 256),
            (resnet.resnet101_v1, (3, 4, 23, 3), 256),
            (resnet.resnet152_v1, (3, 8, 36, 3), 256),
            (preact_resnet.preact_resnet34, (3, 4, 6, 3), 64),
            (preact_resnet.preact_resnet152, (3, 8, 36, 3), 256),
        ],
        resnet.resnet18,
        resnet.resnet50_v1,
        preact_resnet.preact_resnet34,
    ),
)
def test_imagenet_stages_are_those_of_table_1(network, blocks, channels):
    model = network(classes=1000)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    (output, seen), shapes = jax.eval_shape(functools.partial(model.init_with_output, train=False), KEY, images)
    names = set(shapes["params"])
    assert tuple(sum(name.startswith(f"stage{stage}_") for name in names) for stage in range(1, 5)) == blocks
    assert [seen[tap].shape[1:] for tap in ("stem", "stage1", "stage2", "stage3", "stage4")] == [
        (56, 56, 64),
        *[(56 // 2**stage, 56 // 2**stage, channels * 2**stage) for stage in range(4)],
    ]
    assert seen["features"].shape == (1, 8 * channels) and output.shape == (1, 1000)


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        pytest.param(resnet.wide_resnet101_2(classes=1000), 126.89, marks=pytest.mark.slow),
        pytest.param(resnet.resnext101_32x8d(classes=1000), 88.79, marks=pytest.mark.slow),
        (resnet.se_resnet50(classes=1000), 28.09),
        (resnet.se_resnext50_32x4d(classes=1000), 27.56),
        (preact_resnet.preact_resnet34(classes=1000), 21.80),
        (cifar_resnet.cifar_resnext29_8x64d(classes=10), 34.43),
        (preact_resnet.PreActResNet(10, stages=(2,) * 3, block="basic", channels=16, widen=10.0, stem="small"), 17.12),
    ],
)
def test_parameters_of_relatives_are_the_published_millions(model, millions):
    count = sum(int(np.prod(leaf.shape)) for path, leaf in variables(model, 64).items() if path.startswith("params"))
    assert round(count / 1e6, 2) == millions


@pytest.mark.slow
def test_1202_layers_have_the_published_parameters():
    count = sum(
        int(np.prod(leaf.shape))
        for path, leaf in variables(cifar_resnet.cifar_resnet1202(classes=10)).items()
        if path.startswith("params")
    )
    assert count == 19_421_274 and round(count / 1e6, 1) == 19.4


@pytest.mark.slow
def test_grouped_block_is_the_sum_of_its_paths():
    """Figure 3a of Xie et al. equals 3c: C separate bottlenecks, summed, are one with a grouped convolution."""
    groups, width, features = 4, 2, 6
    linear = functools.partial(ResidualBlock, shortcut=None, norm=NORMS["none"], activation=lambda x: x)
    whole = linear(((groups * width, 1, 1), (groups * width, 3, groups), (features, 1, 1)))
    weights = noisy(started(whole, IMAGES))["params"]
    total = 0.0
    for path in range(groups):
        part = slice(path * width, (path + 1) * width)
        one = {name: {"kernel": weights[name]["kernel"][..., part]} for name in ("conv1", "conv2")}
        for name in one:
            one[name]["bias"] = weights[name]["bias"][part]
        one["conv3"] = {"kernel": weights["conv3"]["kernel"][:, :, part], "bias": weights["conv3"]["bias"] / groups}
        block = linear(((width, 1, 1), (width, 3, 1), (features, 1, 1)))
        total += applied(block, {"params": one}, IMAGES)
    np.testing.assert_allclose(applied(whole, {"params": weights}, IMAGES), total, rtol=1e-4, atol=1e-4)


def test_block_widths_follow_groups_and_their_width():
    assert block_convolutions("bottleneck", 64) == ((64, 1, 1), (64, 3, 1), (256, 1, 1))
    assert block_convolutions("bottleneck", 128, 32, 4) == ((256, 1, 1), (256, 3, 32), (512, 1, 1))
    assert block_convolutions("bottleneck", 64, 1, 128) == ((128, 1, 1), (128, 3, 1), (256, 1, 1))
    assert block_convolutions("basic", 64, 2, 32) == ((64, 3, 1), (64, 3, 1))
    assert block_convolutions("bottleneck", 4, 32, 4) == ((32, 1, 1), (32, 3, 32), (16, 1, 1))


def test_squeeze_and_excitation_weighs_channels_by_their_means():
    x = jax.random.normal(KEY, (2, 3, 5, 32))
    module = SqueezeExcitation(squeezed(32))
    weights = noisy(jitted.init(module, KEY, x))["params"]
    assert weights["squeeze"]["kernel"].shape == (32, 2) and weights["excite"]["kernel"].shape == (2, 32)
    hidden = np.maximum(np.asarray(x).mean((1, 2)) @ weights["squeeze"]["kernel"] + weights["squeeze"]["bias"][None], 0)
    gates = 1 / (1 + np.exp(-(hidden @ weights["excite"]["kernel"] + weights["excite"]["bias"][None])))
    np.testing.assert_allclose(jitted.apply(module, {"params": weights}, x), x * gates[:, None, None], atol=1e-5)
    rounded = jax.eval_shape(SqueezeExcitation(squeezed(32, divisor=8)).init, KEY, x)
    assert rounded["params"]["squeeze"]["kernel"].shape == (32, 8)


@pytest.mark.parametrize("norm", slow_but(NORMS, "batch", "none"))
@pytest.mark.parametrize("start", [small, small_preact])
def test_zero_init_starts_every_block_as_its_shortcut(start, norm):
    model = start(zero_init=True, norm=NORMS[norm])
    weights = started(model, IMAGES)
    zeros = {path for path, leaf in trees.flatten(weights["params"]).items() if "bias" not in path and not np.any(leaf)}
    last = "conv2/kernel" if norm == "none" or start is small_preact else "norm2/scale"
    assert zeros == {f"stage{stage}_block1/{last}" for stage in (1, 2)}
    _, seen = applied(model, weights, IMAGES)
    before = seen["stem"]
    np.testing.assert_allclose(seen["stage1"], before, atol=1e-5)
    changed = applied(model, noisy(weights), IMAGES)[1]
    assert not np.allclose(changed["stage1"], changed["stem"], atol=1e-2)


@pytest.mark.slow
def test_without_zero_init_nothing_starts_at_zero_but_biases():
    for start in (small, small_preact):
        weights = trees.flatten(started(start(), IMAGES)["params"])
        assert all(np.any(leaf) for path, leaf in weights.items() if "bias" not in path)


def test_preactivation_leaves_negative_values_on_the_shortcut_and_projects_the_activated():
    block = PreActBlock(((3, 3, 1), (3, 3, 1)), zero_init=True)
    weights = started(block, IMAGES)
    np.testing.assert_array_equal(applied(block, weights, IMAGES), IMAGES)
    wider = PreActBlock(((5, 3, 1), (5, 3, 1)), zero_init=True, strides=2)
    weights = started(wider, IMAGES)
    kernel = weights["params"]["shortcut"]["kernel"]
    active = np.maximum(np.asarray(IMAGES[:, ::2, ::2]) / np.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(applied(wider, weights, IMAGES), active @ kernel[0, 0], atol=1e-5)
    assert "norm" not in weights["params"]["shortcut"]


def test_preactivation_ends_with_norm_and_activation_and_its_stem_has_them_on_demand():
    names = set(variables(preact_resnet.preact_resnet18(classes=10), 64))
    assert "params/norm/scale" in names and not any("stem_norm" in name for name in names)
    names = set(variables(preact_resnet.preact_resnet18(classes=10, stem_norm=True), 64))
    assert "params/stem_norm/scale" in names


def test_drop_path_leaves_out_whole_branches_and_keeps_the_mean():
    class Branch(nn.Module):
        rate: float

        @nn.compact
        def __call__(self, x, *, train):
            return drop_path(x, self.rate, train=train)

    x = jnp.ones((2000, 2, 2, 3))
    y = np.asarray(jitted.apply(Branch(0.25), {}, x, train=True, rngs={"dropout": KEY}))
    assert np.all(y == y[:, :1, :1, :1]) and set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_allclose((y == 0).mean(), 0.25, atol=0.03)
    np.testing.assert_array_equal(jitted.apply(Branch(0.25), {}, x, train=False), x)


@pytest.mark.slow
@pytest.mark.parametrize("start", slow_but([small, small_preact], small_preact))
def test_drop_path_grows_with_depth_and_may_be_a_tracer(start):
    rates = []

    def watch(call, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.module.name == "drop_path":
            rates.append(context.module.rate)
        return call(*args, **kwargs)

    weights = started(start(), IMAGES)

    def logits(rate):
        apply = functools.partial(start(drop_path=rate).apply, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])
        return apply(weights, IMAGES)[0][0]

    with nn.intercept_methods(watch):
        some = logits(0.8)
    assert rates == [0.4, 0.8]
    np.testing.assert_allclose(jax.jit(logits)(0.8), some, atol=1e-4)
    assert not np.allclose(logits(0.0), some)


@pytest.mark.slow
def test_wide_blocks_drop_activated_units_between_their_convolutions():
    found = []

    def watch(call, args, kwargs, context):
        result = call(*args, **kwargs)
        found.append((context.module.path, args[0], result))
        return result

    block = PreActBlock(((5, 3, 1), (5, 3, 1)), dropout=0.5)
    weights = started(block, IMAGES)
    with nn.intercept_methods(watch):
        jitted.apply_uncompiled(block, weights, IMAGES, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])
    order = [path[0] for path, *_ in found if path]
    assert order.index("conv1") < order.index("norm2") < order.index("dropout") < order.index("conv2")
    (dropped,) = [(x, y) for path, x, y in found if path == ("dropout",)]
    (fed,) = [x for path, x, _ in found if path == ("conv2",)]
    x, y = dropped
    assert float(x.min()) == 0.0 and np.all((y == 0) | np.isclose(y, 2 * x))
    assert float(jnp.mean(y == 0)) > float(jnp.mean(x == 0)) + 0.1
    np.testing.assert_array_equal(fed, y)


def test_dropout_of_blocks_reaches_every_block_of_a_wide_network():
    rates = {}

    def watch(call, args, kwargs, context):
        if isinstance(context.module, Dropout):
            rates["/".join(context.module.path)] = context.module.rate
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        variables(wide_resnet.wrn16_4(classes=10, block_dropout=0.3))
    blocks = {f"stage{stage}_block{number}/dropout": 0.3 for stage in (1, 2, 3) for number in (1, 2)}
    assert {path: rate for path, rate in rates.items() if "/dropout" in path} == blocks and rates["dropout"] == 0.0


def test_wide_networks_have_the_depth_of_their_name():
    for depth, widen in ((16, 4), (28, 10), (40, 2)):
        network = getattr(wide_resnet, f"wrn{depth}_{widen}")(classes=10)
        rows = [row for row in inspect.layers(network, (32, 32, 3)) if row.type == "Conv"]
        assert len(rows) == depth  # three of them projections
        assert [rows[0].output[-1], rows[-1].output[-1]] == [16, 64 * widen]


def test_small_stem_keeps_the_size_and_the_large_one_quarters_it():
    for network in (resnet.resnet18, preact_resnet.preact_resnet18):
        for stem, side in (("small", 32), ("imagenet", 8)):
            model = network(classes=10, stem=stem, width=0.125)
            images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
            (_, seen), _ = jax.eval_shape(functools.partial(model.init_with_output, train=False), KEY, images)
            assert seen["stem"].shape == (1, side, side, 8)


@pytest.mark.parametrize(
    ("model", "library", "name", "place"),
    [
        (ResNet, "torchvision", "conv1", "stem/conv"),
        (ResNet, "torchvision", "layer3.22.bn3", "stage3_block23/norm3"),
        (ResNet, "torchvision", "layer2.0.downsample.1", "stage2_block1/shortcut/norm"),
        (ResNet, "timm", "layer1.0.se.fc2", "stage1_block1/se/excite"),
        (ResNet, "timm", "fc", "output"),
        (ResNet, "pytorchcv", "features.init_block.conv.bn", "stem/norm"),
        (ResNet, "pytorchcv", "features.init_block.conv", "stem/conv"),
        (ResNet, "pytorchcv", "features.stage2.unit11.body.conv2.conv", "stage2_block11/conv2"),
        (ResNet, "pytorchcv", "features.stage2.unit1.identity_conv.bn", "stage2_block1/shortcut/norm"),
        (PreActResNet, "timm", "stages.2.blocks.10.norm3", "stage3_block11/norm3"),
        (PreActResNet, "timm", "stages.0.blocks.0.downsample.conv", "stage1_block1/shortcut"),
        (PreActResNet, "timm", "norm", "norm"),
        (PreActResNet, "pytorchcv", "features.init_block", "stem_conv"),
        (PreActResNet, "pytorchcv", "features.init_block.bn", "stem_norm"),
        (PreActResNet, "pytorchcv", "features.post_activ.bn", "norm"),
        (PreActResNet, "pytorchcv", "features.stage3.unit2.body.conv1.bn", "stage3_block2/norm1"),
    ],
)
def test_foreign_names_have_places_here(model, library, name, place):
    (scheme,) = [scheme for scheme in SCHEMES[model] if scheme.library == library]
    assert scheme.rename(name, model(10)) == place
