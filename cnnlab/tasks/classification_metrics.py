"""What every task with one label for each image measures, sums up and shows."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnlab.core import SHARE, Array, Batch, Dataset, Metric, Stats
from cnnlab.ops.metrics import confusion_counts, top_correct

TOP = 5
"""Top-5 accuracy is measured where there are more classes than that."""

METRICS = (
    Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("loss", higher_is_better=False, log_scale=True),
    Metric("top5_accuracy", SHARE, higher_is_better=True, is_proportion=True),
)
"""What `summary` gives. The unit of the loss is that of the task: nats of a cross-entropy, none of a hinge."""

MISTAKES = 25
"""How many mistakes are shown, the most confident first."""


def sums(scores: Array, losses: Array, batch: Batch) -> dict[str, Array]:
    """Sums over the real examples: `loss`, `correct` and `count`, f32 []; scores f32 [B, K], losses f32 [B]."""
    real = batch["mask"].astype(jnp.float32)
    correct = (jnp.argmax(scores, axis=1) == batch["label"]).astype(jnp.float32)
    return {"loss": jnp.sum(jnp.where(batch["mask"], losses, 0.0)), "correct": jnp.sum(correct * real), "count": jnp.sum(real)}


def measure(scores: Array, probabilities: Array, losses: Array, batch: Batch) -> Stats:
    """Statistics of a held-out batch from scores f32 [B, K] (the largest is predicted), probabilities and losses f32 [B]."""
    prediction = jnp.argmax(scores, axis=1).astype(jnp.int32)
    rows = {
        "index": batch["index"],
        "label": batch["label"],
        "prediction": prediction,
        "confidence": jnp.take_along_axis(probabilities, prediction[:, None], axis=1)[:, 0],
        "loss": losses,
        "mask": batch["mask"],
    }
    if scores.shape[1] > TOP:
        rows["top5"] = top_correct(scores, batch["label"], TOP)
    return {"sums": sums(scores, losses, batch), "rows": rows}


def summary(stats: Stats) -> dict[str, float]:
    """`loss`, `accuracy` and, where measured, `top5_accuracy`: means in f64 of the rows, else of the sums of training."""
    rows = stats["rows"]
    if not rows:
        count = max(float(stats["sums"]["count"]), 1.0)
        return {"loss": float(stats["sums"]["loss"]) / count, "accuracy": float(stats["sums"]["correct"]) / count}
    numbers = {"loss": rows["loss"], "accuracy": rows["prediction"] == rows["label"]}
    if "top5" in rows:
        numbers["top5_accuracy"] = rows["top5"]
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in numbers.items()}


def draw_figures(stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """`confusion_matrix` and, where there are any, the most confident `mistakes` of a split: {name: matplotlib figure}."""
    from cnnlab import figures

    rows = stats["rows"]
    if not rows:
        return {}
    counts = confusion_counts(rows["label"], rows["prediction"], data.classes)
    shown = {"confusion_matrix": figures.confusion_matrix(counts, data.class_names)}
    wrong = np.flatnonzero(rows["prediction"] != rows["label"])
    worst = wrong[np.argsort(-rows["confidence"][wrong], kind="stable")][:MISTAKES]
    if len(worst):
        captions = [
            f"{data.class_names[rows['label'][i]]} → {data.class_names[rows['prediction'][i]]}, {rows['confidence'][i]:.2f}"
            for i in worst
        ]
        images = data.images(split, rows["index"][worst])
        title = f"Mistakes on {split}, {len(worst)} of {len(wrong)}"
        shown["mistakes"] = figures.image_grid(images, captions, title=title, columns=5)
    return shown
