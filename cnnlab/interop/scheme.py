"""How a library names the weights of a family of networks: one small table for each family, none for each network."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

Leaves = dict[str, np.ndarray]

SHOWN = 10
"""How many leaves an error names."""


def some(rows: list[str]) -> str:
    """The first few of many, as text."""
    return ", ".join(rows[:SHOWN]) + (f" … and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def unchanged(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """The `prepare` of most libraries."""
    return leaves, {}


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The names that one library gives to the layers of one family."""

    library: str
    """`torchvision`, `timm`, `pytorchcv` or `keras`."""
    rename: Callable[[str, Any], str | None]
    """(their layer's name, the leaf's own name left out, our model) -> our layer's path ("stage1_block1/conv1"); None for
    a layer without a counterpart here, such as an auxiliary head."""
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Our dense layers that follow a flattened [height, width, C], which torch flattens channels first: path -> (height,
    width)."""
    prepare: Callable[[Leaves], tuple[Leaves, dict[str, str]]] = unchanged
    """Their leaves -> (the leaves with what has no place here moved to where it has one, {their name: what was done})."""
    caveat: str = ""
    """How their network differs from ours of the same name: knobs that make them equal, or what remains."""


def by_rules(*rules: tuple[str, str], ignored: tuple[str, ...] = ()) -> Callable[[str, nn.Module], str | None]:
    """A `rename` that applies `re.sub` (pattern, replacement) in order; a layer that matches `ignored` has none here."""

    def rename(name: str, model: nn.Module) -> str | None:
        if any(re.match(pattern, name) for pattern in ignored):
            return None
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return rename
