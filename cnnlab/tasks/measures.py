"""Metrics of classification by choice: the knob `metrics` takes any of MEASURES, `--metrics=balanced_accuracy,f1,auc,ece`.

Each is a function of the names of the classes, whose keyword arguments are knobs. It returns a Measure: the declarations of its
numbers, and how they follow from what the network made of all examples of a split.

Letters in shapes: N examples, K classes or labels.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Batch
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import metrics_of_counts as of_counts
from cnnlab.ops import metrics_of_scores as of_scores
from cnnlab.ops.attacks import ATTACKS, LogitsOf, noise, pgd
from cnnlab.ops.keys import of_each
from cnnlab.ops.metrics import predicted
from cnnlab.ops.metrics_of_counts import Counts, KappaWeights
from cnnlab.tasks.adversarial import Probe
from cnnlab.values import Choice, Count

LABEL, TAGS = "label", "tags"
"""Columns of the data set: one class of an image, and several labels."""

Average = Literal["macro", "micro", "by_class"]
Averages = tuple[Average, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Scored:
    """What a network made of all examples of a held-out split, in NumPy arrays."""

    truth: np.ndarray
    """The labels i32 [N], or bool [N, K] whether each of several labels applies."""
    predictions: np.ndarray
    """The predicted class i32 [N], −1 where scores are NaN, or bool [N, K]."""
    outputs: np.ndarray
    """The outputs of the network, f32 [N, K]."""
    logarithms: Callable[[np.ndarray], np.ndarray]
    """(outputs f64 [N, K]) -> natural logarithms of the probabilities."""
    probed: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """{name: [N, …]}: the rows of the probes."""

    @property
    def classes(self) -> int:
        """K, the number of classes or labels."""
        return int(self.outputs.shape[1])

    @functools.cached_property
    def log_probabilities(self) -> np.ndarray:
        """Natural logarithms of the probabilities of the classes, or of each label, f64 [N, K]."""
        return self.logarithms(self.outputs.astype(np.float64))

    @functools.cached_property
    def there(self) -> np.ndarray:
        """Whether an example is of a class, or a label applies, bool [N, K]."""
        return self.truth if self.truth.ndim == 2 else self.truth[:, None] == np.arange(self.classes)[None]

    @functools.cached_property
    def counts(self) -> Counts:
        """Numbers of right, predicted and occurring examples by class."""
        if self.truth.ndim == 2:
            return of_counts.counts_of_labels(self.truth, self.predictions)
        return of_counts.counts_of_classes(self.truth, self.predictions, self.classes)

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """Numbers of examples by label and prediction, f64 [K + 1, K + 1]; the first row and column are those of no class."""
        return of_counts.confusion(self.truth, self.predictions, self.classes)


@dataclasses.dataclass(frozen=True)
class Measure:
    """Declares some numbers and computes them of a held-out split."""

    metrics: tuple[Metric, ...]
    """The declaration of every number."""
    compute: Callable[[Scored], Mapping[str, float]]
    """What the network made of the examples -> {name: number}, for every name that is declared."""
    columns: tuple[str, ...] = (LABEL,)
    """What the network may predict: LABEL, TAGS or both."""
    figures: Callable[[Scored, str], dict[str, Any]] = lambda scored, split: {}
    """(what the network made of the examples, split) -> {name: figure}."""
    probe: Probe | None = None
    """What the network makes of other images than those of the split; these numbers are computed at the end of a run alone."""
    probed: tuple[str, ...] = ()
    """Names of the rows of the probe."""


def accuracy(class_names: Sequence[str]) -> Measure:
    """The share of the examples that are right; with several labels of an image, all of them have to be."""

    def compute(scored: Scored) -> dict[str, float]:
        right = scored.predictions == scored.truth  # [N] or [N, K]
        return {"accuracy": float(np.mean(right if right.ndim == 1 else right.all(axis=1)))}

    return Measure((Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),), compute, (LABEL, TAGS))


def top_k(class_names: Sequence[str], *, k: Count = 3) -> Measure:
    """The share of the examples whose label is among the k largest scores. Equal scores go to the smaller class, as in argmax.

    Args:
        k: number of classes that may be named; less than there are.
    """
    if k >= len(class_names):
        raise UsageError(f"--metrics.top_k.k={k} of {len(class_names)} classes is always right. Give a smaller number.")
    name = f"top{k}_accuracy"

    def compute(scored: Scored) -> dict[str, float]:
        scores, labels = scored.outputs, scored.truth
        own = np.take_along_axis(scores, labels[:, None], axis=1)  # [N, K] at [N, 1] -> [N, 1]
        ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1])[None] < labels[:, None]))
        is_right = (np.sum(ahead, axis=1) < k) & ~np.isnan(scores).any(axis=1)
        return {name: float(np.mean(is_right))}

    return Measure((Metric(name, SHARE, higher_is_better=True, is_proportion=True),), compute)


def balanced_accuracy(class_names: Sequence[str]) -> Measure:
    """The mean recall of the classes that occur in the split; where one class alone occurs, its recall."""
    metric = Metric("balanced_accuracy", SHARE, higher_is_better=True)
    return Measure((metric,), lambda scored: {metric.name: of_counts.balanced_accuracy(scored.counts)})


def precision(class_names: Sequence[str], *, average: Averages = ("macro",)) -> Measure:
    """The share of the examples predicted to be of a class that are of it; 0 where a class occurs and is never predicted.

    Args:
        average: macro, the mean over the classes that occur or are predicted; micro, all classes counted together, which for
            one class of each image is the accuracy; by_class, a number for each, NaN for a class that is nowhere.
    """
    return _of_counts("precision", of_counts.precision, average, class_names)


def recall(class_names: Sequence[str], *, average: Averages = ("macro",)) -> Measure:
    """The share of the examples of a class that are predicted to be of it; 0 where it is predicted and does not occur.

    Args:
        average: macro, the mean over the classes that occur or are predicted; micro, all classes counted together, which for
            one class of each image is the accuracy; by_class, a number for each, NaN for a class that is nowhere.
    """
    return _of_counts("recall", of_counts.recall, average, class_names)


def f1(class_names: Sequence[str], *, average: Averages = ("macro",)) -> Measure:
    """The harmonic mean of precision and recall; 0 for a class without a right prediction.

    Args:
        average: macro, the mean over the classes that occur or are predicted; micro, all classes counted together, which for
            one class of each image is the accuracy; by_class, a number for each, NaN for a class that is nowhere.
    """
    return _of_counts("f1", of_counts.f1, average, class_names)


def auc(class_names: Sequence[str], *, average: Averages = ("macro",)) -> Measure:
    """The area under the receiver operating characteristic, one class against the rest; equal scores count one half.

    Args:
        average: macro, the mean over the classes that occur and are not all there is; micro, all pairs of example and class
            together; by_class, a number for each, NaN for a class that is nowhere or everywhere.
    """
    return _of_scores("auc", of_scores.roc_auc, average, class_names)


def average_precision(class_names: Sequence[str], *, average: Averages = ("macro",)) -> Measure:
    """The area under precision by recall, one class against the rest; examples of equal scores are found together.

    Args:
        average: macro, the mean over the classes that occur; micro, all pairs of example and class together; by_class, a number
            for each, NaN for a class that does not occur.
    """
    return _of_scores("average_precision", of_scores.average_precision, average, class_names)


def log_loss(class_names: Sequence[str]) -> Measure:
    """The mean of −log p of the labels, without the smoothing and weights that the training loss may have.

    It is infinite where a label has the probability 0, as the votes of nearest neighbours may give it.
    """
    metric = Metric("log_loss", "nats", higher_is_better=False, log_scale=True)
    return Measure((metric,), lambda scored: {metric.name: of_scores.log_loss(scored.truth, scored.log_probabilities)})


def brier(class_names: Sequence[str]) -> Measure:
    """The mean squared distance of the probabilities from the one-hot label, in [0, 2] for all K (Brier 1950, eq. 2)."""
    metric = Metric("brier", higher_is_better=False, log_scale=True)
    return Measure((metric,), lambda scored: {metric.name: of_scores.brier_score(scored.truth, scored.log_probabilities)})


def ece(class_names: Sequence[str], *, bins: Count = 15) -> Measure:
    """The expected calibration error (Guo et al. 2017, arXiv 1706.04599, eq. 3), with a reliability diagram among the figures.

    The mean distance, over all examples, of the confidence of a prediction from the accuracy of those in its bin of confidence.

    Args:
        bins: number of bins of equal width; bin m of M holds confidences above m / M and up to (m + 1) / M.
    """
    metric = Metric("ece", SHARE, higher_is_better=False)

    def found(scored: Scored) -> of_scores.Bins:
        # [N, K] at [N, 1] -> [N]; where no class is predicted the logarithms are NaN
        own = np.take_along_axis(scored.log_probabilities, np.maximum(scored.predictions, 0)[:, None], axis=1)[:, 0]
        return of_scores.confidence_bins(np.exp(own), scored.predictions == scored.truth, bins)

    def draw(scored: Scored, split: str) -> dict[str, Any]:
        from cnnlab import figures

        shown = dataclasses.astuple(found(scored))
        return {"reliability": figures.reliability_diagram(*shown, title=f"Reliability on {split}")}

    return Measure((metric,), lambda scored: {metric.name: found(scored).calibration_error}, figures=draw)


def kappa(class_names: Sequence[str], *, weights: KappaWeights = "none") -> Measure:
    """Cohen's kappa: agreement of predictions and labels beyond chance; 0 is that of chance, NaN where one class alone occurs.

    Args:
        weights: weight of a confusion of two classes: none, all alike; linear or quadratic, by the distance of their numbers,
            for classes that are grades.
    """
    metric = Metric("kappa", higher_is_better=True)
    return Measure((metric,), lambda scored: {metric.name: of_counts.cohen_kappa(scored.confusion, weights)})


def mcc(class_names: Sequence[str]) -> Measure:
    """Matthews's correlation of predictions and labels for several classes (Gorodkin 2004); 0 where one of them is constant."""
    metric = Metric("mcc", higher_is_better=True)
    return Measure((metric,), lambda scored: {metric.name: of_counts.matthews_correlation(scored.confusion)})


