"""Transfer learning: frozen layers, learning rates by layer, few classes and labels, and a start from given weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.core import Experiment
from cnnlab.data.arrays import digits
from cnnlab.data.pipeline import build
from cnnlab.data.select import select
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program
from cnnlab.errors import UsageError
from cnnlab.models.convnet import ConvNet
from cnnlab.ops import trees
from cnnlab.ops.averaging import ema
from cnnlab.ops.optimizers import adam, momentum, scale_by_layer, sgd
from cnnlab.ops.schedules import constant
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.tasks.network_player import joined

NETWORK = ConvNet(classes=10, widths=(4, 8), depth=1, dropout=0.1)


def experiment(frozen=(), optimizer=None, start=None, **fields) -> Experiment:
    task = classify(NETWORK, frozen=frozen)
    data = build(digits(), batch_size=32)
    return Experiment(task, data, {PLAYER: optimizer or sgd(steps=10, schedule=constant, lr=0.1)}, 10, start=start, **fields)


def trained(which: Experiment, steps: int = 3):
    """(host state before, after some steps)."""
    program = build_program(which, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    state = program.init(0)
    before, feeds = program.strategy.to_host(state), which.data.train(0, 0)
    for _ in range(steps):
        feed = jax.tree.map(lambda leaf: leaf[None], next(feeds))
        state, _ = program.phase_steps[0](state, program.step_inputs("train"), program.strategy.shard_batch(feed))
    return before, program.strategy.to_host(state)


def changed(before, after) -> set[str]:
    first, second = trees.flatten(before), trees.flatten(after)
    return {path for path in first if not np.array_equal(first[path], second[path])}


def test_frozen_features_leave_only_the_last_layer_moving():
    before, after = trained(experiment(frozen=("features",)))
    assert changed(joined(before.params), joined(after.params)) == {"output/kernel", "output/bias"}
    assert not changed(before.model_state, after.model_state)
    assert set(trees.flatten(after.params[PLAYER])) == {"output/kernel", "output/bias"}


def test_partly_frozen_layers_keep_their_statistics_and_the_others_learn():
    before, after = trained(experiment(frozen=("stage1_.*",)))
    moved = changed(joined(before.params), joined(after.params))
    assert moved == {path for path in trees.flatten(joined(before.params)) if not path.startswith("stage1_")}
    stirred = changed(before.model_state, after.model_state)
    assert stirred and all(path.startswith("batch_stats/stage2_") for path in stirred)


def test_a_frozen_network_trains_as_a_linear_classifier_on_its_features():
    network = NETWORK.clone(dropout=0.0)
    whole = dataclasses.replace(experiment(), task=classify(network, frozen=("features",)))
    before, after = trained(whole, steps=1)
    feed = next(whole.data.train(0, 0))
    batch = whole.data.prepare(whole.data.resident["train"], feed, None)
    _, seen = network.apply({"params": joined(before.params), **before.model_state}, batch["image"], train=False)

    def loss(head):
        log = jax.nn.log_softmax(seen["features"] @ head["kernel"] + head["bias"][None])
        return -jnp.mean(jnp.take_along_axis(log, batch["label"][:, None], axis=1))

    head = before.params[PLAYER]["output"]
    expected = jax.tree.map(lambda old, slope: old - 0.1 * slope, head, jax.grad(loss)(head))
    for name, leaf in after.params[PLAYER]["output"].items():
        np.testing.assert_allclose(leaf, expected[name], atol=1e-6)


@pytest.mark.parametrize(
    ("frozen", "message"), [(("nothing",), "matches no layer"), ((".*",), "no layer to train"), (("(",), "regular")]
)
def test_what_cannot_be_frozen_is_refused(frozen, message):
    with pytest.raises(UsageError, match=message):
        trained(experiment(frozen=frozen), steps=0)


@pytest.mark.parametrize("optimizer", [sgd, functools.partial(momentum, weight_decay=1e-3), adam])
def test_a_layer_at_a_tenth_of_the_rate_moves_a_tenth_as_far(optimizer):
    params = {"stem": {"kernel": jnp.ones((3, 2))}, "output": {"kernel": jnp.ones((3, 2))}}
    gradient = jax.tree.map(lambda leaf: 0.3 * leaf, params)
    whole = optimizer(steps=10, schedule=constant)
    scaled = scale_by_layer(whole, ("stem=0.1", "output=1"))
    states = whole.init(params), scaled.init(params)
    for _ in range(3):
        with jax.numpy_dtype_promotion("standard"):  # as the step does around every update
            (full, first), (part, second) = (
                which.update(gradient, state, params) for which, state in zip((whole, scaled), states, strict=True)
            )
        states = first, second
        np.testing.assert_allclose(part["stem"]["kernel"], 0.1 * full["stem"]["kernel"], rtol=1e-6)
        np.testing.assert_array_equal(part["output"]["kernel"], full["output"]["kernel"])


@pytest.mark.parametrize(("text", "message"), [("stem", "REGEX=FACTOR"), ("stem=-1", ">= 0"), ("none=2", "matches no layer")])
def test_a_multiplier_that_says_nothing_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        scale_by_layer(sgd(steps=10), (text,)).init({"stem": {"kernel": jnp.ones(3)}})


def test_training_starts_from_the_given_leaves_and_draws_the_others():
    def start(params, model_state):
        head = {"kernel": np.full((8, 10), 0.5, np.float32), "bias": params[PLAYER]["output"]["bias"]}
        return {PLAYER: {**params[PLAYER], "output": head}}, model_state

    fresh, _ = trained(experiment(), steps=0)
    given, _ = trained(experiment(start=start, averaging=ema(10, average_decay=0.9)), steps=0)
    assert changed(joined(fresh.params), joined(given.params)) == {"output/kernel"}
    assert np.all(given.params[PLAYER]["output"]["kernel"] == 0.5)
    assert not changed(given.params, given.average)


def test_selected_classes_are_renumbered_and_few_examples_are_the_same_ones():
    source = digits()
    some = select(source, classes=(7, 2), examples_per_class=5)
    assert some.class_names == ("7", "2") and np.bincount(some.splits["train"].labels).tolist() == [5, 5]
    whole = source.splits["test"]
    np.testing.assert_array_equal(some.splits["test"].images, whole.images[np.isin(whole.labels, (7, 2))])
    expected = np.where(whole.labels[np.isin(whole.labels, (7, 2))] == 7, 0, 1)
    np.testing.assert_array_equal(some.splits["test"].labels, expected)
    more = select(source, classes=(7, 2), examples_per_class=6).splits["train"].images
    assert all(any(np.array_equal(image, other) for other in more) for image in some.splits["train"].images)
    assert some.fingerprint != source.fingerprint != select(source, examples_per_class=9).fingerprint
    assert select(source) is source


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"classes": (1,)}, "two or more"), ({"classes": (1, 1)}, "two or more"), ({"classes": (1, 10)}, "counted from 0")],
)
def test_impossible_classes_are_refused(chosen, message):
    with pytest.raises(UsageError, match=message):
        select(digits(), **chosen)
    with pytest.raises(UsageError, match="class 0 has 142 training"):
        select(digits(), examples_per_class=1000)
