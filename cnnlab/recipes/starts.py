"""Ways in which a trunk gets its weights before it is probed, each an experiment, and where its state has the trunk.

`start(model, data, optimizer, duration, *, knobs) -> (Experiment, Trunk)`; `data` takes the variations of training, `augment`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from cnnlab import knobs
from cnnlab.core import Experiment
from cnnlab.data.variations import AUGMENTS
from cnnlab.models.trunk import trunk_of
from cnnlab.models.trunk_layers import init_trunk
from cnnlab.recipes.classification import classification
from cnnlab.recipes.contrastive import AUGMENT, contrastive_learning
from cnnlab.recipes.pretext import pretext_learning
from cnnlab.recipes.pretexts import PRETEXTS
from cnnlab.tasks.contrast import NEGATIVES
from cnnlab.tasks.probe import Trunk, frozen, trunk_of_classifier, trunk_of_pretext
from cnnlab.values import Choice, Choices, Count, Duration, Positive

Start = tuple[Experiment, Trunk]


def random(model: Any, data: Any, optimizer: Any, duration: Duration) -> Start:
    """Keeps the weights as they are drawn: what the architecture alone is worth."""
    dataset = data(augment=())
    network = trunk_of(model, dataset.image_shape)
    return Experiment(frozen(partial(init_trunk, network)), dataset, {}, steps=0), trunk_of_classifier(network)


def puzzle(
    model: Any,
    data: Any,
    optimizer: Any,
    duration: Duration,
    *,
    pretext: Choice[PRETEXTS] = "rotation",
    augment: Choices[AUGMENTS] = "flip_crop",
) -> Start:
    """Answers a question about images without labels.

    Args:
        pretext: the question.
        augment: random variations of the images, in this order.
    """
    made = knobs.resolve(pretext_learning, {}).call(
        pretext=pretext, model=model, data=partial(data, augment=augment), optimizer=optimizer, duration=duration
    )
    return made, trunk_of_pretext(trunk_of(model, made.data.image_shape))


def contrastive(
    model: Any,
    data: Any,
    optimizer: Any,
    duration: Duration,
    *,
    negatives: Choice[NEGATIVES] = "batch",
    tau: Positive = 0.5,
    hidden: tuple[int, ...] = (256,),
    dimension: Count = 128,
    augment: Choices[AUGMENTS] = AUGMENT,
) -> Start:
    """Brings two views of an image near each other, and those of different images apart.

    Args:
        negatives: what a view is told apart from: batch (SimCLR), queue (MoCo), none.
        tau: temperature, the number by which cosines are divided.
        hidden: units of the layers between the features and the projection; empty: the projection is linear.
        dimension: numbers of the projection.
        augment: random variations that make the views, in this order.
    """
    made = knobs.resolve(contrastive_learning, {}).call(
        negatives=negatives,
        tau=tau,
        hidden=hidden,
        dimension=dimension,
        model=model,
        data=partial(data, augment=augment),
        optimizer=optimizer,
        duration=duration,
    )
    return made, trunk_of_pretext(trunk_of(model, made.data.image_shape))


def supervised(model: Any, data: Any, optimizer: Any, duration: Duration, *, augment: Choices[AUGMENTS] = "flip_crop") -> Start:
    """Learns the classes from the labels of all training images: what labels would give.

    Args:
        augment: random variations of the images, in this order.
    """
    made = knobs.resolve(classification, {}).call(
        model=model, data=lambda shuffle: data(shuffle, augment=augment), optimizer=optimizer, duration=duration
    )
    return made, trunk_of_classifier(trunk_of(model, made.data.image_shape))


STARTS: dict[str, Callable[..., Start]] = {
    "random": random,
    "pretext": puzzle,
    "contrastive": contrastive,
    "supervised": supervised,
}
"""Starts by name, for `Choice[STARTS]`."""
