"""Metrics of choice: each against scikit-learn or its definition to 1e-9, its edges, and the knobs `metrics` and `headline`."""

import functools
import json
import pathlib
import re
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as reference

from cnnlab import knobs
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.ops import metrics_of_counts as of_counts
from cnnlab.ops import metrics_of_scores as of_scores
from cnnlab.recipes.classification import classification
from cnnlab.tasks import ensemble, knn
from cnnlab.tasks.chosen_metrics import with_metrics
from cnnlab.tasks.goals import CLASS, NUMBERS, TAGS, log_sigmoid, log_softmax
from cnnlab.tasks.measures import MEASURES, Measure, Scored

NAMES = ("cat", "dog", "a bird", "fish", "owl", "rat")
WORDS = ("cat", "dog", "a_bird", "fish", "owl", "rat")
K, N = len(NAMES), 300
draw = np.random.default_rng(0)
LABELS = draw.integers(0, K, N).astype(np.int32)
LOGITS = (draw.normal(size=(N, K)) + 1.5 * np.eye(K)[LABELS]).astype(np.float32).round(1)  # rounded: there are ties
TAGGED = draw.random((N, K)) < np.array([0.5, 0.3, 0.2, 0.1, 0.4, 0.2])
NEAR = {"rel": 1e-9, "abs": 1e-9}


def scored(labels: np.ndarray, logits: np.ndarray, logarithms=log_softmax) -> Scored:
    predictions = np.where(np.isnan(logits).any(axis=1), -1, np.argmax(logits, axis=1)).astype(np.int32)
    return Scored(labels, logits > 0 if labels.ndim == 2 else predictions, logits, logarithms)


ALL = scored(LABELS, LOGITS)
TAGS_SCORED = scored(TAGGED, LOGITS, log_sigmoid)
EVERY = ("macro", "micro", "by_class")


def numbers(name: str, found: Scored = ALL, names=NAMES, **how) -> dict[str, float]:
    measure = MEASURES[name](names, **how)
    computed = measure.compute(found)
    assert list(computed) == [metric.name for metric in measure.metrics]
    return dict(computed)


def probabilities(logits: np.ndarray = LOGITS) -> np.ndarray:
    scores = np.exp(logits.astype(np.float64))
    return scores / scores.sum(axis=1, keepdims=True)


def by_average(function, *arguments, **how) -> list[float]:
    """[macro, micro, one of each class] of a function of scikit-learn."""
    found = [function(*arguments, average=average, **how) for average in ("macro", "micro", None)]
    return [*found[:2], *found[2]]


def test_metrics_of_predicted_classes_are_those_of_scikit_learn():
    predictions = ALL.predictions
    for name in ("precision", "recall", "f1"):
        function = getattr(reference, f"{name}_score")
        found = numbers(name, average=EVERY)
        assert list(found) == [name, f"{name}_micro", *(f"{name}_{word}" for word in WORDS)]
        assert list(found.values()) == pytest.approx(by_average(function, LABELS, predictions), **NEAR)
        found = numbers(name, TAGS_SCORED, average=EVERY)
        assert list(found.values()) == pytest.approx(by_average(function, TAGGED, LOGITS > 0), **NEAR)
    assert numbers("accuracy")["accuracy"] == pytest.approx(reference.accuracy_score(LABELS, predictions), **NEAR)
    assert numbers("accuracy", TAGS_SCORED)["accuracy"] == reference.accuracy_score(TAGGED, LOGITS > 0)
    expected = reference.balanced_accuracy_score(LABELS, predictions)
    assert numbers("balanced_accuracy") == {"balanced_accuracy": pytest.approx(expected, **NEAR)}
    assert numbers("mcc")["mcc"] == pytest.approx(reference.matthews_corrcoef(LABELS, predictions), **NEAR)
    for weights in ("none", "linear", "quadratic"):
        expected = reference.cohen_kappa_score(LABELS, predictions, weights=None if weights == "none" else weights)
        assert numbers("kappa", weights=weights)["kappa"] == pytest.approx(expected, **NEAR)


