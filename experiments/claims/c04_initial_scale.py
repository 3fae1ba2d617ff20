"""Claim C4: too small random weights make activations and gradients vanish with depth, too large ones saturate or explode them;
the rules of Xavier and He keep their scale.

Paper:    X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, section 4.2;
          K. He et al., Delving deep into rectifiers, 2015, arXiv 1502.01852, eqs. 7 to 14
Command:  python launch.py measure --experiment=c04_initial_scale
Result:   exact; docs/claims/c04.md has the numbers.

Through a layer of n ReLU units with independent weights of variance σ² the mean square of the activations changes by a factor
of nσ²/2, and backwards that of the gradients by them too, in expectation over the weights (He et al. 2015). So log2 of the
rms is a line over the layers with slope ½ log2(nσ²/2): −½ for Xavier's variance 1/n, 0 for He's 2/n; for a fixed σ it depends
on the width. Linear units have the factor nσ², which Xavier's rule makes 1. The slopes are those between the first and the
last of 20 hidden layers of equal width, of mean squares over several networks: those of one narrow network scatter, since the
logarithm is a random walk whose steps have a variance of about 5/n (Hanin and Nica 2018, arXiv 1812.05994). The gradient by
the pre-activations of a layer is that by its bias, for one image.

Saturated tanh units do not make the gradient vanish: the slopes of most units are near 0, but the others' are multiplied by
large weights, and the gradient as a whole grows towards the first layer.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import SHARE, Metric
from cnnlab.models.mlp import MLP
from cnnlab.ops import init
from cnnlab.ops.activations import ACTIVATIONS

LAYERS = 20
NETWORKS = {64: 128, 256: 16, 1024: 1}
"""{width: networks over which mean squares are taken}."""
DRAWN = 256
"""The width of the curves."""
SATURATED = 0.97
"""Size of a tanh activation from which a unit counts as saturated; its slope is 1 − 0.97² = 0.06 there."""
DRAWS: dict[str, Callable[..., jax.Array]] = {
    "σ = 0.01": functools.partial(init.normal, std=0.01),
    "σ = 0.1": functools.partial(init.normal, std=0.1),
    "σ = 1": functools.partial(init.normal, std=1.0),
    "Xavier": init.xavier,
    "He": init.he,
}
RELU = tuple(DRAWS)
TANH = ("σ = 1", "Xavier")


def expected_slope(name: str, width: int, activation: str) -> float:
    """Returns what theory says: ½ log2(nσ²/2) for ReLU units, ½ log2(nσ²) for linear ones."""
    variance = {"Xavier": 1 / width, "He": 2 / width}.get(name) or float(name.removeprefix("σ = ")) ** 2
    return 0.5 * math.log2(width * variance / (2 if activation == "relu" else 1))


def quickly() -> dict[str, int] | None:
    """Returns compiler options for the CPU, whose compiler takes several times as long at its default level."""
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None


@functools.cache
def kernels_of(name: str, width: int) -> Any:
    """Returns a compiled function of a key: the kernels f32 [networks, layers, width, width] of an initialiser."""
    count = NETWORKS[width] * LAYERS

    def draw(key: jax.Array) -> jax.Array:
        kernels = jax.lax.map(lambda one: DRAWS[name](one, (width, width)), jax.random.split(key, count))
        return kernels.reshape(NETWORKS[width], LAYERS, width, width)  # [networks · layers, …] -> [networks, layers, …]

    return jax.jit(draw, compiler_options=quickly())


@functools.cache
def scales_of(activation: str, width: int) -> Any:
    """Returns a compiled function (kernels, images [networks, 1, 1, 1, width]) -> three arrays [layers].

    They are the mean squares of the activations of each layer, those of the gradients by its pre-activations, and the share of
    its activations that are saturated, over units and networks, in f64.
    """
    network = MLP(1, (width,) * LAYERS, ACTIVATIONS[activation])
    names = [f"dense{number}" for number in range(1, LAYERS + 1)]

    def single(kernels: jax.Array, image: jax.Array) -> Any:
        zeros = jnp.zeros(width, jnp.float64)
        hidden = {
            name: {"kernel": kernel.astype(jnp.float64), "bias": zeros} for name, kernel in zip(names, kernels, strict=True)
        }
        last = jnp.ones((width, 1), jnp.float64) * jnp.where(jnp.arange(width) % 2 == 0, 1.0, -1.0)[:, None]
        params = hidden | {"output": {"kernel": last, "bias": jnp.zeros(1, jnp.float64)}}

        def output(params: Any) -> Any:
            outputs, seen = network.apply({"params": params}, image, train=False)
            return outputs[0, 0], jnp.stack([seen[name][0] for name in names])  # activations [layers, width]

        gradient, seen = jax.grad(output, has_aux=True)(params)
        slopes = jnp.stack([gradient[name]["bias"] for name in names])
        return jnp.mean(seen**2, axis=1), jnp.mean(slopes**2, axis=1), jnp.mean(jnp.abs(seen) > SATURATED, axis=1)

    def scales(kernels: jax.Array, images: jax.Array) -> Any:
        return jax.tree.map(lambda array: jnp.mean(array, axis=0), jax.lax.map(lambda pair: single(*pair), (kernels, images)))

    return jax.jit(scales, compiler_options=quickly())


def scales(name: str, activation: str, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns log2 of the rms of the activations and of the gradients of each layer, and shares of saturated units [layers]."""
    kernels = kernels_of(name, width)(jax.random.key(seed))
    images = np.random.default_rng(seed).standard_normal((NETWORKS[width], 1, 1, 1, width))
    with jax.enable_x64(True):
        squares, gradients, saturated = (np.asarray(array) for array in scales_of(activation, width)(kernels, images))
    return 0.5 * np.log2(squares), 0.5 * np.log2(gradients), saturated


