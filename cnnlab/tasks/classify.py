"""Classification of images: the game of one player, the classifier."""

import functools
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cnnlab.core import CLASSIFIER, OUTPUT, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.views import Views, over_views
from cnnlab.tasks.class_weights import EQUAL_WEIGHTS, MeanLoss
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.network_player import NetworkPlayer, auxiliary_logits, joined

PLAYER = CLASSIFIER

AUXILIARY_WEIGHT = 0.3
"""Weight of the losses of auxiliary heads (Szegedy et al. 2014, arXiv 1409.4842, section 5)."""


def classify(
    model: nn.Module,
    *,
    loss: Callable[[Array, Array], Array] = cross_entropy,
    goal: Goal = CLASS,
    frozen: tuple[str, ...] = (),
    views: Views = "one",
    mean_loss: MeanLoss = EQUAL_WEIGHTS,
) -> Task:
    """The task of training `model` to predict a column of the batch: the class of an image, several labels, or numbers.

    Intermediates whose name begins with `auxiliary` are logits of auxiliary heads, and their losses are added. Frozen layers
    belong to a player that never moves, and their batch norms use and keep their running statistics.

    Args:
        model: `model(images, train=…) -> (logits [B, K], intermediates)`; its collections other than `params` become the
            model state, and it may use the random stream `dropout`.
        loss: (logits f32 [B, K], labels i32 [B], or the column f32 [B, K]) -> f32 [B].
        goal: what the network predicts, and how its predictions are measured.
        frozen: regular expressions of the layers that stay as they start (trees.matches); `features`: all but the last.
        views: views of an image over which its logits are averaged outside training.
        mean_loss: (losses, column) -> the mean that training minimises; the losses that are reported have no weights.
    """
    classifier = NetworkPlayer(model, PLAYER, frozen)

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        (logits, intermediates), updated = classifier.train(params, model_state, batch["image"], key)
        logits = at_least_f32(logits)
        losses = loss(logits, batch[goal.column])
        total = mean_loss(losses, batch[goal.column])
        for auxiliary in auxiliary_logits(intermediates):
            total += AUXILIARY_WEIGHT * mean_loss(loss(auxiliary, batch[goal.column]), batch[goal.column])
        return total, (updated, {"sums": goal.sums(logits, losses, batch), "rows": {}})

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return over_views(lambda images: at_least_f32(classifier.evaluate(params, model_state, images)[0]), views)(inputs)

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        logits = predict(params, model_state, batch["image"])
        return goal.measure(logits, loss(logits, batch[goal.column]), batch)

    return Task(
        init=classifier.init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        figures=functools.partial(draw_figures, goal.figures),
        turns=(PLAYER,),
        **goal.fields(),
    )


def draw_figures(
    of_goal: Callable[[Stats, Dataset, str], dict[str, Any]],
    params: Params,
    model_state: PyTree,
    stats: Stats,
    data: Dataset,
    split: str,
) -> dict[str, Any]:
    """Returns the figures of the goal, such as the confusion matrix, and the first layer's kernels as images."""
    shown = of_goal(stats, data, split)
    kernels = first_kernels(joined(params), data.image_shape)
    if kernels is not None:
        from cnnlab import figures

        name, images = kernels
        captions = figures.class_labels(data.class_names) if name == OUTPUT else ()
        shown["filters"] = figures.filters(images, title=f"Kernels of {name}", captions=captions)
    return shown


def first_kernels(params: PyTree, image_shape: tuple[int, int, int]) -> tuple[str, np.ndarray] | None:
    """Returns (path, f32 [N, H, W, C]) of the first kernel that is applied to the image, N units or channels; None without one.

    It belongs to a convolution or a dense layer. Layers come in natural order of their names (dense2 before dense10).
    """
    height, width, channels = image_shape
    leaves = {"/".join(entry.key for entry in path): leaf for path, leaf in jax.tree.leaves_with_path(params)}
    for path in sorted(leaves, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]):
        kernel = np.asarray(leaves[path], np.float32)
        name = path.removesuffix("/kernel")
        if name != path and kernel.ndim == 4 and kernel.shape[2] == channels:
            return name, np.moveaxis(kernel, -1, 0)  # [h, w, C, N] -> [N, h, w, C]
        if name != path and kernel.ndim == 2 and kernel.shape[0] == height * width * channels:
            return name, kernel.T.reshape(-1, height, width, channels)  # [H·W·C, N] -> [N, H, W, C]
    return None
