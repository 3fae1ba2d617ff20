"""Segmentation: the class of every pixel, the game of one player, the segmenter.

Letters in shapes: B batch, H W space, C channels, K classes, T terms of the loss.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import SEGMENTER, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.ops import collectives
from cnnlab.ops.dense_losses import Terms, cross_entropy
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.tiles import ALIGNMENT, in_tiles
from cnnlab.tasks import masks_shown
from cnnlab.tasks.network_player import NetworkPlayer, auxiliary_logits
from cnnlab.tasks.segmentation_metrics import MaskMetrics, predicted_classes

PLAYER = SEGMENTER
AUXILIARY_WEIGHT = 0.5
"""Weight of the losses of auxiliary heads, as in torchvision's training of fcn_resnet50."""
KEPT_ROWS = ("index", "confusion", "borders", "trimap", "loss_terms", "group")
"""Names of the rows that a run keeps of the test split, those of them that there are."""

Loss = Callable[[Array, Array, Array, Array], Terms]
"""A term of DENSE_LOSSES whose knobs are filled in."""


def segment(
    network: nn.Module,
    *,
    metrics: MaskMetrics,
    losses: Sequence[Loss] = (cross_entropy,),
    class_weights: np.ndarray | None = None,
    frozen: tuple[str, ...] = (),
    tile: int | None = None,
    overlap: int = ALIGNMENT,
) -> Task:
    """The task of training `network` to give every pixel its class.

    The loss is a sum of terms, each a mean over the pixels, or images, of the global batch. Intermediates whose name begins
    with `auxiliary` are logits of auxiliary heads, and their losses are added. What is reported as loss has the class weights,
    too, but no auxiliary heads.

    Args:
        network: `network(images, train=…) -> (logits [B, H, W, K], intermediates)`.
        metrics: the classes and how predictions are measured.
        losses: terms of the loss (ops/dense_losses.py).
        class_weights: weights f32 [K] of the classes in the terms that take them; None: all 1.
        frozen: regular expressions of the layers that stay as they start (trees.matches); `features`: all but the last.
        tile: side of the tiles in which larger images are predicted; None: images are predicted whole. Training takes none.
        overlap: number of pixels that neighbouring tiles share (ops/tiles.py).
    """
    segmenter = NetworkPlayer(network, PLAYER, frozen)
    weights = np.ones(metrics.classes, np.float32) if class_weights is None else class_weights
    terms_of = functools.partial(_terms, tuple(losses), weights, metrics)
    predict = functools.partial(_predict, segmenter, tile, overlap)

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        (logits, intermediates), updated = segmenter.train(params, model_state, batch["image"], key)
        logits = at_least_f32(logits)
        terms = terms_of(logits, batch)  # [B, T, 2]
        total = _global_loss(terms)
        for auxiliary in auxiliary_logits(intermediates):
            total += AUXILIARY_WEIGHT * _global_loss(terms_of(auxiliary, batch))
        sums = {"loss_terms": jnp.sum(terms, axis=0), **metrics.sums(logits, batch)}
        return total, (updated, {"sums": sums, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        logits = predict(params, model_state, batch["image"])
        return {"sums": {}, "rows": {**metrics.rows(logits, batch), "loss_terms": terms_of(logits, batch)}}

    return Task(
        init=segmenter.init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=metrics.summary,
        figures=functools.partial(_figures, metrics, predict),
        turns=(PLAYER,),
        metrics=metrics.declared,
        logged_metrics=("loss", "pixel_accuracy"),
        snapshot=functools.partial(_snapshot, metrics, predict),
        prediction=masks_shown.prediction(metrics),
        kept_rows=KEPT_ROWS,
    )


def _predict(
    segmenter: NetworkPlayer, tile: int | None, overlap: int, params: Params, model_state: PyTree, inputs: Array
) -> Array:
    """Returns the logits f32 [B, H, W, K] of images, in tiles where there is a side of these."""

    def whole(images: Array) -> Array:
        return at_least_f32(segmenter.evaluate(params, model_state, images)[0])

    return whole(inputs) if tile is None else in_tiles(whole, inputs, tile, overlap)


def _terms(losses: Sequence[Loss], weights: np.ndarray, metrics: MaskMetrics, logits: Array, batch: Batch) -> Array:
    """Returns for each image and term its factor times value · share, and its share: f32 [B, T, 2]."""
    labels, valid = metrics.valid(batch)
    found = []
    for loss in losses:
        values, shares = loss(logits, labels, valid, jnp.asarray(weights))
        factor = jnp.asarray(_factor(loss), jnp.float32)
        found.append(jnp.stack([factor * values * shares, shares], axis=-1))  # two of [B] -> [B, 2]
    return jnp.stack(found, axis=1)  # T of [B, 2] -> [B, T, 2]


def _factor(loss: Loss) -> Any:
    """Returns the knob `weight` of a term; 1 where it is not filled in."""
    return loss.keywords.get("weight", 1.0) if isinstance(loss, functools.partial) else 1.0


def _global_loss(terms: Array) -> Array:
    """Returns Σ_t (Σ values · shares / Σ shares) over the global batch, f32 [], of terms [B, T, 2]."""
    totals, shares = jnp.moveaxis(collectives.global_sum(jnp.sum(terms, axis=0)), -1, 0)  # [B, T, 2] -> two of [T]
    return jnp.sum(totals / jnp.where(shares > 0, shares, 1.0))


def _snapshot(
    metrics: MaskMetrics,
    predict: Callable[[Params, PyTree, Array], Array],
    params: Params,
    model_state: PyTree,
    batch: Batch,
    key: Array,
) -> dict[str, Array]:
    """Returns `masks`: the true mask of each image, then the predicted one, in the colours of their classes."""
    labels, _ = metrics.valid(batch)
    guess = predicted_classes(predict(params, model_state, batch["image"]))
    colours = jnp.asarray(masks_shown.palette(metrics))  # f32 [256, 3]
    pairs = jnp.stack([labels, guess], axis=1)  # two of [N, H, W] -> [N, 2, H, W]
    return {"masks": colours[pairs.reshape(-1, *labels.shape[1:])]}  # [256, 3] at [2 N, H, W] -> [2 N, H, W, 3]


def _figures(
    metrics: MaskMetrics,
    predict: Callable[[Params, PyTree, Array], Array],
    params: Params,
    model_state: PyTree,
    stats: Stats,
    data: Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the confusion matrix of pixels, the IoU of each class, and images with their masks: the first and the worst."""
    return masks_shown.draw_figures(metrics, jax.jit(predict), params, model_state, stats, data, split)
