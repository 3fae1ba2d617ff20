"""Claim C19: a fully connected layer is a convolution with a kernel as big as its input, so a classifier can slide.

Paper:    P. Sermanet et al., OverFeat, 2014, arXiv 1312.6229, section 3.5; K. Simonyan, A. Zisserman, Very deep convolutional
          networks for large-scale image recognition, 2015, arXiv 1409.1556, section 3.2
Command:  python launch.py measure --experiment=c19_dense_evaluation
Result:   exact; docs/claims/c19.md has the numbers.

With the same numbers in either form of the head the outputs are identical. On a larger image the convolutional form gives the
dense head's scores on every window of the features. That these are the classifier's scores on every crop of the image holds
only without padding: at the border of a crop a padded network sees zeros where the larger image goes on.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card
from cnnlab.core import Array, PyTree
from cnnlab.metric import Metric
from cnnlab.models.alexnet import alexnet_two_tower
from cnnlab.models.convolutionalize import Head, convolutionalize, fully_connected
from cnnlab.models.layers import Conv, MaxPool
from cnnlab.models.vgg import vgg11_a
from cnnlab.models.zfnet import ZFNet
from cnnlab.ops import init

Outputs = tuple[np.ndarray, dict[str, np.ndarray]]
NETWORKS: dict[str, tuple[Callable[..., nn.Module], int, int]] = {
    "AlexNet": (alexnet_two_tower, 227, 6),
    "ZFNet": (ZFNet, 224, 6),
    "VGG-11": (vgg11_a, 224, 7),
}
"""{network: (model, height and width of its images, those of the first dense layer's input)}."""
WIDTH = 1 / 16
"""Factor on all channels and hidden units."""
TOLERANCE = 1e-12
"""Largest difference in f64, relative to the largest score or unit, that counts as rounding."""
CROP, STRIDE, GRID = 224, 32, 7
"""VGG-11: height and width of a crop, pixels between positions of its features, and positions in a row of a crop."""


class DenseLayers(nn.Module):
    """The fully connected layers alone, with ReLU.

    Attributes:
        classes: number of classes.
        hidden: units of the two hidden layers.
        grid: height and width of the input of the first layer.
        head: dense layers, or the equivalent convolutions.
    """

    classes: int
    hidden: tuple[int, int]
    grid: int
    head: Head = "dense"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps x [B, H, W, C] to logits [B, K], or with convolutions to the class map [B, H', W', K]."""
        knobs: dict[str, Any] = {"activation": jax.nn.relu, "dropout": 0.0, "initializer": init.he}
        grown = fully_connected(
            x, train=False, head=self.head, grid=self.grid, hidden=self.hidden, classes=self.classes, **knobs
        )
        return grown[1].get("class_map", grown[0])


class Unpadded(nn.Module):
    """Two convolutions without padding, each pooled by 2, and the dense layers: stride 4, and 22 pixels for a grid of 4.

    Attributes:
        head: dense layers, or the equivalent convolutions.
    """

    head: Head

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Maps images [B, H, W, C] to logits [B, 5], or with convolutions to the class map [B, H', W', 5]."""
        x = images
        for number in (1, 2):
            x = jax.nn.relu(Conv(6, 3, padding="valid", name=f"conv{number}")(x))
            x = MaxPool(2, name=f"pool{number}")(x)
        return DenseLayers(5, hidden=(16, 16), grid=4, head=self.head, name="classifier")(x)


@functools.cache
def twins(model: Callable[..., nn.Module], size: int, grid: int, seed: int = 0) -> tuple[nn.Module, PyTree, nn.Module, PyTree]:
    """Returns a network with either head and the same numbers: (dense, its variables, convolution, its variables).

    Args:
        model: network, called with classes, width and head.
        size: height and width of its images in colour.
        grid: height and width of the input of the first dense layer.
        seed: seed of the weights.
    """
    dense, sliding = (model(classes=10, width=WIDTH, head=head) for head in ("dense", "convolution"))
    # XLA:CPU compiles random kernels ten times as fast at level 1, to the same numbers.
    quickly = {"xla_backend_optimization_level": 1}
    start = jax.jit(functools.partial(dense.init, train=False), compiler_options=quickly)
    variables = start(jax.random.key(seed), jnp.ones((1, size, size, 3)))
    return dense, variables, sliding, convolutionalize(dict(variables), grid=grid)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _applied(network: nn.Module, variables: PyTree, images: Array, keywords: tuple[tuple[str, bool], ...]) -> Any:
    given: dict[str, Any] = dict(keywords)
    return network.apply(variables, images, **given)


def values(network: nn.Module, variables: PyTree, images: np.ndarray, dtype: Any = np.float32) -> Outputs:
    """Returns (logits, intermediates) of a network of the zoo in evaluation, computed in `dtype`."""
    return _values(network, variables, images, dtype, (("train", False),))


def _values(network: nn.Module, variables: PyTree, images: Any, dtype: Any, keywords: tuple[tuple[str, bool], ...] = ()) -> Any:
    """Returns the output of a network, computed in `dtype`, as NumPy arrays."""
    with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
        cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), jax.tree.map(np.asarray, variables))
        return jax.tree.map(np.asarray, _applied(network, cast, jnp.asarray(images, dtype), keywords))


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest size of what is expected."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def gap_of_heads(name: str, seed: int) -> float:
    """Returns the relative difference of the logits of either head in f64, on an image of the network's own size."""
    model, size, grid = NETWORKS[name]
    dense, variables, sliding, reshaped = twins(model, size, grid, seed)
    images = np.random.default_rng(seed).normal(size=(2, size, size, 3))
    return relative(values(sliding, reshaped, images, np.float64)[0], values(dense, variables, images, np.float64)[0])


