"""Claim C27: where the discriminator is certain, the generator's gradient vanishes with the saturating loss alone.

Paper:    M. Arjovsky, L. Bottou, Towards principled methods for training generative adversarial networks, 2017, arXiv
          1701.04862, Figures 2 and 3; I. Goodfellow et al., Generative adversarial networks, 2014, arXiv 1406.2661, section 3
Command:  python launch.py measure --experiment=c27_generator_gradient
Result:   supported at small scale; docs/claims/c27.md has the numbers.

Let l be the discriminator's score before the sigmoid and D = sigmoid(l). The derivative of the generator's loss by l has the
size D with the saturating loss, log(1 − D), and 1 − D with the non-saturating one, −log D. That is exact. How small D(G(z))
becomes, and what the chain rule makes of it, is measured: the generator keeps its random weights, the discriminator is trained.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most, identity
from cnnlab.ablation.analyse.verdicts import bounded, equivalent, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, Batch, Experiment, TrainState
from cnnlab.engine.in_memory import on_devices, train_in_memory
from cnnlab.engine.program import Program
from cnnlab.metric import Metric
from cnnlab.ops.gan_losses import GAN_LOSSES
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.tasks.gan import DISCRIMINATOR, GENERATOR

STEPS = (0, 10, 50, 100, 200, 400, 800)
"""Steps of the discriminator after which the generator's gradient is measured."""
CODES = 512
"""Number of codes over which the generator's loss is averaged."""
LOSSES = {"saturating": "saturating", "non-saturating": "non_saturating"}
"""{name of a loss in words: its name in GAN_LOSSES}."""
SCORES = 30.0
"""Largest size of the scores at which the derivatives are compared."""


@functools.cache
def game(loss: str) -> Experiment:
    """Returns the game of a generator 16-128-128-64 and a discriminator 64-128-128-1 on digits; the discriminator alone moves.

    Args:
        loss: name in GAN_LOSSES; the discriminator's own loss is the same for both of LOSSES.
    """
    given = {
        "model": "mlp",
        "model.generator_widths": "128,128",
        "model.discriminator_widths": "128,128",
        "model.pieces": 1,
        "model.dropout": 0.0,
        "data.dataset": "digits",
        "data.batch_size": 64,
        "loss": loss,
        "latent": 16,
        "optimizer.lr": 0.001,
        "duration": f"{STEPS[-1]} steps",
        "average_decay": 0.0,
    }
    built: Experiment = knobs.resolve(adversarial_pair, given).call()
    return dataclasses.replace(built, task=dataclasses.replace(built.task, turns=(DISCRIMINATOR,)))


@functools.cache
def program() -> Program:
    """Returns the compiled game."""
    return on_devices(game("saturating"))


@functools.partial(jax.jit, static_argnums=0)
def generator_gradient(loss: str, state: TrainState, key: Array) -> tuple[Array, Array]:
    """Returns (norm of the gradient of the generator's loss by its weights [], mean D(G(z)) []) over CODES codes.

    Args:
        loss: name in GAN_LOSSES.
        state: a state of `game`, of which parameters and model state are used.
        key: key of the codes.
    """
    # The generator's loss takes the number of images, their shape and type from the batch, not their values.
    order = jnp.arange(CODES, dtype=jnp.int32)
    batch: Batch = {"image": jnp.zeros((CODES, 8, 8, 1), jnp.float32), "label": order * 0, "index": order}
    task = game(loss).task

    def loss_of(own: Array) -> Array:
        return task.loss({**state.params, GENERATOR: own}, state.model_state, batch, key, GENERATOR)[0]

    gradient = jax.grad(loss_of)(state.params[GENERATOR])
    _, (_, stats) = task.loss(state.params, state.model_state, batch, key, DISCRIMINATOR)
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
    return norm, stats["sums"]["fake_score"] / CODES


