"""Carries out a compression: its stages as runs, the file, the tables and the page."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlab import inspect
from cnnlab.compress import page, report, stages
from cnnlab.compress.report import Compression, Reached
from cnnlab.compress.sizes import sizes_of
from cnnlab.compress.stages import Stage
from cnnlab.compressed import F32_BYTES, network
from cnnlab.core import Experiment
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.files import naming_errors, write_bytes, write_text
from cnnlab.interop import files
from cnnlab.knobs import Resolved
from cnnlab.runs import network_file, run, run_files
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.summaries import reported
from cnnlab.terminal import Terminal

PAGE = ".html"


@dataclasses.dataclass(frozen=True)
class Request:
    """A run that is to be compressed, and where its stages are kept."""

    experiment: ExperimentFile
    folder: pathlib.Path
    """Folder of the run."""
    seed: int
    whole: Resolved
    """What `stages.compression` returned."""
    steps: int
    """Of both stages."""
    target: pathlib.Path
    overwrite: bool
    spec_of: Callable[[Resolved], RunSpec]
    folder_of: Callable[[Resolved], pathlib.Path]


def compress(request: Request) -> int:
    """Trains the stages that are not finished, writes the file and its page, prints the tables; returns the exit code."""
    dense = _finished(request.folder)
    parts = _parts(request)
    done = [run_files.finished_result(folder) is not None for _, folder in parts]
    _require_free(request, is_done=all(done))
    title = f"compress {request.folder} ({request.experiment.title}, seed {request.seed})"
    rows = [
        (stage.name, stage.does, stage.steps, folder, is_done) for (stage, folder), is_done in zip(parts, done, strict=True)
    ]
    print("\n".join(report.plan_lines(title, rows, dense.get("step_seconds"))), flush=True)
    for stage, folder in parts:
        spec = request.spec_of(stage.resolved)
        if code := run.train_seeds(stage.resolved, spec, {request.seed: folder}, overwrite=False):
            return code
    found = _written(request, parts, dense)
    terminal = Terminal.of_stdout()
    place = request.target.with_suffix(PAGE)
    write_text(place, page.as_html(found))
    coded = {layer.name: layer.size for layer in found.sizes.layers}
    tables = [network.as_table(coded, found.sizes.file, terminal), report.as_table(found, terminal)]
    print("\n".join(["", *(f"{one}\n" for one in tables), f"{found.lead}\n  in {request.target}; the page is {place}"]))
    return 0


def _finished(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the result of a run; raises UsageError where it has none yet."""
    result = run_files.finished_result(folder)
    if result is None:
        raise UsageError(f"{folder} is not trained to its end, so there is no error to compare with.\nTrain it first.")
    return result


def _parts(request: Request) -> list[tuple[Stage, pathlib.Path]]:
    """Returns the stages with their folders, which their knobs name: a stage that is finished is found again."""
    first = stages.pruned(request.experiment, request.whole, request.steps)
    folder = request.folder_of(first.resolved)
    second = stages.shared(request.experiment, request.whole, request.steps, str(folder))
    return [(first, folder), (second, request.folder_of(second.resolved))]


def _require_free(request: Request, *, is_done: bool) -> None:
    """Raises UsageError, before anything is trained, where the file is there already and may be another one."""
    if request.overwrite:
        return
    target, place = request.target, request.target.with_suffix(PAGE)
    if target.exists() and not is_done:
        raise UsageError(f"--to={target} is there already. Give another name, or --overwrite to replace it.")
    if place.exists() and not target.exists():  # the page of another file, or none of ours
        raise UsageError(f"--to={target}: its page {place} is there already. Give another name, or --overwrite to replace it.")


def _written(request: Request, parts: list[tuple[Stage, pathlib.Path]], dense: Mapping[str, Any]) -> Compression:
    """Writes the file of the last stage, reads it again, and returns what is to be shown.

    Raises UsageError where another file is in its place, CheckpointError where what is read has other bits.
    """
    (_, before), (last, folder) = parts
    spec = request.spec_of(last.resolved)
    program, state, step = run.restore_run(last.resolved, spec, folder, best=False, opens_data=False)
    content, sizes, leaves = network_file.packed(spec, program.experiment, request.seed, state, step)
    with naming_errors(request.target):
        if request.target.exists() and not request.overwrite and request.target.read_bytes() != content:
            raise UsageError(f"--to={request.target} holds other bytes. Give another name, or --overwrite to replace it.")
    write_bytes(request.target, content)
    again, _ = network.read(request.target)
    if different := [name for name, leaf in leaves.items() if leaf.tobytes() != again[name].tobytes()]:
        raise CheckpointError(f"{request.target}: {different[0]} came back with other bits. Write it again.")
    counted = sizes_of(files.read(before), leaves, sizes, len(content))
    results = [dense, *(_finished(place) for _, place in parts)]
    split = reported(dense["metrics"])[0]
    does = ["as it was trained", *(stage.does for stage, _ in parts)]
    named = zip(["dense", *(stage.name for stage, _ in parts)], [request.folder, *(place for _, place in parts)], strict=True)
    reached = tuple(
        _reached(name, said, place, result, split, F32_BYTES * counted.numbers)
        for (name, place), said, result in zip(named, does, results, strict=True)
    )
    return Compression(
        title=request.experiment.title,
        data=program.experiment.data.name,
        seed=request.seed,
        target=request.target,
        stages=reached,
        sizes=counted,
        metric=report.metric_of(dense, split),
        split=split,
        macs=_macs(program.experiment, leaves),
    )


def _reached(name: str, does: str, folder: pathlib.Path, result: Mapping[str, Any], split: str, f32: int) -> Reached:
    """Returns what a run reached; one that prunes nothing counts as f32."""
    metrics = result["metrics"]
    size, density = (metrics.get(f"{split}/{number}") for number in ("file_bytes", "density"))
    return Reached(
        name,
        does,
        folder,
        metrics,
        result["steps"],
        result["wall_seconds"],
        int(size or f32),
        1.0 if density is None else density,
    )


def _macs(experiment: Experiment, leaves: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns {name of a kernel: multiply-accumulates of one example by all of its weights}."""
    layers = inspect.of_experiment(experiment)
    return {name: layer.macs for layer in layers if (name := f"params/{layer.name}/kernel") in leaves}
