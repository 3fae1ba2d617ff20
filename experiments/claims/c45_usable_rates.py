"""Claim C45: adaptive optimisers do not depend strongly on the learning rate. Width of the usable range for an MLP on digits.

Paper:    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, 2015, arXiv 1412.6980 (hyper-parameters "typically
          require little tuning"), and lectures; Wilson, Roelofs, Stern, Srebro, Recht, The marginal value of adaptive gradient
          methods, 2017, arXiv 1705.08292, tune the rate of every optimiser
Command:  python launch.py measure --experiment=c45_usable_rates
Result:   absent; docs/claims/c45.md has the numbers.

An MLP of 100 and 100 ReLU units learns the 1,437 training images of scikit-learn's digits for 300 steps of 64 images at a
constant rate, for each of 25 rates from 1e-5 to 10, a quarter of a decade apart. A rate is usable where the loss over all
training images is below 0.1 at the end. Between the rates of the grid the logarithm of the loss is taken to be linear, with a
loss of more than 10, or none, as 10; the width of the usable range is the length in decades over which it is below the
threshold. The looser threshold of 0.5 is shown beside it. Seeds draw initial weights and order; all rates and optimisers of a
seed share both.

To say that an optimiser does not depend strongly on the rate, its range has to be wider by more than the step of a coarse
search: one decade. The optimisers differ in where the range lies, too, which is shown.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.data import digits
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import adam, momentum, rmsprop
from cnnlab.ops.schedules import constant

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"momentum": momentum, "RMSprop": rmsprop, "Adam": adam}
DECADES = np.linspace(-5.0, 1.0, 25)
"""log10 of the rates."""
SPACING = 0.01
FINE = np.arange(-5.0, 1.0, SPACING)
"""log10 of rates between those of the grid."""
HIGHEST = 10.0
"""Losses above this, and those that are no numbers, count as this."""
STEPS = 300
BATCH = 64
TIGHT, LOOSE = 0.1, 0.5
"""Training losses below which a rate is usable."""
MODEL = MLP(classes=10, widths=(100, 100))


@functools.cache
def training_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns the training images f32 [N, 8, 8, 1], of mean 0 and standard deviation 1, and their labels i32 [N]."""
    train = digits().splits["train"]
    pixels = np.asarray(train.images, np.float32)
    return (pixels - pixels.mean()) / pixels.std(), np.asarray(train.labels)


