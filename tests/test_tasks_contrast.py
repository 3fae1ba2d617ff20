"""Contrastive learning: the loss against optax and a form of ten lines, over devices, with a queue, and without negatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from cnnlab import knobs
from cnnlab.core import PRETEXT
from cnnlab.errors import UsageError
from cnnlab.ops.collectives import AXIS
from cnnlab.ops.contrastive import info_nce, normalised, nt_xent
from cnnlab.recipes.contrastive import contrastive_learning
from cnnlab.tasks.contrast import QUEUE, collapse, compared, diagnosis, summary
from tests.flipping import require_every_knob_does_something

DATA = {"dataset": "stripes", "dataset.examples": 90, "dataset.size": 8, "batch_size": 24, "augment": "shift_rotate"}
NETWORK = {"model": "convnet", "model.widths": "4,8", "model.depth": 1, "hidden": "6", "dimension": 5}


def unit(count: int, width: int = 6, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def experiment(**values):
    return knobs.resolve(contrastive_learning, {**DATA, **NETWORK, "duration": "8 steps", **values}).call()


def written_out(first, second, temperature):
    """Equation 1 of the paper in f64, an anchor at a time."""
    views = np.concatenate([first, second]).astype(np.float64)
    total = np.zeros(len(first))
    for anchor in range(len(views)):
        others = [k for k in range(len(views)) if k != anchor]
        pair = (anchor + len(first)) % len(views)
        scores = {k: np.exp(views[anchor] @ views[k] / temperature) for k in others}
        total[anchor % len(first)] -= np.log(scores[pair] / sum(scores.values())) / 2
    return total


def test_the_loss_is_the_equation_of_the_paper_and_that_of_optax():
    first, second = unit(7), unit(7, seed=1)
    losses, _ = jax.jit(functools.partial(nt_xent, temperature=0.3))(first, second)
    np.testing.assert_allclose(losses, written_out(first, second, 0.3), rtol=1e-5)
    labels = jnp.tile(jnp.arange(7, dtype=jnp.int32), 2)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        other = optax.losses.ntxent(jnp.concatenate([first, second]), labels, temperature=0.3)
    assert float(jnp.mean(losses)) == pytest.approx(float(other), rel=1e-5)
    np.testing.assert_allclose(compared(first.astype(np.float64), second, 0.3)[:, 0], losses, rtol=1e-5)


def test_views_that_say_nothing_have_the_logarithm_of_the_number_of_others():
    same = np.tile(unit(1), (9, 1))
    losses, _ = nt_xent(same, same, temperature=0.5)
    np.testing.assert_allclose(losses, np.log(2 * 9 - 1), rtol=1e-5)
    losses, _ = info_nce(same, same, np.tile(unit(1), (30, 1)), temperature=0.5)
    np.testing.assert_allclose(losses, np.log(31), rtol=1e-5)


def test_views_that_are_alike_find_each_other():
    first = np.eye(8, dtype=np.float32)
    losses, hits = nt_xent(first, first, temperature=0.1)
    assert np.all(hits == 1) and np.all(losses < 0.01)
    _, hits = nt_xent(first, np.roll(first, 1, axis=0), temperature=0.1)
    assert np.all(hits == 0)


@pytest.mark.parametrize("devices", [2, 8])
def test_the_loss_and_its_gradient_are_those_of_the_global_batch_however_it_is_split(devices: int):
    first, second = unit(16), unit(16, seed=1)

    def mean(first, second):
        return jnp.mean(nt_xent(normalised(first), normalised(second), temperature=0.2)[0])

    value, gradient = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))(first, second)
    parts = [x.reshape(devices, -1, x.shape[1]) for x in (first, second)]
    # The contract of ops/collectives.py: the mean of what the devices return is the loss of the global batch.
    values, gradients = jax.pmap(jax.value_and_grad(mean, argnums=(0, 1)), axis_name=AXIS)(*parts)
    assert float(jnp.mean(values)) == pytest.approx(float(value), rel=1e-5)
    for part, whole in zip(gradients, gradient, strict=True):
        # An example's own gradient is summed over devices by the transpose of the gathering.
        np.testing.assert_allclose(part.reshape(16, -1) / devices, whole, rtol=1e-4, atol=1e-6)


def test_vectors_of_zeros_stay_and_have_a_finite_gradient():
    vectors = jnp.zeros((3, 4)).at[0, 1].set(2.0)
    np.testing.assert_allclose(normalised(vectors), np.eye(4)[[1, 0, 0]] * np.float32([[1], [0], [0]]))
    assert np.isfinite(jax.grad(lambda v: jnp.sum(normalised(v)[:, 0]))(vectors)).all()


@pytest.fixture(scope="module")
def with_queue():
    made = experiment(negatives="queue", **{"negatives.size": 40, "negatives.momentum": 0.75})
    task = toys.compiled(made.task)
    feeds = made.data.train(0, 0)
    prepare = jax.jit(made.data.prepare)
    batches = [prepare(made.data.resident["train"], next(feeds), jax.random.key(step)) for step in range(3)]
    return made, task, batches, task.init(jax.random.key(0), batches[0])


def test_the_queue_takes_the_newest_keys_and_gives_up_the_oldest(with_queue):
    _, task, batches, (params, state) = with_queue
    start = np.asarray(state[QUEUE]["keys"])
    np.testing.assert_allclose(np.linalg.norm(start, axis=1), 1, rtol=1e-5)
    _, (first, _) = task.loss(params, state, batches[0], jax.random.key(1), PRETEXT)
    _, (second, _) = task.loss(params, first, batches[1], jax.random.key(2), PRETEXT)
    one, two = (np.asarray(part[QUEUE]["keys"]) for part in (first, second))
    assert int(first[QUEUE]["oldest"]) == 24 and int(second[QUEUE]["oldest"]) == 8
    np.testing.assert_array_equal(one[24:], start[24:])
    assert not np.any(np.all(one[:24] == start[:24], axis=1))
    np.testing.assert_array_equal(two[8:24], one[8:24])  # 24 and then 24 more of 40: the last 8 overwrote the first
    assert not np.any(np.all(two[:8] == one[:8], axis=1)) and not np.any(np.all(two[24:] == one[24:], axis=1))


def test_the_keys_are_made_by_a_moving_average_that_begins_with_the_network(with_queue):
    _, task, batches, (params, state) = with_queue
    # Whatever the average holds at first, such as random weights where the trunk was given others.
    spoiled = {**state, QUEUE: {**state[QUEUE], "averaged": jax.tree.map(lambda x: x + 1, state[QUEUE]["averaged"])}}
    _, (first, _) = task.loss(params, spoiled, batches[0], jax.random.key(1), PRETEXT)
    jax.tree.map(np.testing.assert_array_equal, first[QUEUE]["averaged"]["params"], params[PRETEXT])
    moved = {PRETEXT: jax.tree.map(lambda x: x + 1, params[PRETEXT])}
    _, (second, _) = task.loss(moved, first, batches[1], jax.random.key(2), PRETEXT)
    expected = jax.tree.map(lambda x: x + np.float32(0.25), params[PRETEXT])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, second[QUEUE]["averaged"]["params"], expected)


def test_a_queue_below_a_batch_is_refused():
    made = experiment(negatives="queue", **{"negatives.size": 20})
    with pytest.raises(UsageError, match=r"--negatives.size=20: a queue takes the 24 keys of a batch"):
        jax.eval_shape(made.task.init, jax.random.key(0), made.data.example(24, training=True))


def test_both_views_without_variations_are_refused():
    with pytest.raises(UsageError, match=r"--augment=none: both views are then the image itself"):
        experiment(augment="none")


def test_the_views_are_two_draws_and_held_out_ones_are_always_the_same():
    data = experiment().data
    feed = next(data.train(0, 0))
    batch = jax.jit(data.prepare)(data.resident["train"], feed, jax.random.key(1))
    whole = jax.jit(data.prepare)(data.resident["train"], feed, None)
    np.testing.assert_array_equal(batch["image"], whole["image"])
    one, two, three = batch["image_1"], batch["image_2"], whole["image_1"]
    assert not np.allclose(one, two) and not np.allclose(one, batch["image"]) and not np.allclose(one, three)
    held, again = (
        jax.jit(data.prepare)(data.resident["test"], {"index": np.arange(start, 8, dtype=np.int32)}, None) for start in (0, 3)
    )
    np.testing.assert_array_equal(held["image_2"][3:], again["image_2"])


def test_what_collapse_means_in_numbers():
    everywhere, one_point = unit(4000, 16).astype(np.float64), np.tile(unit(1, 16), (50, 1)).astype(np.float64)
    found = collapse(everywhere)
    assert found["spread"] == pytest.approx(1, abs=0.02) and found["effective_rank"] == pytest.approx(16, rel=0.02)
    assert collapse(one_point) == {"spread": pytest.approx(0, abs=1e-6), "effective_rank": 1.0}
    line = np.linspace(-1, 1, 50)[:, None] * np.eye(16)[:1]
    assert collapse(line)["effective_rank"] == pytest.approx(1)
    assert "have collapsed" in diagnosis({"test/spread": 0.01}) and diagnosis({"test/spread": 0.7}) == ""


def test_held_out_numbers_are_those_of_groups_whatever_the_batch():
    rows = {"projection_1": unit(500), "projection_2": unit(500, seed=1)}
    found = summary(0.5, {"sums": {}, "rows": rows})
    halves = [compared(*(rows[name][part].astype(np.float64) for name in rows), 0.5) for part in (slice(250), slice(250, 500))]
    assert found["loss"] == pytest.approx(np.concatenate(halves)[:, 0].mean())
    assert found["alignment"] == pytest.approx(np.mean(np.sum((unit(500) - unit(500, seed=1)) ** 2, axis=1)), rel=1e-5)


@pytest.mark.slow
def test_without_negatives_the_projections_collapse_and_with_them_they_do_not():
    found = {}
    for negatives in ("batch", "none"):
        made = experiment(negatives=negatives, duration="60 steps", lr=0.01)
        _, _, curve, _ = toys.run(made)
        found[negatives] = curve[max(curve)]
    assert found["none"]["spread"] < 0.2 < 0.5 < found["batch"]["spread"]
    assert found["none"]["loss"] < -1.9  # all cosines are 1, divided by the temperature


FLIPPED = {
    **DATA,
    **NETWORK,
    "dataset.examples": 60,
    "batch_size": 8,
    "duration": "40 steps",
    "image_size": 10,
    "image_fit": "pad",
}
"""`l1` regularises, and the average is one, so that their knobs do something."""
QUEUED = {"negatives": "queue", "negatives.size": 16}


@pytest.mark.slow
def test_every_knob_does_something():
    others = {
        "model": "mlp",
        "hidden": "7",
        "augment": "flip",
        "batch_size": 10,
        "lr_multipliers": "trunk=0.5",
        "widths": "4,9",
    }
    but = ("init_from",)
    require_every_knob_does_something(contrastive_learning, {**FLIPPED, "l1": 0.001}, others=others, but=but)
    for below, values in (("negatives", QUEUED), ("average", {"average_decay": 0.9})):
        require_every_knob_does_something(contrastive_learning, {**FLIPPED, **values}, below=below, others=others)
