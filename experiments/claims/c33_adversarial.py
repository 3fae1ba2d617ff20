"""Claim C33: steps of invisible size against the gradient break a classifier, and noise can be made to look certain to it.

Paper:    Goodfellow, Shlens, Szegedy, Explaining and harnessing adversarial examples, 2014, arXiv 1412.6572, sections 3 to 5;
          Nguyen, Yosinski, Clune, Deep neural networks are easily fooled, 2014, arXiv 1412.1897
Command:  python launch.py measure --experiment=c33_adversarial
Result:   supported at small scale; docs/claims/c33.md has the numbers.

Softmax regression and LeNet-5 are trained on MNIST, and all 10,000 test images are attacked by the fast gradient sign method:
each pixel moves by ε in the direction in which the loss rises. The control moves each pixel by ε up or down at random, which
is a change of the same size. An attacked image counts as right where the image itself is right, too.

The exact half is section 3's account of linear models: the score of the right class falls by ε‖w‖₁ against another, w the
difference of their weights, however little each pixel changes. It is measured in float64 on weights of the trained softmax
regression, for grey images from which no pixel reaches 0 or 1.

For the second half, images of uniform noise are moved along the gradient until LeNet-5 takes them for a given class with a
probability of 99 %, one image for each of the ten classes.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import CLASSIFIER, TrainState
from cnnlab.engine.family import Family, family
from cnnlab.engine.in_memory import train_in_memory
from cnnlab.engine.train import evaluate
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.attacks import fgsm, toward_class
from cnnlab.ops.losses import cross_entropy
from cnnlab.recipes.classification import classification
from cnnlab.tasks.adversarial import Pixels

EPSILONS = (0.1, 0.25)
"""Changes of a pixel, of [0, 1]; 0.25 is that of the paper on MNIST."""
STEPS = 1500
"""Steps of training, of 64 images each."""
NETWORKS = {"softmax regression": ("linear", 0.02), "LeNet-5": ("lenet5", 0.02)}
"""Name -> (model, learning rate)."""
CONFIDENCE = 0.99
LR = "optimizer.lr"


@functools.cache
def compiled(network: str, data_dir: str | None) -> Family:
    """Returns the compiled training and measurement of a network."""
    model, lr = NETWORKS[network]
    given = {
        "model": model,
        "data.dataset": "tfds:mnist",
        "data.batch_size": 64,
        "optimizer": "momentum",
        "duration": f"{STEPS} steps",
        "metrics": "robust_accuracy",
        "metrics.robust_accuracy.attack": "fgsm",
        "metrics.robust_accuracy.epsilons": ",".join(map(str, EPSILONS)),
    }
    return family(knobs.resolve(classification, given, {"data_dir": data_dir}), {LR: lr})


def trained(network: str, seed: int, data_dir: str | None) -> tuple[TrainState, dict[str, float]]:
    """Returns the state of a trained network and its numbers on the test images."""
    program = compiled(network, data_dir).member({LR: NETWORKS[network][1]}, seed)
    (state,) = train_in_memory(program, seed).states.values()
    stats = evaluate(program, program.strategy.to_devices(state), "test", final=True)
    return state, program.experiment.task.summary(stats)


def linear_model(weights: np.ndarray, seed: int) -> dict[str, float]:
    """Returns how far the fall of the margin is from ε‖w‖₁, relative to it, and the largest change of a pixel from ε.

    Args:
        weights: f32 [pixels, 10] of softmax regression.
        seed: seed of the images.
    """
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        epsilon, columns = EPSILONS[0], jnp.asarray(weights, jnp.float64)
        images = jnp.asarray(np.random.default_rng(seed).uniform(0.3, 0.7, (10, len(weights), 1, 1)))
        labels, others = jnp.arange(10), jnp.roll(jnp.arange(10), 1)
        directions = columns[:, labels] - columns[:, others]  # [pixels, 10], a column for each image

        def margins(images: jax.Array) -> jax.Array:
            return jnp.einsum("bi,ib->b", images[:, :, 0, 0], directions)[:, None]

        def fall(margins: jax.Array, labels: jax.Array) -> jax.Array:
            return -margins[:, 0]

        moved = fgsm(margins, images, labels, None, fall, epsilon=epsilon)
        expected = epsilon * np.abs(np.asarray(directions)).sum(axis=0)
        gaps = np.abs(np.asarray(margins(images) - margins(moved))[:, 0] - expected) / expected
        return {"margin": float(gaps.max()), "change": float(np.abs(np.abs(moved - images).max() - epsilon))}


def fooled(state: TrainState, seed: int, data_dir: str | None) -> np.ndarray:
    """Returns the probability f64 [10] of each class for noise that was moved towards it."""
    experiment = compiled("LeNet-5", data_dir).program.experiment
    pixels, targets = Pixels.of(experiment.data.inputs), jnp.arange(10, dtype=jnp.int32)
    noise = jnp.asarray(np.random.default_rng(seed).uniform(size=(10, *experiment.data.image_shape)), jnp.float32)

    def logits_of(images: jax.Array) -> jax.Array:
        return experiment.task.predict(state.params, state.model_state, (images - pixels.subtract) / pixels.divide)

    moved = jax.jit(functools.partial(toward_class, logits_of, confidence=CONFIDENCE))(noise, targets)
    return np.exp(-np.asarray(cross_entropy(logits_of(moved), targets), np.float64))


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Returns the errors of both networks attacked and on noise, the margin of a linear model, and the certainty of noise.

    Args:
        seed: seed of initial weights, order, and of the images of noise.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    errors: dict[str, float] = {}
    curves: dict[str, Any] = {}
    states: dict[str, TrainState] = {}
    for network in NETWORKS:
        states[network], found = trained(network, seed, data_dir)
        errors[network] = 1 - found["accuracy"]
        for kind, name in (("attacked", "robust"), ("noise", "noise")):
            wrong = {epsilon: 1 - found[f"{name}_accuracy_{epsilon:g}"] for epsilon in EPSILONS}
            errors |= {f"{network}, {kind} by {epsilon:g}": share for epsilon, share in wrong.items()}
            curves[f"{network}, {kind}"] = ((0.0, errors[network]), *wrong.items())
    kernel = np.asarray(states["softmax regression"].params[CLASSIFIER]["output"]["kernel"])
    exact, probabilities = linear_model(kernel, seed), fooled(states["LeNet-5"], seed, data_dir)
    return Measured(
        {
            "error": errors,
            "gap": {"fall of the margin": exact["margin"], "change of a pixel": exact["change"]},
            "probability": {"the least certain class": float(probabilities.min())},
        },
        curves,
    )


measurement = Measurement(
    claim="C33",
    question="How many images of MNIST does a step of the fast gradient sign method break, and can noise be of any class?",
    measure=measure,
    metrics=(
        Metric("error", SHARE, higher_is_better=False, is_proportion=True),
        Metric("gap", higher_is_better=False),
        Metric("probability", SHARE, higher_is_better=True),
    ),
    seeds=5,
    verdict=every(
        on("gap", identity("C33", "fall of the margin", 0.0, 1e-12, "A linear model's margin falls by ε‖w‖₁")),
        on("gap", identity("C33", "change of a pixel", 0.0, 1e-15, "No pixel changes by more than ε")),
        contrast(
            "C33",
            "LeNet-5, attacked by 0.1",
            "worse",
            "LeNet-5 errs more on attacked images than on noise of the same size",
            against="LeNet-5, noise by 0.1",
            smallest=0.1,
        ),
        contrast(
            "C33",
            "softmax regression, attacked by 0.1",
            "worse",
            "Softmax regression errs more on attacked images than on noise of the same size",
            against="softmax regression, noise by 0.1",
            smallest=0.1,
        ),
        on("probability", at_least("C33", "the least certain class", CONFIDENCE, "Noise reaches every class with certainty")),
        shown=(
            at_least("C33", "softmax regression, attacked by 0.25", 0.99, "ε = 0.25 breaks softmax regression on 99 %"),
            at_least("C33", "LeNet-5, attacked by 0.25", 0.6, "ε = 0.25 breaks LeNet-5 on 60 %"),
        ),
        requires=(
            at_most("C33", "LeNet-5", 0.03, "LeNet-5 learns MNIST in every run"),
            at_most("C33", "softmax regression", 0.12, "Softmax regression learns MNIST in every run"),
        ),
        scope="softmax regression and LeNet-5 on MNIST, 1,500 steps of 64 images, FGSM in the maximum norm",
    ),
    card=Card(
        published="Goodfellow et al. (2014, section 4): with ε = 0.25 a shallow softmax classifier errs on 99.9 % of the test "
        "images of MNIST with a mean confidence of 79.3 %, and a maxout network on 89.4 %.",
        would_change="An error on attacked images that exceeds that on noise of the same size by less than 10 points.",
        deviations="LeNet-5 in place of a maxout network. Whether a change is invisible is a matter of the eye and is not "
        "tested; ε stands for it. Fooling images start from noise and follow the gradient, without evolution.",
        figure=Figure(x="ε", y="error"),
        quick="--seeds=1",
    ),
)
