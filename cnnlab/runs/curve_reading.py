"""What the logged curves of a run show, in words and with the numbers that led to it.

Each rule is a pure function of curves, and silent where they do not decide. It compares means of several records. What counts
as a difference is measured against the spread of single records about the trend, and has to be large enough to matter as well.
tests/test_runs_curve_reading.py holds the rules to constructed curves and to few false alarms over healthy noisy ones.
Imports no jax.

Letters in shapes: N records of a curve.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cnnlab.metric import Metric

Records = Sequence[Mapping[str, float | None]]
"""Lines of metrics.jsonl."""
LEAST = 8
"""Records that a curve needs before a rule reads it."""
SURE = 4.0
"""Standard errors by which two means have to differ."""
TO_SIGMA = 1.4826
"""Factor from the median absolute deviation to the standard deviation of a normal distribution."""
HISTORY, SPIKE = 10, 8.0
"""Records before a spike, and the robust standard deviations by which it lies above their median."""
MOST_FINDINGS = 4


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that the curves show."""

    kind: str
    """over-fitting, under-fitting, rate too high, slow, no progress, plateau, noisy validation, dead units or spike."""
    text: str
    """What it is, where, and by how much."""

    def __str__(self) -> str:
        """Returns the finding as one line."""
        return f"{self.kind}: {self.text}"


