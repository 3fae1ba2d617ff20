"""Claim C46: dropout regularises better than L1 or L2, each tuned. An MLP on 1,000 labels of MNIST.

Paper:    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, Dropout: a simple way to prevent neural
          networks from overfitting, 2014, table 9
Command:  python launch.py measure --experiment=c46_tuned_regularizers
Result:   not run yet.

An MLP of 256 and 256 ReLU units learns 1,000 images for 1,600 steps, without regularisation, with dropout of the hidden units,
with L2 and with L1 penalties, each in six strengths. Of every kind the strength, none among them, with the fewest errors on
2,000 further training images is taken (of equal ones the weaker), and its errors on the 10,000 test images are compared. Every
seed draws the images, the initial weights and the order, which all share; so the tuning is a part of what is repeated. The
grids and the number of steps were chosen on seed 0, which the measurement does not use.

The least effect of interest is a quarter of the source's effect on a logarithmic axis, 1.62 % errors with L2 to 1.25 % with
dropout and L2: a ratio of 0.94.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import SHARE, Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.optimizers import momentum
from cnnlab.ops.regularizers import penalties
from cnnlab.ops.schedules import cosine
from experiments.claims.c41_nearest_neighbours import mnist

CLASSES, EACH, VALIDATION = 10, 100, 2000
"""Classes, labelled training images of each, and images by which strengths are chosen."""
SIDE, CUT = 28, 4
"""Height and width of an image, and the rows and columns, which are nearly empty, that are cut off at each border."""
WIDTHS, STEPS, BATCH, RATE = (256, 256), 1600, 64, 0.05
STRENGTHS = {
    "dropout": (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8),
    "L2": (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "L1": (0.0, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
}
"""{kind: strengths}: probabilities of dropping a unit, and weights of Σ w² and of Σ |w|; 0 is no regularisation."""
NONE = "none"
SMALLEST = math.log(1.62 / 1.25) / 4
"""Smallest effect of interest, in the logarithm of the error."""

Images = tuple[Any, Any]
"""Pixels f32 [N, H, W, 1] of mean 0 and variance 1, and labels i32 [N]."""


def drawn(seed: int, data_dir: str | None) -> dict[str, Images]:
    """Returns the training and validation images that a seed draws, and all test images."""
    splits, draw = mnist(data_dir), np.random.default_rng(seed)
    labels = splits["train"][1]
    order = draw.permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == each][:EACH] for each in range(CLASSES)])
    further = order[~np.isin(order, chosen)][:VALIDATION]
    return {
        "train": prepared(splits["train"], chosen),
        "validation": prepared(splits["train"], further),
        "test": prepared(splits["test"], np.arange(len(splits["test"][1]))),
    }


def prepared(split: tuple[np.ndarray, np.ndarray], positions: np.ndarray) -> Images:
    """Returns some images of a split without their borders, normalised by the mean and deviation of MNIST's pixels."""
    pixels = split[0][positions].reshape(-1, SIDE, SIDE, 1)  # [N, 784] -> [N, 28, 28, 1]
    inner = pixels[:, CUT:-CUT, CUT:-CUT].astype(np.float32) / 255
    return (inner - 0.1307) / 0.3081, split[1][positions].astype(np.int32)


def network(kind: str, strength: Any) -> MLP:
    """Returns the network, with dropout where that is the kind."""
    return MLP(CLASSES, WIDTHS, dropout=strength if kind == "dropout" else 0.0)


@functools.cache
def trained(kind: str) -> Callable[..., Any]:
    """Returns the compiled function (strengths [R], key, params, images, positions) -> {split: shares of errors f32 [R]}."""

    def train(strength: Any, key: jax.Array, params: Any, images: dict[str, Images], positions: jax.Array) -> Any:
        weights: dict[str, Any] = {"L2": {"l2": strength}, "L1": {"l1": strength}}.get(kind, {})
        optimizer = penalties(momentum(steps=STEPS, schedule=cosine, lr=RATE), **weights)

        def loss(params: Any, at: jax.Array, noise: jax.Array) -> jax.Array:
            pixels, labels = images["train"]
            logits = network(kind, strength).apply(params, pixels[at], train=True, rngs={"dropout": noise})[0]
            return jnp.mean(cross_entropy(logits, labels[at]))

        def step(state: Any, given: Any) -> tuple[Any, None]:
            (params, held), (number, at) = state, given
            gradient = jax.grad(loss)(params, at, jax.random.fold_in(key, number))
            updates, held = optimizer.update(gradient, held, params)
            return (optax.apply_updates(params, updates), held), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), (jnp.arange(STEPS), positions))

        def errors(split: Images) -> jax.Array:
            answers = jnp.argmax(network(NONE, 0.0).apply(params, split[0], train=False)[0], axis=1)
            return jnp.mean((answers != split[1]).astype(jnp.float32))

        return {name: errors(split) for name, split in images.items()}

    return jax.jit(jax.vmap(train, in_axes=(0, None, None, None, None)))


