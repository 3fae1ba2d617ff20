"""Statistics, metrics and figures of every task with one label for each image.

Letters in shapes: B batch, K classes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Stats
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.labels import largest_share
from cnnlab.ops.metrics import confusion_counts, predicted, top_correct

TOP = 5
"""k of the top-k accuracy, which is measured where there are more classes."""

METRICS = (
    Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("loss", higher_is_better=False, log_scale=True),
    Metric("top5_accuracy", SHARE, higher_is_better=True, is_proportion=True),
)
"""The metrics that `summary` gives. The unit of the loss is that of the task: nats of a cross-entropy, none of a hinge."""

MOST_KEPT = 20
"""Largest number of classes whose probabilities are all kept for each test example; of more, the TOP largest."""

KEPT_ROWS = (
    *("index", "label", "prediction", "confidence", "loss"),
    *("probabilities", "top_probabilities", "top_classes", "top5"),
)
"""Names of the rows of `measure` that a run keeps of the test split, those of them that there are."""

MISTAKES = 25
"""Number of mistakes that are shown, the most confident first."""

SHORT_NAME = 4
"""Largest number of letters of class names two of which fit into one line of a caption."""


def sums(scores: Array, losses: Array, batch: Batch) -> dict[str, Array]:
    """Returns sums over the real examples: `loss`, `correct` and `count`, f32 []; scores f32 [B, K], losses f32 [B].

    A mixture of several classes, in training, counts as one of the class with the largest share.
    """
    real = batch["mask"].astype(jnp.float32)
    correct = (predicted(scores) == largest_share(batch["label"])).astype(jnp.float32)
    return {"loss": jnp.sum(jnp.where(batch["mask"], losses, 0.0)), "correct": jnp.sum(correct * real), "count": jnp.sum(real)}


def measure(scores: Array, probabilities: Array, losses: Array, batch: Batch) -> Stats:
    """Returns the statistics of a held-out batch.

    Args:
        scores: f32 [B, K]; the class of the largest is predicted, and none (−1) where one is NaN.
        probabilities: f32 [B, K].
        losses: f32 [B].
        batch: labels, indices and mask.
    """
    prediction = predicted(scores)
    rows = {
        "index": batch["index"],
        "label": batch["label"],
        "prediction": prediction,
        # [B, K] at [B, 1] -> [B]; where no class is predicted the probabilities are NaN
        "confidence": jnp.take_along_axis(probabilities, jnp.maximum(prediction, 0)[:, None], axis=1)[:, 0],
        "loss": losses,
        "mask": batch["mask"],
    }
    # All probabilities of a prediction, or the largest where there are many classes: it can be traced without the network.
    if scores.shape[1] <= MOST_KEPT:
        rows["probabilities"] = probabilities.astype(jnp.float32)
    else:
        top, classes = jax.lax.top_k(probabilities.astype(jnp.float32), TOP)  # both [B, TOP]
        rows |= {"top_probabilities": top, "top_classes": classes.astype(jnp.int32)}
    if scores.shape[1] > TOP:
        rows["top5"] = top_correct(scores, batch["label"], TOP)
    return {"sums": sums(scores, losses, batch), "rows": rows}


def summary(stats: Stats) -> dict[str, float]:
    """Returns `loss`, `accuracy` and, where measured, `top5_accuracy`: f64 means of the rows, or of the sums of training."""
    rows = stats["rows"]
    if not rows:
        count = max(float(stats["sums"]["count"]), 1.0)
        return {"loss": float(stats["sums"]["loss"]) / count, "accuracy": float(stats["sums"]["correct"]) / count}
    numbers = {"loss": rows["loss"], "accuracy": rows["prediction"] == rows["label"]}
    if "top5" in rows:
        numbers["top5_accuracy"] = rows["top5"]
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in numbers.items()}


def draw_figures(stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the figures `confusion_matrix` and, where there are any, `mistakes`: the most confident ones of a split."""
    from cnnlab import figures

    rows = stats["rows"]
    if not rows:
        return {}
    counts = confusion_counts(rows["label"], rows["prediction"], data.classes)
    shown = {"confusion_matrix": figures.confusion_matrix(counts, data.class_names)}
    # The most confident mistakes show wrong labels and classes that look alike.
    wrong = np.flatnonzero(rows["prediction"] != rows["label"])
    worst = wrong[np.argsort(-rows["confidence"][wrong], kind="stable")][:MISTAKES]
    if len(worst):
        names = [*figures.class_labels(data.class_names), "none"]  # the last is that of −1: scores that are not numbers
        # Names of more than a few letters have a line of their own, so that the predicted class is never cut off.
        apart = ("\n→ ", "\n") if max(map(len, names)) > SHORT_NAME else (" → ", ", ")
        captions = [
            f"{names[rows['label'][i]]}{apart[0]}{names[rows['prediction'][i]]}{apart[1]}{rows['confidence'][i]:.2f}"
            for i in worst
        ]
        images = data.images(split, rows["index"][worst])
        title = f"Mistakes on {split}, {len(worst)} of {len(wrong)}"
        shown["mistakes"] = figures.image_grid(images, captions, title=title, columns=5)
    return shown
