"""Examples on the device while they are varied: their columns, each of a kind."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cnnlab.core import Array, PyTree
from cnnlab.data.kinds import Image, Kind
from cnnlab.data.motion import Motion


@dataclasses.dataclass(frozen=True)
class Examples:
    """A batch while it is varied. Images are f32 [B, H, W, C] in [0, 1], not normalised yet."""

    columns: Mapping[str, PyTree]
    """{name: the values [B, …] of a column}."""
    kinds: Mapping[str, Kind]
    """{name: what the column holds}; it may name columns that are not there."""

    @property
    def images(self) -> dict[str, Array]:
        """The columns of images."""
        return {name: value for name, value in self.columns.items() if isinstance(self.kinds[name], Image)}

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images, which is that of all spatial columns."""
        _, height, width, _ = next(iter(self.images.values())).shape
        return height, width

    def with_columns(self, columns: Mapping[str, PyTree]) -> "Examples":
        """Returns the examples with other values of some columns."""
        return dataclasses.replace(self, columns={**self.columns, **columns})


def moved(examples: Examples, draws: Any, draw: Callable[[Any, tuple[int, int]], Motion]) -> Examples:
    """Moves each example by one motion: all columns that lie on the image, each as its kind does.

    Args:
        examples: the examples.
        draws: what each motion is drawn from, such as keys [B].
        draw: (draws of one example, (H, W)) -> its motion.
    """
    size = examples.size
    spatial = {name: value for name, value in examples.columns.items() if examples.kinds[name].is_spatial}

    def move(one: Any, values: dict[str, PyTree]) -> dict[str, PyTree]:
        motion = draw(one, size)
        return {name: examples.kinds[name].moved(value, motion) for name, value in values.items()}

    return examples.with_columns(jax.vmap(move)(draws, spatial))
