"""Claim C32, exact half: the averaged probabilities of an ensemble never have a larger loss than its members on average.

Paper:    Lakshminarayanan, Pritzel, Blundell, Simple and scalable predictive uncertainty estimation using deep ensembles, 2017,
          arXiv 1612.01474, section 2.4 and Figure 2
Command:  python launch.py measure --experiment=c32_ensemble_likelihood
Result:   exact; docs/claims/c32.md has the numbers.

−log is convex, so by Jensen's inequality −log of the mean probability of the right class is at most the mean of −log, for every
example and whatever the members are. Averaged over all ensembles of n out of ten members, the loss therefore falls with n. How
much it falls is measured. Of the accuracy nothing follows: c32_ensembles tests that.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.engine.in_memory import on_devices, train_in_memory
from cnnlab.engine.program import Program
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.recipes.classification import ensemble_classification
from cnnlab.tasks.ensemble import Members, log_mean_probabilities

MEMBERS = 10
SIZES = (2, 5, 10)
"""Numbers of members whose gain is measured."""
WIDTHS = (64,)
"""Units of the hidden layers of a member."""
ROUNDING = 1e-12
"""What rounding in f64 may hide, in nats."""
MEASURABLE = 1e-4
"""Gain of the mean loss in nats that is above any rounding."""


@functools.cache
def program() -> Program:
    """Returns the compiled training of ten networks with one hidden layer on digits, for ten epochs, in one program."""
    given = {
        "members": MEMBERS,
        "model": "mlp",
        "model.widths": ",".join(map(str, WIDTHS)),
        "data.dataset": "digits",
        "data.batch_size": 64,
        "duration": "10 epochs",
    }
    return on_devices(knobs.resolve(ensemble_classification, given).call())


def losses_of_members(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Trains by a seed; returns (log probabilities f64 [M, B, K] of all members on the test images, their labels [B])."""
    data = program().experiment.data
    state = train_in_memory(program(), seed).states[program().experiment.steps]
    feed = next(data.evaluate("test", data.sizes["test"]))
    batch = data.prepare(data.resident.get("test", {}), jax.tree.map(jnp.asarray, feed), None)
    logits = Members(MLP(classes=data.classes, widths=WIDTHS), MEMBERS).apply({"params": state.params}, batch["image"])
    with jax.enable_x64(True):
        logs = jax.nn.log_softmax(jnp.asarray(np.asarray(logits), jnp.float64), axis=-1)
        return np.asarray(logs), np.asarray(batch["label"])


def losses_of_ensembles(logs: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Returns the loss of ensembles on every example, f64 [S, B].

    Args:
        logs: log probabilities of all members f64 [M, B, K].
        labels: classes [B].
        members: the members of each of S ensembles [S, n].
    """
    with jax.enable_x64(True):
        # [S, n, B, K] -> [n, S, B, K]; the mean is over the first axis
        scores = np.asarray(log_mean_probabilities(jnp.asarray(np.moveaxis(logs[members], 1, 0))))
    return -scores[:, np.arange(len(labels)), labels]  # [S, B, K] at the labels -> [S, B]


def measure(seed: int) -> Measured:
    """Returns the smallest gain of any example, and the gain of the mean loss, of ensembles of SIZES members."""
    logs, labels = losses_of_members(seed)
    alone = losses_of_ensembles(logs, labels, np.arange(MEMBERS)[:, None])  # [M, B]
    of_example: dict[str, float] = {}
    gain: dict[str, float] = {}
    for size in SIZES:
        together = losses_of_ensembles(logs, labels, np.arange(size)[None])[0]
        of_example[f"{size} members"] = float(np.min(alone[:size].mean(axis=0) - together))
        gain[f"{size} members"] = float(np.mean(alone[:size]) - np.mean(together))
    twins = losses_of_ensembles(logs, labels, np.zeros((1, MEMBERS), int))[0]
    gain["one network ten times"] = float(np.mean(alone[0]) - np.mean(twins))
    # The mean loss f64 [B] of all ensembles of n members, by n.
    by_size = [
        losses_of_ensembles(logs, labels, np.array(list(itertools.combinations(range(MEMBERS), size)))).mean(axis=0)
        for size in range(1, MEMBERS + 1)
    ]
    smallest = min(float(np.min(fewer - more)) for fewer, more in itertools.pairwise(by_size))
    return Measured(
        numbers={
            "smallest_gain": of_example,
            "gain": gain,
            "gain_of_one_more": {"any number of members": smallest},
        },
        curves={
            "mean of all ensembles": tuple((float(size), float(each.mean())) for size, each in enumerate(by_size, start=1))
        },
    )


measurement = Measurement(
    claim="C32",
    question="Can averaging the probabilities of networks raise the loss, and what does it gain with more of them?",
    measure=measure,
    metrics=(
        Metric("smallest_gain", "nats", higher_is_better=True),
        Metric("gain", "nats", higher_is_better=True),
        Metric("gain_of_one_more", "nats", higher_is_better=True),
    ),
    seeds=8,
    verdict=every(
        *(
            at_least(
                "C32", f"{size} members", -ROUNDING, f"On no example is the loss of {size} networks above their members' mean"
            )
            for size in SIZES
        ),
        *(
            on(
                "gain",
                at_least("C32", f"{size} members", MEASURABLE, f"The mean loss of {size} networks is below their members'"),
            )
            for size in SIZES
        ),
        on(
            "gain_of_one_more",
            at_least(
                "C32",
                "any number of members",
                -ROUNDING,
                "Averaged over all ensembles of as many of the ten, one more member raises the loss of no example",
            ),
        ),
        requires=(
            on(
                "gain",
                identity(
                    "C32",
                    "one network ten times",
                    0.0,
                    ROUNDING,
                    "An ensemble of one network ten times gains nothing (the control)",
                ),
            ),
        ),
        scope="the loss of networks with one hidden layer on the 359 test images of digits, ten epochs",
    ),
    card=Card(
        published=(
            "Lakshminarayanan et al. 2017, Figure 2: on MNIST the loss of an ensemble falls with every member, most with the "
            "second to fifth; the paper draws curves and states no numbers."
        ),
        would_change="An example on which the averaged probabilities have a larger loss than the members' mean, in f64.",
        figure=Figure(x="members", y="loss on the test images in nats"),
        deviations=(
            "Small networks on 8x8 digits. Members take the same batches and differ by their initial weights alone. The "
            "inequality is about the loss, not the accuracy, and says nothing of the best member."
        ),
    ),
)
