"""The layer table: multiply-accumulates and memory by hand, order, sharing, what layers see, and its two forms."""

import functools
import json
import math
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from contract import REMEMBERING, TASKS, experiment

from cnnlab import inspect, knobs
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.inspect import Layer, as_json, as_table, layers, memory, of_model
from cnnlab.models import MODELS
from cnnlab.models import layers as model_layers
from cnnlab.recipes.classification import classification
from cnnlab.terminal import Terminal
from tests import zoo
from tests.commands import Here
from tests.stages import slow_but


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
    first = {"name": "conv1", "type": "Conv", "output": [28, 28, 6], "params": 156, "macs": 117600}
    seen = {"memory": 28 * 28 * 6 * 4, "stride": [1, 1], "receptive_field": [5, 5], "start": [0, 0]}
    assert found["layers"][0] == {**first, **seen}
    last = found["layers"][-1]
    assert (last["stride"], last["receptive_field"], last["start"]) == ([None, None], ["all", "all"], [None, None])
    assert found["total"] == {"params": 61706, "macs": 416520}
    outputs = (28 * 28 * 6, 10 * 10 * 16, 120, 120, 84, 84, 10)  # two convolutions, three dense layers, two dropouts
    assert found["memory"] == {"parameters": 4 * 61706, "activations": 4 * sum(outputs)}


def test_json_tells_what_is_not_a_number():
    half = Layer("up", "Up", (8, 8, 1), 0, 0, 256, (Fraction(1, 2), None), (math.inf, None), (None, -3))
    row = as_json([half])["layers"][0]
    assert (row["stride"], row["receptive_field"], row["start"]) == ([0.5, None], ["all", None], [None, -3])
    json.dumps(row, allow_nan=False)
    assert as_table([half]).splitlines()[2].split()[-2:] == ["1/2x?", "allx?"]


def test_table_is_aligned_with_separators_and_totals():
    lines = as_table(layers(MODELS["lenet5_1998"](classes=10), (32, 32, 1))).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "parameters", "MACs", "memory", "stride", "receptive", "field"]
    assert lines[-2].split() == ["parameters", "in", "f32", "234.4", "KiB"]
    assert lines[-1].split() == [
        "total",
        "60,000",
        "325,680",
        "31.6",
        "KiB",
    ]  # 4 (4704 + 1176 + 1600 + 400 + 120 + 84 + 10) bytes
    assert len({len(line) for line in lines[:-2]}) == 1
    (c3,) = (line for line in lines if "10x10x16" in line)
    assert c3.split() == ["c3", "SparseConv", "10x10x16", "1,516", "150,000", "6.2", "KiB", "2", "14"]
    assert {line.find("KiB") + 3 for line in (c3, lines[-1])} == {lines[0].find("memory") + 6}
    assert lines[-4].split()[-2:] == ["-", "all"]


class Sides(nn.Module):
    """Pooling and a factorised convolution, with a name that the table has to show."""

    @nn.compact
    def __call__(self, x, *, train):
        x = model_layers.Conv(4, (1, 7), (1, 2), name="wide")(x)
        x = model_layers.MaxPool(3, 2, padding=1, name="max_pool")(x)
        x = model_layers.AveragePool((2, 1), name="average_pool")(x)
        return x, {}


def test_pooling_has_rows_and_both_sides_are_shown_where_they_differ():
    rows = [line.split() for line in as_table(layers(Sides(), (16, 16, 3))).splitlines()[2:5]]
    assert rows == [
        ["wide", "Conv", "16x8x4", "88", "10,752", "2.0", "KiB", "1x2", "1x7"],
        ["max_pool", "MaxPool", "8x4x4", "0", "0", "512", "B", "2x4", "3x11"],
        ["average_pool", "AveragePool", "4x4x4", "0", "0", "256", "B", "4", "5x11"],
    ]
    assert [row.start for row in layers(Sides(), (16, 16, 3))] == [(0, -2), (-1, -4), (-1, -4)]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 19, "1.5 MiB"), (5 << 30, "5.0 GiB")]
)
def test_memory_is_written_for_people(count, text):
    row = Layer("x", "X", (1,), 0, 0, count, (None, None), (0, 0), (None, None))
    assert text in as_table([row]).splitlines()[2]


