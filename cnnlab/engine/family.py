"""Experiments that differ in numbers alone, compiled once and trained in memory: for claims whose arms are tuned."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from cnnlab.core import TrainState
from cnnlab.engine.in_memory import Trained, train_in_memory, train_together
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.engine.train import evaluate
from cnnlab.knobs import Resolved

Setting = TypeVar("Setting")


@dataclasses.dataclass(frozen=True)
class Family:
    """One compilation for all values of some float knobs, such as the learning rate."""

    resolved: Resolved
    """The experiment with all of its knobs."""
    program: Program
    """The program with the first values."""

    def member(self, numbers: Mapping[str, float], seed: int) -> Program:
        """Returns the program with these values, {path of a knob: value}, and the data as the run of a seed sees them.

        Its experiment is that of the first values, since members differ in what is traced alone: to open MNIST anew for each of
        them takes longer than a hundred steps of a small network.
        """
        assert set(numbers) == set(self.program.traced_knobs), "a compilation takes the numbers with which it was made"
        return self.program.member(self.program.experiment, numbers).for_run(seed)

    def train(
        self,
        numbers: Mapping[str, float],
        seed: int,
        splits: Sequence[str],
        *,
        at: Sequence[int] = (),
        should_stop: Callable[[dict[int, dict[str, float]]], bool] = lambda logged: False,
    ) -> dict[int, dict[str, dict[str, float]]]:
        """Trains a member; returns {step: {split: the task's summary of it}} at the steps `at` and at the last.

        Args:
            numbers: {path of a knob: value}.
            seed: seed of initial weights, data order, augmentation and dropout, and of draws of examples.
            splits: splits that are measured; of the training split the images are as they are stored, without variations.
            at: steps at which they are measured, beside the last.
            should_stop: see `train_in_memory`.
        """
        program = self.member(numbers, seed)
        return _measured(program, train_in_memory(program, seed, at=at, should_stop=should_stop), splits)

    def train_together(
        self,
        members: Sequence[tuple[Mapping[str, float], int]],
        splits: Sequence[str],
        *,
        at: Sequence[int] = (),
        steps_per_dispatch: int = 1,
    ) -> list[dict[int, dict[str, dict[str, float]]]]:
        """Trains members side by side in one program; returns for each what `train` does, up to rounding.

        Small networks without convolutions are much quicker so. One that diverges does not affect the others.

        Args:
            members: the numbers and the seed of each.
            splits: splits that are measured.
            at: steps at which they are measured, beside the last.
            steps_per_dispatch: most steps sent to the device at once.
        """
        programs = [self.member(numbers, seed) for numbers, seed in members]
        trained = train_together(programs, [seed for _, seed in members], at=at, steps_per_dispatch=steps_per_dispatch)
        return [_measured(program, one, splits) for program, one in zip(programs, trained, strict=True)]


def family(resolved: Resolved, numbers: Mapping[str, float]) -> Family:
    """Returns the family of an experiment on the first device, in f32; keep it, since every one compiles anew.

    Args:
        resolved: the experiment.
        numbers: {path of a knob: a value} of the float knobs that its members differ in.
    """
    strategy = STRATEGIES["jit"](pick_devices(1))
    program = build_program(
        resolved.call_with(numbers), strategy, precision="f32", experiment_of=resolved.call_with, traced_knobs=numbers
    )
    return Family(resolved, program)


def _measured(program: Program, trained: Trained, splits: Sequence[str]) -> dict[int, dict[str, dict[str, float]]]:
    """Returns {step: {split: the task's summary of it}} of the states that training left."""
    return {step: {split: measure(program, state, split) for split in splits} for step, state in trained.states.items()}


def measure(program: Program, state: TrainState, split: str) -> dict[str, float]:
    """Returns the task's summary of a split, by a host tree of a state."""
    return program.experiment.task.summary(evaluate(program, program.strategy.to_devices(state), split))


def steadiest(found: Mapping[Setting, Sequence[float]]) -> Setting:
    """Returns the setting whose worst run is best; of equal ones the first.

    The worst run, and not the mean, keeps off settings at which some runs fail.

    Args:
        found: {setting: a number of each of its runs, more is better}.
    """
    return max(found, key=lambda setting: min(found[setting]))


def steps_to(level: float, values: Mapping[int, float], *, over: int = 1) -> int:
    """Returns the step at which the mean of the last `over` values first is at most `level`; the last step where it never is.

    Args:
        level: number that is to be reached, where less is better.
        values: {step: number} in the order of the steps, such as the losses that were logged.
        over: values that are averaged, so that a single batch does not decide.
    """
    steps, numbers = list(values), list(values.values())
    means = ((steps[last - 1], sum(numbers[last - over : last]) / over) for last in range(over, len(steps) + 1))
    return next((step for step, mean in means if mean <= level), steps[-1])
