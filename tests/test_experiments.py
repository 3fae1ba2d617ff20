"""Every shipped experiment resolves and traces, one of each recipe trains and goes on; every knob does something."""

import functools
import importlib
import inspect
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnnlab import files, knobs
from cnnlab.choices import parameters
from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.variations import AUGMENTS
from cnnlab.engine import tracing
from cnnlab.models import MODELS
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.attacks import ATTACKS
from cnnlab.ops.init import INITIALIZERS
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.recipes.autoencoder import principal_components
from cnnlab.recipes.classification import classification, ensemble_classification, nearest_neighbours
from cnnlab.runs import run
from cnnlab.runs.catalogue import experiment_files
from cnnlab.runs.folder import RunSpec
from cnnlab.values import ChoiceOf, metadata
from tests.flipping import require_every_knob_does_something
from tests.stages import slow_but
from tests.zoo import ZOO

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = {name: path.relative_to(ROOT) for name, path in experiment_files().items()}
NAMES = sorted(FILES)
OLD_KNOBS = json.loads((ROOT / "tests" / "old_knobs.json").read_text(encoding="utf-8"))
"""{experiment: its default knobs as run.json had them when all knobs of a recipe were flat}."""
ONE_A_RECIPE = (
    "c32_ensembles",
    "class_image",
    "denoising_mnist",
    "fast_style",
    "gan_gaussians",
    "knn_digits",
    "localize_scenes",
    "mlp_digits",
    "pca_mnist",
    "pixelcnn_mnist",
    "pretext_digits",
    "self_training_digits",
    "pretrained_probe_digits",
    "probe_digits",
    "simclr_digits",
    "stacked_dae_mnist",
    "unet_scenes",
    "yolo_scenes",
    "vae_mnist",
    "vq_vae_fashion",
)
"""An experiment of each recipe."""
QUICK = ("knn_digits", "mlp_digits", "pca_mnist")
"""Experiments that the fast stage trains; the slow stage trains the others."""
OTHER_CLAIMS = [
    name for name in NAMES if "claims" in FILES[name].parts and name not in ("c23_pretraining", "c27_gan_vae", "c32_ensembles")
]
"""Claims whose recipe and network another experiment trains: they are traced, and trained by hand."""
ALIKE = ("fast_rcnn_scenes", "mask_rcnn_nuclei", "localize_scenes")
"""Experiments whose recipe and kind of network others have, and which take long: trained by hand, too."""
OTHER_PRETEXTS = ("counting_cifar10", "inpainting_cifar10", "jigsaw_cifar10", "relative_position_cifar10", "rotation_cifar10")
"""Pretext tasks, which test_tasks_pretext.py and test_tasks_pretext_images.py train small: trained by hand, too."""
TRACED_FIRST = [name for name in ONE_A_RECIPE if name not in ("class_image", "fast_style")]
"""Experiments that the fast stage traces at full size, one of each recipe but for the large frozen networks of synthesis, which
test_tasks_synthesis.py makes small; it fills in the knobs of all others, which the slow stage traces."""
SEEN = {"model": "convnet", "model.widths": "4,8"}
SMALLER: dict[str, dict[str, Any]] = {
    **{name: {**SEEN, "data.dataset.size": 16} for name in ("class_image", "fooling")},
    "deep_dream": {**SEEN, "data.image_size": 16, "objective.layers": "stage1", "octaves": 2},
    **{name: {"teacher_duration": "0 steps"} for name in ("distil_digits", "distil_fashion")},
    "c55_distillation": {"teacher_duration": "0 steps", "data.dataset.size": 16},
    **{name: {"method.rounds": 1} for name in ("self_training_digits", "self_training_fashion")},
    "fast_style": {**SEEN, "data.image_size": 16, "style_layers": "stage1", "content_layers": "stage2"},
    "feature_inversion": {**SEEN, "data.image_size": 16, "objective.layers": "stage1"},
    "style_transfer": {**SEEN, "data.image_size": 16, "style_layers": "stage1", "content_layers": "stage2"},
    "texture": {**SEEN, "octaves": 2, "data.dataset.size": 16, "objective.layers": "stage1"},
    "airbench_cifar10": {"model.widths": "4,8"},
    "cityscapes": {"model.backbone.width": 0.125},
    "c29_self_supervised": {"examples_per_class": 10},
    "c50_flips_digits": {"data.dataset.size": 16},  # the smallest for LeNet-5
    "c50_flips_photos": {"data.dataset.size": 16},
    "isic_lesions": {"model": "linear"},
    "pixelcnn_mnist": {"model.width": 4, "model.blocks": 1},
    "simclr_cifar10": {"model.width": 0.125},
    "vae_mnist": {"model.widths": "16"},
    "vq_vae_fashion": {"model.widths": "4,8", "model.blocks": 0},
    "zoo_digits": {"model.width": 0.125},
}
"""Networks, and sizes of images, with which experiments are trained in place of those with which they are traced."""


