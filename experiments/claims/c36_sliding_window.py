"""Claim C36: a fully convolutional pass gives the scores of every sliding window, at a fraction of the cost; without padding.

Paper:    P. Sermanet et al., OverFeat, 2014, arXiv 1312.6229, section 3.5; J. Long, E. Shelhamer, T. Darrell, Fully
          convolutional networks for semantic segmentation, 2015, arXiv 1411.4038, section 3.1
Command:  python launch.py measure --experiment=c36_sliding_window
Result:   exact; docs/claims/c36.md has the numbers.

LeNet-5 (32x32, without padding, stride 4 in all) is applied to an image of 96x96: to its 17 · 17 = 289 windows one by one, and
once as a fully convolutional network with the same weights. With zero padding the two differ: a window sees zeros where the
larger image goes on, and only units whose receptive field lies inside the window agree.
"""

import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import inspect
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array, PyTree
from cnnlab.metric import Metric
from cnnlab.models.convolutionalize import Head, convolutionalize, fully_connected
from cnnlab.models.layers import POOLS, Conv
from cnnlab.models.lenet import LeNet5
from cnnlab.ops import init

SIDE = 96
"""Height and width of the image."""
WINDOW = 32
"""Height and width of a window, the size that LeNet-5 takes."""
STRIDE = 4
"""Pixels between neighbouring windows: the product of the strides of the network."""
CLASSES = 10
PLACES = (SIDE - WINDOW) // STRIDE + 1
"""Number of windows in a row."""
TOLERANCE = 1e-12
"""Largest relative difference in f64 that counts as rounding."""
RATIO = 5.0
"""Ratio of multiply-accumulates that is exceeded."""
LEAST_SECONDS = 0.05
"""A program is repeated until it has taken so much CPU time."""


class SlidingLeNet5(nn.Module):
    """The layers of LeNet-5 with a head that slides over larger images.

    Attributes:
        padded: whether the convolutions pad with zeros, so that a window of 32x32 leaves 8x8 positions instead of 5x5.
        head: dense layers, or the equivalent convolutions.
    """

    padded: bool
    head: Head

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """Maps images f32 [B, H, W, 1] to (logits [B, K], `class_map` [B, H', W', K] and the layers by name)."""
        x = images
        for number, maps in enumerate((6, 16), start=1):
            conv = Conv(maps, 5, padding="same" if self.padded else "valid", name=f"conv{number}")
            x = POOLS["max"](jax.nn.relu(conv(x)))
        logits, found = fully_connected(
            x,
            train=train,
            head=self.head,
            grid=grid(self.padded),
            hidden=(120, 84),
            classes=CLASSES,
            activation=jax.nn.relu,
            dropout=0.0,
            initializer=init.he,
        )
        return logits, {"pool2": x, **found}


def grid(padded: bool) -> int:
    """Returns the height and width of the last pooling's output for a window."""
    return WINDOW // STRIDE if padded else 5


def windows(image: Array) -> Array:
    """Cuts the windows out of an image [H, W, C], row by row: [N, 32, 32, C]."""
    places = itertools.product(range(0, SIDE - WINDOW + 1, STRIDE), repeat=2)
    return jnp.stack([image[row : row + WINDOW, column : column + WINDOW] for row, column in places])


@functools.cache
def classifier(padded: bool) -> Callable[[PyTree, Array], tuple[Array, Array]]:
    """Returns the compiled function (variables, windows [N, 32, 32, 1]) -> (scores [N, K], the last pooling's output).

    Without padding it is the zoo's LeNet-5.
    """

    def scores(variables: PyTree, images: Array) -> tuple[Array, Array]:
        network = SlidingLeNet5(padded, "dense") if padded else LeNet5(classes=CLASSES)
        logits, found = network.apply(variables if padded else as_lenet5(variables), images, train=False)
        return logits, found["pool2"]

    return jax.jit(scores)


