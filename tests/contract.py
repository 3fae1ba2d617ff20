"""One small experiment for every task, and what the tests of the contract (test_tasks_contract.py) share of their runs.

A new task adds one row to TASKS; where it cannot keep a promise, its name stands in one of the sets below, with the reason.
Every run, program and measurement is made once in a process: tests ask for them by (name, strategy, devices, precision).
"""

import functools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import toys

from cnnlab import knobs
from cnnlab.core import Batch, Experiment, Stats, TrainState
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program, phases
from cnnlab.recipes.autoencoder import principal_components, reconstruction, stacked_autoencoders
from cnnlab.recipes.classification import classification, ensemble_classification, nearest_neighbours
from cnnlab.recipes.contrastive import contrastive_learning
from cnnlab.recipes.detection import detection
from cnnlab.recipes.distillation import distillation
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.recipes.localization import localization
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.recipes.probe import pretrained_probe
from cnnlab.recipes.segmentation import segmentation
from cnnlab.recipes.semi_supervised import partly_labelled_classification
from cnnlab.recipes.synthesis import fast_style_transfer, picture_synthesis
from cnnlab.recipes.vae import quantized_autoencoder, variational_autoencoder
from cnnlab.recipes.writing import counted_ngrams, writing
from tests.commands import ROOT

STRIPES = {"dataset": "stripes", "dataset.examples": 90, "dataset.size": 8}
TRAINED = {**STRIPES, "batch_size": 24}
"""Batches that 1, 3 and 8 devices split evenly."""
STEPS = 9
"""A length that ends between two logs."""
INTERVALS = train.Intervals(log=2, evaluate=100, save=3)


def small(recipe: Callable[..., Experiment], values: dict[str, Any], **more: Any) -> Callable[..., Experiment]:
    """A recipe with the values of some of its knobs as a function of the number of steps, which its phases share."""
    given = {**values, **more}
    parts = given.get("widths", "").count(",") + 2 if recipe is stacked_autoencoders else 1

    def make(steps: int = STEPS) -> Experiment:
        each = steps // parts
        lengths = {"duration": f"{steps - (parts - 1) * each} steps"} if "batch_size" in given else {}
        return knobs.resolve(recipe, {**given, **lengths, **({"pretrain": f"{each} steps"} if parts > 1 else {})}).call()

    return make


