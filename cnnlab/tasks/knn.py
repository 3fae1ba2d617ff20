"""Classification by the k nearest neighbours, where training is remembering (Fix and Hodges 1951; Cover and Hart 1967).

Letters in shapes: N remembered examples, Q queries, F values of an image, K classes.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.ops import knn
from cnnlab.ops.knn import Distance
from cnnlab.tasks import classification_metrics, prediction
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.untrained import no_loss
from cnnlab.values import Count

Pixels = Literal["whole", "real"]

CANDIDATES = (1, 3, 5, 7, 9, 11, 15)
"""Values from which k is chosen where it is not given."""


@dataclasses.dataclass(frozen=True)
class _NearestNeighbours:
    """The functions of the task; `knn_task` describes the fields."""

    classes: int
    k: int | None
    distance: Distance
    pixels: Pixels
    memory_chunk: int
    query_chunk: int
    goal: Goal

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Remembers the training set, in the order of its indices, and chooses k."""
        order = jnp.argsort(batch["index"])
        images, is_whole = _stored(batch["image"][order], self.pixels)  # [N, H, W, C] sorted, -> [N, F]
        labels = batch["label"][order]  # [N], sorted alike
        state = {"images": images, "labels": labels, "is_valid": jnp.all(is_whole)}
        if self.k is not None and self.k > len(labels):
            raise UsageError(f"k={self.k} neighbours of {len(labels)} training examples: take k of at most {len(labels)}.")
        return {}, {**state, "k": jnp.int32(self.k) if self.k is not None else self.choose_k(images, labels)}

    def choose_k(self, images: Array, labels: Array) -> Array:
        """Returns the candidate, i32 [], with the most correct answers on the held-out tenth; of equals, the smallest."""
        kept, held = knn.hold_out(len(labels))
        if len(kept) < 2:
            return jnp.int32(1)
        memory, known = images[kept], labels[kept]  # [N, F] -> [kept, F], [N] -> [kept]
        candidates = jnp.array([c for c in CANDIDATES if c <= len(kept)], jnp.int32)

        def is_correct(query: tuple[Array, Array]) -> Array:
            """(image [F], label []) -> bool [candidates]."""
            image, label = query
            neighbours = knn.nearest(
                image[None], memory, k=self.most_neighbours(len(kept)), distance=self.distance, chunk=self.memory_chunk
            )
            # The neighbours are found once: every candidate counts the votes of the first of them.
            predictions = jax.vmap(lambda c: jnp.argmax(knn.votes(neighbours, known, self.classes, c)[0]))(candidates)
            return predictions == label

        # [held, F], [held] -> [held, candidates]
        answers = jax.lax.map(is_correct, (images[held], labels[held]), batch_size=self.query_chunk)
        return candidates[jnp.argmax(jnp.sum(answers, axis=0))]

    def most_neighbours(self, size: int) -> int:
        """Returns how many neighbours are looked up among `size` examples: k, or the largest candidate."""
        return self.k if self.k is not None else max([c for c in CANDIDATES if c <= size] or [1])

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """Returns the votes f32 [Q, K] of each class; NaN where pixels are not what the task was promised."""
        queries, is_whole = _stored(inputs, self.pixels)
        memory, labels = model_state["images"], model_state["labels"]
        neighbours = knn.nearest(
            queries, memory, k=self.most_neighbours(len(labels)), distance=self.distance, chunk=self.memory_chunk
        )
        votes = knn.votes(neighbours, labels, self.classes, model_state["k"])
        return jnp.where((is_whole & model_state["is_valid"])[:, None], votes, jnp.nan)

    def measure(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Returns the statistics of a held-out batch, with the shares of the votes as probabilities."""
        votes = self.predict(params, model_state, batch["image"])
        k_used = model_state["k"].astype(jnp.float32)
        # Laplace's rule of succession: a share that is never 0, so that the log-loss stays finite.
        shares = (votes + 1.0) / (k_used + self.classes)
        losses = -jnp.log(jnp.take_along_axis(shares, batch["label"][:, None], axis=1)[:, 0])  # [Q, K] at [Q, 1] -> [Q]
        return self.goal.measure(votes, losses, batch)


def knn_task(
    classes: int,
    *,
    k: Count | None = None,
    distance: Distance = "l2",
    pixels: Pixels = "whole",
    memory_chunk: Count = 4096,
    query_chunk: Count = 256,
    goal: Goal | None = None,
) -> Task:
    """The task of predicting the most frequent label among the k nearest remembered images.

    `init` gets the whole training set as one batch, in any order, and keeps it in the model state: there is nothing else
    to train (`turns` is empty). Of equal distances the example that comes first in the training split is nearer; of equal
    votes the smaller label wins.

    Args:
        classes: number of classes.
        k: number of neighbours that vote; none: that of 1, 3, 5, 7, 9, 11 and 15 with the fewest errors on every tenth
            remembered example.
        distance: l2 (Euclidean) or l1 (sum of absolute differences).
        pixels: whole: the values are whole numbers 0..255, kept in a byte and compared exactly; anything else predicts NaN.
            real: any values, compared in f32.
        memory_chunk: number of remembered examples compared at once.
        query_chunk: number of queries answered at once while k is chosen.
        goal: how predictions are measured; None: GOAL, without further metrics.
    """
    goal = goal or GOAL
    neighbours = _NearestNeighbours(classes, k, distance, pixels, memory_chunk, query_chunk, goal)
    return Task(
        init=neighbours.init,
        loss=no_loss("nearest neighbours remember examples and are not trained"),
        predict=neighbours.predict,
        measure=neighbours.measure,
        figures=lambda params, model_state, stats, data, split: goal.figures(stats, data, split),
        turns=(),
        **goal.fields(),
    )


def _stored(images: Array, pixels: str) -> tuple[Array, Array]:
    """Returns images [B, H, W, C] as (u8 or f32 [B, F], bool [B]: whether they are what `pixels` promises)."""
    flat = images.astype(jnp.float32).reshape(images.shape[0], -1)  # [B, H, W, C] -> [B, H·W·C]
    if pixels == "real":
        return flat, jnp.all(jnp.isfinite(flat), axis=1)
    return flat.astype(jnp.uint8), jnp.all((flat == jnp.round(flat)) & (flat >= 0) & (flat <= 255), axis=1)


def _shares(votes: Array) -> Array:
    """Returns the shares f32 [Q, K] of votes f32 [Q, K]."""
    return votes / jnp.sum(votes, axis=1, keepdims=True)


def _measure(votes: Array, losses: Array, batch: Batch) -> Stats:
    """Implements Goal.measure of votes: their shares are the probabilities."""
    return classification_metrics.measure(votes, _shares(votes), losses, batch)


def _log_shares(votes: np.ndarray) -> np.ndarray:
    """Returns the logarithms of the shares of votes f64 [N, K]; −inf of none."""
    with np.errstate(divide="ignore"):
        return np.log(votes / np.sum(votes, axis=1, keepdims=True))


GOAL = dataclasses.replace(CLASS, measure=_measure, prediction=prediction.of_classes(_shares), log_probabilities=_log_shares)
"""The class of an image by the votes of its neighbours."""
