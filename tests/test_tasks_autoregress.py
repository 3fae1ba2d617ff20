"""Pixel by pixel: probabilities that add up to 1, two sampling loops with one result, the same training however it is run."""

import dataclasses
import functools
import itertools
import math

import flipping
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.engine import train
from cnnlab.engine.precision import computing_in
from cnnlab.models import PIXEL_MODELS
from cnnlab.ops.pixel_distributions import PIXEL_DISTRIBUTIONS, on_levels
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.tasks.autoregress import PLAYER, autoregress
from cnnlab.tasks.pixel_sampling import evaluations, to_signed
from tests.stages import slow_but

KEY = jax.random.key(3)
SMALL = {"pixelcnn": {"blocks": 2}, "gated_pixelcnn": {"layers": 3}, "pixelrnn": {"layers": 2}}


@functools.cache
def task_of(name="pixelcnn", shape=(5, 4, 1), output="bernoulli", classes=0, sampling="cached", **given):
    """(task, params with biases that are not 0)."""
    distribution, channels = PIXEL_DISTRIBUTIONS[output](**given), shape[2]
    groups = channels if distribution.autoregressive_channels else 1
    model = PIXEL_MODELS[name](
        outputs=distribution.parameter_count(channels), groups=groups, classes=classes, width=6, head=9, **SMALL[name]
    )
    task = autoregress(model, output=distribution, image_shape=shape, classes=classes, sampling=sampling)
    task = dataclasses.replace(task, loss=jax.jit(task.loss, static_argnums=4), measure=jax.jit(task.measure))
    params, _ = jax.jit(task.init)(KEY, batch_of(1, shape))
    return task, jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(KEY, leaf.shape), params)


def batch_of(size, shape=(5, 4, 1)):
    random = np.random.default_rng(0)
    return {
        "image": jnp.asarray(random.uniform(size=(size, *shape)), jnp.float32),
        "label": jnp.asarray(random.integers(0, 3, size), jnp.int32),
        "index": jnp.arange(size, dtype=jnp.int32),
        "mask": jnp.ones(size, bool),
    }


def keys_of(count, seed=0):
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(seed), jnp.arange(count))


@pytest.mark.parametrize("name", slow_but(PIXEL_MODELS, "pixelcnn"))
def test_the_probabilities_of_all_binary_images_of_3x3_add_up_to_one(name):
    task, params = task_of(name, (3, 3, 1), binarize="threshold")
    images = np.asarray(list(itertools.product((0.0, 1.0), repeat=9)), np.float32).reshape(512, 3, 3, 1)
    nats = task.measure(params, {}, {**batch_of(512, (3, 3, 1)), "image": jnp.asarray(images)})["rows"]["nats"]
    p = np.exp(-np.asarray(nats, np.float64))
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    assert p.max() > 3 * p.min()


@pytest.mark.slow
def test_the_probabilities_of_all_colours_of_a_pair_of_pixels_add_up_to_one():
    task, params = task_of("pixelcnn", (1, 2, 3), "softmax", levels=3)
    images = np.asarray(list(itertools.product((0.0, 0.5, 1.0), repeat=6)), np.float32).reshape(729, 1, 2, 3)
    nats = task.measure(params, {}, {**batch_of(729, (1, 2, 3)), "image": jnp.asarray(images)})["rows"]["nats"]
    np.testing.assert_allclose(np.exp(-np.asarray(nats, np.float64)).sum(), 1.0, rtol=1e-5)


LOOPED = [
    pytest.param("pixelcnn", (5, 4, 1), "bernoulli", {}, marks=pytest.mark.slow),
    pytest.param("pixelcnn", (4, 5, 3), "softmax", {"levels": 5}, marks=pytest.mark.slow),
    pytest.param("gated_pixelcnn", (5, 4, 3), "bernoulli", {}, marks=pytest.mark.slow),
    pytest.param("gated_pixelcnn", (4, 5, 3), "mixture", {"levels": 17}, marks=pytest.mark.slow),
    pytest.param("pixelrnn", (5, 4, 3), "bernoulli", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "shape", "output", "given"), LOOPED)
