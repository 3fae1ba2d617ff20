"""The verb that makes a trained network small: compress."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnlab.cli.common import load, recorded_run, run_spec, seed_folders, setup_jax
from cnnlab.cli.groups import Console, Devices, Length, Limits, Memory, Pace
from cnnlab.compressed import SUFFIX
from cnnlab.errors import UsageError
from cnnlab.values import Duration, Target

if TYPE_CHECKING:  # these modules import jax, which --help does without
    from cnnlab.knobs import Resolved
    from cnnlab.runs.folder import RunSpec


def compress(
    values: dict[str, str],
    /,
    *,
    workdir: Target | None = None,
    to: Target | None = None,
    overwrite: bool = False,
    allow: tuple[str, ...] = (),
    length: Length,
    devices: Devices,
    memory: Memory,
    limits: Limits,
    pace: Pace,
    console: Console,
) -> int:
    """Makes the network of a run small: prune, retrain, share values, retrain, Huffman codes; a file and a page.

    The stages are runs of their own, each from the weights before it. The same command goes on where it was stopped.
    FILE.cnnz is used in place of a run: `evaluate --workdir=FILE.cnnz`. Beside it lies FILE.html, the page.

    Args:
        values: knobs of compression, such as density, density_by_layer, rounds, bits and bits_by_layer, or others of the run.
        workdir: folder of the trained run.
        to: the file, FILE.cnnz.
        overwrite: replace the file.
        allow: what may have changed since the runs were begun, of code, data, weights.
        length: length of both stages together; none: as long as the run was trained.
        devices: on what they are trained.
        memory: what a step keeps in memory.
        limits: how long a stage may hang.
        pace: how often they are logged, evaluated and saved.
        console: what is shown.
    """
    workdir, to = _required(workdir, to)
    setup_jax(devices.fake_devices)
    begun, devices = recorded_run(workdir, devices)
    loaded = load(begun["experiment"], values, devices)
    from cnnlab.compress import command, stages

    whole = stages.compression(loaded, begun["knobs"], values, workdir)
    seed = begun["flags"]["seed"]

    def spec_of(resolved: "Resolved") -> "RunSpec":
        spec = run_spec(loaded, resolved, devices, console, pace, memory, allow=allow)
        return dataclasses.replace(spec, step_timeout=limits.step_timeout)

    request = command.Request(
        loaded,
        pathlib.Path(workdir),
        seed,
        whole,
        _steps(begun, whole, length),
        pathlib.Path(to),
        overwrite,
        spec_of,
        lambda resolved: seed_folders(loaded, resolved, devices.number_format, None, range(seed, seed + 1))[seed],
    )
    return command.compress(request)


def _required(workdir: Target | None, to: Target | None) -> tuple[Target, Target]:
    """Returns the folder of the run and the file; raises UsageError where one is missing or cannot be meant."""
    if not workdir:
        raise UsageError("compress which run? Add --workdir=RUN, the folder of a trained run.")
    if not to or pathlib.Path(to).suffix != SUFFIX:
        raise UsageError(f"compress to what? Add --to=FILE{SUFFIX}.")
    if not pathlib.Path(to).parent.is_dir():
        raise UsageError(f"--to={to}: there is no folder {pathlib.Path(to).parent}.")
    if pathlib.Path(workdir).suffix == SUFFIX:
        raise UsageError(f"--workdir={workdir} is compressed. Give the folder of the run that it comes from.")
    return workdir, to


def _steps(begun: Mapping[str, Any], whole: "Resolved", length: Length) -> int:
    """Returns the steps of both stages: those on the command line, else those of the run.

    Args:
        begun: run.json of the run.
        whole: its experiment with the knobs of compression.
        length: the length on the command line.
    """
    steps = int(begun["steps"])
    if given := length.knobs():
        size = begun["data"]["sizes"]["train"]
        batch_size = next((value for name, value in whole.values.items() if name.rpartition(".")[2] == "batch_size"), None)
        steps = Duration.parse(given["duration"]).steps(size=size, batch_size=batch_size or size)
    if steps < 2:
        raise UsageError(f"compress: {steps} steps are too few for two stages. Add --steps, --epochs or --examples_seen.")
    return steps
