"""The layer table: multiply-accumulates by hand, order, sharing, and its two forms."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnnlab import inspect, knobs
from cnnlab.inspect import as_json, as_table, layers, of_model
from cnnlab.models import MODELS


class Zoo(nn.Module):
    """One of every kind, one of them used twice, and a parameter outside of any layer."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Conv(8, (3, 3), strides=2, name="strided")(x)  # 8x8x4 -> 4x4x8
        x = nn.Conv(8, (3, 3), feature_group_count=4, name="grouped")(x)
        x = nn.ConvTranspose(6, (2, 2), strides=(2, 2), name="transposed")(x)  # -> 8x8x6
        twice = nn.Conv(6, (1, 1), use_bias=False, name="twice")
        x = nn.relu(twice(twice(x)))
        x = x.mean((1, 2)) * self.param("gain", nn.initializers.ones, (1, 6))
        return nn.Dense(3, name="dense")(x), {}


def test_macs_and_parameters_agree_with_those_by_hand():
    rows = {(row.name, number): (row.output, row.params, row.macs) for number, row in enumerate(layers(Zoo(), (8, 8, 4)))}
    assert rows == {
        ("", 0): ((3,), 6, 0),
        ("strided", 1): ((4, 4, 8), 9 * 4 * 8 + 8, 16 * 9 * 4 * 8),
        ("grouped", 2): ((4, 4, 8), 9 * 2 * 8 + 8, 16 * 9 * 2 * 8),
        ("transposed", 3): ((8, 8, 6), 4 * 8 * 6 + 6, 16 * 4 * 8 * 6),
        ("twice", 4): ((8, 8, 6), 36, 64 * 36),
        ("twice", 5): ((8, 8, 6), 0, 64 * 36),
        ("dense", 6): ((3,), 21, 18),
    }


def test_parameters_are_those_of_the_model():
    for name, size in (("convnet", 8), ("lenet5_1998", 32), ("mlp", 8)):
        model = MODELS[name](classes=10)
        shapes = jax.eval_shape(lambda m=model, s=size: m.init(jax.random.key(0), jnp.ones((1, s, s, 1)), train=False))
        expected = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
        assert as_json(layers(model, (size, size, 1)))["total"]["params"] == expected


def test_a_huge_network_costs_no_memory():
    huge = MODELS["mlp"](classes=10, widths=(1_000_000, 1_000_000))
    assert as_json(layers(huge, (28, 28, 1)))["total"]["macs"] == 784 * 10**6 + 10**12 + 10**7


def test_json_can_be_written_and_sums_up():
    found = json.loads(json.dumps(as_json(layers(MODELS["lenet5"](classes=10), (32, 32, 1)))))
    assert found["layers"][0] == {"name": "conv1", "type": "Conv", "output": [28, 28, 6], "params": 156, "macs": 117600}
    assert found["total"] == {"params": 61706, "macs": 416520}


def test_table_is_aligned_with_separators_and_totals():
    lines = as_table(layers(MODELS["lenet5_1998"](classes=10), (32, 32, 1))).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "MACs"]
    assert lines[-1].split() == ["total", "60,000", "325,680"]
    assert len({len(line) for line in lines}) == 1
    assert any("10x10x16" in line and "1,516" in line and "150,000" in line for line in lines)


@pytest.mark.parametrize("name", MODELS)
def test_models_can_be_inspected_by_name(name):
    rows = knobs.resolve(of_model, {"model": name, "input": "32,32,3", "classes": "10"}).call()
    assert rows == inspect.layers(MODELS[name](classes=10), (32, 32, 3))