def test_metrics_of_scores_are_those_of_scikit_learn_with_ties():
    p, one_hot = probabilities(), np.eye(K)[LABELS]
    assert len(np.unique(LOGITS[:, 0])) < N / 2
    for found, truth, scores in ((ALL, one_hot, p), (TAGS_SCORED, TAGGED, LOGITS)):
        for name, function in (("auc", reference.roc_auc_score), ("average_precision", reference.average_precision_score)):
            assert list(numbers(name, found, average=EVERY).values()) == pytest.approx(
                by_average(function, truth, scores), **NEAR
            )
    whole = reference.roc_auc_score(LABELS, p, multi_class="ovr")
    assert numbers("auc")["auc"] == pytest.approx(whole, **NEAR)
    assert numbers("log_loss")["log_loss"] == pytest.approx(reference.log_loss(LABELS, p), **NEAR)
    expected = reference.brier_score_loss(LABELS, p, scale_by_half=False, labels=range(K))
    assert numbers("brier")["brier"] == pytest.approx(expected, **NEAR)
    apart = draw.permuted(np.tile(np.arange(K, dtype=np.float32), (N, 1)), axis=1)  # without ties, which go another way there
    for k in (1, 3, 5):
        expected = reference.top_k_accuracy_score(LABELS, apart, k=k, labels=range(K))
        assert numbers("top_k", scored(LABELS, apart), k=k) == {f"top{k}_accuracy": pytest.approx(expected, **NEAR)}
    assert numbers("top_k", scored(LABELS, 0 * LOGITS), k=2)["top2_accuracy"] == np.mean(LABELS < 2)  # ties: the smaller class


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_calibration_error_is_that_of_its_definition(bins: int):
    p = probabilities()
    confidence, right, expected = p.max(axis=1), p.argmax(axis=1) == LABELS, 0.0
    for number in range(bins):  # Guo et al. 2017, equation 3
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert numbers("ece", bins=bins)["ece"] == pytest.approx(expected, **NEAR)


def test_a_confidence_on_an_edge_is_in_the_bin_below_and_empty_bins_count_nothing():
    bins = of_scores.confidence_bins(np.array([0.0, 0.25, 0.5, 0.51, 1.0]), np.array([1, 1, 0, 1, 1], bool), 4)
    assert bins.counts.tolist() == [2, 1, 1, 1]
    assert bins.calibration_error == pytest.approx((2 * (1 - 0.125) + 0.5 + 0.49 + 0.0) / 5)
    alone = of_scores.confidence_bins(np.array([0.9]), np.array([True]), 10)
    assert alone.calibration_error == pytest.approx(0.1) and np.isnan(alone.accuracy[:8]).all()


def test_classes_that_are_nowhere_are_left_out_of_means():
    """Class 3 does not occur and is never predicted; class 4 occurs and is never predicted; class 5 is predicted alone."""
    labels, predictions = np.array([0, 0, 1, 2, 4, 4], np.int32), np.array([0, 1, 1, 2, 5, 0], np.int32)
    counts = of_counts.counts_of_classes(labels, predictions, K)
    for name, function in (("precision", of_counts.precision), ("recall", of_counts.recall), ("f1", of_counts.f1)):
        values = function(counts)
        assert np.flatnonzero(np.isnan(values)).tolist() == [3] and values[4] == values[5] == 0
        expected = getattr(reference, f"{name}_score")(labels, predictions, average="macro", zero_division=0)
        assert of_counts.macro(values) == pytest.approx(expected, **NEAR)
    assert of_counts.balanced_accuracy(counts) == pytest.approx((0.5 + 1 + 1 + 0) / 4)  # of the classes that occur
    few = scored(np.zeros(3, np.int32), np.eye(3, K, dtype=np.float32))
    found = {**numbers("auc", few, average=EVERY), **numbers("average_precision", few, average=EVERY)}
    undefined = {name for name, value in found.items() if np.isnan(value)}
    assert undefined == {
        "auc",
        "auc_cat",
        *(f"auc_{word}" for word in WORDS[1:]),
        *(f"average_precision_{word}" for word in WORDS[1:]),
    }
    assert found["average_precision"] == found["average_precision_cat"] == 1.0


def test_one_class_alone_has_a_defined_value_or_none():
    labels, alone = np.array([0, 0, 1, 2], np.int32), np.zeros(4, np.int32)
    for predictions, truth, kappa in ((alone, labels, 0.0), (labels, alone, 0.0), (alone, alone, np.nan)):
        matrix = of_counts.confusion(truth, predictions, 3)
        assert of_counts.matthews_correlation(matrix) == 0.0
        np.testing.assert_equal(of_counts.cohen_kappa(matrix), kappa)
    assert of_counts.balanced_accuracy(of_counts.counts_of_classes(alone, labels, 3)) == 0.5
    assert np.isnan(of_counts.macro(np.array([np.nan])))


