"""The function that a run trained: its weights with the input specification that its checkpoints keep (inputs.InputSpec).

Data at hand may differ from those of the training, knowingly or not. They are then normalised as the training images were, so
that `evaluate` measures the function that `export` writes, and a run that goes on trains the function that it began; what else
differs is said, or refused where a number would mean nothing.
"""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlab import files
from cnnlab.core import Experiment, Stats
from cnnlab.digests import arrays_digest
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.program import Program, build_program
from cnnlab.errors import CheckpointError, DataError
from cnnlab.inputs import InputSpec, fit_in_words
from cnnlab.runs import run_files
from cnnlab.runs.network_notes import is_network_file, read_notes

log = logging.getLogger("cnnlab")

META = "inputs"
"""Entry of a checkpoint's notes with the input specification; checkpoints of older versions have none."""


def read_inputs(folder: pathlib.Path) -> InputSpec | None:
    """Returns the input specification of a run's newest checkpoint; None where an older version wrote it, or there is none.

    In place of the folder of a run it may be the file of its network.
    """
    if is_network_file(folder):
        return InputSpec.from_json(read_notes(folder)[META], functools.partial(_read_matrix, folder))
    content = (Checkpoints(folder / "checkpoints", ranked_by=None).newest_meta() or {}).get(META)
    return None if content is None else InputSpec.from_json(content, functools.partial(_read_matrix, folder))


def keep_matrix(folder: pathlib.Path, inputs: InputSpec) -> None:
    """Writes the matrix that whitens the images of a run into its folder, unless it is there or there is none.

    The notes of each checkpoint hold its digest alone: it has up to nine million numbers, and never changes.
    """
    path = folder / run_files.WHITENING
    if inputs.whiten is not None and not path.exists():
        files.replace_file(path, functools.partial(np.save, arr=inputs.whiten))


def _read_matrix(folder: pathlib.Path, digest: str) -> np.ndarray:
    """Returns the matrix f32 [D, D] of a digest from the folder of a run; raises CheckpointError where it is not whole."""
    path = folder / run_files.WHITENING
    if is_network_file(folder):
        raise CheckpointError(
            f"{folder} does not hold the matrix by which images are whitened.\nUse the network from the folder of its run."
        )
    try:
        matrix: np.ndarray = np.load(path, allow_pickle=False)
        reason = "is not the one of the checkpoint" if arrays_digest({"whiten": matrix}) != digest else None
    except FileNotFoundError:
        reason = "is missing"
    except (OSError, ValueError, EOFError):
        reason = "is damaged"
    if reason:
        raise CheckpointError(
            f"{path}, the matrix by which the images were whitened, {reason}: without it the network cannot be used.\n"
            "Restore the file from a copy, or train again."
        )
    return matrix


def with_inputs(
    program: Program,
    meta: Mapping[str, Any],
    folder: pathlib.Path,
    *,
    precision: str,
    **options: Any,
) -> Program:
    """Returns the program for the inputs of a checkpoint, which prepares the data at hand as the training data were.

    Args:
        program: program for the data at hand.
        meta: notes of the checkpoint.
        folder: folder of the run, for messages.
        precision: name of the dtype in which the network computes.
        options: how its steps are built, as `build_program` takes it: gradient_norms, skip_nonfinite, remat.
    """
    data = program.experiment.data
    if META not in meta:
        if meta["fingerprint"] != data.fingerprint:
            log.warning(
                "WARNING: %s was trained by a version that did not keep how images are normalised, and on other data: "
                "statistics of %s are used instead.",
                folder,
                data.name,
            )
        return program
    trained = InputSpec.from_json(meta[META], functools.partial(_read_matrix, folder))
    if trained.is_same(data.inputs):
        return program
    log.info("%s is normalised as the training images of %s were", data.name, folder)
    inputs = dataclasses.replace(trained.for_dtype(data.inputs.dtype), image_shape=data.image_shape)
    task = program.experiment.task
    task = task.for_inputs(inputs) if task.for_inputs else task
    experiment = dataclasses.replace(program.experiment, task=task, data=dataclasses.replace(data, inputs=inputs))
    return build_program(experiment, program.strategy, precision=precision, **options)


def check_inputs(trained: InputSpec, given: InputSpec, *, name: str, folder: pathlib.Path) -> None:
    """Says how data differ from those of a run, and raises DataError where the run's network cannot be used on them.

    Args:
        trained: input specification of the run.
        given: that of the data at hand.
        name: name of the data at hand.
        folder: folder of the run.
    """
    if trained.image_shape != given.image_shape:
        there, here = ("x".join(map(str, spec.image_shape)) for spec in (trained, given))
        text = f"{folder} was trained on images of {there}, and those of {name} are {here}"
        sizes = [shape for shape in np.broadcast_shapes(trained.subtract.shape, trained.divide.shape)[1:3] if shape > 1]
        if trained.image_shape[2] != given.image_shape[2] or sizes:
            raise DataError(f"{text}.\nGive images of {there}: --image_size brings them to one size.")
        log.warning("WARNING: %s: the network is used at another size.", text)
    if trained.fit != given.fit and "none" not in (trained.fit["name"], given.fit["name"]):
        there, here = (fit_in_words(spec.fit) for spec in (trained, given))
        log.warning("WARNING: the images of %s were brought to size by %s, and those of %s by %s.", folder, there, name, here)
    if trained.class_names == given.class_names:
        return
    there, here = (list_classes(spec.class_names) for spec in (trained, given))
    text = f"the classes of {folder} are {there}, and those of {name} are {here}"
    if len(trained.class_names) != len(given.class_names) or set(trained.class_names) == set(given.class_names):
        raise DataError(f"{text}.\nThey are compared by number. Give data with the same classes in the same order.")
    log.warning("WARNING: %s. They are compared by number.", text)


def untrained_remark(experiment: Experiment) -> str:
    """Returns the remark on a run whose network has something to train and takes no step; else an empty string."""
    if experiment.steps or not experiment.task.turns:
        return ""
    return "0 steps: these are the numbers of the network as it was initialised, or as --init_from gave it."


def kept_rows(experiment: Experiment, stats: Stats, split: str) -> dict[str, Any]:
    """Returns the rows of a split that are kept, {name: [N, …]}, with the names of the examples where the data have some."""
    rows, kept, name_of = stats["rows"], experiment.task.kept_rows, experiment.data.example_names
    kept = tuple(name for name in rows if name not in experiment.task.first_rows) if kept is None else kept
    stored = {name: rows[name] for name in kept if name in rows}
    return stored if name_of is None or "index" not in rows else {**stored, "name": np.array(name_of(split, rows["index"]))}


def list_classes(names: tuple[str, ...]) -> str:
    """Returns the first names with their numbers, `0 cat, 1 dog`, or `0 … 9` where the names are the numbers."""
    if list(names) == [str(number) for number in range(len(names))]:
        return f"0 … {len(names) - 1}"
    return ", ".join(f"{number} {name}" for number, name in enumerate(names[:8])) + (", …" if len(names) > 8 else "")
