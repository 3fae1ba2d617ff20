"""Every shipped experiment resolves, trains a step, is saved and goes on; every knob does something."""

import functools
import importlib
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from cnnlab import knobs
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.models import MODELS
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.recipes.classification import classification
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from tests.flipping import require_every_knob_does_something
from tests.zoo import ZOO

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = sorted(p.stem for p in (ROOT / "experiments").rglob("*.py") if p.stem != "__init__")
CLAIM = re.compile(r"c\d\d_")
"""How the names of claims begin. Most train what another experiment does, with other knobs."""
LONG = (
    "convnet_cifar10",
    "convnet_fashion",
    "cvae_mnist",
    "dcgan_fashion",
    "gan_mnist",
    "gated_pixelcnn_mnist",
    "pixelcnn_mnist",
    "vae_conv_fashion",
    "vq_vae_fashion",
    "zoo_digits",
)
"""Experiments whose networks take long to compile."""


def load(name: str) -> Callable[..., Any]:
    return importlib.import_module(f"experiments.{name}").experiment


def offline(values: dict[str, Any]) -> dict[str, Any]:
    """Digits, large enough for LeNet-5, in place of a TFDS set, which not every machine has."""
    if not str(values.get("dataset", "")).startswith("tfds:"):
        return {}
    return {"dataset": "digits"} | ({"image_size": 16} if "image_size" in values else {})


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG or CLAIM.match(n) else n for n in NAMES])
def test_an_experiment_trains_a_step_is_saved_and_goes_on(name: str, tmp_path: pathlib.Path):
    experiment = load(name)
    given = offline(knobs.resolve(experiment, {}).values)
    if any(parameter == "duration" for parameter, *_ in knobs.parameters(experiment)):
        given["duration"] = "2 steps"
    if any(parameter == "pretrain" for parameter, *_ in knobs.parameters(experiment)):
        given["pretrain"] = "0 steps"  # tests/test_tasks_stacked.py has the phases
    resolved = knobs.resolve(experiment, given)
    folder = tmp_path / "run"
    for stop_after in (1, None):
        plan = RunSpec(name, resolved.values, "f32", source="", stop_after=stop_after, devices=1, quiet=True)
        assert run.train_seeds(resolved, plan, {0: folder}, overwrite=False) == 0
    result = run.write.read_json(folder / "result.json")
    assert result["steps"] in (0, 2) and all(math.isfinite(value) for value in result["metrics"].values())
    assert 0.0 <= result["metrics"].get("test/accuracy", 0.0) <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_paper_or_data_command_and_result(name: str):
    text = importlib.import_module(f"experiments.{name}").__doc__ or ""
    assert f"--experiment={name}" in text and "Result:" in text and text.splitlines()[0].endswith(".")


SMALL = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 32, "batch_size": 8, "duration": "40 steps"}

OTHERS = {"only_classes": "0,1", "examples_per_class": 9, "frozen": "dense1", "lr_multipliers": "dense1=0.5"}
"""Values of knobs that a rule does not find."""

TOGETHER = ("init_from", "new_head")
"""Knobs that need a file of weights; tests/test_interop_start.py has them."""


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
    small = {name: value for name, value in SMALL.items() if name.split(".")[0] not in base}
    own = path in ("model", "loss", "optimizer", "schedule", "augment")
    below = None if path == "recipe" else path if own else f"model.{path}"
    require_every_knob_does_something(classification, {**small, **base}, below=below, others=OTHERS, but=TOGETHER)


def test_data_sets_are_openers_without_side_effects():
    assert all(callable(option) and not isinstance(option, functools.partial) for option in DATASETS.values())