def test_what_cannot_be_followed_shows_a_question_mark():
    class Sorted(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(2, name="dense")(jnp.sort(x, axis=1)), {}

    (row,) = layers(Sorted(), (8, 8, 3))
    assert row.receptive_field == (None, 1) and as_table([row]).splitlines()[2].split()[-2:] == ["?x1", "?x1"]


@pytest.mark.parametrize(
    "name",
    slow_but([*(name for name in MODELS if name not in zoo.ZOO), *zoo.kinds()], "linear", "lenet5", "mobilenet_v1"),
)
def test_models_can_be_inspected_by_name_and_all_their_layers_are_followed(name):
    thin = zoo.thin(name)
    given = {f"model.{knob}": str(value) for knob, value in thin.items()}
    rows = knobs.resolve(of_model, {"model": name, "input": "32,32,3", "classes": "10", **given}).call()
    assert rows == inspect.layers(MODELS[name](classes=10, **thin), (32, 32, 3))
    assert [row.name for row in rows if None in row.receptive_field] == []
    assert rows[-1].receptive_field == (math.inf, math.inf) or name.startswith("squeezenet")  # whose last is a convolution


@pytest.mark.parametrize("name", slow_but(TASKS, "classify", "knn", "ngram", "write", "detect"))
def test_what_any_task_predicts_with_can_be_inspected(name):
    made = experiment(name)
    rows = inspect.of_experiment(made)
    assert bool(rows) == (name not in (*REMEMBERING, "pursuit", "surgery", "stacked", "stacked_unsupervised"))
    assert sum(row.params for row in rows) <= inspect.parameters(made)


@functools.cache
def step_memory(strategy: str = "jit", devices: int = 1, remat: str = "none", **given: object) -> memory.TrainingMemory:
    """The predicted memory of a step of a small network on digits."""
    base = {"model": "mlp", "widths": (64, 64), "dataset": "digits", "batch_size": 512, "optimizer": "adam"}
    experiment, placed = knobs.resolve(classification, {**base, **given}).call(), STRATEGIES[strategy](pick_devices(devices))
    return memory.training_memory(build_program(experiment, placed, precision="f32", remat=remat))


def per_device(found: memory.TrainingMemory, what: str) -> dict[bool, tuple[int, int, int]]:
    """{whether they are split: (arrays, bytes of all, bytes on a device)} of one kind of arrays."""
    return {each.is_split: (each.leaves, each.whole, each.per_device) for each in found.held if each.what == what}


PARAMETERS = 4 * (64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10)


def test_the_memory_of_a_step_has_parameters_optimiser_and_data_apart():
    found = step_memory()
    assert per_device(found, "parameters of classifier") == {False: (6, PARAMETERS, PARAMETERS)}
    assert per_device(found, "optimiser state of classifier")[False][2] == pytest.approx(2 * PARAMETERS, abs=64)
    assert per_device(found, "resident data")[False][1] == 1797 * (64 + 4)  # u8 [8, 8, 1] and i32
    assert found.other_splits == (1797 - 1294) * 68 and found.total > sum(each.per_device for each in found.held)
    assert found.compiled["temp"] > 4 * 512 * 64
    lines = memory.as_lines(found, Terminal.of_stdout())
    assert lines[0] == "A training step of 512 under jit on 1 cpu device:" and lines[-1].split()[0] == "total"
    assert json.loads(json.dumps(memory.as_json(found)))["total"] == found.total


def test_parts_of_a_batch_take_less_memory():
    assert step_memory(accumulate=8).compiled["temp"] < 0.5 * step_memory().compiled["temp"]


@pytest.mark.slow
def test_a_step_that_computes_activations_again_takes_less_memory():
    deep = {"widths": (64,) * 12, "batch_size": 1024}
    kept, again, products = (step_memory(remat=mode, **deep) for mode in ("none", "full", "save_matmuls"))
    assert again.compiled["temp"] < 0.6 * kept.compiled["temp"] and again.compiled["temp"] <= products.compiled["temp"]
    assert memory.as_lines(again, Terminal.of_stdout())[0].endswith("under jit on 1 cpu device, with --remat=full:")
    assert again.total - again.compiled["temp"] == pytest.approx(kept.total - kept.compiled["temp"], rel=0.02)


@pytest.mark.parametrize("strategy", slow_but(["fsdp", "pmap"], "fsdp"))
def test_the_state_of_several_devices_is_split_or_whole(strategy: str):
    found = step_memory(strategy, 4)
    large, small = 4 * 2 * 64 * 64, PARAMETERS - 4 * 2 * 64 * 64  # fsdp leaves arrays of fewer than 1024 numbers whole
    whole = {False: (6, PARAMETERS, PARAMETERS)}
    split = {True: (2, large, large // 4), False: (4, small, small)}
    assert per_device(found, "parameters of classifier") == (split if strategy == "fsdp" else whole)
    assert per_device(found, "batch") == {True: (1, 4 * 512, 512)}
    text = memory.as_lines(found, Terminal.of_stdout())
    assert text[0].endswith("on 4 cpu devices, 128 examples on each:")
    assert [line.split()[3] for line in text if line.startswith("parameters of")] == [
        *["split"] * (strategy == "fsdp"),
        "whole",
    ]


def test_inspect_predicts_memory_of_an_experiment_alone(here: Here):
    code, out, _ = here("inspect", "--train", "--experiment=linear_digits", "--devices=2", "--accumulate=4")
    assert code == 0 and out.startswith("A training step of 64 in 4 parts under jit on 2 cpu devices, 32 examples on each:")
    assert "--remat=full changes a training step" in here("inspect", "--experiment=linear_digits", "--remat=full")[2]
    assert here("inspect", "--train", "--model=lenet5")[2].endswith("Add --experiment=NAME.\n")
