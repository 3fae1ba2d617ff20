"""The verb train."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from cnnlab.cli import supervise
from cnnlab.cli.common import load, recorded_run, resolve, run_spec, seed_folders, seeds_from, setup_jax
from cnnlab.cli.groups import Console, Devices, Length, Limits, Memory, Pace, Processes
from cnnlab.values import Count, Duration, Seed, Target


def train(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    seed: Seed | None = None,
    seeds: Count = 1,
    stop_after: Count | None = None,
    overwrite: bool = False,
    allow: tuple[str, ...] = (),
    length: Length,
    devices: Devices,
    memory: Memory,
    processes: Processes,
    limits: Limits,
    pace: Pace,
    console: Console,
) -> int:
    """Trains the experiment, or continues an interrupted run.

    Args:
        values: the experiment's knobs.
        experiment: name of a file in experiments/, or the path of a .py file of your own; none: goes on with the run in
            --workdir, with its knobs, seed and intervals.
        workdir: folder of the run; none: runs/EXPERIMENT-HASH/seed_K, with a hash of the knobs.
        seed: seed of initial weights, data order, augmentation and dropout; none: that of the run in --workdir, or 0.
        seeds: number of seeds to train, from --seed on; reported as mean ± standard deviation.
        stop_after: stop at this step with a checkpoint, schedules unchanged; the command without this flag continues the run.
        overwrite: delete the run in the workdir and start afresh.
        allow: what may have changed since the run in the workdir was begun, of code, data, weights.
        length: how long to train.
        devices: devices and precision.
        memory: what a step keeps in memory.
        processes: several processes that train it together.
        limits: how long it may hang.
        pace: how often it is logged, evaluated and saved.
        console: what is shown.
    """
    if supervise.required(processes):
        return supervise.run_supervised(processes, pace.grace_s)
    console = join(processes, limits, devices, pace, console)
    if experiment is None and workdir and seeds == 1:
        begun, devices = recorded_run(workdir, devices)
        experiment, values, pace = begun["experiment"], as_begun(begun, values, length), recorded_pace(begun["flags"], pace)
        seed = begun["flags"]["seed"] if seed is None else seed
    numbers = seeds_from(seed or 0, seeds)
    loaded = load(experiment, values, devices)
    resolved = resolve(loaded, values, length)
    from cnnlab.runs import run

    folders = seed_folders(loaded, resolved, devices.number_format, workdir, numbers)
    spec = run_spec(loaded, resolved, devices, console, pace, memory, stop_after=stop_after, allow=allow)
    spec = dataclasses.replace(spec, step_timeout=limits.step_timeout)
    return run.train_seeds(resolved, spec, folders, overwrite=overwrite)


def join(processes: Processes, limits: Limits, devices: Devices, pace: Pace, console: Console) -> Console:
    """Connects this process with the others of its run, where it has a parent (supervise.py); returns what it shows.

    From then on signals ask all of them to stop, and this one ends with its parent.
    """
    if supervise.CHILD not in os.environ:
        return console
    setup_jax(devices.fake_devices)
    from cnnlab.ablation.run.local import bind_to_parent
    from cnnlab.engine.processes import Group, is_main, start
    from cnnlab.runs.stopping import group_request

    start(Group(processes.num_processes, processes.process_id, processes.coordinator, limits.start_timeout))
    group_request(pace.grace_s)
    bind_to_parent(int(os.environ[supervise.PARENT]), ())
    return console if is_main() else dataclasses.replace(console, log_level="error")


def as_begun(run: Mapping[str, Any], values: Mapping[str, str], length: Length) -> dict[str, Any]:
    """Returns the knobs of a run that was begun, those on the command line in their place.

    Args:
        run: the content of its run.json.
        values: knobs of the command line; the folder refuses what makes another run.
        length: the length of training on the command line; none: that of the run.
    """
    from cnnlab.knobs import merged

    recorded = {name: value for name, value in run["knobs"].items() if name != "duration" or not length.given}
    return merged(recorded, values)


def recorded_pace(recorded: Mapping[str, Any], pace: Pace) -> Pace:
    """Returns the intervals of a command, in which those that are not given are those of the run that it goes on with."""
    names = [name for name in ("log_every", "eval_every", "save_every") if recorded.get(name) and getattr(pace, name) is None]
    found: dict[str, Any] = {name: Duration.parse(recorded[name]) for name in names}
    if pace.gradient_norms is None:
        found["gradient_norms"] = bool(recorded.get("gradient_norms"))
    if pace.skip_nonfinite is None and recorded.get("skip_nonfinite"):
        found["skip_nonfinite"] = int(recorded["skip_nonfinite"])
    return dataclasses.replace(pace, **found)
