"""Synthesis of pictures: they, or a network that makes them, are the players, and a frozen network is the loss.

Feature visualisation, DeepDream, feature inversion, textures, style transfer and fooling images differ in the objective alone
(objectives.py), and in what makes the pictures (makers.py).

Letters in shapes: B batch, H W space, C channels.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import FROZEN, Array, Batch, Dataset, Params, Predicted, Prediction, PyTree, Stats, Task, TrainState
from cnnlab.data.normalize import unit_value
from cnnlab.inputs import InputSpec
from cnnlab.metric import Metric
from cnnlab.ops import collectives
from cnnlab.ops.keys import stream
from cnnlab.ops.picture import gaussian_blur, jitter, total_variation
from cnnlab.tasks.makers import Maker, resized
from cnnlab.tasks.objectives import Objective, Taps

MADE, TARGETS = "made", "targets"
"""Entries of the model state: that of what makes the pictures, and the targets of the objective by player. The others are the
frozen network's, such as its batch statistics."""
SHOWN = 16
"""Number of pictures that are shown, and written as files of their own, at the end."""
METRICS = (Metric("loss", higher_is_better=False, log_scale=True), Metric("total_variation", log_scale=True))
"""The metrics beside those of the objective. The loss is the objective's, without regularisers."""


@dataclasses.dataclass(frozen=True)
class FrozenNetwork:
    """The network that looks at the pictures, as functions of its variables; it never moves."""

    init: Callable[[Array], PyTree]
    """Key -> its variables {"params": …, "batch_stats": …}, at random."""
    see: Callable[[PyTree, Array], Taps]
    """(variables, pictures f32 [B, H, W, C] in [0, 1]) -> the activations of the layers that the objective reads."""


@dataclasses.dataclass(frozen=True)
class Regularisers:
    """What keeps pictures from the patterns of high frequency that excite a network and show nothing."""

    jitter: int = 0
    """Largest random shift in pixels before the network sees a picture in training."""
    blur: float = 0.0
    """Standard deviation in pixels of the blur before the network sees a picture in training."""
    total_variation: float = 0.0
    """Weight of the total variation."""
    l2: float = 0.0
    """Weight of the mean squared distance to grey."""

    def seen(self, pictures: Array, key: Array) -> Array:
        """Returns pictures [B, H, W, C] as the network sees them in training; the same key shifts other pictures alike."""
        keys = collectives.example_keys(stream(key, "jitter"), len(pictures))
        return jitter(gaussian_blur(pictures, self.blur), keys, self.jitter)

    def losses(self, pictures: Array) -> Array:
        """Returns what is added to the loss of each picture, f32 [B]."""
        smoothness = jnp.asarray(self.total_variation, jnp.float32) * total_variation(pictures)
        return smoothness + jnp.asarray(self.l2, jnp.float32) * jnp.mean((pictures - 0.5) ** 2, axis=(1, 2, 3))


def synthesis(
    maker: Maker, frozen: FrozenNetwork, objective: Objective, *, channels: int, regularisers: Regularisers, steps: int
) -> tuple[Task, Callable[[TrainState, Batch], TrainState] | None]:
    """The task of making pictures that lower the loss of an objective, and what the first phase begins with.

    The batch brings the pictures of the data, by which the objective may measure. Its targets, such as the Gram matrices of a
    style, are computed once, when the weights are there: by the second result, a `Phase.begin`, which is None without targets.

    Args:
        maker: what makes the pictures.
        frozen: the network that looks at them.
        objective: loss of its activations.
        channels: number of channels of the pictures.
        regularisers: what is done to the pictures before they are seen in training, and added to the loss.
        steps: number of steps of the run; one of 0 begins no phase, so it computes the targets where it measures.
    """
    remember = functools.partial(_targets, maker, frozen, objective, channels)
    measured = functools.partial(_losses, maker, frozen, objective)

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        stage = maker.players.index(player)
        pictures, made = maker.make(params, model_state[MADE], batch, stage, True)
        losses, numbers = measured(params, model_state, batch, pictures, stage, functools.partial(regularisers.seen, key=key))
        sums = _sums({**numbers, "loss": losses}, jnp.ones_like(batch["mask"]))
        return jnp.mean(losses + regularisers.losses(pictures)), ({**model_state, MADE: made}, {"sums": sums, "rows": {}})

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        last = len(maker.players) - 1
        model_state = model_state if steps else {**model_state, TARGETS: remember(_variables(params, model_state))}
        pictures, _ = maker.make(params, model_state[MADE], batch, last, False)
        losses, numbers = measured(params, model_state, batch, pictures, last, lambda pictures: pictures)
        rows = {"index": batch["index"], "mask": batch["mask"], "loss": losses, **numbers}
        return {"sums": _sums({**numbers, "loss": losses}, batch["mask"]), "rows": rows}

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        if maker.predict is not None:
            return maker.predict(params, model_state[MADE], inputs)
        return frozen.see(_variables(params, model_state), inputs)[objective.taps[-1]]

    task = Task(
        init=functools.partial(_init, maker, frozen, remember),
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=_summary,
        figures=functools.partial(_figures, maker),
        turns=maker.players,
        metrics=(METRICS[0], *objective.metrics, *METRICS[1:]),
        logged_metrics=("loss", *(metric.name for metric in objective.metrics)),
        snapshot=functools.partial(_snapshot, maker),
        prediction=None if maker.predict is None else _of_pictures(),
    )

    def begin(state: TrainState, batch: Batch) -> TrainState:
        targets = jax.jit(remember)(_variables(state.params, state.model_state))
        return dataclasses.replace(state, model_state={**state.model_state, TARGETS: jax.tree.map(np.asarray, targets)})

    return task, None if objective.reference is None else begin