def test_scores_that_are_not_numbers_are_wrong_and_leave_no_other_number():
    logits = LOGITS.copy()
    logits[0] = np.nan
    found = scored(LABELS, logits)
    right = np.sum(ALL.predictions[1:] == LABELS[1:])
    assert (
        numbers("accuracy", found)["accuracy"] == right / N
        and numbers("recall", found, average=("micro",))["recall_micro"] == right / N
    )
    assert numbers("precision", found, average=("micro",))["precision_micro"] == right / (N - 1)
    assert found.confusion.sum() == N and found.confusion[:, 0].sum() == 1
    with warnings.catch_warnings(action="ignore"):
        assert all(np.isnan(numbers(name, found)[name]) for name in ("auc", "average_precision", "log_loss", "brier", "ece"))


def test_logarithms_stay_exact_where_a_probability_is_nearly_one():
    scores = np.array([[30.0, -10.0, 0.0], [800.0, 0.0, -800.0]])
    expected = [[-np.exp(-30.0) - np.exp(-40.0), -40.0, -30.0], [0.0, -800.0, -1600.0]]
    np.testing.assert_allclose(log_softmax(scores), expected, rtol=1e-12)
    np.testing.assert_allclose(log_sigmoid(scores)[0], [-np.exp(-30.0), -10.0 - np.exp(-10.0), -np.log(2)], rtol=1e-8)


def test_votes_are_probabilities_and_may_be_none():
    votes = np.array([[3, 0, 0], [1, 2, 0]], np.float32)
    found = Scored(np.array([0, 2], np.int32), np.array([0, 1], np.int32), votes, knn.GOAL.log_probabilities)
    assert numbers("log_loss", found)["log_loss"] == np.inf
    assert numbers("brier", found)["brier"] == pytest.approx((1 / 9 + 4 / 9 + 1) / 2)
    # Scores of −inf are ties as any others, whatever the order of the examples.
    is_positive, logarithms = np.array([True, False, True, False]), np.array([-np.inf, -np.inf, -1.0, -0.5])
    for order in (np.arange(4), np.arange(4)[::-1]):
        own = of_scores.average_precision(is_positive[order], logarithms[order])
        assert own == pytest.approx(reference.average_precision_score(is_positive[order], np.exp(logarithms[order])))


def batch_of(labels: np.ndarray, outputs: np.ndarray, column: str = "label") -> dict:
    real = np.arange(len(labels)) < len(labels) - 3
    return {column: jnp.asarray(labels), "index": jnp.arange(len(labels), dtype=jnp.int32), "mask": jnp.asarray(real)}


def test_a_goal_measures_the_chosen_metrics_of_held_out_examples_alone():
    chosen = [MEASURES["f1"], functools.partial(MEASURES["ece"], bins=5), functools.partial(MEASURES["top_k"], k=5)]
    goal = with_metrics(CLASS, chosen, "f1", NAMES)
    assert [metric.name for metric in goal.metrics] == ["f1", "accuracy", "loss", "top5_accuracy", "ece"]
    assert goal.logged_metrics == ("loss", "accuracy") and "outputs" not in goal.kept_rows
    assert all(metric.higher_is_better is not None for metric in goal.metrics)
    stats = goal.measure(jnp.asarray(LOGITS), jnp.ones(N), batch_of(LABELS, LOGITS))
    rows = {name: np.asarray(values)[: N - 3] for name, values in stats["rows"].items()}
    found = goal.summary({"sums": {}, "rows": rows})
    expected = reference.f1_score(LABELS[:-3], ALL.predictions[:-3], average="macro")
    assert found["f1"] == pytest.approx(expected, **NEAR) and set(found) == {metric.name for metric in goal.metrics}
    sums = {"loss": np.float64(30.0), "correct": np.float64(5.0), "count": np.float64(10.0)}
    assert goal.summary({"sums": sums, "rows": {}}) == {"loss": 3.0, "accuracy": 0.5}
    assert with_metrics(CLASS, [], None, NAMES) == CLASS
    tags = with_metrics(TAGS, [functools.partial(MEASURES["f1"], average=("macro",))], None, NAMES)
    assert tags.metrics[0].name == "mean_average_precision" and tags.metrics[-1].name == "f1"
    stats = tags.measure(jnp.asarray(LOGITS), jnp.ones(N), batch_of(TAGGED.astype(np.float32), LOGITS, "tags"))
    expected = reference.f1_score(TAGGED, LOGITS > 0, average="macro")
    assert tags.summary({"sums": {}, "rows": {k: np.asarray(v) for k, v in stats["rows"].items()}})["f1"] == pytest.approx(
        expected
    )


