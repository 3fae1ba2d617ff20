"""A small network that learns what larger ones say: distillation (Hinton, Vinyals and Dean 2015, arXiv 1503.02531).

Letters in shapes: M teachers, B batch, U images without labels, H W C an image, K classes.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import CLASSIFIER, REGRESSOR, TEACHER, Array, Batch, Params, PyTree, Stats, Task
from cnnlab.data.paired import BESIDE
from cnnlab.metric import SHARE, Metric
from cnnlab.ops.losses import cross_entropy
from cnnlab.ops.metrics import predicted
from cnnlab.ops.precision import at_least_f32
from cnnlab.tasks.classify import AUXILIARY_WEIGHT, classify
from cnnlab.tasks.goals import CLASS, Goal
from cnnlab.tasks.hints import Hints, Regressor, hint_losses
from cnnlab.tasks.network_player import NetworkPlayer, auxiliary_logits
from cnnlab.tasks.teachers import Teachers, soft_targets

HINTED = "hinted"
"""The player of the first stage, who moves the student and the regressor."""
SOFT = Metric("soft_loss", "nats", higher_is_better=False, log_scale=True)
"""The metric of training that `summary` gives beside those of a classifier: the mean of `soft_losses`."""
HINT = Metric("hint_loss", higher_is_better=False, log_scale=True)
"""That of the first stage: the mean of `hint_losses`."""
METRICS = (
    Metric("teacher_accuracy", SHARE, higher_is_better=True, is_proportion=True),
    Metric("agreement", SHARE, is_proportion=True),
)
"""The metrics that `summary` gives of held-out splits beside those of a classifier: how often the teacher is right, and how
often teacher and student name the same class."""
TAUGHT = "teacher_prediction"
"""Row of the classes that the teacher names, or several by their mean probabilities."""


def soft_losses(student: Array, teachers: Array, temperature: float | Array) -> Array:
    """Returns T² · KL(teachers ‖ student) of the probabilities at a temperature T, f32 [B].

    With T² gradients have the same size at all temperatures; as T grows they become those of (s − t)² / (2 K) of logits whose
    mean is 0 (section 2.1 of the paper).

    Args:
        student: logits f32 [B, K].
        teachers: logits f32 [M, B, K], whose probabilities at the temperature are averaged.
        temperature: T, by which logits are divided.
    """
    given, asked = soft_targets(teachers, temperature), jax.nn.log_softmax(student / temperature, axis=1)
    return temperature**2 * jnp.sum(jnp.exp(given) * (given - asked), axis=1)


@dataclasses.dataclass(frozen=True)
class _Distilled:
    """The functions of the task; `distil` describes the fields."""

    single: Task
    student: NetworkPlayer
    teachers: Teachers
    temperature: float
    soft_weight: float
    goal: Goal
    hints: Hints | None
    regressor: Regressor | None

    def init(self, key: Array, batch: Batch) -> tuple[Params, PyTree]:
        """Implements core.Task.init."""
        params, state = self.single.init(key, batch)
        # Keys of their own, so that the student starts as it would alone.
        taught, teacher_state = self.teachers.init(key, batch)
        params, state = {**params, TEACHER: taught}, {**state, TEACHER: teacher_state}
        if self.hints is None:
            return params, state
        if self.regressor is None:
            return {**params, REGRESSOR: {}}, state
        variables = {"params": params[CLASSIFIER], **_of_student(params, state)[1]}
        _, intermediates = self.student.network.apply(variables, batch["image"][:1], train=False)
        drawn = self.regressor.init(jax.random.fold_in(key, 0), intermediates[self.hints.layer])
        return {**params, REGRESSOR: drawn["params"]}, state

    def loss(self, params: Params, state: PyTree, batch: Batch, key: Array, turn: str) -> tuple[Array, tuple[PyTree, Stats]]:
        """Implements core.Task.loss."""
        labelled = {name: column for name, column in batch.items() if name != BESIDE}
        if turn == TEACHER:
            total, (updated, stats) = self.teachers.loss(params[TEACHER], state[TEACHER], labelled, key)
            return total, ({**state, TEACHER: updated}, stats)
        # One pass over both: [B, H, W, C] and [U, H, W, C] -> [B + U, H, W, C]
        images = jnp.concatenate([batch["image"], batch[BESIDE]["image"]]) if BESIDE in batch else batch["image"]
        (logits, intermediates), updated = self.student.train(*_of_student(params, state), images, key)
        logits = at_least_f32(logits)
        of_labelled = logits[: len(batch["image"])]
        losses = cross_entropy(of_labelled, batch["label"])
        sums = self.goal.sums(of_labelled, losses, batch)
        if turn == HINTED:
            hinted = self._hint_losses(params, state, images, intermediates)
            total, sums = jnp.mean(hinted), sums | {"hint": jnp.sum(hinted), "taught": jnp.float32(len(images))}
        else:
            given = jax.lax.stop_gradient(self.teachers.logits(params, state, images))
            soft = soft_losses(logits, given, self.temperature)
            hard = jnp.mean(losses)
            for auxiliary in auxiliary_logits(intermediates):
                hard += AUXILIARY_WEIGHT * jnp.mean(cross_entropy(auxiliary[: len(losses)], batch["label"]))
            total = (1.0 - self.soft_weight) * hard + self.soft_weight * jnp.mean(soft)
            sums |= {"soft": jnp.sum(soft), "taught": jnp.float32(len(images))}
        return total, ({**updated, TEACHER: state[TEACHER]}, {"sums": sums, "rows": {}})

    def _hint_losses(self, params: Params, state: PyTree, images: Array, intermediates: dict[str, Array]) -> Array:
        """Returns the losses f32 [B + U] of the student's guided layer, whose intermediates are given."""
        assert self.hints is not None, "a turn of the first stage needs hints"
        guided: Any = intermediates[self.hints.layer]
        if self.regressor is not None:
            guided = self.regressor.apply({"params": params[REGRESSOR]}, guided)
        hint = self.teachers.activations(params, state, images, self.hints.teacher_layer)
        return hint_losses(guided, jax.lax.stop_gradient(hint))

    def predict(self, params: Params, state: PyTree, inputs: Array) -> Array:
        """Implements core.Task.predict, by the student."""
        return self.single.predict(*_of_student(params, state), inputs)

    def measure(self, params: Params, state: PyTree, batch: Batch) -> Stats:
        """Implements core.Task.measure."""
        stats = self.single.measure(*_of_student(params, state), batch)
        named = predicted(soft_targets(self.teachers.logits(params, state, batch["image"]), 1.0))
        return {**stats, "rows": {**stats["rows"], TAUGHT: named}}

    def summary(self, stats: Stats) -> dict[str, float]:
        """Implements core.Task.summary."""
        found, rows, sums = self.goal.summary(stats), stats["rows"], stats["sums"]
        for name in ("soft", "hint"):
            if name in sums:
                found[f"{name}_loss"] = float(sums[name]) / max(float(sums["taught"]), 1.0)
        if TAUGHT in rows:
            named = np.asarray(rows[TAUGHT])
            found["teacher_accuracy"] = float(np.mean(named == rows["label"], dtype=np.float64))
            found["agreement"] = float(np.mean(named == rows["prediction"], dtype=np.float64))
        return found


