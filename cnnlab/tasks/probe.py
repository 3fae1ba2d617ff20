"""What features are worth: a linear classifier and nearest neighbours on a frozen trunk, after whatever game trained it.

The steps of training stay those of the pretext task. Then the player `remember` walks once over the labelled examples and
writes the features of each into the model state, and before the step of the player `probe` a convex problem is solved on the
host (ops/logistic_regression.py): nothing about the probe is tuned by hand, and it has one answer.

Letters in shapes: B batch, H W C an image, M labelled examples, F features of a layer, K classes.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnlab.core import CLASSIFIER, FROZEN, PRETEXT, TRUNK, Array, Batch, Dataset, Params, PyTree, Stats, Task, TrainState
from cnnlab.data.labelled_once import PLACE
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import collectives, knn, logistic_regression
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.network_player import joined
from cnnlab.tasks.untrained import no_loss

log = logging.getLogger(__name__)

REMEMBER = "remember"
"""The player that writes features into the memory; it moves nothing."""
PROBE = "probe"
"""The group of the linear classifiers, and the player whose phase begins with their solution; its optimiser moves nothing."""
MEMORY = "memory"
"""Part of the model state with the features of the labelled examples."""
BEFORE = "pretext_"
"""Begins the names of the numbers of the game that trained the trunk."""
QUIET = optax.set_to_zero()
"""The optimiser of both players."""


@dataclasses.dataclass(frozen=True)
class Trunk:
    """A network, and where the state of a task holds its variables."""

    network: nn.Module
    """A network of models/trunk.py."""
    variables: Callable[[Params, PyTree], PyTree]
    """(params, model state) -> its variables."""


def trunk_of_pretext(network: nn.Module) -> Trunk:
    """Returns the trunk of a pretext task, which is a module of the network of the player PRETEXT."""

    def variables(params: Params, model_state: PyTree) -> PyTree:
        return {"params": params[PRETEXT][TRUNK], **{name: part[TRUNK] for name, part in model_state.items() if TRUNK in part}}

    return Trunk(network, variables)


def trunk_of_classifier(network: nn.Module) -> Trunk:
    """Returns the trunk of a classifier that a player trains or that is frozen: its whole network but the last layer."""

    def variables(params: Params, model_state: PyTree) -> PyTree:
        own = {name: tree for name, tree in params.items() if name in (CLASSIFIER, FROZEN)}
        return {"params": joined(own), **model_state}

    return Trunk(network, variables)


def frozen(init_trunk: Callable[[Array, Array], PyTree]) -> Task:
    """The task of a network that keeps the weights with which it starts; it predicts and measures nothing.

    Args:
        init_trunk: (key, images [B, H, W, C]) -> the variables of a trunk.
    """

    def init(key: Array, batch: Batch) -> tuple[Params, PyTree]:
        variables = init_trunk(key, batch["image"][:1])
        return {FROZEN: variables.pop("params", {})}, variables

    return Task(
        init=init,
        loss=no_loss("a frozen network is not trained"),
        predict=lambda params, model_state, inputs: inputs,
        measure=lambda params, model_state, batch: {"sums": {}, "rows": {}},
        summary=lambda stats: {},
        figures=lambda params, model_state, stats, data, split: {},
        turns=(),
        metrics=(),
    )


@dataclasses.dataclass(frozen=True)
class _Probed:
    """The functions of the task; `probed` describes the fields."""

    before: Task
    trunk: Trunk
    see: Callable[[PyTree, Array], dict[str, Array]]
    layers: tuple[str, ...]
    classes: int
    size: int
    neighbours: int
    goal: Goal

    def vectors(self, params: Params, model_state: PyTree, images: Array) -> dict[str, Array]:
        """Returns {place of a layer: its features f32 [B, F]}; the trunk gets no gradient."""
        variables = jax.lax.stop_gradient(self.trunk.variables(*_without_probe(params, model_state)))
        found = self.see(variables, images)
        return {place_of(name): jax.lax.stop_gradient(values) for name, values in found.items()}

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Implements core.Task.init: classifiers of zeros, and a memory of zeros."""
        params, state = self.before.init(key, batch)
        shapes = jax.eval_shape(self.vectors, params, state, batch["image"][:1])
        sizes = {place: leaf.shape[1] for place, leaf in shapes.items()}
        zeros = functools.partial(jnp.zeros, dtype=jnp.float32)
        heads = {
            place: {"kernel": zeros((size, self.classes)), "bias": zeros((self.classes,))} for place, size in sizes.items()
        }
        memory = {place: zeros((self.size, size)) for place, size in sizes.items()}
        return {**params, PROBE: heads}, {**state, MEMORY: {"features": memory, "label": jnp.zeros((self.size,), jnp.int32)}}

    def loss(
        self, params: Params, model_state: PyTree, batch: Batch, key: Array, player: str
    ) -> tuple[Array, tuple[PyTree, Stats]]:
        """Implements core.Task.loss."""
        if player == REMEMBER:
            state = {**model_state, MEMORY: self.remembered(params, model_state, batch)}
            return jnp.zeros((), jnp.float32), (state, {"sums": {}, "rows": {}})
        if player == PROBE:
            logits = self.predict(params, model_state, batch["image"])
            losses = cross_entropy(logits, batch["label"])
            return jnp.mean(losses), (model_state, {"sums": self.goal.sums(logits, losses, batch), "rows": {}})
        rest, state = _without_probe(params, model_state)
        loss, (state, stats) = self.before.loss(rest, state, batch, key, player)
        return loss, ({**state, MEMORY: model_state[MEMORY]}, _named(stats))

    def remembered(self, params: Params, model_state: PyTree, batch: Batch) -> PyTree:
        """Returns the memory with the features of a batch at their places; what fills the last batch has none."""
        place = batch.get(PLACE, jnp.full_like(batch["index"], self.size))
        found = {**self.vectors(params, model_state, batch["image"]), "label": batch["label"], PLACE: place}
        found = {name: collectives.gather(values) for name, values in found.items()}
        memory, place = model_state[MEMORY], found[PLACE]
        features = {name: values.at[place].set(found[name], mode="drop") for name, values in memory["features"].items()}
        return {"features": features, "label": memory["label"].at[place].set(found["label"], mode="drop")}

    def logits(self, params: Params, vectors: Mapping[str, Array]) -> dict[str, Array]:
        """Returns {place: scores of the classes f32 [B, K]} of the features of each layer."""
        heads = params[PROBE]
        precise = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
        return {
            place: precise(x, at_least_f32(heads[place]["kernel"])) + at_least_f32(heads[place]["bias"])[None]
            for place, x in vectors.items()
        }

    def predict(self, params: Params, model_state: PyTree, inputs: Array) -> Array:
        """Returns the scores f32 [B, K] of the first layer's classifier for images [B, H, W, C]."""
        return self.logits(params, self.vectors(params, model_state, inputs))[place_of(self.layers[0])]

    def measure(self, params: Params, model_state: PyTree, batch: Batch) -> Stats:
        """Implements core.Task.measure: the goal's statistics of the first layer, and what others classify rightly."""
        vectors, label = self.vectors(params, model_state, batch["image"]), batch["label"]
        logits, first = self.logits(params, vectors), place_of(self.layers[0])
        memory = model_state[MEMORY]
        near = knn.nearest(
            _unit(vectors[first]), _unit(memory["features"][first]), k=self.neighbours, distance="l2", chunk=4096
        )
        votes = knn.votes(near, memory["label"], self.classes, jnp.int32(self.neighbours))
        answers = {"knn_accuracy": votes, **{accuracy_of(place): logits[place] for place in logits if place != first}}
        rows = {name: jnp.argmax(scores, axis=1) == label for name, scores in answers.items()}
        own = self.goal.measure(logits[first], cross_entropy(logits[first], label), batch)
        rest = (
            self.before.measure(*_without_probe(params, model_state), batch) if self.before.turns else {"sums": {}, "rows": {}}
        )
        rest = _named({**rest, "rows": {name: values for name, values in rest["rows"].items() if name != "mask"}})
        return {kind: {**own[kind], **rest[kind]} | (rows if kind == "rows" else {}) for kind in ("sums", "rows")}

    def summary(self, stats: Stats) -> dict[str, float]:
        """Returns the numbers of the probe and, beginning with `pretext_`, those of the game before."""
        own, before = _parted(stats)
        found = self.goal.summary(own) if own["rows"] or own["sums"] else {}
        added = [name for name in own["rows"] if name == "knn_accuracy" or name.startswith(accuracy_of(""))]
        found |= {name: float(np.mean(own["rows"][name], dtype=np.float64)) for name in added}
        numbers = self.before.summary(before) if before["rows"] or before["sums"] else {}
        return {**found, **{f"{BEFORE}{name}": value for name, value in numbers.items()}}

    def figures(self, params: Params, model_state: PyTree, stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
        """Implements core.Task.figures: those of the goal."""
        return self.goal.figures(_parted(stats)[0], data, split)


def probed(
    before: Task,
    trunk: Trunk,
    see: Callable[[PyTree, Array], dict[str, Array]],
    *,
    layers: tuple[str, ...],
    classes: int,
    size: int,
    neighbours: int,
    goal: Goal = CLASS,
) -> Task:
    """The task of a game that trains a trunk, and then of classifying by its features.

    Its phases are those of the game, then one of the player REMEMBER with each labelled example once, whose batches have the
    column `place`, and a step of the player PROBE that begins with `solve`.

    Args:
        before: the game, or `frozen`.
        trunk: where its state has the trunk.
        see: (variables of the trunk, images [B, H, W, C]) -> {layer: features f32 [B, F]}.
        layers: names of these layers; what the first tells is the result.
        classes: number of classes.
        size: number of labelled examples.
        neighbours: number of the nearest labelled examples, by the cosine of the first layer's features, that vote.
        goal: how predictions are measured.
    """
    task = _Probed(before, trunk, see, layers, classes, size, neighbours, goal)
    share = functools.partial(Metric, unit=SHARE, higher_is_better=True, is_proportion=True)
    named = tuple(dataclasses.replace(metric, name=f"{BEFORE}{metric.name}") for metric in before.metrics)
    others = tuple(share(accuracy_of(place_of(name))) for name in layers[1:])
    known = {metric.name for metric in before.metrics}
    watched = [name for name in before.logged_metrics if name in known] + [metric.name for metric in before.metrics[:1]]
    return Task(
        init=task.init,
        loss=task.loss,
        predict=task.predict,
        measure=task.measure,
        figures=task.figures,
        turns=(*before.turns, REMEMBER, PROBE),
        param_groups={**before.param_groups, REMEMBER: (), PROBE: (PROBE,)},
        **{
            **goal.fields(),
            "summary": task.summary,
            "metrics": (*goal.metrics, share("knn_accuracy"), *others, *named),
            "logged_metrics": (*(f"{BEFORE}{name}" for name in dict.fromkeys(watched)), *goal.logged_metrics),
        },
    )


def solve(classes: int) -> Callable[[TrainState, Batch], TrainState]:
    """Returns the `Phase.begin` that fits the linear classifiers to the memory.

    Args:
        classes: number of classes.
    """

    def begin(state: TrainState, batch: Batch) -> TrainState:
        memory, heads = state.model_state[MEMORY], {}
        for place, features in memory["features"].items():
            kernel, bias, penalty = logistic_regression.fit_features(features, memory["label"], classes)
            log.info("probe of %s: %d features, penalty %g", place, features.shape[1], penalty)
            heads[place] = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
        return dataclasses.replace(state, params={**state.params, PROBE: heads})

    return begin


def place_of(layer: str) -> str:
    """Returns the name of a layer among parameters and metrics, without the slashes of its path."""
    return layer.replace("/", ".")


def accuracy_of(place: str) -> str:
    """Returns the name of the accuracy of a layer's probe."""
    return f"accuracy_{place}"


def _without_probe(params: Params, model_state: PyTree) -> tuple[Params, PyTree]:
    """Returns parameters and state as the game before knows them."""
    rest = (
        {name: tree for name, tree in whole.items() if name != own} for whole, own in ((params, PROBE), (model_state, MEMORY))
    )
    first, second = rest
    return first, second


def _unit(vectors: Array) -> Array:
    """Returns vectors [B, F] divided by their lengths, of which those of zeros stay."""
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _named(stats: Stats) -> Stats:
    """Returns the statistics of the game before under names that begin with `pretext_`."""
    return {kind: {f"{BEFORE}{name}": value for name, value in stats[kind].items()} for kind in ("sums", "rows")}


def _parted(stats: Stats) -> tuple[Stats, Stats]:
    """Returns the statistics of the probe and those of the game before, by their own names."""
    own = {kind: {name: value for name, value in stats[kind].items() if not name.startswith(BEFORE)} for kind in stats}
    before = {
        kind: {name.removeprefix(BEFORE): value for name, value in stats[kind].items() if name.startswith(BEFORE)}
        for kind in stats
    }
    return own, before
