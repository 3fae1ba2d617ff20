"""Pretext tasks with answers: pieces and answers as NumPy makes them, a loss of ln K at first, and what they refuse."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.core import PRETEXT
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.ops.permutations import distant_permutations
from cnnlab.ops.pieces import Grid, normalized, projected_colours, without_colours
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.tasks import pretext
from cnnlab.tasks.puzzles import NEIGHBOURS, PLACES, four_turns, neighbouring_pieces, one_turn, shuffled_pieces

KEYS = jax.random.split(jax.random.key(0), 5)
IMAGES = np.arange(5 * 12 * 12 * 3, dtype=np.float32).reshape(5, 12, 12, 3)
"""Images in which no pixel is like another, so that a piece shows from where it was cut."""
SMALL = {"dataset": "digits", "model": "convnet", "model.widths": "8,16", "model.depth": 1, "optimizer": "adam", "lr": 0.01}


def rot90(images):
    """The four turns of images by NumPy, [B, 4, H, W, C]."""
    return np.stack([np.rot90(images, turn, axes=(1, 2)) for turn in range(4)], axis=1)


def test_turns_are_those_of_numpy():
    turned, numbers = jax.jit(four_turns)(IMAGES, KEYS)
    np.testing.assert_array_equal(turned, rot90(IMAGES))
    np.testing.assert_array_equal(numbers, np.tile(np.arange(4), (5, 1)))
    one, number = jax.jit(one_turn)(IMAGES, KEYS)
    np.testing.assert_array_equal(one[:, 0], rot90(IMAGES)[np.arange(5), number[:, 0]])


@pytest.mark.parametrize(("length", "count", "least"), [(4, 4, 4), (4, 24, 2), (9, 9, 8), (9, 64, 6)])
def test_permutations_differ_in_many_places(length: int, count: int, least: int):
    """No two permutations differ in one place alone; `least` is the smallest distance of two of them."""
    orders = distant_permutations(length, count)
    assert orders.shape == (count, length) and (np.sort(orders, axis=1) == np.arange(length)).all()
    distances = [np.sum(one != other) for one, other in itertools.combinations(orders, 2)]
    assert min(distances) >= least


@pytest.mark.parametrize("jitter", [False, True])
def test_the_pieces_of_a_puzzle_put_in_order_are_those_of_the_image(jitter: bool):
    puzzle = shuffled_pieces((12, 12, 3), grid=3, permutations=10, gap=0.5, jitter=jitter, normalize=False)
    pieces, answers = map(np.asarray, jax.jit(puzzle.ask)(IMAGES, KEYS))
    assert pieces.shape == (5, 9, 2, 2, 3) and len(set(answers.tolist())) > 1
    orders, offsets = distant_permutations(9, 10), set()
    for image, shown, answer in zip(IMAGES, pieces, answers, strict=True):
        for place, cell in enumerate(orders[answer]):
            row, column = np.argwhere(image[..., 0] == shown[place, 0, 0, 0])[0]
            np.testing.assert_array_equal(image[row : row + 2, column : column + 2], shown[place])
            assert (row // 4, column // 4) == divmod(cell, 3)
            offsets.add((row % 4, column % 4))
    assert offsets == ({(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)} if jitter else {(1, 1)})


def test_the_second_piece_lies_where_the_answer_says():
    puzzle = neighbouring_pieces((12, 12, 3), gap=0.5, jitter=True, colours="keep")
    keys, images = jax.random.split(jax.random.key(1), 40), np.repeat(IMAGES[:1], 40, axis=0)
    pieces, answers = map(np.asarray, jax.jit(puzzle.ask)(images, keys))
    assert set(answers.tolist()) == set(range(len(PLACES)))
    for shown, answer in zip(pieces, answers, strict=True):
        (row, column), (other_row, other_column) = (np.argwhere(IMAGES[0, ..., 0] == one[0, 0, 0])[0] for one in shown)
        assert (row // 4, column // 4) == (1, 1)
        assert (other_row // 4, other_column // 4) == divmod(NEIGHBOURS[answer], 3)


def test_a_grid_lies_in_the_middle_and_leaves_the_gap_between_pieces():
    grid = Grid((14, 12), side=3, gap=0.25)
    corners = np.asarray(grid.corners(KEYS, jitter=False))
    assert grid.piece == (3, 3) and grid.gap == (1, 1)
    np.testing.assert_array_equal(corners[0][:3], [[1, 0], [1, 4], [1, 8]])
    with pytest.raises(UsageError, match=r"pieces of 1x1 pixels.*\n.*--image_size=48"):
        Grid((6, 6), side=3, gap=0.5)


def test_a_normalised_piece_has_no_mean_and_unit_deviation_in_each_channel():
    pieces = np.random.default_rng(0).uniform(3, 9, (2, 4, 6, 6, 3)).astype(np.float32)
    expected = (pieces - pieces.mean((2, 3), keepdims=True)) / (pieces.std((2, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(jax.jit(normalized)(pieces), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jax.jit(normalized)(np.ones((1, 1, 4, 4, 1), np.float32)), 0.0)


def test_of_a_piece_without_colours_one_channel_stays_and_the_others_are_faint_noise():
    pieces = np.random.default_rng(0).normal(size=(5, 2, 8, 8, 3)).astype(np.float32)
    found = np.asarray(jax.jit(without_colours)(pieces, KEYS))
    kept = (found == pieces).all(axis=(2, 3))  # [B, P, C]
    assert (kept.sum(axis=-1) == 1).all() and len(set(kept.argmax(axis=-1).ravel().tolist())) == 3
    assert 0.005 < found.std(axis=(2, 3))[~kept].mean() < 0.015


def test_the_projection_takes_out_green_against_magenta_alone():
    matrix = np.eye(3) - np.outer([-1, 2, -1], [-1, 2, -1]) / 6
    pieces = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(projected_colours)(pieces), pieces @ matrix, atol=1e-5)


def test_the_loss_of_an_image_is_the_mean_cross_entropy_of_its_questions():
    logits, answers = np.random.default_rng(0).normal(size=(6, 4, 5)).astype(np.float32), np.arange(24).reshape(6, 4) % 5
    rows = jax.jit(pretext.answered)(logits, answers.astype(np.int32))
    wide = logits.astype(np.float64)
    log_p = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, answers[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(rows["loss"], expected.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(rows["correct"], (wide.argmax(-1) == answers).mean(axis=1), rtol=1e-6)


TASKS = {
    "rotation": ({}, math.log(4)),
    "jigsaw": ({"image_size": 24, "pretext.permutations": 30, "pretext.hidden": 16}, math.log(30)),
    "relative_position": ({"image_size": 24, "pretext.hidden": 16}, math.log(8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_training_begins_at_chance_and_lowers_the_loss(name: str):
    """The loss at first is the logarithm of the number of answers, and no label enters it."""
    given, chance = TASKS[name]
    experiment = knobs.resolve(pretext_learning, {**SMALL, "duration": "12 steps", "pretext": name, **given}).call()
    program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state = program.init(0)
    first = experiment.task.summary(train.evaluate(program, state, "test"))
    assert first["loss"] == pytest.approx(chance, abs=0.05)
    losses = []
    state, _ = train.fit(
        program,
        state,
        seed=0,
        step=0,
        stop=12,
        intervals=train.Intervals(log=1, evaluate=100, save=100),
        pending_stats=[],
        on_log=lambda step, parts: losses.append(experiment.task.summary(train.merge(parts))["loss"]),
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, pending: None,
        should_stop=lambda: False,
    )
    assert losses[0] == pytest.approx(chance, abs=0.05) and min(losses[-3:]) < losses[0] - 0.02
    batch = {"image": jnp.zeros((2, *experiment.data.image_shape)), "mask": jnp.ones(2, bool), "index": jnp.arange(2)}
    key, (params, model_state) = jax.random.key(0), jax.eval_shape(lambda: experiment.task.init(jax.random.key(0), batch))
    jax.eval_shape(lambda p, m: experiment.task.loss(p, m, batch, key, PRETEXT), params, model_state)  # without labels


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"pretext": "jigsaw", "grid": 2, "permutations": 25}, r"4 pieces have 24 orders"),
        ({"pretext": "relative_position", "colours": "drop"}, r"--colours=drop: the images have 1 channel"),
        ({"pretext": "jigsaw", "image_size": 4}, r"leave pieces of 1x1 pixels"),
        ({"pretext": "jigsaw", "image_size": 60, "model": "lenet5"}, r"layer dense1 of LeNet5 has a size for pieces"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_compiled(given, text):
    of_network = {} if "model" in given else {"model.widths": "4"}
    with pytest.raises(UsageError, match=text):
        knobs.resolve(pretext_learning, {"dataset": "digits", **of_network, **given}).call()
