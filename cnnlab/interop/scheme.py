"""The scheme by which a library names the weights of a family of networks: one small table for a whole family."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

Leaves = dict[str, np.ndarray]

SHOWN = 10
"""Number of leaves that an error lists."""


def first_few(rows: list[str]) -> str:
    """Formats the first rows of a long list, and the number of the others."""
    return ", ".join(rows[:SHOWN]) + (f" … and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def unchanged(leaves: Leaves) -> tuple[Leaves, dict[str, str]]:
    """Returns the leaves as they are: the `prepare` of most libraries."""
    return leaves, {}


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The names that a library gives to the layers of a family."""

    library: str
    """`torchvision`, `timm`, `pytorchcv` or `keras`."""
    rename: Callable[[str, Any], str | None]
    """(layer's name in the library, without that of the leaf; our model) -> path of the layer here ("stage1_block1/conv1");
    None for a layer without a counterpart, such as an auxiliary head."""
    flattened: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Our dense layers that follow a flattened [height, width, C], which torch flattens channels first: path -> (height,
    width)."""
    prepare: Callable[[Leaves], tuple[Leaves, dict[str, str]]] = unchanged
    """Leaves of the library -> (leaves that our network can take, {name: what was changed}), such as a bias that is merged."""
    caveat: str = ""
    """How the library's network differs from ours of the same name: the knobs that make them equal, or what remains."""


def by_rules(*rules: tuple[str, str], ignored: tuple[str, ...] = ()) -> Callable[[str, nn.Module], str | None]:
    """Makes a `rename` that applies `re.sub` (pattern, replacement) in order; layers that match `ignored` are left out."""

    def rename(name: str, model: nn.Module) -> str | None:
        if any(re.match(pattern, name) for pattern in ignored):
            return None
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return rename
