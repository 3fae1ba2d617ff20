"""Claim C35: regions that share the convolutions of an image cost a small fraction of a pass for each proposal.

Paper:    R. Girshick, Fast R-CNN, 2015, arXiv 1504.08083, section 4.4 and table 4; R. Girshick et al., Rich feature hierarchies
          for accurate object detection and semantic segmentation, 2014, arXiv 1311.2524
Command:  python launch.py measure --experiment=c35_shared_convolutions
Result:   supported at small scale; docs/claims/c35.md has the numbers.

The same weights are applied in two ways to an image of 160x208, the size at which the blood cells of BCCD are trained: R-CNN
warps each proposal to 64x64 and passes it through the convolutions and two dense layers; Fast R-CNN passes the image through
the convolutions once, and the dense layers take features that RoI align pools for each proposal. For a proposal of 64x64 pixels
that begins at a multiple of the stride the two maps of 8x8 cells agree where the receptive field of a cell lies inside the
proposal, and nowhere else: a crop sees zeros where the image goes on.
"""

import functools
import math
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
from cnnlab.models import norms
from cnnlab.models.detection import SmallEncoder
from cnnlab.models.rcnn import crops
from cnnlab.models.vgg import vgg16_d
from cnnlab.ops import regions

SIZE = (160, 208)
"""(H, W) of the image."""
LEVELS, WIDTH, HIDDEN, OUTPUTS = 3, 16, 128, 16
STRIDE = 2**LEVELS
SIDE = 64
"""Height and width of a crop."""
BINS = SIDE // STRIDE
NUMBERS = (16, 64, 256)
"""Numbers of proposals."""
CROPS, SHARED = "a pass each", "one pass"
TOLERANCE = 1e-12
"""Largest relative difference in f64 that counts as rounding."""
ALIGNED = (56, 40)
"""(x, y) of the proposal of 64x64 pixels whose map is compared."""
ROUNDS = 5
"""Rounds, each of which measures all programs once; the median counts."""
LEAST_SECONDS = 0.05
"""A program is repeated until it has taken so much CPU time."""


class Convolutions(nn.Module):
    """The convolutions, without a norm, whose statistics would depend on what else an image shows."""

    @nn.compact
    def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """Maps images f32 [B, H, W, 3] to (the deepest map [B, H / 8, W / 8, C], {})."""
        maps = SmallEncoder(WIDTH, LEVELS, norms.no_norm, name="encoder")(images, train=train)
        return maps[LEVELS], {}