def batches(seed: int, size: int) -> np.ndarray:
    """Returns the positions i32 [STEPS, BATCH] of the images of every step, shuffled in every epoch."""
    draw, each = np.random.default_rng(seed), size // BATCH
    epochs = [draw.permutation(size)[: each * BATCH] for _ in range(-(-STEPS // each))]
    return np.concatenate(epochs).reshape(-1, BATCH)[:STEPS].astype(np.int32)  # [epochs·each·BATCH] -> [steps, BATCH]


@functools.cache
def final_losses(name: str) -> Callable[..., jax.Array]:
    """Returns the compiled function (rates [R], variables, images, labels, positions) -> training losses f32 [R] at the end."""

    def train(lr: jax.Array, params: Any, images: jax.Array, labels: jax.Array, positions: jax.Array) -> jax.Array:
        optimizer = OPTIMIZERS[name](steps=STEPS, schedule=constant, lr=lr)

        def loss(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            return jnp.mean(cross_entropy(MODEL.apply(params, images, train=True)[0], labels))

        def step(state: Any, at: jax.Array) -> tuple[Any, None]:
            params, held = state
            updates, held = optimizer.update(jax.grad(loss)(params, images[at], labels[at]), held, params)
            return (optax.apply_updates(params, updates), held), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), positions)
        return loss(params, images, labels)

    return jax.jit(jax.vmap(train, in_axes=(0, None, None, None, None)))


def between(loss: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the loss at the rates FINE, linear between those of DECADES."""
    return np.interp(FINE, DECADES, np.log(loss))


def measure(seed: int) -> Measured:
    """Returns the widths and places of the usable ranges for one draw of initial weights and order."""
    images, labels = training_images()
    params = jax.jit(functools.partial(MODEL.init, train=True))(jax.random.key(seed), images[:1])
    rates, positions = jnp.asarray(10.0**DECADES, jnp.float32), batches(seed, len(labels))
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
        losses = {name: np.asarray(final_losses(name)(rates, params, images, labels, positions)) for name in OPTIMIZERS}
    losses = {name: np.where(np.isfinite(loss), np.minimum(loss, HIGHEST), HIGHEST) for name, loss in losses.items()}
    usable = {name: FINE[between(loss) < np.log(TIGHT)] for name, loss in losses.items()}
    numbers = {
        "width": {name: len(rates) * SPACING for name, rates in usable.items()},
        "loose_width": {name: SPACING * float(np.sum(between(loss) < np.log(LOOSE))) for name, loss in losses.items()},
        # The middle of the grid where no rate is usable, which the requirements then say.
        "middle": {name: float(rates.mean()) if len(rates) else float(DECADES.mean()) for name, rates in usable.items()},
        "lowest_loss": {name: float(loss.min()) for name, loss in losses.items()},
        "loss_at_ends": {name: float(min(loss[0], loss[-1])) for name, loss in losses.items()},
    }
    curves = {name: tuple(zip((10.0**DECADES).tolist(), loss.tolist(), strict=True)) for name, loss in losses.items()}
    return Measured(numbers, curves)


def _wider(name: str, says: str) -> Any:
    return contrast("C45", name, "higher", says, against="momentum", smallest=1.0)


measurement = Measurement(
    claim="C45",
    question="Is the range of usable learning rates wider for RMSprop and Adam than for momentum, and where does it lie?",
    measure=measure,
    metrics=(
        Metric("width", "decades"),
        Metric("loose_width", "decades"),
        Metric("middle"),
        Metric("lowest_loss", "nats", higher_is_better=False, log_scale=True),
        Metric("loss_at_ends", "nats", higher_is_better=False, log_scale=True),
    ),
    seeds=12,
    verdict=every(
        _wider("Adam", "Adam's usable range is wider than momentum's by a decade"),
        _wider("RMSprop", "RMSprop's usable range is wider than momentum's by a decade"),
        shown=(
            on("loose_width", _wider("Adam", "Where a loss below 0.5 will do, Adam's range is wider by a decade")),
            on("loose_width", _wider("RMSprop", "Where a loss below 0.5 will do, RMSprop's range is wider by a decade")),
            on("middle", contrast("C45", "Adam", "lower", "Adam's range lies at lower rates", against="momentum")),
            on("middle", contrast("C45", "RMSprop", "lower", "RMSprop's range lies at lower rates", against="momentum")),
        ),
        requires=tuple(
            rule
            for name in OPTIMIZERS
            for rule in (
                on("lowest_loss", at_most("C45", name, TIGHT, f"At its best rate {name} trains the network")),
                on("loss_at_ends", at_least("C45", name, LOOSE, f"The grid ends outside the range of {name}")),
            )
        ),
        scope="an MLP of 100 and 100 ReLU units, 1,437 images of digits, 300 steps at a constant rate, training loss",
    ),
    card=Card(
        published=(
            "Kingma and Ba (2015): Adam's hyper-parameters “typically require little tuning”; Goodfellow et al. (2016), "
            "section 8.5: Adam is fairly robust to them, but the rate sometimes has to be changed. Wilson et al. (2017) find "
            "that tuning it helps in all of their tasks. None gives the width of a range."
        ),
        would_change="A usable range of Adam or RMSprop that is a decade wider than momentum's.",
        quick="--seeds=3",
        figure=Figure(x="learning rate", y="training loss after 300 steps in nats", log_x=True, log_y=True),
        deviations="The sources name no network for it. The smallest effect of interest is one decade, the step of a coarse "
        "search (0.1, 0.01, 0.001): less saves nobody a try. Only the training loss is looked at.",
    ),
)
