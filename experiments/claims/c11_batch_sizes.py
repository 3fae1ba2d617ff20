"""Claim C11: mini-batches reach a loss with less computation than the full batch, along a noisier curve. An MLP on MNIST.

Paper:    Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller, Efficient backprop, 1998, section 4.1; L. Bottou, F. E. Curtis, J.
          Nocedal, Optimization methods for large-scale machine learning, 2018, section 3.3
Command:  python launch.py measure --experiment=c11_batch_sizes
Result:   supported at small scale; docs/claims/c11.md has the numbers.

An MLP with one hidden layer of 100 ReLU units learns 10,000 images of MNIST at 14x14, 1,000 of each class, which the seed
draws, by plain gradient descent at a constant rate: in batches of 64, up to 1,000 steps, or with all 10,000 in each of up to
500 steps. The computation until the loss on all of them is at most 0.25 is counted in examples whose gradient was taken. In
batches this loss is measured every 10 steps; that of the full batch is known at every step. A run that is not there at the end
counts as if it were, which favours the full batch, whose runs are the long ones.

Each has the rate, out of six a factor of two apart, at which it needed the fewest examples on seed 100, which the comparison
does not use. The curve is noisy where the loss of a batch is above that of the step before, as a share of the steps until the
loss is reached. The full batch is trained no further than that, and in the search for its rate no further than to the fewest
steps so far.
"""

import dataclasses
import functools

import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.engine.family import Family, family, steps_to
from cnnlab.engine.family import measure as measured_on
from cnnlab.engine.in_memory import train_in_memory
from cnnlab.metric import SHARE, Metric
from cnnlab.recipes.classification import classification

MINI, FULL = "batches of 64", "the full batch"
EXAMPLES = 10_000
BATCH = {MINI: 64, FULL: EXAMPLES}
STEPS = {MINI: 1000, FULL: 500}
EVERY = 10
"""Steps in batches of 64 between two measurements of the loss on all examples."""
RATES = (1.6, 0.8, 0.4, 0.2, 0.1, 0.05)
LEVEL = 0.25
TUNING_SEED = 100
LR = "optimizer.lr"


@dataclasses.dataclass(frozen=True)
class Curve:
    """What a training leaves, up to the step at which the loss is reached."""

    whole: dict[int, float]
    """{step: loss on all examples after that many steps}."""
    batches: list[float]
    """The loss of each step's batch, before the step."""

    @property
    def reached(self) -> bool:
        """Whether the loss on all examples came down to LEVEL."""
        return min(self.whole.values()) <= LEVEL

    @property
    def steps(self) -> int:
        """The steps that it took; all that there were where it was not reached."""
        return steps_to(LEVEL, self.whole)


@functools.cache
def trained(name: str, data_dir: str | None) -> Family:
    """Returns the compiled training in batches of a size, whatever the rate."""
    given = {
        "model": "mlp",
        "model.widths": "100",
        "data.dataset": "tfds:mnist",
        "data.image_size": 14,
        "data.examples_per_class": EXAMPLES // 10,
        "data.examples_seed": "run",
        "data.validation": 0.0,
        "data.batch_size": BATCH[name],
        "optimizer": "sgd",
        "optimizer.schedule": "constant",
        "duration": f"{STEPS[name]} steps",
    }
    return family(knobs.resolve(classification, given, {"data_dir": data_dir}), {LR: 0.1})


def in_batches(lr: float, seed: int, data_dir: str | None) -> Curve:
    """Trains in batches of 64, whose loss on all examples is measured every EVERY steps."""
    program = trained(MINI, data_dir).member({LR: lr}, seed)
    found = train_in_memory(program, seed, at=range(EVERY, STEPS[MINI], EVERY), log_every=1)
    whole: dict[int, float] = {}
    for step, state in found.states.items():
        whole[step] = _finite(measured_on(program, state, "train")["loss"])
        if whole[step] <= LEVEL:
            break
    return Curve(whole, [summary["loss"] for summary in found.logged.values()])


