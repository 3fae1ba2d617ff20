"""Claim C42: an untrained classifier of C classes starts at a loss of ln C with softmax and of C − 1 with the hinge.

Paper:    A. Karpathy, CS231n lecture notes, Neural networks part 3, sanity checks (softmax ln C, hinge C − 1)
Command:  python launch.py measure --experiment=c42_initial_loss
Result:   exact; docs/claims/c42.md has the numbers.

It is exact where all logits are equal, as with a last layer of zeros. With independent Gaussian logits of a small standard
deviation σ, averaged over all labels, softmax starts at ln C + ½ σ² (1 − 1/C) up to terms in σ⁴, and the hinge stays at C − 1
as long as no two logits differ by more than its margin of 1. So a larger loss at the start says how far the logits are from
equal: the networks of cnnlab with their own initialisers, whose last layer is often He's, start well above ln C. Each of
these is measured on 64 images of Gaussian noise, with the statistics of that batch and a label of each class equally often.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.models import MODELS
from cnnlab.models.mlp import MLP
from cnnlab.ops.losses import cross_entropy, hinge

CLASSES = (2, 10, 100)
DRAWS, SMALL = 200_000, 0.1
"""Logits that are drawn, and their smallest standard deviation at which the rise of the loss is compared with theory."""
DEVIATIONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Standard deviations of the logits in the curves."""
ZOO = {"linear": 8, "mlp": 28, "lenet_300_100": 28, "lenet5_20_50_500": 28, "lenet5": 28, "lenet5_1998": 28, "convnet": 16}
"""{network: side of its images}."""


def balanced(loss: Any, logits: jax.Array) -> jax.Array:
    """Returns the mean loss [] of logits [B, C] over the examples and over every label in turn."""
    labels = jnp.arange(logits.shape[1], dtype=jnp.int32)
    return jnp.mean(jax.lax.map(lambda label: jnp.mean(loss(logits, jnp.full(len(logits), label))), labels))


@jax.jit
def excess(logits: Any) -> tuple[jax.Array, jax.Array]:
    """Returns (softmax loss − ln C, hinge loss − (C − 1)) of logits [B, C], over all labels."""
    classes = logits.shape[1]
    return balanced(cross_entropy, logits) - math.log(classes), balanced(hinge, logits) - (classes - 1)


def logits_at_zero(classes: int, seed: int) -> Any:
    """Returns the logits f64 [B, C] of an MLP with random hidden layers and a last layer of zeros, on random images."""
    draw, widths = np.random.default_rng(seed), (32, 16)
    images = draw.standard_normal((64, 8, 8, 1))
    params = {
        f"dense{number}": {"kernel": draw.standard_normal((into, out)), "bias": draw.standard_normal(out)}
        for number, (into, out) in enumerate(((64, 32), (32, 16)), start=1)
    } | {"output": {"kernel": np.zeros((16, classes)), "bias": np.zeros(classes)}}
    return jax.jit(lambda params, images: MLP(classes, widths).apply({"params": params}, images, train=False)[0])(
        params, images
    )


@functools.cache
def first_loss(name: str) -> Any:
    """Returns a compiled function of a key: softmax loss − ln 10 of a network of cnnlab as it is initialised."""
    made: Any = MODELS[name]
    network, side = made(classes=10), ZOO[name]

    def start(key: jax.Array) -> jax.Array:
        images = jax.random.normal(key, (64, side, side, 1))
        variables = network.init(key, images, train=False)
        (logits, _), _ = network.apply(variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
        return balanced(cross_entropy, logits) - math.log(10)

    # XLA:CPU compiles the drawing of many kernels ten times faster at this level, to the same numbers.
    quickly = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(start, compiler_options=quickly)


def measure(seed: int) -> Measured:
    """Computes the losses of equal and of random logits, and of networks at the initial weights of a seed."""
    draw = np.random.default_rng(seed)
    zero, ratio, hinges, curves = {}, {}, {}, {}
    with jax.enable_x64(True):
        for classes in CLASSES:
            softmax, margin = excess(logits_at_zero(classes, seed))
            zero[f"softmax, {classes} classes"], zero[f"hinge, {classes} classes"] = abs(float(softmax)), abs(float(margin))
            noise = draw.standard_normal((DRAWS // classes, classes))
            found = {deviation: [float(part) for part in excess(deviation * noise)] for deviation in DEVIATIONS}
            softmax_rise, hinge_rise = found[SMALL]
            ratio[f"softmax, {classes} classes"] = softmax_rise / (0.5 * SMALL**2 * (1 - 1 / classes))
            hinges[f"hinge, {classes} classes"] = abs(hinge_rise)
            curves[f"{classes} classes"] = tuple((deviation, values[0]) for deviation, values in found.items())
    networks = {name: float(first_loss(name)(jax.random.key(seed))) for name in ZOO}
    return Measured(
        numbers={"excess": zero | networks, "ratio": ratio, "hinge_excess": hinges},
        curves=curves,
    )


measurement = Measurement(
    claim="C42",
    question="At which loss does an untrained classifier start?",
    measure=measure,
    metrics=(Metric("excess", "nats"), Metric("ratio"), Metric("hinge_excess")),
    seeds=10,
    verdict=every(
        *(
            identity("C42", f"softmax, {count} classes", 0.0, 1e-12, f"A last layer of zeros starts at ln {count}")
            for count in CLASSES
        ),
        *(
            identity("C42", f"hinge, {count} classes", 0.0, 1e-12, f"With the hinge it starts at {count} − 1")
            for count in CLASSES
        ),
        *(
            on(
                "ratio",
                identity(
                    "C42", f"softmax, {count} classes", 1.0, 0.02, f"{count} logits of N(0, 0.1²) add ½ 0.1² (1 − 1/{count})"
                ),
            )
            for count in CLASSES
        ),
        on(
            "hinge_excess",
            identity("C42", "hinge, 10 classes", 0.0, 1e-12, "The hinge of such logits stays at 9 over all labels"),
        ),
        shown=(
            identity("C42", "linear", 0.0, 1e-6, "The linear classifier, whose weights start at zero, starts at ln 10"),
            at_least("C42", "mlp", 0.1, "The MLP with He's initialisation of its last layer starts above ln 10"),
            at_least("C42", "lenet5", 0.1, "LeNet-5 with He's initialisation of its last layer starts above ln 10"),
        ),
        scope="logits that are equal or small and independent; networks of cnnlab on images of noise",
    ),
    card=Card(
        published="The notes of CS231n give ln 10 = 2.302 for ten classes of CIFAR-10 with small weights, and 9 for the hinge.",
        would_change="A network with equal logits that starts at another loss.",
        quick="--seeds=2",
        figure=Figure(x="standard deviation of the logits", y="loss − ln C [nats]", log_x=True, log_y=True),
        deviations="The logits are drawn. Networks whose last layer has He's initialisation start above ln C, which is only "
        "shown.",
    ),
)
