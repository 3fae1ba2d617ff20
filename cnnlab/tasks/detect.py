"""Detection: boxes of objects with their classes, the game of one player, the detector, in one stage or two.

Letters in shapes: B batch, H W space, C channels, K classes, M places for objects, D places for detections, T terms of the
loss.
"""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import DETECTOR, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.data.kinds.proposals import PROPOSALS
from cnnlab.ops import collectives
from cnnlab.ops.heads import Head, Objects
from cnnlab.ops.keys import of_each, stream
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.proposals import Proposals
from cnnlab.tasks import boxes_shown, instances_shown
from cnnlab.tasks.detection_metrics import BoxMetrics
from cnnlab.tasks.instance_metrics import SHOWN, InstanceMetrics
from cnnlab.tasks.network_player import NetworkPlayer
from cnnlab.tasks.stages_in_turns import PLAYERS, StagesInTurns, weights

PLAYER = DETECTOR
SUPPRESSION = "suppression"
"""Name of the argument by which a network is told how detections are chosen, whose masks it finds."""


Training = Literal["joint", "alternating"]
"""How the two stages of a network are trained."""


def detect(network: nn.Module, *, metrics: BoxMetrics, frozen: tuple[str, ...] = (), training: Training = "joint") -> Task:
    """The task of training `network` to find objects.

    Each term of the loss of a batch is its sum over all images divided by the sum of their divisors (ops.heads.Head), both
    over the global batch: the number of positive anchors or cells, say, or of images. A batch without objects has the loss of
    its background alone, divided by 1 at least.

    A network that takes `objects` and `keys` beside the images, one in two stages, is told the objects for its loss, where that
    is measured with keys of the examples' indices, so that it does not depend on the batch. One that takes `proposals` is given
    those of the batch. One whose head is an InstanceHead returns detections with masks, chosen as `suppression` says if it
    takes that; its metrics are InstanceMetrics.

    Args:
        network: a network of DETECTORS, `network(images, train=…) -> (outputs [B, N, P], intermediates)` with a `head`.
        metrics: the classes, and how outputs become detections that are measured.
        frozen: regular expressions of the layers that stay as they start (trees.matches); `features`: all but the last.
        training: joint: one player moves all layers; alternating: those of stages_in_turns.py, of which none may be frozen.
    """
    in_turns = StagesInTurns(network) if training == "alternating" else None
    detector: Any = in_turns or NetworkPlayer(network, PLAYER, frozen)
    head_of: Any = functools.cache(network.head)  # the anchors are the same for all calls of one size
    takes = frozenset(inspect.signature(type(network).__call__).parameters)
    found_in = functools.partial(_detections, head_of, metrics)
    terms_of = functools.partial(_terms, head_of, metrics)

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        keys = collectives.example_keys(stream(key, "regions"), len(batch["image"]))
        told = {**_told(batch, metrics, keys, takes), **({"player": player} if in_turns else {})}
        (outputs, _), updated = detector.train(params, model_state, batch["image"], key, **told)
        terms = jnp.sum(terms_of(_wide(outputs), batch), axis=0)  # [B, 2, T] -> [2, T]
        terms *= weights(player, metrics.terms)[None] if in_turns else 1.0
        return _mean(collectives.global_sum(terms)), (updated, {"sums": {"loss_terms": terms}, "rows": {}})

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return at_least_f32(detector.evaluate(params, model_state, inputs, **_chosen_by(metrics, takes))[0])

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        given = _given(batch, takes) | _chosen_by(metrics, takes)
        outputs = learnt = at_least_f32(detector.evaluate(params, model_state, batch["image"], **given)[0])
        if "objects" in takes:  # the layers below the regions are the same, and XLA computes them once
            keys = of_each(jax.random.key(0), batch["index"])
            learnt = _wide(detector.evaluate(params, model_state, batch["image"], **_told(batch, metrics, keys, takes))[0])
        rows = metrics.rows(found_in(outputs, batch["image"]), batch)
        return {"sums": {}, "rows": {**rows, "loss_terms": terms_of(learnt, batch)}}

    return Task(
        init=detector.init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=metrics.summary,
        turns=tuple(PLAYERS) if in_turns else (PLAYER,),
        param_groups=PLAYERS if in_turns else {},
        metrics=metrics.declared,
        logged_metrics=("loss",),
        **_shown(metrics, predict, found_in),
    )


