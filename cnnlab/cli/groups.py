"""Run flags that several verbs share. A verb takes a group as one argument; its fields are flags. Imports no jax."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cnnlab.errors import UsageError
from cnnlab.values import Count, Duration, NonNegative, PathText, Range


@dataclasses.dataclass(frozen=True)
class Console:
    """Console output.

    Attributes:
        log_level: how much is written to stderr; warning also hides the progress.
        debug: show the traceback of an error.
        help: show this help; with --experiment, its knobs too.
    """

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    debug: bool = False
    help: bool = False

    @property
    def quiet(self) -> bool:
        """Whether no progress is shown."""
        return self.log_level in ("warning", "error")


@dataclasses.dataclass(frozen=True)
class Length:
    """Length of training, instead of the experiment's own duration.

    Attributes:
        steps: length of training in steps.
        epochs: length of training in epochs.
        examples_seen: length of training in examples.
    """

    steps: NonNegative | None = None
    epochs: NonNegative | None = None
    examples_seen: NonNegative | None = None

    @property
    def given(self) -> str | None:
        """The name of the flag that is given; UsageError where there are several."""
        names = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]
        if len(names) > 1:
            raise UsageError(f"--{names[0]} and --{names[1]} both set the length of training. Keep one.")
        return names[0] if names else None

    def knobs(self) -> dict[str, str]:
        """Returns the knob `duration` as text; {} where no flag of the group is given."""
        if (name := self.given) is None:
            return {}
        return {"duration": str(Duration(getattr(self, name), name.removesuffix("_seen")))}


@dataclasses.dataclass(frozen=True)
class Devices:
    """Devices and precision.

    Attributes:
        strategy: how several devices share the work.
        devices: how many devices to use; none: all.
        fake_devices: split the CPU into this many devices, to try a strategy without the hardware.
        precision: number format in which the network computes; none: f32, or that of the run in --workdir. Parameters stay f32;
            f16 scales the loss, and leaves steps out whose gradients overflow.
        data_dir: folder of prepared TFDS data sets; none: $TFDS_DATA_DIR or ~/tensorflow_datasets.
    """

    strategy: Literal["jit", "pmap", "fsdp"] = "jit"
    devices: Count | None = None
    fake_devices: Count | None = None
    precision: Literal["f32", "bf16", "f16"] | None = None
    data_dir: PathText | None = None

    @property
    def number_format(self) -> Literal["f32", "bf16", "f16"]:
        """The precision; f32 where none is given."""
        return self.precision or "f32"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of a training step.

    Attributes:
        remat: what the backward pass computes again instead of keeping it: full, all but a few values between parts of the
            network; save_matmuls, the same without convolutions and matrix products; offload, as full, with these values in the
            memory of the host. None of them changes the numbers, but for rounding.
    """

    remat: Literal["none", "full", "save_matmuls", "offload"] = "none"


@dataclasses.dataclass(frozen=True)
class Processes:
    """Several processes that train one run together, on one host or on several.

    Attributes:
        num_processes: how many processes share the devices' work; none: one, or as many tasks as `srun` started, or as many
            hosts as a TPU slice on Kubernetes has.
        process_id: number of this process, from 0; none: this command starts all of them on this host.
        coordinator: HOST:PORT at which process 0 awaits the others; none: a free port of this host.
    """

    num_processes: Count | None = None
    process_id: Annotated[int, Range(0)] | None = None
    coordinator: str | None = None


@dataclasses.dataclass(frozen=True)
class Limits:
    """Time limits of what hangs.

    Attributes:
        step_timeout: seconds without a step, compilation included, after which a process that trains is taken to hang and
            ends; none: 600 where it is one of several, 3600 in a study on this machine, else there is no limit.
        start_timeout: seconds that several processes wait for one another at the start.
    """

    step_timeout: Count | None = None
    start_timeout: Count = 120


@dataclasses.dataclass(frozen=True)
class Pace:
    """Intervals and contents of logs, evaluations and checkpoints, and what ends a run early.

    Attributes:
        log_every: interval between log lines; none: 20 lines a run, at most 50 steps apart.
        eval_every: interval between evaluations; none: about 20 evaluations a run.
        save_every: interval between checkpoints; none: one at every evaluation.
        steps_per_dispatch: most steps sent to the device at once; none: 1 on a CPU, 32 on an accelerator.
        gradient_norms: log the norm of each player's gradient, and that of its updates relative to its parameters; neither it
            nor --nogradient_norms given: as the run in --workdir did.
        skip_nonfinite: leave out, and count, steps whose loss or gradients are not finite, at most so many in a row; none: the
            first of them ends the run as diverged, or with --precision=f16 more than 32 in a row.
        grace_s: seconds after SIGTERM, Ctrl-C or SIGUSR2 within which the run leaves, with a checkpoint of the current step if
            that is reached by then.
    """

    log_every: Duration | None = None
    eval_every: Duration | None = None
    save_every: Duration | None = None
    steps_per_dispatch: Count | None = None
    gradient_norms: bool | None = None
    skip_nonfinite: Count | None = None
    grace_s: Count = 50


@dataclasses.dataclass(frozen=True)
class Launching:
    """Processes that train the runs of a study.

    Attributes:
        jobs: number of workers at once, each with its share of the cores, one accelerator, or a Slurm job or Ray actor.
        max_attempts: how often a run is started in all if it fails.
        fail_fast: stop at the first failure instead of finishing the rest.
        launcher: where runs are trained: processes on this machine, Slurm jobs, or Ray actors.
        launcher_options: KEY=VALUE for each worker; slurm: long flags of sbatch, such as partition=gpu,time=60,gpus_per_node=1,
            and setup=COMMAND for a line before the worker; ray: address=auto,num_gpus=1.
    """

    jobs: Count = 1
    max_attempts: Count = 1
    fail_fast: bool = False
    launcher: Literal["local", "slurm", "ray"] = "local"
    launcher_options: tuple[str, ...] = ()


def as_words(groups: Sequence[Any]) -> list[str]:
    """Returns `--NAME=VALUE` of every flag in the groups that differs from its default."""
    words = []
    for group in groups:
        for field in dataclasses.fields(group):
            if (value := getattr(group, field.name)) != field.default:
                words.append(f"--{field.name}={value}")
    return words