def _variables(params: Params, model_state: PyTree) -> PyTree:
    """Returns the variables of the frozen network."""
    return {"params": params[FROZEN], **{name: part for name, part in model_state.items() if name not in (MADE, TARGETS)}}


def _init(
    maker: Maker, frozen: FrozenNetwork, remember: Callable[[PyTree], PyTree], key: Array, batch: Batch
) -> tuple[Params, PyTree]:
    """Implements Task.init of `synthesis`; the targets are zeros until training begins."""
    params, made = maker.init(stream(key, "maker"), batch)
    variables = dict(frozen.init(stream(key, FROZEN)))
    targets = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(remember, variables))
    return {**params, FROZEN: variables.pop("params")}, {**variables, MADE: made, TARGETS: targets}


def _targets(maker: Maker, frozen: FrozenNetwork, objective: Objective, channels: int, variables: PyTree) -> PyTree:
    """Returns the targets of an objective for each player, whose pictures have a size of their own; {} without targets."""
    if objective.reference is None:
        return {}
    found = {}
    for player, size in zip(maker.players, maker.sizes, strict=True):
        picture = jnp.asarray(objective.reference((*size, channels)))[None]  # [h, w, C] -> [1, h, w, C]
        found[player] = objective.targets(frozen.see(variables, picture))
    return found


def _losses(
    maker: Maker,
    frozen: FrozenNetwork,
    objective: Objective,
    params: Params,
    model_state: PyTree,
    batch: Batch,
    pictures: Array,
    stage: int,
    seen: Callable[[Array], Array],
) -> tuple[Array, dict[str, Array]]:
    """Returns the losses f32 [B] of pictures f32 [B, h, w, C], and their numbers, such as the total variation.

    Args:
        maker, frozen, objective: as in `synthesis`.
        params, model_state, batch: as a task gets them.
        pictures: pictures of the stage.
        stage: number of the stage, whose player has targets of its own.
        seen: pictures -> the pictures as the network sees them.
    """
    variables, others = _variables(params, model_state), {}
    if objective.compares:
        originals = resized(batch["image"].astype(jnp.float32), maker.sizes[stage])
        others = jax.lax.stop_gradient(dict(frozen.see(variables, seen(originals))))
    targets = model_state[TARGETS].get(maker.players[stage], {})
    losses, numbers = objective.losses(frozen.see(variables, seen(pictures)), others, targets, batch)
    return losses, {**numbers, "total_variation": total_variation(pictures)}


def _sums(numbers: Mapping[str, Array], mask: Array) -> dict[str, Array]:
    """Returns the sums over the pictures of the mask, and their `count`."""
    each = {**numbers, "count": jnp.ones(mask.shape, jnp.float32)}
    return {name: jnp.sum(jnp.where(mask, values, 0.0)) for name, values in each.items()}


def _summary(stats: Stats) -> dict[str, float]:
    """Returns means over the pictures: the loss without regularisers, the total variation, and the objective's numbers."""
    count = max(float(stats["sums"]["count"]), 1.0)
    return {name: float(value) / count for name, value in stats["sums"].items() if name != "count"}


def _snapshot(maker: Maker, params: Params, model_state: PyTree, batch: Batch, key: Array) -> dict[str, Array]:
    """Returns `pictures`, at their full size in every stage: details that are still to come are 0."""
    return {"pictures": maker.make(params, model_state[MADE], batch, len(maker.players) - 1, False)[0]}


def _figures(maker: Maker, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns `pictures`, a page of the pictures with their loss, and each of them as a plain picture, `picture_0`, …."""
    from cnnlab import figures

    rows = {name: values[:SHOWN] for name, values in stats["rows"].items()}
    stored = data.images(split, rows["index"])
    batch = {"image": jnp.asarray(stored.astype(np.float32) / unit_value(stored.dtype)), "index": jnp.asarray(rows["index"])}
    make = jax.jit(lambda params, state, batch: maker.make(params, state, batch, len(maker.players) - 1, False)[0])
    pictures = np.asarray(make(params, model_state[MADE], batch))
    captions = [f"loss {loss:.3g}" for loss in rows["loss"]]
    page = figures.image_grid(pictures, captions, title="Pictures at the end of training", columns=min(4, len(pictures)))
    pixels = np.rint(255.0 * np.clip(np.nan_to_num(pictures), 0.0, 1.0)).astype(np.uint8)
    plain = {f"picture_{number}": np.repeat(one, 3 // one.shape[-1], axis=-1) for number, one in enumerate(pixels)}
    return {"pictures": page, **(plain if pictures.shape[-1] in (1, 3) else {})}


def _of_pictures() -> Prediction:
    """The prediction of a picture, with its mean squared difference from the image."""

    def arrays(outputs: Array, images: Array) -> dict[str, Array]:
        return {"picture": outputs, "change": jnp.mean((outputs - images.astype(jnp.float32)) ** 2, axis=(1, 2, 3))}

    def rows(arrays: Predicted, inputs: InputSpec) -> list[dict[str, Any]]:
        return [{"change": arrays["change"]}]

    return Prediction(
        arrays=arrays,
        rows=rows,
        caption=lambda arrays, inputs: f"change {float(arrays['change']):.3g}",
        picture=lambda image, arrays: arrays["picture"],
    )