@dataclasses.dataclass(frozen=True)
class Curve:
    """The finite records of a metric over the steps."""

    metric: Metric
    steps: np.ndarray
    """f64 [N], rising."""
    values: np.ndarray
    """f64 [N]."""

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self.values)

    def part(self, start: float, end: float = 1.0) -> "Curve":
        """Returns the records between two shares of them, such as the last quarter: part(0.75)."""
        first, last = round(start * len(self)), round(end * len(self))
        return Curve(self.metric, self.steps[first:last], self.values[first:last])

    def ends(self) -> "Curve":
        """Returns the last eighth of the records, at least three."""
        count = max(3, len(self) // 8)
        return Curve(self.metric, self.steps[-count:], self.values[-count:])

    def between(self, first: float, last: float) -> "Curve":
        """Returns the records of the steps from `first` to `last`."""
        inside = (self.steps >= first) & (self.steps <= last)
        return Curve(self.metric, self.steps[inside], self.values[inside])

    @property
    def noise(self) -> float:
        """The standard deviation of a record about the trend, robustly from second differences; 0 below three records."""
        if len(self) < 3:
            return 0.0
        bends = self.values[:-2] - 2 * self.values[1:-1] + self.values[2:]  # of variance 6 σ²
        return TO_SIGMA * float(np.median(np.abs(bends))) / math.sqrt(6)

    @property
    def mean(self) -> float:
        """The mean of the records."""
        return float(np.mean(self.values))

    @property
    def level(self) -> float:
        """The mean or the median, whichever is lower, so that no single high record counts."""
        return float(min(np.mean(self.values), np.median(self.values)))

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return self.noise / math.sqrt(max(len(self), 1))

    def smoothed(self) -> "Curve":
        """Returns the running means over an eighth of the records, at least three; [N] -> [N − window + 1]."""
        window = min(len(self), max(3, len(self) // 8))
        means = np.convolve(self.values, np.full(window, 1 / window), "valid")
        middles = np.convolve(self.steps, np.full(window, 1 / window), "valid")
        return Curve(self.metric, middles, means)

    def shown(self, value: float) -> str:
        """Returns a value of the metric for a person."""
        return f"{100 * value:.1f} %" if self.metric.is_share else f"{value:.3g}"


def read_curves(
    records: Records,
    metrics: Sequence[Metric],
    *,
    classes: int = 0,
    rate: Callable[[int], float] | None = None,
) -> list[Finding]:
    """Returns what the curves of a run show, the most important first; [] where they decide nothing.

    Args:
        records: lines of metrics.jsonl of the run.
        metrics: declarations of the metrics that are watched, the primary one last.
        classes: number of classes, by which a network that only guesses is known; 0: not a classifier.
        rate: step -> learning rate, of a run with one known rate; None: not known.
    """
    objective = next((metric for metric in metrics if metric.name == "loss" and metric.higher_is_better is False), None)
    objective = objective or next((metric for metric in metrics[-1:] if metric.higher_is_better is False), None)
    found: list[Finding | None] = [dead_units(records)]
    if objective is not None:
        train, held_out = (curve(records, f"{split}/{objective.name}", objective) for split in ("train", "validation"))
        primary, checked, tested = (
            curve(records, f"{split}/{metrics[-1].name}", metrics[-1]) for split in ("train", "validation", "test")
        )
        over = over_fitting(train, held_out, checked) or gap(primary, checked, tested)
        stuck = no_progress(train, primary, classes) or rising(train, primary)
        found += [
            stuck,
            over,
            None if stuck else under_fitting(train, primary, checked),
            None if stuck or over else slow(train, primary),
            None if stuck or over else plateau(train, held_out, rate),
            noisy_validation(checked if len(checked) else held_out),
            spikes(train),
        ]
    return [finding for finding in found if finding is not None][:MOST_FINDINGS]


def curve(records: Records, name: str, metric: Metric) -> Curve:
    """Returns the finite values that were logged of `SPLIT/NAME`, in the order of the steps."""
    pairs = [(record["step"], record[name]) for record in records if name in record]
    kept = sorted((step, value) for step, value in pairs if step is not None and value is not None and math.isfinite(value))
    steps, values = np.asarray(kept, np.float64).reshape(-1, 2).T  # [N, 2] -> 2 of [N]
    return Curve(metric, steps, values)


def over_fitting(train: Curve, held_out: Curve, primary: Curve) -> Finding | None:
    """Finds a validation loss that rose from its lowest level while the training loss went on falling."""
    if len(held_out) < LEAST or len(train) < LEAST:
        return None
    smooth, end, noise = held_out.smoothed(), held_out.ends(), held_out.noise
    lowest = int(np.argmin(smooth.values))
    best, at = float(smooth.values[lowest]), float(smooth.steps[lowest])
    # The lowest of several means lies below the true one, hence one more standard error than for two means.
    needed = max((SURE + 1) * noise * math.sqrt(2 / len(end)), 0.05 * abs(best))
    if at > held_out.steps[int(0.75 * (len(held_out) - 1))] or end.level - best < needed:
        return None
    width = 0.1 * (train.steps[-1] - train.steps[0])
    then, now = train.between(at - width, at + width), train.ends()
    if len(then) < 2 or then.mean - now.mean < max(SURE * math.hypot(_spread(train, then), now.error), 0.05 * abs(then.mean)):
        return None
    text = (
        f"validation {held_out.metric.label} rose from {held_out.shown(best)} about step {at:,.0f} to "
        f"{held_out.shown(end.level)} at the end, while training {train.metric.label} fell from {train.shown(then.mean)} to "
        f"{train.shown(now.mean)}"
    )
    if len(primary) >= LEAST and primary.metric.name != held_out.metric.name:
        near = primary.between(at - width, at + width)
        if len(near):
            text += (
                f"; validation {primary.metric.label} was {primary.shown(near.mean)} then and "
                f"{primary.shown(primary.ends().mean)} at the end"
            )
    return Finding("over-fitting", text)


def gap(primary: Curve, held_out: Curve, tested: Curve) -> Finding | None:
    """Finds a share of errors on held-out examples that is far above that on training examples, at the end."""
    metric, end = primary.metric, held_out.ends() if len(held_out) >= LEAST else tested
    if not (metric.is_share and metric.higher_is_better) or len(primary) < LEAST or not len(end):
        return None
    trained, found = primary.ends().mean, end.mean
    if trained - found < 0.1 or 1 - found < 2 * (1 - trained):
        return None
    split = "validation" if end is not tested else "test"
    text = f"training {metric.label} is {primary.shown(trained)} at the end, and {split} {metric.label} {primary.shown(found)}"
    return Finding("over-fitting", text)


def _spread(whole: Curve, part: Curve) -> float:
    """Returns the standard error of the mean of a part, by the noise of the whole curve where the part is short."""
    return max(part.noise, whole.noise if len(part) < 5 else 0.0) / math.sqrt(len(part))


def under_fitting(train: Curve, primary: Curve, held_out: Curve) -> Finding | None:
    """Finds a share of errors on training examples that is large, as large as on validation, and falls no more."""
    metric = primary.metric
    if not (metric.is_share and metric.higher_is_better) or min(len(primary), len(held_out), len(train)) < LEAST:
        return None
    wrong, wrong_held_out = 1 - primary.ends().mean, 1 - held_out.ends().mean
    if wrong < 0.1 or wrong_held_out - wrong > 0.2 * wrong or not _is_flat(train.part(0.6)):
        return None
    return Finding(
        "under-fitting",
        f"{100 * wrong:.1f} % of the training examples, as they were trained on, are wrong at the end, and "
        f"{100 * wrong_held_out:.1f} % of those for validation, while training {train.metric.label} has stayed at "
        f"{train.shown(train.ends().mean)} since step {train.part(0.6).steps[0]:,.0f}: most of the error is not one of "
        "generalisation",
    )


def _is_flat(part: Curve, most: float = 0.02) -> bool:
    """Returns whether the second half of a part lies as high as the first: within a share, and within what noise explains."""
    first, second = part.part(0, 0.5), part.part(0.5)
    if min(len(first), len(second)) < 2:
        return False
    change, noise = second.mean - first.mean, math.hypot(_spread(part, first), _spread(part, second))
    return abs(change) < most * abs(first.mean) and abs(change) < 2.5 * max(noise, 1e-3 * abs(first.mean))


def no_progress(train: Curve, primary: Curve, classes: int) -> Finding | None:
    """Finds a classifier that guesses, or nearly, at the end; a loss that had risen before says that the rate is high."""
    metric = primary.metric
    if classes < 2 or not metric.is_proportion or min(len(train), len(primary)) < LEAST:
        return None
    end, reached, guess = train.ends(), primary.ends().mean, 1 / classes
    fell = 1 - end.mean / train.values[0] if train.values[0] > 0 else 1.0
    if np.max(primary.values) > 2 * guess + 0.1 or reached > (1.5 * guess if fell < 0.05 else guess + 0.02):
        return None
    highest = int(np.argmax(train.values))
    where = f"training {metric.label} is {primary.shown(reached)} at the end, and guessing gives {primary.shown(guess)}"
    # A first record that is high may be the initial weights' own; a later one is what the updates made of them.
    if highest > 0 and train.values[highest] > 1.5 * max(train.values[0], end.mean):
        peak = f"{train.shown(train.values[highest])} at step {train.steps[highest]:,.0f}"
        rose = f"training {train.metric.label} rose from {train.shown(train.values[0])} to {peak}"
        text = f"{rose} and is {train.shown(end.mean)} at the end; {where}"
        return Finding("rate too high", text)
    changed = f"training {train.metric.label} went from {train.shown(train.values[0])} to {train.shown(end.mean)}"
    return Finding("no progress", f"{where}; {changed}")


def rising(train: Curve, primary: Curve) -> Finding | None:
    """Finds a training loss that climbed from its lowest level and stayed there, with a primary metric that got worse, too."""
    if len(train) < LEAST:
        return None
    smooth, end = train.smoothed(), train.ends()
    lowest = int(np.argmin(smooth.values))
    best, at = float(smooth.values[lowest]), float(smooth.steps[lowest])
    rise = end.level - best
    if at > train.steps[len(train) // 2] or rise < 0.2 * abs(best) or rise < (SURE + 1) * train.noise * math.sqrt(2 / len(end)):
        return None
    width = 0.1 * (train.steps[-1] - train.steps[0])
    then, now = primary.between(at - width, at + width), primary.ends()
    sense = primary.metric.higher_is_better
    if not len(then) or sense is None or (then.mean - now.mean) * (1 if sense else -1) <= SURE * now.error:
        return None
    return Finding(
        "rate too high",
        f"training {train.metric.label} rose from {train.shown(best)} about step {at:,.0f} to {train.shown(end.level)} at the "
        f"end, and training {primary.metric.label} went from {primary.shown(then.mean)} to {primary.shown(now.mean)}",
    )


def slow(train: Curve, primary: Curve) -> Finding | None:
    """Finds a training loss that falls on to the end, by nearly as much as before, or by very little in all."""
    if len(train) < LEAST + 4:
        return None
    first, middle, end = train.part(0, 0.125), train.part(0.4375, 0.5625), train.part(0.875)
    early, late = first.mean - middle.mean, middle.mean - end.mean
    sure = late > SURE * math.hypot(_spread(train, middle), _spread(train, end))
    name, reached = train.metric.label, ""
    if len(primary) and primary.metric.name != train.metric.name:
        reached = f", with a training {primary.metric.label} of {primary.shown(primary.ends().mean)}"
    if sure and 0 < early + late < 0.05 * first.mean:
        text = (
            f"training {name} fell from {_digits(first.mean)} to {_digits(end.mean)} in the whole run and still falls{reached}"
        )
        return Finding("slow", f"{text}: the rate is low, or the run short")
    if not sure or late < 0.03 * abs(middle.mean) or late < 0.6 * early:
        return None
    return Finding(
        "slow",
        f"training {name} fell by {train.shown(early)} in the first half and by {train.shown(late)} in the second, to "
        f"{train.shown(end.mean)}{reached}: it has not levelled off",
    )


def _digits(value: float) -> str:
    """Returns a number with five digits, where small changes count."""
    return f"{value:.5g}"


def plateau(train: Curve, held_out: Curve, rate: Callable[[int], float] | None) -> Finding | None:
    """Finds a training loss that stays at a level under a rate that did not fall, while the weights still move the validation.

    Validation measures the same examples each time, so its spread comes from the weights: it is what a lower rate would reduce.
    """
    if rate is None or len(train) < LEAST + 4 or len(held_out) < LEAST:
        return None
    late, end = train.part(0.5), train.ends()
    if end.mean < 0.05 * train.values[0] or end.mean > 0.8 * train.values[0]:
        return None
    measured = held_out.part(0.5)
    jitter = measured.noise / abs(measured.mean) if measured.mean else 0.0
    if not _is_flat(late) or jitter < 0.03:
        return None
    rates = [rate(int(step)) for step in (*train.steps[:: max(1, len(train) // 20)], train.steps[-1])]
    if rates[-1] < 0.5 * max(rates):
        return None
    return Finding(
        "plateau",
        f"training {train.metric.label} has stayed at {train.shown(late.mean)} since step {late.steps[0]:,.0f}, at a learning "
        f"rate of {rates[-1]:.3g} that did not fall, while validation {held_out.metric.label} moves by {100 * jitter:.0f} % "
        "from one evaluation to the next: a decay of the rate may lower both",
    )


def noisy_validation(held_out: Curve) -> Finding | None:
    """Finds a validation metric that moves so much from one evaluation to the next that single ones mean little."""
    late, metric = held_out.part(0.4), held_out.metric
    if len(held_out) < LEAST + 2 or metric.higher_is_better is None:
        return None
    scale = min(late.mean, 1 - late.mean) if metric.is_share else abs(late.mean)
    line = np.polyval(np.polyfit(late.steps, late.values, 1), late.steps)
    # The lower of two estimates: one high record counts little in the one, a curved trend in the other.
    noise = min(late.noise, float(np.sqrt(np.sum((late.values - line) ** 2) / (len(late) - 2))))
    if noise < max(0.2 * scale, 0.01 if metric.is_share else 0.0) or noise == 0.0:
        return None
    best = int(np.argmax(held_out.values) if metric.higher_is_better else np.argmin(held_out.values))
    moves = f"{100 * noise:.1f} points" if metric.is_share else f"{noise:.2g}"
    return Finding(
        "noisy validation",
        f"{metric.label} moves by {moves} (standard deviation about its trend) from one evaluation to the next; the best of "
        f"{len(held_out)} is {held_out.shown(held_out.values[best])} at step {held_out.steps[best]:,.0f}, the mean of the last "
        f"{len(late)} is {held_out.shown(late.mean)}",
    )


def dead_units(records: Records) -> Finding | None:
    """Finds gradients that are exactly zero, and a logged share of dead units (a name that holds `dead`) of a fifth or more."""
    names = dict.fromkeys(name for record in records for name in record)
    for name in (name for name in names if name.startswith("gradient_norm/") or "dead" in name):
        found = curve(records, name, Metric(name.rpartition("/")[2]))
        if len(found) < 3:
            continue
        if name.startswith("gradient_norm/") and not found.values[-3:].any():
            alive = np.flatnonzero(found.values)
            since = found.steps[alive[-1] + 1] if len(alive) else found.steps[0]
            return Finding("dead units", f"the gradient of {name.partition('/')[2]} has been exactly 0 since step {since:,.0f}")
        if "dead" in name and 0.2 <= found.ends().mean <= 1.0:
            first, last = found.values[0], found.ends().mean
            return Finding("dead units", f"{name} is {100 * last:.0f} % at the end and was {100 * first:.0f} % at the start")
    return None


def spikes(train: Curve) -> Finding | None:
    """Finds records of the training loss far above those before them.

    A spike lies SPIKE robust standard deviations above the median of the records before it, and is visible: at least a tenth
    of all that the loss fell until then.
    """
    found: list[tuple[float, int, float]] = []  # (rise, place, robust deviations)
    before = -1
    for place in range(HISTORY, len(train)):
        history = train.values[place - HISTORY : place]
        middle = float(np.median(history))
        spread = max(TO_SIGMA * float(np.median(np.abs(history - middle))), 0.01 * abs(middle))
        rise = float(train.values[place]) - middle
        fell = float(np.max(train.values[:place]) - np.min(train.values[:place]))
        if spread and rise > SPIKE * spread and rise > 0.1 * fell:
            if before != place - 1:  # the records after it belong to the same one
                found.append((rise, place, rise / spread))
            before = place
    if not found:
        return None
    rise, place, deviations = max(found)
    middle = float(train.values[place]) - rise
    more = f"; {len(found)} such spikes in all" if len(found) > 1 else ""
    return Finding(
        "spike",
        f"training {train.metric.label} rose from {train.shown(middle)}, the median of {HISTORY} records, to "
        f"{train.shown(train.values[place])} at step {train.steps[place]:,.0f}, by {deviations:.0f} robust standard "
        f"deviations{more}",
    )