def in_full(lr: float, seed: int, data_dir: str | None, most: int) -> Curve:
    """Trains by the full batch until the loss is reached, or is no number, or `most` steps were taken without it.

    The loss of step t + 1, which is taken before the step, is the loss on all examples after t steps.
    """

    def should_stop(logged: dict[int, dict[str, float]]) -> bool:
        last = logged[max(logged)]["loss"] if logged else np.inf
        return bool(logged) and (not np.isfinite(last) or last <= LEVEL or len(logged) > most)

    program = trained(FULL, data_dir).member({LR: lr}, seed)
    logged = train_in_memory(program, seed, log_every=1, should_stop=should_stop).logged
    losses = [_finite(summary["loss"]) for summary in logged.values()]
    return Curve(dict(enumerate(losses)), losses)


def _finite(loss: float) -> float:
    """Returns a loss, or infinity in place of one that is no number."""
    return loss if np.isfinite(loss) else np.inf


@functools.cache
def fastest_rate(name: str, data_dir: str | None) -> float:
    """Returns the rate at which TUNING_SEED needs the fewest steps; where none reaches the loss, that with the lowest loss."""
    fewest, found = STEPS[name], {}
    for lr in RATES:
        one = in_batches(lr, TUNING_SEED, data_dir) if name == MINI else in_full(lr, TUNING_SEED, data_dir, fewest)
        fewest = min(fewest, one.steps) if one.reached else fewest
        found[lr] = (not one.reached, one.steps if one.reached else 0, one.whole[max(one.whole)])
    return min(found, key=found.__getitem__)


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Trains in mini-batches and by the full batch, each at the rate that was chosen for it.

    Args:
        seed: seed of the examples, of initial weights and of the order.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    numbers: dict[str, dict[str, float]] = {metric.name: {} for metric in METRICS}
    curves = {}
    for name in BATCH:
        lr = fastest_rate(name, data_dir)
        one = in_batches(lr, seed, data_dir) if name == MINI else in_full(lr, seed, data_dir, STEPS[name])
        numbers["examples"][name] = float(one.steps * BATCH[name])
        numbers["rises"][name] = float(np.mean(np.diff(one.batches[: one.steps]) > 0))
        numbers["lowest_loss"][name], numbers["learning_rate"][name] = min(one.whole.values()), lr
        curves[name] = tuple((float(step * BATCH[name]), loss) for step, loss in one.whole.items() if step)
    return Measured(numbers, curves)


METRICS = (
    Metric("examples", "examples", higher_is_better=False, log_scale=True),
    Metric("rises", SHARE),
    Metric("lowest_loss", "nats", higher_is_better=False, log_scale=True),
    Metric("learning_rate"),
)

measurement = Measurement(
    claim="C11",
    question="How many examples do mini-batches and the full batch need to reach a loss, each at its best rate?",
    measure=measure,
    metrics=METRICS,
    seeds=8,
    verdict=every(
        contrast(
            "C11",
            MINI,
            "better",
            "Batches of 64 reach the loss with less computation than the full batch",
            against=FULL,
            scale="log",
            smallest=float(np.log(2)),
        ),
        on("rises", contrast("C11", MINI, "higher", "Their curve is noisier", against=FULL, smallest=0.1)),
        requires=tuple(on("lowest_loss", at_most("C11", name, LEVEL, f"The loss is reached with {name}")) for name in BATCH),
        scope="an MLP of 100 ReLU units, 10,000 images of MNIST at 14x14, plain gradient descent, a training loss of 0.25",
    ),
    card=Card(
        published="LeCun et al. (1998) say that stochastic learning is usually much faster than batch learning, and that a "
        "training set of ten copies of the same examples makes a full batch ten times slower; no number for real data.",
        would_change="A full batch that needs less than twice the computation of batches of 64.",
        quick="--seeds=1",
        figure=Figure(x="examples whose gradient was taken", y="training loss in nats", log_x=True, log_y=True),
        deviations="A sixth of MNIST's images, so that the full batch is cheap. Only computation is counted, and not time: a "
        "device may take a large batch at once. Before it was run, images came to be drawn as 1,000 of each class, and the "
        "loss to be measured every 10 steps in batches of 64, and every step of the full batch, in place of every 5.",
    ),
)
