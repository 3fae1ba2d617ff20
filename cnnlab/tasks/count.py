"""Counting as a pretext task: what is counted in the quarters of an image adds up to what is counted in the whole.

Noroozi, Pirsiavash and Favaro 2017, arXiv 1708.06734. The labels of the data never enter the loss.

Letters in shapes: B batch, P pieces of an image, H W space, C channels, F counts, N images of a split.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from cnnlab.core import PRETEXT, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import bounds, collectives
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.network_player import NetworkPlayer
from cnnlab.tasks.pretext import features_of

METRICS = (
    Metric("matched", SHARE, higher_is_better=True, is_proportion=True),
    Metric("loss", higher_is_better=False, log_scale=True),
    Metric("error", higher_is_better=False, log_scale=True),
    Metric("counted"),
)
"""The metrics that `summary` gives: `matched`, the share of images whose quarters add up to their own counts more nearly than
to those of another image (chance: a half); the `loss`, its first term, `error`, and the mean sum of an image's counts."""
COLLAPSED = 0.1
"""Mean sum of counts below which nothing is counted."""
SHOWN = 8
"""Number of images that are shown, and the most counts of each."""


def quarters_and_whole(images: Array) -> Array:
    """Returns the four quarters of images [B, H, W, C] and the whole at half its size, [B, 5, H / 2, W / 2, C].

    A pixel of the small image is the mean of four. Deviation: the paper draws among several ways to shrink an image.
    """
    height, width = images.shape[1] // 2, images.shape[2] // 2
    quarters = [images[:, top : top + height, left : left + width] for top in (0, height) for left in (0, width)]
    # Pixels (0, 0), (0, 1), (1, 0) and (1, 1) of each block of 2x2, [B, H / 2, W / 2, C] each
    small = sum(images[:, row::2, column::2] for row in (0, 1) for column in (0, 1)) / jnp.asarray(4, images.dtype)
    return jnp.stack([*quarters, small], axis=1)


def require_even(image_shape: tuple[int, int, int]) -> None:
    """Raises UsageError for images (H, W, C) that have no four equal quarters."""
    if image_shape[0] % 2 or image_shape[1] % 2:
        raise UsageError(
            f"--pretext=counting: images of {image_shape[0]}x{image_shape[1]} have no four equal quarters.\n"
            f"Bring them to even sides: --image_size={image_shape[0] + image_shape[0] % 2}."
        )


def terms(counts: Array, whole_of_other: Array, margin: float | Array) -> tuple[Array, Array]:
    """Returns (losses f32 [B], errors f32 [B]) of counts f32 [B, 5, F], the last of them those of the whole image.

    The loss is |φ(D x) − Σⱼ φ(Tⱼ x)|² + max(0, M − |φ(D y) − Σⱼ φ(Tⱼ x)|²) with another image y (equation 3), and the error its
    first term. Without the second, to count nothing would be best.

    Args:
        counts: φ of the four quarters and of the whole.
        whole_of_other: φ of another whole image, f32 [B, F].
        margin: M.
    """
    total, whole = jnp.sum(counts[:, :4], axis=1), counts[:, 4]  # [B, 5, F] -> [B, F]
    error = jnp.sum((whole - total) ** 2, axis=1)
    apart = jnp.sum((whole_of_other - total) ** 2, axis=1)
    return error + bounds.at_least(margin - apart, 0.0), error


def count(network: nn.Module, *, margin: float) -> Task:
    """The task of counting: the game of one player, PRETEXT. The other image is the one before in the global batch.

    Args:
        network: `network(pieces [B, 5, h, w, C], train=…) -> (counts [B, 5, F] from 0 on, intermediates)`, with a module TRUNK
            and a method `features` of whole images (models/pieces.py).
        margin: M, the squared distance from another image above which it does not matter.
    """
    player = NetworkPlayer(network, PRETEXT)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        return player.init(key, {"image": quarters_and_whole(batch["image"][:1])})

    def loss_of(params: Params, model_state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        (counts, _), updated = player.train(params, model_state, quarters_and_whole(batch["image"]), key)
        counts = at_least_f32(counts)
        whole = collectives.gather(counts[:, 4])  # [B / devices, F] -> [B, F]
        before = (collectives.positions(len(counts)) - 1) % len(whole)
        losses, errors = terms(counts, whole[before], margin)  # [B, F] at [B / devices] -> [B / devices, F]
        each = {"loss": losses, "error": errors, "counted": jnp.sum(counts[:, 4], axis=1), "count": jnp.ones_like(losses)}
        sums = {name: jnp.sum(jnp.where(batch["mask"], values, 0.0)) for name, values in each.items()}
        return jnp.mean(losses), (updated, {"sums": sums, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        counts = at_least_f32(player.evaluate(params, model_state, quarters_and_whole(batch["image"]))[0])
        rows = {"index": batch["index"], "counts": counts[:, 4], "total": jnp.sum(counts[:, :4], axis=1), "mask": batch["mask"]}
        return {"sums": {}, "rows": rows}

    return Task(
        init=init,
        loss=loss_of,
        predict=features_of(network),
        measure=measure,
        summary=functools.partial(summary, margin),
        figures=draw_figures,
        turns=(PRETEXT,),
        metrics=METRICS,
        logged_metrics=("loss", "counted"),
        diagnosis=diagnosis,
        kept_rows=("index",),
    )


def summary(margin: float, stats: Stats) -> dict[str, float]:
    """Returns the means over images. In a held-out split, the other image of each is the next one of the split."""
    rows, sums = stats["rows"], stats["sums"]
    if not rows:
        number = max(float(sums["count"]), 1.0)
        return {name: float(value) / number for name, value in sums.items() if name != "count"}
    whole, total = (np.asarray(rows[name], np.float64) for name in ("counts", "total"))
    error, apart = (np.sum((one - total) ** 2, axis=1) for one in (whole, np.roll(whole, -1, axis=0)))
    return {
        "matched": float(np.mean(error < apart)),
        "loss": float(np.mean(error + np.maximum(margin - apart, 0.0))),
        "error": float(np.mean(error)),
        "counted": float(np.mean(np.sum(whole, axis=1))),
    }


def diagnosis(metrics: Any) -> str:
    """Returns a sentence where the network counts nothing in any image; else an empty text."""
    counted = metrics.get("test/counted", metrics.get("validation/counted", 1.0))
    if counted > COLLAPSED:
        return ""
    return f"counting collapsed: the counts of an image add up to {counted:.2g}. Raise --pretext.margin or lower --lr."


def draw_figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the images in which the most is counted by each of the units that vary most over the split."""
    from cnnlab import figures

    counts = stats["rows"]["counts"]
    units = np.argsort(-np.std(counts, axis=0), kind="stable")[:SHOWN]
    most = np.argsort(-counts[:, units], axis=0, kind="stable")[:SHOWN].T  # [N, F] -> [units, images]
    images = data.images(split, stats["rows"]["index"][most.ravel()])
    captions = [f"{counts[place, unit]:.2f}" for unit, places in zip(units, most, strict=True) for place in places]
    title = f"Most counted on {split}: a row for each of the units that vary most"
    return {"counted": figures.image_grid(images, captions, title=title, columns=most.shape[1])}
