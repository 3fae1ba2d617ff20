"""Claim C2: without a non-linearity a deep network is a linear classifier.

Paper:    A. Saxe, J. McClelland, S. Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
          networks, 2014, arXiv 1312.6120, section 1 (the map is linear in the input, training is not linear in the weights)
Command:  python launch.py measure --experiment=c02_linear_collapse
Result:   exact; docs/claims/c02.md has the numbers.

An MLP of five layers and a convolutional network with average pooling, at random weights and biases in float64, are compared
with one matrix and one offset: the product of the MLP's kernels, and what the convolutional network makes of each pixel alone.
The rank of the MLP's map is at most 3, the width of its narrowest layer, whatever the other widths are. With ReLU in place of
the identity no matrix fits: even the best affine map in the sense of least squares, fitted to these images, leaves a share of
the outputs. The statement is about what such a network computes; it still trains differently from a single layer (Saxe et al.
2014).
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import SHARE, Metric
from cnnlab.models.convnet import ConvNet
from cnnlab.models.layers import POOLS
from cnnlab.models.mlp import MLP
from cnnlab.models.norms import no_norm
from cnnlab.ops.activations import ACTIVATIONS

CLASSES, IMAGES, SIDE = 10, 400, 8
WIDTHS = (48, 3, 32, 24)
"""Hidden units of the MLP; the second layer is the narrowest."""
DEEP = (32,) * 8
"""Hidden units of the MLP of the curves."""
MLPS = {f"MLP of 5 layers, {name}": name for name in ("identity", "relu", "tanh")}
CONVNETS = {f"convolutional network, {name}": name for name in ("identity", "relu")}


def random_params(network: nn.Module, seed: int, images: np.ndarray) -> Any:
    """Returns {layer: {"kernel": …, "bias": …}} in f64: kernels drawn from N(0, 2 / fan-in), biases from N(0, 1)."""
    shapes = jax.eval_shape(functools.partial(network.init, train=False), jax.random.key(0), images)["params"]
    draw = np.random.default_rng(seed)

    def drawn(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = draw.standard_normal(leaf.shape)
        return noise if noise.ndim == 1 else noise * np.sqrt(2 / math.prod(leaf.shape[:-1]))

    return jax.tree.map(drawn, shapes)


@functools.partial(jax.jit, static_argnums=0)
def apply(network: nn.Module, params: Any, images: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns (outputs [B, K], activations of every layer) in evaluation mode."""
    outputs, activations = network.apply({"params": params}, images, train=False)
    return outputs, dict(activations)


