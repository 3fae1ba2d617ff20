"""Pretext tasks that ask for one of several answers about an image or its pieces: what was done to it is the answer.

The labels of the data never enter the loss. The trunk of the network is what other tasks start from (core.TRUNK).

Letters in shapes: B batch, P pieces of an image, H W space, C channels, K answers, N images of a split.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import PRETEXT, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.inputs import unit_value
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import collectives
from cnnlab.ops.keys import of_each, stream
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.metrics import confusion_counts, predicted
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.network_player import NetworkPlayer

METRICS = (
    Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("loss", "nats", higher_is_better=False, log_scale=True),
)
"""The metrics that `summary` gives: the share of the questions that are answered rightly, and the cross-entropy."""
SHOWN = 8
"""Number of images whose pieces are shown."""
COLUMNS = 8
"""Number of pieces in a row, or those of one image."""
MOST_ANSWERS = 20
"""Largest number of answers of which a matrix of confusion is drawn."""

Ask = Callable[[Array, Array], tuple[Array, Array]]
"""(images [B, H, W, C], keys [B]) -> (pieces [B, P, h, w, C], answers i32 [B], or [B, P] of questions about each piece)."""


@dataclasses.dataclass(frozen=True)
class Puzzle:
    """A question about an image that is made without labels."""

    answers: tuple[str, ...]
    """Names of the K answers."""
    ask: Ask
    """Makes the pieces and the right answers of training."""
    together: bool
    """Whether the question is about all pieces of an image together; else each piece has one of its own."""
    is_normalized: bool = False
    """Whether every piece has a mean of 0 and a standard deviation of 1, as which it is shown."""
    examine: Ask | None = None
    """Makes those of held-out images; None: as in training."""

    def examined(self, images: Array, index: Array) -> tuple[Array, Array]:
        """Returns the pieces and the right answers of held-out images; they depend on the indices i32 [B] alone."""
        return (self.examine or self.ask)(images, keys_of(index))


def solve(network: nn.Module, puzzle: Puzzle) -> Task:
    """The task of answering a puzzle: the game of one player, PRETEXT.

    The loss of an image is the mean cross-entropy of its questions, and at first the logarithm of the number of answers.
    `Task.predict` gives the trunk's features of whole images, f32 [B, F].

    Args:
        network: `network(pieces [B, P, h, w, C], train=…) -> (logits [B, K], or [B, P, K], intermediates)`, with a module TRUNK
            and a method `features` of whole images (models/pieces.py).
        puzzle: the question.
    """
    player = NetworkPlayer(network, PRETEXT)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        shown, _ = puzzle.examined(batch["image"][:1], jnp.zeros((1,), jnp.int32))
        return player.init(key, {"image": shown})

    def loss_of(params: Params, model_state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        keys = collectives.example_keys(stream(key, "puzzle"), len(batch["image"]))
        pieces, answers = puzzle.ask(batch["image"], keys)
        (logits, _), updated = player.train(params, model_state, pieces, key)
        rows = answered(at_least_f32(logits), answers)
        return jnp.mean(rows["loss"]), (updated, {"sums": sums(rows, batch["mask"]), "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        pieces, answers = puzzle.examined(batch["image"], batch["index"])
        rows = answered(at_least_f32(player.evaluate(params, model_state, pieces)[0]), answers)
        kept = {name: rows[name] for name in ("loss", "answer", "prediction")}
        return {"sums": sums(rows, batch["mask"]), "rows": {"index": batch["index"], **kept, "mask": batch["mask"]}}

    return Task(
        init=init,
        loss=loss_of,
        predict=features_of(network),
        measure=measure,
        summary=summary,
        figures=functools.partial(draw_figures, puzzle),
        turns=(PRETEXT,),
        metrics=METRICS,
        logged_metrics=("loss",),
    )


def keys_of(index: Array) -> Array:
    """Returns a key for each held-out image, keys [B], which depends on its index i32 [B] alone."""
    return of_each(jax.random.key(0), index)


def features_of(network: nn.Module) -> Callable[[Params, PyTree, Array], Array]:
    """Returns the `Task.predict` of a pretext task: the trunk's features f32 [B, F], by the network's method `features`."""

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        features: Any = network.apply({"params": params[PRETEXT], **model_state}, inputs, method="features")
        return at_least_f32(features)

    return predict


def answered(logits: Array, answers: Array) -> dict[str, Array]:
    """Returns rows of logits f32 [B, K] or [B, P, K] and right answers i32 [B] or [B, P], means over an image's questions.

    They are `loss` f32 [B], `correct` f32 [B], the share that is right, and `answer` and `prediction` i32 as the answers.
    """
    flat, right = logits.reshape(-1, logits.shape[-1]), answers.reshape(-1)  # [B, P, K] -> [B · P, K], [B, P] -> [B · P]
    losses, found = cross_entropy(flat, right), predicted(flat)
    by_image = (len(answers), -1)  # [B · P] -> [B, P]
    correct = (found == right).astype(jnp.float32).reshape(by_image)
    return {
        "loss": jnp.mean(losses.reshape(by_image), axis=1),
        "correct": jnp.mean(correct, axis=1),
        "answer": answers,
        "prediction": found.reshape(answers.shape),
    }


def sums(rows: dict[str, Array], mask: Array) -> dict[str, Array]:
    """Returns the sums of `loss` and `correct` over the real examples, and their `count`, f32 []."""
    each = {"loss": rows["loss"], "correct": rows["correct"], "count": jnp.ones_like(rows["loss"])}
    return {name: jnp.sum(jnp.where(mask, values, 0.0)) for name, values in each.items()}


def summary(stats: Stats) -> dict[str, float]:
    """Returns `accuracy` and `loss`, f64 means of the rows, or of the sums of training."""
    rows = stats["rows"]
    if rows:
        numbers = {"accuracy": rows["prediction"] == rows["answer"], "loss": rows["loss"]}
        return {name: float(np.mean(values, dtype=np.float64)) for name, values in numbers.items()}
    count = max(float(stats["sums"]["count"]), 1.0)
    return {"accuracy": float(stats["sums"]["correct"]) / count, "loss": float(stats["sums"]["loss"]) / count}


def means(metrics: Sequence[Metric], stats: Stats) -> dict[str, float]:
    """Returns the means over images of rows, or of sums of training, that have the names of the metrics; f64 of rows."""
    rows, sums = stats["rows"], stats["sums"]
    names = [metric.name for metric in metrics]
    if rows:
        return {name: float(np.mean(rows[name], dtype=np.float64)) for name in names}
    return {name: float(sums[name]) / max(float(sums["count"]), 1.0) for name in names}


def draw_figures(
    puzzle: Puzzle, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str
) -> dict[str, Any]:
    """Returns the pieces of the first images with right and predicted answers, and the matrix of confusion of few answers."""
    from cnnlab import figures

    rows, names = stats["rows"], puzzle.answers
    if not rows:
        return {}
    index = rows["index"][:SHOWN]
    images = data.images(split, index)
    images = images.astype(np.float32) / unit_value(images.dtype)
    pieces = np.asarray(puzzle.examined(jnp.asarray(images), jnp.asarray(index))[0])
    answers, found = rows["answer"][:SHOWN], rows["prediction"][:SHOWN]
    captions, colours = [""] * (len(index) * pieces.shape[1]), [figures.GOOD] * (len(index) * pieces.shape[1])
    for i, (right, guess) in enumerate(zip(answers.reshape(len(index), -1), found.reshape(len(index), -1), strict=True)):
        for j, (one, other) in enumerate(zip(right, guess, strict=True)):
            place = i * pieces.shape[1] + j
            colours[place] = figures.GOOD if one == other else figures.BAD
            captions[place] = f"{names[one]} → {names[other] if other >= 0 else 'none'}"
    pieces = 0.5 + pieces / 4 if puzzle.is_normalized else pieces  # two deviations below the mean are black
    shown = np.clip(pieces.reshape(-1, *pieces.shape[2:]), 0, 1)  # [N, P, h, w, C] -> [N · P, h, w, C]
    columns = pieces.shape[1] * max(1, COLUMNS // pieces.shape[1])
    title = f"Pieces of {split}: answer → predicted"
    drawn = {"pieces": figures.image_grid(shown, captions, title=title, columns=columns, colors=colours)}
    if len(names) <= MOST_ANSWERS:
        counts = confusion_counts(rows["answer"].ravel(), rows["prediction"].ravel(), len(names))
        drawn["confusion_matrix"] = figures.confusion_matrix(counts, names)
    return drawn
