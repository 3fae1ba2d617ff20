"""The networks that a student learns from: one, or several whose probabilities are averaged.

Letters in shapes: M teachers, B batch, H W C an image, K classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.core import CLASSIFIER, TEACHER, Array, Batch, Params, PyTree, Stats, Task
from cnnlab.tasks.classify import classify
from cnnlab.tasks.ensemble import log_mean_probabilities
from cnnlab.tasks.goals import CLASS, Goal


@dataclasses.dataclass(frozen=True)
class Teachers:
    """The networks that one player, TEACHER, trains by the labels, each for itself, and which then only speak.

    The parameters and the state of a single teacher are those of its network; those of several lie below `teacher_1` and so on.
    The first of several starts, and is trained, as it would be alone.
    """

    networks: tuple[nn.Module, ...]
    """Networks, as for `classify`."""
    sees: tuple[Callable[[Array], Array], ...]
    """For each: images [B, H, W, C] as the student takes them -> as the teacher takes them."""
    goal: Goal = CLASS
    """How their predictions are measured in training."""

    @functools.cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The task of each network alone."""
        return tuple(classify(network, goal=self.goal) for network in self.networks)

    def init(self, key: Array, batch: Batch) -> tuple[PyTree, PyTree]:
        """Returns (parameters, state) of all."""
        started = [task.init(jax.random.fold_in(key, number), batch) for number, task in enumerate(self.tasks, start=1)]
        return self._joined([params[CLASSIFIER] for params, _ in started]), self._joined_states([state for _, state in started])

    def loss(self, params: PyTree, state: PyTree, batch: Batch, key: Array) -> tuple[Array, tuple[PyTree, Stats]]:
        """Returns (the sum of their losses, (their new state, sums over all of them)): no loss depends on another's weights."""
        total, states, sums = jnp.float32(0), list[PyTree](), dict[str, Array]()
        for number, (task, see, own, own_state) in enumerate(self._each(params, state)):
            own_key = jax.random.fold_in(key, number) if number else key
            seen = {**batch, "image": see(batch["image"])}
            one, (updated, stats) = task.loss({CLASSIFIER: own}, own_state, seen, own_key, CLASSIFIER)
            total, sums = total + one, {name: value + sums.get(name, 0) for name, value in stats["sums"].items()}
            states.append(updated)
        return total, (self._joined_states(states), {"sums": sums, "rows": {}})

    def logits(self, params: Params, state: PyTree, images: Array) -> Array:
        """Returns the logits f32 [M, B, K] of all, as at evaluation, for images as the student takes them."""
        each = self._each(params[TEACHER], state[TEACHER])
        return jnp.stack([task.predict({CLASSIFIER: own}, own_state, see(images)) for task, see, own, own_state in each])

    def activations(self, params: Params, state: PyTree, images: Array, layer: str) -> Array:
        """Returns the activations [B, …] of a layer of the only teacher, one that it returns, as at evaluation."""
        ((_, see, own, own_state),) = self._each(params[TEACHER], state[TEACHER])
        returned: Any = self.networks[0].apply({"params": own, **own_state}, see(images), train=False)
        found: Array = returned[1][layer]
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Where the parameters of several lie; () for one."""
        return tuple(f"{TEACHER}_{number}" for number in range(1, len(self.networks) + 1)) if len(self.networks) > 1 else ()

    def _joined(self, parts: Sequence[PyTree]) -> PyTree:
        return dict(zip(self.names, parts, strict=True)) if self.names else parts[0]

    def _joined_states(self, parts: Sequence[PyTree]) -> PyTree:
        """Returns {collection: {name: …}} of the states {collection: …} of several, as a network with these parts has it."""
        if not self.names:
            return parts[0]
        collections = sorted({collection for part in parts for collection in part})
        named = dict(zip(self.names, parts, strict=True))
        return {each: {name: part[each] for name, part in named.items() if each in part} for each in collections}

    def _each(self, params: PyTree, state: PyTree) -> list[tuple[Task, Callable[[Array], Array], Any, Any]]:
        """Returns (task, how it sees images, its parameters, its state) of each."""
        if not self.names:
            return [(self.tasks[0], self.sees[0], params, state)]
        states = [{each: named[name] for each, named in state.items() if name in named} for name in self.names]
        return list(zip(self.tasks, self.sees, [params[name] for name in self.names], states, strict=True))


def soft_targets(logits: Array, temperature: float | Array) -> Array:
    """Returns the logarithms f32 [B, K] of the teachers' mean probabilities at a temperature, from logits f32 [M, B, K]."""
    return log_mean_probabilities(jax.nn.log_softmax(logits / temperature, axis=-1))
