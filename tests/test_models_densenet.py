"""DenseNet: depth and sizes of the paper's tables, dense connectivity, dropout's places, and the names of other libraries."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.interop.families.densenet import SCHEMES
from cnnlab.models import densenet, norms
from cnnlab.models.densenet import DenseNet
from cnnlab.models.layers import Dropout
from tests.stages import slow_but

KEY = jax.random.key(0)
TINY = {"blocks": (2, 1), "growth": 4, "stem": "small"}
CIFAR = [  # depth L, growth k and whether it is a BC net: rows of Table 2; no other library has the first three
    (densenet.cifar_densenet40_12, 40, 12, False),
    (densenet.cifar_densenet100_12, 100, 12, False),
    (densenet.cifar_densenet100_24, 100, 24, False),
    (densenet.cifar_densenet_bc100_12, 100, 12, True),
]
IMAGENET = [
    (densenet.densenet121, 121),
    (densenet.densenet161, 161),
    (densenet.densenet169, 169),
    (densenet.densenet201, 201),
]


def rows(model, side, channels=3):
    return inspect.layers(model, (side, side, channels))


def weighted(table):
    """How many layers have a kernel: what the numbers in DenseNets' names count."""
    return sum(row.type in ("Conv", "Dense") for row in table)


def derived_from_the_paper(depth, growth, compressed):
    """(parameters, multiply-accumulates) of a net for CIFAR-10, from sections 3 and 4.2 of the paper."""
    each = (depth - 4) // (6 if compressed else 3)
    channels = 2 * growth if compressed else 16
    params, macs, side = 27 * channels, 27 * channels * 32**2, 32
    for block in range(3):
        if block:
            kept = channels // 2 if compressed else channels
            params += 2 * channels + channels * kept
            macs += channels * kept * side**2
            channels, side = kept, side // 2
        for _ in range(each):
            params += 2 * channels
            if compressed:
                kernels = channels * 4 * growth + 9 * 4 * growth * growth
                params += 2 * 4 * growth
            else:
                kernels = 9 * channels * growth
            params, macs, channels = params + kernels, macs + kernels * side**2, channels + growth
    return params + 2 * channels + 10 * channels + 10, macs + 10 * channels


@functools.cache
def traced(model):
    """The program of a training step's forward pass, as text."""

    def run(images):
        return model.init_with_output({"params": KEY, "dropout": KEY}, images, train=True)

    return str(jax.make_jaxpr(run)(jnp.zeros((2, 16, 16, 3))))


@pytest.mark.parametrize(("network", "depth", "growth", "compressed"), slow_but(CIFAR, CIFAR[0]))
def test_cifar_densenet_has_the_depth_of_its_name_and_the_papers_counts(network, depth, growth, compressed):
    table = rows(network(classes=10), 32)
    assert weighted(table) == depth
    params, macs = derived_from_the_paper(depth, growth, compressed)
    assert (sum(row.params for row in table), sum(row.macs for row in table)) == (params, macs)


@pytest.mark.parametrize(("network", "depth"), slow_but(IMAGENET, IMAGENET[0]))
def test_imagenet_densenet_has_the_depth_of_its_name_and_the_sizes_of_table_1(network, depth):
    table = rows(network(classes=1000), 224)
    assert weighted(table) == depth
    sizes = {row.name: row.output for row in table}
    growth = network.keywords.get("growth", 32)
    assert sizes["stem_pool"] == (56, 56, 2 * growth)
    found = [sizes[f"stage{stage}_layer1/conv2"] for stage in (1, 2, 3, 4)]
    assert found == [(side, side, growth) for side in (56, 28, 14, 7)]


def test_every_layer_of_a_block_adds_to_what_came_before():
    model = DenseNet(classes=3, **TINY)
    images = jax.random.normal(KEY, (2, 8, 8, 3))
    (_, seen), _ = jax.jit(functools.partial(model.init_with_output, train=False))(KEY, images)
    assert seen["stem"].shape == (2, 8, 8, 8) and seen["stage1"].shape == (2, 8, 8, 8 + 2 * 4)
    np.testing.assert_array_equal(seen["stage1"][..., :8], seen["stem"])
    assert seen["stage2"].shape == (2, 4, 4, 16 // 2 + 4)


def test_dropout_follows_every_convolution_but_the_first_and_precedes_the_last_layer():
    model = DenseNet(classes=3, **TINY, dropout=0.2)
    dropped = []

    def note(call, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.method_name == "__call__":
            dropped.append("/".join(context.module.path))
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(functools.partial(model.init, train=False), KEY, images)
    convolutions = [row.name for row in rows(model, 8) if row.type == "Conv" and row.name != "stem"]
    assert dropped == [*(name.replace("conv", "dropout") for name in convolutions), "dropout"]


@pytest.mark.parametrize(
    "knobs",
    [
        {"blocks": (2, 2)},
        {"growth": 5},
        {"bottleneck": 0},
        {"bottleneck": 2},
        {"compression": 1.0},
        {"channels": 5},
        {"stem": "imagenet"},
        {"norm": norms.no_norm},
        {"norm": norms.group_norm},
        {"activation": jnp.tanh},
        {"dropout": 0.1},
        {"width": 2.0},
    ],
    ids=lambda knobs: next(iter(knobs)),
)
def test_every_knob_of_densenet_changes_the_network(knobs):
    assert traced(DenseNet(classes=3, **TINY)) != traced(DenseNet(classes=3, **{**TINY, **knobs}))


def test_without_norms_every_convolution_has_a_bias():
    shapes = jax.eval_shape(
        functools.partial(DenseNet(classes=3, **TINY, norm=norms.no_norm).init, train=False), KEY, jnp.zeros((1, 8, 8, 3))
    )
    assert set(shapes["params"]["stem"]) == set(shapes["params"]["stage1_layer1"]["conv1"]) == {"kernel", "bias"}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("features.denseblock2.denselayer11.norm2", "stage2_layer11/norm2"),
        ("features.denseblock2.denselayer11.norm.2", "stage2_layer11/norm2"),
        ("features.transition3.conv", "transition3/conv1"),
        ("features.norm5", "norm"),
    ],
)
def test_torchvisions_names_of_old_and_new_files_are_known(theirs, ours):
    assert SCHEMES[DenseNet][0].rename(theirs, DenseNet(classes=10)) == ours
