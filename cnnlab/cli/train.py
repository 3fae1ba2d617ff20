"""The verb train."""

from cnnlab.cli.common import load, resolve, run_spec, seed_folders, seeds_from
from cnnlab.cli.groups import Console, Devices, Length, Pace
from cnnlab.values import Count, Seed, Target


def train(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    workdir: Target | None = None,
    seed: Seed = 0,
    seeds: Count = 1,
    stop_after: Count | None = None,
    overwrite: bool = False,
    allow: tuple[str, ...] = (),
    length: Length,
    devices: Devices,
    pace: Pace,
    console: Console,
) -> int:
    """Trains the experiment, or continues an interrupted run.

    Args:
        values: the experiment's knobs.
        experiment: name of a file in experiments/, or the path of a .py file of your own.
        workdir: folder of the run; none: runs/EXPERIMENT-HASH/seed_K, with a hash of the knobs.
        seed: seed of initial weights, data order, augmentation and dropout.
        seeds: number of seeds to train, from --seed on; reported as mean ± standard deviation.
        stop_after: stop at this step with a checkpoint, schedules unchanged; the command without this flag continues the run.
        overwrite: delete the run in the workdir and start afresh.
        allow: what may have changed since the run in the workdir was begun, of code, data, weights.
        length: how long to train.
        devices: devices and precision.
        pace: how often it is logged, evaluated and saved.
        console: what is shown.
    """
    numbers = seeds_from(seed, seeds)
    loaded = load(experiment, values, devices)
    resolved = resolve(loaded, values, length)
    from cnnlab.runs import run

    folders = seed_folders(loaded, resolved, devices.precision, workdir, numbers)
    spec = run_spec(loaded, resolved, devices, console, pace, stop_after=stop_after, allow=allow)
    return run.train_seeds(resolved, spec, folders, overwrite=overwrite)
