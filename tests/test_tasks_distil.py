"""Distillation: the loss and its limit, who moves when, a teacher from a run with its own normalisation, what leaves a run."""

import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from commands import command, read
from contract import TRAINED, batch_of
from scipy.special import log_softmax

from cnnlab import knobs
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.train import Intervals
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.interop import files
from cnnlab.models.narrowed import shapes_of
from cnnlab.recipes import run_network
from cnnlab.recipes.classification import classification
from cnnlab.recipes.distillation import distillation
from cnnlab.tasks.classify import classify
from cnnlab.tasks.distil import distil, soft_losses
from cnnlab.tasks.teachers import Teachers

KNOBS = {
    **TRAINED,
    "model": "mlp",
    "model.widths": "6",
    "teacher": "mlp",
    "teacher.widths": "12",
    "optimizer": "momentum",
    "teacher_duration": "4 steps",
    "duration": "4 steps",
}


def made(**more):
    return knobs.resolve(distillation, {**KNOBS, **more}).call()


@functools.cache
def trained():
    return made(), toys.run(made(), intervals=Intervals(log=2, evaluate=100, save=4))


def logits(seed, shape=(5, 7)):
    found = np.random.default_rng(seed).normal(size=shape)
    return found - found.mean(1, keepdims=True)


@pytest.mark.parametrize("temperature", (1.0, 4.0))
def test_the_loss_is_the_divergence_times_the_squared_temperature(temperature):
    student, teacher = logits(0), logits(1)
    given, asked = (log_softmax(each / temperature, axis=1) for each in (teacher, student))
    expected = temperature**2 * np.sum(np.exp(given) * (given - asked), axis=1)
    found = jax.jit(soft_losses)(jnp.float32(student), jnp.float32(teacher)[None], temperature)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(soft_losses(jnp.float32(student), jnp.float32(student)[None], temperature), 0, atol=1e-6)


def test_at_a_high_temperature_the_gradient_is_that_of_matched_logits():
    """Hinton et al. 2015, eq. 4, times T²: (s − t) / K for logits whose mean is 0."""
    student, teacher = logits(2), logits(3)
    gradient = jax.jit(jax.grad(lambda s: jnp.sum(soft_losses(s, jnp.float32(teacher)[None], 200.0))))(jnp.float32(student))
    np.testing.assert_allclose(gradient, (student - teacher) / student.shape[1], rtol=0.05, atol=2e-3)


def test_the_teacher_learns_first_and_then_only_speaks():
    experiment, (end, _, curve, saved) = trained()
    first, last = saved[4][0].params, end.params
    assert tree_digest(first["teacher"]) == tree_digest(last["teacher"])
    assert tree_digest(first["classifier"]) != tree_digest(last["classifier"])
    assert "soft_loss" not in curve[4] and curve[8]["soft_loss"] > 0
    assert [phase.turns for phase in experiment.phases] == [("teacher",), ("classifier",)]


def test_without_soft_targets_the_student_is_a_classifier_alone():
    alone = knobs.resolve(classification, {name: KNOBS[name] for name in KNOBS if not name.startswith("teacher")}).call()
    task, batch = made(soft_weight=0.0).task, batch_of("classify", "train", 24)
    params, state = jax.jit(task.init)(jax.random.key(0), batch)
    own, own_state = jax.jit(alone.task.init)(jax.random.key(0), batch)
    assert tree_digest(jax.device_get(params["classifier"])) == tree_digest(jax.device_get(own["classifier"]))
    losses = [
        jax.jit(lambda p, s, each=each: each.loss(p, s, batch, jax.random.key(1), "classifier")[0])(*given)
        for each, given in ((task, (params, state)), (alone.task, (own, own_state)))
    ]
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-6)


class Helped(nn.Module):
    """A linear classifier with an auxiliary head."""

    @nn.compact
    def __call__(self, images, *, train):
        """Maps images [B, H, W, C] to (logits [B, 10], the auxiliary logits)."""
        x = images.reshape(len(images), -1)  # [B, H, W, C] -> [B, H·W·C]
        return nn.Dense(10, name="output")(x), {"auxiliary1": nn.Dense(10, name="head")(x)}