def test_both_loops_draw_the_same_images(name, shape, output, given):
    drawn = {}
    for sampling in ("naive", "cached"):
        task, params = task_of(name, shape, output, 3, sampling, **given)
        draw = jax.jit(lambda params, task=task: task.sampler.draw(params, {}, keys_of(4), jnp.arange(4) % 3, jnp.float32(0.8)))
        drawn[sampling] = np.asarray(draw(params))
    levels = PIXEL_DISTRIBUTIONS[output](**given).levels
    assert (drawn["naive"] != drawn["cached"]).mean() == 0  # a draw exactly at an edge could fall on either side: none does
    assert len(np.unique(drawn["cached"])) == levels or levels > 5
    np.testing.assert_allclose(drawn["cached"] * (levels - 1), np.rint(drawn["cached"] * (levels - 1)), atol=1e-4)


@pytest.mark.slow
def test_what_is_drawn_has_the_probability_that_is_measured():
    shape, count = (2, 2, 1), 8000
    task, params = task_of("gated_pixelcnn", shape, binarize="threshold")
    drawn = jax.jit(task.sampler.draw)(params, {}, keys_of(count), jnp.zeros(count, jnp.int32), jnp.float32(1))
    seen = np.bincount(np.asarray(drawn).reshape(count, 4).astype(int) @ [8, 4, 2, 1], minlength=16) / count
    images = np.asarray(list(itertools.product((0.0, 1.0), repeat=4)), np.float32).reshape(16, *shape)
    nats = task.measure(params, {}, {**batch_of(16, shape), "image": jnp.asarray(images)})["rows"]["nats"]
    p = np.exp(-np.asarray(nats, np.float64))
    assert (np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / count) + 1e-6).all()


def test_the_class_changes_what_is_drawn():
    task, params = task_of(classes=3)
    network = params[PLAYER]
    params = {PLAYER: network | {"class0": {"kernel": 20.0 * network["class0"]["kernel"]}}}
    draw = jax.jit(task.sampler.draw)
    one, two = (draw(params, {}, keys_of(8), jnp.full(8, label), jnp.float32(1)) for label in (0, 2))
    assert task.sampler.conditional and (np.asarray(one) != np.asarray(two)).any()
    assert not task_of()[0].sampler.conditional


def test_a_snapshot_keeps_the_upper_half_and_completes_the_lower():
    task, params = task_of(binarize="threshold")
    shown = jax.jit(task.snapshot)(params, {}, batch_of(6), KEY)
    given, completed = (np.asarray(shown["completions"])[start::2] for start in (0, 1))
    assert shown["samples"].shape == (6, 5, 4, 1) and shown["completions"].shape == (12, 5, 4, 1)
    np.testing.assert_array_equal(given, np.asarray(batch_of(6)["image"]) > 0.5)
    np.testing.assert_array_equal(completed[:, :2], given[:, :2])
    assert (completed[:, 2:] != given[:, 2:]).any()


