"""Contrastive learning: two views of an image are to be near each other, and far from those of other images.

SimCLR takes the negatives from the batch (Chen et al. 2020, arXiv 2002.05709), MoCo from a queue of earlier keys, which a
moving average of the network makes (He et al. 2020, arXiv 1911.05722). Without negatives all views come to lie in one point.

Letters in shapes: B batch, H W C an image, D numbers of a projection, Q entries of a queue, N images of a split.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from cnnlab.core import PRETEXT, Array, Batch, Dataset, Params, PyTree, Stats, Task
from cnnlab.data.variations.views import VIEWS
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import collectives
from cnnlab.ops.contrastive import info_nce, normalised, nt_xent
from cnnlab.ops.keys import stream
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.network_player import NetworkPlayer
from cnnlab.values import Count, Fraction

GROUP = 256
"""Number of held-out images that are compared with each other: their loss and `matched` do not depend on the batch size."""
COLLAPSED = 0.1
"""Spread below which `diagnosis` says that the views lie in one point."""
ROUNDING = 1e-12
"""Variance of projections, of length 1 in f32, below which they are one point."""
SHOWN = 6
"""Number of images whose views are shown."""

METRICS = (
    Metric("matched", SHARE, higher_is_better=True),
    Metric("loss", "nats", higher_is_better=False, log_scale=True),
    Metric("alignment", higher_is_better=None),
    Metric("spread", higher_is_better=None),
    Metric("effective_rank", higher_is_better=None),
)
"""The metrics that `summary` gives.

