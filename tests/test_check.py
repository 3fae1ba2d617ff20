"""The check before a run: its rules on numbers, ten planted faults that it finds, and five sound experiments that it passes."""

import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, Here

from cnnlab.check import findings
from cnnlab.check.derivative import largest_error
from cnnlab.check.findings import Finding, Kernel, Output
from cnnlab.check.probe import neighbours_agree, probe_of
from cnnlab.check.trials import OFF
from cnnlab.choices import parameters
from cnnlab.models import MODELS
from cnnlab.models.mlp import MLP
from cnnlab.ops.averaging import AVERAGES
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.regularizers import REGULARIZERS
from cnnlab.tasks.classify import classify

STATES = {
    "inputs": [
        (findings.inputs(0.0, 1.0, 0.9), "fine"),
        (findings.inputs(79.0, 124.0, 80.0), "wrong"),
        (findings.inputs(1.0, 1.0, 0.0), "wrong"),
        (findings.inputs(math.nan, math.nan, 1.0), "wrong"),
    ],
    "batch statistics": [
        (findings.batch_statistics(64, is_used=True), "fine"),
        (findings.batch_statistics(3, is_used=True), "note"),
        (findings.batch_statistics(1, is_used=True), "wrong"),
    ],
    "classes": [
        (findings.classes([50, 50], "ab"), "fine"),
        (findings.classes([90, 10], "ab"), "note"),
        (findings.classes([50, 50, 0], "abc"), "wrong"),
        (findings.classes([3, 1, 0], "abc"), "note"),  # too few examples to miss one
    ],
    "loss at the start": [
        (findings.start(2.6, math.log(10)), "fine"),
        (findings.start(5.0, math.log(10)), "note"),
        (findings.start(200.0, math.log(10)), "wrong"),
        (findings.start(0.5, math.log(10)), "wrong"),
        (findings.start(0.5, math.log(10), is_imported=True), "fine"),
        (findings.start(math.inf, 1.0), "wrong"),
        (findings.start(1.0, None), "not checked"),
    ],
    "learning rate": [
        (findings.rates(0.1, {0.01: 2.0, 0.1: 1.0, 1.0: 1.5}, 2.3, 60)[0], "fine"),
        (findings.rates(0.1, {0.01: 2.2, 0.1: 2.0, 1.0: 0.3}, 2.3, 60)[0], "note"),
        (findings.rates(0.1, {0.01: 0.5, 0.1: math.nan, 1.0: math.nan}, 2.3, 60)[0], "wrong"),
        (findings.rates(0.1, {0.01: 2.3, 0.1: 2.3, 1.0: 2.3}, 2.3, 60)[0], "wrong"),
        (findings.rates(0.1, {0.1: math.nan}, 2.3, 60)[0], "wrong"),
    ],
    "features": [
        (findings.features([Output("a", 1.0, 0.5), Output("b", 1.0, 0.1)]), "fine"),
        (findings.features([Output("a", 1.0, 0.5), Output("b", 1.0, 0.0)]), "wrong"),
        (findings.features([]), "not checked"),
    ],
    "gradient flow": [(findings.detached([], 4), "fine"), (findings.detached(["side/kernel"], 4), "wrong")],
    "memorising a few": [
        (findings.memory(2.3, 0.01, 1.0, 32, 50), "fine"),
        (findings.memory(2.3, 1.0, 0.9, 32, 300), "note"),
        (findings.memory(2.3, 2.2, 0.2, 32, 300), "wrong"),
        (findings.memory(2.3, math.nan, 0.1, 32, 20), "wrong"),
        (findings.memory(9.0, 0.1, None, 32, 100), "fine"),
    ],
    "labels and images": [
        (findings.labels(0.98, 0.1, 512, None), "fine"),
        (findings.labels(0.11, 0.1, 512, (0.5, 0.1, 144)), "fine"),
        (findings.labels(0.11, 0.1, 512, (0.12, 0.1, 144)), "wrong"),
        (findings.labels(0.5, 0.5, 4, None), "not checked"),
    ],
    "gradient check": [
        (findings.derivative(1e-9, is_exact=True), "fine"),
        (findings.derivative(1e-3, is_exact=True), "note"),
        (findings.derivative(0.5, is_exact=True), "wrong"),
        (findings.derivative(0.5, is_exact=False), "note"),
    ],
}


