"""Claim C17, what is exact about pooling and shifts: it is invariant to them only by multiples of its stride.

Paper:    A. Azulay, Y. Weiss, Why do deep convolutional networks generalize so poorly to small image transformations?, 2019,
          arXiv 1805.12177, section 3; R. Zhang, Making convolutional networks shift-invariant again, 2019, arXiv 1904.11486
Command:  python launch.py measure --experiment=c17_circular_shifts
Result:   exact; docs/claims/c17.md has the numbers.

A mean over space of convolutions of stride 1 with circular padding has the same outputs for an image that is shifted
circularly by any number of pixels, as its maps are shifted by as many; a maximum over 2x2 windows at every pixel changes
nothing about that. Where two poolings keep every second row and column, the maps are shifted along with the image for multiples
of 4 pixels alone: for every other shift the outputs change, whatever is pooled. How much they change differs between the kinds
of pooling, which is only shown here, for random weights; c17_pooling has trained networks.

All 1,024 circular shifts of an image of noise of 32x32 are compared with the image itself, in float64. Zero padding breaks the
invariance of the network of stride 1 too, since it marks the border.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.models.layers import POOLS, Conv
from cnnlab.ops import pooling

SIDE, CLASSES, WIDTHS = 32, 10, (8, 8, 8)
"""Height and width of the image, outputs, and maps of the convolutions, between which lie two poolings."""
STRIDE = 4
"""Product of the strides of two poolings by 2."""
TOLERANCE = 1e-12
"""Largest relative difference in f64 that counts as rounding."""
CHANGED = 1e-6
"""Smallest relative difference that counts as a change, far above rounding."""
BATCH = 128
KINDS = {"max": "max pooling", "average": "average pooling", "blur": "blurred max pooling", "stride": "every second pixel"}
DENSE, WINDOWS, PADDED = "no pooling", "a maximum at every pixel", "no pooling, zero padding"
NETWORKS = (DENSE, WINDOWS, PADDED, *KINDS.values())


def wrapped(x: jax.Array, width: int) -> jax.Array:
    """Returns x [B, H, W, C] with `width` rows and columns of the opposite side at each border."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)), mode="wrap")


def circular_pool(kind: str, x: jax.Array) -> jax.Array:
    """Returns the pooling of POOLS with circular padding: [B, H, W, C] -> [B, H / 2, W / 2, C]."""
    # A frame of two pixels is one output wide, so that what an output at the border sees comes from the other side.
    return POOLS[kind](wrapped(x, 2))[:, 1:-1, 1:-1]