`matched`: how often a view finds the other one of its image, and `loss`, that of finding it; of held-out images both are those
among GROUP images, whatever the negatives of training are. `alignment`: mean squared distance of the two views (Wang and Isola
2020, arXiv 2005.10242). `spread`: mean standard deviation of the D numbers times √D, 1 where projections point anywhere alike
and 0 where all are the same (Chen and He 2021, arXiv 2011.10566). `effective_rank`: the exponential of the entropy of the
eigenvalues of their covariance, 1 … D (Roy and Vetterli 2007, The effective rank)."""


@dataclasses.dataclass(frozen=True)
class Negatives:
    """What a view is told apart from."""

    queue: int = 0
    """Q; 0: there is no queue."""
    momentum: float = 0.0
    """Share of the moving average that stays in a step, of the network that makes the entries of the queue."""
    are_used: bool = True
    """Whether there are any."""


def batch() -> Negatives:
    """All other views of the global batch (SimCLR)."""
    return Negatives()


def queue(*, size: Count = 4096, momentum: Fraction = 0.99) -> Negatives:
    """The keys of earlier batches, which a moving average of the network made (MoCo).

    Deviation: the batches are not shuffled over devices for batch normalisation, whose statistics are those of the global batch
    here.

    Args:
        size: number of keys that are kept.
        momentum: share of the moving average that stays in a step: 0.999 in the paper, whose runs take 200 epochs of ImageNet.
    """
    return Negatives(size, momentum)


def no_negatives() -> Negatives:
    """None: the two views of an image come near each other, and nothing keeps images apart."""
    return Negatives(are_used=False)


NEGATIVES: dict[str, Callable[..., Negatives]] = {"batch": batch, "queue": queue, "none": no_negatives}
"""Negatives by name, for `Choice[NEGATIVES]`."""

QUEUE = "queue"
"""Part of the model state with `keys` f32 [Q, D], the oldest at `oldest` i32 [], and the network that makes them: its
variables, `averaged`, and `steps` i32 [], the number of steps that it has averaged."""


@dataclasses.dataclass(frozen=True)
class _Contrast:
    """The functions of the task; `contrast` describes the fields."""

    player: NetworkPlayer
    negatives: Negatives
    temperature: float
    dimension: int

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Implements core.Task.init."""
        params, state = self.player.init(key, batch)
        if not self.negatives.queue:
            return params, state
        if self.negatives.queue < len(batch["image"]):
            raise UsageError(
                f"--negatives.size={self.negatives.queue}: a queue takes the {len(batch['image'])} keys of a batch at once.\n"
                "Give it at least as many entries, or a smaller --batch_size."
            )
        keys = jax.random.normal(stream(key, QUEUE), (self.negatives.queue, self.dimension), jnp.float32)
        averaged = {"params": params[PRETEXT], **state}
        none = jnp.zeros((), jnp.int32)
        return params, {
            **state,
            QUEUE: {"keys": normalised(keys), "oldest": none, "averaged": jax.tree.map(jnp.copy, averaged), "steps": none},
        }

    def loss(self, params: Params, state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        """Implements core.Task.loss."""
        views, memory = [batch[name] for name in VIEWS], state.get(QUEUE)
        state = {name: part for name, part in state.items() if name != QUEUE}
        if memory is not None:
            first, state = self.projected(params, state, views[0], stream(key, "queries"))
            second, memory = self.keys_of(params, memory, views[1], stream(key, "keys"))
            losses, hits = info_nce(first, second, memory["keys"], temperature=self.temperature)
            state = {**state, QUEUE: _enqueued(memory, second)}
        else:
            # One pass for both views, whose batch statistics are those of all of them: 2 of [B, H, W, C] -> [2B, H, W, C]
            both, state = self.projected(params, state, jnp.concatenate(views), key)
            first, second = jnp.split(both, 2)  # [2B, D] -> 2 of [B, D]
            losses, hits = nt_xent(first, second, temperature=self.temperature)
            if not self.negatives.are_used:
                losses = -jnp.sum(first * second, axis=1) / self.temperature
        return jnp.mean(losses), (state, {"sums": _sums(losses, hits, first), "rows": {}})

    def projected(self, params: Params, state: PyTree, images: Array, key: Array) -> tuple[Array, PyTree]:
        """Returns the projections f32 [B, D], of length 1, of images [B, H, W, C] in training, and the new model state."""
        (outputs, _), state = self.player.train(params, state, images, key)
        return normalised(at_least_f32(outputs)), state

    def keys_of(self, params: Params, memory: PyTree, images: Array, key: Array) -> tuple[Array, PyTree]:
        """Returns the keys f32 [B, D] of images [B, H, W, C], without a gradient, and the memory with the new average."""
        # The first step takes the network as it is, whatever weights it started from.
        share = jnp.where(memory["steps"] == 0, 0.0, self.negatives.momentum)
        old = memory["averaged"]
        own = jax.tree.map(
            lambda kept, new: share * kept + (1.0 - share) * new.astype(kept.dtype),
            old["params"],
            jax.lax.stop_gradient(params[PRETEXT]),
        )
        state = {name: part for name, part in old.items() if name != "params"}
        keys, state = self.projected({PRETEXT: _computed_as(own, params[PRETEXT])}, state, images, key)
        averaged = {"params": own, **state}
        return jax.lax.stop_gradient(keys), {**memory, "averaged": averaged, "steps": memory["steps"] + 1}

    def measure(self, params: Params, state: PyTree, batch: Batch) -> Stats:
        """Implements core.Task.measure: the projections of both views, which `summary` compares."""
        state = {name: part for name, part in state.items() if name != QUEUE}
        rows = {
            f"projection_{number}": normalised(at_least_f32(self.player.evaluate(params, state, batch[name])[0]))
            for number, name in enumerate(VIEWS, start=1)
        }
        return {"sums": {}, "rows": {"index": batch["index"], **rows, "mask": batch["mask"]}}

    def predict(self, params: Params, state: PyTree, inputs: Array) -> Array:
        """Returns the trunk's features f32 [B, F] of images [B, H, W, C]."""
        variables = {"params": params[PRETEXT], **{name: part for name, part in state.items() if name != QUEUE}}
        features: Any = self.player.network.apply(variables, inputs, method="features")
        return at_least_f32(features)


def contrast(network: nn.Module, *, negatives: Negatives, temperature: float, dimension: int) -> Task:
    """The task of finding the other view of an image: the game of one player, PRETEXT.

    Batches have the views of data/variations/views.py. `Task.predict` gives the trunk's features of images, f32 [B, F].

    Args:
        network: `network(images, train=…) -> (projections [B, D], intermediates)`, with `features` (models/projector.py).
        negatives: what a view is told apart from.
        temperature: number by which cosines are divided.
        dimension: numbers of the projection, D.
    """
    task = _Contrast(NetworkPlayer(network, PRETEXT), negatives, temperature, dimension)
    return Task(
        init=task.init,
        loss=task.loss,
        predict=task.predict,
        measure=task.measure,
        summary=functools.partial(summary, temperature),
        figures=draw_figures,
        turns=(PRETEXT,),
        metrics=METRICS,
        logged_metrics=("loss", "spread"),
        diagnosis=diagnosis,
        kept_rows=("index",),
    )


def _enqueued(memory: PyTree, keys: Array) -> PyTree:
    """Returns the memory in which the keys of the global batch, f32 [b, D] on each device, have replaced the oldest ones."""
    keys = collectives.gather(keys)  # [B, D]
    places = (memory["oldest"] + jnp.arange(len(keys), dtype=jnp.int32)) % len(memory["keys"])
    return {**memory, "keys": memory["keys"].at[places].set(keys), "oldest": (places[-1] + 1) % len(memory["keys"])}


def _computed_as(tree: PyTree, like: PyTree) -> PyTree:
    """Returns a tree cast to the dtypes of another: those in which the network computes."""
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), tree, like)


