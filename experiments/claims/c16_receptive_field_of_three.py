"""Claim C16: three 3x3 convolutions see as much as one of 7x7, with fewer parameters.

Paper:    K. Simonyan, A. Zisserman, Very deep convolutional networks for large-scale image recognition, 2015, arXiv 1409.1556,
          section 2.3
Command:  python launch.py measure --experiment=c16_receptive_field_of_three
Result:   exact; docs/claims/c16.md has the numbers.

The receptive field is measured: it is the extent of the pixels that change the middle unit, found by the gradient of a stack
whose weights are all positive, so that nothing cancels and no ReLU is closed. It is compared with the layer table's.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import inspect
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.core import Array
from cnnlab.metric import Metric
from cnnlab.models.layers import Conv
from cnnlab.ops import init

SIDE = 23
"""Height and width of the images, in pixels."""
STACKS = {"one 3x3": (3,), "two 3x3": (3, 3), "three 3x3": (3, 3, 3), "one 5x5": (5,), "one 7x7": (7,)}
"""{case: sides of the kernels, from the image on}."""
CHANNELS = (4, 16)
"""Numbers of channels for which parameters are counted."""


def positive(key: Array, shape: tuple[int, ...]) -> Array:
    """Draws a kernel by He's rule, without signs."""
    return jnp.abs(init.he(key, shape))


class Stack(nn.Module):
    """Convolutions one after another, all positive, each with a ReLU.

    Attributes:
        kernels: sides of the kernels.
        channels: channels of the image and of every layer.
    """

    kernels: tuple[int, ...]
    channels: int

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """Maps images f32 [B, H, W, channels] to (the last layer's output of the same shape, {})."""
        x = images
        for number, kernel in enumerate(self.kernels):
            conv = Conv(self.channels, kernel, padding=kernel // 2, bias=False, initializer=positive, name=f"conv{number}")
            x = jax.nn.relu(conv(x))
        return x, {}


def receptive_field(stack: Stack, seed: int, side: int = SIDE) -> tuple[tuple[int, int], bool]:
    """Returns height and width of the pixels that the middle unit depends on, and whether all pixels in between are among them.

    Args:
        stack: the network; its weights are drawn at random.
        seed: seed of the weights.
        side: height and width of the image.
    """
    images = jnp.ones((1, side, side, stack.channels))
    variables = stack.init(jax.random.key(seed), images, train=False)
    middle = side // 2
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(stack.apply(variables, x, train=False)[0][0, middle, middle])))(images)
    rows, columns = np.nonzero(np.asarray(jnp.sum(jnp.abs(gradient[0]), axis=-1)))
    extent = (int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)
    return extent, len(rows) == extent[0] * extent[1]


@functools.cache
def weights_per_pair(kernels: tuple[int, ...]) -> float:
    """Returns the number of weights for each pair of an input and an output channel, which is the same for all of CHANNELS."""
    counts = {
        sum(row.params for row in inspect.layers(Stack(kernels, channels), (SIDE, SIDE, channels))) / channels**2
        for channels in CHANNELS
    }
    (count,) = counts
    return count


def measure(seed: int) -> Measured:
    """Returns the measured side of every stack, by the gradient, that of the layer table, and the weights."""
    measured, table = {}, {}
    for name, kernels in STACKS.items():
        stack = Stack(kernels, CHANNELS[0])
        (height, width), filled = receptive_field(stack, seed)
        assert filled and height == width, f"{name}: the pixels that the unit depends on are no square"
        measured[name] = float(height)
        row = inspect.layers(stack, (SIDE, SIDE, CHANNELS[0]))[-1]
        table[f"{name}, layer table"] = float(row.receptive_field[0] or 0)
    weights = {name: weights_per_pair(kernels) for name, kernels in STACKS.items()}
    small, large = ("one 3x3", "two 3x3", "three 3x3"), ("one 3x3", "one 5x5", "one 7x7")
    return Measured(
        numbers={"side": {**measured, **table}, "weights": weights},
        curves={
            "3x3 convolutions": tuple((measured[name], weights[name]) for name in small),
            "one convolution": tuple((measured[name], weights[name]) for name in large),
        },
    )


measurement = Measurement(
    claim="C16",
    question="Do three 3x3 convolutions see as much as one of 7x7, and with how many parameters?",
    measure=measure,
    metrics=(Metric("side", "pixels"), Metric("weights", higher_is_better=False)),
    seeds=8,
    verdict=every(
        identity("C16", "three 3x3", "one 7x7", 0.0, "Three 3x3 convolutions see as much as one of 7x7"),
        identity("C16", "three 3x3", 7.0, 0.0, "Three 3x3 convolutions see 7x7 pixels"),
        identity("C16", "two 3x3", "one 5x5", 0.0, "Two 3x3 convolutions see as much as one of 5x5"),
        on("weights", identity("C16", "three 3x3", 27.0, 0.0, "Three 3x3 convolutions have 27 weights for a pair of channels")),
        on("weights", identity("C16", "one 7x7", 49.0, 0.0, "One 7x7 convolution has 49, which are 81 % more")),
        shown=tuple(
            identity("C16", name, f"{name}, layer table", 0.0, f"The layer table has the measured field of {name}")
            for name in STACKS
        ),
        requires=(at_most("C16", "two 3x3", 5.0, "Two 3x3 convolutions see less than 7x7 pixels (the control)"),),
        setting="source",
        scope="stacks with stride 1 and as many channels in every layer, without biases",
    ),
    card=Card(
        published=(
            "Simonyan and Zisserman 2015, section 2.3: three 3x3 layers have an effective receptive field of 7x7 and 27 C² "
            "weights, a 7x7 layer 49 C², i.e. 81 % more."
        ),
        would_change="A pixel outside of the 7x7 that changes the output of three 3x3 convolutions, or one inside that cannot.",
        figure=Figure(x="side of the receptive field in pixels", y="weights for a pair of channels"),
        deviations="The weights are positive, so that the gradient shows all pixels that can matter.",
    ),
)