def distil(
    student: nn.Module,
    teachers: Teachers,
    *,
    temperature: float,
    soft_weight: float,
    hints: Hints | None = None,
    regressor: Regressor | None = None,
    goal: Goal = CLASS,
) -> Task:
    """The task of training a student by the labels and by what teachers say: a game of players, one after another.

    The player TEACHER learns from the labels, in a phase of its own or in an earlier run; from then on it only speaks, as at
    evaluation. With hints HINTED moves the student, up to the guided layer, and the regressor; layers above it have no gradient
    then. The student is the classifier: with a soft weight of 0 it is the network that `classify` trains. Auxiliary heads
    learn from the labels alone, by the share of these. Where a batch has
    images without labels beside it (data/unlabelled.py), the student learns from what the teachers say of these, too.

    Args:
        student: network, as for `classify`.
        teachers: the networks that it learns from, and how they see its images.
        temperature: T of the soft targets.
        soft_weight: weight of the soft targets, in [0, 1]; the labels have the rest.
        hints: the layers of the first stage; None: there is none.
        regressor: maps the guided layer to the teacher's (hints.regressor_for); None: they have as many channels.
        goal: how predictions are measured.
    """
    single = classify(student, goal=goal)
    made = _Distilled(single, NetworkPlayer(student, CLASSIFIER), teachers, temperature, soft_weight, goal, hints, regressor)
    return dataclasses.replace(
        single,
        init=made.init,
        loss=made.loss,
        predict=made.predict,
        measure=made.measure,
        summary=made.summary,
        turns=(TEACHER, CLASSIFIER),
        param_groups={HINTED: (CLASSIFIER, REGRESSOR)} if hints else {},
        metrics=(*single.metrics, SOFT, *((HINT,) if hints else ()), *METRICS),
        kept_rows=None if goal.kept_rows is None else (*goal.kept_rows, TAUGHT),
    )


def _of_student(params: Params, state: PyTree) -> tuple[Params, PyTree]:
    """Returns the parameters and the model state of the student, as those of a classifier alone."""
    return {CLASSIFIER: params[CLASSIFIER]}, {name: part for name, part in state.items() if name != TEACHER}
