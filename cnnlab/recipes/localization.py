"""The recipe of classification with localisation, which experiments fill in with defaults of their own (functools.partial)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from cnnlab.core import Dataset, Experiment
from cnnlab.data.images import PIPELINES, require_validation
from cnnlab.errors import UsageError
from cnnlab.interop.start import network_started_from, require_start
from cnnlab.models import LOCALIZERS
from cnnlab.ops.averaging import AVERAGES, ema
from cnnlab.ops.losses import absolute, huber, squared
from cnnlab.ops.optimizers import OPTIMIZERS, scale_by_layer
from cnnlab.ops.regularizers import REGULARIZERS, penalties
from cnnlab.recipes.detection import boxes_of, returned_for_one
from cnnlab.tasks.localization_metrics import PlaceMetrics
from cnnlab.tasks.localize import localize
from cnnlab.values import Choice, Count, Duration, NonNegative, PathText

DISTANCES: dict[str, Callable[..., Any]] = {"squared": squared, "absolute": absolute, "huber": huber}
"""Distances of boxes by name: sums over the four numbers, which are shares of the image's sides."""


def localization(
    *,
    model: Choice[LOCALIZERS] = "localizer",
    data: Choice[PIPELINES] = "images",
    box_loss: Choice[DISTANCES] = "squared",
    class_weight: NonNegative = 1.0,
    box_weight: NonNegative = 1.0,
    optimizer: Choice[OPTIMIZERS] = "adam",
    regularizer: Choice[REGULARIZERS] = penalties,
    duration: Duration = Duration(20, "epochs"),
    early_stopping: Count | None = None,
    average: Choice[AVERAGES] = ema,
    init_from: PathText | None = None,
    new_head: bool = False,
    frozen: tuple[str, ...] = (),
    lr_multipliers: tuple[str, ...] = (),
) -> Experiment:
    """Classification with localisation: one player, the localiser, names the one object of an image and gives its box.

    Args:
        model: network with a head for the class and one for the box.
        data: images with the box of their one object, and how they become batches.
        box_loss: distance of a box from the true one, in shares of the image's sides.
        class_weight: weight of the cross-entropy of the classes in the loss.
        box_weight: weight of the distance of the boxes; they have other units, so the best one depends on the data.
        optimizer: rule by which the weights are updated, with its learning rate and schedule.
        regularizer: L1 and L2 penalties on the weights, and a bound on the norm of each unit's.
        duration: length of training; --steps, --epochs and --examples_seen set it.
        early_stopping: validations in a row without an improvement after which training ends, with the best weights; none: off.
        average: average of the parameters over training that is evaluated in their place; ema with average_decay=0: none.
        init_from: weights to start from: of the whole network, or, where it has a backbone, a file of that network alone.
        new_head: with init_from, whether the last layer is initialised anew (needed where the classes differ).
        frozen: regular expressions of layers that are not trained, such as backbone; features: all but the last.
        lr_multipliers: REGEX=FACTOR for the learning rate of the matching layers, such as backbone=0.1; the first match counts.
    """
    if not class_weight and not box_weight:
        raise UsageError("--class_weight=0 and --box_weight=0 leave nothing to learn. Expected one of them above 0.")
    require_start(init_from, new_head=new_head)
    dataset = require_validation(data(), early_stopping)
    column, kind = boxes_of(dataset)
    require_one_object(dataset, column)
    network = checked_localizer(model(classes=len(kind.names)), len(kind.names), dataset.image_shape)
    metrics = PlaceMetrics(kind.names, column, class_weight, box_weight)
    task = localize(network, metrics=metrics, box_loss=box_loss, frozen=frozen)
    steps = duration.steps(size=dataset.sizes["train"], batch_size=dataset.batch_size)
    rules = dict.fromkeys(task.turns, regularizer(scale_by_layer(optimizer(steps=steps), lr_multipliers)))
    start = None if init_from is None else network_started_from(network, init_from, new_head=new_head)
    return Experiment(task, dataset, rules, steps, average(steps), start, (), early_stopping)


def require_one_object(data: Dataset, column: str) -> None:
    """Raises UsageError where the column of boxes has places for more than one object of an image."""
    places = data.stored[column]["corners"].shape[0]
    if places != 1:
        raise UsageError(
            f"localisation is of one object, and the images of {data.name} have up to {places} boxes.\n"
            "Take data with one box for each image, such as --dataset=scenes with --most_objects=1, or an experiment of "
            "detection."
        )


def checked_localizer(network: Any, classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Returns a network that gives logits and boxes; UsageError for one of a user's own file that does not."""
    name, shapes = type(network).__name__, "nothing"
    if isinstance(network, nn.Module):
        returned = returned_for_one(network, image_shape)
        located = returned[0] if isinstance(returned, tuple) else returned
        if isinstance(located, dict) and {"logits", "box"} <= set(located):
            given = located["logits"].shape, located["box"].shape
            if given[0] == (1, classes) and given[1] in ((1, 4), (1, classes, 4)):
                return network
            shapes = f"logits {list(given[0])} and box {list(given[1])}"
        else:
            shapes = f"an array {list(located.shape)}" if hasattr(located, "shape") else type(located).__name__
    raise UsageError(
        f"--model: {name} is no localiser: for an image it returns {shapes}.\nExpected a flax.linen.Module that returns "
        f'({{"logits": [1, {classes}], "box": [1, 4] or [1, {classes}, 4]}}, intermediates); see docs/detection.md.'
    )