@functools.cache
def slider(padded: bool) -> Callable[[PyTree, Array], tuple[Array, Array]]:
    """Returns the compiled function (variables, images [B, 96, 96, 1]) -> (class map [B, 17, 17, K], last pooling's output)."""

    def class_map(variables: PyTree, images: Array) -> tuple[Array, Array]:
        reshaped = convolutionalize(variables, grid=grid(padded))
        _, found = SlidingLeNet5(padded, "convolution").apply(reshaped, images, train=False)
        return found["class_map"], found["pool2"]

    return jax.jit(class_map)


def as_lenet5(variables: PyTree) -> PyTree:
    """Returns the variables by the names of the zoo's LeNet-5."""
    names = {"fc6": "dense1", "fc7": "dense2"}
    return {"params": {names.get(name, name): leaves for name, leaves in variables["params"].items()}}


def drawn(padded: bool, seed: int) -> tuple[PyTree, np.ndarray]:
    """Returns (random variables, an image of noise [1, 96, 96, 1]) in f32."""
    window = jnp.zeros((1, WINDOW, WINDOW, 1), jnp.float32)
    variables = jax.jit(functools.partial(SlidingLeNet5(padded, "dense").init, train=False))(jax.random.key(seed), window)
    noise = np.random.default_rng(seed).normal(size=(1, SIDE, SIDE, 1)).astype(np.float32)
    return jax.tree.map(np.asarray, variables), noise