def derivative_gaps() -> dict[str, float]:
    """Returns, by loss, the largest gap in f64 between the size of its derivative by the score l and D, or 1 − D."""
    with jax.enable_x64(True):
        scores = jnp.linspace(-SCORES, SCORES, 2001, dtype=jnp.float64)  # [N]
        expected = {"saturating": jax.nn.sigmoid(scores), "non-saturating": jax.nn.sigmoid(-scores)}
        derivatives = {
            name: jax.vmap(jax.grad(lambda score, loss=loss: GAN_LOSSES[loss]().generator(score)))(scores)
            for name, loss in LOSSES.items()
        }
        return {name: float(jnp.max(jnp.abs(jnp.abs(derivatives[name]) - expected[name]))) for name in LOSSES}


def measure(seed: int) -> Measured:
    """Returns the gaps of the derivatives, and D(G(z)) and log10 of the gradient's norm for each loss by STEPS."""
    states = train_in_memory(program(), seed, at=STEPS).states
    norms: dict[str, list[tuple[float, float]]] = {name: [] for name in LOSSES}
    certainty: list[tuple[float, float]] = []
    for step in STEPS:
        for name, loss in LOSSES.items():
            norm, fake_score = generator_gradient(loss, states[step], jax.random.key(seed))
            norms[name].append((float(step), float(norm)))
        certainty.append((float(step), float(fake_score)))
    first, last = (f"after {step} steps" for step in (STEPS[0], STEPS[-1]))
    logarithms = {
        f"{name}, {when}": float(np.log10(norms[name][place][1])) for name in LOSSES for when, place in ((first, 0), (last, -1))
    }
    return Measured(
        numbers={
            "log10_gradient": logarithms,
            "derivative_gap": derivative_gaps(),
            "fake_score": {first: certainty[0][1], last: certainty[-1][1]},
        },
        curves={
            **{f"{name}: norm of the gradient": tuple(points) for name, points in norms.items()},
            "D(G(z)), a probability": tuple(certainty),
        },
    )


measurement = Measurement(
    claim="C27",
    question="Does the generator's gradient vanish where the discriminator is certain, and with which loss?",
    measure=measure,
    metrics=(
        Metric("log10_gradient", higher_is_better=True),
        Metric("derivative_gap", higher_is_better=False),
        Metric("fake_score"),
    ),
    seeds=8,
    verdict=every(
        on(
            "derivative_gap",
            identity("C27", "saturating", 0.0, 1e-12, "With the saturating loss the derivative by the score is D"),
        ),
        on(
            "derivative_gap",
            identity("C27", "non-saturating", 0.0, 1e-12, "With the non-saturating loss the derivative by the score is 1 − D"),
        ),
        bounded(
            "C27",
            "saturating, after 800 steps",
            "not better",
            -2.0,
            "After 800 steps of the discriminator the saturating loss leaves less than a hundredth of the gradient",
            against="non-saturating, after 800 steps",
            source="two of the five decades of Arjovsky and Bottou 2017, Figure 2",
        ),
        requires=(
            on(
                "fake_score",
                at_most("C27", "after 800 steps", 0.01, "The discriminator becomes certain: D(G(z)) is below 0.01"),
            ),
            equivalent(
                "C27",
                "saturating, after 0 steps",
                1.0,
                "Before the discriminator is trained the two gradients are of one size (the control)",
                against="non-saturating, after 0 steps",
                source="half of the difference that the claim expects",
            ),
        ),
        scope="an untrained fully connected generator, 800 steps of the discriminator on digits of 8x8",
    ),
    card=Card(
        published=(
            "Arjovsky and Bottou 2017: with the generator of a DCGAN fixed and the discriminator trained anew, the gradient of "
            "the saturating loss falls, in the best case by 5 decades in 4,000 steps (Figure 2), and that of the "
            "non-saturating loss grows (Figure 3)."
        ),
        would_change=(
            "A discriminator that tells samples from images with certainty while the saturating loss leaves the generator a "
            "gradient within a factor of a hundred of the other loss's."
        ),
        figure=Figure(x="steps of the discriminator", y="norm of the gradient, and D(G(z))", log_y=True),
        deviations=(
            "Fully connected networks on 8x8 digits and an untrained generator, where the source takes DCGANs after 1, 10 and "
            "25 epochs; 800 steps of the discriminator, not 4,000."
        ),
    ),
)
