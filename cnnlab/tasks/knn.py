"""M3: k nearest neighbours on pixels, where training is remembering (Fix and Hodges 1951; Cover and Hart 1967)."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.ops import knn
from cnnlab.ops.knn import Distance
from cnnlab.tasks import classification_metrics
from cnnlab.values import Count

CANDIDATES = (1, 3, 5, 7, 9, 11, 15)
"""What k is chosen from where it is not given."""


def knn_task(
    classes: int,
    *,
    k: Count | None = None,
    distance: Distance = "l2",
    pixels: Literal["whole", "real"] = "whole",
    memory_chunk: Count = 4096,
    query_chunk: Count = 256,
) -> Task:
    """The task of predicting the commonest label among the k nearest remembered images.

    `init` gets the whole training set as one batch, in any order, and keeps it in the model state: there is nothing else
    to train (`turns` is empty). Of equal distances the example that comes first in the training split is nearer; of equal
    votes the smaller label wins.

    Args:
        classes: how many.
        k: neighbours that vote; none: of 1, 3, 5, 7, 9, 11 and 15 the one that errs least on every tenth remembered example.
        distance: l2 (Euclidean) or l1 (sum of absolute differences).
        pixels: whole: the values are whole numbers 0..255, kept in a byte and compared exactly; anything else predicts NaN.
            real: any values, compared in f32.
        memory_chunk: remembered examples compared at once.
        query_chunk: questions asked at once while k is chosen.
    """

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        order = jnp.argsort(batch["index"])
        images, is_whole = _stored(batch["image"][order], pixels)
        labels = batch["label"][order]
        state = {"images": images, "labels": labels, "is_valid": jnp.all(is_whole)}
        if k is not None and k > len(labels):
            raise UsageError(f"k={k} neighbours of {len(labels)} training examples: take k of at most {len(labels)}.")
        return {}, {**state, "k": jnp.int32(k) if k is not None else choose_k(images, labels)}

    def choose_k(images: Array, labels: Array) -> Array:
        """i32 []: the candidate with the most right answers about the held-out tenth, the smallest of equals."""
        kept, held = knn.hold_out(len(labels))
        if len(kept) < 2:
            return jnp.int32(1)
        memory, known = images[kept], labels[kept]
        candidates = jnp.array([c for c in CANDIDATES if c <= len(kept)], jnp.int32)

        def right(question: tuple[Array, Array]) -> Array:
            image, label = question
            found = knn.nearest(image[None], memory, k=k_max(len(kept)), distance=distance, chunk=memory_chunk)
            guesses = jax.vmap(lambda c: jnp.argmax(knn.votes(found, known, classes, c)[0]))(candidates)
            return guesses == label

        answers = jax.lax.map(right, (images[held], labels[held]), batch_size=query_chunk)
        return candidates[jnp.argmax(jnp.sum(answers, axis=0))]

    def k_max(size: int) -> int:
        return k if k is not None else max([c for c in CANDIDATES if c <= size] or [1])

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        queries, is_whole = _stored(inputs, pixels)
        memory, labels, chosen = model_state["images"], model_state["labels"], model_state["k"]
        found = knn.nearest(queries, memory, k=k_max(len(labels)), distance=distance, chunk=memory_chunk)
        counted = knn.votes(found, labels, classes, chosen)
        return jnp.where((is_whole & model_state["is_valid"])[:, None], counted, jnp.nan)

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        counted = predict(params, model_state, batch["image"])
        k_used = model_state["k"].astype(jnp.float32)
        # Laplace's rule of succession: a share that is never 0, so that the log-loss stays finite.
        shares = (counted + 1.0) / (k_used + classes)
        losses = -jnp.log(jnp.take_along_axis(shares, batch["label"][:, None], axis=1)[:, 0])
        return classification_metrics.measure(counted, counted / k_used, losses, batch)

    return Task(
        init=init,
        loss=_no_loss,
        predict=predict,
        measure=measure,
        summary=classification_metrics.summary,
        figures=_figures,
        turns=(),
        metrics=classification_metrics.METRICS,
    )


def _stored(images: Array, pixels: str) -> tuple[Array, Array]:
    """images [B, H, W, C] -> (u8 or f32 [B, F], bool [B]: whether they are what `pixels` promises)."""
    flat = images.astype(jnp.float32).reshape(images.shape[0], -1)
    if pixels == "real":
        return flat, jnp.all(jnp.isfinite(flat), axis=1)
    return flat.astype(jnp.uint8), jnp.all((flat == jnp.round(flat)) & (flat >= 0) & (flat <= 255), axis=1)


def _no_loss(params: Params, model_state: PyTree, batch: Batch, key: Array, player: str) -> tuple[Array, tuple[PyTree, Stats]]:
    raise UsageError("nearest neighbours remember and do not descend: there is no loss to train. Take 0 steps.")


def _figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    return classification_metrics.draw_figures(stats, data, split)