def compared(padded: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns how the two computations differ in f64, relative to the largest size of a score or a unit.

    First the scores of every window [17, 17]; then the last pooling's output at the positions of the window in the middle,
    [grid, grid].
    """
    given = drawn(padded, seed)
    with jax.enable_x64(True):
        variables, image = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), given)
        whole, features = (np.asarray(found)[0] for found in slider(padded)(variables, image))
        alone, cut = map(np.asarray, classifier(padded)(variables, windows(image[0])))
    alone = alone.reshape(PLACES, PLACES, CLASSES)  # [N, K] -> [17, 17, K]
    assert whole.shape[:2] == (PLACES, PLACES)
    side, middle = grid(padded), PLACES // 2
    around = features[middle : middle + side, middle : middle + side]
    scores = np.abs(whole - alone).max(axis=-1) / np.abs(alone).max()
    return scores, np.abs(around - cut[middle * PLACES + middle]).max(axis=-1) / np.abs(features).max()


def unseen_positions() -> int:
    """Returns how many positions of the padded network's last pooling see nothing beyond a window, by the layer table."""
    rows = inspect.layers(SlidingLeNet5(True, "convolution"), (SIDE, SIDE, 1))
    last = next(row for row in rows if row.name == "conv2")
    assert last.start[0] is not None and last.receptive_field[0] is not None and last.stride[0] is not None
    # Pooling over 2x2 joins two positions of conv2.
    first, size = last.start[0], last.receptive_field[0] + last.stride[0]
    inside = [first + STRIDE * place >= 0 and first + STRIDE * place + size <= WINDOW for place in range(grid(True))]
    return sum(inside) ** 2


def macs() -> dict[str, float]:
    """Returns the multiply-accumulates of one pass over the image, and of all windows."""
    count = {
        side: sum(row.macs for row in inspect.layers(SlidingLeNet5(False, "convolution"), (side, side, 1)))
        for side in (WINDOW, SIDE)
    }
    assert count[WINDOW] == sum(row.macs for row in inspect.layers(LeNet5(classes=CLASSES), (WINDOW, WINDOW, 1)))
    return {"one pass": float(count[SIDE]), "every window": float(count[WINDOW] * PLACES**2)}


def expected_macs() -> dict[str, float]:
    """Returns the same counts by hand: positions times weights of each layer of LeNet-5."""
    weights = (25 * 6, 25 * 6 * 16, 25 * 16 * 120, 120 * 84, 84 * CLASSES)
    sides = {"one pass": (92, 42, PLACES, PLACES, PLACES), "every window": (28, 10, 1, 1, 1)}
    total = {name: sum(side**2 * count for side, count in zip(layers, weights, strict=True)) for name, layers in sides.items()}
    return {"one pass": float(total["one pass"]), "every window": float(total["every window"] * PLACES**2)}


def seconds_of(program: Callable[[], Any]) -> float:
    """Returns the CPU time of one call, which other programs affect little; the mean of as many as take LEAST_SECONDS."""
    jax.block_until_ready(program())
    calls, began = 0, time.process_time()
    while (spent := time.process_time() - began) < LEAST_SECONDS or not calls:
        jax.block_until_ready(program())
        calls += 1
    return spent / max(calls, 1)


def measure(seed: int) -> Measured:
    """Returns the differences of the scores, where the padded network's units agree, and MACs and CPU seconds of both ways."""
    scores, _ = compared(False, seed)
    padded_scores, units = compared(True, seed)
    agreeing = int(np.sum(units <= TOLERANCE))
    expected, counted = expected_macs(), macs()
    variables, image = jax.tree.map(jnp.asarray, drawn(False, seed))
    cut = windows(image[0])
    seconds = {
        "one pass": seconds_of(lambda: slider(False)(variables, image)),
        "every window": seconds_of(lambda: classifier(False)(variables, cut)),
    }
    middle = PLACES // 2
    return Measured(
        numbers={
            "difference": {"no padding, largest": float(scores.max()), "zero padding, smallest": float(padded_scores.min())},
            "macs": {**counted, **{f"{name}, by hand": count for name, count in expected.items()}},
            "cost_ratio": {"every window / one pass": counted["every window"] / counted["one pass"]},
            "agreeing_units": {"zero padding": float(agreeing), "seen by the table": float(unseen_positions())},
            "seconds": seconds,
        },
        curves={
            "no padding": tuple((float(STRIDE * place), float(scores[middle, place])) for place in range(PLACES)),
            "zero padding": tuple((float(STRIDE * place), float(padded_scores[middle, place])) for place in range(PLACES)),
        },
    )


measurement = Measurement(
    claim="C36",
    question="Does one fully convolutional pass give the scores of every sliding window, and at what cost?",
    measure=measure,
    metrics=(
        Metric("difference", higher_is_better=False),
        Metric("macs", "multiply-accumulates", higher_is_better=False),
        Metric("cost_ratio"),
        Metric("agreeing_units"),
        Metric("seconds", "s", higher_is_better=False),
    ),
    seeds=8,
    verdict=every(
        at_most("C36", "no padding, largest", TOLERANCE, "Without padding one pass gives the scores of all 289 windows"),
        on(
            "macs",
            identity("C36", "one pass", "one pass, by hand", 0.0, "One pass takes the operations that a count by hand gives"),
        ),
        on(
            "macs",
            identity(
                "C36", "every window", "every window, by hand", 0.0, "All windows take 289 times the operations of one window"
            ),
        ),
        on(
            "cost_ratio",
            at_least("C36", "every window / one pass", RATIO, "All windows take over 5 times the operations of one pass"),
        ),
        shown=(
            on(
                "agreeing_units",
                identity("C36", "zero padding", "seen by the table", 0.0, "With padding only units that see no border agree"),
            ),
            on(
                "seconds",
                contrast(
                    "C36",
                    "one pass",
                    "better",
                    "One pass takes less CPU time than all windows at once",
                    against="every window",
                    scale="log",
                ),
            ),
        ),
        requires=(
            at_least(
                "C36", "zero padding, smallest", 1e-3, "With zero padding no window has the scores of the pass (the control)"
            ),
        ),
        scope="LeNet-5 with random weights on noise of 96x96, in double precision",
    ),
    card=Card(
        published=(
            "Long et al. 2015: AlexNet takes 1.2 ms for a window of 227x227, and as a fully convolutional network 22 ms for a "
            "10x10 grid of outputs from an image of 500x500, over 5 times faster than the windows one by one."
        ),
        would_change="A window whose scores differ from those of the pass by more than rounding in double precision.",
        figure=Figure(x="column of the window in pixels", y="largest difference of a score, relative"),
        deviations=(
            "LeNet-5, whose windows are 4 pixels apart, where AlexNet's are 32 apart: the nearer the windows, the more they "
            "share. The networks of the source are padded, so that their pass is not that of the windows (the control)."
        ),
    ),
)