def test_what_does_not_fit_is_refused_before_anything_is_compiled():
    def chosen(*names: str, goal=CLASS, headline=None, class_names=NAMES):
        return with_metrics(goal, [MEASURES[name] for name in names], headline, class_names)

    with pytest.raises(UsageError, match=r"--headline=aux: no such metric(.|\n)*Did you mean auc\?(.|\n)*--metrics"):
        chosen("auc", headline="aux")
    with pytest.raises(UsageError, match=r"top5_accuracy: no such metric is measured here"):
        chosen(headline="top5_accuracy", class_names=NAMES[:5])
    with pytest.raises(UsageError, match=r"--headline=disagreement needs a metric of which more"):
        chosen(goal=ensemble.GOAL, headline="disagreement")
    with pytest.raises(
        UsageError, match=r"--metrics=brier: the data have several labels(.|\n)*accuracy, precision, recall, f1, auc, av"
    ):
        chosen("f1", "brier", goal=TAGS)
    with pytest.raises(UsageError, match=r"--metrics=f1: the data have numbers"):
        chosen("f1", goal=NUMBERS)
    with pytest.raises(UsageError, match=r"top_k.k=6 of 6 classes is always right"):
        MEASURES["top_k"](NAMES, k=6)
    with pytest.raises(UsageError, match=r"f1.average: give some of macro, micro and by_class"):
        MEASURES["f1"](NAMES, average=())
    other = Measure((Metric("accuracy", higher_is_better=False),), lambda scored: {"accuracy": 0.0})
    with pytest.raises(UsageError, match=r"two of the metrics here are called accuracy"):
        with_metrics(CLASS, [lambda class_names: other], None, NAMES)
    with pytest.raises(UsageError, match=r"it returns float(.|\n)*Expected a cnnlab.tasks.measures.Measure"):
        with_metrics(CLASS, [lambda class_names: 1.0], None, NAMES)
    twice = MEASURES["recall"](("a b", "a_b", ""), average=("by_class",))
    assert [metric.name for metric in twice.metrics] == ["recall_a_b_0", "recall_a_b_1", "recall__2"]


def test_the_knobs_below_each_metric_do_something():
    def found(**values) -> list[str]:
        resolved = knobs.resolve(classification, {"dataset": "digits", "model": "linear", **values}).call()
        return [metric.name for metric in resolved.task.metrics]

    assert found(metrics="f1,ece", headline="ece")[0] == "ece"
    assert found(**{"metrics": "f1", "metrics.f1.average": "micro,by_class"})[3:6] == ["f1_micro", "f1_0", "f1_1"]
    assert found(**{"metrics": "top_k", "metrics.top_k.k": "2"})[-1] == "top2_accuracy"


@pytest.mark.slow
def test_a_run_is_ranked_by_its_headline_and_a_metric_of_an_own_file_counts_as_any_other(here, tmp_path: pathlib.Path):
    page = (pathlib.Path(__file__).resolve().parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    (tmp_path / "mine.py").write_text(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], encoding="utf-8")
    words = ("--metrics=f1,ece,mine.py:worst_recall", "--headline=worst_recall", "--epochs=2", "--devices=1", "--workdir=run")
    code, out, err = here("--experiment=linear_digits", *words)
    assert code == 0 and "test worst_recall" in out, err
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    rows = np.load(tmp_path / "run" / "test_rows.npz")
    assert next(iter(result["metrics"])).endswith("/worst_recall")
    assert result["metrics"]["test/f1"] == pytest.approx(
        reference.f1_score(rows["label"], rows["prediction"], average="macro"), **NEAR
    )
    recalls = reference.recall_score(rows["label"], rows["prediction"], average=None)
    assert result["metrics"]["test/worst_recall"] == pytest.approx(min(recalls), **NEAR)
    assert result["declared"]["ece"]["unit"] == "share" and "outputs" not in rows
    assert (tmp_path / "run" / "figures" / "reliability.png").exists()
