"""Autoregressive models of images: log p of an image is the exact sum over its pixels, each predicted from those before it.

Letters in shapes: B batch, N images, H W space, C channels, P parameters of the distribution of a pixel.
"""

import dataclasses
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Sampler, Stats, Task
from cnnlab.metric import Metric
from cnnlab.ops import collectives
from cnnlab.ops.keys import of_each, stream
from cnnlab.ops.labels import labels_of
from cnnlab.ops.pixel_distributions import PixelDistribution, on_levels
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.pixel_sampling import LOOPS, to_signed

PLAYER = "pixels"

SHOWN = 32
"""Number of test images in a figure."""

METRICS = (
    Metric("nats", "nats", higher_is_better=False),
    Metric("bits_per_dim", "bits/dim", higher_is_better=False),
)
"""The metrics that `summary` gives: −log p of an image, and the same for each of its values."""


def autoregress(
    model: nn.Module,
    *,
    output: PixelDistribution,
    image_shape: tuple[int, int, int],
    classes: int = 0,
    sampling: Literal["cached", "naive"] = "cached",
) -> Task:
    """The task of raising log p of the training images: a game of one player.

    Args:
        model: network of PIXEL_MODELS, with the outputs and groups of `output`.
        output: distribution of a pixel, whose parameters the network gives.
        image_shape: (H, W, C) of the sampled images.
        classes: number of classes that the model was made for; 0: it ignores labels.
        sampling: cached keeps activations, naive evaluates the whole network for every pixel; the images are the same.
    """
    game = _Game(model, output, image_shape, classes, sampling)
    return Task(
        init=game.init,
        loss=game.loss,
        predict=game.predict,
        measure=game.measure,
        summary=game.summary,
        figures=draw_figures,
        turns=(PLAYER,),
        metrics=METRICS,
        logged_metrics=("bits_per_dim",),
        snapshot=game.snapshot,
        sampler=Sampler(draw=game.draw, conditional=classes > 0),
    )


@dataclasses.dataclass(frozen=True)
class _Game:
    """The functions of the task; `autoregress` describes the fields."""

    model: nn.Module
    output: PixelDistribution
    image_shape: tuple[int, int, int]
    classes: int
    sampling: Literal["cached", "naive"]

    def values(self, batch: Batch, key: Array | None) -> Array:
        """Returns the images as f32 [B, H, W, C] on the levels of `output`; the key is that of a training step, or None."""
        images = batch["image"]
        if key is not None and self.output.resample_targets:
            keys = collectives.example_keys(stream(key, "values"), len(images))
        else:  # the same targets every time that an example is measured
            keys = of_each(stream(jax.random.key(0), "values"), batch["index"])
        return on_levels(at_least_f32(jax.vmap(self.output.targets)(images, keys)), self.output.levels)

    def nll_per_pixel(self, params: Params, model_state: PyTree, batch: Batch, key: Array | None) -> Array:
        """Returns −log p of every pixel in nats, f32 [B, H, W]."""
        exact = self.values(batch, key)
        variables, inputs = {"params": params[PLAYER], **model_state}, to_signed(exact.astype(batch["image"].dtype))
        distribution, _ = self.model.apply(variables, inputs, labels_of(batch), train=key is not None)
        return -self.output.log_p(at_least_f32(distribution), exact)  # [B, H, W, P] and [B, H, W, C] -> [B, H, W]

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Returns the parameters of the player, and the other collections as the model state."""
        variables = dict(self.model.init(key, batch["image"][:1], labels_of(batch)[:1], train=False))
        return {PLAYER: variables.pop("params")}, variables

    def loss(
        self, params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        """Returns the mean of −log p over a training batch."""
        nats = jnp.sum(self.nll_per_pixel(params, model_state, batch, key), axis=(1, 2))  # [B, H, W] -> [B]
        sums = {"nats": jnp.sum(nats), "count": jnp.float32(len(nats))}
        return jnp.mean(nats), (model_state, {"sums": sums, "rows": {}})

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """Returns the parameters of every pixel's distribution, f32 [B, H, W, P]."""
        labels = jnp.zeros(len(inputs), jnp.int32)  # inputs have none: a conditional model is given the first class
        distribution, _ = self.model.apply({"params": params[PLAYER], **model_state}, to_signed(inputs), labels, train=False)
        return at_least_f32(distribution)

    def measure(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Returns the statistics of a held-out batch, −log p of each image among its rows."""
        nats = jnp.sum(self.nll_per_pixel(params, model_state, batch, None), axis=(1, 2))  # [B, H, W] -> [B]
        sums = {"nats": jnp.sum(jnp.where(batch["mask"], nats, 0.0)), "count": jnp.sum(batch["mask"]).astype(jnp.float32)}
        rows = {"nats": nats, "label": labels_of(batch), "index": batch["index"], "mask": batch["mask"]}
        return {"sums": sums, "rows": rows}

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the mean of −log p in nats for each image, and in bits for each value."""
        nats = float(stats["sums"]["nats"] / stats["sums"]["count"])
        return {"nats": nats, "bits_per_dim": nats / math.log(2) / math.prod(self.image_shape)}

    def draw(self, params: Params, model_state: PyTree, keys: Array, labels: Array, temperature: Array) -> Array:
        """Samples images f32 [N, H, W, C] from the start, one for each of keys [N]."""
        canvas = jnp.zeros((len(keys), *self.image_shape), jnp.float32)
        return LOOPS[self.sampling](
            self.model, self.output, {"params": params[PLAYER], **model_state}, canvas, labels, keys, jnp.asarray(temperature)
        )

    def snapshot(self, params: Params, model_state: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
        """Returns samples, and held-out images each followed by a completion of its upper half."""
        count, half = len(batch["index"]), self.image_shape[0] // 2
        order = jnp.arange(count, dtype=jnp.int32)
        # Every image has a key of its own in each stream: a snapshot of fewer images shows the same ones.
        sample_keys, completion_keys = (of_each(stream(key, name), order) for name in ("samples", "completions"))
        labels = order % max(self.classes, 1)
        given = self.values({**batch, "image": batch["image"].astype(jnp.float32)}, None)
        canvas = given.at[:, half:].set(0.0)
        completed = LOOPS[self.sampling](
            self.model,
            self.output,
            {"params": params[PLAYER], **model_state},
            canvas,
            labels_of(batch),
            completion_keys,
            jnp.float32(1),
            half,
        )
        return {
            "samples": self.draw(params, model_state, sample_keys, labels, jnp.float32(1)),
            # [N, H, W, C] twice -> [N, 2, H, W, C] -> [2 N, H, W, C]
            "completions": jnp.stack([given, completed], axis=1).reshape(2 * count, *self.image_shape),
        }


def draw_figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the figure of the test images to which the model gives the lowest probability."""
    from cnnlab import figures

    rows = stats["rows"]
    order = np.argsort(-rows["nats"], kind="stable")[:SHOWN]
    captions = [f"{rows['nats'][place]:.0f} nats" for place in order]
    images = data.images(split, rows["index"][order])
    return {"surprises": figures.image_grid(images, captions, title=f"The least likely images of {split}")}