@pytest.mark.parametrize("name", STATES)
def test_a_rule_tells_sound_numbers_from_faults_and_names_them(name: str):
    for finding, state in STATES[name]:
        assert finding is not None and (finding.name, finding.state) == (name, state), finding
        assert finding.sentence and (state not in ("wrong",) or finding.sentence.endswith((".", "?"))), finding


def test_units_that_are_dead_or_copies_are_named():
    sound = Kernel("conv1", 1.0, 0.1, 0.0, copies=False)
    assert [one.state for one in findings.units([sound], "now")] == ["fine"]
    dead = Kernel("conv2", 1.0, 0.1, 0.6, copies=False)
    (found,) = findings.units([sound, dead], "now")
    assert found.state == "wrong" and "60% of the units of conv2" in found.sentence
    symmetric = Kernel("dense", 0.0, 0.0, 0.1, copies=True)
    assert [(one.name, one.state) for one in findings.units([symmetric], "now")] == [
        ("symmetry", "wrong"),
        ("dead units", "fine"),
    ]


def test_outputs_that_are_probabilities_are_no_logits():
    assert findings.probabilities(0.0, [1.0, 1.0], "cross_entropy").state == "wrong"
    assert findings.probabilities(-0.1, [1.0, 1.0], "cross_entropy") is None
    assert findings.probabilities(0.0, [1.0, 1.4], "cross_entropy") is None


def test_the_verdict_names_every_fault_and_every_note():
    fine, note, wrong = (Finding(state, state, "") for state in ("fine", "note", "wrong"))
    assert findings.verdict([fine, fine]) == "2 checks found no fault"
    assert findings.verdict([fine, note]) == "2 checks found no fault; worth a look: note"
    assert findings.verdict([fine, note, wrong]) == "1 of 3 checks found a fault: wrong"


def test_labels_in_random_order_are_rarely_taken_for_those_of_the_images_nor_the_other_way_round():
    random = np.random.default_rng(0)
    images = random.normal(size=(400, 4, 4, 1)).astype(np.float32)
    labels = (images[:, 0, 0, 0] > 0).astype(np.int32)
    images[:, 0, 0, 0] *= 8  # the pixel that the label depends on
    agree, chance = neighbours_agree(images, labels)
    assert agree > 0.8 and abs(chance - 0.5) < 0.02
    shares = [neighbours_agree(images, random.permutation(labels)) for _ in range(100)]
    assert sum(findings.is_above(agree, chance, 400) for agree, chance in shares) <= 3


def small_task():
    """Returns a task with a network of two layers, its parameters and a batch of 16 examples."""
    task = classify(MLP(3, (8,)))
    images = jax.random.normal(jax.random.key(1), (16, 4, 4, 1))
    order = jnp.arange(16, dtype=jnp.int32)
    batch = {"image": images, "label": order % 3, "index": order, "mask": jnp.ones(16, bool)}
    params, model_state = task.init(jax.random.key(0), batch)
    return task, params, model_state, jax.tree.map(np.asarray, batch)


def test_the_gradient_check_tells_a_gradient_from_that_of_another_function():
    task, params, model_state, batch = small_task()
    assert largest_error(task, params, model_state, batch) < 1e-8

    def loss(params, model_state, batch, key, player):
        value, more = task.loss(params, model_state, batch, key, player)
        kernel = params[player]["dense1"]["kernel"]
        return value + jnp.sum(jax.lax.stop_gradient(kernel) ** 2), more

    assert largest_error(dataclasses.replace(task, loss=loss), params, model_state, batch) > 0.1


def test_layers_come_in_the_order_of_calls_with_their_gradients():
    task, params, model_state, batch = small_task()
    found = probe_of(task)(params, model_state, batch)
    assert [output.name for output in found.outputs] == ["dense1", "output"]
    kernel = next(kernel for kernel in found.kernels if kernel.name == "dense1")
    gradient = jax.jit(jax.grad(lambda own: task.loss({"classifier": own}, {}, batch, jax.random.key(0), "classifier")[0]))
    exact = np.sqrt(np.mean(np.square(gradient(params["classifier"])["dense1"]["kernel"])))
    np.testing.assert_allclose(kernel.gradient, exact, rtol=1e-5)
    np.testing.assert_allclose(found.summary["loss"], found.losses["classifier"], rtol=1e-6)
    assert not found.silent and found.arrays == 4


def test_what_memorising_switches_off_are_knobs_by_their_names_of_today():
    functions = [*MODELS.values(), *LOSSES.values(), *OPTIMIZERS.values(), *REGULARIZERS.values(), *AVERAGES.values()]
    names = {name for function in functions for name, *_ in parameters(function)}
    assert not OFF.keys() - names


