"""Claim C36, for the class of every pixel: a classifier of patches slid over an image, and the same in one pass, by image size.

Paper:    D. Ciresan et al., Deep neural networks segment neuronal membranes in electron microscopy images, 2012; A. Giusti et
          al., Fast image scanning with deep max-pooling convolutional neural networks, 2013, arXiv 1302.1700
Command:  python launch.py measure --experiment=c36_patch_classifier
Result:   exact; docs/claims/c36.md has the numbers.

A patch of 22x22 around every pixel is classified by two convolutions with pooling and two dense layers; the image is continued
by zeros. In the other form the same parameters are applied once to the whole image: after each pooling the taps of what follows
are twice as far apart (dilation), so that no position is lost. c36_sliding_window has the pass that keeps the strides, and with
them every fourth position.
"""

import functools
import time
from typing import Any

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
from cnnlab.models.full_resolution import PatchClassifier

SIDES = (16, 32, 48, 64)
"""Heights and widths of the images."""
PASS, SLID = "one pass", "every patch"
FORMS = {PASS: "convolution", SLID: "sliding"}
TOLERANCE, EXACT = 1e-5, 1e-12
"""Largest difference that counts as rounding, relative to the largest score: in f32, and in f64."""
LEAST_SECONDS = 0.2
"""A program is repeated until it has taken so much CPU time."""


def network(form: str) -> PatchClassifier:
    """Returns a form of the classifier, of two classes."""
    return PatchClassifier(classes=2, widths=(16, 32), hidden=(64, 64), form="sliding" if form == SLID else "convolution")


@functools.cache
def scores(form: str) -> Any:
    """Returns the compiled function (variables, images [B, H, W, 1]) -> scores [B, H, W, K]."""
    return jax.jit(lambda variables, images: network(form).apply(variables, images, train=False)[0])


def macs_of(form: str, side: int) -> float:
    """Returns the multiply-accumulates of an image; the layer table of the sliding form is that of one patch."""
    count = sum(row.macs for row in inspect.layers(network(form), (side, side, 1)))
    return float(count * side**2 if form == SLID else count)


def counted_by_hand(side: int) -> float:
    """Returns the multiply-accumulates of all patches: positions times weights of each layer, times pixels."""
    positions = (20**2, 8**2, 1, 1, 1)
    weights = (9 * 16, 9 * 16 * 32, 4 * 4 * 32 * 64, 64 * 64, 64 * 2)
    return float(side**2 * sum(place * count for place, count in zip(positions, weights, strict=True)))


def seconds_of(form: str, variables: PyTree, images: Array) -> float:
    """Returns the CPU time of one call; the mean of as many as take LEAST_SECONDS."""
    program = scores(form)
    jax.block_until_ready(program(variables, images))
    calls, began = 0, time.process_time()
    while (spent := time.process_time() - began) < LEAST_SECONDS or not calls:
        jax.block_until_ready(program(variables, images))
        calls += 1
    return spent / calls


def difference(variables: PyTree, images: Array) -> float:
    """Returns the largest difference of the two forms at any pixel, relative to the largest score."""
    one, other = (np.asarray(scores(form)(variables, images)) for form in FORMS)
    return float(np.abs(one - other).max() / np.abs(one).max())


def measure(seed: int) -> Measured:
    """Returns the differences of scores, and operations and CPU seconds of both forms by the side of the image."""
    start = jax.jit(functools.partial(network(PASS).init, train=False))
    variables = start(jax.random.key(seed), jnp.zeros((1, SIDES[0], SIDES[0], 1)))
    draw = np.random.default_rng(seed)
    images = {side: jnp.asarray(draw.normal(size=(1, side, side, 1)), jnp.float32) for side in SIDES}
    macs = {f"{form}, {side}": macs_of(form, side) for form in FORMS for side in SIDES}
    seconds = {f"{form}, {side}": seconds_of(form, variables, images[side]) for form in FORMS for side in SIDES}
    differences = {f"f32, {side}": difference(variables, images[side]) for side in SIDES}
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (variables, images[SIDES[0]]))
        differences["f64"] = difference(*wide)
    ratio, slower = (
        {f"{side}": found[f"{SLID}, {side}"] / found[f"{PASS}, {side}"] for side in SIDES} for found in (macs, seconds)
    )
    by_hand = {f"{SLID}, {side}, by hand": counted_by_hand(side) for side in SIDES}
    return Measured(
        numbers={
            "difference": {"f32, largest": max(differences[f"f32, {side}"] for side in SIDES), "f64": differences["f64"]},
            "macs": {**macs, **by_hand},
            "cost_ratio": ratio,
            "time_ratio": slower,
            "seconds": seconds,
        },
        curves={
            "operations": tuple((float(side), ratio[f"{side}"]) for side in SIDES),
            "CPU time": tuple((float(side), slower[f"{side}"]) for side in SIDES),
        },
    )


LARGEST = SIDES[-1]

measurement = Measurement(
    claim="C36",
    question="What does it cost to classify the patch around every pixel one by one, and in one pass, by image size?",
    measure=measure,
    metrics=(
        Metric("difference", higher_is_better=False),
        Metric("macs", "multiply-accumulates", higher_is_better=False),
        Metric("cost_ratio"),
        Metric("time_ratio", log_scale=True),
        Metric("seconds", "s", higher_is_better=False, log_scale=True),
    ),
    seeds=8,
    verdict=every(
        at_most("C36", "f32, largest", TOLERANCE, "At every pixel of four sizes the scores agree"),
        at_most("C36", "f64", EXACT, "In double precision they agree but for its rounding"),
        *(
            on(
                "macs",
                identity(
                    "C36", f"{SLID}, {side}", f"{SLID}, {side}, by hand", 0.0, f"Patches of {side}x{side}: as counted by hand"
                ),
            )
            for side in SIDES
        ),
        on("cost_ratio", at_least("C36", f"{LARGEST}", 5.0, "Of 64x64 pixels all patches take over 5 times the operations")),
        shown=(
            on(
                "seconds",
                contrast(
                    "C36",
                    f"{PASS}, {LARGEST}",
                    "better",
                    "Of 64x64 pixels one pass takes less CPU time",
                    against=f"{SLID}, {LARGEST}",
                    scale="log",
                ),
            ),
        ),
        scope="two convolutions, two poolings and two dense layers on patches of 22x22, random weights, images of noise",
    ),
    card=Card(
        published=(
            "Long et al. 2015: AlexNet takes 1.2 ms for a window of 227x227, and as a fully convolutional network 22 ms for a "
            "10x10 grid of outputs from an image of 500x500, over 5 times faster than the windows one by one."
        ),
        would_change="A pixel whose scores differ between the two forms by more than rounding.",
        quick="--seeds=1",
        figure=Figure(x="height and width of the image in pixels", y="cost of all patches over that of one pass"),
        deviations=(
            "The classifier of patches has a tenth of the channels of Ciresan et al.; one pass dilates its layers; Giusti "
            "et al. cut the maps into fragments, which computes the same."
        ),
    ),
)
