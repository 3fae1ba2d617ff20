"""Claim C1: a perceptron cannot learn XOR, a multi-layer perceptron with one hidden layer can; here: what each can represent.

Paper:    M. Minsky, S. Papert, Perceptrons, 1969; the counts: S. Muroga, Threshold logic and its applications, 1971
Command:  python launch.py measure --experiment=c01_separable
Result:   exact; docs/claims/c01.md has the numbers.

A linear threshold unit computes a Boolean function where a linear programme finds weights w and an offset b with ±(w · x + b) ≥
1 at every point x of {−1, 1}^n, with + where the function is 1. No training takes part, so no other weights can do better.
Whether a function is separable does not change where its inputs are permuted or negated, or its output is negated, so one
programme decides for all functions that are equal in this sense. That one hidden layer suffices for XOR is shown by weights of
an MLP with two ReLU units; c01_hidden_units measures how often training finds some.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linprog

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.data.procedural import xor
from cnnlab.metric import SHARE, Metric
from cnnlab.models.linear import mcculloch_pitts
from cnnlab.models.mlp import MLP

MOST_INPUTS = 4
"""Boolean functions of up to so many inputs are counted: 2, 4, 8 and 16 points, so 4, 16, 256 and 65,536 functions."""


def separating(points: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Returns (w, b) f64 [n + 1] with (2 · label − 1)(w · x + b) ≥ 1 at every point, or None where no line separates them.

    Args:
        points: f64 [N, n].
        labels: bool [N].
    """
    signs = np.where(labels, 1.0, -1.0)[:, None]  # [N, 1]
    rows = -signs * np.concatenate([points, np.ones((len(points), 1))], axis=1)  # [N, n + 1]
    found = linprog(np.zeros(rows.shape[1]), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None), method="highs")
    return found.x if found.status == 0 else None


def count_separable(inputs: int) -> int:
    """Returns how many of the 2^(2^n) Boolean functions of n inputs a linear threshold unit computes."""
    points = np.array(list(itertools.product([-1, 1], repeat=inputs)), np.int64)  # [2^n, n]
    size = len(points)
    place = 2 ** np.arange(inputs - 1, -1, -1)
    # A row for each way to permute and negate the inputs: the number of the point that takes the place of each point.
    moves = np.array(
        [
            ((points[:, list(order)] * np.array(flips) + 1) // 2) @ place
            for order in itertools.permutations(range(inputs))
            for flips in itertools.product([-1, 1], repeat=inputs)
        ]
    )  # [n! 2^n, 2^n]
    weights = 2 ** np.arange(size)
    seen, total = np.zeros(2**size, bool), 0
    for function in range(2**size):
        if not seen[function]:
            labels = (function // weights) % 2 == 1  # bool [2^n]
            alike = labels[moves] @ weights  # [n! 2^n]: the numbers of the functions that are equal up to these
            alike = np.unique(np.concatenate([alike, 2**size - 1 - alike]))
            seen[alike] = True
            total += len(alike) if separating(points, labels) is not None else 0
    return total


def best_threshold_unit(points: np.ndarray, labels: np.ndarray) -> float:
    """Returns the largest share of the points that a linear threshold unit classifies rightly."""
    chosen = (
        np.array(subset) for size in range(len(points), 0, -1) for subset in itertools.combinations(range(len(points)), size)
    )
    found = next(fit for fit in (separating(points[each], labels[each]) for each in chosen) if fit is not None)
    fired = mcculloch_pitts(jnp.asarray(points), jnp.asarray(found[:-1]), jnp.asarray(-found[-1]))
    return float(np.mean(np.asarray(fired) == labels))


def two_hidden_units(points: np.ndarray, labels: np.ndarray) -> float:
    """Returns the share of the points that an MLP of two hidden ReLU units with weights chosen by hand classifies rightly.

    On {−1, 1}² the units relu(a − b) and relu(b − a) add up to |a − b|, which is 2 where the inputs differ and 0 where not.
    """
    params = {
        "dense1": {"kernel": jnp.array([[1.0, -1.0], [-1.0, 1.0]]), "bias": jnp.zeros(2)},
        "output": {"kernel": jnp.array([[0.0, 1.0], [0.0, 1.0]]), "bias": jnp.array([1.0, 0.0])},
    }
    images = jnp.asarray(points).reshape(len(points), 1, 2, 1)  # [N, 2] -> [N, 1, 2, 1]
    logits, _ = MLP(classes=2, widths=(2,)).apply({"params": params}, images, train=False)
    return float(np.mean(np.asarray(jnp.argmax(logits, axis=1)) == labels))


def measure(seed: int) -> Measured:
    """Counts the separable functions of 1 to 4 inputs, and finds the best accuracies on XOR; the seed plays no part."""
    counts = {inputs: count_separable(inputs) for inputs in range(1, MOST_INPUTS + 1)}
    train = xor().splits["train"]
    points, labels = train.columns["image"].reshape(4, 2).astype(np.float64), train.columns["label"] == 1
    with jax.enable_x64(True):
        accuracy = {
            "best threshold unit": best_threshold_unit(points, labels),
            "two hidden units": two_hidden_units(points, labels),
        }
    return Measured(
        numbers={"functions": {f"{inputs} inputs": float(count) for inputs, count in counts.items()}, "accuracy": accuracy},
        curves={"linear threshold unit": tuple((float(n), count / 2.0 ** (2**n)) for n, count in counts.items())},
    )


measurement = Measurement(
    claim="C1",
    question="Which Boolean functions does a linear threshold unit compute, and does a hidden layer of two units compute XOR?",
    measure=measure,
    metrics=(Metric("accuracy", SHARE, higher_is_better=True), Metric("functions")),
    seeds=1,
    verdict=every(
        on(
            "functions",
            identity("C1", "2 inputs", 14.0, 0.0, "Of the 16 Boolean functions of two inputs a threshold unit computes 14"),
        ),
        identity("C1", "best threshold unit", 0.75, 0.0, "The best threshold unit gets three of the four points of XOR right"),
        identity("C1", "two hidden units", 1.0, 0.0, "An MLP with two hidden ReLU units gets all four right"),
        shown=(
            on("functions", identity("C1", "3 inputs", 104.0, 0.0, "Of 256 functions of three inputs it computes 104")),
            on("functions", identity("C1", "4 inputs", 1882.0, 0.0, "Of 65,536 functions of four inputs it computes 1,882")),
        ),
        scope="all Boolean functions of one to four inputs; what can be represented, not what training finds",
    ),
    card=Card(
        published=(
            "Minsky and Papert (1969) prove that no threshold unit computes XOR (parity of two inputs). Muroga (1971) counts "
            "14, 104 and 1,882 threshold functions of two, three and four inputs."
        ),
        would_change="A threshold unit that gets all four points of XOR right; the linear programme excludes it.",
        figure=Figure(x="number of inputs", y="share of the Boolean functions"),
        deviations="Minsky and Papert's theorem is about parity of n inputs and limited order; this is its case of two inputs.",
    ),
)