def larger_image(seed: int) -> tuple[float, dict[str, tuple[float, int]]]:
    """Slides VGG-11 over an image of 288x288, in f64: its class map has 3 x 3 positions.

    Returns the largest gap of the class map to the dense layers on every window of the features; and for the crop in a corner
    and that in the middle (relative gap of its scores to the class map, number of its 49 positions of features that agree).
    """
    dense, variables, sliding, reshaped = twins(vgg11_a, CROP, GRID, seed)
    side = CROP + 2 * STRIDE
    images = np.random.default_rng(seed).normal(size=(1, side, side, 3))
    _, seen = values(sliding, reshaped, images, np.float64)
    head = {"params": {name: variables["params"][name] for name in ("fc6", "fc7", "output")}}
    layers = DenseLayers(10, hidden=(256, 256), grid=GRID)
    gaps = []
    for row, column in itertools.product(range(3), repeat=2):
        window = seen["stage5"][:, row : row + GRID, column : column + GRID]
        gaps.append(relative(seen["class_map"][:, row, column], _values(layers, head, window, np.float64)))
    crops = {}
    for name, place in (("in a corner", 0), ("in the middle", 1)):
        first = STRIDE * place
        crop = images[:, first : first + CROP, first : first + CROP]
        logits, alone = values(dense, variables, crop, np.float64)
        together = seen["stage5"][0, place : place + GRID, place : place + GRID]
        agree = np.abs(together - alone["stage5"][0]).max(axis=-1) <= TOLERANCE * np.abs(together).max()
        crops[name] = relative(seen["class_map"][0, place, place], logits[0]), int(agree.sum())
    return max(gaps), crops


def gap_of_crops(seed: int) -> float:
    """Returns the largest relative gap of an unpadded network's class map to the network on every crop, in f64."""
    images = np.random.default_rng(seed).normal(size=(1, 30, 26, 3))
    variables = jax.jit(Unpadded("dense").init)(jax.random.key(seed), jnp.zeros((1, 22, 22, 3)))
    reshaped = convolutionalize({"params": variables["params"]["classifier"]}, grid=4)["params"]
    sliding = {"params": {**variables["params"], "classifier": reshaped}}
    class_map = _values(Unpadded("convolution"), sliding, images, np.float64)
    gaps = []
    for row, column in itertools.product(range(3), range(2)):
        crop = images[:, 4 * row : 4 * row + 22, 4 * column : 4 * column + 22]
        gaps.append(relative(class_map[:, row, column], _values(Unpadded("dense"), variables, crop, np.float64)))
    return max(gaps)


def measure(seed: int) -> Measured:
    """Returns how far the two forms of a classifier differ, and where crops of a padded network agree."""
    windows, crops = larger_image(seed)
    return Measured(
        numbers={
            "difference": {
                **{f"{name}, its own size": gap_of_heads(name, seed) for name in NETWORKS},
                "VGG-11, windows of the features": windows,
                "no padding, every crop": gap_of_crops(seed),
                "VGG-11, closest crop": min(gap for gap, _ in crops.values()),
            },
            "agreeing_positions": {f"crop {name}": float(count) for name, (_, count) in crops.items()},
        }
    )


measurement = Measurement(
    claim="C19",
    question="Is a fully connected layer a convolution, and does a classifier that slides give the scores of every crop?",
    measure=measure,
    metrics=(Metric("difference", higher_is_better=False), Metric("agreeing_positions")),
    seeds=4,
    verdict=every(
        *(
            at_most(
                "C19", f"{name}, its own size", TOLERANCE, f"{name} with a convolutional head gives the scores of the dense one"
            )
            for name in NETWORKS
        ),
        at_most(
            "C19",
            "VGG-11, windows of the features",
            TOLERANCE,
            "On a larger image VGG-11 gives the dense head's scores on every window of its features",
        ),
        at_most(
            "C19", "no padding, every crop", TOLERANCE, "Without padding a sliding classifier gives its scores on every crop"
        ),
        shown=(
            on(
                "agreeing_positions",
                identity("C19", "crop in the middle", 9.0, 0.0, "With padding 9 of 49 features of a crop agree"),
            ),
            on(
                "agreeing_positions",
                identity("C19", "crop in a corner", 25.0, 0.0, "In a corner 25 of 49 features of a crop agree"),
            ),
        ),
        requires=(
            at_least(
                "C19", "VGG-11, closest crop", 1e-3, "With padding VGG-11 slides to other scores than on crops (the control)"
            ),
        ),
        scope="networks with random weights and a sixteenth of their channels, relative to the largest score, in f64",
    ),
    card=Card(
        published=(
            "Sermanet et al. 2014 and Simonyan and Zisserman 2015 state the equality without a number, and use it to evaluate "
            "networks densely over larger images."
        ),
        would_change="A score that differs between the two forms of the head by more than rounding in double precision.",
        deviations=(
            "A sixteenth of the channels and random weights, on which the identity does not depend. The class map of the "
            "padded networks of the sources is not the classifier on every crop, as the control shows."
        ),
    ),
)
