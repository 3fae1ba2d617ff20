"""Z5: a small network that learns what a larger one says: distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).

Letters in shapes: B batch, H W C an image, K classes.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import CLASSIFIER, TEACHER, Array, Batch, Params, PyTree, Stats, Task
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.metrics import predicted
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.classify import classify
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.network_player import NetworkPlayer

SOFT = Metric("soft_loss", "nats", higher_is_better=False, log_scale=True)
"""The metric of training that `summary` gives beside those of a classifier: the mean of `soft_losses`."""
METRICS = (
    Metric("teacher_accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("agreement", SHARE, is_proportion=True),
)
"""The metrics that `summary` gives of held-out splits beside those of a classifier: how often the teacher is right, and how
often teacher and student name the same class."""
TAUGHT = "teacher_prediction"
"""Row of the classes that the teacher names."""


def soft_losses(student: Array, teacher: Array, temperature: float) -> Array:
    """Returns T² · KL(teacher ‖ student) of the probabilities at a temperature T, f32 [B].

    With T² gradients have the same size at all temperatures; as T grows they become those of (s − t)² / (2 K) of logits whose
    mean is 0 (section 2.1 of the paper).

    Args:
        student: logits f32 [B, K].
        teacher: logits f32 [B, K].
        temperature: T, by which logits are divided.
    """
    asked, given = (jax.nn.log_softmax(logits / temperature, axis=1) for logits in (student, teacher))
    return temperature**2 * jnp.sum(jnp.exp(given) * (given - asked), axis=1)


@dataclasses.dataclass(frozen=True)
class _Distilled:
    """The functions of the task; `distil` describes the fields."""

    single: Task
    student: NetworkPlayer
    teaching: Task
    see: Callable[[Array], Array]
    temperature: float
    soft_weight: float
    goal: Goal

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Implements core.Task.init."""
        params, state = self.single.init(key, batch)
        # A key of its own, so that the student starts as it would alone.
        taught, teacher_state = self.teaching.init(jax.random.fold_in(key, 1), batch)
        return {**params, TEACHER: taught[CLASSIFIER]}, {**state, TEACHER: teacher_state}

    def loss(self, params: Params, state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        """Implements core.Task.loss."""
        if turn == TEACHER:
            own = {**batch, "image": self.see(batch["image"])}
            total, (updated, stats) = self.teaching.loss({CLASSIFIER: params[TEACHER]}, state[TEACHER], own, key, CLASSIFIER)
            return total, ({**state, TEACHER: updated}, stats)
        params_of_student, collections = _of_student(params, state)
        (logits, _), updated = self.student.train(params_of_student, collections, batch["image"], key)
        logits = at_least_f32(logits)
        losses = cross_entropy(logits, batch["label"])
        soft = soft_losses(logits, jax.lax.stop_gradient(self.taught(params, state, batch["image"])), self.temperature)
        total = (1.0 - self.soft_weight) * jnp.mean(losses) + self.soft_weight * jnp.mean(soft)
        sums = self.goal.sums(logits, losses, batch) | {"soft": jnp.sum(soft)}
        return total, ({**updated, TEACHER: state[TEACHER]}, {"sums": sums, "rows": {}})

    def taught(self, params: Params, state: PyTree, images: Array) -> Array:
        """Returns the logits f32 [B, K] of the teacher."""
        return self.teaching.predict({CLASSIFIER: params[TEACHER]}, state[TEACHER], self.see(images))

    def predict(self, params: Params, state: PyTree, inputs: Array) -> Array:
        """Implements core.Task.predict, by the student."""
        return self.single.predict(*_of_student(params, state), inputs)

    def measure(self, params: Params, state: PyTree, batch: Batch) -> Stats:
        """Implements core.Task.measure."""
        stats = self.single.measure(*_of_student(params, state), batch)
        named = predicted(self.taught(params, state, batch["image"]))
        return {**stats, "rows": {**stats["rows"], TAUGHT: named}}

    def summary(self, stats: Stats) -> dict[str, float]:
        """Implements core.Task.summary."""
        found, rows, sums = self.goal.summary(stats), stats["rows"], stats["sums"]
        if "soft" in sums:
            found["soft_loss"] = float(sums["soft"]) / max(float(sums["count"]), 1.0)
        if TAUGHT in rows:
            named = np.asarray(rows[TAUGHT])
            found["teacher_accuracy"] = float(np.mean(named == rows["label"], dtype=np.float64))
            found["agreement"] = float(np.mean(named == rows["prediction"], dtype=np.float64))
        return found


def distil(
    student: nn.Module,
    teacher: nn.Module,
    *,
    see: Callable[[Array], Array],
    temperature: float,
    soft_weight: float,
    goal: Goal = CLASS,
) -> Task:
    """The task of training a student by the labels and by what a teacher says: a game of two players, one after the other.

    The player TEACHER learns from the labels, in a phase of its own or in an earlier run; from then on it only speaks, as at
    evaluation. The student is the classifier: with a soft weight of 0 it is the network that `classify` trains.

    Args:
        student: network, as for `classify`.
        teacher: network, as for `classify`.
        see: images [B, H, W, C] as the student takes them -> as the teacher takes them.
        temperature: T of the soft targets.
        soft_weight: weight of the soft targets, in [0, 1]; the labels have the rest.
        goal: how predictions are measured.
    """
    single = classify(student, goal=goal)
    made = _Distilled(
        single, NetworkPlayer(student, CLASSIFIER), classify(teacher, goal=goal), see, temperature, soft_weight, goal
    )
    return dataclasses.replace(
        single,
        init=made.init,
        loss=made.loss,
        predict=made.predict,
        measure=made.measure,
        summary=made.summary,
        turns=(TEACHER, CLASSIFIER),
        metrics=(*single.metrics, SOFT, *METRICS),
        kept_rows=None if goal.kept_rows is None else (*goal.kept_rows, TAUGHT),
    )


def _of_student(params: Params, state: PyTree) -> tuple[Params, PyTree]:
    """Returns the parameters and the model state of the student, as those of a classifier alone."""
    return {CLASSIFIER: params[CLASSIFIER]}, {name: part for name, part in state.items() if name != TEACHER}
