"""Recipes of image classification, which experiments fill in with defaults of their own (functools.partial)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import flax.linen as nn

from cnnlab.core import Dataset, Experiment, Task
from cnnlab.data.images import PIPELINES, Shuffle, WholeSplit, require_labels, require_validation
from cnnlab.data.normalize import raw
from cnnlab.errors import UsageError
from cnnlab.interop.start import require_start, started_from
from cnnlab.models import MODELS
from cnnlab.models.narrowed import narrowed, units_of
from cnnlab.models.own_network import as_network
from cnnlab.ops.attacks import ADVERSARIES, is_attack, no_attack
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.losses import LOSSES, require_loss
from cnnlab.ops.optimizers import OPTIMIZERS, scale_by_layer
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.ops.views import Views
from cnnlab.recipes.quantization import Rounding, require_gradient, rounding_of
from cnnlab.tasks.adversarial import robust
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.class_weights import ClassWeights, MeanLoss, mean_loss, weights_of
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.tasks.ensemble import GOAL as GOAL_OF_ENSEMBLE
from cnnlab.tasks.ensemble import ensemble
from cnnlab.tasks.goals import CLASS, Goal, goal_of
from cnnlab.tasks.knn import GOAL as GOAL_OF_NEIGHBOURS
from cnnlab.tasks.knn import Pixels, knn_task
from cnnlab.tasks.lsuv import DATA_INITS, as_drawn
from cnnlab.tasks.measures import MEASURES
from cnnlab.tasks.prune import PRUNINGS, Pruning, require_whole_training, unpruned
from cnnlab.tasks.quantize import QUANTIZATIONS, Quantization, unquantized
from cnnlab.values import Choice, Choices, Count, Duration, PathText

SHUFFLED: dict[str, Shuffle] = {"shuffle_labels": "labels", "shuffle_pixels": "pixels", "permute_pixels": "same_pixels"}
"""What each control permutes in the data."""
Control = Literal["none", "shuffle_labels", "shuffle_pixels", "permute_pixels", "random_parameters"]
"""Negative controls: runs that are expected to fail, or with `permute_pixels` to lose what convolutions gain."""


def classification(
    *,
    model: Choice[MODELS] = "lenet5",
    data: Choice[PIPELINES] = "images",
    loss: Choice[LOSSES] = "cross_entropy",
    class_weights: ClassWeights = None,
    optimizer: Choice[OPTIMIZERS] = "momentum",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    early_stopping: Count | None = None,
    average: Choice[AVERAGES] = ema,
    data_init: Choice[DATA_INITS] = as_drawn,
    init_from: PathText | None = None,
    new_head: bool = False,
    frozen: tuple[str, ...] = (),
    lr_multipliers: tuple[str, ...] = (),
    views: Views = "one",
    adversarial: Choice[ADVERSARIES] = no_attack,
    pruning: Choice[PRUNINGS] = unpruned,
    units_by_layer: tuple[str, ...] = (),
    quantization: Choice[QUANTIZATIONS] = unquantized,
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
    control: Control = "none",
) -> Experiment:
    """Image classification: one player, the classifier.

    Args:
        model: network.
        data: images with labels, and how they become batches.
        loss: loss that is minimised; sigmoid: several labels (column `tags`); squared, absolute, huber: numbers (`target`).
        class_weights: weights of the classes in that loss: balanced, or numbers; the losses that are reported have none.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        early_stopping: validations in a row without an improvement after which training ends, with the best weights; none: off.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        data_init: whether the first training batch scales the initial weights, as LSUV does.
        init_from: weights to start from: a file of torchvision, timm, pytorchcv or keras, or the folder of a run.
        new_head: with init_from, whether the last layer is initialised anew (needed where the classes differ).
        frozen: regular expressions of layers that are not trained, or features: all but the last layer.
        lr_multipliers: REGEX=FACTOR for the learning rate of the matching layers, such as stem=0.1; the first match counts.
        views: views over which the logits are averaged at evaluation: the image, its mirror image too, or four shifted more.
        adversarial: attack on the images of each step, with which the network is trained in their place (ops/attacks.py).
        pruning: which weights or channels are taken away in the course of training, and when (tasks/prune.py).
        units_by_layer: REGEX=NUMBER for layers of another width, such as conv1=4, as export --smaller says; first match counts.
        quantization: to how few integers weights and activations are rounded, and when (ops/quantize.py).
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece,robust_accuracy.
        headline: metric by which checkpoints and studies rank; none: accuracy, or that of tags or numbers.
        control: run that has to fail, or there is a leak: training labels, all pixels or their places permuted, or no training.
    """
    _require_start(init_from, control, data_init, new_head=new_head)
    dataset, goal = _learned(data, loss, control, early_stopping, class_weights, metrics, headline)
    steps = 0 if control == "random_parameters" else duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    whole, network, rounding = _networks(model(classes=dataset.classes), dataset, units_by_layer, quantization(), views)
    task = _task(rounding.network, dataset, goal, adversarial, class_weights, loss=loss, frozen=frozen, views=views)
    plan = require_whole_training(pruning(), early_stopping).of(lambda: units_of(network, dataset.image_shape))
    rules = _rules(task, plan, regularizer(scale_by_layer(optimizer(steps=plan.longest(steps)), lr_multipliers)))
    start, phases = _start(whole, init_from, new_head=new_head), plan.phases(steps, rules, data_init(network))
    return rounding(Experiment(plan.counted(task), dataset, rules, steps, average(steps), start, phases, early_stopping))


def _networks(
    made: Any, dataset: Dataset, units_by_layer: Sequence[str], plan: Quantization | None, views: Views
) -> tuple[nn.Module, nn.Module, Rounding]:
    """Returns the network that a model's function made, as it is and with the given widths, and how the latter is rounded."""
    whole = as_network(made, dataset.image_shape, (dataset.classes,))
    network = narrowed(whole, units_by_layer, dataset.image_shape)
    return whole, network, rounding_of(network, dataset.image_shape, plan, views)


