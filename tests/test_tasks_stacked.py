"""Layer-wise pre-training and fine-tuning: a sequence of games, resumed anywhere, the same on any devices."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flipping import require_every_knob_does_something
from toys import run

from cnnlab import knobs
from cnnlab.core import Experiment, Phase
from cnnlab.engine import train
from cnnlab.errors import UsageError
from cnnlab.ops import corruptions
from cnnlab.ops.trees import named_leaves
from cnnlab.recipes.autoencoder import stacked_autoencoders
from cnnlab.tasks.stacked import Stack, layer_losses

SMALL = {"widths": "10,8", "batch_size": "32", "pretrain": "6 steps", "duration": "8 steps", "optimizer.lr": "0.01"}
INTERVALS = train.Intervals(log=2, evaluate=20, save=1)


@functools.cache
def experiment(**given: Any) -> Experiment:
    """Digits, two layers, 6 + 6 + 8 steps."""
    return knobs.resolve(stacked_autoencoders, {**SMALL, **given}).call()


def moved(before: Any, after: Any) -> set[str]:
    """Groups of parameters of which a leaf changed."""
    first, second = named_leaves(before.params), named_leaves(after.params)
    return {path.split("/")[0] for path in first if not np.array_equal(first[path], second[path])}


def test_each_phase_moves_its_own_layer_alone():
    one = experiment()
    assert one.phases == (Phase(6, ("pretrain1",)), Phase(6, ("pretrain2",)), Phase(8, ("finetune",))) and one.steps == 20
    last, _, curve, saved = run(one, intervals=INTERVALS)
    start = run(one, stop=0)[0]
    assert moved(start, saved[6][0]) == {"layer1", "decoder1"}
    assert moved(saved[6][0], saved[12][0]) == {"layer2", "decoder2"}
    assert moved(saved[12][0], last) == {"layer1", "layer2", "output"}
    assert set(curve[2]) == {"pretrain1_loss"} and set(curve[8]) == {"pretrain2_loss"}
    assert set(curve[20]) == {"loss", "accuracy"}
    assert curve[6]["pretrain1_loss"] < curve[2]["pretrain1_loss"]


def test_without_pre_training_fine_tuning_is_all_there_is():
    one = experiment(pretrain="0 steps")
    assert one.phases == (Phase(8, ("finetune",)),) and one.steps == 8
    assert moved(run(one, stop=0)[0], run(one, intervals=INTERVALS)[0]) == {"layer1", "layer2", "output"}


def test_few_labels_are_those_of_fine_tuning_alone():
    one, everything = experiment(examples_per_class="5"), experiment()
    np.testing.assert_array_equal(next(one.data.train(0, 11))["index"], next(everything.data.train(0, 11))["index"])
    tuned = [next(one.data.train(seed, 12 + step))["index"] for seed in (0, 1) for step in range(8)]
    assert len(np.unique(tuned)) == 50
    assert experiment(examples_per_class="5", duration="4 epochs").steps == 12 + round(4 * 50 / 32)


def test_losses_of_a_layer_are_those_of_its_clean_input_from_a_corrupted_copy():
    stack = Stack((4, 4, 1), 3, (6, 5), jax.nn.sigmoid, jax.nn.initializers.lecun_normal(), tied=True)
    params, images = stack.init(jax.random.key(0)), jax.random.uniform(jax.random.key(1), (7, 4, 4, 1))
    keys = jax.random.split(jax.random.key(2), 7)
    first, second = params["layer1"]["kernel"], params["layer2"]["kernel"]
    below = jax.nn.sigmoid(images.reshape(7, -1) @ first)
    noisy = corruptions.masking(below, keys, rate=0.5)
    p = jax.nn.sigmoid(jax.nn.sigmoid(noisy @ second) @ second.T)
    nats = -(below * jnp.log(p) + (1 - below) * jnp.log(1 - p)).sum(1)
    corruption = functools.partial(corruptions.masking, rate=0.5)
    np.testing.assert_allclose(layer_losses(stack, params, 2, images, keys, corruption), nats, rtol=1e-4)
    codes = stack.encode(params, images, 2)
    back = jax.nn.sigmoid(codes @ second.T) @ first.T
    np.testing.assert_allclose(stack.decode(params, codes).reshape(7, -1), back, rtol=1e-4, atol=1e-5)


def test_real_valued_units_are_given_back_by_squared_error():
    stack = Stack((4, 4, 1), 3, (6, 5), jax.nn.relu, jax.nn.initializers.he_normal(), tied=False)
    params, images = stack.init(jax.random.key(0)), jax.random.uniform(jax.random.key(1), (7, 4, 4, 1))
    below = stack.encode(params, images, 1)
    outputs = jax.nn.relu(below @ params["layer2"]["kernel"]) @ params["decoder2"]["kernel"]
    losses = layer_losses(stack, params, 2, images, jax.random.split(jax.random.key(2), 7), corruptions.no_corruption)
    np.testing.assert_allclose(losses, ((outputs - below) ** 2).sum(1), rtol=1e-4)


def test_what_no_stack_can_be_made_of_is_refused():
    with pytest.raises(
        UsageError, match=r"--examples_per_class=5 needs the class of every image, and adding has no column `label`"
    ):
        unlabelled = {"data.dataset": "adding", "finetune": "unsupervised", "examples_per_class": "5"}
        knobs.resolve(stacked_autoencoders, unlabelled).call()
    with pytest.raises(UsageError, match="--widths: a stack needs at least one layer"):
        experiment(widths="")
    with pytest.raises(UsageError, match="prelu"):
        experiment(activation="prelu")


FLIPPED = {
    "dataset": "stripes",
    "dataset.examples": 90,
    "dataset.size": 8,
    "batch_size": 8,
    "widths": "5,4",
    "pretrain": "3 steps",
    "duration": "40 steps",
    "image_size": 10,
    "image_fit": "pad",
}
OTHERS = {"pretrain": "4 steps", "examples_per_class": 5, "batch_size": 10, "finetune": "unsupervised"}


@pytest.mark.slow
def test_every_knob_does_something():
    require_every_knob_does_something(stacked_autoencoders, FLIPPED, others=OTHERS)
