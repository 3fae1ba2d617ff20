"""Claim C52: one hidden layer suffices in principle, but depth is exponentially cheaper.

Paper:    M. Telgarsky, Benefits of depth in neural networks, 2016, arXiv 1602.04485, section 4; G. Montúfar et al., On the
          number of linear regions of deep neural networks, 2014, arXiv 1402.1869
Command:  python launch.py measure --experiment=c52_sawtooth
Result:   exact; docs/claims/c52.md has the numbers.

The tent map t(x) = 2x up to ½ and 2 − 2x beyond is a layer of two ReLU units. An MLP of k such layers computes t applied k
times: a sawtooth of 2^k linear pieces on [0, 1]. A unit of a single hidden layer bends a function of one input at one place, so
a layer of n units gives at most n + 1 pieces: it needs at least 2^k − 1 units, and 2^k suffice, as weights written down here
show. Pieces are counted by following all intervals through the layers in rational arithmetic, with the weights of the network
as they are, so that the count is exact; networks with random weights of the same size show that depth makes many pieces
possible and not probable.
"""

import itertools
from fractions import Fraction
from typing import Any

import jax
import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_most, identity
from cnnlab.ablation.analyse.verdicts import on
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Card, Figure
from cnnlab.metric import Metric
from cnnlab.models.mlp import MLP

DEEPEST = 8
UNITS = 2**DEEPEST
DEPTHS = tuple(range(1, DEEPEST + 1))
DEEP, SHALLOW, NARROW = "8 layers of 2 units", "1 layer of 256 units", "1 layer of 16 units, random weights"
Params = dict[str, dict[str, np.ndarray]]
Line = tuple[Fraction, Fraction]
"""Slope and intercept."""


def tent_params(depth: int) -> Params:
    """Returns the parameters of MLP(classes=1, widths=(2,) * depth) that applies the tent map `depth` times.

    The units of a layer are relu(y) and relu(y − ½) of the value y in [0, 1] before it; the tent map is
    2 relu(y) − 4 relu(y − ½).
    """
    tent, shift = np.array([[2.0], [-4.0]]), np.array([0.0, -0.5])
    layers = {"dense1": {"kernel": np.ones((1, 2)), "bias": shift}}
    layers |= {f"dense{number}": {"kernel": np.repeat(tent, 2, axis=1), "bias": shift} for number in range(2, depth + 1)}
    return layers | {"output": {"kernel": tent, "bias": np.zeros(1)}}


def shallow_params(depth: int) -> Params:
    """Returns the parameters of MLP(classes=1, widths=(2^depth,)) that computes the same sawtooth on [0, 1].

    A unit relu(x − j / 2^depth) bends the function at j / 2^depth: the first begins with slope 2^depth, all others turn it.
    """
    units = 2**depth
    bends = np.where(np.arange(units) % 2 == 1, -2.0, 2.0) * units
    bends[0] = units
    return {
        "dense1": {"kernel": np.ones((1, units)), "bias": -np.arange(units) / units},
        "output": {"kernel": bends[:, None], "bias": np.zeros(1)},
    }


def random_params(widths: tuple[int, ...], seed: int) -> Params:
    """Returns parameters of MLP(classes=1, widths=widths): kernels from N(0, 2 / fan-in), biases from N(0, 1)."""
    draw, sizes = np.random.default_rng(seed), (1, *widths, 1)
    names = [f"dense{number}" for number in range(1, len(widths) + 1)] + ["output"]
    return {
        name: {"kernel": draw.standard_normal((into, out)) * np.sqrt(2 / into), "bias": draw.standard_normal(out)}
        for name, (into, out) in zip(names, itertools.pairwise(sizes), strict=True)
    }


def knots_of(params: Params) -> tuple[list[Fraction], list[Line]]:
    """Returns (ends of the linear pieces on [0, 1], the line of each piece) of an MLP of one input and output, exactly.

    Args:
        params: parameters of an MLP of cnnlab with ReLU units, of one input and one output.
    """
    ends: list[Fraction] = [Fraction(0), Fraction(1)]
    lines: list[list[Line]] = [[(Fraction(1), Fraction(0))]]  # of each interval: the line of each input of the next layer
    for name, layer in params.items():
        kernel = [[Fraction(float(weight)) for weight in row] for row in layer["kernel"].T]  # [out][in]
        bias = [Fraction(float(offset)) for offset in layer["bias"]]
        new_ends, new_lines = [ends[0]], []
        for low, high, inputs in zip(ends[:-1], ends[1:], lines, strict=True):
            sums = [_combined(row, offset, inputs) for row, offset in zip(kernel, bias, strict=True)]
            # Within the interval each unit is one line before its ReLU, and bends where this crosses 0.
            zeros = [-intercept / slope for slope, intercept in sums if slope] if name != "output" else []
            for end in sorted({zero for zero in zeros if low < zero < high} | {high}):
                middle = (new_ends[-1] + end) / 2
                active = [name == "output" or slope * middle + intercept > 0 for slope, intercept in sums]
                new_lines.append([line if on_ else (Fraction(0), Fraction(0)) for line, on_ in zip(sums, active, strict=True)])
                new_ends.append(end)
        ends, lines = new_ends, new_lines
    return _merged(ends, [line[0] for line in lines])


def _combined(weights: list[Fraction], offset: Fraction, inputs: list[Line]) -> Line:
    """Returns the line of a weighted sum of lines."""
    used = [(w, *line) for w, line in zip(weights, inputs, strict=True) if w and any(line)]  # most units are 0 in an interval
    return sum((w * slope for w, slope, _ in used), Fraction(0)), sum((w * intercept for w, _, intercept in used), offset)


