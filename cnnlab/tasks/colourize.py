"""Colourisation as a pretext task: the colours of an image are predicted from its lightness.

Zhang, Isola and Efros 2016, arXiv 1603.08511: a and b of Lab in bins, rare colours weighing more, and the annealed mean.

Letters in shapes: B batch, H W space, h w cells, C channels, Q bins.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import PRETEXT, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import collectives, colours, upsample
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.adversarial import Pixels
from cnnlab.tasks.network_player import NetworkPlayer
from cnnlab.tasks.pretext import features_of, means

METRICS = (
    Metric("loss", "nats", higher_is_better=False, log_scale=True),
    Metric("bin_accuracy", SHARE, higher_is_better=True),
    Metric("ab_error", higher_is_better=False),
    Metric("grey_error", higher_is_better=False),
)
"""The metrics that `summary` gives: the cross-entropy with all colours weighing the same, the share of cells whose bin is
predicted, the mean distance of the predicted a and b from the true ones, and that of grey, which asks for no network."""
COLOURS = "colours"
"""Key of the model state that holds the share of each bin, by which rare colours weigh more."""
BATCHES_REMEMBERED = 200
"""Number of training batches over which the shares are averaged."""
SHOWN = 12
"""Number of images that are shown."""


def require_colours(inputs: InputSpec) -> None:
    """Raises UsageError for images that are not RGB, or whose pixels are not known any more."""
    if inputs.image_shape[2] != 3:
        raise UsageError(
            f"--pretext=colourisation: the images have {inputs.image_shape[2]} channel(s), and no colours.\n"
            "Take images of RGB, such as --dataset=tfds:cifar10."
        )
    if inputs.whiten is not None:
        raise UsageError(
            "--pretext=colourisation: the images are whitened by a matrix, and have no lightness any more.\n"
            "Take another normalisation, such as --normalize=standard."
        )


def colourize(network: nn.Module, inputs: InputSpec, *, cell: int, uniform: float, temperature: float) -> Task:
    """The task of predicting colours: the game of one player, PRETEXT.

    The network sees the grey image of the same lightness in all three channels, normalised as the images are, so that its trunk
    takes images of colours, too. The weights of the colours come from the batches before. Deviation: in the paper, from all of
    ImageNet beforehand.

    Args:
        network: `network(images [B, H, W, 3], train=…) -> (logits [B, h, w, Q], intermediates)`, with a module TRUNK and a
            method `features` (models/trunk_decoder.py).
        inputs: how the images are normalised.
        cell: side in pixels of a cell, whose colour is the mean of its pixels' (4 in the paper).
        uniform: λ, the uniform share of each bin in the weights of the colours; 1: all weigh the same (1/2 in the paper).
        temperature: T of the annealed mean by which logits become colours (0.38 in the paper).
    """
    player, pixels, bins = NetworkPlayer(network, PRETEXT), Pixels.of(inputs), len(colours.bins())
    seen = functools.partial(grey_and_colours, pixels, cell)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params, collections = player.init(key, batch)
        start = {"batches": jnp.zeros((), jnp.float32), "shares": jnp.full((bins,), 1.0 / bins, jnp.float32)}
        return params, {**collections, COLOURS: start}

    def loss_of(params: Params, model_state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        collections, shares = _parted(model_state)
        grey, _, true = seen(batch["image"])
        (logits, _), updated = player.train(params, collections, grey, key)
        soft = colours.soft_bins(true)
        each, losses = compared(at_least_f32(logits), soft, true, temperature)
        weights = colours.rarity(shares["shares"], uniform)[colours.nearest_bin(true)]  # [Q] at [B, h, w] -> [B, h, w]
        each["count"] = jnp.ones(len(logits), jnp.float32)
        sums = {name: jnp.sum(jnp.where(batch["mask"], values, 0.0)) for name, values in each.items()}
        return jnp.mean(weights * losses), ({**updated, COLOURS: _counted(shares, soft)}, {"sums": sums, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        grey, _, true = seen(batch["image"])
        logits, _ = player.evaluate(params, model_state, grey)
        each, _ = compared(at_least_f32(logits), colours.soft_bins(true), true, temperature)
        return {"sums": {}, "rows": {"index": batch["index"], **each, "mask": batch["mask"]}}

    def coloured(params: Params, model_state: PyTree, images: Array) -> tuple[Array, Array]:
        """Returns grey pixels, and pixels with the predicted colours, both f32 [B, H, W, 3] in [0, 1]."""
        grey, lightness, _ = seen(images)
        logits, _ = player.evaluate(params, model_state, grey)
        ab = upsample.bilinear(colours.annealed_mean(at_least_f32(logits), temperature), inputs.image_shape[:2])
        return pixels.of_images(grey), colours.lab_to_rgb(jnp.concatenate([lightness, ab], axis=-1))

    return Task(
        init=init,
        loss=loss_of,
        predict=features_of(network),
        measure=measure,
        summary=functools.partial(means, METRICS),
        figures=functools.partial(draw_figures, inputs, coloured),
        turns=(PRETEXT,),
        metrics=METRICS,
        logged_metrics=("loss", "bin_accuracy"),
        for_inputs=lambda inputs: colourize(network, inputs, cell=cell, uniform=uniform, temperature=temperature),
    )


def grey_and_colours(pixels: Pixels, cell: int, images: Array) -> tuple[Array, Array, Array]:
    """Returns (grey images [B, H, W, 3] normalised, lightness [B, H, W, 1], true a and b of cells [B, h, w, 2]).

    Args:
        pixels: how images are normalised.
        cell: side in pixels of a cell.
        images: [B, H, W, 3], normalised.
    """
    lab = colours.rgb_to_lab(pixels.of_images(images))
    grey = colours.lab_to_rgb(lab * jnp.asarray([1.0, 0.0, 0.0])[None, None, None])
    return ((grey - pixels.subtract) / pixels.divide).astype(images.dtype), lab[..., :1], of_cells(lab[..., 1:], cell)


def _parted(model_state: PyTree) -> tuple[PyTree, dict[str, Array]]:
    """Returns (the collections of the network, the shares of the colours) of the model state."""
    return {name: value for name, value in model_state.items() if name != COLOURS}, model_state[COLOURS]


def _counted(shares: dict[str, Array], soft: Array) -> dict[str, Array]:
    """Returns the shares of the bins after a batch of soft bins [B, h, w, Q]: the mean of the last BATCHES_REMEMBERED or so."""
    number = shares["batches"] + 1.0
    part = 1.0 / jnp.minimum(number, jnp.float32(BATCHES_REMEMBERED))
    own = collectives.global_mean(jnp.mean(jax.lax.stop_gradient(soft), axis=(0, 1, 2)))
    return {"batches": number, "shares": (1.0 - part) * shares["shares"] + part * own}


def of_cells(x: Array, cell: int) -> Array:
    """Returns the means of x [B, H, W, C] over cells of `cell` pixels a side, [B, h, w, C]; what fills no cell is left out."""
    height, width = (side // cell for side in x.shape[1:3])
    blocks = x[:, : height * cell, : width * cell].reshape(len(x), height, cell, width, cell, x.shape[3])
    return jnp.mean(blocks, axis=(2, 4))  # [B, h, cell, w, cell, C] -> [B, h, w, C]


def compared(logits: Array, soft: Array, true: Array, temperature: float) -> tuple[dict[str, Array], Array]:
    """Returns ({name: number of each image f32 [B]}, cross-entropy of each cell f32 [B, h, w]) of logits [B, h, w, Q].

    Args:
        logits: of the bins.
        soft: the true colours among the bins, [B, h, w, Q].
        true: the true a and b, f32 [B, h, w, 2].
        temperature: that of the annealed mean.
    """
    losses = -jnp.sum(soft * jax.nn.log_softmax(logits, axis=-1), axis=-1)
    found = colours.annealed_mean(logits, temperature)
    is_right = jnp.argmax(logits, axis=-1) == colours.nearest_bin(true)
    by_cell = {
        "loss": losses,
        "bin_accuracy": is_right.astype(jnp.float32),
        # Only measured, never differentiated: a distance of 0 has no gradient.
        "ab_error": jax.lax.stop_gradient(jnp.linalg.norm(found - true, axis=-1)),
        "grey_error": jnp.linalg.norm(true, axis=-1),
    }
    each = {name: jnp.mean(values, axis=(1, 2)) for name, values in by_cell.items()}
    return each, losses


def draw_figures(
    inputs: InputSpec, coloured: Any, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str
) -> dict[str, Any]:
    """Returns the figure of the first images: grey, with the predicted colours, and as they are."""
    from cnnlab import figures

    rows = stats["rows"]
    index = rows["index"][:SHOWN]
    images = jnp.asarray((data.images(split, index).astype(np.float32) - inputs.subtract) / inputs.divide)
    grey, found = jax.jit(coloured)(params, model_state, images)
    truth = np.asarray(Pixels.of(inputs).of_images(images))
    shown = np.stack([grey, found, truth], axis=1).reshape(-1, *truth.shape[1:])  # three of [N, H, W, 3] -> [3 N, H, W, 3]
    captions = [text for error in rows["ab_error"][:SHOWN] for text in ("lightness", f"predicted, {error:.1f}", "truth")]
    title = f"The first images of {split}, with the mean distance of a and b"
    return {"coloured": figures.image_grid(shown, captions, title=title, columns=6)}
