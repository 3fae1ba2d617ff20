"""Every shipped experiment resolves, trains a step, is saved and goes on; every knob does something."""

import functools
import hashlib
import importlib
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from cnnlab import knobs, run, train
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.folder import Plan
from cnnlab.models import MODELS
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.schedules import SCHEDULES
from experiments.recipes import classification
from tests.zoo import ZOO

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = sorted(p.stem for p in (ROOT / "experiments").glob("*.py") if p.stem not in ("__init__", "recipes"))
SLOW = ("zoo_digits", "c07_plain_vs_residual")
"""Experiments whose networks take long to compile."""


def load(name: str) -> Callable[..., Any]:
    return importlib.import_module(f"experiments.{name}").experiment


def offline(values: dict[str, Any]) -> dict[str, Any]:
    """Digits, large enough for LeNet-5, in place of a TFDS set, which not every machine has."""
    if not str(values.get("dataset", "")).startswith("tfds:"):
        return {}
    return {"dataset": "digits"} | ({"image_size": 16} if "image_size" in values else {})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES])
def test_an_experiment_trains_a_step_is_saved_and_goes_on(name: str, tmp_path: pathlib.Path):
    experiment = load(name)
    given = offline(knobs.resolve(experiment, {}).values)
    if any(parameter == "duration" for parameter, *_ in knobs.parameters(experiment)):
        given["duration"] = "2 steps"
    resolved = knobs.resolve(experiment, given)
    folder = tmp_path / "run"
    for stop_after in (1, None):
        plan = Plan(name, resolved.values, "f32", source="", stop_after=stop_after, devices=1, quiet=True)
        assert run.train_seeds(resolved, plan, {0: folder}, overwrite=False) == 0
    result = run.write.read_json(folder / "result.json")
    assert 0.0 <= result["metrics"]["test/accuracy"] <= 1.0 and result["steps"] in (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_paper_or_data_command_and_result(name: str):
    text = importlib.import_module(f"experiments.{name}").__doc__ or ""
    assert f"--experiment={name}" in text and "Result:" in text and text.splitlines()[0].endswith(".")


SMALL = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 32, "batch_size": 8, "duration": "40 steps"}


def signature(values: dict[str, Any]) -> str:
    """Everything that a knob can change: initial values, the step with its constants, data, length, averaging."""
    base = {path: value for path, value in SMALL.items() if path.split(".")[0] not in values}
    experiment = knobs.resolve(classification, {**base, **values}, {"data_dir": None}).call()
    data = experiment.data
    feed, resident = next(data.train(0, 0)), data.resident["train"]
    batch = data.prepare(resident, feed, None)
    start = functools.partial(train.init_state, experiment)
    state = jax.eval_shape(start, np.uint32(0), batch)
    traces = [
        jax.make_jaxpr(start)(np.uint32(0), batch),
        jax.make_jaxpr(train.make_train_step(experiment, precision="f32"))(state, resident, feed),
        jax.make_jaxpr(experiment.task.measure)(state.params, state.model_state, batch),
    ]
    total = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", " ".join(map(str, traces))).encode())
    for array in [constant for trace in traces for constant in trace.consts]:
        total.update(np.asarray(array).tobytes())
    total.update(f"{experiment.steps} {dict(data.sizes)} {data.fingerprint} {experiment.average_decay} {feed}".encode())
    return total.hexdigest()


OTHERS = {"only_classes": "0,1", "examples_per_class": 9, "frozen": "dense1", "lr_multipliers": "dense1=0.5"}
"""Values of knobs that a rule does not find."""

TOGETHER = ("init_from", "new_head")
"""Knobs that need a file of weights; tests/test_interop_start.py has them."""


def other(knob: knobs.Knob) -> Any:
    """A value that a knob takes and does not have."""
    if knob.path in OTHERS:
        return OTHERS[knob.path]
    if knob.kind.startswith("one of: "):
        options = knob.kind.removeprefix("one of: ").split(", ")
        return next(
            option for option in options if option not in (str(knob.value), "tfds", "folder", "npz", "real", "instance")
        )
    if isinstance(knob.value, bool):
        return not knob.value
    if isinstance(knob.value, list):
        return [knob.value[0] / 2 if isinstance(knob.value[0], float) else knob.value[0] + 1, *knob.value[1:]]
    if knob.path == "duration":
        return "41 steps"
    if knob.value is None:
        return 16 if "int" in knob.kind else 0.5
    return knob.value + 1 if isinstance(knob.value, int) else knob.value / 2 or 0.25


def cases() -> list[tuple[str, dict[str, Any]]]:
    """A base for every option of every choice, so that the knobs below each option are seen."""
    found: list[tuple[str, dict[str, Any]]] = [("recipe", {"image_size": 40, "image_fit": "pad"})]
    choices = {"model": MODELS, "loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "augment": AUGMENTS}
    for path, options in choices.items():
        for option in options:
            if path != "model" or option not in ZOO:  # whose knobs depend on one another: test_zoo.py and test_models_*.py
                found.append((f"{path}={option}", {path: option}))
    found += [(f"activation={name}", {"model": "mlp", "model.activation": name}) for name in ACTIVATIONS]
    found += [(f"initializer={name}", {"model": "mlp", "model.initializer": name}) for name in INITIALIZERS]
    found += [(f"norm={name}", {"model": "convnet", "model.norm": name}) for name in ("batch", "layer", "group", "instance")]
    return found


NEEDS = {
    "lenet5_20_50_500": {"image_size": 28},
    "lenet_300_100": {"image_size": 28},
    "lenet5_1998": {"dataset.classes": 10},
}


@pytest.mark.slow
@pytest.mark.parametrize(("label", "base"), cases(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_knob_does_something(label: str, base: dict[str, Any]):
    path, _, option = label.partition("=")
    base = {"model": "linear", **base, **NEEDS.get(option, {})} if path != "recipe" else {"model": "mlp", **base}
    before = signature(base)
    assert signature(base) == before
    below = path if path in ("model", "loss", "optimizer", "schedule", "augment") else f"model.{path}"
    resolved = knobs.resolve(classification, {**SMALL, **base})
    for knob in resolved.knobs.values():
        top = knob.path.split(".")[0]
        if knob.path in TOGETHER:
            continue
        if (path == "recipe" and "." not in knob.path) or (path != "recipe" and knob.path.startswith(f"{below}.")):
            assert signature({**base, knob.path: other(knob)}) != before, f"{knob.path} of {top} does nothing"


def test_data_sets_are_openers_without_side_effects():
    assert all(callable(option) and not isinstance(option, functools.partial) for option in DATASETS.values())