def module_of(name: str) -> Any:
    return importlib.import_module(".".join(FILES[name].with_suffix("").parts))


def load(name: str) -> Callable[..., Any]:
    return module_of(name).experiment


def innermost(function: Any) -> Any:
    """Returns the function below all partials."""
    return innermost(function.func) if isinstance(function, functools.partial) else function


def offline(values: dict[str, Any], *, side: int) -> dict[str, Any]:
    """Knobs that put stripes of ten classes, and random weights, in place of what not every machine has."""
    if "objective" in values:
        return {"control": "random_parameters", **(SEEN if values["objective"] == "class_score" else {})}
    if "box_weight" in values:  # all are on scenes; drawing 12,000 scenes takes a minute and a half
        return {"data.dataset.examples": 400}
    if "losses" in values:
        small = {"data.dataset": "scenes", "data.dataset.size": 16, "data.dataset.examples": 24}
        # Otsu's threshold has no width, and two classes alone.
        small |= {path: 8 for path in values if path.endswith("random_crop.size")}
        return small | ({"model": "unet"} if values["model"] == "otsu" else {}) | {"model.width": 2}
    if "nms_threshold" in values:
        scenes = {"data.dataset": "scenes", "data.dataset.size": 16, "data.dataset.examples": 24, "data.image_fit": "resize"}
        scenes |= {path: 8 for path in values if path.endswith("random_crop.size")}
        if values["model"] == "otsu_watershed":  # it has no width, and one class alone
            return {**scenes, "model": "ssd", "model.width": 2, "model.levels": 3}
        masks = {"data.dataset.instances": True} if "model.mask_bins" in values else {}
        return {**scenes, **masks, "model.width": 2, "model.levels": 3}
    if values.get("pretext"):  # pieces of images in colour need some pixels
        return {"data.dataset": "smooth_noise", "data.dataset.size": 24, "data.dataset.examples": 400}
    if "data.window" in values:  # a text
        return {"data.dataset": "python_topics"} | ({"model.widths": "8"} if "model" in values else {})
    if not str(values.get("data.dataset", "")).startswith(("tfds:", "csv:", "isic:")):
        return {}
    given = {"data.dataset": "stripes", "data.dataset.size": side, "data.dataset.classes": 10, "data.dataset.examples": 2000}
    given |= {"data.examples_per_class": 10} if values.get("data.examples_per_class") else {}
    given |= {"images_per_class": 150} if values.get("images_per_class") else {}
    if (values.get("data.examples_per_class") or 0) > 200:
        given["data.examples_per_class"] = 200
    return given | ({"data.image_size": 16} if side < 28 and values["data.image_size"] else {})


def resolve_offline(name: str) -> knobs.Resolved:
    """An experiment with its knobs, on data that every machine has."""
    experiment = load(name)
    return knobs.resolve(experiment, offline(knobs.resolve(experiment, {}).values, side=28))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TRACED_FIRST])
def test_the_knobs_of_an_experiment_are_filled_in(name: str):
    values = resolve_offline(name).values
    assert values["data.dataset"] and not any(value is inspect.Parameter.empty for value in values.values())