class Network(nn.Module):
    """Three convolutions of 3x3 with ReLU, what is pooled between them, a mean over space and a dense layer.

    A pooling right before the mean would do nothing to it where it averages: what it leaves out is in the mean of the others.

    Attributes:
        name_of_pooling: one of NETWORKS.
    """

    name_of_pooling: str

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [B, 32, 32, 1] to outputs [B, K]."""
        kinds = {name: kind for kind, name in KINDS.items()}
        x = images
        for number, width in enumerate(WIDTHS, start=1):
            is_padded = self.name_of_pooling == PADDED
            conv = Conv(width, 3, padding="same" if is_padded else "valid", name=f"conv{number}")
            x = jax.nn.relu(conv(x if is_padded else wrapped(x, 1)))
            if number == len(WIDTHS):
                break
            if self.name_of_pooling in kinds:
                x = circular_pool(kinds[self.name_of_pooling], x)
            elif self.name_of_pooling == WINDOWS:
                x = pooling.max_pool(wrapped(x, 1), window=(2, 2), strides=(1, 1), padding=((0, 0), (0, 0)))[:, 1:, 1:]
        return nn.Dense(CLASSES, name="output")(jnp.mean(x, axis=(1, 2)))  # [B, H, W, C] -> [B, C] -> [B, K]


@functools.cache
def outputs_of(name: str) -> Any:
    """Returns the compiled function (params, image f64 [32, 32, 1]) -> outputs f64 [32, 32, K] by the shift (down, right)."""

    def shifted(image: jax.Array, shift: jax.Array) -> jax.Array:
        return jnp.roll(image, shift, axis=(0, 1))

    def outputs(params: Any, image: jax.Array) -> jax.Array:
        places = jnp.stack(jnp.meshgrid(jnp.arange(SIDE), jnp.arange(SIDE), indexing="ij"), axis=-1)
        parts = places.reshape(-1, BATCH, 2)  # [32, 32, 2] -> [parts, BATCH, 2]
        network = Network(name)
        found = jax.lax.map(lambda part: network.apply(params, jax.vmap(functools.partial(shifted, image))(part)), parts)
        return found.reshape(SIDE, SIDE, CLASSES)  # [parts, BATCH, K] -> [32, 32, K]

    return jax.jit(outputs)


def differences(name: str, seed: int) -> np.ndarray:
    """Returns the largest difference of an output by the shift, f64 [32, 32], relative to the largest output."""
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE, 1))
    variables = jax.jit(Network(name).init)(jax.random.key(seed), jnp.zeros((1, SIDE, SIDE, 1), jnp.float32))
    variables = jax.tree.map(np.asarray, variables)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        found = np.asarray(outputs_of(name)(wide, jnp.asarray(noise)))
    return np.abs(found - found[0, 0]).max(axis=-1) / np.abs(found[0, 0]).max()


def measure(seed: int) -> Measured:
    """Returns how much the outputs of each network change, over the shifts by multiples of 4 and over all others."""
    down, right = np.indices((SIDE, SIDE))
    is_multiple = (down % STRIDE == 0) & (right % STRIDE == 0)
    is_shifted = (down > 0) | (right > 0)
    difference: dict[str, float] = {}
    change: dict[str, float] = {}
    curves = {}
    for name in NETWORKS:
        found = differences(name, seed)
        if name in (DENSE, WINDOWS):
            difference[f"{name}, all shifts"] = float(found.max())
        elif name == PADDED:
            difference[f"{name}, least of all shifts"] = float(found[is_shifted].min())
        else:
            difference[f"{name}, multiples of 4"] = float(found[is_multiple].max())
            difference[f"{name}, least of the others"] = float(found[~is_multiple].min())
            change[name] = float(found[~is_multiple].mean())
            curves[name] = tuple((float(shift), float(found[0, shift])) for shift in range(3 * STRIDE + 1))
    return Measured({"difference": difference, "change": change}, curves)


def _less(name: str, other: str, says: str) -> Any:
    return on("change", contrast("C17", name, "lower", says, against=other, scale="log"))


measurement = Measurement(
    claim="C17",
    question="To which shifts of the image is a convolutional network exactly invariant, with and without pooling?",
    measure=measure,
    metrics=(Metric("difference", higher_is_better=False, log_scale=True), Metric("change")),
    seeds=8,
    verdict=every(
        at_most("C17", f"{DENSE}, all shifts", TOLERANCE, "Without pooling the outputs do not change with any circular shift"),
        at_most("C17", f"{WINDOWS}, all shifts", TOLERANCE, "Nor do they with a maximum over 2x2 windows at every pixel"),
        *(
            at_most("C17", f"{name}, multiples of 4", TOLERANCE, f"Reduced by {name} they stay for multiples of 4")
            for name in KINDS.values()
        ),
        *(
            at_least("C17", f"{name}, least of the others", CHANGED, f"Reduced by {name} they change for every other shift")
            for name in KINDS.values()
        ),
        shown=(
            _less("max pooling", "every second pixel", "At random weights max pooling changes less than every second pixel"),
            _less("average pooling", "every second pixel", "Average pooling changes less than every second pixel"),
            _less("blurred max pooling", "max pooling", "Blurred max pooling changes less than max pooling"),
        ),
        requires=(
            at_least(
                "C17",
                f"{PADDED}, least of all shifts",
                CHANGED,
                "With zero padding the outputs change for every shift (the control)",
            ),
        ),
        scope="three convolutions and a mean over space at random weights, noise of 32x32, circular shifts, double precision",
    ),
    card=Card(
        published=(
            "Azulay and Weiss (2019) prove that global pooling after convolutions is invariant to shifts only where nothing "
            "is left out between them, and otherwise to those by multiples of the stride."
        ),
        would_change="A shift by no multiple of 4 pixels for which a network with two poolings by 2 has the same outputs.",
        quick="--seeds=2",
        figure=Figure(
            title="With two poolings by 2 the outputs repeat every 4 pixels",
            x="circular shift to the right in pixels",
            y="largest change of an output, relative",
        ),
        deviations=(
            "Exact only for circular shifts and circular padding; with zero padding no network is invariant (the control). "
            "Whether pooling makes a trained network more robust to small shifts is another test, c17_pooling."
        ),
    ),
)
