"""Recipes that experiments fill in with defaults of their own (functools.partial)."""

from typing import Literal

import numpy as np

from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.models import MODELS
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.tasks.classify import classify
from cnnlab.tasks.nearest import nearest
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
    duration: Duration = Duration(20, "epochs"),  # noqa: B008 — frozen
    validation: Fraction = 0.1,
    image_size: Count | None = None,
    image_fit: Literal["resize", "pad"] = "resize",
    average_decay: Fraction = 0.0,
) -> Experiment:
    """Image classification: one player, the classifier.

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
    """
    data = build(
        dataset(),
        batch_size=batch_size,
        validation=validation,
        image_size=image_size,
        image_fit=image_fit,
        normalize=normalize,
        augment=augment,
    )
    steps = duration.steps(size=data.sizes["train"], batch_size=data.batch_size)
    task = classify(model(classes=data.classes), loss=loss)
    return Experiment(task, data, {player: optimizer(schedule(steps)) for player in task.turns}, steps, average_decay)


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
    return Experiment(nearest(classes=data.classes, k=k, distance=distance, pixels=pixels), data, {}, steps=0)
