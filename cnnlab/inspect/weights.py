"""What the weights of a trained network add to its layers: how many of them stay, in how many bits, and what they multiply."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab import inspect
from cnnlab.inspect import Layer

KERNEL = "kernel"
"""Name of the weights that are pruned, in a layer."""
WHOLE_BITS = 32
"""Bits of a weight that has a value of its own."""
MOST_CODE_BITS = 8
COLUMNS = ("density", "bits", "effective MACs")


@dataclasses.dataclass(frozen=True)
class Weights:
    """The kernel of a layer."""

    density: float
    """Share of its weights that are not 0."""
    bits: int
    """Bits of a weight's code: enough for the values that the weights share, or those of f32 where they share none."""
    macs: int
    """Multiply-accumulates of one example by weights that are not 0."""


def weights_of(layers: Sequence[Layer], leaves: Mapping[str, np.ndarray]) -> list[Weights | None]:
    """Returns what each layer's kernel adds; None for a layer without one.

    Args:
        layers: the layers of a network.
        leaves: its arrays, {"params/LAYER/kernel": …}.
    """
    found: list[Weights | None] = []
    for layer in layers:
        kernel = leaves.get(f"params/{layer.name}/{KERNEL}")
        if kernel is None or not kernel.size:
            found.append(None)
            continue
        kept = kernel[kernel != 0]
        density = kept.size / kernel.size
        found.append(Weights(density, _bits(kept), round(layer.macs * density)))
    return found


def _bits(kept: np.ndarray) -> int:
    """Returns the bits of a code for the values of the weights that are not 0."""
    values = len(np.unique(kept))
    bits = max(1, math.ceil(math.log2(max(1, values))))
    return bits if bits <= MOST_CODE_BITS and values < kept.size else WHOLE_BITS


def as_table(layers: list[Layer], weights: Sequence[Weights | None]) -> str:
    """Formats the layers with what their weights add, as `inspect.as_table` does."""
    cells = [("", "", "") if one is None else (f"{100 * one.density:.2f} %", str(one.bits), f"{one.macs:,}") for one in weights]
    total = sum(layer.macs if one is None else one.macs for layer, one in zip(layers, weights, strict=True))
    return inspect.as_table(layers, more=(COLUMNS, cells, ("", "", f"{total:,}")))


def as_json(layers: list[Layer], weights: Sequence[Weights | None]) -> dict[str, Any]:
    """Returns `inspect.as_json` with density, bits and effective_macs of each layer, null where it has no kernel."""
    content = inspect.as_json(layers)
    for row, one in zip(content["layers"], weights, strict=True):
        row |= {"density": one and one.density, "bits": one and one.bits, "effective_macs": one and one.macs}
    effective = sum(layer.macs if one is None else one.macs for layer, one in zip(layers, weights, strict=True))
    return {**content, "total": {**content["total"], "effective_macs": effective}}
