"""Claim C8: dropout lowers the test error of a network that over-fits. MLPs on 1,000 images of MNIST.

Paper:    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, Dropout: a simple way to prevent neural
          networks from overfitting, JMLR 15, 2014, sections 6.1.1 and 7.5; Hinton et al., 2012, arXiv 1207.0580
Command:  python launch.py measure --experiment=c08_dropout
Result:   supported at small scale; docs/claims/c08.md has the numbers.

An MLP with two hidden layers of 512 ReLU units learns 1,000 images of MNIST, which the seed draws, for 1,000 steps of 64. With
and without dropout it gets the settings that are best on 1,000 validation images: a learning rate out of two, and with dropout
also a drop probability out of two. Settings are compared on seeds 100 and 101, which the test does not use, by the worse run.

The control is a network that does not over-fit: 32 hidden units and 54,000 images, for as many steps, where dropout has to do
harm. If it helped there too, it would not be over-fitting that it helps against. Shown beside it: halved weights, which is how
dropout is evaluated, classify as an average over 20 networks that dropout draws. c08_geometric_mean has the exact half.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, equivalent, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import CLASSIFIER, TrainState
from cnnlab.engine.family import Family, family, steadiest
from cnnlab.engine.family import measure as measured_on
from cnnlab.engine.in_memory import train_in_memory
from cnnlab.engine.program import Program
from cnnlab.metric import SHARE, Metric
from cnnlab.models.mlp import MLP
from cnnlab.recipes.classification import classification

NONE, DROPOUT, AVERAGED = "none", "dropout", "dropout, 20 networks averaged"
SMALL, SMALL_DROPOUT = "32 units, none", "32 units, dropout"
WIDTHS = (512, 512)
STEPS = 1000
RATES = (0.02, 0.05)
PROBABILITIES = (0.2, 0.5)
SETTINGS: dict[str, tuple[tuple[float, float], ...]] = {
    NONE: tuple((lr, 0.0) for lr in RATES),
    DROPOUT: tuple((lr, probability) for lr in RATES for probability in PROBABILITIES),
}
"""(learning rate, drop probability) that each network may have."""
TUNING_SEEDS = (100, 101)
MASKS = 20
"""Networks drawn by dropout whose probabilities are averaged."""
SMALLEST = 0.003
"""Smallest effect of interest: about the 0.35 points that Srivastava et al. (2014, Table 2) report on all of MNIST."""


@functools.cache
def trained(small: bool, data_dir: str | None) -> Family:
    """Returns the compiled training of the large network on few images, or of the small one on all of them."""
    few = {"data.examples_per_class": 200, "data.examples_seed": "run", "data.validation": 0.5, "data.split_seed": "run"}
    given = {
        "model": "mlp",
        "model.widths": "32" if small else ",".join(map(str, WIDTHS)),
        "data.dataset": "tfds:mnist",
        "data.batch_size": 64,
        "optimizer": "momentum",
        "duration": f"{STEPS} steps",
        **({} if small else few),
    }
    return family(knobs.resolve(classification, given, {"data_dir": data_dir}), numbers_of(RATES[0], PROBABILITIES[0]))


def numbers_of(lr: float, probability: float) -> dict[str, float]:
    """Returns {path of a knob: value}."""
    return {"optimizer.lr": lr, "model.dropout": probability}


def run(small: bool, setting: tuple[float, float], seed: int, data_dir: str | None) -> tuple[Program, TrainState]:
    """Trains a network by a seed; returns (its program, the state at the end)."""
    program = trained(small, data_dir).member(numbers_of(*setting), seed)
    return program, train_in_memory(program, seed).states[program.experiment.steps]


@functools.cache
def chosen(case: str, data_dir: str | None) -> tuple[float, float]:
    """Returns the setting whose worse run of TUNING_SEEDS has the higher accuracy on the validation images."""
    return steadiest(
        {
            setting: [measured_on(*run(False, setting, seed, data_dir), "validation")["accuracy"] for seed in TUNING_SEEDS]
            for setting in SETTINGS[case]
        }
    )


@functools.cache
def averaged(probability: float) -> Any:
    """Returns the compiled function (params, images f32 [B, H, W, C], key) -> probabilities f32 [B, K], averaged over MASKS."""
    model = MLP(classes=10, widths=WIDTHS, dropout=probability)

    def of_masks(params: Any, images: jax.Array, key: jax.Array) -> jax.Array:
        def one(noise: jax.Array) -> jax.Array:
            return jax.nn.softmax(model.apply({"params": params}, images, train=True, rngs={"dropout": noise})[0])

        return jnp.mean(jax.lax.map(one, jax.random.split(key, MASKS)), axis=0)  # [M, B, K] -> [B, K]

    return jax.jit(of_masks)


def accuracy_of_average(program: Program, state: TrainState, probability: float, seed: int) -> float:
    """Returns the accuracy on the test images of the averaged probabilities of networks that dropout draws."""
    data = program.experiment.data
    feed = next(data.evaluate("test", data.sizes["test"]))
    batch = data.prepare(data.resident.get("test", {}), jax.tree.map(jnp.asarray, feed), None)
    found = averaged(probability)(state.params[CLASSIFIER], batch["image"], jax.random.key(seed))
    return float(np.mean(np.argmax(np.asarray(found), axis=1) == np.asarray(batch["label"])))


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Trains with and without dropout, the large network with the settings that were chosen and the small one with one rate.

    Args:
        seed: seed of the images, of initial weights, order and dropout.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    numbers: dict[str, dict[str, float]] = {metric.name: {} for metric in METRICS}
    for case in SETTINGS:
        setting = chosen(case, data_dir)
        program, state = run(False, setting, seed, data_dir)
        test, train = (measured_on(program, state, split)["accuracy"] for split in ("test", "train"))
        numbers["accuracy"][case], numbers["gap"][case] = test, train - test
        numbers["learning_rate"][case], numbers["drop_probability"][case] = setting
        if case == DROPOUT:
            numbers["accuracy"][AVERAGED] = accuracy_of_average(program, state, setting[1], seed)
    for case, probability in ((SMALL, 0.0), (SMALL_DROPOUT, 0.5)):
        numbers["accuracy"][case] = measured_on(*run(True, (RATES[-1], probability), seed, data_dir), "test")["accuracy"]
    return Measured(numbers)


METRICS = (
    Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("gap", SHARE, higher_is_better=False),
    Metric("drop_probability"),
    Metric("learning_rate"),
)

measurement = Measurement(
    claim="C8",
    question="Does dropout help a network that over-fits, and only such a one?",
    measure=measure,
    metrics=METRICS,
    seeds=8,
    verdict=every(
        contrast(
            "C8", DROPOUT, "better", "Dropout lowers the test error of an MLP on 1,000 images", against=NONE, smallest=SMALLEST
        ),
        shown=(
            on("gap", contrast("C8", DROPOUT, "lower", "It narrows the gap between training and test", against=NONE)),
            equivalent(
                "C8",
                AVERAGED,
                0.002,
                "Halved weights classify as the average of 20 networks that dropout draws",
                against=DROPOUT,
                source="20 of 10,000 test images",
            ),
        ),
        requires=(
            on("gap", at_least("C8", NONE, 0.02, "Without dropout the network over-fits in every run")),
            contrast("C8", SMALL_DROPOUT, "worse", "Dropout harms 32 units on 54,000 images (the control)", against=SMALL),
        ),
        scope="an MLP of 512 and 512 ReLU units, 1,000 images of MNIST drawn by the seed, 1,000 steps, 10,000 test images",
    ),
    card=Card(
        published="Srivastava et al. (2014, Table 2), fully connected networks on all of MNIST: a standard one of two layers "
        "of 800 logistic units 1.60 % errors, three layers of 1,024 ReLU units with dropout 1.25 %.",
        would_change="A gain of less than 0.3 points on 1,000 images, each network at its best settings.",
        quick="--seeds=1",
        figure=Figure(),
        deviations="A sixtieth of the images and 1,000 steps, without dropout on the inputs. Of each network the rate, and the "
        "drop probability, have two values.",
    ),
)