def _merged(ends: list[Fraction], lines: list[Line]) -> tuple[list[Fraction], list[Line]]:
    """Joins neighbouring intervals on which the function is the same line."""
    kept = [number for number in range(1, len(lines)) if lines[number] != lines[number - 1]]
    return [ends[0], *(ends[number] for number in kept), ends[-1]], [lines[0], *(lines[number] for number in kept)]


def outputs_of(params: Params, points: np.ndarray) -> np.ndarray:
    """Returns the outputs f64 [N] of the MLP with these parameters at points f64 [N]."""
    widths = tuple(len(layer["bias"]) for name, layer in params.items() if name != "output")
    images: Any = points.reshape(-1, 1, 1, 1)  # [N] -> [N, 1, 1, 1]
    with jax.enable_x64(True):
        outputs, _ = jax.jit(lambda params, images: MLP(1, widths).apply({"params": params}, images, train=False))(
            params, images
        )
    return np.asarray(outputs)[:, 0]


def tent(points: np.ndarray, times: int) -> np.ndarray:
    """Returns the tent map of points f64 [N] in [0, 1], applied several times; exact for fractions of powers of 2."""
    return tent(np.where(points <= 0.5, 2 * points, 2 - 2 * points), times - 1) if times else points


def pieces(params: Params) -> float:
    """Returns the number of linear pieces on [0, 1]."""
    return float(len(knots_of(params)[1]))


def parameters(params: Params) -> float:
    """Returns the number of parameters."""
    return float(sum(array.size for layer in params.values() for array in layer.values()))


def measure(seed: int) -> Measured:
    """Counts the pieces of the networks whose weights are written down, and of networks with random weights of a seed."""
    deep, shallow = tent_params(DEEPEST), shallow_params(DEEPEST)
    grid = np.arange(4 * UNITS + 1) / (4 * UNITS)  # the ends of all pieces, and three points within each
    counts = {f"{depth} layers of 2 units": pieces(tent_params(depth)) for depth in (2, 4, 6)}
    counts |= {DEEP: pieces(deep), SHALLOW: pieces(shallow), NARROW: pieces(random_params((2 * DEEPEST,), seed))}
    counts |= {"8 layers of 2 units, random weights": pieces(random_params((2,) * DEEPEST, seed))}
    curves = {
        "2 units in each of k layers, tent maps": [pieces(tent_params(depth)) for depth in DEPTHS],
        "2k units in one layer, most possible": [2.0 * depth + 1 for depth in DEPTHS],
        "8 units in each of k layers, random weights": [pieces(random_params((8,) * depth, seed)) for depth in DEPTHS],
    }
    return Measured(
        numbers={
            "pieces": counts,
            "difference": {
                case: float(np.max(np.abs(outputs_of(params, grid) - tent(grid, DEEPEST))))
                for case, params in ((DEEP, deep), (SHALLOW, shallow))
            },
            "parameters": {DEEP: parameters(deep), SHALLOW: parameters(shallow)},
        },
        curves={label: tuple(zip(map(float, DEPTHS), values, strict=True)) for label, values in curves.items()},
    )


measurement = Measurement(
    claim="C52",
    question="How many units does one hidden layer need for a function that a deep network of two units a layer computes?",
    measure=measure,
    metrics=(
        Metric("pieces"),
        Metric("difference", higher_is_better=False),
        Metric("parameters"),
    ),
    seeds=10,
    verdict=every(
        identity("C52", "2 layers of 2 units", 4.0, 0.0, "Two layers of two units compute a sawtooth of 2² pieces"),
        identity("C52", "4 layers of 2 units", 16.0, 0.0, "Four layers of two units compute a sawtooth of 2⁴ pieces"),
        identity("C52", DEEP, 256.0, 0.0, "Eight layers of two units compute a sawtooth of 2⁸ pieces"),
        on("difference", identity("C52", DEEP, 0.0, 0.0, "It is the tent map applied eight times, without any error")),
        at_most("C52", NARROW, 17.0, "As many units in one layer, 16, give at most 17 pieces, whatever their weights"),
        identity("C52", SHALLOW, 256.0, 0.0, "One layer of 256 units has the 256 pieces"),
        on(
            "difference",
            identity("C52", SHALLOW, 0.0, 0.0, "One hidden layer suffices: with 256 units it is the same function"),
        ),
        shown=(
            on("parameters", identity("C52", DEEP, 49.0, 0.0, "The deep network has 49 parameters")),
            on("parameters", identity("C52", SHALLOW, 769.0, 0.0, "The shallow network has 769 parameters")),
            at_most("C52", "8 layers of 2 units, random weights", 16.0, "At random weights the same depth gives few pieces"),
        ),
        scope="functions of one input on [0, 1], ReLU units; what can be represented, not what training finds",
    ),
    card=Card(
        published=(
            "Telgarsky (2016) gives functions of Θ(k³) layers and constant width that no network of O(k) layers approximates "
            "unless it has Ω(2^k) units; the sawtooth of 2^k pieces is what his proof is built on."
        ),
        would_change="A hidden layer of n ReLU units with more than n + 1 linear pieces in one input.",
        figure=Figure(x="layers k", y="linear pieces on [0, 1]", log_y=True),
        deviations=(
            "The sawtooth is compared exactly in place of approximately, with one hidden layer in place of few. That at most "
            "n + 1 pieces are possible is a proof (a unit bends at one place); the count at random weights illustrates it."
        ),
    ),
)
