"""What synthesised pictures do to a frozen network: they excite a layer or a class, or repeat activations of another picture.

An objective is a pure function of named activations (models/taps.py). Float knobs may be tracers.

Letters in shapes: B batch, H W space, C channels, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab import home
from cnnlab.core import OUTPUT, Array, Batch, PyTree
from cnnlab.data.photos import read_picture, scaled_picture
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.gram import gram, relative_distance
from cnnlab.ops.precision import at_least_f32
from cnnlab.values import NonNegative, PathText, Positive

Taps = Mapping[str, Array]
"""{name of a layer: its activations [B, …]}."""
Numbers = dict[str, Array]
"""{metric: numbers of each picture, f32 [B]}."""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What pictures are to do, as a loss of their activations."""

    taps: tuple[str, ...]
    """The layers that it reads."""
    losses: Callable[[Taps, Taps, PyTree, Batch], tuple[Array, Numbers]]
    """(activations of the synthesised pictures, those of the pictures of the data or {}, targets, batch) -> (losses f32 [B],
    its metrics)."""
    metrics: tuple[Metric, ...]
    """The declarations of these metrics."""
    compares: bool = False
    """Whether it reads the activations of the pictures of the data, too."""
    needs_labels: bool = False
    """Whether it reads the labels of the data."""
    reference: Callable[[tuple[int, int, int]], np.ndarray] | None = None
    """(H, W, C) of the synthesised pictures -> the picture f32 [h, w, C] in [0, 1] from which the targets are; None: there are
    no targets."""
    targets: Callable[[Taps], PyTree] = lambda taps: {}
    """Activations of that picture -> the targets, which are computed once."""


def class_score(*, layer: str = OUTPUT, by: Literal["logit", "probability"] = "logit") -> Objective:
    """Raises the score of the class that is the label of a picture (Simonyan et al. 2013, arXiv 1312.6034, section 2).

    Args:
        layer: layer of the logits.
        by: what is raised: the logit, or the probability, which also lowers the logits of all other classes.
    """

    def losses(taps: Taps, others: Taps, targets: PyTree, batch: Batch) -> tuple[Array, Numbers]:
        logits = at_least_f32(taps[layer])
        score = jnp.take_along_axis(logits, batch["label"][:, None], axis=1)[:, 0]  # [B, K] at [B, 1] -> [B]
        log_probability = score - jax.nn.logsumexp(logits, axis=1)
        numbers = {"score": score, "confidence": jnp.exp(log_probability)}
        return -score if by == "logit" else -log_probability, numbers

    metrics = (Metric("score", higher_is_better=True), Metric("confidence", SHARE, higher_is_better=True))
    return Objective((layer,), losses, metrics, needs_labels=True)


