"""The ensemble's task: a game whose players do not interact, and the mean of their probabilities."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect, knobs
from cnnlab.engine import train
from cnnlab.engine.program import init_state, make_train_step
from cnnlab.models.convnet import ConvNet
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import LOSSES
from cnnlab.recipes.classification import classification, ensemble_classification
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.tasks.ensemble import ensemble, log_mean_probabilities, summary

K, B, KEY = 7, 16, jax.random.key(5)
random = np.random.default_rng(0)
BATCH = {
    "image": jnp.asarray(random.normal(size=(B, 8, 8, 1)), jnp.float32),
    "label": jnp.asarray(random.integers(0, K, B), jnp.int32),
    "index": jnp.arange(B, dtype=jnp.int32),
    "mask": jnp.ones(B, bool),
}
DROPPING = ConvNet(classes=K, widths=(4, 8), dropout=0.3)
SETTING = {"dataset": "digits", "duration": "5 steps", "model": "convnet", "model.widths": "4,8"}


def moved(task, params, state, key=KEY):
    """(loss, gradient and new state) of every player's turn, in order."""

    def turn(number, player):
        def own(p):
            return task.loss({**params, player: p}, state, BATCH, jax.random.fold_in(key, number), player)

        (loss, (updated, _)), gradient = jax.value_and_grad(own, has_aux=True)(params[player])
        return loss, gradient, updated

    return {player: turn(number, player) for number, player in enumerate(task.turns)}


def trained(experiment, steps=5, seed=3):
    """(state after some steps, stats of the test split)."""
    resident = experiment.data.resident["train"]
    step = jax.jit(make_train_step(experiment, precision="f32"))
    feeds = experiment.data.train(seed, 0)
    state = init_state(experiment, jnp.uint32(seed), experiment.data.prepare(resident, next(feeds), None))
    for _ in range(steps):
        state, _ = step(state, resident, next(feeds))
    feed = next(experiment.data.evaluate("test", 100))
    batch = experiment.data.prepare(experiment.data.resident["test"], feed, None)
    return state, jax.device_get(experiment.task.measure(state.params, state.model_state, batch))


@functools.cache
def single():
    return trained(knobs.resolve(classification, SETTING).call())


@functools.cache
def several(members):
    return trained(knobs.resolve(ensemble_classification, {**SETTING, "members": members}).call())


def same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_an_ensemble_of_one_is_the_classifier():
    (alone, stats), (state, measured) = single(), several(1)
    same(alone.params[PLAYER], state.params["member_0"])
    same(alone.model_state, state.model_state["member_0"])
    same(stats["rows"]["prediction"], measured["rows"]["prediction"])
    np.testing.assert_allclose(stats["rows"]["loss"], measured["rows"]["loss"], atol=2e-6)
    np.testing.assert_allclose(stats["rows"]["confidence"], measured["rows"]["confidence"], atol=2e-6)
    numbers = summary(train.merge([train.as_part(measured)]))
    assert numbers["member_accuracy"] == numbers["accuracy"] and numbers["disagreement"] == numbers["gain"] == 0.0


@pytest.mark.slow
def test_dropout_of_the_first_member_is_the_classifiers():
    one, three = classify(DROPPING), ensemble(DROPPING, members=3)
    loss, gradient, state = moved(one, *one.init(KEY, BATCH))[PLAYER]
    other = moved(three, *three.init(KEY, BATCH))["member_0"]
    same((loss, gradient, state), (other[0], other[1], other[2]["member_0"]))


@pytest.mark.slow
def test_members_do_not_interact():
    """Each member after some steps is the network that its own first weights lead to when it is alone."""
    state, _ = several(3)
    same(single()[0].params[PLAYER], state.params["member_0"])
    same(several(2)[0].params, {player: state.params[player] for player in ("member_0", "member_1")})
    lone = knobs.resolve(ensemble_classification, {**SETTING, "members": 1}).call()
    task = lone.task
    third = dataclasses.replace(task, init=lambda key, batch: task.init(jax.random.fold_in(key, 2), batch))
    found, _ = trained(dataclasses.replace(lone, task=third))
    same(found.params["member_0"], state.params["member_2"])