def outputs_of(network: nn.Module, seed: int, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (outputs f64 [B, K], one matrix f64 [H·W·C, K], outputs for an image of zeros f64 [K]) at random weights.

    The matrix is the product of an MLP's kernels; of another network it has the outputs for images of a single 1, less those
    for an image of zeros.
    """
    params, size = random_params(network, seed, images), math.prod(images.shape[1:])
    single = np.eye(size).reshape(size, *images.shape[1:])  # images of one pixel that is 1
    # One batch of all images, so that one program is compiled.
    every = np.asarray(apply(network, params, np.concatenate([images, single, np.zeros_like(images[:1])]))[0])
    outputs, columns, offset = every[: len(images)], every[len(images) : -1], every[-1]
    if not isinstance(network, MLP):
        return outputs, columns - offset, offset
    names = [f"dense{number}" for number in range(1, len(network.widths) + 1)] + ["output"]
    return outputs, functools.reduce(np.matmul, [params[name]["kernel"] for name in names]), offset


def affine_basis(images: np.ndarray) -> np.ndarray:
    """Returns an orthonormal basis f64 [B, H·W·C + 1] of what affine maps of images [B, H, W, C] give."""
    inputs = images.reshape(len(images), -1)  # [B, H, W, C] -> [B, H·W·C]
    return np.linalg.qr(np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1))[0]


def unexplained(basis: np.ndarray, outputs: np.ndarray) -> float:
    """Returns the rms of what the best affine map leaves of outputs f64 [B, K], over their standard deviation."""
    left = outputs - basis @ (basis.T @ outputs)
    return float(np.sqrt(np.mean(left**2) / np.mean((outputs - outputs.mean(axis=0)) ** 2)))


def by_layer(network: MLP, seed: int, images: np.ndarray, basis: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Returns (layer, share of its activations that no affine map of the images explains) for each hidden layer."""
    _, seen = apply(network, random_params(network, seed, images), images)
    layers = range(1, len(network.widths) + 1)
    return tuple((float(layer), unexplained(basis, np.asarray(seen[f"dense{layer}"]))) for layer in layers)


def compared(network: nn.Module, seed: int, images: np.ndarray, basis: np.ndarray) -> dict[str, float]:
    """Returns how far a network at random weights is from one matrix, {metric: number}."""
    outputs, matrix, offset = outputs_of(network, seed, images)
    inputs = images.reshape(len(images), -1)  # [B, H, W, C] -> [B, H·W·C]
    difference = np.max(np.abs(outputs - (inputs @ matrix + offset))) / np.max(np.abs(outputs))
    return {
        "difference": float(difference),
        "unexplained": unexplained(basis, outputs),
        # Outputs for random images span as many dimensions as the map has.
        "rank": float(np.linalg.matrix_rank(outputs - outputs.mean(axis=0))),
    }


def measure(seed: int) -> Measured:
    """Compares networks at the random weights of a seed with one matrix, on random images."""
    images = np.random.default_rng((seed, 1)).standard_normal((IMAGES, SIDE, SIDE, 1))
    basis = affine_basis(images)
    networks: dict[str, nn.Module] = {case: MLP(CLASSES, WIDTHS, ACTIVATIONS[name]) for case, name in MLPS.items()} | {
        case: ConvNet(CLASSES, (6, 8), norm=no_norm, activation=ACTIVATIONS[name], pool=POOLS["average"])
        for case, name in CONVNETS.items()
    }
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        found = {case: compared(network, seed, images, basis) for case, network in networks.items()}
        curves = {
            name: by_layer(MLP(CLASSES, DEEP, ACTIVATIONS[name]), seed, images, basis) for name in ("identity", "relu", "tanh")
        }
    numbers = {metric: {case: row[metric] for case, row in found.items()} for metric in ("difference", "unexplained", "rank")}
    return Measured(numbers=numbers, curves=curves)


LINEAR, CONVOLUTIONAL = "MLP of 5 layers, identity", "convolutional network, identity"
measurement = Measurement(
    claim="C2",
    question="Is a deep network without a non-linearity a linear classifier?",
    measure=measure,
    metrics=(
        Metric("difference", higher_is_better=False),
        Metric("unexplained", SHARE, higher_is_better=False),
        Metric("rank"),
    ),
    seeds=20,
    verdict=every(
        identity("C2", LINEAR, 0.0, 1e-12, "Five dense layers without a non-linearity equal one matrix and one offset"),
        identity(
            "C2", CONVOLUTIONAL, 0.0, 1e-12, "Convolutions, average pooling and a dense layer equal one matrix and one offset"
        ),
        on("rank", at_most("C2", LINEAR, 3.0, "The rank of the matrix is at most the narrowest width, 3")),
        requires=(
            on("unexplained", at_least("C2", "MLP of 5 layers, relu", 0.1, "With ReLU no affine map explains the MLP")),
            on(
                "unexplained",
                at_least("C2", "convolutional network, relu", 0.1, "With ReLU no affine map explains the network"),
            ),
        ),
        shown=(
            on("unexplained", at_least("C2", "MLP of 5 layers, tanh", 0.1, "With tanh no affine map explains the MLP")),
            on("rank", at_least("C2", "MLP of 5 layers, relu", 4.0, "With ReLU the outputs span more dimensions than 3")),
        ),
        scope="networks at random weights in float64, random images of 8x8; what can be computed, not how it trains",
    ),
    card=Card(
        published="Textbooks state it without a number: a product of matrices is a matrix.",
        would_change="A set of weights at which the network and the product of its matrices differ by more than rounding.",
        quick="--seeds=2",
        figure=Figure(x="layer", y="share that no affine map of the image explains"),
    ),
)
