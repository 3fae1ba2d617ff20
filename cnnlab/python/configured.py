"""Experiments with their knobs filled in, and their training, from Python."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from cnnlab.cli.common import load as load_experiment
from cnnlab.cli.common import resolve, run_spec, seed_folders
from cnnlab.cli.groups import Console, Devices, Length, Pace
from cnnlab.files import absolute, expand_home
from cnnlab.python.run import Run
from cnnlab.remarks import begin_command
from cnnlab.values import Duration, plain

if TYPE_CHECKING:
    from cnnlab.core import Experiment
    from cnnlab.knobs import Resolved
    from cnnlab.runs.experiments import ExperimentFile

LENGTHS = tuple(field.name for field in dataclasses.fields(Length))
"""Names for the length of training that stand for the knob `duration`."""


class ConfiguredExperiment:
    """An experiment with its knobs filled in: what `cnnlab.train` trains."""

    def __init__(self, file: "ExperimentFile", resolved: "Resolved", data_dir: str | None) -> None:
        """Takes an experiment that `experiment` has loaded."""
        self.file, self.resolved, self.data_dir = file, resolved, data_dir

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.file.title

    @property
    def knobs(self) -> dict[str, Any]:
        """{path: value} of every knob."""
        return self.resolved.values

    @functools.cached_property
    def built(self) -> "Experiment":
        """The experiment as the function returns it (core.Experiment): task, data set, optimisers; it opens the data set."""
        from cnnlab.runs import run

        return run.call(self.resolved)

    def __repr__(self) -> str:
        """Returns the knobs, each with what it takes, as `launch.py --experiment=NAME --help` lists them."""
        from cnnlab.knobs import as_text

        return f"{self.name}\n{as_text(self.resolved)}"


def experiment(name: str, *, data_dir: str | None = None, **knobs: Any) -> ConfiguredExperiment:
    """Returns an experiment with some knobs set; to print it shows all of them.

        cnnlab.experiment("lenet5_digits", lr=0.1, epochs=2, **{"model.activation": "tanh"})

    Raises UsageError for a name that is no knob, and for a value that it does not take.

    Args:
        name: name of a file in experiments/, or the path of a .py file of your own.
        data_dir: folder of prepared TFDS data sets; None: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        knobs: knobs by their last name where it is unique, or by their path; `steps`, `epochs` or `examples_seen` set the
            length of training.
    """
    length = Length(**{name: float(knobs.pop(name)) for name in LENGTHS if name in knobs})
    values = {name: _as_knob(value) for name, value in knobs.items()}
    place = str(absolute(data_dir)) if data_dir else None
    loaded = load_experiment(name, values, Devices(data_dir=place))
    return ConfiguredExperiment(loaded, resolve(loaded, values, length), place)


def _as_knob(value: Any) -> Any:
    """Returns a value as the knobs take it: text, a number, None, or a list; truth values as their text."""
    return str(value).lower() if isinstance(value, bool) else plain(value)


def train(
    experiment: ConfiguredExperiment | str,
    *,
    workdir: str | pathlib.Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    allow: Sequence[str] = (),
    eval_every: str | None = None,
    strategy: Literal["jit", "pmap", "fsdp"] = "jit",
    devices: int | None = None,
    precision: Literal["f32", "bf16", "f16"] = "f32",
    quiet: bool = False,
) -> Run:
    """Trains an experiment as `launch.py` does, with its progress on stderr; returns the run.

    A run that is finished is returned as it is, and one that was interrupted goes on. An interrupt saves a checkpoint and
    raises Preempted. Raises DivergedError where the loss stops being finite.

    Args:
        experiment: what `cnnlab.experiment` returned, or the name of an experiment.
        workdir: folder of the run; None: runs/EXPERIMENT-HASH/seed_K below the working directory.
        seed: seed of initial weights, data order, augmentation and dropout.
        overwrite: delete the run in the workdir and start afresh.
        allow: what may have changed since the run in the workdir was begun, of code, data, weights.
        eval_every: interval between evaluations, such as "1 epoch"; None: about 20 evaluations.
        strategy: how several devices share the work.
        devices: number of devices; None: all.
        precision: number format in which the network computes; parameters stay f32, and f16 scales the loss.
        quiet: show no progress.
    """
    chosen = _configured(experiment) if isinstance(experiment, str) else experiment
    begin_command()
    from cnnlab.runs import run
    from cnnlab.runs.folder import check_folder

    given = Devices(strategy=strategy, devices=devices, precision=precision, data_dir=chosen.data_dir)
    pace = Pace(eval_every=Duration.parse(eval_every) if eval_every else None)
    console = Console(log_level="warning" if quiet else "info")
    spec = run_spec(chosen.file, chosen.resolved, given, console, pace, allow=allow)
    text = str(expand_home(workdir)) if workdir else None
    folder = seed_folders(chosen.file, chosen.resolved, precision, text, range(seed, seed + 1))[seed]
    check_folder(folder, spec, overwrite=overwrite, seed=seed)  # before the data are read
    if check_folder(folder, spec, overwrite=overwrite, seed=seed, experiment=chosen.built) is None:
        run.train_run(run.build(chosen.resolved, spec, experiment=chosen.built), folder, spec, seed, overwrite=overwrite)
    return Run(folder, allow=allow)


_configured = experiment