def _task(
    network: Any, dataset: Dataset, goal: Goal, attack: Any, class_weights: ClassWeights, *, loss: Any, **more: Any
) -> Task:
    """Returns the task of learning the goal, with an attack on the images of its steps; `more` is of `classify`."""
    require_gradient(network, is_attacked=is_attack(attack) or bool(goal.probes))
    task = classify(network, loss=loss, goal=goal, mean_loss=_mean(class_weights, dataset), **more)
    return robust(task, attack=attack, probes=goal.probes, loss=loss, column=goal.column, inputs=dataset.inputs)


def _rules(task: Task, plan: Pruning, rule: Any) -> dict[str, Any]:
    """Returns the optimiser of each player, regularised and all, as one that leaves pruned weights alone."""
    return dict.fromkeys(task.turns, plan.rule(rule))


def _mean(class_weights: ClassWeights, dataset: Dataset) -> MeanLoss:
    """Returns the mean of losses that training minimises, with the weights of the data set's classes."""
    return mean_loss(weights_of(class_weights, dataset.class_names, dataset.class_counts))


def _start(network: Any, init_from: str | None, *, new_head: bool) -> Any:
    """Returns what gives the first state other weights than random ones; None without any."""
    return None if init_from is None else started_from(network, init_from, new_head=new_head)


