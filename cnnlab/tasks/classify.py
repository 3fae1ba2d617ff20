"""One label for each image: the game of one player, the classifier."""

import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.ops.losses import cross_entropy
from cnnlab.tasks import evaluation

PLAYER = "classifier"

OUTPUT = "output"
"""What models call their last layer; if it sees the image, its kernels are templates of the classes."""


def classify(model: nn.Module, *, loss: Callable[[Array, Array], Array] = cross_entropy) -> Task:
    """The task of training `model` to predict `batch["label"]`.

    Args:
        model: `model(images, train=…) -> (logits [B, K], intermediates)`; its collections other than `params` become the
            model state, and it may draw from the stream `dropout`.
        loss: of logits f32 [B, K] and labels i32 [B], f32 [B].
    """

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        variables = dict(model.init(key, batch["image"][:1], train=False))
        return {PLAYER: variables.pop("params", {})}, variables

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        variables = {"params": params[player], **model_state}
        (logits, _), updated = model.apply(
            variables, batch["image"], train=True, rngs={"dropout": key}, mutable=sorted(model_state)
        )
        logits = logits.astype(jnp.float32)
        losses = loss(logits, batch["label"])
        return jnp.mean(losses), (dict(updated), {"sums": evaluation.sums(logits, losses, batch), "rows": {}})

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        logits, _ = model.apply({"params": params[PLAYER], **model_state}, inputs, train=False)
        return logits.astype(jnp.float32)

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        logits = predict(params, model_state, batch["image"])
        return evaluation.measure(logits, jax.nn.softmax(logits, axis=1), loss(logits, batch["label"]), batch)

    return Task(
        init=init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=evaluation.summary,
        pictures=pictures,
        turns=(PLAYER,),
    )


def pictures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """The confusion matrix, the most confident mistakes, and the first layer's kernels seen as images."""
    shown = evaluation.pictures(stats, data, split)
    kernels = first_kernels(params[PLAYER], data.image_shape)
    if kernels is not None:
        from cnnlab import figures

        name, images = kernels
        captions = data.class_names if name == OUTPUT else ()
        shown["filters"] = figures.filters(images, title=f"Kernels of {name}", captions=captions)
    return shown


def first_kernels(params: PyTree, image_shape: tuple[int, int, int]) -> tuple[str, np.ndarray] | None:
    """(path, f32 [N, H, W, C]) of the first kernel that sees the image, convolution or dense; None where there is none.

    Layers count in natural order of their names (dense2 before dense10).
    """
    height, width, channels = image_shape
    leaves = {"/".join(entry.key for entry in path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    for path in sorted(leaves, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]):
        kernel = np.asarray(leaves[path], np.float32)
        name = path.removesuffix("/kernel")
        if name != path and kernel.ndim == 4 and kernel.shape[2] == channels:
            return name, np.moveaxis(kernel, -1, 0)
        if name != path and kernel.ndim == 2 and kernel.shape[0] == height * width * channels:
            return name, kernel.T.reshape(-1, height, width, channels)
    return None