def activation(*, layer: str = "stage4", channels: tuple[int, ...] = (0,), at: Literal["mean", "centre"] = "mean") -> Objective:
    """Raises the activation of a channel, or of its unit in the centre (Erhan et al. 2009).

    Args:
        layer: name of the layer.
        channels: numbers of the channels, counted from 0; picture i goes for channel i modulo their count.
        at: the mean of the channel over space, or its unit in the centre alone.
    """
    if not channels:
        raise UsageError("--channels: give the number of at least one channel, such as 0,5.")

    def losses(taps: Taps, others: Taps, targets: PyTree, batch: Batch) -> tuple[Array, Numbers]:
        found = at_least_f32(taps[layer])
        if found.ndim == 4:
            middle = found[:, found.shape[1] // 2, found.shape[2] // 2]  # [B, H, W, C] -> [B, C]
            found = jnp.mean(found, axis=(1, 2)) if at == "mean" else middle
        if not 0 <= min(channels) <= max(channels) < found.shape[-1]:
            given, last = ",".join(map(str, channels)), found.shape[-1] - 1
            raise UsageError(f"--channels={given}: {layer} has the channels 0 … {last}.\nGive some of these.")
        wanted = jnp.asarray(channels, jnp.int32)[batch["index"] % len(channels)]
        reached = jnp.take_along_axis(found, wanted[:, None], axis=1, mode="clip")[:, 0]  # [B, C] at [B, 1] -> [B]
        return -reached, {"activation": reached}

    return Objective((layer,), losses, (Metric("activation", higher_is_better=True),))


def dream(*, layers: tuple[str, ...] = ("stage5_block2/expand", "stage6_block1/expand")) -> Objective:
    """Raises whatever a layer sees in a picture: the mean square of its activations (Mordvintsev et al. 2015, DeepDream).

    Args:
        layers: names of the layers, which weigh alike.
    """

    def losses(taps: Taps, others: Taps, targets: PyTree, batch: Batch) -> tuple[Array, Numbers]:
        squares = [_mean_square(taps[name]) for name in layers]
        excitation = sum(squares[1:], squares[0]) / len(squares)
        return -excitation, {"excitation": excitation}

    return Objective(_names(layers), losses, (Metric("excitation", higher_is_better=True),))


def inversion(*, layers: tuple[str, ...] = ("stage3",)) -> Objective:
    """Repeats the activations of the data's picture, ‖Φ(x) − Φ(x₀)‖² / ‖Φ(x₀)‖² (Mahendran and Vedaldi 2015, arXiv 1412.0035).

    Args:
        layers: names of the layers, which weigh alike.
    """

    def losses(taps: Taps, others: Taps, targets: PyTree, batch: Batch) -> tuple[Array, Numbers]:
        loss = _mean_distance(taps, others, layers)
        return loss, {"content_loss": loss}

    return Objective(_names(layers), losses, (CONTENT,), compares=True)


CONTENT = Metric("content_loss", higher_is_better=False, log_scale=True)
STYLE = Metric("style_loss", higher_is_better=False, log_scale=True)
TEXTURE_LAYERS = ("stem", "stage1", "stage2", "stage3", "stage4", "stage5")
"""Layers of EfficientNet whose Gram matrices describe a texture, at strides of 2 to 16. Outputs of its blocks are linear, so
their means are near 0; those of layers after ReLU6 dominate a Gram matrix, and only the finest strokes of a style appear."""


def texture(
    *, style: PathText | None = None, layers: tuple[str, ...] = TEXTURE_LAYERS, style_scale: Positive = 1.0
) -> Objective:
    """Repeats the Gram matrices of a picture, ‖G − A‖² / ‖A‖² of each layer (Gatys et al. 2015, arXiv 1505.07376).

    Args:
        style: image file of the texture; none: the flower of scikit-learn.
        layers: names of the layers, which weigh alike.
        style_scale: shorter side of that picture as a multiple of the shorter side of the synthesised ones.
    """

    def losses(taps: Taps, others: Taps, targets: PyTree, batch: Batch) -> tuple[Array, Numbers]:
        loss = _gram_distance(taps, targets, layers)
        return loss, {"style_loss": loss}

    return Objective(
        _names(layers),
        losses,
        (STYLE,),
        reference=functools.partial(_reference, style, style_scale),
        targets=functools.partial(_grams, layers),
    )


def style_transfer(
    *,
    style: PathText | None = None,
    style_layers: tuple[str, ...] = TEXTURE_LAYERS,
    style_scale: Positive = 1.0,
    style_weight: NonNegative = 1.0,
    content_layers: tuple[str, ...] = ("stage4",),
    content_weight: NonNegative = 0.05,
) -> Objective:
    """Repeats the content of the data's picture with the Gram matrices of another one (Gatys et al. 2016, CVPR, eq. 7).

    Args:
        style: image file of the style; none: the flower of scikit-learn.
        style_layers: names of the layers whose Gram matrices are repeated, which weigh alike.
        style_scale: shorter side of that picture as a multiple of the shorter side of the synthesised ones.
        style_weight: weight of the style loss (β).
        content_layers: names of the layers whose activations are repeated, which weigh alike.
        content_weight: weight of the content loss (α).
    """

    def losses(taps: Taps, others: Taps, targets: PyTree, batch: Batch) -> tuple[Array, Numbers]:
        style_loss, content_loss = _gram_distance(taps, targets, style_layers), _mean_distance(taps, others, content_layers)
        total = style_weight * style_loss + content_weight * content_loss
        return total, {"style_loss": style_loss, "content_loss": content_loss}

    return Objective(
        tuple(dict.fromkeys((*_names(style_layers), *_names(content_layers)))),
        losses,
        (STYLE, CONTENT),
        compares=True,
        reference=functools.partial(_reference, style, style_scale),
        targets=functools.partial(_grams, style_layers),
    )


def _names(layers: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of layers; raises UsageError where there is none."""
    if not layers:
        raise UsageError(f"an objective needs the name of at least one layer, as `{home.COMMAND} inspect` lists them.")
    return layers


def _mean_square(activations: Array) -> Array:
    """Returns the mean square of activations [B, …], f32 [B]."""
    wide = at_least_f32(activations)
    return jnp.mean(wide**2, tuple(range(1, wide.ndim)))


def _mean_distance(taps: Taps, others: Taps, layers: tuple[str, ...]) -> Array:
    """Returns the mean over layers of the relative distances of activations, f32 [B]."""
    found = [relative_distance(taps[name], others[name]) for name in layers]
    return sum(found[1:], found[0]) / len(found)


def _gram_distance(taps: Taps, targets: PyTree, layers: tuple[str, ...]) -> Array:
    """Returns the mean over layers of the relative distances of Gram matrices, f32 [B]."""
    found = [relative_distance(gram(taps[name]), targets[name]) for name in layers]
    return sum(found[1:], found[0]) / len(found)


def _grams(layers: tuple[str, ...], taps: Taps) -> dict[str, Array]:
    """Returns the Gram matrices f32 [1, C, C] of layers."""
    return {name: gram(taps[name]) for name in layers}


def _reference(style: str | None, scale: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Implements Objective.reference for a file."""
    return scaled_picture(read_picture(style, shape[2]), max(1, round(scale * min(shape[:2]))))


OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "class_score": class_score,
    "activation": activation,
    "dream": dream,
    "inversion": inversion,
    "texture": texture,
    "style_transfer": style_transfer,
}
"""Objectives by name, for `Choice[OBJECTIVES]`."""