def slope(by_layer: np.ndarray) -> float:
    """Returns the mean change from one layer to the next."""
    return float((by_layer[-1] - by_layer[0]) / (len(by_layer) - 1))


def measure(seed: int) -> Measured:
    """Measures the scales of activations and gradients in networks at the initial weights of a seed."""
    numbers: dict[str, dict[str, float]] = {name: {} for name in ("deviation", "slope", "gradient_slope", "saturated", "rms")}
    curves = {}
    for activation, names, widths in (("relu", RELU, NETWORKS), ("identity", ("Xavier",), (DRAWN,)), ("tanh", TANH, (DRAWN,))):
        for name in names:
            case, deviations = f"{activation}, {name}", []
            for width in widths:
                forward, backward, saturated = scales(name, activation, width, seed)
                at = f"{case}, {width} units"
                # Gradients grow from the last layer to the first.
                numbers["slope"][at], numbers["gradient_slope"][at] = slope(forward), -slope(backward)
                expected = expected_slope(name, width, activation)
                deviations += [abs(found - expected) for found in (slope(forward), -slope(backward))]
                if activation == "tanh":
                    numbers["saturated"][at], numbers["rms"][at] = float(saturated[-1]), float(2 ** forward[-1])
                if width == DRAWN:
                    curves[case] = tuple((float(layer), float(value)) for layer, value in enumerate(forward, start=1))
            if activation != "tanh":
                numbers["deviation"][case] = max(deviations)
    return Measured(numbers=numbers, curves=curves)


measurement = Measurement(
    claim="C4",
    question="How do activations and gradients scale with depth, by the deviation of the initial weights?",
    measure=measure,
    metrics=(
        Metric("deviation", higher_is_better=False),
        Metric("slope"),
        Metric("gradient_slope"),
        Metric("saturated", SHARE),
        Metric("rms"),
    ),
    seeds=10,
    verdict=every(
        *(
            at_most("C4", f"relu, {name}", 0.05, f"With {name} the slopes of 64, 256 and 1,024 ReLU units are as theory says")
            for name in RELU
        ),
        at_most("C4", "identity, Xavier", 0.05, "With Xavier's rule linear units keep their scale"),
        on("slope", at_most("C4", "relu, σ = 0.01, 1024 units", -2.0, "With σ = 0.01 activations are quartered in each layer")),
        on("slope", at_least("C4", "relu, σ = 1, 64 units", 2.0, "With σ = 1 activations of ReLU units are quadrupled")),
        on("saturated", at_least("C4", "tanh, σ = 1, 256 units", 0.8, "With σ = 1 four of five tanh units are saturated")),
        on("saturated", at_most("C4", "tanh, Xavier, 256 units", 0.05, "With Xavier's rule hardly a tanh unit is saturated")),
        shown=(
            on("slope", at_most("C4", "relu, σ = 0.1, 64 units", -0.5, "σ = 0.1 is too small for 64 units")),
            on("slope", at_least("C4", "relu, σ = 0.1, 1024 units", 0.5, "and too large for 1,024")),
            on("rms", at_least("C4", "tanh, Xavier, 256 units", 0.1, "With Xavier's rule tanh activations shrink slowly")),
            on("gradient_slope", at_least("C4", "tanh, σ = 1, 256 units", 0.5, "Gradients of saturated tanh units explode")),
        ),
        scope="MLPs of 20 hidden layers of equal width at their initial weights; no training",
    ),
    card=Card(
        published="He et al. (2015), eq. 8: the variance changes by a factor of n Var(w) / 2 in each ReLU layer. Glorot and "
        "Bengio (2010) derive n Var(w) for linear units.",
        would_change="A slope that differs from ½ log2(nσ²/2) by more than its scatter over the weights.",
        quick="--seeds=1",
        figure=Figure(
            title="The scale of activations grows or shrinks by the same factor in each layer",
            x="layer",
            y="log2 of the rms activation, 256 units",
        ),
        deviations="Dense layers in place of convolutions, and images of Gaussian noise.",
    ),
)