@pytest.mark.parametrize("name", slow_but(NAMES, *TRACED_FIRST))
def test_an_experiment_traces_a_step_at_full_size(name: str):
    resolved = resolve_offline(name)
    tracing.trace(resolved.call(), precision="f32", experiment_of=resolved.call_with, traced_knobs={})


@pytest.mark.parametrize("name", slow_but(NAMES, *QUICK, thorough=[*OTHER_CLAIMS, *ALIKE, *OTHER_PRETEXTS, "isic_sample"]))
def test_an_experiment_trains_a_step_is_saved_and_goes_on(name: str, tmp_path: pathlib.Path):
    experiment = load(name)
    given = offline(knobs.resolve(experiment, {}).values, side=8)
    given |= SMALLER.get(name, {})
    if any(parameter == "duration" for parameter, *_ in parameters(experiment)):
        given["duration"] = "2 steps"
    if innermost(experiment).__name__ == "pretrained_probe":
        given |= {"start": "random"}  # tests/contract.py has a run with both
    if any(parameter == "pretrain" for parameter, *_ in parameters(experiment)):
        given["pretrain"] = "0 steps"  # tests/test_tasks_stacked.py has the phases
    if any(parameter == "log_p_samples" for parameter, *_ in parameters(experiment)):
        given["log_p_samples"] = 2
    resolved = knobs.resolve(experiment, given)
    folder, built = tmp_path / "run", None
    for stop_after in (1, None):
        spec = RunSpec(name, resolved.values, "f32", source="", stop_after=stop_after, devices=1, quiet=True)
        built = built or run.build(resolved, spec)
        assert run.train_seeds(resolved, spec, {0: folder}, overwrite=False, program=built) == 0
    result = files.read_json(folder / "result.json")
    metrics = result["metrics"].items()
    # A class that six scenes do not have has no IoU.
    # A probe has two steps, too, and what only counts, or is not trained, none.
    assert built and result["steps"] == built.experiment.steps in (0, 2)
    assert all(math.isfinite(value) for metric, value in metrics if "/iou_" not in metric)
    assert 0.0 <= result["metrics"].get("test/accuracy", 0.0) <= 1.0


RECIPES = (
    "autoencoder",
    "classification",
    "contrastive",
    "detection",
    "gan",
    "localization",
    "pixels",
    "pretext",
    "probe",
    "segmentation",
    "semi_supervised",
    "synthesis",
    "vae",
)


def is_recipe(function: Callable[..., Any]) -> bool:
    """Whether a public function of cnnlab.recipes makes an experiment."""
    own = function.__module__.startswith("cnnlab.recipes.") and not function.__name__.startswith("_")
    return own and inspect.signature(function).return_annotation is Experiment


def test_one_experiment_of_every_recipe_is_trained():
    modules = [importlib.import_module(f"cnnlab.recipes.{name}") for name in RECIPES]
    made = {value for module in modules for value in vars(module).values() if inspect.isfunction(value)}
    recipes = {function for function in made if is_recipe(function)}
    assert {innermost(load(name)) for name in ONE_A_RECIPE} == recipes


@pytest.mark.parametrize("name", OLD_KNOBS)
def test_the_knobs_of_an_old_run_are_those_of_today(name: str):
    """A run.json from before data and schedules were choices of their own has flat names: dataset, schedule.warmup."""
    resolved, recorded = knobs.resolve(load(name), {}, {"data_dir": None}), OLD_KNOBS[name]
    today = resolved.values
    assert resolved.reread(recorded) == today
    for path, value in recorded.items():
        (found,) = knobs.matching(path, today) or [knobs.RENAMED[path]]
        assert today[found] == value, path