def _detections(head_of: Callable[..., Any], metrics: BoxMetrics, outputs: Array, images: Array) -> dict[str, Array]:
    """Returns {corners f32 [B, D, 4], score, label, valid} of outputs [B, N, P], and `mask` [B, D, …] where there are masks."""
    head = head_of(size_of(images))
    if isinstance(metrics, InstanceMetrics):
        return jax.vmap(head.instances)(outputs)
    return jax.vmap(lambda each: metrics.suppression(*head.decode(each)))(outputs)


def _shown(
    metrics: BoxMetrics, predict: Callable[..., Array], found_in: Callable[[Array, Array], dict[str, Array]]
) -> dict[str, Any]:
    """Returns what of a Task a person sees: its figures, snapshot and prediction."""
    has_masks = isinstance(metrics, InstanceMetrics)
    shown: Any = instances_shown if has_masks else boxes_shown
    return {
        "figures": functools.partial(_figures, shown.draw_figures, metrics),
        "snapshot": functools.partial(shown.snapshot, metrics, lambda *given: found_in(predict(*given), given[-1])),
        "prediction": shown.prediction(metrics, found_in),
        "first_rows": SHOWN if has_masks else {},
    }


def size_of(images: Array) -> tuple[int, int]:
    """Returns (H, W) of images [B, H, W, C]."""
    return images.shape[1], images.shape[2]


def _terms(head_of: Callable[..., Any], metrics: BoxMetrics, outputs: Any, batch: Batch) -> Array:
    """Returns the terms of each image, and what they are divided by: f32 [B, 2, T]; zeros for padding."""
    head: Head = head_of(size_of(batch["image"]))

    def each(outputs: Any, objects: Objects) -> Array:
        terms, divisors = head.losses(outputs, objects)
        return jnp.stack([terms, jnp.broadcast_to(divisors, terms.shape)])

    return jnp.where(batch["mask"][:, None, None], jax.vmap(each)(outputs, _objects_in(batch, metrics)), 0.0)


def _objects_in(batch: Batch, metrics: BoxMetrics) -> Objects:
    """Returns the objects of the images, [B, …] each: a crowd is no object to learn, and no background either."""
    column = batch[metrics.column]
    valid = column["valid"]
    masks = batch[metrics.masks] if isinstance(metrics, InstanceMetrics) else None
    if "crowd" not in column:
        return Objects(column["corners"], column["label"], valid, masks=masks)
    crowd = column["crowd"]
    return Objects(column["corners"], column["label"], valid & ~crowd, valid & crowd, masks)


def _given(batch: Batch, takes: Collection[str]) -> dict[str, Any]:
    """Returns the proposals for a network whose call takes them among its arguments."""
    if PROPOSALS not in takes:
        return {}
    return {PROPOSALS: Proposals(batch[PROPOSALS]["corners"], batch[PROPOSALS]["valid"])}


def _chosen_by(metrics: BoxMetrics, takes: Collection[str]) -> dict[str, Any]:
    """Returns how detections are chosen for a network whose call takes it among its arguments."""
    return {SUPPRESSION: metrics.suppression} if SUPPRESSION in takes else {}


def _told(batch: Batch, metrics: BoxMetrics, keys: Array, takes: Collection[str]) -> dict[str, Any]:
    """Returns what a network takes beside the images for its loss, with keys [B] of the draws."""
    objects = {"objects": _objects_in(batch, metrics), "keys": keys} if "objects" in takes else {}
    return {**_given(batch, takes), **objects}


def _wide(outputs: Any) -> Any:
    """Returns outputs, or a lesson, with real numbers in f32 at least."""
    return jax.tree.map(lambda x: at_least_f32(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, outputs)


def _mean(terms: Array) -> Array:
    """Returns the sum of the terms over their divisors, at least 1, of sums f32 [2, T]."""
    divisors = terms[1]
    return jnp.sum(terms[0] / jnp.where(divisors > 1, divisors, 1.0))


def _figures(
    draw: Callable[..., dict[str, Any]],
    metrics: BoxMetrics,
    params: Params,
    model_state: PyTree,
    stats: Stats,
    data: Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns images with true and found boxes, precision and recall of each class, and the worst mistakes."""
    return draw(metrics, stats, data, split)
