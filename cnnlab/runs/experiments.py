"""Loads an experiment by its name or by the path of its file: the function, its source and its declared study."""

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from cnnlab import home, knobs, own
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.runs.catalogue import launchable_files
from cnnlab.runs.identity import own_parts
from cnnlab.sources import code_digests


@dataclasses.dataclass(frozen=True)
class ExperimentFile:
    """The definitions of an experiment's file, and the folder of its data."""

    name: str
    """Name of `launch.py list`, or the absolute path of a file that is not in the list."""
    function: Callable[..., Any]
    path: pathlib.Path = pathlib.Path()
    study: Any = None
    """The StudySpec that the file declares as `study`; None where it declares none."""
    data_dir: str | None = None
    """Folder of prepared TFDS data sets; None: the default."""

    @property
    def title(self) -> str:
        """The name of `launch.py list`, or the own file's name without its folder."""
        return pathlib.Path(self.name).name

    @property
    def source(self) -> str:
        """Returns the text of the file."""
        return self.path.read_text(encoding="utf-8")

    def sources(self, resolved: knobs.Resolved) -> dict[str, str] | None:
        """Returns the digests of the code that a run with these knobs depends on; None where it has no file."""
        if not self.path.is_file():
            return None
        return _digests(self.path, *dict.fromkeys(own_parts(resolved.values)))

    @property
    def doc(self) -> str:
        """Returns the docstring of the file."""
        return ast.get_docstring(ast.parse(self.source)) or ""

    def resolve(self, values: Mapping[str, Any]) -> knobs.Resolved:
        """Returns the function with its knobs filled in from {knob: text or value}."""
        return knobs.resolve(self.function, values, {"data_dir": self.data_dir, knobs.FOLDER: self.path.parent})


@dataclasses.dataclass(frozen=True)
class MeasurementFile:
    """The measurement that a file declares."""

    name: str
    """Name of `launch.py list`, or the absolute path of a file that is not in the list."""
    path: pathlib.Path
    measurement: Any
    """The Measurement."""

    @property
    def title(self) -> str:
        """The name of `launch.py list`, or the own file's name without its folder."""
        return pathlib.Path(self.name).name

    @property
    def source(self) -> str:
        """Returns the text of the file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def sources(self) -> dict[str, str]:
        """Returns the digests of the code that it depends on."""
        return _digests(self.path)


@functools.lru_cache(maxsize=64)
def _digests(*paths: pathlib.Path) -> dict[str, str]:
    """Returns the digests of code once a command: arms of a study share theirs. `load_experiment` forgets them."""
    return code_digests(*paths)


def load_experiment(name: str, *, data_dir: str | None = None) -> ExperimentFile:
    """Imports the experiment of a name or a path, and with it jax. Raises UsageError where there is none.

    Args:
        name: name of a file in experiments/, or the path of a .py file that defines `experiment`.
        data_dir: folder of prepared TFDS data sets; None: the default.
    """
    title, path, module = _imported(name)
    function = getattr(module, "experiment", None)
    if not callable(function):
        if hasattr(module, "measurement"):
            raise UsageError(
                f"{title} measures a claim and trains nothing. Run it with: {home.COMMAND} measure --experiment={title}"
            )
        raise UsageError(f"{path} defines no function `experiment`. See experiments/lenet5_digits.py for one.")
    return ExperimentFile(title, function, path, getattr(module, "study", None), data_dir)


def load_measurement(name: str) -> MeasurementFile:
    """Imports the measurement of a name or a path, and with it jax. Raises UsageError where there is none."""
    title, path, module = _imported(name)
    measurement = getattr(module, "measurement", None)
    if measurement is None:
        verb = "ablate" if hasattr(module, "study") else "train"
        raise UsageError(
            f"{title} declares no measurement, so there is nothing to measure. "
            f"Run it with: {home.COMMAND} {verb} --experiment={title}"
        )
    return MeasurementFile(title, path, measurement)


def _imported(name: str) -> tuple[str, pathlib.Path, Any]:
    """Returns (the name of `launch.py list`, or the absolute path of an own file; the path; the module)."""
    _digests.cache_clear()
    # Read without importing: importing an experiment imports jax.
    known = launchable_files()
    path = own.real_path(pathlib.Path(name)) if name.endswith(".py") else known.get(name)
    if path is None:
        raise UsageError(f"no experiment {name!r}.{did_you_mean(name, list(known))} `{home.COMMAND} list` shows them.")
    home.make_experiments_importable()
    module = own.load_module(path, where=f"--experiment={name}")
    # One file is one experiment, however it is named.
    return (path.stem if known.get(path.stem) == path else str(path)), path, module
