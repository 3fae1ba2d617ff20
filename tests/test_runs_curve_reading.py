"""What curves show, on curves that were constructed to show it, and nothing on healthy ones."""

import collections
from typing import Any

import numpy as np
import pytest

from cnnlab.metric import SHARE, Metric
from cnnlab.runs.curve_reading import SPIKE, Finding, read_curves

LOSS = Metric("loss", higher_is_better=False, log_scale=True)
ACCURACY = Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True)
METRICS = [LOSS, ACCURACY]
STEPS = 1000


def curves(**values: Any) -> list[dict[str, float]]:
    """Lines of metrics.jsonl with curves `SPLIT_NAME`, each evenly over STEPS."""
    records = []
    for name, curve in values.items():
        steps = np.round(np.linspace(STEPS / len(curve), STEPS, len(curve)))
        split, _, metric = name.partition("_")
        records += [{"step": float(step), f"{split}/{metric}": float(value)} for step, value in zip(steps, curve, strict=True)]
    return records


def noisy(curve: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """The curve with noise of a share of its height."""
    return curve * np.exp(share * np.random.default_rng(seed).normal(size=len(curve)))


def falling(count: int, *, start: float = 2.3, floor: float = 0.2, tau: float = 0.15) -> np.ndarray:
    """A loss that falls exponentially, within a share of the steps, to a floor."""
    x = np.linspace(1 / count, 1, count)
    return (start - floor) * np.exp(-x / tau) + floor


def kinds(found: list[Finding]) -> list[str]:
    return [finding.kind for finding in found]


def only(found: list[Finding], kind: str) -> str:
    """The text of the one finding."""
    assert kinds(found) == [kind], [str(finding) for finding in found]
    return found[0].text


X20, X40 = np.linspace(0.05, 1, 20), np.linspace(0.025, 1, 40)


def test_over_fitting_is_a_validation_loss_that_rises_while_the_training_loss_falls():
    train = noisy(falling(40, floor=0.01, tau=0.25), 0.05)
    rises = noisy(0.4 + 2 * (X20 - 0.4) ** 2, 0.02)
    accuracy = np.linspace(0.7, 0.9, 20)
    text = only(
        read_curves(curves(train_loss=train, validation_loss=rises, validation_accuracy=accuracy), METRICS), "over-fitting"
    )
    assert text.startswith("validation loss rose from 0.4") and "to 1.0" in text and "while training loss fell from" in text
    assert "validation accuracy was 7" in text and text.endswith("at the end"), "it also says what became of the accuracy"
    flat = noisy(np.maximum(0.4, 0.4 + 2 * (0.4 - X20)), 0.02)
    assert read_curves(curves(train_loss=train, validation_loss=flat), METRICS) == []
    both_rise = noisy(0.4 + 2 * (X40 - 0.4) ** 2, 0.02)
    assert "over-fitting" not in kinds(read_curves(curves(train_loss=both_rise, validation_loss=rises), METRICS))
    last = np.append(flat[:-1], 2.0)
    assert read_curves(curves(train_loss=train, validation_loss=last), METRICS) == [], "one high record is no trend"


def test_over_fitting_is_also_a_gap_between_training_and_held_out_examples():
    train = {"train_loss": falling(20), "train_accuracy": np.linspace(0.5, 0.99, 20)}
    text = only(read_curves([*curves(**train), {"step": 1000, "test/accuracy": 0.6}], METRICS), "over-fitting")
    assert text == "training accuracy is 96.4 % at the end, and test accuracy 60.0 %"
    assert read_curves([*curves(**train), {"step": 1000, "test/accuracy": 0.93}], METRICS) == []


def test_under_fitting_is_a_large_error_on_the_training_examples_themselves_that_falls_no_more():
    train = {"train_loss": noisy(falling(40, floor=1.2, tau=0.1), 0.01), "train_accuracy": 0.6 - 0.5 * np.exp(-X40 / 0.1)}
    text = only(read_curves(curves(**train, validation_accuracy=0.59 - 0.5 * np.exp(-X20 / 0.1)), METRICS), "under-fitting")
    assert text.startswith("40.0 % of the training examples") and "41.0 % of those for validation" in text and "1.2" in text
    better = curves(
        **train | {"train_accuracy": 0.99 - 0.5 * np.exp(-X40 / 0.1)}, validation_accuracy=0.97 - 0.5 * np.exp(-X20)
    )
    assert "under-fitting" not in kinds(read_curves(better, METRICS))


@pytest.mark.parametrize(
    ("loss", "kind", "said"),
    [
        (
            np.concatenate([[2.3, 50.0, 900.0], np.full(17, 2.31)]),
            "rate too high",
            "rose from 2.3 to 900 at step 150 and is 2.31",
        ),
        (np.full(20, 2.303), "no progress", "training loss went from 2.3 to 2.3"),
        # A first record that is high may be that of the initial weights.
        (np.linspace(194, 3, 20), "no progress", "training loss went from 194 to"),
    ],
)
def test_a_classifier_that_guesses_has_a_rate_that_is_too_high_only_where_the_loss_rose(loss: Any, kind: str, said: str):
    records = curves(train_loss=loss, train_accuracy=np.full(20, 0.104))
    text = only(read_curves(records, METRICS, classes=10), kind)
    assert said in text and "training accuracy is 10.4 % at the end, and guessing gives 10.0 %" in text
    assert kind not in kinds(read_curves(records, METRICS)), "without the number of classes nothing is known of guessing"


def test_a_training_loss_that_climbs_and_stays_there_has_a_rate_that_is_too_high():
    loss = noisy(np.where(X40 < 0.3, 2.3 - 5 * X40, 0.8 + 1.5 * (X40 - 0.3)), 0.02)
    accuracy = np.where(X40 < 0.3, 0.1 + 2 * X40, 0.7 - 0.5 * (X40 - 0.3))
    text = only(read_curves(curves(train_loss=loss, train_accuracy=accuracy), METRICS, classes=10), "rate too high")
    assert "at the end, and training accuracy went from" in text
    better = curves(train_loss=loss, train_accuracy=np.linspace(0.1, 0.9, 40))  # such as a term whose weight grows
    assert "rate too high" not in kinds(read_curves(better, METRICS, classes=10))


def test_slow_is_a_loss_that_has_not_levelled_off():
    text = only(read_curves(curves(train_loss=noisy(2.3 - 0.9 * X40, 0.005)), METRICS), "slow")
    assert "in the first half and by" in text and text.endswith("it has not levelled off")
    hardly = {"train_loss": noisy(2.3 - 0.01 * X40, 0.0001), "train_accuracy": np.linspace(0.1, 0.4, 40)}
    text = only(read_curves(curves(**hardly), METRICS, classes=10), "slow")
    assert "in the whole run and still falls" in text and "2.2" in text and "the rate is low, or the run short" in text
    assert read_curves(curves(train_loss=noisy(falling(40), 0.05)), METRICS) == []


def test_a_plateau_needs_a_rate_that_did_not_fall_and_a_validation_that_the_weights_move():
    train = {"train_loss": noisy(falling(40, floor=0.5, tau=0.08), 0.03)}
    moved = noisy(falling(20, floor=0.5, tau=0.08), 0.08)
    text = only(read_curves(curves(**train, validation_loss=moved), METRICS, rate=lambda step: 0.05), "plateau")
    assert "since step" in text and "learning rate of 0.05 that did not fall" in text and "moves by" in text
    for rate in (None, lambda step: 0.05 * (1 - step / 1001)):
        assert read_curves(curves(**train, validation_loss=moved), METRICS, rate=rate) == []
    still = falling(20, floor=0.5, tau=0.08)
    assert read_curves(curves(**train, validation_loss=still), METRICS, rate=lambda step: 0.05) == []


def test_noisy_validation_moves_by_a_fifth_of_its_error():
    accuracy = 0.9 + 0.04 * np.random.default_rng(4).normal(size=20)
    train = {"train_loss": falling(20), "train_accuracy": np.linspace(0.8, 0.95, 20)}
    text = only(read_curves(curves(**train, validation_accuracy=accuracy), METRICS), "noisy validation")
    best = int(np.argmax(accuracy))
    assert "points (standard deviation about its trend)" in text
    assert f"the best of 20 is {100 * accuracy[best]:.1f} % at step {50 * (best + 1):,}" in text
    assert read_curves(curves(**train, validation_accuracy=0.9 + (accuracy - 0.9) / 8), METRICS) == []


def test_dead_units_are_read_where_they_are_logged():
    dead = [{"step": float(s), "gradient_norm/net": n, "train/loss": 2.3} for s, n in enumerate([0.5, 0.1, 0.0, 0.0, 0.0], 1)]
    assert only(read_curves(dead, METRICS), "dead units") == "the gradient of net has been exactly 0 since step 3"
    share = [{"step": float(step), "train/dead_units": value} for step, value in enumerate([0.1, 0.3, 0.5, 0.5, 0.5])]
    assert only(read_curves(share, METRICS), "dead units") == "train/dead_units is 50 % at the end and was 10 % at the start"
    assert read_curves([{**record, "gradient_norm/net": 0.1} for record in dead], METRICS) == []


def test_spikes_are_counted_and_the_highest_is_placed():
    loss = noisy(falling(100), 0.02)
    loss[60:62], loss[80] = 2.0, 0.9
    text = only(read_curves(curves(train_loss=loss), METRICS), "spike")
    assert "to 2 at step 610" in text or "to 2 at step 620" in text
    assert text.endswith("; 2 such spikes in all")
    assert float(text.partition(", by ")[2].split()[0]) > SPIKE
    loss = noisy(falling(100), 0.02)
    loss[60] += 0.05
    assert read_curves(curves(train_loss=loss), METRICS) == [], "it is not a tenth of what the loss fell"


@pytest.mark.parametrize("records", [[], [{"step": 1.0}], curves(train_loss=[1.0] * 3, validation_loss=[1.0])])
def test_short_and_empty_curves_say_nothing(records: list[dict[str, float]]):
    assert read_curves(records, METRICS, classes=10, rate=lambda step: 0.1) == []
    assert read_curves(curves(train_loss=np.linspace(1, 9, 40)), [Metric("loss")]) == [], "a metric without a sense"


def test_values_that_are_not_finite_are_left_out():
    records = curves(train_loss=noisy(falling(40), 0.05))
    records[5]["train/loss"], records[7]["train/loss"] = float("nan"), None  # type: ignore[assignment]
    assert read_curves(records, METRICS) == []


def healthy(rng: np.random.Generator) -> list[dict[str, float]]:
    """A run that learns well: exponential or power-law losses with noise, a small gap, and a floor near zero."""
    count, measured = int(rng.choice([20, 40, 100])), int(rng.choice([10, 20]))
    tau, power, floor, distance = rng.uniform(0.05, 0.25), rng.uniform(0.5, 1.0), rng.uniform(0.0, 0.1), rng.uniform(0, 0.08)
    is_power = rng.uniform() < 0.5

    def loss(x: np.ndarray) -> np.ndarray:
        return (2.3 - floor) * ((1 + x / 0.02) ** -power if is_power else np.exp(-x / tau)) + floor

    train = loss(np.linspace(1 / count, 1, count)) * np.exp(rng.uniform(0.02, 0.15) * rng.normal(size=count))
    held_out = (loss(np.linspace(1 / measured, 1, measured)) + distance) * np.exp(
        rng.uniform(0.01, 0.08) * rng.normal(size=measured)
    )
    return curves(
        train_loss=train,
        train_accuracy=1 - 0.35 * np.minimum(train, 2.5),
        validation_loss=held_out,
        validation_accuracy=1 - 0.35 * np.minimum(held_out, 2.5),
    )


def test_healthy_runs_have_few_false_alarms():
    rng, alarms = np.random.default_rng(0), collections.Counter[str]()
    count = 300
    for _ in range(count):
        found = read_curves(healthy(rng), METRICS, classes=10, rate=lambda step: 0.1 * (1 - 0.9 * step / STEPS))
        alarms.update(kinds(found) or ["none"])
    assert alarms["none"] >= 0.96 * count, alarms
