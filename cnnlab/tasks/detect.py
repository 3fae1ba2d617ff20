"""Detection in one stage: boxes of objects with their classes, the game of one player, the detector.

Letters in shapes: B batch, H W space, C channels, K classes, M places for objects, D places for detections, T terms of the
loss.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import DETECTOR, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.ops import collectives
from cnnlab.ops.heads import Objects
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks import boxes_shown
from cnnlab.tasks.detection_metrics import BoxMetrics
from cnnlab.tasks.network_player import NetworkPlayer

PLAYER = DETECTOR


def detect(network: nn.Module, *, metrics: BoxMetrics, frozen: tuple[str, ...] = ()) -> Task:
    """The task of training `network` to find objects.

    The loss of a batch is the sum of the terms of all images over the sum of their divisors (ops.heads.Head), both over
    the global batch: the number of positive anchors or cells, say, or of images. A batch without objects has the loss of its
    background alone, divided by 1.

    Args:
        network: a network of DETECTORS, `network(images, train=…) -> (outputs [B, N, P], intermediates)` with a `head`.
        metrics: the classes, and how outputs become detections that are measured.
        frozen: regular expressions of the layers that stay as they start (trees.matches); `features`: all but the last.
    """
    detector = NetworkPlayer(network, PLAYER, frozen)
    head_of = functools.cache(network.head)  # the anchors are the same for all calls of one size

    def terms_of(outputs: Array, batch: Batch) -> Array:
        """Returns the terms of each image, and what they are divided by: f32 [B, T + 1]; zeros for padding."""
        head, objects = head_of(size_of(batch["image"])), batch[metrics.column]
        terms, divisors = jax.vmap(head.losses)(outputs, Objects(objects["corners"], objects["label"], objects["valid"]))
        joined = jnp.concatenate([terms, divisors[:, None]], axis=1)  # [B, T] and [B] -> [B, T + 1]
        return jnp.where(batch["mask"][:, None], joined, 0.0)

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        (outputs, _), updated = detector.train(params, model_state, batch["image"], key)
        terms = jnp.sum(terms_of(at_least_f32(outputs), batch), axis=0)  # [B, T + 1] -> [T + 1]
        return _mean(collectives.global_sum(terms)), (updated, {"sums": {"loss_terms": terms}, "rows": {}})

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return at_least_f32(detector.evaluate(params, model_state, inputs)[0])

    def found_in(outputs: Array, images: Array) -> dict[str, Array]:
        head = head_of(size_of(images))
        return jax.vmap(lambda each: metrics.suppression(*head.decode(each)))(outputs)

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        outputs = predict(params, model_state, batch["image"])
        rows = {**metrics.rows(found_in(outputs, batch["image"]), batch), "loss_terms": terms_of(outputs, batch)}
        return {"sums": {}, "rows": rows}

    def detections(params: Params, model_state: PyTree, images: Array) -> dict[str, Array]:
        return found_in(predict(params, model_state, images), images)

    return Task(
        init=detector.init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=metrics.summary,
        figures=functools.partial(_figures, metrics),
        turns=(PLAYER,),
        metrics=metrics.declared,
        logged_metrics=("loss",),
        snapshot=functools.partial(_snapshot, metrics, detections),
        prediction=boxes_shown.prediction(metrics, found_in),
    )


def size_of(images: Array) -> tuple[int, int]:
    """Returns (H, W) of images [B, H, W, C]."""
    return images.shape[1], images.shape[2]


def _mean(terms: Array) -> Array:
    """Returns the sum of the terms over the divisor, at least 1, of sums f32 [T + 1]."""
    divisor = terms[-1]
    return jnp.sum(terms[:-1]) / jnp.where(divisor > 1, divisor, 1.0)


def _snapshot(
    metrics: BoxMetrics,
    detections: Callable[[Params, PyTree, Array], dict[str, Array]],
    params: Params,
    model_state: PyTree,
    batch: Batch,
    key: Array,
) -> dict[str, Array]:
    """Returns `boxes`: each image with its true boxes, then with the predicted ones, in the colours of their classes."""
    found, truth = detections(params, model_state, batch["image"]), batch[metrics.column]
    shown = {**found, "valid": found["valid"] & (found["score"] >= boxes_shown.LEAST_SHOWN)}
    images = batch["image"]
    low, high = jnp.min(images, (1, 2, 3), keepdims=True), jnp.max(images, (1, 2, 3), keepdims=True)
    images = (images - low) / jnp.where(high > low, high - low, 1.0)  # the normalisation is not known here
    images = images if images.shape[-1] == 3 else jnp.broadcast_to(jnp.mean(images, -1, keepdims=True), (*images.shape[:3], 3))
    colours = jnp.asarray(boxes_shown.palette(len(metrics.class_names)))
    drawn = [jax.vmap(functools.partial(boxes_shown.outlined, colours=colours))(images, each) for each in (truth, shown)]
    pairs = jnp.stack(drawn, axis=1)  # two of [N, H, W, 3] -> [N, 2, H, W, 3]
    return {"boxes": pairs.reshape(-1, *images.shape[1:])}  # [N, 2, H, W, 3] -> [2 N, H, W, 3]


def _figures(
    metrics: BoxMetrics, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str
) -> dict[str, Any]:
    """Returns images with true and found boxes, precision and recall of each class, and the worst mistakes."""
    return boxes_shown.draw_figures(metrics, stats, data, split)
