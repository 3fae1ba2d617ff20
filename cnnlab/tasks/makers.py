"""What makes the pictures of synthesis and is trained: canvases, whose parameters are the pictures, or a network.

Letters in shapes: B batch, H W space, C channels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import Array, Batch, Params, PyTree
from cnnlab.ops.keys import stream
from cnnlab.ops.precision import at_least_f32

IMAGE = "image"
"""The player that is the picture."""
TRANSFORMER = "transformer"
"""The player that is the network of fast style transfer."""
LEAST = 0.01
"""Distance from 0 and 1 to which the pixels of a photo are clipped, as the sigmoid of a canvas reaches neither."""


@dataclasses.dataclass(frozen=True)
class Maker:
    """The players of synthesis, and the pictures that their parameters stand for."""

    players: tuple[str, ...]
    """One for each stage; a stage trains the pictures at a size of its own, from coarse to fine."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of the pictures of each stage."""
    init: Callable[[Array, Batch], tuple[Params, PyTree]]
    """(key, batch) -> (parameters by player, state, such as batch statistics)."""
    make: Callable[[Params, PyTree, Batch, int, bool], tuple[Array, PyTree]]
    """(parameters, state, batch, stage, whether it trains) -> (pictures f32 [B, h, w, C] in [0, 1], new state)."""
    predict: Callable[[Params, PyTree, Array], Array] | None = None
    """(parameters, state, images f32 [B, H, W, C] in [0, 1]) -> pictures of the same size; None: pictures are made of none."""


def octave_sizes(size: tuple[int, int], count: int, scale: float) -> tuple[tuple[int, int], ...]:
    """Returns the heights and widths of `count` octaves, each `scale` times the one before, the last of `size`."""
    factors = [scale ** (place - count + 1) for place in range(count)]
    return tuple((max(1, round(size[0] * factor)), max(1, round(size[1] * factor))) for factor in factors)


def canvas(details: Sequence[nn.Module], *, sizes: tuple[tuple[int, int], ...], from_picture: bool) -> Maker:
    """Makes the maker of pictures that are themselves the parameters: the picture of an octave is a base and a sum of details.

    The base is the picture of the data, or grey. Each octave owns a detail of its own size, and its picture is the base with
    its own detail and those of all coarser octaves, enlarged. So an octave of DeepDream is a phase in which one player moves,
    and nothing is copied from one to the next.

    Deviation: sums are of logits, whose sigmoid is the picture, so pixels stay in [0, 1] without clipping.

    Args:
        details: one canvas (models/canvas.py) for each octave.
        sizes: height and width of each.
        from_picture: whether the base is the picture of the data.
    """
    players = (IMAGE,) if len(details) == 1 else tuple(f"octave{number}" for number in range(1, len(details) + 1))

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        index = batch["index"][:1]
        parts = zip(players, details, strict=True)
        return {player: detail.init(stream(key, player), index)["params"] for player, detail in parts}, {}

    def make(params: Params, state: PyTree, batch: Batch, stage: int, train: bool) -> tuple[Array, PyTree]:
        pictures, size = at_least_f32(batch["image"]), sizes[stage]
        logits = resized(jax.scipy.special.logit(jnp.clip(pictures, LEAST, 1.0 - LEAST)), size)
        logits = logits if from_picture else jnp.zeros_like(logits)
        for player, detail in zip(players[: stage + 1], details, strict=False):
            values: Any = detail.apply({"params": params[player]}, batch["index"])
            logits = logits + resized(values, size)
        return jax.nn.sigmoid(logits), state

    return Maker(players, sizes, init, make)


def resized(pictures: Array, size: tuple[int, int]) -> Array:
    """Returns pictures [B, H, W, C] at another size, [B, h, w, C], bilinearly and without aliasing."""
    batch, height, width, channels = pictures.shape
    return pictures if (height, width) == size else jax.image.resize(pictures, (batch, *size, channels), "linear")


def transformer(network: nn.Module, size: tuple[int, int]) -> Maker:
    """Makes the maker of a network that takes each picture of the data to another one (Johnson et al. 2016, arXiv 1603.08155).

    Args:
        network: `network(images f32 [B, H, W, C] in [0, 1], train=…) -> pictures f32 [B, H, W, C] in [0, 1]`.
        size: height and width of the training pictures.
    """

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        variables = dict(network.init(key, batch["image"][:1], train=False))
        return {TRANSFORMER: variables.pop("params")}, variables

    def make(params: Params, state: PyTree, batch: Batch, stage: int, train: bool) -> tuple[Array, PyTree]:
        variables = {"params": params[TRANSFORMER], **state}
        if not train:
            return predict(params, state, batch["image"]), state
        pictures, updated = network.apply(variables, batch["image"], train=True, mutable=sorted(state))
        return at_least_f32(pictures), dict(updated)

    def predict(params: Params, state: PyTree, images: Array) -> Array:
        pictures: Any = network.apply({"params": params[TRANSFORMER], **state}, images, train=False)
        return at_least_f32(pictures)

    return Maker((TRANSFORMER,), (size,), init, make, predict)
