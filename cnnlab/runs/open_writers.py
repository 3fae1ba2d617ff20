"""Opens the writers of a run's metrics in its folder."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from cnnlab.engine.program import Program
from cnnlab.runs import run_files, writers
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.rates import learning_rates
from cnnlab.runs.writers import Writer

EVENTS = 1
"""Place of TensorBoard among the writers of a run, which alone gets the results on the test split."""


def open_writers(
    program: Program, folder: pathlib.Path, start: int, spec: RunSpec
) -> tuple[list[Writer], Callable[[int, Mapping[str, np.ndarray]], None], Callable[[], None]]:
    """Returns (writers of scalars, the writer of images, the function that closes them) of a run that goes on from `start`."""
    experiment = program.experiment
    rates = learning_rates(spec.knobs, experiment)
    events, images, close = writers.tensorboard(folder / "tensorboard", resume_at=start, rates=rates)
    epoch = experiment.data.sizes["train"] / experiment.data.batch_size
    names = [metric.name for metric in experiment.task.watched_metrics]
    shown = writers.progress(steps=experiment.steps, start=start, epoch_steps=epoch, names=names, quiet=spec.quiet)
    return [writers.metrics_file(folder / run_files.METRICS, resume_at=start), events, shown], images, close
