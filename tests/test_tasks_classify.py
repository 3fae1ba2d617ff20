"""The classifier's task: sums, padding, state, the same training on one device and on several, and its pictures."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.engine import train
from cnnlab.engine.precision import computing_in
from cnnlab.models import MODELS
from cnnlab.models.convnet import ConvNet
from cnnlab.models.linear import Linear
from cnnlab.models.mlp import MLP
from cnnlab.ops import collectives
from cnnlab.ops.losses import LOSSES
from cnnlab.tasks.classify import PLAYER, classify, first_kernels

K, B = 7, 16
KEY = jax.random.key(5)
NETWORK = ConvNet(classes=K, widths=(4, 8), dropout=0.3)
random = np.random.default_rng(0)


def batch_of(size, mask=None):
    return {
        "image": jnp.asarray(random.normal(size=(size, 8, 8, 1)), jnp.float32),
        "label": jnp.asarray(random.integers(0, K, size), jnp.int32),
        "index": jnp.arange(size, dtype=jnp.int32),
        "mask": jnp.asarray(np.ones(size, bool) if mask is None else mask),
    }


BATCH = batch_of(B)


@functools.cache
def started():
    task = classify(NETWORK)
    task = dataclasses.replace(task, loss=jax.jit(task.loss, static_argnums=4), measure=jax.jit(task.measure))
    return (task, *jax.jit(task.init)(KEY, BATCH))


def step_of(task):
    """(params, state, batch) -> (loss, gradient, new state, sums) over the global batch."""

    def step(params, state, batch):
        def own(p):
            return task.loss({PLAYER: p}, state, batch, KEY, PLAYER)

        (loss, (state, stats)), gradient = jax.value_and_grad(own, has_aux=True)(params[PLAYER])
        return collectives.global_mean(loss), collectives.global_mean(gradient), state, collectives.global_sum(stats["sums"])

    return step


def test_task_is_the_game_of_one_player():
    task, params, _ = started()
    assert task.turns == tuple(params) == ("classifier",)


def test_loss_in_training_updates_batch_statistics_and_measuring_does_not():
    task, params, state = started()
    _, (updated, stats) = task.loss(params, state, BATCH, KEY, PLAYER)
    assert jax.tree.structure(updated) == jax.tree.structure(state)
    assert all(not np.allclose(a, b) for a, b in zip(jax.tree.leaves(updated), jax.tree.leaves(state), strict=True))
    assert set(stats["sums"]) == {"loss", "correct", "count"} and stats["rows"] == {}


def test_model_without_statistics_has_no_state():
    task = classify(MLP(classes=K, widths=(4,)))
    params, state = task.init(KEY, BATCH)
    assert state == {} and task.loss(params, state, BATCH, KEY, PLAYER)[1][0] == {}


def test_bf16_computes_in_bf16_and_keeps_statistics_and_losses_in_f32():
    task, params, state = started()
    cast = computing_in("bf16")
    loss, (updated, stats) = task.loss(cast(params), state, cast(BATCH), KEY, PLAYER)
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, updated, stats))} == {jnp.dtype("float32")}
    measured = task.measure(cast(params), state, cast(BATCH))
    assert measured["rows"]["loss"].dtype == measured["rows"]["confidence"].dtype == jnp.float32
    np.testing.assert_allclose(loss, task.loss(params, state, BATCH, KEY, PLAYER)[0], rtol=0.05)


def test_summary_agrees_with_scikit_learn():
    from sklearn import metrics

    task, params, state = started()
    logits = np.asarray(task.predict(params, state, BATCH["image"]), np.float64)
    labels = np.asarray(BATCH["label"])
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    summary = task.summary(train.merge([train.as_part(jax.device_get(task.measure(params, state, BATCH)))]))
    assert set(summary) == {"loss", "accuracy", "top5_accuracy"}
    np.testing.assert_allclose(summary["loss"], metrics.log_loss(labels, probability, labels=range(K)), rtol=1e-5)
    np.testing.assert_allclose(summary["accuracy"], metrics.accuracy_score(labels, logits.argmax(1)))
    np.testing.assert_allclose(summary["top5_accuracy"], metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(K)))


def test_summary_of_training_takes_the_sums():
    task, _, _ = started()
    sums = {"loss": np.float64(30.0), "correct": np.float64(5.0), "count": np.float64(10.0)}
    assert task.summary({"sums": sums, "rows": {}}) == {"loss": 3.0, "accuracy": 0.5}


def test_few_classes_have_no_top5():
    task = classify(Linear(classes=3))
    few = {**BATCH, "label": BATCH["label"] % 3}
    assert "top5" not in task.measure(*task.init(KEY, few), few)["rows"]


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(loss):
    task = classify(Linear(classes=K), loss=LOSSES[loss])
    params, state = task.init(KEY, BATCH)
    # Scores of 0, with which the network starts, are the minimum of the perceptron's loss.
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(KEY, leaf.shape), params)
    step = jax.jit(step_of(task))
    first = step(params, state, BATCH)[0]
    for _ in range(20):
        gradient = step(params, state, BATCH)[1]
        params = {PLAYER: jax.tree.map(lambda p, g: p - 0.02 * g, params[PLAYER], gradient)}
    last = step(params, state, BATCH)[0]
    assert last < first


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("linear", 8, ("output", (K, 8, 8, 1))),
        ("lenet5", 16, ("conv1", (6, 5, 5, 1))),
        ("lenet5_1998", 28, ("c1", (6, 5, 5, 1))),
    ],
)
def test_first_kernels_are_those_that_see_the_image(name, size, found):
    model = MODELS[name](classes=10 if name == "lenet5_1998" else K)
    shapes = jax.eval_shape(functools.partial(model.init, train=False), KEY, jnp.ones((1, size, size, 1)))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    path, kernels = first_kernels(params, (size, size, 1))
    assert (path, kernels.shape) == found


def test_first_kernels_count_layers_in_natural_order_and_keep_the_image_upright():
    params = {"dense10": {"kernel": np.zeros((12, 2))}, "dense2": {"kernel": np.arange(24.0).reshape(12, 2)}}
    path, kernels = first_kernels(params, (3, 4, 1))
    assert path == "dense2"
    np.testing.assert_array_equal(kernels[1, ..., 0], np.arange(12).reshape(3, 4) * 2 + 1)
    assert first_kernels({"dense1": {"kernel": np.zeros((5, 2))}}, (3, 4, 1)) is None


def test_pictures_are_figures(toy_data):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    task, params, state = started()
    stats = train.merge([train.as_part(jax.device_get(task.measure(params, state, BATCH)))])
    shown = task.figures(params, state, stats, toy_data, "test")
    assert set(shown) == {"confusion_matrix", "mistakes", "filters"}
    assert all(isinstance(figure, Figure) for figure in shown.values())
    stats["rows"]["prediction"] = stats["rows"]["label"]
    assert "mistakes" not in task.figures(params, state, stats, toy_data, "test")
    plt.close("all")


@pytest.fixture
def toy_data():
    import types

    images = np.asarray(BATCH["image"])
    names = tuple("abcdefg")
    return types.SimpleNamespace(
        classes=K,
        class_names=names,
        image_shape=(8, 8, 1),
        images=lambda split, indices: (images[indices] * 40 + 128).astype(np.uint8),
    )
