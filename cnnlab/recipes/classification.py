"""Recipes that experiments fill in with defaults of their own (functools.partial)."""

import dataclasses
from typing import Literal

import numpy as np

from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.data.negative_controls import shuffle_labels, shuffle_pixels
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.data.select import select
from cnnlab.errors import UsageError
from cnnlab.interop.start import started_from
from cnnlab.models import MODELS
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS, scale_by_layer
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.tasks.ensemble import ensemble
from cnnlab.tasks.knn import knn_task
from cnnlab.values import Choice, Count, Duration, Fraction


def classification(
    *,
    model: Choice[MODELS] = "lenet5",
    dataset: Choice[DATASETS] = "digits",
    loss: Choice[LOSSES] = "cross_entropy",
    optimizer: Choice[OPTIMIZERS] = "momentum",
    schedule: Choice[SCHEDULES] = "cosine",
    augment: Choice[AUGMENTS] = "none",
    normalize: Choice[NORMALIZERS] = "standard",
    batch_size: Count | None = 64,
    duration: Duration = Duration(20, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
    average_decay: Fraction = 0.0,
    only_classes: tuple[int, ...] = (),
    examples_per_class: Count | None = None,
    init_from: str | None = None,
    new_head: bool = False,
    frozen: tuple[str, ...] = (),
    lr_multipliers: tuple[str, ...] = (),
    control: Literal["none", "shuffle_labels", "shuffle_pixels", "random_parameters"] = "none",
) -> Experiment:
    """Image classification: one player, the classifier.

    A `control` is a run that must fail, to compare with: one that does not shows a leak or a broken metric.

    Args:
        model: network.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        loss: what the classifier lowers.
        optimizer: how it moves.
        schedule: learning rate over training, relative to its peak.
        augment: random changes of the training images, on the device.
        normalize: scaling of the inputs by statistics of the training split.
        batch_size: examples a step over all devices; none: the whole training split.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
        image_fit: resize, or pad with zeros (LeCun's 28 to 32).
        average_decay: of the moving average of the parameters that is evaluated; 0: none.
        only_classes: numbers of the classes to learn, counted from 0; none given: all.
        examples_per_class: training examples of each class, the same for every seed; none: all.
        init_from: weights to start from: .safetensors, .npz, .h5 or .pt of torchvision, timm, pytorchcv or keras, or the
            folder of a run.
        new_head: with init_from, start the last layer afresh (other classes than the weights have).
        frozen: regular expressions of layers that stay as they start, or features: all but the last layer.
        lr_multipliers: REGEX=FACTOR of layers that learn at a rate of their own, such as stem=0.1; the first match counts.
        control: what must fail: shuffle_labels permutes the training labels (validation and test stay true), shuffle_pixels
            the pixels of every image apart, random_parameters evaluates the network as it is initialised, after 0 steps.
    """
    if new_head and init_from is None:
        raise UsageError("--new_head starts the last layer afresh, and without --init_from every layer is. Leave it out.")
    if control == "random_parameters" and init_from is not None:
        raise UsageError(
            "--control=random_parameters evaluates the network as it is initialised, and --init_from gives it other weights.\n"
            "Leave one of them out; --init_from=none takes an experiment's own away."
        )
    source = select(dataset(), classes=only_classes, examples_per_class=examples_per_class)
    if control == "shuffle_labels":
        source = shuffle_labels(source, validation=validation)
    elif control == "shuffle_pixels":
        source = shuffle_pixels(source)
    data = build(
        source,
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=normalize,
        augment=augment,
    )
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    network = model(classes=data.classes)
    task = classify(network, loss=loss, frozen=frozen)
    optimizers = {player: scale_by_layer(optimizer(schedule(steps)), lr_multipliers) for player in task.turns}
    start = None if init_from is None else started_from(network, init_from, new_head=new_head)
    return Experiment(task, data, optimizers, 0 if control == "random_parameters" else steps, average_decay, start)


def ensemble_classification(
    *,
    members: Count = 5,
    model: Choice[MODELS] = "mlp",
    dataset: Choice[DATASETS] = "digits",
    loss: Choice[LOSSES] = "cross_entropy",
    optimizer: Choice[OPTIMIZERS] = "momentum",
    schedule: Choice[SCHEDULES] = "cosine",
    augment: Choice[AUGMENTS] = "none",
    normalize: Choice[NORMALIZERS] = "standard",
    batch_size: Count | None = 64,
    duration: Duration = Duration(20, "epochs"),
    validation: Fraction = 0.1,
    image_size: Count | None = None,
) -> Experiment:
    """Image classification by several networks of one kind: a player for each, and their probabilities are averaged.

    Args:
        members: how many networks; time, memory and compilation grow with them.
        model: network of every member.
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        loss: what every member lowers.
        optimizer: how each moves.
        schedule: learning rate over training, relative to its peak.
        augment: random changes of the training images, on the device; the same for all members.
        normalize: scaling of the inputs by statistics of the training split.
        batch_size: examples a step over all devices; none: the whole training split.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside where the data set has no validation split.
        image_size: side in pixels that images are brought to; none: as they are.
    """
    single = classification(
        model=model,
        dataset=dataset,
        loss=loss,
        optimizer=optimizer,
        schedule=schedule,
        augment=augment,
        normalize=normalize,
        batch_size=batch_size,
        duration=duration,
        validation=validation,
        image_size=image_size,
    )
    task = ensemble(model(classes=single.data.classes), members=members, loss=loss)
    return dataclasses.replace(single, task=task, optimizers=dict.fromkeys(task.turns, single.optimizers[PLAYER]))


def nearest_neighbours(
    *,
    dataset: Choice[DATASETS] = "digits",
    k: Count | None = 1,
    distance: Literal["l2", "l1"] = "l2",
) -> Experiment:
    """k-nearest neighbours on raw pixels: the whole training split is remembered in one step, none is learned.

    Args:
        dataset: digits is embedded; tfds:NAME, folder:PATH and npz:PATH bring others.
        k: neighbours that vote; none: chosen on a held-out part of the training split, which is remembered afterwards.
        distance: between images, sum of squares or of absolute differences.
    """
    data = build(dataset(), batch_size=None, validation=0.0, normalize=NORMALIZERS["raw"])
    pixels: Literal["whole", "real"] = "whole" if data.resident["train"]["image"].dtype == np.uint8 else "real"
    return Experiment(knn_task(classes=data.classes, k=k, distance=distance, pixels=pixels), data, {}, steps=0)