def measure(seed: int, data_dir: str | None = None) -> Measured:
    """Returns the errors of each kind at the strength that the validation images choose, for one draw of images."""
    images = drawn(seed, data_dir)
    size, draw = EACH * CLASSES, np.random.default_rng(seed)
    epochs = [draw.permutation(size)[: size // BATCH * BATCH] for _ in range(-(-STEPS // (size // BATCH)))]
    positions = np.concatenate(epochs).reshape(-1, BATCH)[:STEPS].astype(np.int32)  # [epochs·N] -> [steps, BATCH]
    key = jax.random.key(seed)
    params = jax.jit(functools.partial(network(NONE, 0.0).init, train=False))(key, images["train"][0][:1])
    found, numbers, curves = {}, {}, {}
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in i32
        for kind, strengths in STRENGTHS.items():
            errors = trained(kind)(jnp.asarray(strengths, jnp.float32), key, params, images, positions)
            found[kind] = {split: np.asarray(each, np.float64) for split, each in errors.items()}
    best = {kind: int(errors["validation"].argmin()) for kind, errors in found.items()}
    plain = {split: float(each[0]) for split, each in found["L2"].items()}
    numbers["error"] = {NONE: plain["test"]} | {kind: float(found[kind]["test"][at]) for kind, at in best.items()}
    numbers["gap"] = {NONE: plain["test"] - plain["train"]}
    # The strongest of a kind has to be too strong, or the best may lie beyond it.
    numbers["too_strong"] = {
        kind: float(errors["validation"][-1] - errors["validation"].min()) for kind, errors in found.items()
    }
    for kind, errors in found.items():
        curves[kind] = tuple((float(number), float(error)) for number, error in enumerate(errors["test"]))
    return Measured(numbers, curves)


def _better(kind: str, other: str, says: str, smallest: float | None = None) -> Rule:
    return contrast("C46", kind, "better", says, against=other, smallest=smallest, scale="log")


measurement = Measurement(
    claim="C46",
    question="With its strength tuned, does dropout make fewer errors than L1 and L2 penalties with theirs?",
    measure=measure,
    metrics=(
        Metric("error", SHARE, higher_is_better=False),
        Metric("gap", SHARE, higher_is_better=False),
        Metric("too_strong", SHARE),
    ),
    seeds=8,
    first_seed=10,
    verdict=every(
        _better("dropout", "L2", "Dropout makes fewer errors than an L2 penalty", SMALLEST),
        _better("dropout", "L1", "Dropout makes fewer errors than an L1 penalty", SMALLEST),
        shown=(
            _better("dropout", NONE, "Dropout makes fewer errors than no regularisation"),
            _better("L2", NONE, "An L2 penalty makes fewer errors than no regularisation"),
            _better("L1", NONE, "An L1 penalty makes fewer errors than no regularisation"),
        ),
        requires=(
            on("gap", at_least("C46", NONE, 0.03, "Without regularisation the network over-fits")),
            at_most("C46", NONE, 0.3, "It learns the digits all the same"),
            *(
                on(
                    "too_strong",
                    at_least("C46", kind, 0.002, f"The strongest {kind} is too strong, so the best is on the grid"),
                )
                for kind in STRENGTHS
            ),
        ),
        scope="an MLP of 256 and 256 ReLU units, 1,000 images of MNIST drawn by the seed, 1,600 steps, strengths by validation",
    ),
    card=Card(
        published=(
            "Srivastava et al. (2014), table 9, test errors on MNIST of networks with ReLU: L2 1.62 %, L2 and L1 1.60 %, "
            "max-norm 1.35 %, dropout and L2 1.25 %, dropout and max-norm 1.05 %."
        ),
        would_change="A tuned L1 or L2 penalty whose errors are no more than 1.07 times those of tuned dropout.",
        quick="--seeds=1",
        figure=Figure(x="strength: 0 for none, 6 for the strongest", y="share of test errors"),
        deviations=(
            "Cut to two cores: 1,000 labelled images, 20x20 pixels, two layers of 256 units in place of three of up to 2,048, "
            "one learning rate. Dropout alone, without the penalty or the bound on norms that the source adds to it, and of "
            "hidden units only."
        ),
    ),
)
