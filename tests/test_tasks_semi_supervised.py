"""Few labels and many images without: which examples, what a method computes of them, and that no hidden label is learned."""

import dataclasses
import functools
import itertools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from commands import command, read
from flipping import require_every_knob_does_something
from PIL import Image

from cnnlab import knobs
from cnnlab.core import CLASSIFIER, Experiment
from cnnlab.data.paired import BESIDE
from cnnlab.data.unlabelled import HIDDEN
from cnnlab.engine import train
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.errors import UsageError
from cnnlab.interop import files
from cnnlab.models import norms
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import cross_entropy
from cnnlab.recipes.semi_supervised import partly_labelled_classification, rounds_of
from cnnlab.runs.experiments import load_experiment
from cnnlab.runs.without_data import experiment_without_data
from cnnlab.tasks.classify import classify
from cnnlab.tasks.semi_supervised import MEMORY, collections_of
from cnnlab.tasks.unlabelled_methods import METHODS, Passes, self_training
from tests import jitted
from tests.stages import slow_but

STRIPES = {"dataset": "stripes", "dataset.examples": 90, "dataset.size": 8, "dataset.classes": 3}
SMALL = {**STRIPES, "batch_size": 8, "examples_per_class": 4, "model": "mlp", "model.widths": "6", "duration": "8 steps"}
EVERY = train.Intervals(log=1, evaluate=100, save=1)


@functools.cache
def experiment(**given: Any) -> Experiment:
    return knobs.resolve(partly_labelled_classification, {**SMALL, **given}).call()


def indices(one: Experiment, seed: int, steps: int = 30) -> tuple[set[int], set[int]]:
    """The positions of labelled examples and of the others that some batches show."""
    feeds = list(itertools.islice(one.data.train(seed, 0), steps))
    return set(np.concatenate([feed["index"] for feed in feeds])), set(
        np.concatenate([feed[BESIDE]["index"] for feed in feeds])
    )


@pytest.mark.parametrize("drawn_by", [{}, {"examples_seed": "run", "split_seed": "run"}])
def test_every_example_is_labelled_or_not_and_none_is_held_out(drawn_by: dict[str, str]):
    one = experiment(**drawn_by)
    labels, draws = np.asarray(one.data.resident["train"]["label"]), one.data.draws
    for seed in (0, 1):
        few, others = indices(one, seed)
        within = np.arange(len(labels)) if draws is None else draws("train", seed)
        assert not few & others and few | others == set(within)
        np.testing.assert_array_equal(np.bincount(labels[sorted(few)]), [4, 4, 4])
        if draws is not None:
            assert not (few | others) & set(draws("validation", seed))
    assert (indices(one, 0)[0] != indices(one, 1)[0]) == bool(drawn_by)


def test_a_batch_has_no_label_beside_the_hidden_one_and_views_that_differ():
    data = experiment(augment="shift_rotate", unlabelled_ratio="3").data
    feed, resident = next(data.train(0, 0)), data.resident["train"]
    batch = jax.jit(data.prepare)(resident, feed, jax.random.key(0))
    beside = batch[BESIDE]
    assert beside.keys() == {"image", "again", "calm", HIDDEN, "index", "mask"} and len(beside["image"]) == 24
    assert not np.allclose(beside["image"], beside["again"]) and not np.allclose(beside["image"], beside["calm"])
    plain = (data.images("train", feed["index"]) - data.inputs.subtract) / data.inputs.divide
    assert not np.allclose(batch["image"], plain)
    np.testing.assert_array_equal(beside[HIDDEN], np.asarray(resident["label"])[feed[BESIDE]["index"]])
    assert BESIDE not in data.prepare(data.resident["test"], next(data.evaluate("test", 4)), None)


