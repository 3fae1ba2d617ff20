"""Early stopping: training ends when the validation metric has not improved for a while, and the best weights are the result.

Goodfellow, Bengio and Courville 2016, Deep learning, algorithm 7.1. What is known so far is in the notes of every checkpoint,
so that a resumed run stops at the same step as an uninterrupted one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cnnlab.core import Experiment, TrainState
from cnnlab.engine import processes
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.program import Program
from cnnlab.text import counted

NOTES = "early_stopping"
"""Entry of a checkpoint's notes."""


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    """The validations of a run so far."""

    patience: int
    """Number of validations in a row without an improvement after which training ends."""
    metric: str
    """Name of the metric."""
    higher_is_better: bool
    best: float | None = None
    """Best value so far; None before the first validation."""
    best_step: int = 0
    """Step of the first validation that had it."""
    step: int = 0
    """Step of the latest validation."""
    waited: int = 0
    """Number of validations since the best one."""

    @property
    def is_over(self) -> bool:
        """Returns whether training ends."""
        return self.waited >= self.patience

    def after(self, step: int, numbers: Mapping[str, float]) -> "EarlyStopping":
        """Returns the same after a further validation with these metrics; a value that equals the best is no improvement."""
        value = numbers[self.metric]
        if self.best is None or (value > self.best if self.higher_is_better else value < self.best):
            return dataclasses.replace(self, best=value, best_step=step, step=step, waited=0)
        return dataclasses.replace(self, step=step, waited=self.waited + 1)

    def notes(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps."""
        return {"best": self.best, "best_step": self.best_step, "step": self.step, "waited": self.waited}

    def remark(self) -> str:
        """Returns the sentence that says which weights are reported, and whether training ended before its last step."""
        if self.best is None:
            return ""
        since = f" and no better one in the {counted(self.waited, 'validation')} after it" if self.waited else ""
        end = f"; training ended early, at step {self.step:,}" if self.is_over else ""
        return (
            f"early stopping: reported are the weights of step {self.best_step:,}, of the best validation {self.metric} "
            f"({self.best:.4g}){since}{end}."
        )


def begun(experiment: Experiment, notes: Mapping[str, Any]) -> EarlyStopping | None:
    """Returns the early stopping of a run from the notes of its checkpoint, {} for a new run; None for a run without it."""
    if experiment.patience is None:
        return None
    metric = experiment.task.primary_metric
    sense = metric.require_sense("early stopping")
    return EarlyStopping(experiment.patience, metric.name, sense, **notes.get(NOTES, {}))


def reported_state(
    program: Program, checkpoints: Checkpoints, early: EarlyStopping | None, state: TrainState
) -> tuple[TrainState, int, int]:
    """Returns (the state that is the result, its step, the last step that was taken) of a run at its end.

    Args:
        program: compiled experiment.
        checkpoints: checkpoints of the run, all of them written.
        early: its validations; None: without early stopping the last state is the result.
        state: that state, on the devices.
    """
    if early is None or early.best is None:
        return state, program.experiment.steps, program.experiment.steps
    shapes = program.shapes
    best = processes.agreed_state(lambda: checkpoints.restore(shapes, step=early.best_step, trains=False), shapes)
    return program.strategy.to_devices(best[0]), early.best_step, early.step


def reported_step(notes: Mapping[str, Any] | None) -> int | None:
    """Returns the step whose weights are the result, by the notes of a run's newest checkpoint; None: that checkpoint's own."""
    kept = (notes or {}).get(NOTES, {})
    return kept["best_step"] if kept.get("best") is not None else None