STEADY = {"optimizer": "momentum", "pretrain_optimizer": "momentum"}  # Adam makes much of a gradient that is nearly 0
MLP_AUTOENCODER = {"model.widths": "12", "model.code": 5}
STACK = {"widths": "10,8"}
NOISY = {"dropout": 0.3, "average_decay": 0.9, "augment": "shift_rotate"}
SCORED = {"metrics": "balanced_accuracy,f1,auc,brier,ece"}
MLP = {"model": "mlp", "model.widths": "8", "model.norm": "batch", **NOISY}
GAN = {"latent": 8, "optimizer": "sgd", "lr": 0.01, "average_decay": 0.9}
VAE = {"model.widths": "16", "latent": 4, "binarize": "dynamic", "anneal": 0.5, "free_bits": 0.01, "codes_from": "fitted"}
VQ_VAE = {"widths": "4,8", "entries": 16, "dimension": 4, "blocks": 0}
SEEN = {
    "model": "convnet",
    "model.widths": "4,8",
    "model.activation": "silu",  # at a ReLU's kink the rounding of a weight moved the state by 3e-4
    "control": "random_parameters",
    "classes": 10,
    "optimizer": "momentum",
}
STEADY_MOVES = {"model.up": "bilinear", "optimizer": "momentum", "augment": "flip"}
SCENES = {"dataset": "scenes", "dataset.examples": 90, "dataset.size": 16, "batch_size": 24}
SEEN_WHOLE = {**SCENES, "model": "unet", "model.width": 2, "model.levels": 1, "model.activation": "silu", **STEADY_MOVES}
BOXED = {
    **SCENES,
    "dataset.most_objects": 2,
    "model": "ssd",
    "model.width": 2,
    "model.levels": 2,
    "model.maps": 2,
    "model.activation": "silu",
    "most_detections": 10,
    "optimizer": "momentum",
}
TWO_STAGES = {
    **{name: value for name, value in BOXED.items() if not name.startswith("model")},
    "dataset.instances": True,
    "model": "mask_rcnn",
    "model.width": 2,
    "model.levels": 2,
    "model.maps": 1,
    "model.channels": 4,
    "model.hidden": 8,
    "model.mask_bins": 3,
    "model.mask_channels": 4,
    "model.mask_depth": 1,
    "model.activation": "silu",
    "model.anchor_scales": "3",
    "model.anchor_samples": 24,
    # All 48 anchors are proposed and all regions learnt from, lest rounding decides which are.
    "model.proposal_threshold": 1.0,
    "model.proposals": 48,
    "model.positive_share": 1.0,
}
CROPPED = {
    **{name: value for name, value in BOXED.items() if not name.startswith("model")},
    "proposals": "selective_search",
    "proposals.least": 4,
    "model": "rcnn",
    "model.width": 2,
    "model.levels": 2,
    "model.crop": 8,
    "model.context": 1,
    "model.hidden": 8,
    "model.activation": "silu",
    # As above, and machines learn from all negatives.
    "model.region_samples": 64,
    "model.positive_share": 1.0,
    "model.hard_negatives": 64,
}
PLACED = {
    **SCENES,
    "dataset.most_objects": 1,
    "model.width": 2,
    "model.levels": 2,
    "model.hidden": 8,
    "model.boxes": "per_class",
    "model.activation": "silu",
    "optimizer": "momentum",
}
WRITTEN = {
    "dataset": f"file:{ROOT / 'LICENSE'}",
    "batch_size": 24,
    "window": 5,
    "context": 6,
    "measured": 8,
    "test": 0.1,
    "model.widths": "6,4",
    "model.dropout": 0.3,
    "optimizer": "momentum",
}
SEEN_SMALL = {"model": "convnet", "model.widths": "4,8", "model.depth": 1, "model.norm": "none", "model.activation": "silu"}
PARTLY = {"model": "mlp", "model.widths": "8", "model.norm": "batch", "model.dropout": 0.3}
LABELS_OF_ROUNDS = {"method": "self_training", "method.rounds": 2, "method.threshold": 0.3}
VIEWED = {"augment": "shift_rotate", "hidden": "6", "dimension": 5, "optimizer": "momentum", "lr": 0.05}
PROBED = {
    "start.turns": "one",
    "start.augment": "shift_rotate",
    "optimizer": "momentum",
    "layers": "features,stage1",
    "examples_per_class": 18,
    "examples_seed": "run",
}
"""A pretext task, then three steps that remember 72 labelled examples, and one that has the solution."""
PLAIN = {**SEEN_SMALL, "optimizer": "momentum"}
NARROW = {"pretext.width": 4}
DISTILLED = {
    "model": "mlp",
    "model.widths": "6",
    "teacher": "mlp",
    "teacher.widths": "8",
    "teacher.dropout": 0.3,
    "optimizer": "momentum",
    "teacher_duration": "4 steps",
    "teachers": 2,
}
HINTED = {
    "model": "mlp",
    "model.widths": "6",
    "model.norm": "batch",
    "teacher": "mlp",
    "teacher.widths": "8",
    "optimizer": "momentum",
    "teacher_duration": "2 steps",
    "hints": "fitnets",
    "hints.layer": "dense1",
    "hints.teacher_layer": "dense1",
    "hints.length": "3 steps",
    "examples_per_class": 12,
    "unlabelled_ratio": 1,
}
ROUNDED = {"quantization": "integers", "bits": 4, "training": "aware", "part": 0.34, "calibration": 24}
"""With so few codes that the rounding of a sum on other devices moves none to its neighbour."""
STYLED = {"style_layers": "stage1", "content_layers": "stage1_conv2", **SEEN}
OCTAVES = {"octaves": 2, "octave_scale": 2.0, "start": "picture", "jitter": 1, "total_variation": 0.5}

