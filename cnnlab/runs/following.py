"""A process that trains a run together with others and writes nothing: process 0 has the run's folder."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cnnlab.core import Stats, TrainState
from cnnlab.engine import train
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.program import Program
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.recorder import RunRecorder
from cnnlab.runs.restoring import noted, restore_or_init


class NoCheckpoints(Checkpoints):
    """The checkpoints of a process that neither reads nor writes any."""

    def __init__(self) -> None:
        """Opens nothing."""

    def steps(self) -> list[int]:
        """Returns none."""
        return []

    def require_room(self, state: TrainState, saves: int) -> None:
        """Does nothing."""

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any], metrics: Mapping[str, float] | None) -> None:
        """Does nothing."""

    def keep(self, step: int) -> None:
        """Does nothing."""

    def delete(self, step: int) -> None:
        """Does nothing."""

    def quarantine(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Follower(RunRecorder):
    """Calls every function of the devices that the recorder of process 0 calls, in the same order, and writes nothing.

    A collective that one process alone called would never end.
    """

    def status(self, state: str, step: int, **more: Any) -> None:
        """Keeps the step."""
        self.step = step

    def begin(self) -> None:
        """Shows nothing."""

    def _measure(self, state: TrainState, split: str, *, final: bool = False, at_end: bool = False) -> Stats:
        return train.evaluate(self.program, state, split, final=final, should_stop=self.should_stop)

    def keep_snapshots(self, step: int, state: TrainState) -> None:
        """Takes part in fetching the state, which process 0 draws from."""
        if self.program.experiment.task.snapshot is not None:
            self.program.strategy.to_host(state)

    def _write_results(self, state: TrainState, reported: int, reached: int) -> dict[str, Any]:
        data = self.program.experiment.data
        for split in data.measured_splits:
            self._measure(state, split, final=split == data.report_split, at_end=True)
        self.program.strategy.to_host(state)
        return {"metrics": {}, "steps": reached, **self.timing}


@contextlib.contextmanager
def open_follower(
    program: Program, folder: pathlib.Path, spec: RunSpec, seed: int, *, should_stop: Callable[[], bool]
) -> Iterator[RunRecorder]:
    """Yields the recorder of a process that follows process 0, at the start of the run or where that goes on."""
    checkpoints = NoCheckpoints()
    program, state, meta, start = restore_or_init(program, folder, checkpoints, seed, spec)
    recorder = Follower(
        program,
        folder,
        spec,
        seed,
        checkpoints,
        state=state,
        should_stop=should_stop,
        **noted(program, meta, start),
    )
    recorder.measure_interrupted()
    yield recorder