@pytest.mark.slow
def test_a_network_that_knows_nothing_takes_one_bit_a_pixel():
    task, params = task_of(shape=(5, 4, 3))
    nothing = jax.tree.map(jnp.zeros_like, params)
    numbers = task.summary(train.merge([train.as_part(jax.device_get(task.measure(nothing, {}, batch_of(7, (5, 4, 3)))))]))
    np.testing.assert_allclose([numbers["nats"], numbers["bits_per_dim"]], [60 * math.log(2), 1.0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("binarize", "differ"), [("dynamic", True), ("static", False), ("threshold", False)])
def test_dynamic_binarization_alone_differs_from_step_to_step(binarize, differ):
    task, params = task_of(binarize=binarize)
    one, two = (task.loss(params, {}, batch_of(4), jax.random.key(step), PLAYER)[0] for step in (0, 1))
    assert (float(one) != float(two)) == differ


@pytest.mark.parametrize("binarize", ["static", "dynamic"])
def test_what_is_drawn_of_a_measured_image_belongs_to_the_example(binarize):
    task, params = task_of(binarize=binarize)
    batch = batch_of(4)
    turned = jax.tree.map(lambda leaf: leaf[::-1], batch)
    one, two = (task.measure(params, {}, each)["rows"]["nats"] for each in (batch, turned))
    np.testing.assert_allclose(one, two[::-1], rtol=1e-5)


@pytest.mark.parametrize("dtype", (jnp.bfloat16, jnp.float16))
@pytest.mark.parametrize("levels", (129, 256))
def test_half_precision_tells_all_grey_levels_apart_in_targets_and_inputs(dtype, levels):
    exact = jnp.arange(levels, dtype=jnp.float32) / (levels - 1)
    np.testing.assert_array_equal(on_levels(exact.astype(dtype).astype(jnp.float32), levels), on_levels(exact, levels))
    assert len(np.unique(np.asarray(to_signed(exact.astype(dtype)), np.float64))) == levels


@pytest.mark.slow
def test_bf16_computes_near_f32_and_tells_in_f32():
    task, params = task_of(output="mixture", levels=17)
    cast = computing_in("bf16")
    whole, half = (
        task.measure(p, {}, b)["rows"]["nats"] for p, b in ((params, batch_of(4)), (cast(params), cast(batch_of(4))))
    )
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, whole, rtol=0.05)


def test_evaluations_are_one_a_value_or_one_a_pixel():
    assert (
        evaluations(PIXEL_DISTRIBUTIONS["softmax"](), (4, 5, 3)) == 60
        and evaluations(PIXEL_DISTRIBUTIONS["mixture"](), (4, 5, 3)) == 20
    )


def signature(values):
    """Everything that a knob can change, on a small data set."""
    small = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 6, "batch_size": 8, "duration": "40 steps"}
    kept = {name: value for name, value in small.items() if name.split(".")[0] not in values}
    return flipping.signature(pixel_by_pixel, kept | values)


FLIPS = {
    "pixelcnn": {"width": 5, "blocks": 2, "reach": 2, "head": 7, "initializer": "lecun"},
    "gated_pixelcnn": {"width": 5, "layers": 2, "reach": 2, "head": 7, "initializer": "he"},
    "pixelrnn": {"width": 5, "layers": 2, "reach": 2, "head": 7, "initializer": "he"},
}
BASE = {"pixelcnn": {"model.blocks": 1}, "gated_pixelcnn": {"model.layers": 1}, "pixelrnn": {"model.layers": 1}}
OTHERS = {
    "output": "mixture",
    "output.binarize": "static",
    "conditional": True,
    "sampling": "naive",
    "dataset": "digits",
    "optimizer": "sgd",
    "schedule": "linear",
    "batch_size": 7,
    "duration": "41 steps",
    "validation": 0.2,
    "average_decay": 0.5,
    "image_size": 5,
    "augment": "flip",
    "only_classes": "0,1",
    "examples_per_class": 9,
    "resident_mib": 0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PIXEL_MODELS)
def test_every_knob_of_a_network_does_something(name):
    base = {"model": name, "model.width": 4, **BASE[name]}
    before = signature(base)
    assert signature(base) == before
    for knob, value in FLIPS[name].items():
        assert signature({**base, f"model.{knob}": value}) != before, knob


@pytest.mark.slow
def test_every_knob_of_the_recipe_does_something():
    base = {"model.width": 4, "model.blocks": 1}
    before = signature(base)
    for knob, value in OTHERS.items():
        assert signature({**base, knob: value}) != before, knob
    for output in ("softmax", "mixture"):
        base["output"] = output
        before = signature(base)
        assert signature({**base, "output.levels": 9}) != before
    assert signature({**base, "output.components": 2}) != before


def test_the_players_are_the_groups_of_parameters():
    task, params = task_of()
    assert task.turns == tuple(params) == ("pixels",) and task.primary_metric.name == "nats"
    assert task.primary_metric.higher_is_better is False