@pytest.mark.parametrize("name", ["c03_activations", "dcgan_fashion", "stacked_dae_mnist", "zoo_digits"])
def test_the_knobs_of_an_old_run_with_another_optimizer_are_found(name: str):
    recorded = {path: value for path, value in OLD_KNOBS[name].items() if not path.startswith(("optimizer.", "schedule."))}
    recorded |= {"optimizer": "sgd", "optimizer.lr": 0.5, "schedule": "step", "schedule.factor": 0.2, "schedule.at": [0.5]}
    values = knobs.resolve(load(name), recorded | {"augment": "shift", "augment.pixels": 3.0}, {"data_dir": None}).values
    schedule = "schedule" if "schedule" in values else "optimizer.schedule"
    assert values["optimizer"] == "sgd" and values["optimizer.lr"] == 0.5
    assert values[schedule] == "step" and values[f"{schedule}.factor"] == 0.2 and values[f"{schedule}.at"] == [0.5]
    assert values["data.augment"] == "shift" and values["data.augment.shift.pixels"] == 3.0


@pytest.mark.parametrize(
    ("name", "given", "optimizer", "schedule", "lr"),
    [
        ("gan_gaussians", {"optimizer": "rmsprop"}, "rmsprop", "constant", 0.001),
        ("gan_mnist", {"optimizer": "momentum"}, "momentum", "constant", 0.05),
        ("gan_mnist", {"optimizer": "rmsprop", "schedule": "linear"}, "rmsprop", "linear", 0.001),
        ("gan_mnist", {"optimizer": "rmsprop", "lr": "0.01"}, "rmsprop", "constant", 0.01),
        ("lenet5_digits", {"optimizer": "momentum"}, "momentum", "cosine", 0.02),
        ("lenet5_digits", {"optimizer": "adam"}, "adam", "cosine", 0.001),
        ("c03_activations", {"optimizer": "momentum"}, "momentum", "constant", 0.03),
    ],
)
def test_another_optimizer_keeps_the_schedule_of_the_experiment_and_has_its_own_rate(
    name: str, given: dict[str, str], optimizer: str, schedule: str, lr: float
):
    values = knobs.resolve(load(name), given).values
    assert [values[path] for path in ("optimizer", "optimizer.schedule", "optimizer.lr")] == [optimizer, schedule, lr]


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_paper_or_data_command_and_result(name: str):
    text = module_of(name).__doc__ or ""
    assert f"--experiment={name}" in text and "Result:" in text and text.splitlines()[0].endswith(".")


SMALL = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 32, "batch_size": 8, "duration": "40 steps"}

OTHERS = {"frozen": "dense1", "lr_multipliers": "dense1=0.5", "class_weights": "balanced", "units_by_layer": "dense1=4"}
"""Values of knobs that a rule does not find."""

TOGETHER = ("init_from", "new_head")
"""Knobs that need a file of weights; tests/test_interop_start.py has them."""