def robust_accuracy(
    class_names: Sequence[str],
    *,
    attack: Choice(ATTACKS, supplied=("epsilon",)) = pgd,
    epsilons: tuple[float, ...] = (0.01, 0.03, 0.1),
) -> Measure:
    """The share of the examples that are right as they are and attacked; beside it the accuracy on noise of the same size.

    They are computed at the end of a run and by `evaluate`, on the split of the results, with a curve over ε among the figures.

    Args:
        attack: the attack, which may change an image by ε.
        epsilons: sizes ε of the change, in pixels of [0, 1]; each has a number, robust_accuracy_0.1 and noise_accuracy_0.1.
    """
    if not epsilons or min(epsilons) < 0 or len(set(epsilons)) < len(epsilons):
        raise UsageError(
            f"--metrics.robust_accuracy.epsilons={','.join(map(str, epsilons))}: expected numbers >= 0, each once, such as "
            "0.01,0.1, in pixels of [0, 1]."
        )
    norm = getattr(attack, "keywords", {}).get("norm", "linf")

    def probe(outputs_of: LogitsOf, images: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        # The key of an example does not depend on its batch.
        keys = of_each(jax.random.key(0), batch["index"])
        labels = batch[LABEL]
        given: tuple[Any, ...] = (outputs_of, images, labels, keys)

        def is_right(pixels: jax.Array) -> jax.Array:
            return predicted(outputs_of(pixels)) == labels

        clean = is_right(images)
        attacked = [clean & is_right(attack(*given, epsilon=epsilon)) for epsilon in epsilons]
        shaken = [is_right(noise(*given, epsilon=epsilon, norm=norm)) for epsilon in epsilons]
        return {"robust": jnp.stack(attacked, axis=1), "right_on_noise": jnp.stack(shaken, axis=1)}  # E of [B] -> [B, E]

    def shares(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
        return scored.probed["robust"].mean(axis=0), scored.probed["right_on_noise"].mean(axis=0)

    def compute(scored: Scored) -> dict[str, float]:
        found = dict(zip(("robust", "noise"), shares(scored), strict=True))
        return {
            f"{kind}_accuracy_{e:g}": float(share) for kind in found for e, share in zip(epsilons, found[kind], strict=True)
        }

    def draw(scored: Scored, split: str) -> dict[str, Any]:
        from cnnlab import figures

        clean = float(np.mean(scored.predictions == scored.truth))
        title, unit = f"Accuracy on attacked images, {split}", "largest change of a pixel" if norm == "linf" else "length"
        return {"robustness": figures.robustness(epsilons, *shares(scored), clean=clean, title=title, unit=unit)}

    names = [f"{kind}_accuracy_{epsilon:g}" for kind in ("robust", "noise") for epsilon in epsilons]
    metrics = tuple(Metric(name, SHARE, higher_is_better=True, is_proportion=True) for name in names)
    return Measure(metrics, compute, figures=draw, probe=probe, probed=("robust", "right_on_noise"))


MEASURES: dict[str, Callable[..., Measure]] = {
    function.__name__: function
    for function in (
        *(accuracy, top_k, balanced_accuracy, precision, recall, f1),
        *(auc, average_precision, log_loss, brier, ece, kappa, mcc, robust_accuracy),
    )
}
"""Metrics by name, for the knob `metrics`."""


def _of_counts(name: str, by_class: Callable[[Counts], np.ndarray], average: Averages, class_names: Sequence[str]) -> Measure:
    """Returns the measure of a number that follows from the counts of each class, f64 [K]."""
    return _averaged(
        name,
        average,
        class_names,
        by_class=lambda scored: by_class(scored.counts),
        micro=lambda scored: float(by_class(scored.counts.together())[0]),
    )


def _of_scores(
    name: str, area: Callable[[np.ndarray, np.ndarray], float], average: Averages, class_names: Sequence[str]
) -> Measure:
    """Returns the measure of a number that follows from the order of the scores of each class."""

    def by_class(scored: Scored) -> np.ndarray:
        pairs = zip(scored.there.T, scored.log_probabilities.T, strict=True)  # K of [N], [N]
        return np.array([area(there, scores) for there, scores in pairs])

    def micro(scored: Scored) -> float:
        return area(scored.there.reshape(-1), scored.log_probabilities.reshape(-1))  # [N, K] -> [N·K]

    return _averaged(name, average, class_names, by_class=by_class, micro=micro)


def _averaged(
    name: str,
    average: Averages,
    class_names: Sequence[str],
    *,
    by_class: Callable[[Scored], np.ndarray],
    micro: Callable[[Scored], float],
) -> Measure:
    """Returns the measure of a number with a value for each class: NAME its mean, NAME_micro, and NAME_CLASS of each.

    Args:
        name: name of the mean.
        average: which of these are wanted.
        class_names: names of the classes.
        by_class: what the network made of the examples -> f64 [K], NaN where a class has no value.
        micro: what the network made of the examples -> the number of all classes together.
    """
    if not average or len(set(average)) < len(average):
        raise UsageError(f"--metrics.{name}.average: give some of macro, micro and by_class, each once.")
    own = [f"{name}_{word}" for word in _words(class_names)]
    names = {"macro": [name], "micro": [f"{name}_micro"], "by_class": own}

    def compute(scored: Scored) -> dict[str, float]:
        values = by_class(scored) if set(average) - {"micro"} else np.zeros(0)
        found = {"macro": lambda: [of_counts.macro(values)], "micro": lambda: [micro(scored)], "by_class": values.tolist}
        return {one: value for kind in average for one, value in zip(names[kind], found[kind](), strict=True)}

    metrics = tuple(Metric(one, SHARE, higher_is_better=True) for kind in average for one in names[kind])
    return Measure(metrics, compute, (LABEL, TAGS))


def _words(class_names: Sequence[str]) -> list[str]:
    """Returns the names of classes as parts of names of metrics, without spaces, slashes and commas; equal ones get numbers."""
    words = ["_".join("".join(" " if letter in "/,=" else letter for letter in name).split()) for name in class_names]
    return [word if words.count(word) == 1 and word else f"{word}_{number}" for number, word in enumerate(words)]
