"""Counting, colourisation and inpainting: losses as NumPy computes them, Lab as scikit-image does, and what they refuse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import color

from cnnlab import knobs
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.ops import colours
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.recipes.pretexts import PRETEXTS
from cnnlab.tasks import colourize, count, inpaint
from tests.flipping import require_every_knob_does_something

DRAW = np.random.default_rng(0)
RGB = DRAW.uniform(size=(4, 8, 8, 3))
BASE = {"model": "convnet", "model.widths": "8,16", "model.depth": 1, "duration": "16 steps", "lr": 0.01}
ON_SCENES = {"dataset": "scenes", "dataset.size": 16, "dataset.examples": 60, "batch_size": 16}

IN_COLOUR = {"dataset": "smooth_noise", "dataset.size": 8}


def test_quarters_and_the_whole_are_those_of_numpy():
    images = DRAW.normal(size=(2, 6, 8, 3)).astype(np.float32)
    found = jax.jit(count.quarters_and_whole)(images)
    expected = [images[:, :3, :4], images[:, :3, 4:], images[:, 3:, :4], images[:, 3:, 4:]]
    expected.append(images.reshape(2, 3, 2, 4, 2, 3).mean((2, 4)))  # blocks of 2x2
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-5, atol=1e-6)


def test_the_loss_of_counting_is_that_of_its_equation():
    counts, other = DRAW.uniform(size=(5, 5, 7)), DRAW.uniform(size=(5, 7))
    losses, errors = jax.jit(lambda c, o: count.terms(c, o, 10.0))(counts.astype(np.float32), other.astype(np.float32))
    total = counts[:, :4].sum(axis=1)
    error = ((counts[:, 4] - total) ** 2).sum(axis=1)
    np.testing.assert_allclose(errors, error, rtol=1e-5)
    np.testing.assert_allclose(losses, error + np.maximum(0, 10 - ((other - total) ** 2).sum(axis=1)), rtol=1e-5)


def test_counting_is_measured_against_the_next_image_and_a_collapse_is_said():
    rows = {"counts": DRAW.uniform(size=(6, 3)), "total": DRAW.uniform(size=(6, 3))}
    found = count.summary(10.0, {"sums": {}, "rows": rows})
    errors = [np.sum((rows["counts"][i] - rows["total"][i]) ** 2) for i in range(6)]
    apart = [np.sum((rows["counts"][(i + 1) % 6] - rows["total"][i]) ** 2) for i in range(6)]
    assert found["matched"] == np.mean(np.array(errors) < apart)
    assert found["loss"] == pytest.approx(np.mean(np.array(errors) + np.maximum(0, 10 - np.array(apart))))
    assert "collapsed" in count.diagnosis({"test/counted": 0.001}) and count.diagnosis({"test/counted": 3.0}) == ""


def test_lab_is_that_of_scikit_image_both_ways():
    with jax.enable_x64(True):
        lab = np.asarray(jax.jit(colours.rgb_to_lab)(RGB))
        back = np.asarray(jax.jit(colours.lab_to_rgb)(lab))
        dark = np.asarray(jax.jit(colours.rgb_to_lab)(RGB / 100))
    np.testing.assert_allclose(lab, color.rgb2lab(RGB), atol=1e-10)
    np.testing.assert_allclose(dark, color.rgb2lab(RGB / 100), atol=1e-10)
    np.testing.assert_allclose(back, color.lab2rgb(color.rgb2lab(RGB)), atol=1e-10)
    np.testing.assert_allclose(jax.jit(colours.rgb_to_lab)(RGB.astype(np.float32)), color.rgb2lab(RGB), atol=2e-3)


def test_every_colour_of_the_screen_lies_in_a_bin():
    centres, ab = colours.bins(), color.rgb2lab(DRAW.uniform(size=(500, 3)))[:, 1:]
    distances = np.abs(centres[None].astype(np.float64) - ab[:, None]).max(axis=-1).min(axis=1)
    assert centres.shape == (261, 2) and distances.max() <= colours.SIDE / 2 + 0.5


def test_a_colour_is_divided_among_its_five_nearest_bins_by_a_gaussian():
    ab = color.rgb2lab(RGB)[..., 1:]
    found = np.asarray(jax.jit(colours.soft_bins)(ab.astype(np.float32)))
    squared = ((colours.bins()[None, None, None].astype(np.float64) - ab[..., None, :]) ** 2).sum(axis=-1)
    nearest = np.argsort(squared, axis=-1)[..., :5]
    weights = np.exp(-np.take_along_axis(squared, nearest, axis=-1) / 50)
    expected = np.zeros_like(squared)
    np.put_along_axis(expected, nearest, weights / weights.sum(axis=-1, keepdims=True), axis=-1)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_array_equal(jax.jit(colours.nearest_bin)(ab.astype(np.float32)), nearest[..., 0])


def test_rare_colours_weigh_more_and_the_mean_weight_is_one():
    shares = DRAW.dirichlet(np.full(len(colours.bins()), 0.2)).astype(np.float32)
    weights, equal = (np.asarray(jax.jit(colours.rarity)(shares, uniform)) for uniform in (0.5, 1.0))
    squared = ((colours.bins()[:, None] - colours.bins()[None]).astype(np.float64) ** 2).sum(axis=-1)
    kernel = np.exp(-squared / (2 * 5**2))
    smooth = shares.astype(np.float64) @ (kernel / kernel.sum(axis=1, keepdims=True))
    expected = 1 / (0.5 * smooth + 0.5 / len(smooth))
    np.testing.assert_allclose(weights, expected / (smooth @ expected), rtol=1e-4)
    assert smooth @ weights == pytest.approx(1, rel=1e-4) and np.corrcoef(smooth, weights)[0, 1] < 0
    np.testing.assert_allclose(equal, 1.0, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.38])
def test_the_annealed_mean_is_the_mean_under_sharper_shares(temperature: float):
    logits = DRAW.normal(size=(3, len(colours.bins())))
    sharp = np.exp(logits) ** (1 / temperature)
    expected = (sharp / sharp.sum(axis=1, keepdims=True)) @ colours.bins()
    found = jax.jit(colours.annealed_mean)(logits.astype(np.float32), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_the_numbers_of_a_colourisation_are_those_of_numpy():
    true = color.rgb2lab(RGB)[:, ::4, ::4, 1:]
    logits = DRAW.normal(size=(4, 2, 2, len(colours.bins())))
    soft = np.asarray(colours.soft_bins(jnp.asarray(true, jnp.float32)), np.float64)
    each, losses = jax.jit(colourize.compared)(*(jnp.asarray(x, jnp.float32) for x in (logits, soft, true)), 1.0)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(losses, -(soft * np.log(p)).sum(axis=-1), rtol=1e-4)
    np.testing.assert_allclose(each["ab_error"], np.linalg.norm(p @ colours.bins() - true, axis=-1).mean((1, 2)), rtol=1e-3)
    np.testing.assert_allclose(each["grey_error"], np.linalg.norm(true, axis=-1).mean((1, 2)), rtol=1e-4)


def test_cells_are_means_of_their_pixels():
    x = DRAW.normal(size=(2, 9, 8, 2)).astype(np.float32)
    found = jax.jit(lambda x: colourize.of_cells(x, 4))(x)
    np.testing.assert_allclose(found, x[:, :8].reshape(2, 2, 4, 2, 4, 2).mean((2, 4)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("region", ["centre", "anywhere"])
def test_a_hole_is_a_rectangle_of_the_share_that_was_asked_for(region: str):
    keys = jax.random.split(jax.random.key(0), 20)
    found = np.asarray(jax.jit(lambda k: inpaint.holes((8, 12), k, region=region, share=0.5))(keys))[..., 0]
    corners = set()
    for hole in found:
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        assert len(rows) == 4 and len(columns) == 6 and hole.sum() == 24
        corners.add((rows[0], columns[0]))
    assert corners == {(2, 3)} if region == "centre" else len(corners) > 5


def test_the_error_of_a_filled_hole_is_the_mean_square_within_it():
    images, found = DRAW.normal(size=(2, 3, 6, 6, 2)).astype(np.float32)
    hole = np.zeros((3, 6, 6, 1), bool)
    hole[:, 1:4, 2:5] = True
    each = jax.jit(inpaint.errors)(found, images, hole)
    inside, outside = images[:, 1:4, 2:5].reshape(3, 9, 2), images[~hole[..., 0]].reshape(3, 27, 2)
    np.testing.assert_allclose(each["error"], ((found - images)[:, 1:4, 2:5] ** 2).mean((1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(each["flat_error"], ((outside.mean(1, keepdims=True) - inside) ** 2).mean((1, 2)), rtol=1e-4)


TASKS = {
    "counting": ({"dataset": "digits", "counts": 8}, None),
    "inpainting": ({"dataset": "digits", "pretext.width": 8}, None),
    "colourisation": ({**ON_SCENES, "pretext.width": 8}, math.log(261)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_training_lowers_the_loss_of_held_out_images(name: str):
    """Of the digits of scikit-learn, for colours drawn in colour; that of colours begins with the logarithm of the bins."""
    given, chance = TASKS[name]
    experiment = knobs.resolve(pretext_learning, {**BASE, "pretext": name, **given}).call()
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state = program.init(0)
    first = experiment.task.summary(train.evaluate(program, state, "test"))["loss"]
    state, _ = train.fit(
        program,
        state,
        seed=0,
        step=0,
        stop=16,
        intervals=train.Intervals(log=16, evaluate=100, save=100),
        pending_stats=[],
        on_log=lambda step, parts: None,
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, pending: None,
        should_stop=lambda: False,
    )
    stats = train.evaluate(program, state, "test")
    assert experiment.task.summary(stats)["loss"] < first and chance in (None, pytest.approx(first, abs=0.05))
    host = program.strategy.to_host(state)
    assert experiment.task.figures(host.params, host.model_state, stats, experiment.data, "test")


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETEXTS)
def test_every_knob_of_a_pretext_task_does_something(name: str):
    small = {**IN_COLOUR, "dataset.size": 24, "dataset.examples": 60, "batch_size": 8, "model.widths": "4", "model.depth": 1}
    few = {"permutations": 10} if name == "jigsaw" else {}
    require_every_knob_does_something(pretext_learning, {**small, "pretext": name, **few}, below="pretext", others={"gap": 0.4})


@pytest.mark.slow
def test_every_knob_of_the_recipe_and_of_leaks_does_something():
    small = {"dataset.size": 8, "dataset.examples": 60, "batch_size": 8, "model.widths": "4", "model.depth": 1}
    given = {"dataset": "stripes", "image_size": 10, "image_fit": "pad", "l1": 0.001, "leak": "corner_mark"}
    others = {"lr_multipliers": "trunk=0.5", "leak": "none", "model": "cifar_resnet20"}
    require_every_knob_does_something(pretext_learning, {**small, **given}, others=others, but=("init_from",))
    leaks = {"dataset": "smooth_noise", "leak": "lens_fringe,corner_mark"}
    require_every_knob_does_something(pretext_learning, {**small, **leaks}, below="leak")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"pretext": "counting", "image_size": 9}, r"images of 9x9 have no four equal quarters.*\n.*--image_size=10"),
        ({"pretext": "colourisation"}, r"the images have 1 channel\(s\), and no colours"),
        ({"pretext": "colourisation", **IN_COLOUR, "normalize": "zca"}, r"whitened by a matrix"),
        ({"pretext": "inpainting", "share": 0.99}, r"nothing is left of an image around the hole"),
        ({"pretext": "inpainting", "model": "mlp"}, r"MLP returns no maps"),
        ({"leak": "corner_mark", "normalize": "zca"}, r"--leak: the images are whitened"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_compiled(given, text):
    of_network = {"model.widths": "4"}
    with pytest.raises(UsageError, match=text):
        knobs.resolve(pretext_learning, {"dataset": "digits", **of_network, **given}).call()
