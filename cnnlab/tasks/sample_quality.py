"""Evaluation of generated images by the features of a classifier that was trained here, or by pixels where there is none.

A generative task puts `evaluation_rows` among the rows of its `measure`, and `sample_metrics` into its `summary`:

    def measure(params, model_state, batch):
        keys = sampling_keys(batch)
        samples = sampler.draw(params, model_state, keys, batch["label"], jnp.float32(1))
        return {"sums": …, "rows": {**evaluation_rows(evaluator, batch["image"], samples), "mask": batch["mask"]}}

    def summary(stats):
        return {…, **sample_metrics(evaluator, stats["rows"])}

The features are kept by row, as f32, and reduced on the host in f64: the Fréchet distance subtracts large numbers, and
neighbours and two-sample tests need the examples themselves.

Letters in shapes: B batch, N points, H W space, C channels, K classes, F features, D values of a point.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.frechet import frechet, moments
from cnnlab.ops.keys import of_each, stream
from cnnlab.ops.sample_metrics import (
    classes_hit,
    classifier_score,
    laplacian_energy,
    precision_recall,
    two_sample_accuracy,
)

MOST_COMPARED = 2000
"""Largest number of examples of either set that are compared: the time of k nearest neighbours grows with its square."""
MOST_PROJECTED = 64
"""Largest number of features that pixels are projected to."""
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
"""(name, unit, whether higher is better) of the metrics of an evaluator; a two-sample accuracy is best at one half."""
SCALAR_ROWS = ("real_detail", "drawn_detail", "drawn_probabilities", "drawn_good")
"""Names of the rows of `evaluation_rows` that a run keeps: all but the two matrices of features."""


@dataclasses.dataclass(frozen=True)
class SampleEvaluator:
    """A frozen function of images, by whose features and classes sets of images are compared."""

    name: str
    """Prefix of the names of its metrics: `judge` for a classifier, `pixels`."""
    features: Callable[[Array], tuple[Array | None, Array]]
    """images f32 [B, H, W, C] in [0, 1] -> (logits f32 [B, K] or None, features f32 [B, F])."""
    classes: int = 0
    """K; 0 where there are no logits."""
    is_good: Callable[[Array], Array] | None = None
    """images -> bool [B]: whether each could be a real one; only those count for classes. None: that cannot be decided."""

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The declarations of what `sample_metrics` gives; the Fréchet distance comes first and may rank checkpoints."""
        own = [Metric(f"{self.name}_{name}", unit, higher) for name, unit, higher in NUMBERS]
        return (*own, Metric("sharpness"), Metric("sharpness_gap", higher_is_better=False))


def pixel_evaluator() -> SampleEvaluator:
    """Returns the evaluator that needs no classifier: features are the pixels, projected at random to 64 where they are more.

    The projection is the same in every run (Gaussian, its columns scaled to keep lengths on average), so that numbers of the
    same data set are comparable; they say little about what a person perceives.
    """

    def features(images: Array) -> tuple[None, Array]:
        flat = images.reshape(images.shape[0], -1)  # [B, H, W, C] -> [B, H·W·C]
        if flat.shape[1] <= MOST_PROJECTED:
            return None, flat
        return None, flat @ jnp.asarray(_projection(flat.shape[1]), flat.dtype)  # [B, H·W·C] -> [B, F]

    return SampleEvaluator("pixels", features)


def mixture_evaluator(points: np.ndarray, labels: np.ndarray) -> SampleEvaluator:
    """Returns the evaluator of points that are sampled from a mixture of isotropic Gaussians.

    A sample is good within three standard deviations of a component's centre (Metz et al. 2017, arXiv 1611.02163, and
    Srivastava et al. 2017, arXiv 1705.07761, section 4.1, count modes and quality so); its class is the nearest component.

    Args:
        points: real points, as images f32 [N, H, W, C].
        labels: the component of each, i32 [N].
    """
    flat = points.reshape(len(points), -1).astype(np.float64)  # [N, H, W, C] -> [N, D]
    numbers = np.unique(labels)
    centres = np.stack([flat[labels == number].mean(axis=0) for number in numbers])  # K of [D] -> [K, D]
    variance = float(np.mean((flat - centres[np.searchsorted(numbers, labels)]) ** 2))  # [K, D] at [N] -> [N, D]

    def squared(images: Array) -> Array:
        """Returns the squared distances from the centres, f32 [B, K]."""
        # [B, H, W, C] -> [B, 1, D], minus [1, K, D] -> [B, K, D]
        difference = images.reshape(images.shape[0], 1, -1) - jnp.asarray(centres, images.dtype)[None]
        return jnp.sum(difference * difference, axis=-1)

    def features(images: Array) -> tuple[Array, Array]:
        # Logits up to a constant: the log density under each component. Features: [B, H, W, C] -> [B, D]
        return -squared(images) / (2.0 * max(variance, 1e-12)), images.reshape(images.shape[0], -1)

    def is_good(images: Array) -> Array:
        return jnp.min(squared(images), axis=1) <= 9.0 * variance

    return SampleEvaluator("modes", features, len(numbers), is_good)