def test_a_share_of_the_labelled_examples_has_a_wrong_class_always_the_same():
    one = experiment(wrong_labels="0.5", examples_seed="run")
    truth = np.asarray(one.data.resident["train"]["label"])
    prepare = jax.jit(one.data.prepare)
    for seed in (0, 1):
        told: dict[int, set[int]] = {}
        for feed in itertools.islice(one.data.train(seed, 0), 6):
            batch = prepare(one.data.resident["train"], feed, jax.random.key(0))
            for position, label in zip(feed["index"].tolist(), np.asarray(batch["label"]).tolist(), strict=True):
                told.setdefault(position, set()).add(label)
        assert len(told) == 12 and all(len(labels) == 1 for labels in told.values())
        wrong = [position for position, labels in told.items() if labels != {truth[position]}]
        assert len(wrong) == 6
        offsets = [(told[position].copy().pop() - truth[position]) % 3 for position in wrong]
        assert sorted(offsets) == [1, 1, 1, 2, 2, 2]


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def numpy_losses(name: str, noisy: np.ndarray, again: np.ndarray, calm: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Each method's losses of the examples without labels, by its paper's formula."""
    p = softmax(noisy)
    if name == "entropy_minimisation":
        return -(p * np.log(p)).sum(axis=1)
    if name in ("pi_model", "mean_teacher"):
        return ((p - softmax(again if name == "pi_model" else teacher)) ** 2).mean(axis=1)
    given = softmax(teacher if name == "self_training" else calm)
    classes = given.argmax(axis=1)
    return np.where(given.max(axis=1) >= 0.6, -np.log(p[np.arange(len(p)), classes]), 0.0)


@pytest.mark.parametrize("name", METHODS)
def test_the_losses_of_a_method_are_those_of_its_formula_in_f64(name: str):
    logits = 2 * np.random.default_rng(3).normal(size=(4, 40, 5))
    given = {"threshold": 0.6} if name in ("self_training", "pseudo_labels") else {}
    method = METHODS[name](**given)
    with jax.enable_x64(True):

        def total(noisy: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
            fixed = [functools.partial(lambda x: x, x) for x in others]
            losses, _ = method.judge(Passes(lambda: noisy, *fixed, cross_entropy))
            return jnp.sum(losses), losses

        compiled = jax.jit(jax.value_and_grad(total, has_aux=True))
        (_, losses), gradient = compiled(jnp.asarray(logits[0]), jnp.asarray(logits[1:]))
    expected = numpy_losses(name, *logits)
    assert losses.dtype == np.float64 and np.count_nonzero(expected) > 0
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-15)
    for place in ((0, 0), (7, 3)):
        moved = np.zeros_like(logits[0])
        moved[place] = 1e-6
        difference = sum(sign * numpy_losses(name, logits[0] + sign * moved, *logits[1:]).sum() for sign in (1, -1))
        np.testing.assert_allclose(gradient[place], difference / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "at", "expected"),
    [
        ("pseudo_labels", (0.05, 0.35, 0.7), (0.0, 0.5, 1.0)),  # a line from 0.1 to 0.6
        ("pi_model", (0.2, 0.4, 1.0), (10 * np.exp(-5 / 4), 10.0, 10.0)),
        ("mean_teacher", (0.1, 0.4, 1.0), (10 * np.exp(-5 * 9 / 16), 10.0, 10.0)),
        ("entropy_minimisation", (0.0, 1.0), (0.5, 0.5)),
    ],
)
def test_the_weight_of_a_method_rises_as_published(name: str, at: tuple[float, ...], expected: tuple[float, ...]):
    weight = METHODS[name]().weight
    np.testing.assert_allclose([weight(jnp.float32(share)) for share in at], expected, rtol=1e-5, atol=1e-6)


METHODS_SHOWN = slow_but(METHODS, "pseudo_labels")


def without_hidden_labels(program: Program) -> Program:
    """The same compilation with -1, no class, in place of every label that is hidden."""
    few, train_split = indices(program.experiment, 0)[0], dict(program.resident["train"])
    labels = np.array(train_split["label"])
    labels[np.setdiff1d(np.arange(len(labels)), sorted(few))] = -1
    placed = program.strategy.replicate(labels)
    arrays = {**train_split, "label": placed, BESIDE: {**train_split[BESIDE], "label": placed}}
    return dataclasses.replace(program, resident={**program.resident, "train": arrays})


@pytest.mark.parametrize("name", METHODS_SHOWN)
def test_without_the_hidden_labels_nothing_changes_but_what_is_reported_of_them(name: str):
    one = experiment(method=name, **{"model.dropout": "0.2"} | threshold(name, "0.4"))
    program = build_program(one, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    (state, _, curve, _), (other, _, rest, _) = (
        toys.run(one, program=each, intervals=EVERY) for each in (program, without_hidden_labels(program))
    )
    assert tree_digest(state) == tree_digest(other)
    assert 0 <= curve[8].pop("pseudo_label_accuracy") <= 1 and curve[8]["confident_share"] > 0
    assert curve[8] == rest[8]


def threshold(name: str, value: str) -> dict[str, str]:
    return {"method.threshold": value} if name in ("self_training", "pseudo_labels") else {}


@pytest.mark.parametrize("name", METHODS_SHOWN)
def test_with_a_weight_of_0_it_is_training_on_the_labelled_examples_alone(name: str):
    one = experiment(method=name, **{"model.norm": "batch", "model.dropout": "0.2", "method.weight": "0"})
    network = MLP(classes=3, widths=(6,), norm=norms.batch_norm, dropout=0.2)
    alone = dataclasses.replace(one, task=classify(network), phases=())
    ours = toys.run(one, intervals=EVERY)[0]
    theirs = toys.run(alone, intervals=EVERY)[0]
    assert toys.gap(ours.params, theirs.params) < 1e-5
    assert toys.gap(collections_of(ours.model_state), theirs.model_state) < 1e-5


def test_a_teacher_is_the_moving_average_of_the_weights_and_predicts():
    one = experiment(method="mean_teacher", **{"method.decay": "0.7", "model.norm": "batch"})
    last, _, _, saved = toys.run(one, intervals=EVERY)
    states = [toys.run(one, stop=0)[0], *(saved[step][0] for step in sorted(saved))]
    own = [{"params": state.params, "collections": collections_of(state.model_state)} for state in states]
    expected = own[0]
    for step, state in enumerate(states[1:]):
        kept = min(1 - 1 / (step + 1), 0.7)
        expected = jax.tree.map(lambda old, new, kept=kept: kept * old + (1 - kept) * new, expected, own[step])
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state.model_state[MEMORY]["teacher"], expected
        )
    images = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8, 8, 1)), jnp.float32)
    network = MLP(classes=3, widths=(6,), norm=norms.batch_norm)
    variables = {"params": expected["params"][CLASSIFIER], **expected["collections"]}
    predicted = jax.jit(one.task.predict)(last.params, last.model_state, images)
    np.testing.assert_allclose(predicted, jitted.apply(network, variables, images, train=False)[0], rtol=1e-4, atol=1e-5)


def test_labels_are_those_of_the_network_at_the_start_of_a_round():
    one = experiment(**{"method.rounds": "3", "method.threshold": "0"})
    assert [phase.steps for phase in one.phases] == [2, 2, 2, 2] and one.phases[0].begin is None
    last, _, curve, saved = toys.run(one, intervals=EVERY)
    states = {step: state for step, (state, _) in saved.items()} | {8: last}
    for step in range(1, 9):
        memory, began = states[step].model_state[MEMORY], (step - 1) // 2 * 2
        assert memory["round"] == began // 2 and memory["steps"] == step
        assert curve[step]["confident_share"] == curve[step]["unlabelled_weight"] == (began > 0)
        if began:
            assert tree_digest(memory["teacher"]["params"]) == tree_digest(states[began].params)
    # At the first step of a round teacher and network are one.
    assert curve[2]["unlabelled_loss"] == 0 < curve[3]["unlabelled_loss"]


def test_what_cannot_be_divided_is_refused_before_anything_is_compiled():
    with pytest.raises(UsageError, match=r"--rounds=8: training has 8 steps, and 9 parts with(.|\n)*Give fewer rounds"):
        experiment(**{"method.rounds": "8"})
    with pytest.raises(UsageError, match=r"--examples_per_class=27: all 81 training examples(.|\n)*Give a smaller number"):
        experiment(examples_per_class="27")
    with pytest.raises(UsageError, match=r"too many to stay on the device"):
        experiment(resident_mib="0")
    with pytest.raises(UsageError, match=r"--wrong_labels changes the class of an image, and mixup"):
        experiment(wrong_labels="0.2", augment="mixup")
    with pytest.raises(UsageError, match=r"needs the class of every image, and adding has no column `label`"):
        knobs.resolve(partly_labelled_classification, {"dataset": "adding", "loss": "squared"}).call()
    assert rounds_of(self_training(rounds=2), 0, ("a",)) == ()


@pytest.mark.slow
def test_images_without_labels_raise_the_accuracy_on_digits():
    """Mean of three draws of five labels a class: 0.833 without, 0.867 with pseudo-labels."""
    found = {}
    for weight in ("0", "3"):
        given = {"dataset": "digits", "examples_per_class": "5", "examples_seed": "run", "duration": "1000 steps"}
        given |= {"method": "pseudo_labels", "method.weight": weight, "optimizer": "adam", "optimizer.lr": "0.001"}
        one = knobs.resolve(partly_labelled_classification, given).call()
        program = build_program(one, STRATEGIES["jit"](pick_devices(1)), precision="f32")
        ends = [toys.run(one, program=program, seed=seed, intervals=train.Intervals(100, 10**6, 10**6))[0] for seed in range(3)]
        tested = [train.evaluate(program, program.strategy.to_devices(state), "test") for state in ends]
        found[weight] = np.mean([one.task.summary(stats)["accuracy"] for stats in tested])
    assert found["0"] > 0.78 and found["3"] > found["0"] + 0.01


@pytest.mark.slow
def test_every_knob_of_the_recipe_does_something():
    small = {**SMALL, "image_size": 10, "image_fit": "pad", "l1": 0.001}
    refused = ("data.resident_mib",)  # where the labels of a stream would have to be known
    require_every_knob_does_something(partly_labelled_classification, small, but=refused)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_knob_of_a_method_does_something(method: str):
    small = {name: value for name, value in SMALL.items() if name != "duration"} | {"duration": "40 steps", "method": method}
    require_every_knob_does_something(partly_labelled_classification, small, below="method")


@pytest.mark.slow
def test_a_run_predicts_without_its_data_and_leaves_its_teacher_behind(tmp_path: pathlib.Path):
    code, _, err = command("--experiment=self_training_digits", "--steps=4", "--rounds=1", "--workdir=run", cwd=tmp_path)
    assert code == 0, err
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    resolved = knobs.resolve(load_experiment("self_training_digits").function, read(tmp_path / "run" / "run.json")["knobs"])
    experiment = experiment_without_data(resolved, tmp_path / "run")
    assert experiment is not None and not experiment.data.resident
    code, out, err = command("predict", "--workdir=run", "--images=a.png", cwd=tmp_path)
    assert code == 0 and "a.png" in out, err
    assert {name.partition("/")[0] for name in files.read(tmp_path / "run")} <= {"params", "batch_stats"}
