"""Claim C24, exact half: on its training images no linear autoencoder reconstructs better than PCA; trained, it comes near.

Paper:    P. Baldi, K. Hornik, Neural networks and principal component analysis, 1989, Neural Networks 2; C. Eckart, G. Young,
          The approximation of one matrix by another of lower rank, 1936, Psychometrika 1
Command:  python launch.py measure --experiment=c24_linear_autoencoder
Result:   exact; docs/claims/c24.md has the numbers.

A linear autoencoder with a code of Z units maps images to an affine subspace of Z dimensions, and by Eckart and Young the
principal components span the best one. So its squared error on the training images is at least that of PCA, before, during and
after training. On other images nothing follows. c24_autoencoder_pca has the deep autoencoder and MNIST.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, Experiment, Task, TrainState
from cnnlab.data.arrays import digits
from cnnlab.engine.in_memory import on_devices, train_in_memory
from cnnlab.engine.program import Program
from cnnlab.metric import SHARE, Metric
from cnnlab.recipes.autoencoder import principal_components, reconstruction

CODE = 8
"""Number of units of the code, and of principal components."""
EPOCHS = 100
STEPS = (0, 10, 30, 100, 300, 1000)
"""Steps of training after which the error is measured, beside the last."""
ROUNDING = 1e-9
"""Excess that rounding in f64 may hide."""
ANY = "any linear autoencoder"
"""Name of the case of both autoencoders at all steps."""
KINDS = {"two matrices": False, "one matrix, transposed in the decoder": True}
"""{name of a case: whether the decoder's matrix is that of the encoder, transposed}."""


def images() -> Array:
    """Returns the training images of digits f64 [N, 8, 8, 1] in [0, 1]; jax.enable_x64 must be on."""
    return jnp.asarray(digits().splits["train"].columns["image"], jnp.float64) / 255


@functools.cache
def autoencoder(tied: bool) -> Program:
    """Returns the compiled training of a linear autoencoder by Adam on the squared error, on all training images."""
    given = {
        "model": "linear",
        "model.code": CODE,
        "model.tied": tied,
        "data.dataset": "digits",
        "data.batch_size": 64,
        "data.validation": 0.0,
        "optimizer.lr": 0.03,
        "duration": f"{EPOCHS} epochs",
    }
    return on_devices(knobs.resolve(reconstruction, given).call())


def squared_error(task: Task, state: TrainState) -> float:
    """Returns the mean over the training images of the squared error, summed over pixels, all in f64."""
    with jax.enable_x64(True):
        params, model_state, exact = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
            for tree in (state.params, state.model_state, images())
        )
        errors = (jax.jit(task.predict)(params, model_state, exact) - exact) ** 2
        return float(jnp.mean(jnp.sum(errors, axis=(1, 2, 3))))


@functools.cache
def smallest_error() -> float:
    """Returns the smallest squared error of an affine map of rank CODE (Eckart and Young 1936), from singular values in f64."""
    with jax.enable_x64(True):
        values = np.asarray(images()).reshape(-1, 64)  # [N, H, W, C] -> [N, D]
    singular = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    return float(np.sum(singular[CODE:] ** 2) / len(values))


def measure(seed: int) -> Measured:
    """Returns the error of PCA and of two linear autoencoders, relative to the smallest that is possible."""
    pca: Experiment = knobs.resolve(principal_components, {"data.dataset": "digits", "components": CODE}).call()
    ratios = {"PCA": squared_error(pca.task, on_devices(pca).init(seed)) / smallest_error()}
    curves = {}
    for name, tied in KINDS.items():
        trained = autoencoder(tied)
        task, last = trained.experiment.task, trained.experiment.steps
        states = train_in_memory(trained, seed, at=STEPS).states
        relative = {step: squared_error(task, state) / smallest_error() for step, state in states.items()}
        ratios |= {f"{name}, untrained": relative[0], f"{name}, trained": relative[last]}
        # The axis of steps is logarithmic: the untrained network stands at 1.
        curves[name] = tuple((float(max(step, 1)), ratio) for step, ratio in sorted(relative.items()))
    smallest = min(ratio for points in curves.values() for _, ratio in points)
    return Measured(
        {"excess": {name: ratio - 1 for name, ratio in ratios.items()}, "smallest_excess": {ANY: smallest - 1}}, curves
    )


measurement = Measurement(
    claim="C24",
    question="Can a linear autoencoder reconstruct its training images better than PCA, and how near does training come?",
    measure=measure,
    metrics=(Metric("excess", SHARE, higher_is_better=False), Metric("smallest_excess", SHARE, higher_is_better=False)),
    seeds=8,
    verdict=every(
        on(
            "smallest_excess",
            at_least("C24", ANY, -ROUNDING, "No linear autoencoder goes below the error of PCA, at any step of its training"),
        ),
        *(
            at_most("C24", f"{name}, trained", 0.01, f"Trained, a linear autoencoder of {name} comes within 1 % of PCA")
            for name in KINDS
        ),
        requires=(
            identity("C24", "PCA", 0.0, 1e-6, "PCA has the smallest error that is possible"),
            *(
                at_least(
                    "C24", f"{name}, untrained", 0.5, f"Untrained, a linear autoencoder of {name} is far from PCA (the control)"
                )
                for name in KINDS
            ),
        ),
        scope="the 1,438 training images of scikit-learn's digits, codes of 8 numbers",
    ),
    card=Card(
        published=(
            "Baldi and Hornik 1989 prove that the squared error of a linear autoencoder has one minimum, at the subspace of "
            "the principal components, and that all other critical points are saddles. They state no number."
        ),
        would_change="A linear autoencoder with a smaller squared error on its training images than PCA, in double precision.",
        figure=Figure(x="step", y="squared error on the training images, PCA = 1", log_x=True, log_y=True),
        deviations=(
            "Baldi and Hornik assume images of mean 0 and no biases; here biases learn the mean. That training comes within "
            "1 % is measured with one rate, chosen on other seeds. The inequality is about training images: on test images a "
            "linear autoencoder may be better than PCA by chance."
        ),
    ),
)
