"""Inpainting as a pretext task: what is missing from an image is predicted from what is around it.

The context encoder of Pathak, Krähenbühl, Donahue, Darrell and Efros 2016, arXiv 1604.07379. Deviation: its adversarial loss is
left out, which makes the pictures sharper; the loss is that of the reconstruction alone (section 3.2, equation 1).

Letters in shapes: B batch, H W space, C channels.
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import PRETEXT, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.inputs import InputSpec
from cnnlab.metric import Metric
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.adversarial import Pixels
from cnnlab.tasks.network_player import NetworkPlayer
from cnnlab.tasks.pretext import features_of, keys_of, means

METRICS = (
    Metric("error", higher_is_better=False, log_scale=True),
    Metric("flat_error", higher_is_better=False, log_scale=True),
    Metric("loss", higher_is_better=False, log_scale=True),
)
"""The metrics that `summary` gives: the mean squared error of a missing number of the normalised image, which is the loss too,
and that of a hole that has the mean of what is left of each channel, which asks for no network."""
SHOWN = 12
"""Number of images that are shown."""
Region = Literal["centre", "anywhere"]
"""Where the missing square lies."""


def holes(size: tuple[int, int], keys: Array, *, region: Region, share: float) -> Array:
    """Returns whether each pixel is missing, bool [B, H, W, 1]: a rectangle of a share of either side, by keys [B].

    Args:
        size: (H, W).
        keys: one for each image.
        region: centre: in the middle; anywhere: every place within the image is as likely.
        share: of the height and of the width, rounded to whole pixels, one at least.
    """
    sides = [max(1, round(share * length)) for length in size]
    rooms = [length - side for length, side in zip(size, sides, strict=True)]

    def corner(key: Array) -> Array:
        if region == "centre":
            return jnp.asarray([room // 2 for room in rooms], jnp.int32)
        return jax.random.randint(key, (2,), 0, jnp.asarray(rooms, jnp.int32) + 1, jnp.int32)

    corners = jax.vmap(corner)(keys)  # [B, 2]
    inside = [
        (jnp.arange(length)[None] >= corners[:, axis, None]) & (jnp.arange(length)[None] < corners[:, axis, None] + side)
        for axis, (length, side) in enumerate(zip(size, sides, strict=True))
    ]
    return (inside[0][:, :, None] & inside[1][:, None, :])[..., None]  # [B, H, 1] and [B, 1, W] -> [B, H, W, 1]


def inpaint(network: nn.Module, inputs: InputSpec, *, region: Region, share: float) -> Task:
    """The task of filling a hole: the game of one player, PRETEXT. The hole is 0 in the normalised image, its mean.

    Args:
        network: `network(images [B, H, W, C], train=…) -> (images [B, H, W, C], intermediates)`, with a module TRUNK and a
            method `features` (models/trunk_decoder.py).
        inputs: how the images are normalised.
        region: where the hole lies; a held-out image's depends on its index alone.
        share: side of the hole as a share of that of the image.
    """
    player = NetworkPlayer(network, PRETEXT)
    hole_of = functools.partial(holes, inputs.image_shape[:2], region=region, share=share)

    def loss_of(params: Params, model_state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        images = batch["image"]
        hole = hole_of(collectives.example_keys(stream(key, "hole"), len(images)))
        (found, _), updated = player.train(params, model_state, emptied(images, hole), key)
        each = errors(found, images, hole)
        sums = {name: jnp.sum(jnp.where(batch["mask"], values, 0.0)) for name, values in each.items()}
        return jnp.mean(each["loss"]), (updated, {"sums": sums, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        images, hole = batch["image"], hole_of(keys_of(batch["index"]))
        found, _ = player.evaluate(params, model_state, emptied(images, hole))
        rows = {name: values for name, values in errors(found, images, hole).items() if name != "count"}
        return {"sums": {}, "rows": {"index": batch["index"], **rows, "mask": batch["mask"]}}

    def filled(params: Params, model_state: PyTree, images: Array, index: Array) -> tuple[Array, Array]:
        """Returns pixels with the hole, and with what was predicted for it, both f32 [B, H, W, C] in [0, 1]."""
        hole, pixels = hole_of(keys_of(index)), Pixels.of(inputs)
        holed = emptied(images, hole)
        found, _ = player.evaluate(params, model_state, holed)
        return pixels.of_images(holed), pixels.of_images(jnp.where(hole, found, images))

    return Task(
        init=player.init,
        loss=loss_of,
        predict=features_of(network),
        measure=measure,
        summary=functools.partial(means, METRICS),
        figures=functools.partial(draw_figures, inputs, filled),
        turns=(PRETEXT,),
        metrics=METRICS,
        for_inputs=lambda inputs: inpaint(network, inputs, region=region, share=share),
    )


def emptied(images: Array, hole: Array) -> Array:
    """Returns normalised images [B, H, W, C] with 0 in their holes, bool [B, H, W, 1]."""
    return jnp.where(hole, jnp.zeros((), images.dtype), images)


def errors(found: Array, images: Array, hole: Array) -> dict[str, Array]:
    """Returns {error, flat_error, loss, count}, f32 [B] each, of predicted images [B, H, W, C] and their holes [B, H, W, 1]."""
    found, images = at_least_f32(found), at_least_f32(images)
    missing = jnp.broadcast_to(hole, images.shape)
    number = jnp.sum(missing, axis=(1, 2, 3)).astype(images.dtype)
    seen = jnp.sum(jnp.where(missing, 0.0, images), axis=(1, 2)) / jnp.sum(~hole, axis=(1, 2)).astype(images.dtype)  # [B, C]
    error = jnp.sum(jnp.where(missing, (found - images) ** 2, 0.0), axis=(1, 2, 3)) / number
    flat = jnp.sum(jnp.where(missing, (seen[:, None, None] - images) ** 2, 0.0), axis=(1, 2, 3)) / number
    return {"error": error, "flat_error": flat, "loss": error, "count": jnp.ones_like(error)}


def draw_figures(
    inputs: InputSpec, filled: Any, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str
) -> dict[str, Any]:
    """Returns the figure of the first images: with a hole, filled, and as they are."""
    from cnnlab import figures

    index = stats["rows"]["index"][:SHOWN]
    stored = data.images(split, index).astype(np.float32)
    images = jnp.asarray((stored - inputs.subtract) / inputs.divide)
    empty, full = jax.jit(filled)(params, model_state, images, jnp.asarray(index))
    truth = np.asarray(Pixels.of(inputs).of_images(images))
    shown = np.stack([empty, full, truth], axis=1).reshape(-1, *truth.shape[1:])  # three of [N, H, W, C] -> [3 N, H, W, C]
    captions = [text for error in stats["rows"]["error"][:SHOWN] for text in ("hole", f"filled, {error:.2f}", "truth")]
    return {"filled": figures.image_grid(shown, captions, title=f"The first images of {split}, with error", columns=6)}
