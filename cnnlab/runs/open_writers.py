"""Opens the writers of a run's metrics in its folder."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from cnnlab.engine.clock import StepClock
from cnnlab.engine.program import Program
from cnnlab.runs import run_files, writers
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.rates import learning_rates
from cnnlab.runs.run_progress import RunProgress
from cnnlab.runs.writers import Writer

EVENTS = 1
"""Place of TensorBoard among the writers of a run, which alone gets the results on the test split."""


def open_writers(
    program: Program, folder: pathlib.Path, start: int, written: int, spec: RunSpec, clock: StepClock
) -> tuple[list[Writer], Callable[[int, Mapping[str, np.ndarray]], None], RunProgress, Callable[[], None]]:
    """Returns (writers of scalars, the writer of images, the progress, the function that closes them) of a run.

    The run goes on from step `start`, by which it had written so many lines of metrics (0: not known). The progress, which
    reads `clock`, is one of the writers.
    """
    experiment = program.experiment
    rates = learning_rates(spec.knobs, experiment)
    events, images, close = writers.tensorboard(folder / "tensorboard", resume_at=start, rates=rates)
    epoch = experiment.data.sizes["train"] / experiment.data.batch_size
    names = [metric.name for metric in experiment.task.watched_metrics]
    validates = "validation" in experiment.data.sizes
    progress = RunProgress(
        steps=experiment.steps, epoch_steps=epoch, names=names, clock=clock, validates=validates, quiet=spec.quiet
    )

    def close_all() -> None:
        progress.close()
        close()

    metrics = writers.metrics_file(folder / run_files.METRICS, resume_at=start, written=written)
    return [metrics, events, progress], images, progress, close_all