def _sums(losses: Array, hits: Array, projections: Array) -> dict[str, Array]:
    """Returns the sums of a training batch: of losses and hits f32 [B], and of projections f32 [B, D] and their squares."""
    return {
        "loss": jnp.sum(losses),
        "correct": jnp.sum(hits),
        "count": jnp.float32(len(losses)),
        "sum": jnp.sum(projections, axis=0),
        "squares": jnp.sum(projections**2, axis=0),
    }


def summary(temperature: float, stats: Stats) -> dict[str, float]:
    """Returns the metrics: of training the sums' `loss`, `matched` and `spread`, of a held-out split all of them."""
    rows = stats["rows"]
    if not rows:
        sums = stats["sums"]
        count = max(float(sums["count"]), 1.0)
        variance = np.asarray(sums["squares"]) / count - (np.asarray(sums["sum"]) / count) ** 2
        spread = np.mean(np.sqrt(np.maximum(variance, 0.0))) * np.sqrt(len(variance))
        return {"loss": float(sums["loss"]) / count, "matched": float(sums["correct"]) / count, "spread": float(spread)}
    first, second = (np.asarray(rows[f"projection_{number}"], np.float64) for number in (1, 2))
    groups = np.array_split(np.arange(len(first)), max(1, round(len(first) / GROUP)))
    found = np.concatenate([compared(first[group], second[group], temperature) for group in groups])  # [N, 2]
    return {
        "loss": float(found[:, 0].mean()),
        "matched": float(found[:, 1].mean()),
        "alignment": float(np.mean(np.sum((first - second) ** 2, axis=1))),
        **collapse(first),
    }


def compared(first: np.ndarray, second: np.ndarray, temperature: float) -> np.ndarray:
    """Returns f64 [N, 2]: the loss of each image among N, as ops/contrastive.nt_xent, and the share of its views that match."""
    everyone, count = np.concatenate([first, second]), len(first)
    similarity = everyone @ everyone.T / temperature
    np.fill_diagonal(similarity, -np.inf)
    other = np.roll(np.arange(2 * count), count)
    losses = special.logsumexp(similarity, axis=1) - similarity[np.arange(2 * count), other]
    hits = np.argmax(similarity, axis=1) == other
    return np.stack([values.reshape(2, count).mean(axis=0) for values in (losses, hits)], axis=1)  # [2N] -> [2, N] -> [N]


def collapse(projections: np.ndarray) -> dict[str, float]:
    """Returns `spread` and `effective_rank` (METRICS) of projections f64 [N, D] of length 1."""
    spread = np.mean(projections.std(axis=0)) * np.sqrt(projections.shape[1])
    values = np.maximum(np.linalg.eigvalsh(np.cov(projections.T, bias=True)), 0.0)
    # Where all are the same but for rounding, in one point, the eigenvalues are those of the rounding.
    shares = values / values.sum() if values.sum() > ROUNDING else np.eye(1, len(values))[0]
    return {"spread": float(spread), "effective_rank": float(np.exp(np.sum(special.entr(shares))))}


def diagnosis(metrics: Mapping[str, float]) -> str:
    """Implements core.Task.diagnosis."""
    spread = next((value for name, value in metrics.items() if name in ("test/spread", "validation/spread")), 1.0)
    if spread >= COLLAPSED:
        return ""
    return (
        f"the projections have collapsed: their spread is {spread:.3g}, and 1 where they point anywhere alike. All images look "
        "the same to the network. Negatives (--negatives=batch), a smaller --tau or a lower --lr keep them apart."
    )


def draw_figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Returns the two views of the first images of a split."""
    from cnnlab import figures

    if data.inputs.whiten is not None:
        return {}  # whitened images are none to look at
    count = min(SHOWN, data.sizes[split])
    feed = next(data.evaluate(split, count))
    batch = jax.jit(data.prepare)(data.resident.get(split, {}), feed, None)
    subtract, divide = data.inputs.subtract, data.inputs.divide
    shown = [np.clip(np.asarray(batch[name]) * divide + subtract, 0, None) for name in ("image", *VIEWS)]
    largest = 255.0 if data.inputs.dtype == "uint8" else 1.0
    tiles = np.stack(shown, axis=1).reshape(-1, *data.image_shape) / largest  # 3 of [N, H, W, C] -> [3 N, H, W, C]
    captions = ["image", "view 1", "view 2"] * count
    title = f"The first images of {split} and their two views"
    return {"views": figures.image_grid(np.clip(tiles, 0, 1), captions, title=title, columns=3)}