class DenseLayers(nn.Module):
    """The layers of a region above its map of 8x8 cells."""

    @nn.compact
    def __call__(self, maps: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        """Maps maps [S, 8, 8, C] of regions to (outputs [S, 16], {})."""
        x = maps.reshape(len(maps), -1)  # [S, 8, 8, C] -> [S, 64·C]
        return nn.Dense(OUTPUTS, name="output")(jax.nn.relu(nn.Dense(HIDDEN, name="hidden")(x))), {}


CONVOLUTIONS, DENSE = Convolutions(), DenseLayers()


def of_crops(variables: PyTree, image: Array, corners: Array) -> Array:
    """Returns R-CNN's outputs [S, 16] for regions [S, 4] of an image [1, H, W, 3]."""
    maps, _ = CONVOLUTIONS.apply(variables[0], crops(image, corners[None], SIDE, 0)[0], train=False)
    return DENSE.apply(variables[1], maps, train=False)[0]


def of_shared(variables: PyTree, image: Array, corners: Array) -> Array:
    """Returns Fast R-CNN's outputs [S, 16] for regions [S, 4] of an image [1, H, W, 3]."""
    maps, _ = CONVOLUTIONS.apply(variables[0], image, train=False)
    return DENSE.apply(variables[1], regions.roi_align(maps[0], corners, BINS, 1 / STRIDE), train=False)[0]


PROGRAMS: dict[str, Callable[..., Array]] = {CROPS: jax.jit(of_crops), SHARED: jax.jit(of_shared)}


def drawn(seed: int) -> tuple[PyTree, Array, Array]:
    """Returns the variables of both parts, an image of noise [1, H, W, 3], and proposals f32 [256, 4]."""
    start, channels = jax.random.split(jax.random.key(seed)), WIDTH * STRIDE // 2
    parts = ((CONVOLUTIONS, (1, SIDE, SIDE, 3)), (DENSE, (1, BINS, BINS, channels)))
    variables = tuple(
        jax.jit(functools.partial(network.init, train=False))(key, jnp.zeros(shape))
        for key, (network, shape) in zip(start, parts, strict=True)
    )
    draw = np.random.default_rng(seed)
    image = draw.normal(size=(1, *SIZE, 3)).astype(np.float32)
    sides = draw.uniform(16, 96, (max(NUMBERS), 2))
    low = draw.uniform(0, 1, sides.shape) * (np.asarray(SIZE[::-1]) - sides)
    return variables, jnp.asarray(image), jnp.asarray(np.concatenate([low, low + sides], axis=1), jnp.float32)


def difference(seed: int) -> np.ndarray:
    """Returns how the maps of a crop and of the image differ at each cell of an aligned proposal, relative, f64 [8, 8]."""
    x, y = ALIGNED
    given = drawn(seed)
    with jax.enable_x64(True):
        (variables, _), image = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), given[:2])
        box = jnp.asarray([[[x, y, x + SIDE, y + SIDE]]], jnp.float64)
        found = jax.jit(lambda images: CONVOLUTIONS.apply(variables, images, train=False)[0])
        own = np.asarray(found(crops(image, box, SIDE, 0)[0]))[0]
        whole = np.asarray(found(image))[0]
    shared = whole[y // STRIDE : y // STRIDE + BINS, x // STRIDE : x // STRIDE + BINS]
    return np.asarray(np.abs(own - shared).max(axis=-1) / np.abs(shared).max())


def inside() -> np.ndarray:
    """Returns which cells of a crop see nothing beyond it by the layer table, bool [8, 8]."""
    last = inspect.layers(CONVOLUTIONS, (SIDE, SIDE, 3))[-1]
    assert last.start[0] is not None and last.receptive_field[0] is not None and last.stride[0] == STRIDE
    first = last.start[0] + STRIDE * np.arange(BINS)
    seen = (first >= 0) & (first + last.receptive_field[0] <= SIDE)
    return np.asarray(seen[:, None] & seen[None])  # [8] -> [8, 8]


def macs() -> dict[str, float]:
    """Returns the multiply-accumulates of both ways by the number of proposals, by the layer table, without the warping."""

    def count(network: nn.Module, shape: tuple[int, ...]) -> float:
        return float(sum(row.macs for row in inspect.layers(network, shape)))

    dense = count(DENSE, (BINS, BINS, WIDTH * STRIDE // 2))
    return _macs(count(CONVOLUTIONS, (SIDE, SIDE, 3)), count(CONVOLUTIONS, (*SIZE, 3)), dense)


def macs_by_hand() -> dict[str, float]:
    """Returns the same by hand: cells times weights of each layer."""
    channels, weights = 3, []
    for level in range(LEVELS):
        more = WIDTH * 2**level
        weights.append(9 * channels * more + 9 * more * more)
        channels = more

    def convolutions(height: int, width: int) -> float:
        return float(sum(height * width // 4 ** (level + 1) * each for level, each in enumerate(weights)))

    return _macs(convolutions(SIDE, SIDE), convolutions(*SIZE), float(BINS**2 * channels * HIDDEN + HIDDEN * OUTPUTS))


def _macs(crop: float, image: float, dense: float) -> dict[str, float]:
    """Returns the multiply-accumulates of both ways, of those of a crop's and the image's convolutions and the dense layers."""
    return {
        **{f"{CROPS}, {number}": number * (crop + dense) for number in NUMBERS},
        **{f"{SHARED}, {number}": image + number * dense for number in NUMBERS},
    }


@functools.cache
def ratio_of_the_paper() -> float:
    """Returns the ratio of operations for VGG-16 with 2,000 proposals on an image of 600x1000 pixels, R-CNN's crops of 224."""
    rows = inspect.layers(vgg16_d(classes=21), (224, 224, 3))
    dense = sum(row.macs for row in rows if row.name.startswith(("fc", "output")))
    crop = sum(row.macs for row in rows) - dense
    return float(2000 * (crop + dense) / (crop * 600 * 1000 / 224**2 + 2000 * dense))


def seconds(seed: int) -> dict[str, float]:
    """Returns the CPU time of a call of each program by the number of proposals, the median of interleaved rounds."""
    variables, image, corners = drawn(seed)
    calls = {
        f"{name}, {number}": functools.partial(program, variables, image, corners[:number])
        for number in NUMBERS
        for name, program in PROGRAMS.items()
    }
    for call in calls.values():
        jax.block_until_ready(call())
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            found[name].append(_seconds_of(call))
    return {name: float(np.median(each)) for name, each in found.items()}


def _seconds_of(call: Callable[[], Any]) -> float:
    """Returns the CPU time of one call, the mean of as many as take LEAST_SECONDS."""
    count, began = 0, time.process_time()
    while (spent := time.process_time() - began) < LEAST_SECONDS or not count:
        jax.block_until_ready(call())
        count += 1
    return spent / count


def measure(seed: int) -> Measured:
    """Returns where the maps agree, and operations and CPU seconds of both ways by the number of proposals."""
    differences, seen = difference(seed), inside()
    counted, taken = macs(), seconds(seed)
    operations, slower = (
        {f"{number}": found[f"{CROPS}, {number}"] / found[f"{SHARED}, {number}"] for number in NUMBERS}
        for found in (counted, taken)
    )
    few, many = NUMBERS[0], NUMBERS[-1]
    each = {name: (taken[f"{name}, {many}"] - taken[f"{name}, {few}"]) / (many - few) for name in PROGRAMS}
    return Measured(
        numbers={
            "difference": {
                "inside, largest": float(differences[seen].max()),
                "outside, smallest": float(differences[~seen].min()),
            },
            "agreeing_cells": {
                "measured": float(np.sum(differences <= TOLERANCE)),
                "by the layer table": float(np.sum(seen)),
            },
            "macs": {**counted, **{f"{name}, by hand": count for name, count in macs_by_hand().items()}},
            "cost_ratio": {**operations, "VGG-16, 2000": ratio_of_the_paper()},
            "time_ratio": slower,
            "seconds": taken,
            "seconds_each": each,
        },
        curves={
            "operations": tuple((float(number), operations[f"{number}"]) for number in NUMBERS),
            "CPU time": tuple((float(number), slower[f"{number}"]) for number in NUMBERS),
        },
    )


MOST = NUMBERS[-1]

measurement = Measurement(
    claim="C35",
    question="What do shared convolutions save over a pass for each proposal, by the number of proposals?",
    measure=measure,
    metrics=(
        Metric("difference", higher_is_better=False),
        Metric("agreeing_cells"),
        Metric("macs", "multiply-accumulates", higher_is_better=False),
        Metric("cost_ratio"),
        Metric("time_ratio", log_scale=True),
        Metric("seconds", "s", higher_is_better=False, log_scale=True),
        Metric("seconds_each", "s", higher_is_better=False, log_scale=True),
    ),
    seeds=8,
    verdict=every(
        at_most("C35", "inside, largest", TOLERANCE, "Cells that see nothing beyond an aligned proposal have equal features"),
        on(
            "agreeing_cells",
            identity("C35", "measured", "by the layer table", 0.0, "These are the cells that the receptive field says"),
        ),
        *(
            on(
                "macs",
                identity(
                    "C35", f"{name}, {MOST}", f"{name}, {MOST}, by hand", 0.0, f"With {name} operations are as counted by hand"
                ),
            )
            for name in (CROPS, SHARED)
        ),
        on("cost_ratio", at_least("C35", f"{MOST}", 10.0, f"{MOST} passes take over 10 times the operations of one")),
        on(
            "seconds",
            contrast(
                "C35",
                f"{SHARED}, {MOST}",
                "better",
                f"With {MOST} proposals shared convolutions take less CPU time",
                against=f"{CROPS}, {MOST}",
                smallest=math.log(2),
                scale="log",
            ),
        ),
        on(
            "seconds_each",
            contrast(
                "C35",
                SHARED,
                "better",
                "A further proposal takes less CPU time where convolutions are shared",
                against=CROPS,
                smallest=math.log(2),
                scale="log",
            ),
        ),
        shown=(
            on(
                "cost_ratio",
                at_least("C35", "VGG-16, 2000", 50.0, "VGG-16 takes over 50 times the operations for 2,000 passes of crops"),
            ),
            on(
                "seconds",
                contrast(
                    "C35",
                    f"{SHARED}, {NUMBERS[0]}",
                    "better",
                    f"With {NUMBERS[0]} proposals shared convolutions take less CPU time",
                    against=f"{CROPS}, {NUMBERS[0]}",
                    smallest=math.log(2),
                    scale="log",
                ),
            ),
        ),
        requires=(at_least("C35", "outside, smallest", 1e-6, "Cells that see beyond the proposal have others (the control)"),),
        scope=f"six convolutions and two dense layers with random weights on noise of {SIZE[0]}x{SIZE[1]}, no proposals' cost",
    ),
    card=Card(
        published=(
            "Girshick 2015: with VGG-16 Fast R-CNN processes an image 146 times faster than R-CNN, 213 times with truncated "
            "SVD of the dense layers, and trains 9 times faster."
        ),
        would_change=(
            "A cell inside an aligned proposal whose features differ by more than rounding, or 256 passes that take less than "
            "twice the time of shared convolutions."
        ),
        quick="--seeds=1",
        figure=Figure(x="number of proposals", y="cost of a pass for each over that of shared convolutions"),
        deviations=(
            "A network of six convolutions on a small image, and RoI align in place of RoI pooling. Crops of 64x64 on an image "
            "of 160x208 save less than crops of 224x224 on one of 600x1000. Selective search, which both take, is not counted."
        ),
    ),
)
