"""Statistics, metrics and figures of tasks with several labels for each image, any number of which apply.

Letters in shapes: B batch, N examples of a split, K labels.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Stats
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.metrics_of_counts import macro
from cnnlab.ops.metrics_of_scores import average_precision

METRICS = (
    Metric("mean_average_precision", SHARE, higher_is_better=True),
    Metric("label_accuracy", SHARE, higher_is_better=True),
    Metric("loss", higher_is_better=False, log_scale=True),
)
"""The metrics that `summary` gives: the mean over the labels of the average precision (the area under precision by recall), and
the share of all labels of all images that are right at a probability of one half."""
KEPT_ROWS = ("index", "tags", "probabilities", "right", "loss")
"""Names of the rows of `measure` that a run keeps of the test split."""
WORST = 25
"""Number of images that are shown, those of the largest loss first."""


def _right(scores: Array, tags: Array) -> Array:
    """Returns for each example the share of its labels that are right, f32 [B]; 0 where a score is NaN."""
    return jnp.mean(((scores > 0) == (tags > 0.5)) & ~jnp.isnan(scores), axis=1, dtype=jnp.float32)


def sums(scores: Array, losses: Array, batch: Batch) -> dict[str, Array]:
    """Returns sums over the real examples: `loss`, `right` and `count`, f32 []; scores f32 [B, K], losses f32 [B]."""
    real = batch["mask"].astype(jnp.float32)
    right = jnp.sum(_right(scores, batch["tags"]) * real)
    return {"loss": jnp.sum(jnp.where(batch["mask"], losses, 0.0)), "right": right, "count": jnp.sum(real)}


def measure(scores: Array, losses: Array, batch: Batch) -> Stats:
    """Returns the statistics of a held-out batch; scores f32 [B, K], losses f32 [B]."""
    rows = {
        "index": batch["index"],
        "tags": batch["tags"],
        "probabilities": jax.nn.sigmoid(scores),
        "right": _right(scores, batch["tags"]),
        "loss": losses,
        "mask": batch["mask"],
    }
    return {"sums": sums(scores, losses, batch), "rows": rows}


def summary(stats: Stats) -> dict[str, float]:
    """Returns `loss`, `label_accuracy` and, of a held-out split, `mean_average_precision`."""
    rows = stats["rows"]
    if not rows:
        count = max(float(stats["sums"]["count"]), 1.0)
        return {"loss": float(stats["sums"]["loss"]) / count, "label_accuracy": float(stats["sums"]["right"]) / count}
    means = {name: float(np.mean(rows[key], dtype=np.float64)) for name, key in (("loss", "loss"), ("label_accuracy", "right"))}
    return {**means, "mean_average_precision": mean_average_precision(rows["probabilities"], rows["tags"])}


def mean_average_precision(probabilities: np.ndarray, tags: np.ndarray) -> float:
    """Returns the mean average precision over the labels that apply to an image at all; NaN where a probability is NaN.

    Args:
        probabilities: f32 [N, K].
        tags: whether each label applies, 0 or 1, f32 [N, K].
    """
    if np.isnan(probabilities).any():
        return float("nan")
    return macro(np.array([average_precision(*pair) for pair in zip(tags.T > 0.5, probabilities.T, strict=True)]))


def draw_figures(stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the figure `mistakes`: the images of the largest loss, with the labels that are missed and those too many."""
    from cnnlab import figures

    rows = stats["rows"]
    wrong = np.flatnonzero(rows["right"] < 1) if rows else np.zeros(0, np.int64)
    worst = wrong[np.argsort(-rows["loss"][wrong], kind="stable")][:WORST] if len(wrong) else wrong
    if not len(worst):
        return {}
    names = figures.class_labels(data.class_names)
    captions = []
    for row in worst:
        there, said = rows["tags"][row] > 0.5, rows["probabilities"][row] > 0.5
        missed = [f"−{names[label]}" for label in np.flatnonzero(there & ~said)]
        extra = [f"+{names[label]}" for label in np.flatnonzero(said & ~there)]
        captions.append("\n".join([*missed, *extra][:2]))
    title = f"Largest losses on {split}: labels missed (−) and too many (+)"
    return {"mistakes": figures.image_grid(data.images(split, rows["index"][worst]), captions, title=title, columns=5)}