def cases() -> list[tuple[str, dict[str, Any]]]:
    """A base for every option of every choice, so that the knobs below each option are seen."""
    found: list[tuple[str, dict[str, Any]]] = [("recipe", {"image_size": 40, "image_fit": "pad", "l1": 0.001})]
    choices = {"model": MODELS, "loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "augment": AUGMENTS}
    choices["adversarial"] = ATTACKS
    for path, options in choices.items():
        for option in options:
            if option in (*IN_COLOUR, *FOR_NUMBERS, *OTHER_SIZES):
                continue
            if path != "model" or option not in ZOO:  # whose knobs depend on one another: test_zoo.py and test_models_*.py
                found.append((f"{path}={option}", {path: option}))
    found += [(f"activation={name}", {"model": "mlp", "model.activation": name}) for name in ACTIVATIONS]
    found += [(f"initializer={name}", {"model": "mlp", "model.initializer": name}) for name in INITIALIZERS]
    found += [(f"normalize={name}", {"normalize": name, "image_size": 8}) for name in ("pca", "zca", "fixed")]
    found += [("image_fit=crop", {"image_size": 24, "image_fit": "crop"}), ("dataset=stripes", {})]
    normed = {"model": "mlp", "model.widths": "8", "model.norm": "batch"}
    found += [("average=ema", {**normed, "average_decay": 0.9})]
    found += [("average=swa", {**normed, "average": "swa", "average.statistics": "recomputed"})]
    found += [(f"norm={name}", {"model": "convnet", "model.norm": name}) for name in ("batch", "layer", "group", "instance")]
    return found


OTHER_SIZES = ("random_crop",)
"""Variations after which images have another size than the network of these tests takes; tests/test_data_canvas.py has them."""
IN_COLOUR = ("saturation", "hue", "grayscale", "drop_channel", "color_jitter", "color_distortion", "random_fringe")
"""Variations that refuse the grey images of these tests, or do only a part to them: see tests/test_data_colours.py."""
FOR_NUMBERS = ("absolute", "huber")
"""Losses of numbers, which these tests do not predict; tests/test_tasks_goals.py has them."""

NEEDS = {
    "muon": {"model": "mlp"},
    "torch_sgd": {"optimizer.momentum": 0.9},
    "airbench94": {"model.widths": "4"},
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
    own = {"recipe": None, "model": "model", "loss": "loss", "optimizer": "optimizer"}
    own |= {"normalize": "data.normalize", "image_fit": "data.image_fit", "dataset": "data.dataset", "average": "average"}
    own |= {"schedule": "optimizer.schedule", "augment": "data.augment", "adversarial": "adversarial"}
    below = own.get(path, f"model.{path}")
    require_every_knob_does_something(classification, {**small, **base}, below=below, others=OTHERS, but=TOGETHER)


@pytest.mark.slow
def test_every_knob_of_an_ensemble_does_something():
    small = {**SMALL, "dataset.size": 8, "image_size": 10, "image_fit": "pad", "members": 2, "model": "linear"}
    require_every_knob_does_something(ensemble_classification, small)


ELSEWHERE = {
    "model": "test_zoo.py and test_models_*.py have those that are not here",
    "dataset": "they read files or are of other tasks: test_data_*.py",
    "data_init": "it acts before the first step: test_tasks_lsuv.py",
    "pruning": "it acts where a phase begins: test_tasks_prune.py",
    "sharing": "as pruning, below which it is",
    "quantization": "it acts where a phase begins, or at the end: test_tasks_quantize.py",
    "metrics": "they are computed of what was measured: test_tasks_measures.py",
    "attack": "it is one of robust_accuracy: test_tasks_adversarial.py",
    "statistics": "its knob is below average=swa",
    "huber": "test_tasks_goals.py",
    "canvas": "it is for images of unequal sizes: test_data_canvas.py",
    "random_crop": "batches of training have another size with it: test_data_canvas.py",
    **dict.fromkeys(IN_COLOUR, "test_data_colours.py"),
}
"""Choices and options that have no case, with the reason and the test that has them."""


def options(function: Callable[..., Any]) -> Iterator[tuple[str, str, Any]]:
    """Every (choice, option, its function), at any depth, of options that have knobs of their own."""
    for name, annotation, default in parameters(function):
        choice = metadata(annotation, ChoiceOf)
        if choice is None or default is inspect.Parameter.empty:
            continue
        for option, chosen in choice.options.items():
            below = [parameter for parameter, _, default in parameters(chosen) if default is not inspect.Parameter.empty]
            if set(below) - choice.supplied:
                yield name, option, innermost(chosen)
            if name not in ELSEWHERE and name != "rule":  # the rules below reduce_on_plateau are the other optimisers
                yield from options(chosen)


def test_every_option_with_knobs_of_its_own_has_a_case_or_a_reason():
    labels, found = {label for label, _ in cases()}, list(options(classification))
    tested = {function for choice, option, function in found if f"{choice}={option}" in labels}
    left_out = {
        f"{choice}={option}" for choice, option, function in found if function not in tested and choice not in ELSEWHERE
    }
    left_out -= {"data=images", "regularizer=penalties"}  # the case of the recipe
    assert {label for label in left_out if label.split("=")[1] not in ELSEWHERE} == set()


@pytest.mark.parametrize("recipe", [nearest_neighbours, principal_components])
def test_every_knob_of_a_recipe_that_sees_all_images_at_once_does_something(recipe: Callable[..., Any]):
    small = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 8, "image_size": 10, "image_fit": "pad"}
    require_every_knob_does_something(recipe, small)


def test_data_sets_are_openers_without_side_effects():
    assert all(callable(option) and not isinstance(option, functools.partial) for option in DATASETS.values())
