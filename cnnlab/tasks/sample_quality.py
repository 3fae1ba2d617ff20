"""What drawn images are judged by: the features of a classifier that was trained here, or plain pixels where there is none.

A generative task calls `judged` in its `measure`, puts what comes back into its rows, and `numbers` in its `summary`:

    def measure(params, model_state, batch):
        keys = drawing_keys(batch)
        rows = judged(judge, batch["image"], sampler.draw(params, model_state, keys, batch["label"], jnp.float32(1)))
        return {"sums": …, "rows": {**rows, "mask": batch["mask"]}}

    def summary(stats):
        return {…, **numbers(judge, stats["rows"])}

The features are kept by row, as f32, and summed up on the host in f64: the Fréchet distance subtracts large numbers, and
neighbours and two-sample tests need the examples themselves.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import SHARE, Array, Batch, Metric
from cnnlab.ops.frechet import frechet, moments
from cnnlab.ops.keys import stream
from cnnlab.ops.sample_metrics import (
    classes_hit,
    classifier_score,
    laplacian_energy,
    precision_recall,
    two_sample_accuracy,
)

MOST_COMPARED = 2000
"""Examples of either set that are compared with one another: k nearest neighbours take time in their square."""
MOST_PROJECTED = 64
"""Features that pixels are projected to."""
NUMBERS: tuple[tuple[str, str, bool | None], ...] = (
    ("frechet", "", False),
    ("precision", SHARE, True),
    ("recall", SHARE, True),
    ("two_sample", SHARE, None),
    ("score", "", True),
    ("classes", "", True),
    ("entropy", "nats", True),
    ("good", SHARE, True),
)
"""(name, unit, whether more is better) of what an evaluator measures; a two-sample accuracy is best at one half."""
SCALAR_ROWS = ("real_detail", "drawn_detail", "drawn_probabilities", "drawn_good")
"""Rows of `evaluation_rows` that a run keeps: all but the two matrices of features."""


@dataclasses.dataclass(frozen=True)
class SampleEvaluator:
    """A frozen function of images, by whose features and classes sets of images are compared."""

    name: str
    """What its numbers begin with: `judge` of a classifier, `pixels`."""
    look: Callable[[Array], tuple[Array | None, Array]]
    """images f32 [B, H, W, C] in [0, 1] -> (logits f32 [B, K] or None, features f32 [B, F])."""
    classes: int = 0
    """K; 0 where there are no logits."""
    is_good: Callable[[Array], Array] | None = None
    """images -> bool [B]: which could be real ones, where that can be said; only these count for classes."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The declarations of what `sample_metrics` gives; the first, the Fréchet distance, may rank checkpoints."""
        own = [Metric(f"{self.name}_{name}", unit, higher) for name, unit, higher in NUMBERS]
        return (*own, Metric("sharpness"))


def pixel_evaluator() -> SampleEvaluator:
    """Where no classifier is at hand: features are the pixels, projected at random to 64 numbers where they are more.

    The projection is the same in every run (Gaussian, its columns scaled to keep lengths on average), so that numbers of the
    same data set are comparable; they tell little of what a person sees.
    """

    def look(images: Array) -> tuple[None, Array]:
        flat = images.reshape(images.shape[0], -1)
        if flat.shape[1] <= MOST_PROJECTED:
            return None, flat
        return None, flat @ jnp.asarray(_projection(flat.shape[1]), flat.dtype)

    return SampleEvaluator("pixels", look)


