"""The network of a run in one small file, FILE.cnnz, which knows the function that the run trained and is opened as a run is.

Beside the weights (compressed/network.py) the file holds the experiment with the knobs that are not as it has them, the input
specification and what the data were. Every byte counts, so a word that the experiment says itself is left out; a digest of all
knobs shows where it says another one today. The matrix that whitens images is not in the file: a network that needs it is used
from the folder of its run.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnlab.compressed import network
from cnnlab.compressed.container import Size
from cnnlab.core import Experiment, Stats, TrainState
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.runs.folder import RunSpec, columns_of
from cnnlab.runs.network_leaves import network_of, state_of, with_codes, without_codes
from cnnlab.runs.network_notes import FINGERPRINT_DIGITS, knobs_digest, read_notes, without_start
from cnnlab.runs.summaries import flat_metrics, summarise
from cnnlab.runs.trained_function import META


def notes_of(spec: RunSpec, experiment: Experiment, seed: int, step: int) -> dict[str, Any]:
    """Returns what the file of a run says beside its weights.

    Args:
        spec: specification of the run.
        experiment: what was trained, with the input specification of its checkpoint.
        seed: seed of the run.
        step: step of the weights.
    """
    data = experiment.data
    # The knobs of a network say what its weights compute, whatever becomes of the experiment.
    own = {
        name: {column: said for column, said in each.items() if column != "image"} for name, each in columns_of(data).items()
    }
    named = {name: value for name, value in spec.knobs.items() if name.partition(".")[0] == "model"}
    return {
        "experiment": spec.experiment,
        "knobs": without_start({**named, **(spec.knobs if spec.given is None else spec.given)}),
        "digest": knobs_digest(spec.knobs),
        **({} if spec.precision == "f32" else {"precision": spec.precision}),
        "seed": seed,
        "step": step,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint[:FINGERPRINT_DIGITS],
            "sizes": dict(data.sizes),
            **own,  # that of the images follows from the input specification
        },
        "inputs": data.inputs.as_json(),
    }


def packed(
    spec: RunSpec, experiment: Experiment, seed: int, state: TrainState, step: int
) -> tuple[bytes, dict[str, Size], dict[str, np.ndarray]]:
    """Returns (the content of the file, what each array takes of it, the arrays by name) of a host state.

    Args:
        spec: specification of the run.
        experiment: what was trained, with the input specification of its checkpoint.
        seed: seed of the run.
        state: host state.
        step: its step.
    """
    leaves = with_codes(network_of(state), experiment.task, state)
    content, sizes = network.packed(leaves, notes_of(spec, experiment, seed, step))
    return content, sizes, without_codes(leaves)


def final_metrics(
    spec: RunSpec, experiment: Experiment, seed: int, stats: Mapping[str, Stats], state: TrainState, step: int
) -> dict[str, float]:
    """Returns {"test/accuracy": …} of the merged statistics of splits; the file's numbers are among those of the results.

    Args:
        spec: specification of the run.
        experiment: what was trained, with the input specification of its checkpoint.
        seed: seed of the run.
        stats: {split: merged statistics}.
        state: host state that was measured.
        step: its step.
    """
    task, numbers = experiment.task, {split: summarise(experiment.task, part) for split, part in stats.items()}
    if task.count_file is not None:
        content, _, leaves = packed(spec, experiment, seed, state, step)
        numbers[experiment.data.report_split] |= task.count_file(leaves, len(content))
    return flat_metrics(numbers, task.primary_metric.name)


def restore(shapes: TrainState, path: pathlib.Path, *, best: bool) -> tuple[TrainState, dict[str, Any], int]:
    """Returns (host state, notes as those of a checkpoint, step) of a file, as `Checkpoints.restore` does of a run.

    Raises CheckpointError where the file is damaged, or its arrays are not those that the network needs.

    Args:
        shapes: the state as shapes.
        path: the file.
        best: whether the best weights on validation are wanted, of which a file knows nothing.
    """
    if best:
        raise UsageError(f"--best: {path} holds the weights of one step. Leave the flag out, or give the folder of the run.")
    notes, (leaves, _) = read_notes(path), network.read(path)
    try:
        state = state_of(shapes, without_codes(leaves))
    except ValueError as error:
        raise CheckpointError(
            f"{path} does not fill the network of {notes['experiment']}: {error}.\n"
            "It holds what a prediction needs. What else the task needs lies in the folder of the run alone."
        ) from None
    meta = {"seed": notes["seed"], "fingerprint": notes["data"]["fingerprint"], META: notes["inputs"]}
    return state, meta, notes["step"]