def _learned(
    data: Callable[..., Dataset],
    loss: Callable[..., Any],
    control: Control,
    early_stopping: int | None,
    class_weights: ClassWeights,
    metrics: Sequence[Any],
    headline: str | None,
) -> tuple[Dataset, Goal]:
    """Returns the data and what is learned from them, with the metrics of choice; UsageError for knobs that it cannot have."""
    dataset = require_validation(data(SHUFFLED.get(control, "none")), early_stopping)
    goal = with_metrics(goal_of(dataset.name, dataset.stored, loss), metrics, headline, dataset.class_names)
    require_loss(loss, dataset.classes, lambda training: dataset.example(2, training=training)[goal.column])
    if goal.column != CLASS.column and control == "shuffle_labels":  # a table may have classes beside what is learned
        raise UsageError(f"--control=shuffle_labels: what is learned from {dataset.name} is {goal.what}. Leave it out.")
    if goal.column != CLASS.column and class_weights is not None:
        raise UsageError(f"--class_weights: {dataset.name} has {goal.what} and no classes. Leave it out.")
    return dataset, goal


def _require_start(init_from: str | None, control: Control, data_init: Callable[..., Any], *, new_head: bool) -> None:
    """Raises UsageError where the knobs that say with which weights training starts exclude each other."""
    require_start(init_from, new_head=new_head, control=control)
    if init_from is not None and data_init(None) is not None:
        raise UsageError("--data_init scales weights that are drawn, and --init_from gives others. Leave one of them out.")


def ensemble_classification(
    *,
    members: Count = 5,
    model: Choice[MODELS] = "mlp",
    data: Choice[PIPELINES] = "images",
    loss: Choice[LOSSES] = "cross_entropy",
    optimizer: Choice[OPTIMIZERS] = "momentum",
    duration: Duration = Duration(20, "epochs"),
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
) -> Experiment:
    """Image classification by an ensemble of networks of one kind, one player each; their probabilities are averaged.

    Args:
        members: number of networks; time, memory and compilation time grow with it.
        model: network of every member.
        data: images with labels, and how they become batches; all members take the same batches.
        loss: loss that every member minimises.
        optimizer: rule by which the weights of every member are updated, with its learning rate and schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which checkpoints and studies rank; none: accuracy.
    """
    single = classification(model=model, data=data, loss=loss, optimizer=optimizer, duration=duration)
    network = as_network(model(classes=single.data.classes), single.data.image_shape, (single.data.classes,))
    require_labels(single.data, "an ensemble")
    goal = with_metrics(GOAL_OF_ENSEMBLE, metrics, headline, single.data.class_names)
    task = ensemble(network, members=members, loss=loss, goal=goal)
    task = robust(task, attack=no_attack, probes=goal.probes, loss=loss, column=goal.column, inputs=single.data.inputs)
    return dataclasses.replace(single, task=task, optimizers=dict.fromkeys(task.turns, single.optimizers[PLAYER]))


def nearest_neighbours(
    *,
    data: WholeSplit = "images",
    k: Count | None = 1,
    distance: Literal["l2", "l1"] = "l2",
    metrics: Choices[MEASURES] = (),
    headline: str | None = None,
) -> Experiment:
    """k-nearest neighbours on raw pixels: one step stores the whole training split; no weights are trained.

    Args:
        data: images with labels; the whole training split is one batch.
        k: number of neighbours that vote; none: chosen on a held-out part of the training split, which is stored afterwards
            too.
        distance: distance between images: l2, the sum of squared differences, or l1, the sum of absolute ones.
        metrics: further metrics of held-out splits, such as balanced_accuracy,f1,auc,ece.
        headline: metric by which studies rank; none: accuracy.
    """
    dataset = data(batch_size=None, validation=0.0, normalize=raw, augment=())
    require_labels(dataset, "the task of nearest neighbours")
    pixels: Pixels = "whole" if dataset.inputs.dtype == "uint8" else "real"
    goal = with_metrics(GOAL_OF_NEIGHBOURS, metrics, headline, dataset.class_names)
    if goal.probes:
        raise UsageError(
            "--metrics=robust_accuracy: an attack follows the gradient of the scores, and votes of neighbours have none.\n"
            "Leave it out."
        )
    task = knn_task(classes=dataset.classes, k=k, distance=distance, pixels=pixels, goal=goal)
    return Experiment(task, dataset, {}, steps=0)
