"""Classification with localisation: the class of the one object of an image and the box around it, by two heads.

Letters in shapes: B batch, H W space, C channels, K classes, P numbers of an image.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.ops import boxes, collectives
from cnnlab.ops.losses import cross_entropy, squared
from cnnlab.ops.metrics import predicted
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks import boxes_shown
from cnnlab.tasks.localization_metrics import TERMS, PlaceMetrics, has_object
from cnnlab.tasks.network_player import NetworkPlayer

PLAYER = "localizer"


def localize(
    network: nn.Module,
    *,
    metrics: PlaceMetrics,
    box_loss: Callable[[Array, Array], Array] = squared,
    frozen: tuple[str, ...] = (),
) -> Task:
    """The task of training `network` to name the object of an image and to give its box.

    A box is (centre x, centre y, width, height) in units of the image's width and height (Simonyan and Zisserman 2015, arXiv
    1409.1556, appendix A). The loss is the weighted sum of the mean cross-entropy and the mean distance of boxes, over the
    images with an object; of a box for each class that of the true class learns, and that of the predicted class is measured.

    `Task.predict` gives f32 [B, K + 4] or [B, K + 4 K]: the logits, then the numbers of the box, or of that of each class.

    Args:
        network: a network of LOCALIZERS.
        metrics: the classes, the column, and the weights of the terms of the loss.
        box_loss: (boxes f32 [B, 4], true ones f32 [B, 4]) -> f32 [B].
        frozen: regular expressions of the layers that stay as they start (trees.matches); `features`: all but the last.
    """
    localizer = NetworkPlayer(network, PLAYER, frozen)
    terms_of = functools.partial(_terms, metrics, box_loss)
    found_in = functools.partial(_found, len(metrics.class_names))

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        (located, _), updated = localizer.train(params, model_state, batch["image"], key)
        outputs = joined_outputs(located)
        terms, counts = terms_of(outputs, batch), batch["mask"] & has_object(batch[metrics.column])
        each = metrics.class_weight * terms["class_loss"] + metrics.box_weight * terms["box_loss"]
        sums = metrics.sums(found_in(outputs, batch["image"]), terms, batch)
        return collectives.weighted_mean(each, counts), (updated, {"sums": sums, "rows": {}})

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return joined_outputs(localizer.evaluate(params, model_state, inputs)[0])

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        outputs = predict(params, model_state, batch["image"])
        found = found_in(outputs, batch["image"])
        return {"sums": {}, "rows": metrics.rows(found, terms_of(outputs, batch), batch)}

    def located(params: Params, model_state: PyTree, images: Array) -> dict[str, Array]:
        return found_in(predict(params, model_state, images), images)

    return Task(
        init=localizer.init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=metrics.summary,
        figures=functools.partial(_figures, metrics),
        turns=(PLAYER,),
        metrics=metrics.declared,
        logged_metrics=("loss",),
        snapshot=functools.partial(boxes_shown.snapshot, metrics.shown, located, least=0.0),
        prediction=boxes_shown.prediction(metrics.shown, found_in, least=0.0),
    )


def _terms(metrics: PlaceMetrics, box_loss: Callable[[Array, Array], Array], outputs: Array, batch: Batch) -> dict[str, Array]:
    """Returns the terms of the loss of each image, f32 [B] each, finite without an object, too."""
    objects, (logits, found) = batch[metrics.column], parted(outputs, len(metrics.class_names))
    label = jnp.where(has_object(objects), objects["label"][:, 0], 0)
    corners = jnp.where(has_object(objects)[:, None], objects["corners"][:, 0], 0.0)
    targets = boxes.centres(corners) / _unit(batch["image"])
    return dict(zip(TERMS, (cross_entropy(logits, label), box_loss(_of_class(found, label), targets)), strict=True))


def _found(classes: int, outputs: Array, images: Array) -> dict[str, Array]:
    """Returns {corners f32 [B, 1, 4] in pixels, score, label, valid [B, 1]}; no object where scores are NaN."""
    logits, found = parted(outputs, classes)
    label = predicted(logits)
    known = jnp.maximum(label, 0)
    placed = _of_class(found, known) * _unit(images)
    # The numbers are not bounded: a box of a negative side has no area.
    corners = boxes.corners(placed.at[:, 2:].max(0.0))
    # [B, K] at [B, 1] -> [B, 1]
    score = jnp.take_along_axis(jax.nn.softmax(logits), known[:, None], axis=1)
    return {"corners": corners[:, None], "score": score, "label": known[:, None], "valid": (label >= 0)[:, None]}


def joined_outputs(located: Any) -> Array:
    """Returns {"logits": [B, K], "box": [B, 4] or [B, K, 4]} as one array f32 [B, K + 4] or [B, K + 4 K]."""
    box = located["box"].reshape(located["box"].shape[0], -1)  # [B, K, 4] -> [B, 4 K]
    return at_least_f32(jnp.concatenate([located["logits"], box], axis=1))


def parted(outputs: Array, classes: int) -> tuple[Array, Array]:
    """Returns (logits f32 [B, K], boxes f32 [B, 1, 4], or [B, K, 4]) of outputs [B, P]."""
    box = outputs[:, classes:]
    return outputs[:, :classes], box.reshape(box.shape[0], -1, 4)  # [B, 4 K] -> [B, K, 4]


def _of_class(found: Array, label: Array) -> Array:
    """Returns the box f32 [B, 4] of each image's class i32 [B], of boxes [B, K, 4]; of [B, 1, 4] the only one."""
    if found.shape[1] == 1:
        return found[:, 0]
    return jnp.take_along_axis(found, label[:, None, None], axis=1)[:, 0]  # [B, K, 4] at [B, 1, 1] -> [B, 1, 4] -> [B, 4]


def _unit(images: Array) -> Array:
    """Returns (W, H, W, H) of images [B, H, W, C], f32 [1, 4]."""
    height, width = images.shape[1:3]
    return jnp.asarray([[width, height, width, height]], jnp.float32)


def _figures(
    metrics: PlaceMetrics, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str
) -> dict[str, Any]:
    """Returns the confusion of classes, and images with their true and their predicted box."""
    return metrics.draw_figures(stats, data, split)