def mixture_evaluator(points: np.ndarray, labels: np.ndarray) -> SampleEvaluator:
    """Evaluates points drawn from round clouds, as images f32 [N, H, W, C] of which labels i32 [N] tell the cloud.

    A drawn point is good within three standard deviations of a cloud's centre (Metz et al. 2017, arXiv 1611.02163, and
    Srivastava et al. 2017, arXiv 1705.07761, section 4.1, count modes and quality so); its class is the nearest.
    """
    flat = points.reshape(len(points), -1).astype(np.float64)
    numbers = np.unique(labels)
    centres = np.stack([flat[labels == number].mean(axis=0) for number in numbers])
    variance = float(np.mean((flat - centres[np.searchsorted(numbers, labels)]) ** 2))

    def squared(images: Array) -> Array:
        """f32 [B, K]: squared distances from the centres."""
        apart = images.reshape(images.shape[0], 1, -1) - jnp.asarray(centres, images.dtype)[None]  # [B, K, D]
        return jnp.sum(apart * apart, axis=-1)

    def look(images: Array) -> tuple[Array, Array]:
        return -squared(images) / (2.0 * max(variance, 1e-12)), images.reshape(images.shape[0], -1)

    def is_good(images: Array) -> Array:
        return jnp.min(squared(images), axis=1) <= 9.0 * variance

    return SampleEvaluator("modes", look, len(numbers), is_good)


@functools.cache
def _projection(size: int) -> np.ndarray:
    """f32 [size, MOST_PROJECTED], the same on every machine."""
    drawn = np.random.Generator(np.random.Philox(0)).standard_normal((size, MOST_PROJECTED))
    return (drawn / np.sqrt(MOST_PROJECTED)).astype(np.float32)


def drawing_keys(batch: Batch, name: str = "judged") -> Array:
    """key [B]: one for each held-out example, by its index, in a stream of its own: measuring is a pure function."""
    key = stream(jax.random.key(0), name)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, batch["index"])


def evaluation_rows(judge: SampleEvaluator, real: Array, drawn: Array) -> dict[str, Array]:
    """Rows for `numbers`: what the judge sees of images real and drawn, both f32 [B, H, W, C] in [0, 1]."""
    logits, features = judge.look(drawn)
    rows = {"real_features": judge.look(real)[1].astype(jnp.float32), "drawn_features": features.astype(jnp.float32)}
    rows |= {"real_detail": laplacian_energy(real), "drawn_detail": laplacian_energy(drawn)}
    if logits is not None:
        rows["drawn_probabilities"] = jax.nn.softmax(logits.astype(jnp.float32), axis=1)
    if judge.is_good is not None:
        rows["drawn_good"] = judge.is_good(drawn)
    return rows


def sample_metrics(judge: SampleEvaluator, rows: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of the rows of a split, padding gone; {} where there are none, as in training.

    NAME is that of the judge: `NAME_frechet` (Fréchet distance of the features), `NAME_precision` and `NAME_recall` (by 3
    nearest neighbours), `NAME_two_sample` (accuracy of a classifier that tells drawn from real: ½ is best), and of a
    classifier `NAME_score` (as the Inception score: K is best), `NAME_classes` (how many it finds among the drawn) and
    `NAME_entropy` (of the classes it finds, in nats: ln K is even). `NAME_good` is the share that could be real.
    `sharpness`, whoever judges, is the Laplacian energy of the drawn over that of the real: 1 is as sharp as these.
    """
    if "drawn_features" not in rows:
        return {}
    rows = {name: np.asarray(values) for name, values in rows.items()}
    real, drawn = rows["real_features"], rows["drawn_features"]
    few = real[:MOST_COMPARED], drawn[:MOST_COMPARED]
    precision, recall = precision_recall(*few)
    found = {
        "frechet": frechet(moments(real), moments(drawn)),
        "precision": precision,
        "recall": recall,
        "two_sample": two_sample_accuracy(*few)[0],
    }
    if "drawn_probabilities" in rows:
        count, entropy = classes_hit(rows["drawn_probabilities"], rows.get("drawn_good"))
        found |= {"score": classifier_score(rows["drawn_probabilities"]), "classes": float(count), "entropy": entropy}
    if "drawn_good" in rows:
        found["good"] = float(np.mean(rows["drawn_good"]))
    numbers = {f"{judge.name}_{name}": value for name, value in found.items()}
    real_detail = float(np.mean(rows["real_detail"], dtype=np.float64))
    if real_detail > 0:
        numbers["sharpness"] = float(np.mean(rows["drawn_detail"], dtype=np.float64)) / real_detail
    return numbers
