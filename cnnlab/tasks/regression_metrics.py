"""Statistics, metrics and figures of tasks that predict numbers for each image.

Letters in shapes: B batch, N examples of a split, T numbers of an example.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Stats
from cnnlab.metric import Metric

METRICS = (
    Metric("r2", higher_is_better=True),
    Metric("mean_absolute_error", higher_is_better=False, log_scale=True),
    Metric("loss", higher_is_better=False, log_scale=True),
)
"""The metrics that `summary` gives. `r2` is the mean over the numbers of 1 − Σ (y − ŷ)² / Σ (y − mean of y)²: 0 is as good as
the mean of the split; a number that does not vary counts for nothing. The error is in the unit of the data, a mean of all T."""
WORST = 25
"""Number of images that are shown, those of the largest error first."""


def _error(outputs: Array, targets: Array) -> Array:
    """Returns the mean absolute error of each example, f32 [B]."""
    return jnp.mean(jnp.abs(outputs - targets), axis=1)


def sums(outputs: Array, losses: Array, batch: Batch, *, column: str = "target") -> dict[str, Array]:
    """Returns sums over the examples, `loss`, `error` and `count`, f32 []; outputs and column f32 [B, T], losses f32 [B]."""
    real = batch["mask"]
    kept = {"loss": losses, "error": _error(outputs, batch[column])}
    added = {name: jnp.sum(jnp.where(real, values, 0.0)) for name, values in kept.items()}
    return {**added, "count": jnp.sum(real.astype(jnp.float32))}


def measure(outputs: Array, losses: Array, batch: Batch, *, column: str = "target") -> Stats:
    """Returns the statistics of a held-out batch; outputs and the column f32 [B, T], losses f32 [B]."""
    rows = {
        "index": batch["index"],
        "target": batch[column],
        "prediction": outputs,
        "error": _error(outputs, batch[column]),
        "loss": losses,
        "mask": batch["mask"],
    }
    return {"sums": sums(outputs, losses, batch, column=column), "rows": rows}


def summary(stats: Stats) -> dict[str, float]:
    """Returns `loss`, `mean_absolute_error` and, of a held-out split, `r2`."""
    rows = stats["rows"]
    if not rows:
        count = max(float(stats["sums"]["count"]), 1.0)
        return {"loss": float(stats["sums"]["loss"]) / count, "mean_absolute_error": float(stats["sums"]["error"]) / count}
    means = {
        name: float(np.mean(rows[key], dtype=np.float64)) for name, key in (("loss", "loss"), ("mean_absolute_error", "error"))
    }
    return {**means, "r2": explained(rows["prediction"], rows["target"])}


def explained(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Returns the mean over the numbers that vary of their share of explained variance; NaN where none does.

    Args:
        predictions: f32 [N, T].
        targets: f32 [N, T].
    """
    targets = targets.astype(np.float64)
    residual = np.sum((targets - predictions) ** 2, axis=0)
    total = np.sum((targets - targets.mean(axis=0)) ** 2, axis=0)
    varies = total > 0
    return float(np.mean(1 - residual[varies] / total[varies])) if varies.any() else float("nan")


def draw_figures(stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the figure `largest_errors`: images with the first of their numbers and its prediction."""
    from cnnlab import figures

    rows = stats["rows"]
    if not rows:
        return {}
    worst = np.argsort(-rows["error"], kind="stable")[:WORST]
    captions = [f"{rows['target'][row][0]:.3g}\n→ {rows['prediction'][row][0]:.3g}" for row in worst]
    name = figures.class_labels(data.class_names)[0]
    title = f"Largest errors on {split}: {name} and its prediction"
    return {"largest_errors": figures.image_grid(data.images(split, rows["index"][worst]), captions, title=title, columns=5)}
