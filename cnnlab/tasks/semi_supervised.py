"""T13: a classifier that learns from few labelled examples and from many without labels: one player.

Letters in shapes: B labelled examples of a batch, U examples without labels, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import CLASSIFIER, Array, Batch, Params, PyTree, Stats, Task, TrainState
from cnnlab.data.paired import BESIDE
from cnnlab.data.unlabelled import AGAIN, CALM, HIDDEN
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.keys import stream
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.precision import at_least_f32
from cnnlab.ops.unlabelled_losses import confidence
from cnnlab.tasks.classify import classify
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.network_player import NetworkPlayer
from cnnlab.tasks.unlabelled_methods import Method, Passes

MEMORY = "semi_supervised"
"""Key of the model state that holds the number of steps taken and, where a method has one, its teacher; what stands beside it
are the collections of the network, as in any classifier."""

METRICS = (
    Metric("unlabelled_loss", higher_is_better=None, log_scale=True),
    Metric("unlabelled_weight"),
    Metric("confident_share", SHARE, is_proportion=True),
    Metric("pseudo_label_accuracy", SHARE, higher_is_better=True, is_proportion=True),
)
"""The metrics of training that `summary` gives beside those of a classifier. The last one is a diagnosis: it compares the
classes of which the method is confident with the labels that are hidden from it, which nothing else reads."""


def semi_supervised(
    model: nn.Module,
    *,
    method: Method,
    steps: int,
    loss: Callable[[Array, Array], Array] = cross_entropy,
    goal: Goal = CLASS,
) -> Task:
    """The task of learning classes from labelled examples and, beside them in every batch, examples without labels.

    Its loss is the mean loss of the labelled examples, plus the method's mean loss of the others times its weight. With a
    weight of 0 it is `classify` on the labelled examples: the running statistics of batch norms are those of these alone.

    Args:
        model: network, as for `classify`.
        method: what is learned from the examples without labels.
        steps: number of training steps, over which weights rise.
        loss: (logits f32 [B, K], labels i32 [B]) -> f32 [B].
        goal: how predictions of the class are measured.
    """
    single, network = classify(model, loss=loss, goal=goal), NetworkPlayer(model, CLASSIFIER)

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        params, collections = single.init(key, batch)
        return params, {**collections, MEMORY: _empty_memory(method, params, collections)}

    def loss_of(
        params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        collections, memory = collections_of(model_state), _moved(method, params, model_state)
        total, (updated, stats) = single.loss(params, collections, batch, key, player)
        shown, hidden = _without_labels(batch[BESIDE])
        passes = _passes(network, params, collections, memory, method, shown, stream(key, BESIDE), loss)
        losses, given = method.judge(passes)
        progress = memory["steps"].astype(jnp.float32) / max(steps, 1)
        is_given = memory["round"] > 0 if method.teacher == "frozen" else jnp.bool_(True)
        weight = jnp.where(is_given, method.weight(progress), 0.0)
        total += jnp.where(is_given, weight * jnp.mean(losses), 0.0)
        seen = _seen(losses, given, method.threshold, hidden, is_given) | {"weight": weight * jnp.float32(len(losses))}
        sums = {**stats["sums"], **{f"{BESIDE}_{name}": value for name, value in seen.items()}}
        return total, ({**updated, MEMORY: memory}, {"sums": sums, "rows": {}})

    def predict(params: Params, model_state: PyTree, inputs: Array) -> Array:
        return single.predict(*_predicting(method, params, model_state), inputs)

    def measure(params: Params, model_state: PyTree, batch: Batch) -> Stats:
        return single.measure(*_predicting(method, params, model_state), batch)

    return dataclasses.replace(
        single,
        init=init,
        loss=loss_of,
        predict=predict,
        measure=measure,
        summary=functools.partial(summary, goal.summary),
        metrics=(*single.metrics, *METRICS),
        logged_metrics=(*single.logged_metrics, "confident_share"),
    )


def new_round(state: TrainState, batch: Batch) -> TrainState:
    """Returns the state with its network as the frozen teacher of the round that begins (core.Phase.begin)."""
    taught = {"params": state.params, "collections": collections_of(state.model_state)}
    memory = state.model_state[MEMORY]
    memory = {**memory, "teacher": jax.tree.map(np.copy, taught), "round": np.asarray(memory["round"] + 1, np.int32)}
    return dataclasses.replace(state, model_state={**state.model_state, MEMORY: memory})


def collections_of(model_state: PyTree) -> dict[str, PyTree]:
    """Returns the collections of the network in a model state."""
    return {name: value for name, value in model_state.items() if name != MEMORY}


def _empty_memory(method: Method, params: Params, collections: PyTree) -> dict[str, Any]:
    """Returns the memory before the first step: a teacher starts as the network does."""
    memory: dict[str, Any] = {"steps": jnp.zeros((), jnp.int32)}
    if method.teacher != "none":
        memory["teacher"] = jax.tree.map(jnp.copy, {"params": params, "collections": collections})
    return memory | ({"round": jnp.zeros((), jnp.int32)} if method.teacher == "frozen" else {})


def _moved(method: Method, params: Params, model_state: PyTree) -> dict[str, Any]:
    """Returns the memory with one more step and, where the teacher is an average, with the weights of the last step in it."""
    memory = {**model_state[MEMORY], "steps": model_state[MEMORY]["steps"] + 1}
    if method.teacher == "average":
        count = model_state[MEMORY]["steps"].astype(jnp.float32)
        kept = jnp.minimum(count / (count + 1.0), jnp.asarray(method.decay, jnp.float32))
        own = {"params": params, "collections": collections_of(model_state)}
        memory["teacher"] = jax.tree.map(
            lambda old, new: (kept * old + (1.0 - kept) * jax.lax.stop_gradient(new).astype(old.dtype)).astype(old.dtype),
            memory["teacher"],
            own,
        )
    return memory


def _without_labels(beside: Batch) -> tuple[dict[str, Array], Array]:
    """Returns (the images [U, H, W, C] of the examples without labels, their hidden labels i32 [U]), which go separate ways."""
    return {name: beside[name] for name in ("image", AGAIN, CALM)}, beside[HIDDEN]


def _passes(
    network: NetworkPlayer,
    params: Params,
    collections: Mapping[str, PyTree],
    memory: Mapping[str, Any],
    method: Method,
    images: Mapping[str, Array],
    key: Array,
    loss: Callable[[Array, Array], Array],
) -> Passes:
    """Returns the passes over `images`, {view: [U, H, W, C]}. What none asks for is not computed."""
    frozen: Any = jax.lax.stop_gradient

    def noisy(params: Params, collections: Mapping[str, PyTree], view: str) -> Array:
        (logits, _), _ = network.train(params, dict(collections), images[view], stream(key, view))
        return at_least_f32(logits)

    def calm(params: Params, collections: Mapping[str, PyTree]) -> Array:
        return at_least_f32(network.evaluate(params, dict(collections), images[CALM])[0])

    def teacher() -> Array:
        # The teacher is kept in f32, and computes as the network does.
        dtypes = jax.tree.map(lambda leaf: leaf.dtype, params)
        taught = memory["teacher"]
        own = frozen(jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), taught["params"], dtypes))
        computed = noisy(own, taught["collections"], AGAIN) if method.teacher == "average" else calm(own, taught["collections"])
        return frozen(computed)

    return Passes(
        noisy=lambda: noisy(params, collections, "image"),
        again=lambda: noisy(params, collections, AGAIN),
        calm=lambda: frozen(calm(frozen(params), collections)),
        teacher=teacher,
        loss=loss,
    )


def _seen(losses: Array, given: Array, threshold: float | Array, hidden: Array, is_given: Array) -> dict[str, Array]:
    """Returns the sums that are reported of a batch's unlabelled examples; nothing else reads their hidden labels i32 [U]."""
    classes, probability = confidence(jax.lax.stop_gradient(given))
    is_confident = (probability >= jnp.asarray(threshold, probability.dtype)) & is_given
    is_known = is_confident & (hidden >= 0)
    found = {"confident": is_confident, "known": is_known, "right": is_known & (classes == hidden)}
    counts = {name: jnp.sum(value.astype(jnp.float32)) for name, value in found.items()}
    return {"loss": jnp.where(is_given, jnp.sum(losses), 0.0), "count": jnp.float32(len(losses)), **counts}


def _predicting(method: Method, params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
    """Returns (params, collections) of the network that predicts: an average, or the one that learns."""
    if method.teacher != "average":
        return params, collections_of(model_state)
    teacher = model_state[MEMORY]["teacher"]
    own = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), teacher["params"], params)
    return own, teacher["collections"]


def summary(of_goal: Callable[[Stats], dict[str, float]], stats: Stats) -> dict[str, float]:
    """Returns the numbers of a classifier and, of training, those of METRICS.

    `pseudo_label_accuracy` is missing where the method was confident of no example.
    """
    prefix = f"{BESIDE}_"
    own = {name.removeprefix(prefix): float(value) for name, value in stats["sums"].items() if name.startswith(prefix)}
    rest = {name: value for name, value in stats["sums"].items() if not name.startswith(prefix)}
    found = of_goal({**stats, "sums": rest})
    if not own:
        return found
    count = max(own["count"], 1.0)
    found |= {f"{prefix}loss": own["loss"] / count, f"{prefix}weight": own["weight"] / count}
    found["confident_share"] = own["confident"] / count
    return found | ({"pseudo_label_accuracy": own["right"] / own["known"]} if own["known"] else {})
