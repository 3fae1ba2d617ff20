"""Distillation by hints, by several teachers and from images without labels: what is learned of what, and who moves when."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contract import TRAINED
from scipy.special import logsumexp, softmax

from cnnlab import knobs
from cnnlab.core import REGRESSOR, TEACHER
from cnnlab.data.paired import BESIDE
from cnnlab.data.unlabelled import HIDDEN
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.train import Intervals
from cnnlab.errors import UsageError
from cnnlab.recipes.distillation import distillation
from cnnlab.runs.network_leaves import network_of
from cnnlab.tasks.distil import HINTED, soft_losses
from cnnlab.tasks.hints import hint_losses
from cnnlab.tasks.teachers import soft_targets

KNOBS = {
    **TRAINED,
    "model": "mlp",
    "model.widths": "6,5",
    "teacher": "mlp",
    "teacher.widths": "9",
    "optimizer": "momentum",
    "teacher_duration": "4 steps",
    "duration": "4 steps",
}
GUIDED = {"hints": "fitnets", "hints.layer": "dense1", "hints.teacher_layer": "dense1", "hints.length": "4 steps"}
UNLABELLED = {"examples_per_class": 9, "unlabelled_ratio": 2}


def made(**more):
    return knobs.resolve(distillation, {**KNOBS, **more}).call()


@functools.cache
def trained(*more):
    return toys.run(made(**dict(more)), intervals=Intervals(log=2, evaluate=100, save=4))


def first_batch(experiment):
    data = experiment.data
    feed = jax.tree.map(jnp.asarray, next(data.train(0, 0)))
    return data.prepare(data.resident["train"], feed, jax.random.key(3))


def started(experiment, batch):
    return jax.jit(experiment.task.init)(jax.random.key(0), batch)


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_several_teachers_say_the_mean_of_their_probabilities():
    logits = drawn(0, 3, 4, 7)
    found = jax.jit(soft_targets)(logits, 4.0)
    np.testing.assert_allclose(np.exp(found), softmax(logits / 4.0, axis=2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(logsumexp(found, axis=1), 0, atol=1e-6)


def test_a_teacher_named_twice_is_one_teacher_in_loss_and_gradient():
    student, teacher = drawn(1, 5, 7), drawn(2, 1, 5, 7)

    @jax.jit
    def both(teachers):
        return jax.value_and_grad(lambda s: jnp.sum(soft_losses(s, teachers, 3.0)))(student)

    for one, twice in zip(both(teacher), both(np.concatenate([teacher, teacher])), strict=True):
        np.testing.assert_allclose(twice, one, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_the_first_of_several_teachers_is_trained_as_it_would_be_alone_and_the_second_is_another():
    (one, *_), (two, *_) = trained(), trained(("teachers", 2))
    assert tree_digest(two.params["classifier"]) != tree_digest(one.params["classifier"])
    first, second = (two.params[TEACHER][f"teacher_{number}"] for number in (1, 2))
    for found, alone, other in zip(*map(jax.tree.leaves, (first, one.params[TEACHER], second)), strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-7)
        assert not np.allclose(other, alone)


def test_the_loss_of_a_hint_is_half_the_mean_square_and_0_without_a_gradient_where_layers_agree():
    layer, hint = drawn(3, 4, 3, 3, 5), drawn(4, 4, 3, 3, 5)
    losses, gradient = jax.jit(lambda x: (hint_losses(x, hint), jax.grad(lambda y: jnp.sum(hint_losses(y, hint)))(x)))(layer)
    np.testing.assert_allclose(losses, 0.5 * np.mean((layer - hint) ** 2, axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(gradient, (layer - hint) / 45, rtol=1e-4, atol=1e-7)
    losses, gradient = jax.jit(lambda x: (hint_losses(x, hint), jax.grad(lambda y: jnp.sum(hint_losses(y, hint)))(x)))(hint)
    assert not losses.any() and not gradient.any()


def test_hints_change_nothing_of_what_student_and_teacher_start_with():
    plain, hinted = made(), made(**GUIDED)
    batch = first_batch(plain)
    (without, _), (with_hints, _) = started(plain, batch), started(hinted, batch)
    assert tree_digest(jax.device_get(without)) == tree_digest(
        jax.device_get({name: part for name, part in with_hints.items() if name != REGRESSOR})
    )
    assert jax.tree.map(jnp.shape, with_hints[REGRESSOR]) == {"output": {"kernel": (6, 9), "bias": (9,)}}
    assert started(made(**GUIDED, **{"teacher.widths": "6"}), batch)[0][REGRESSOR] == {}


def test_the_first_stage_moves_the_student_up_to_the_guided_layer_and_the_regressor():
    end, _, curve, saved = trained(*GUIDED.items())
    teacher, hinted = saved[4][0].params, saved[8][0].params
    same = {
        name: tree_digest(teacher["classifier"][name]) == tree_digest(hinted["classifier"][name])
        for name in ("dense1", "dense2", "output")
    }
    assert same == {"dense1": False, "dense2": True, "output": True}
    assert tree_digest(teacher[REGRESSOR]) != tree_digest(hinted[REGRESSOR]) == tree_digest(end.params[REGRESSOR])
    assert tree_digest(teacher[TEACHER]) == tree_digest(end.params[TEACHER])
    assert "hint_loss" not in curve[4] and curve[6]["hint_loss"] > 0
    assert "hint_loss" not in curve[12] and curve[12]["soft_loss"] > 0
    assert {path.split("/")[1] for path in network_of(end)} == {"dense1", "dense2", "output"}


def test_a_turn_of_the_first_stage_compares_the_regressed_layer_with_the_teachers():
    experiment = made(**GUIDED)
    batch = first_batch(experiment)
    params, state = started(experiment, batch)
    loss = jax.jit(lambda p: experiment.task.loss(p, state, batch, jax.random.key(1), HINTED)[0])(params)

    def dense(x, layer):
        return x @ layer["kernel"] + layer["bias"].reshape(1, -1)  # [D] -> [1, D]

    flat = batch["image"].reshape(len(batch["image"]), -1)  # [B, H, W, C] -> [B, H·W·C]
    guided = dense(jax.nn.relu(dense(flat, params["classifier"]["dense1"])), params[REGRESSOR]["output"])
    expected = 0.5 * jnp.mean((guided - jax.nn.relu(dense(flat, params[TEACHER]["dense1"]))) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_layer_of_maps_is_guided_position_by_position():
    nets = {
        "model": "convnet",
        "model.widths": "3,4",
        "model.depth": 1,
        "teacher": "convnet",
        "teacher.widths": "5,6",
        "teacher.depth": 1,
    }
    layers = {**GUIDED, "hints.layer": "stage2", "hints.teacher_layer": "stage2"}
    experiment = made(**nets, **layers)
    batch = first_batch(experiment)
    params, state = started(experiment, batch)
    assert params[REGRESSOR]["output"]["kernel"].shape == (4, 6)
    gradient = jax.jit(jax.grad(lambda p: experiment.task.loss(p, state, batch, jax.random.key(1), HINTED)[0]))(params)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient[REGRESSOR]))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient[TEACHER]))


CONVNETS = {"model": "convnet", "model.widths": "4,8", "teacher": "convnet", "teacher.widths": "8,16", "hints": "fitnets"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {**CONVNETS, "hints.layer": "stage1", "hints.teacher_layer": "stage2"},
            r"--hints.layer=stage1 of the student has the shape 8x8x4 and --hints.teacher_layer=stage2 of the teacher 4x4x16.",
        ),
        (
            {**CONVNETS, "hints.teacher_layer": "stage1"},
            r"--hints.layer=features of the student has the shape 8 and --hints.teacher_layer=stage1 of the teacher 8x8x8.",
        ),
        ({**CONVNETS, "hints.layer": "stage1_conv1"}, "--hints.layer: the network has no layer 'stage1_conv1'.*stage1"),
        ({**CONVNETS, "hints.teacher_layer": "stag1"}, "--hints.teacher_layer: the network has no layer 'stag1'.*stage1"),
        ({**GUIDED, "teachers": 2}, "--hints takes a layer of the teacher, and there are 2"),
        ({"unlabelled_ratio": 2}, "--unlabelled_ratio=2 takes images whose labels are hidden, and none are"),
        ({"teachers": 2, "teacher_from": "a,b"}, "--teachers=2 trains teachers in this run, and --teacher_from names those"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_compiled(given, message):
    with pytest.raises(UsageError, match=message):
        made(**given)


def test_images_without_labels_teach_what_the_teacher_says_of_them():
    experiment = made(**UNLABELLED)
    batch = first_batch(experiment)
    labelled, others = batch["image"], batch[BESIDE]["image"]
    assert (len(labelled), len(others)) == (24, 48)
    params, state = started(experiment, batch)

    @jax.jit
    def loss(params, batch):
        total, (_, stats) = experiment.task.loss(params, state, batch, jax.random.key(1), "classifier")
        return total, stats["sums"]

    total, sums = loss(params, batch)
    predict = jax.jit(lambda images: experiment.task.predict(params, state, images))
    logits = [np.asarray(predict(images)) for images in (labelled, others)]
    teacher = knobs.resolve(distillation, {**KNOBS, "model.widths": "9"}).call().task
    says = jax.jit(lambda images: teacher.predict({"classifier": params[TEACHER], TEACHER: {}}, {TEACHER: {}}, images))
    soft = np.concatenate([soft_losses(s, says(x)[None], 4.0) for s, x in zip(logits, (labelled, others), strict=True)])
    hard = -jax.nn.log_softmax(logits[0])[np.arange(24), np.asarray(batch["label"])]
    np.testing.assert_allclose(total, 0.1 * np.mean(hard) + 0.9 * np.mean(soft), rtol=1e-4)
    np.testing.assert_allclose(sums["soft"], np.sum(soft), rtol=1e-4)
    assert float(sums["taught"]) == 72 and float(sums["count"]) == 24
    hidden = {**batch, BESIDE: {**batch[BESIDE], HIDDEN: (batch[BESIDE][HIDDEN] + 1) % 3}}
    assert float(loss(params, hidden)[0]) == float(total)


def test_the_teacher_learns_from_the_labelled_images_alone():
    experiment = made(**UNLABELLED)
    batch = first_batch(experiment)
    params, state = started(experiment, batch)
    loss = jax.jit(lambda batch: experiment.task.loss(params, state, batch, jax.random.key(1), TEACHER)[0])
    changed = {**batch, BESIDE: {**batch[BESIDE], "image": batch[BESIDE]["image"] + 1}}
    assert float(loss(batch)) == float(loss(changed))
