"""The state with which a run begins: that of its newest checkpoint which is whole, or a fresh one."""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from cnnlab.core import Stats, TrainState
from cnnlab.engine import processes, train
from cnnlab.engine.checkpoint import Checkpoints
from cnnlab.engine.program import Program
from cnnlab.engine.skipping import LeftOut
from cnnlab.errors import DataError, UsageError
from cnnlab.runs import network_file, run_files
from cnnlab.runs.early_stopping import begun, reported_step
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.network_notes import is_network_file
from cnnlab.runs.trained_function import check_inputs, read_inputs, with_inputs

log = logging.getLogger("cnnlab")

LEFT_OUT = "skipped_steps"
"""Name of the number of steps that were left out, in metrics.jsonl and result.json; the notes of a checkpoint also have that of
the row in which it lies."""
LOSS_SCALE = "loss_scale"
"""Name of the scale of the loss at the latest step (engine/loss_scaling.py), in metrics.jsonl and result.json."""


def restore_or_init(
    program: Program, folder: pathlib.Path, checkpoints: Checkpoints, seed: int, spec: RunSpec
) -> tuple[Program, TrainState, dict[str, Any], int]:
    """Returns (program, placed state, meta, step) from the newest undamaged checkpoint, or initialised.

    On other data, which --allow=data accepts, the program prepares images as the checkpoint says: a run that goes on keeps its
    normalisation. Raises DataError where the data are not those of the checkpoint and others are not allowed, or where they
    have other classes or images that its network cannot take.
    """
    data = program.experiment.data
    if "data" in spec.allow and (trained := read_inputs(folder)):
        check_inputs(trained, data.inputs, name=data.name, folder=folder)

    def restore() -> tuple[TrainState, dict[str, Any], int] | None:
        found = checkpoints.restore(program.shapes)
        run_files.require_checkpoint_kept(folder, checkpoints.steps())
        return found

    restored = processes.agreed_state(restore, program.shapes)
    if restored is None:
        return program, program.init(seed), {}, 0
    state, meta, step = restored
    if meta["fingerprint"] != data.fingerprint and "data" not in spec.allow:
        raise DataError(
            f"the data set {data.name} changed since {folder} was begun (fingerprint {meta['fingerprint'][:12]}, now "
            f"{data.fingerprint[:12]}).\nRestore the old data, or give another --workdir to train on the new ones."
        )
    options = {"gradient_norms": spec.gradient_norms, "skip_nonfinite": spec.skip_nonfinite is not None, "remat": spec.remat}
    program = with_inputs(program, meta, folder, precision=spec.precision, **options)
    checkpoints.quarantine()
    log.info("going on from step %d of %d in %s", step, program.experiment.steps, folder)
    return program, program.strategy.to_devices(state), meta, step


def noted(program: Program, meta: Mapping[str, Any], start: int) -> dict[str, Any]:
    """Returns the fields of a run's recorder that the notes of a checkpoint give.

    Args:
        program: compiled experiment.
        meta: notes of the checkpoint with which the run goes on; {}: it begins.
        start: step of that checkpoint.
    """
    return {
        "start": start,
        "saved": start if meta else None,
        "pending_stats": pending_of(meta),
        "unmeasured": start if meta.get("unmeasured") else None,
        "early": begun(program.experiment, meta),
        "left_out": LeftOut(*meta.get(LEFT_OUT, ())),
    }


def pending_of(meta: Mapping[str, Any]) -> list[Stats]:
    """Returns the statistics since the last log that the notes of a checkpoint keep."""
    return [train.as_part({"sums": meta["recent"], "rows": {}})] if meta.get("recent") else []


def restore(program: Program, folder: pathlib.Path, *, best: bool) -> tuple[TrainState, dict[str, Any], int] | None:
    """Returns (host state, notes, step) of the checkpoint of a run whose weights are its result, or of the best one.

    In place of the folder of a run it may be the file of its network. Raises UsageError where the best one is wanted and none
    was validated.
    """
    if is_network_file(folder):
        return network_file.restore(program.shapes, folder, best=best)
    checkpoints = Checkpoints(folder / "checkpoints", ranked_by=program.experiment.task.primary_metric)
    wanted = checkpoints.best() if best else reported_step(checkpoints.newest_meta())
    found = checkpoints.restore(program.shapes, step=wanted, trains=False)  # damage is an error before that of the flag
    if best and wanted is None and found is not None:
        raise UsageError(
            f"--best: no checkpoint in {folder} was validated, so none is known to be the best.\n"
            "Expected a run with a validation split that was validated at a step that it saved. Without the flag the newest is "
            "taken."
        )
    return found