TASKS: dict[str, Callable[..., Experiment]] = {
    "pursuit": lambda steps=STEPS: toys.chase(steps=steps, batch_size=24),
    "surgery": lambda steps=STEPS: toys.surgery(steps=steps),
    "classify": small(classification, {**TRAINED, **NOISY, **SCORED}, model="convnet", **{"model.widths": "4,8"}),
    "quantize": small(classification, TRAINED, **ROUNDED, **MLP),
    "self_training": small(partly_labelled_classification, {**TRAINED, **PARTLY}, unlabelled_ratio=1, **LABELS_OF_ROUNDS),
    "mean_teacher": small(
        partly_labelled_classification, {**TRAINED, **PARTLY}, method="mean_teacher", wrong_labels=0.2, augment="flip"
    ),
    "distil": lambda steps=STEPS: small(distillation, {**TRAINED, **DISTILLED})(steps - 4),  # the teacher's
    "distil_hints": lambda steps=STEPS: small(distillation, {**TRAINED, **HINTED})(steps - 5),  # the teacher's and the hints'
    "ensemble": small(ensemble_classification, TRAINED, model="mlp", members=2, **{"model.widths": "8", "dropout": 0.3}),
    "knn": small(nearest_neighbours, STRIPES, k=3),
    "pca": small(principal_components, STRIPES, components=5),
    "reconstruct": small(reconstruction, TRAINED, penalty="sparse_kl", code_activation="sigmoid", **MLP_AUTOENCODER),
    "denoise": small(reconstruction, TRAINED, corruption="gaussian", **MLP_AUTOENCODER),
    "stacked": small(stacked_autoencoders, {**TRAINED, **STACK}, examples_per_class=6, **STEADY),
    "stacked_unsupervised": small(stacked_autoencoders, {**TRAINED, **STACK}, finetune="unsupervised"),
    "variational": small(variational_autoencoder, TRAINED, log_p_samples=5, **VAE),
    "vq_vae": small(quantized_autoencoder, TRAINED, **VQ_VAE),
    "gan": small(adversarial_pair, TRAINED, model="dcgan", spectral=True, conditional=True, **{"model.width": 4}, **GAN),
    "wgan_gp": small(
        adversarial_pair,
        TRAINED,
        model="mlp",
        loss="wgan_gp",
        critic_steps=2,
        generator_widths="16",
        discriminator_widths="16",
        **GAN,
    ),
    "autoregress": small(
        pixel_by_pixel, {**TRAINED, "dataset.size": 6}, average_decay=0.9, **{"model.width": 4, "model.blocks": 1}
    ),
    "synthesis": small(picture_synthesis, {**TRAINED, "dataset.examples": 48}, objective="style_transfer", **OCTAVES, **STYLED),
    "segment": small(segmentation, SEEN_WHOLE, losses="cross_entropy,dice", average_decay=0.9),
    "detect": small(detection, BOXED, average_decay=0.9),
    "detect_regions": small(detection, TWO_STAGES),
    "detect_crops": small(detection, CROPPED),
    "localize": small(localization, PLACED, average_decay=0.9),
    "write": small(writing, WRITTEN, average_decay=0.9),
    "contrast": small(contrastive_learning, {**TRAINED, **SEEN_SMALL, **VIEWED}),
    "contrast_queue": small(
        contrastive_learning, {**TRAINED, **SEEN_SMALL, **VIEWED}, negatives="queue", **{"negatives.size": 36}
    ),
    "probe": lambda steps=STEPS: small(pretrained_probe, {**TRAINED, **SEEN_SMALL, **PROBED})(steps - 4),
    "pretext": small(pretext_learning, {**TRAINED, **PLAIN}, turns="one"),
    "pretext_counting": small(pretext_learning, {**TRAINED, **PLAIN}, pretext="counting", counts=6),
    "pretext_inpainting": small(pretext_learning, {**TRAINED, **PLAIN, **NARROW}, pretext="inpainting", region="anywhere"),
    "pretext_colours": small(pretext_learning, {**SCENES, **PLAIN, **NARROW}, pretext="colourisation"),
    "ngram": small(counted_ngrams, {name: WRITTEN[name] for name in ("dataset", "window", "test")}, order=3),
    "fast_style": small(fast_style_transfer, {**TRAINED, "image_size": 16}, width=2, blocks=1, lr=0.001, **STYLED),
}
"""{name: (number of steps) -> a small experiment}; at least one for every task. Three tasks take no steps."""