def test_auxiliary_heads_of_the_student_learn_from_the_labels_as_in_classification():
    batch, key = batch_of("classify", "train", 8), jax.random.key(1)
    alone, taught = classify(Helped()), Teachers((Helped(),), (lambda images: images,))
    params, state = alone.init(key, batch)
    own = alone.loss(params, state, batch, key, "classifier")[0]
    for weight in (0.0, 0.25):
        task = distil(Helped(), taught, temperature=2.0, soft_weight=weight)
        both = {**params, "teacher": params["classifier"]}  # which says what the student says: the soft loss is 0
        loss, slope = jax.value_and_grad(lambda p, t=task: t.loss(p, {"teacher": {}}, batch, key, "classifier")[0])(both)
        assert float(loss) == pytest.approx((1 - weight) * float(own), rel=1e-6)
        assert np.abs(slope["classifier"]["head"]["kernel"]).max() > 0


@pytest.mark.slow
def test_a_teacher_of_a_run_sees_images_as_it_did_there_and_the_student_leaves_without_it(tmp_path: pathlib.Path):
    train = ["--experiment=mlp_digits", "--widths=12", "--normalize=half", "--steps=20", "--workdir=teacher"]
    code, _, err = command(*train, cwd=tmp_path)
    assert code == 0, err
    flags = ["--steps=2", "--model.widths=6", "--teacher_from=teacher", "--workdir=run"]
    code, _, err = command("--experiment=distil_digits", *flags, cwd=tmp_path)
    assert code == 0, err
    own, taught = (read(tmp_path / name / "result.json")["metrics"] for name in ("teacher", "run"))
    assert taught["test/teacher_accuracy"] == own["test/accuracy"], "the student's images have another normalisation"
    flags = ["--steps=2", "--model.widths=6", "--teacher_from=teacher,teacher", "--workdir=twice"]
    code, _, err = command("--experiment=distil_digits", *flags, cwd=tmp_path)
    assert code == 0, err
    twice = read(tmp_path / "twice" / "result.json")["metrics"]
    assert twice["test/loss"] == pytest.approx(taught["test/loss"], rel=1e-4), "a teacher named twice is one teacher"
    found, source = files.load(tmp_path / "run")
    assert set(found) == {f"params/{layer}/{part}" for layer in ("dense1", "output") for part in ("bias", "kernel")}
    assert found["params/dense1/kernel"].shape == (64, 6) and source.knobs["soft_weight"] == 0.9


def test_the_network_of_a_run_has_the_widths_of_its_layers_and_its_weights_in_floats(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    numbers = np.ones((1, 1, 1, 1), np.float32)
    inputs = InputSpec((4, 4, 1), "uint8", numbers, numbers, ("a", "b"))
    recorded = {"model": "mlp", "model.widths": [8, 6], "units_by_layer": ["dense1=3"]}
    monkeypatch.setattr(run_network, "read_run", lambda folder: {"knobs": recorded})
    monkeypatch.setattr(run_network, "read_inputs", lambda folder: inputs)
    network, own = run_network.network_of_run("run", None, "--teacher_from=run")
    shapes = shapes_of(network, own.image_shape)
    kernels = [shapes[f"params/{name}/kernel"] for name in ("dense1", "dense2", "output")]
    assert kernels == [(16, 3), (3, 6), (6, 2)] and own is inputs and not caplog.records
    recorded["quantization"] = "integers"
    run_network.network_of_run("run", None, "--teacher_from=run")
    assert "--teacher_from=run: that run rounds its weights to integers; here they are floats" in caplog.text


def test_a_teacher_of_other_classes_or_sizes_is_refused(tmp_path: pathlib.Path):
    code, _, err = command("--experiment=mlp_digits", "--widths=4", "--steps=1", "--workdir=teacher", cwd=tmp_path)
    assert code == 0, err
    with pytest.raises(UsageError, match="Expected the same size and the same classes"):
        made(teacher_from=str(tmp_path / "teacher"))