def test_members_start_apart():
    params, _ = ensemble(MLP(classes=K, widths=(8,)), members=3).init(KEY, BATCH)
    kernels = [np.asarray(member["dense1"]["kernel"]) for member in params.values()]
    assert list(params) == ["member_0", "member_1", "member_2"]
    assert all(abs(np.corrcoef(kernels[i].ravel(), kernels[j].ravel())[0, 1]) < 0.2 for i in range(3) for j in range(i))


@pytest.mark.slow
def test_a_turn_leaves_the_other_members_state_and_has_no_gradient_for_them():
    task = ensemble(DROPPING, members=2)
    params, state = task.init(KEY, BATCH)
    _, (updated, _) = task.loss(params, state, BATCH, KEY, "member_1")
    same(updated["member_0"], state["member_0"])
    assert not np.allclose(*(jax.tree.leaves(one["member_1"])[0] for one in (updated, state)))
    gradient = jax.grad(lambda p: task.loss(p, state, BATCH, KEY, "member_1")[0])(params)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient["member_0"]))


def test_probabilities_are_averaged():
    task, one = ensemble(DROPPING, members=3), classify(DROPPING)
    params, state = task.init(KEY, BATCH)
    apart = [one.predict({PLAYER: params[m]}, state[m], BATCH["image"]) for m in params]
    by_hand = np.mean([jax.nn.softmax(logits, axis=1) for logits in apart], axis=0)
    np.testing.assert_allclose(jax.nn.softmax(task.predict(params, state, BATCH["image"]), axis=1), by_hand, rtol=1e-5)
    rows = jax.device_get(task.measure(params, state, BATCH))["rows"]
    np.testing.assert_allclose(rows["loss"], -np.log(by_hand[np.arange(B), BATCH["label"]]), rtol=1e-5)
    np.testing.assert_allclose(rows["confidence"], by_hand.max(axis=1), rtol=1e-5)
    same(rows["prediction"], by_hand.argmax(axis=1).astype(np.int32))
    same(rows["member_predictions"], np.stack([np.argmax(logits, axis=1) for logits in apart], axis=1).astype(np.int32))


def test_an_average_of_certain_members_is_finite():
    logits = jnp.float32([[[500.0, -500.0]], [[-500.0, 500.0]]])
    np.testing.assert_allclose(log_mean_probabilities(jax.nn.log_softmax(logits, axis=-1)), np.log([[0.5, 0.5]]), rtol=1e-6)


def test_hinge_loss_of_one_member_is_the_classifiers():
    """It depends on differences of logits alone, which logarithms of probabilities have too."""
    network = MLP(classes=K, widths=(8,))
    one, task = (make(network, loss=LOSSES["hinge"]) for make in (classify, functools.partial(ensemble, members=1)))
    rows = [jax.device_get(t.measure(*t.init(KEY, BATCH), BATCH))["rows"]["loss"] for t in (one, task)]
    np.testing.assert_allclose(*rows, rtol=1e-5)


def test_summary_tells_members_and_disagreement():
    labels = np.array([0, 1, 2, 3])
    votes = np.array([[0, 0, 1], [1, 1, 1], [2, 0, 1], [0, 0, 0]])
    rows = {"loss": np.zeros(4), "prediction": votes[:, 0], "label": labels, "member_predictions": votes}
    found = summary({"sums": {}, "rows": rows})
    assert found["accuracy"] == 0.75 and found["member_accuracy"] == pytest.approx((3 + 2 + 1) / 12)
    assert found["gain"] == pytest.approx(0.25) and found["disagreement"] == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)
    assert summary({"sums": {"loss": 4.0, "correct": 1.0, "count": 4.0}, "rows": {}}) == {"loss": 1.0, "accuracy": 0.25}


def test_layers_and_parameters_of_all_members_are_listed():
    found = [
        inspect.of_experiment(knobs.resolve(recipe, {**SETTING, **more}).call())
        for recipe, more in ((classification, {}), (ensemble_classification, {"members": 3}))
    ]
    one, three = ([sum(getattr(layer, name) for layer in layers) for name in ("params", "macs")] for layers in found)
    assert three == [3 * number for number in one] and one[0] > 0
    assert {layer.name.split("/")[0] for layer in found[1]} == {"member_0", "member_1", "member_2"}