VARIANTS = {
    "in_parts": small(classification, TRAINED, accumulate=3, **MLP),
    "recomputed": small(classification, TRAINED, **{"average.statistics": "recomputed", "statistics.batches": 2}, **MLP),
    "attacked": small(classification, TRAINED, adversarial="pgd", **{"adversarial.iterations": 2}, **MLP),
    "streamed": small(classification, TRAINED, resident_mib=0, **MLP),
    "skipping": lambda steps=STEPS: toys.with_bad_steps(toys.chase(steps=steps, batch_size=24), {2: np.nan, 5: np.inf}),
}
"""What does not depend on the task, which one of them shows: batches taken in parts, recomputed statistics, attacked images,
data that are streamed, and steps that are left out since one example, which lies on the last device, is not finite."""
OVER_PROCESSES = [*TASKS, *VARIANTS]
"""What several processes train (contract_process.py)."""

REMEMBERING = {"knn", "ngram", "pca"}
"""Tasks that take no step."""
MIXING = {
    "classify": "batch norm",
    "quantize": "batch norm, and ranges of the batch",
    "self_training": "batch norm",
    "mean_teacher": "batch norm",
    "distil_hints": "batch norm",
    "gan": "batch norm",
    "segment": "batch norm",
    "reconstruct": "a penalty of the batch's mean code",
    "detect": "the number of objects of the batch",
    "detect_regions": "the number of regions of the batch",
    "detect_crops": "the number of regions of the batch",
    "contrast": "negatives of the batch",
    "surgery": "weights",
    "pretext_counting": "another image of the batch",
}
"""Tasks in whose training an example's loss depends on the others, with the reason."""


@functools.cache
def experiment(name: str) -> Experiment:
    """The experiment of a row."""
    return (TASKS | VARIANTS)[name]()


@functools.cache
def program(name: str, strategy: str = "jit", devices: int = 1, precision: str = "f32", remat: str = "none") -> Program:
    """The compiled experiment of a row."""
    placed = STRATEGIES[strategy](pick_devices(devices))
    return build_program(experiment(name), placed, precision=precision, skip_nonfinite=name == "skipping", remat=remat)


@functools.cache
def reference(
    name: str, strategy: str = "jit", devices: int = 1, precision: str = "f32", seed: int = 0, remat: str = "none"
) -> Any:
    """(host state, step, {step: train numbers}, {step: (host state, pending_stats)}) of the whole run of a row."""
    built = program(name, strategy, devices, precision, remat)
    return toys.run(built.experiment, program=built, seed=seed, intervals=INTERVALS)


@functools.cache
def measured(name: str, strategy: str = "jit", devices: int = 1, precision: str = "f32", size: int = 250) -> Stats:
    """Statistics of the test split at the end of the reference run (on one device, in f32), in batches of `size`."""
    built = program(name, strategy, devices, precision)
    with mock.patch.object(train, "EVALUATION_BATCH", size):
        return train.evaluate(built, built.strategy.to_devices(reference(name)[0]), "test")


def players(name: str) -> list[str]:
    """Who moves in any phase of a row."""
    return list(dict.fromkeys(player for phase in phases(experiment(name)) for player in phase.turns))


def batch_of(name: str, split: str, size: int) -> Batch:
    """The first examples of a split as the task sees them."""
    data = experiment(name).data
    feed = next(data.evaluate(split, size))
    return jax.tree.map(jnp.asarray, data.prepare(data.resident.get(split, {}), jax.tree.map(jnp.asarray, feed), None))


@functools.cache
def held(name: str) -> tuple[Any, Any]:
    """(params, model state) at the end of the reference run, for calls of the task's own functions."""
    state: TrainState = reference(name)[0]
    return jax.tree.map(jnp.asarray, (state.params, state.model_state))


@functools.cache
def compiled_measure(name: str) -> Callable[[Batch], Any]:
    """batch -> statistics, on the host."""
    measure = jax.jit(experiment(name).task.measure)
    return lambda batch: jax.device_get(measure(*held(name), batch))


@functools.cache
def compiled_loss(name: str, player: str) -> Callable[[Batch], float]:
    """batch -> the sum of the losses of its examples in training, always with the same key."""
    params, state = held(name)
    loss = jax.jit(lambda batch: experiment(name).task.loss(params, state, batch, jax.random.key(7), player)[0])
    return lambda batch: float(np.float64(loss(batch)) * len(batch["index"]))


def joined(first: Batch, second: Batch) -> Batch:
    """Two batches one after the other."""
    return jax.tree.map(lambda one, other: jnp.concatenate([one, other]), first, second)
