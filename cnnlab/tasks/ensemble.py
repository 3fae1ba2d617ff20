"""Several networks whose probabilities are averaged: the game of n players that do not interact.

Letters in shapes: M members, B batch, K classes.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Params, PyTree, Stats, Task
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.metrics import predicted
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks import classification_metrics, prediction
from cnnlab.tasks.classify import PLAYER, classify
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.values import Count

METRICS = (
    *classification_metrics.METRICS,
    Metric("member_accuracy", SHARE, higher_is_better=True),
    Metric("gain", SHARE, higher_is_better=True),
    Metric("disagreement", SHARE),
)
"""The metrics that `summary` gives."""


def _measure(scores: Array, losses: Array, batch: Batch) -> Stats:
    return classification_metrics.measure(scores, jnp.exp(scores), losses, batch)


def ensemble(
    model: nn.Module,
    *,
    members: Count,
    loss: Callable[[Array, Array], Array] = cross_entropy,
    goal: Goal | None = None,
) -> Task:
    """The task of training `members` networks independently and predicting by the mean of their probabilities.

    Each member is a player with parameters, model state, loss and optimiser of its own. All get the same batch in a step:
    they differ by their initial weights and their dropout, which is the source of diversity in Lakshminarayanan,
    Pritzel and Blundell 2017 (arXiv 1612.01474, section 2.4; the order of the data, which they shuffle for each member, is
    shared here). Member 0 is the network that `classify` trains with the same seed, and an ensemble holds the members of every
    smaller one.

    A step is one program with a turn for each member, so that time and compilation grow with their number.

    Args:
        model: network, as for `classify`.
        members: number of networks.
        loss: (logits f32 [B, K], labels i32 [B]) -> f32 [B]; for the ensemble, it gets the logarithm of its probabilities.
        goal: how predictions are measured; None: GOAL, without further metrics.
    """
    goal = goal or GOAL
    single, all_members = classify(model, loss=loss), Members(model, members)
    players = tuple(f"member_{number}" for number in range(members))

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        # Member 0 takes the key itself: it starts as the single network of the same seed.
        keys = [key, *(jax.random.fold_in(key, number) for number in range(1, members))]
        started = {player: single.init(own, batch) for player, own in zip(players, keys, strict=True)}
        params = {player: params[PLAYER] for player, (params, _) in started.items()}
        return params, {player: state for player, (_, state) in started.items()}

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        total, (updated, stats) = single.loss({PLAYER: params[player]}, model_state[player], batch, key, PLAYER)
        return total, ({**model_state, player: updated}, stats)

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return log_mean_probabilities(log_probabilities(all_members, params, model_state, inputs))

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        members_log = log_probabilities(all_members, params, model_state, batch["image"])
        scores = log_mean_probabilities(members_log)
        stats = goal.measure(scores, loss(scores, batch["label"]), batch)
        votes = jax.vmap(predicted)(members_log).T  # [M, B, K] -> [M, B] -> [B, M], as rows are examples
        return {**stats, "rows": {**stats["rows"], "member_predictions": votes}}

    return Task(
        init=init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        figures=lambda params, model_state, stats, data, split: goal.figures(stats, data, split),
        turns=players,
        **goal.fields(),
    )


class Members(nn.Module):
    """Networks of one kind; the parameters and the state of number m lie below `member_m`.

    Attributes:
        model: network that each member is a copy of.
        count: number of members.
    """

    model: nn.Module
    count: Count

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """Returns the logits [M, B, K] of every member on images f32 [B, H, W, C]."""
        members = [self.model.clone(parent=self, name=f"member_{number}") for number in range(self.count)]
        return jnp.stack([member(images, train=False)[0] for member in members])  # M of [B, K] -> [M, B, K]


def log_probabilities(members: Members, params: Params, model_state: PyTree, images: Array) -> Array:
    """Returns the logarithm of every member's probabilities, f32 [M, B, K], from parameters and states by member."""
    collections = {name for state in model_state.values() for name in state}
    states = {name: {player: state[name] for player, state in model_state.items()} for name in collections}
    logits: Any = members.apply({"params": params, **states}, images)
    return jax.nn.log_softmax(at_least_f32(logits), axis=-1)


def log_mean_probabilities(log_probabilities: Array) -> Array:
    """Returns the logarithm f32 [B, K] of the mean of the members' probabilities, from their logarithms f32 [M, B, K]."""
    return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(jnp.asarray(len(log_probabilities), log_probabilities.dtype))


def summary(stats: Stats) -> dict[str, float]:
    """Returns `loss` and `accuracy` of the ensemble; of held-out splits also `member_accuracy`, `gain` and `disagreement`.

    member_accuracy is the mean over members, gain the ensemble's accuracy minus it, disagreement the share of examples on
    which two members differ, averaged over all pairs; for one member the last two are 0. Statistics of training are sums over
    members: there, `loss` and `accuracy` are the means over members.
    """
    found, rows = classification_metrics.summary(stats), stats["rows"]
    if rows:
        votes = np.asarray(rows["member_predictions"])
        found["member_accuracy"] = float(np.mean(votes == rows["label"][:, None], dtype=np.float64))
        found["gain"] = found["accuracy"] - found["member_accuracy"]
        count = votes.shape[1]
        # [B, M, 1] against [B, 1, M] -> [B, M, M]
        differ = np.mean(votes[:, :, None] != votes[:, None, :], axis=0, dtype=np.float64)  # [M, M], 0 on its diagonal
        found["disagreement"] = float(np.sum(differ)) / max(1, count * (count - 1))
    return found


GOAL = dataclasses.replace(
    CLASS,
    measure=_measure,
    summary=summary,
    metrics=METRICS,
    kept_rows=(*classification_metrics.KEPT_ROWS, "member_predictions"),
    prediction=prediction.of_classes(jnp.exp),
)
"""The class of an image by the outputs of an ensemble, which are logarithms of probabilities."""
