"""Picks what trains the runs of a study by --launcher and --launcher_options. Imports no jax."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.command import Batching
from cnnlab.cli.groups import Devices, Launching
from cnnlab.errors import UsageError

if TYPE_CHECKING:
    from cnnlab.ablation.run.scheduler import Scheduling
    from cnnlab.core import Strategy

Check = Callable[[Study, pathlib.Path, "Scheduling"], str]
"""(planned study, its folder, how it is spread) -> text on what workers ask for; raises UsageError where none can start."""


@dataclasses.dataclass(frozen=True)
class Launcher:
    """Where the runs of a study are trained."""

    run: Callable[..., int]
    """Trains them: `run_locally`, `run_on_slurm` or `run_on_ray` with its options."""
    check: Check
    """Asks the engine whether it would take the workers; starts none."""
    is_elsewhere: bool
    """Whether that is on other machines, whose devices are not known here."""


def launcher(launching: Launching, batching: Batching, devices: Devices) -> Launcher:
    """Returns the launcher of the flags. Raises UsageError for wrong options, and where the engine is not installed."""
    from cnnlab.ablation.run import local, ray, slurm
    from cnnlab.ablation.run.options import parse_options, typed
    from cnnlab.ablation.run.slurm_script import job_options

    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the accelerator's memory is for the workers
    if batching.batch_runs == "always" and devices.strategy != "jit":
        raise UsageError(f"--batch_runs=always is for --strategy=jit, not {devices.strategy}. Leave one of them out.")
    pairs = parse_options(launching.launcher_options)
    if launching.launcher == "slurm":
        options = job_options(pairs)
        slurm.require_slurm()
        check = functools.partial(slurm.check_slurm, options=options)
        return Launcher(functools.partial(slurm.run_on_slurm, options=options), check, is_elsewhere=True)
    if launching.launcher == "ray":
        ray.actor_class(typed(pairs))  # raises for what is missing or misspelt before the study is planned
        check = functools.partial(ray.check_ray, options=typed(pairs))
        return Launcher(functools.partial(ray.run_on_ray, options=typed(pairs)), check, is_elsewhere=True)
    if pairs:
        raise UsageError("--launcher_options are for --launcher=slurm and --launcher=ray; local workers take --jobs alone.")
    return Launcher(local.run_locally, lambda *_: "", is_elsewhere=False)


def planned_strategy(devices: Devices, trainer: Launcher) -> "Strategy":
    """Returns the strategy by which a study is checked, with the number of its devices, which may be on other machines."""
    from cnnlab.engine.parallel import STRATEGIES, pick_devices

    if not trainer.is_elsewhere or devices.devices is None:
        return STRATEGIES[devices.strategy](pick_devices(devices.devices))
    (one,) = pick_devices(1)
    stand_ins: tuple[Any, ...] = (one,) * devices.devices  # nothing is placed on them: a plan counts them
    return dataclasses.replace(STRATEGIES[devices.strategy]((one,)), devices=stand_ins)
