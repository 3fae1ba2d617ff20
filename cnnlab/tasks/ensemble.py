"""M22: several networks whose probabilities are averaged: the game of n players that do not interact."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import SHARE, Array, Batch, Dataset, Metric, Params, PyTree, Stats, Task
from cnnlab.ops.losses import cross_entropy
from cnnlab.tasks import classification_metrics
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.values import Count

METRICS = (
    *classification_metrics.METRICS,
    Metric("member_accuracy", SHARE, higher_is_better=True),
    Metric("gain", SHARE, higher_is_better=True),
    Metric("disagreement", SHARE),
)
"""What `summary` gives."""


def ensemble(model: nn.Module, *, members: Count, loss: Callable[[Array, Array], Array] = cross_entropy) -> Task:
    """The task of training `members` networks apart and predicting by the mean of their probabilities.

    Each member is a player with parameters, model state, loss and optimiser of its own. All see the same batch in a step:
    they differ by their initial weights and their dropout, which is where the diversity comes from in Lakshminarayanan,
    Pritzel and Blundell 2017 (arXiv 1612.01474, section 2.4; the order of the data, which they shuffle for each member, is
    shared here). Member 0 is the network that `classify` trains with the same seed, and an ensemble holds the members of every
    smaller one.

    A step is one program with a turn for each member, so that time and compilation grow with their number.

    Args:
        model: as for `classify`.
        members: how many networks.
        loss: of logits f32 [B, K] and labels i32 [B], f32 [B]; that of the ensemble is of the logarithm of its probabilities.
    """
    single, together = classify(model, loss=loss), Members(model, members)
    players = tuple(f"member_{number}" for number in range(members))

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        keys = [key, *(jax.random.fold_in(key, number) for number in range(1, members))]
        started = {player: single.init(own, batch) for player, own in zip(players, keys, strict=True)}
        params = {player: params[PLAYER] for player, (params, _) in started.items()}
        return params, {player: state for player, (_, state) in started.items()}

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        total, (updated, stats) = single.loss({PLAYER: params[player]}, model_state[player], batch, key, PLAYER)
        return total, ({**model_state, player: updated}, stats)

    def each(params: Params, model_state: PyTree, inputs: Array) -> Array:
        """f32 [M, B, K]: the logarithm of every member's probabilities."""
        collections = {name for state in model_state.values() for name in state}
        states = {name: {player: model_state[player][name] for player in players} for name in collections}
        logits: Any = together.apply({"params": params, **states}, inputs)
        return jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return averaged(each(params, model_state, inputs))

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        found = each(params, model_state, batch["image"])
        scores = averaged(found)
        stats = classification_metrics.measure(scores, jnp.exp(scores), loss(scores, batch["label"]), batch)
        return {**stats, "rows": {**stats["rows"], "member_predictions": jnp.argmax(found, axis=-1).astype(jnp.int32).T}}

    return Task(
        init=init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=summary,
        figures=_figures,
        turns=players,
        metrics=METRICS,
    )


class Members(nn.Module):
    """Networks of one kind, side by side; the parameters and the state of number m lie below `member_m`.

    Attributes:
        model: the kind.
        count: how many.
    """

    model: nn.Module
    count: Count

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """images f32 [B, H, W, C] -> logits [M, B, K] of every member."""
        members = [self.model.clone(parent=self, name=f"member_{number}") for number in range(self.count)]
        return jnp.stack([member(images, train=False)[0] for member in members])


def averaged(each: Array) -> Array:
    """f32 [M, B, K] -> f32 [B, K]: the logarithm of the mean of M members' probabilities, from their logarithms."""
    return jax.nn.logsumexp(each, axis=0) - jnp.log(jnp.float32(each.shape[0]))


def summary(stats: Stats) -> dict[str, float]:
    """`loss` and `accuracy` of the ensemble; of held-out splits also `member_accuracy`, `gain` and `disagreement`.

    member_accuracy is the mean over members, gain what the ensemble's accuracy has more, disagreement the share of examples on
    which two members differ, averaged over all pairs; of one member the last two are 0. Statistics of training are sums over
    members: there, `loss` and `accuracy` are those of a member, averaged.
    """
    found, rows = classification_metrics.summary(stats), stats["rows"]
    if rows:
        votes = np.asarray(rows["member_predictions"])
        found["member_accuracy"] = float(np.mean(votes == rows["label"][:, None], dtype=np.float64))
        found["gain"] = found["accuracy"] - found["member_accuracy"]
        count = votes.shape[1]
        differ = np.mean(votes[:, :, None] != votes[:, None, :], axis=0, dtype=np.float64)  # [M, M], 0 on its diagonal
        found["disagreement"] = float(np.sum(differ)) / max(1, count * (count - 1))
    return found


def _figures(params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    return classification_metrics.draw_figures(stats, data, split)