NETWORK = '''
import flax.linen as nn
import jax
from cnnlab.values import Count


class Network(nn.Module):
    classes: int
    fault: str

    @nn.compact
    def __call__(self, images, *, train):
        flat = images.reshape(len(images), -1)
        x = flat * 0 + 1 if self.fault == "constant" else flat
        start = nn.initializers.constant(-100.0) if self.fault == "dead" else nn.initializers.zeros
        x = nn.relu(nn.Dense(32, bias_init=start, name="hidden")(x))
        side = nn.Dense(32, name="side")(flat)
        x = x + (jax.lax.stop_gradient(side) if self.fault == "detached" else 0.1 * side)
        x = nn.Dense(self.classes, name="output")(x)
        return (jax.nn.softmax(x) if self.fault == "softmax" else x), {}


def network(*, classes, fault: str = "none"):
    """A network with a fault.

    Args:
        fault: which one.
    """
    return Network(classes, fault)
'''
FAULTS = {
    ("--model=net.py:network", "--fault=constant"): "features",
    ("--model=net.py:network", "--fault=dead"): "dead units",
    ("--model=net.py:network", "--fault=detached"): "gradient flow",
    ("--model=net.py:network", "--fault=softmax"): "outputs",
    ("--initializer=zeros",): "symmetry",
    ("--lr=5",): "learning rate",
    ("--control=shuffle_labels",): "labels and images",
    ("--normalize=raw",): "inputs",
    ("--model=convnet", "--model.widths=4", "--batch_size=1"): "batch statistics",
    ("--dataset=npz:twelve.npz",): "classes",
}
SOUND = (
    ("--experiment=mlp_digits", "--model=net.py:network"),
    ("--experiment=linear_digits",),
    ("--experiment=convnet_digits", "--model.widths=8,8"),
    ("--experiment=xor",),
    ("--experiment=vae_mnist", "--dataset=digits", "--widths=16", "--latent=4"),
)


def checked(here: Here, tmp_path: pathlib.Path, *words: str) -> tuple[int, dict[str, str], dict]:
    """Runs a check; returns (exit code, {name: state}, all that it printed as JSON)."""
    (tmp_path / "net.py").write_text(NETWORK)
    code, out, err = here("check", *words, "--seconds=3", "--format=json", "--log_level=warning")
    assert out.startswith("{"), err
    found = json.loads(out)
    return code, {finding["name"]: finding["state"] for finding in found["findings"]}, found


@pytest.mark.slow
@pytest.mark.parametrize("words", FAULTS, ids=" ".join)
def test_a_planted_fault_is_found(words: tuple[str, ...], here: Here, tmp_path: pathlib.Path):
    if "npz" in words[0]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (digits.images * 15).astype(np.uint8)[..., None]
        parts = {"train_images": images[:1400], "train_labels": digits.target[:1400]}
        parts |= {"test_images": images[1400:], "test_labels": digits.target[1400:]}
        np.savez(tmp_path / "twelve.npz", **parts, class_names=np.asarray([f"class {number}" for number in range(12)]))
    code, states, found = checked(here, tmp_path, "--experiment=mlp_digits", *words)
    assert code == 1 and states[FAULTS[words]] == "wrong", found["findings"]
    assert FAULTS[words] in found["verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("words", SOUND, ids=lambda words: words[0])
def test_a_sound_experiment_passes(words: tuple[str, ...], here: Here, tmp_path: pathlib.Path):
    code, states, found = checked(here, tmp_path, *words)
    assert code == 0 and "wrong" not in states.values(), found["findings"]
    assert states["gradient check"] == "fine" and len(found["layers"]) >= 1
    assert (tmp_path / "runs" / f"check-{words[0].partition('=')[2]}.png").stat().st_size > 10_000


def test_an_experiment_that_trains_nothing_and_a_wrong_name_of_a_figure_are_refused(here: Here):
    code, _, err = here("check", "--experiment=knn_digits")
    assert code == 2 and "trains nothing" in err
    code, _, err = here("check", "--experiment=mlp_digits", "--to=figure.jpg")
    assert code == 2 and "the figure is a PNG" in err


def test_texts_are_refused_before_anything_is_trained(here: Here):
    code, _, err = here("check", "--experiment=lstm_shakespeare", f"--dataset=file:{ROOT / 'LICENSE'}", "--window=8")
    assert code == 2 and "check: it looks at images" in err