@functools.cache
def _projection(size: int) -> np.ndarray:
    """Returns the random projection f32 [size, MOST_PROJECTED], the same on every machine."""
    normal = np.random.Generator(np.random.Philox(0)).standard_normal((size, MOST_PROJECTED))
    return (normal / np.sqrt(MOST_PROJECTED)).astype(np.float32)


def sampling_keys(batch: Batch, name: str = "judged") -> Array:
    """Returns a key for each held-out example, by its index, in the stream `name`: measuring is a pure function. Key [B]."""
    key = stream(jax.random.key(0), name)
    return of_each(key, batch["index"])


def evaluation_rows(evaluator: SampleEvaluator, real: Array, generated: Array) -> dict[str, Array]:
    """Returns the rows that `sample_metrics` reads, of images real and generated, both f32 [B, H, W, C] in [0, 1]."""
    logits, features = evaluator.features(generated)
    rows = {"real_features": evaluator.features(real)[1].astype(jnp.float32), "drawn_features": features.astype(jnp.float32)}
    rows |= {"real_detail": laplacian_energy(real), "drawn_detail": laplacian_energy(generated)}
    if logits is not None:
        rows["drawn_probabilities"] = jax.nn.softmax(logits.astype(jnp.float32), axis=1)
    if evaluator.is_good is not None:
        rows["drawn_good"] = evaluator.is_good(generated)
    return rows


def sample_metrics(evaluator: SampleEvaluator, rows: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics of the rows of a split, without padding; {} where there are no such rows, as in training.

    NAME is that of the evaluator: `NAME_frechet` (Fréchet distance of the features), `NAME_precision` and `NAME_recall` (by 3
    nearest neighbours), `NAME_two_sample` (accuracy of a classifier that separates generated from real images: ½ is best). A
    classifier adds `NAME_score` (as the Inception score: K is best), `NAME_classes` (how many classes it finds among generated
    images) and `NAME_entropy` (of these classes, in nats: ln K is even). `NAME_good` is the share that could be real.
    `sharpness` is the Laplacian energy of the generated images over that of the real ones: 1 is as sharp as these.
    `sharpness_gap` is the magnitude of its natural logarithm: 0 is as sharp, and blur and noise both raise it.
    """
    if "drawn_features" not in rows:
        return {}
    rows = {name: np.asarray(values) for name, values in rows.items()}
    real, generated = rows["real_features"], rows["drawn_features"]
    # What compares all pairs takes the first examples alone.
    few = real[:MOST_COMPARED], generated[:MOST_COMPARED]
    precision, recall = precision_recall(*few)
    found = {
        "frechet": frechet(moments(real), moments(generated)),
        "precision": precision,
        "recall": recall,
        "two_sample": two_sample_accuracy(*few)[0],
    }
    if "drawn_probabilities" in rows:
        count, entropy = classes_hit(rows["drawn_probabilities"], rows.get("drawn_good"))
        found |= {"score": classifier_score(rows["drawn_probabilities"]), "classes": float(count), "entropy": entropy}
    if "drawn_good" in rows:
        found["good"] = float(np.mean(rows["drawn_good"]))
    numbers = {f"{evaluator.name}_{name}": value for name, value in found.items()}
    real_detail = float(np.mean(rows["real_detail"], dtype=np.float64))
    if real_detail > 0:
        numbers["sharpness"] = float(np.mean(rows["drawn_detail"], dtype=np.float64)) / real_detail
        # Images without any detail have a gap of 28, not an infinite one.
        numbers["sharpness_gap"] = abs(math.log(max(numbers["sharpness"], 1e-12)))
    return numbers
