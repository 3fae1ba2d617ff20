"""Steps that several verbs share: start jax, load the experiment, fill in its knobs, find the folders of runs."""

import dataclasses
import logging
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cnnlab import home
from cnnlab.cli.groups import Console, Devices, Length, Memory, Pace
from cnnlab.errors import UsageError
from cnnlab.values import LARGEST_SEED

if TYPE_CHECKING:  # these modules import jax, which --help and list do without
    from cnnlab.knobs import Resolved
    from cnnlab.runs.experiments import ExperimentFile
    from cnnlab.runs.folder import RunSpec


log = logging.getLogger("cnnlab")


class NoExperiment(UsageError):
    """No experiment is named; `words` are those among which its name may be misspelt."""

    def __init__(self, words: Mapping[str, str]) -> None:
        super().__init__(f"which experiment? Add --experiment=NAME; `{home.COMMAND} list` shows them.")
        self.words = tuple(words)


def setup_jax(fake_devices: int | None) -> None:
    """Sets what must stand before jax starts (devices, threads, kernels), then the persistent compilation cache.

    Raises UsageError where jax runs already in this process with another number of devices than the flag gives.
    """
    if fake_devices:
        _split_cpu(fake_devices)
    _choose_kernels()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from cnnlab.engine.parallel import use_compilation_cache

    use_compilation_cache()


def _choose_kernels() -> None:
    """Has XLA leave convolutions to Eigen on an x86 CPU without AVX-512, where those of its YNN library are slow.

    Steps then take 0.4 to 0.95 of the time (benchmarks kernels), and weight gradients down to a twentieth (3x3, 32 to 32 at
    28x28, batch 64: 20 ms for 400). With AVX-512 there is little between them. A choice of one's own in $XLA_FLAGS stands.
    """
    name, given = "--xla_cpu_experimental_ynn_fusion_type", os.environ.get("XLA_FLAGS", "")
    if name not in given and lacks_avx512():
        os.environ["XLA_FLAGS"] = f"{given} {name}=-individual_convolution".strip()


def lacks_avx512() -> bool:
    """Returns whether this is an x86 CPU without AVX-512, as Linux tells it; what cannot be asked does not lack it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            features = next((line for line in lines if line.startswith("flags")), "avx512f")
    except OSError:
        return False
    return "avx512f" not in features.split()


def _split_cpu(count: int) -> None:
    """Makes jax see `count` devices on the CPU."""
    names = ("XLA_FLAGS", "JAX_PLATFORMS", "PJRT_NPROC")
    before = {name: os.environ[name] for name in names if name in os.environ}
    was_imported = "jax" in sys.modules
    flag = f"--xla_force_host_platform_device_count={count}"
    if flag not in before.get("XLA_FLAGS", "").split():
        os.environ["XLA_FLAGS"] = f"{before.get('XLA_FLAGS', '')} {flag}".strip()
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Fewer threads than devices that wait for each other is a deadlock.
    os.environ.setdefault("PJRT_NPROC", str(max(16, 4 * count)))
    if not was_imported:
        return
    import jax

    if (there := len(jax.local_devices())) != count or jax.default_backend() != "cpu":
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
        raise UsageError(
            f"--fake_devices={count}: jax runs in this process already, with {there} {jax.default_backend()} device(s).\n"
            "Give the flag to the first command of the process, or start a process of its own."
        )


def load(name: str | None, words: Mapping[str, str], devices: Devices) -> "ExperimentFile":
    """Loads the experiment of --experiment. Imports jax.

    Args:
        name: the experiment as on the command line.
        words: the knobs that are given with it.
        devices: the devices that it will run on.
    """
    if not name:
        raise NoExperiment(words)
    setup_jax(devices.fake_devices)
    from cnnlab.runs.experiments import load_experiment

    return load_experiment(name, data_dir=devices.data_dir)


def announce_code(experiment: str, place: pathlib.Path) -> None:
    """Says which file of code is about to be executed because a folder, which may be somebody else's, names it."""
    if experiment.endswith(".py"):
        log.warning("running the code of %s, which %s names", pathlib.Path(experiment).absolute(), place)


def recorded_run(workdir: str, devices: Devices) -> tuple[dict[str, Any], Devices]:
    """Returns (run.json of the run in a folder, the devices with the precision and, where it is here, the data of that run).

    Says which file of code is about to be executed. Raises UsageError where the flags give another precision than the run's.
    """
    from cnnlab.runs.run_files import read_run

    run = read_run(pathlib.Path(workdir))
    announce_code(run["experiment"], pathlib.Path(workdir) / "run.json")
    known = run["flags"].get("data_dir")
    if devices.data_dir is None and known and pathlib.Path(known).is_dir():  # the run may come from another machine
        devices = dataclasses.replace(devices, data_dir=known)
    precision = run["flags"]["precision"]
    if devices.precision not in (None, precision):
        raise UsageError(f"--precision={devices.precision}: the run in {workdir} computes in {precision}. Leave the flag out.")
    return run, dataclasses.replace(devices, precision=precision)


def seeds_from(seed: int, count: int) -> range:
    """Returns the seeds of --seed and --seeds; raises UsageError where the last one is no seed any more."""
    if seed + count - 1 > LARGEST_SEED:
        raise UsageError(
            f"--seed={seed} --seeds={count}: the last seed would be {seed + count - 1}, expected at most {LARGEST_SEED}.\n"
            "Give a smaller --seed."
        )
    return range(seed, seed + count)


def resolve(experiment: "ExperimentFile", values: Mapping[str, Any], length: Length | None = None) -> "Resolved":
    """Returns the experiment with its knobs filled in from the command line."""
    from cnnlab.choices import parameters

    duration = length.knobs() if length else {}
    if duration and not any(name == "duration" for name, *_ in parameters(experiment.function)):
        raise UsageError(f"--{length.given if length else ''}: this experiment has no duration to set.")
    if duration and "duration" in values:
        raise UsageError(f"--duration and --{length.given if length else ''} both say how long to train. Keep one.")
    resolved = experiment.resolve({**values, **duration})
    from cnnlab.cli.verbs import run_flags

    names = run_flags()  # of all verbs, from their signatures
    if hidden := [path for path in resolved.knobs if path in names]:
        raise UsageError(
            f"{experiment.name}: its knob --{hidden[0]} has the name of a run flag, so it cannot be set. Rename the knob."
        )
    return resolved


def run_spec(
    experiment: "ExperimentFile",
    resolved: "Resolved",
    devices: Devices,
    console: Console,
    pace: Pace | None = None,
    memory: Memory | None = None,
    *,
    stop_after: int | None = None,
    allow: Sequence[str] = (),
) -> "RunSpec":
    """Returns the specification of a run: what is trained and how."""
    from cnnlab.runs.folder import RunSpec
    from cnnlab.runs.identity import check_allow

    check_allow(allow)
    pace = pace or Pace()
    return RunSpec(
        experiment=experiment.name,
        knobs=resolved.values,
        given=resolved.given,
        source=experiment.source,
        precision=devices.number_format,
        strategy=devices.strategy,
        devices=devices.devices,
        stop_after=stop_after,
        log_every=pace.log_every,
        eval_every=pace.eval_every,
        save_every=pace.save_every,
        steps_per_dispatch=pace.steps_per_dispatch,
        gradient_norms=bool(pace.gradient_norms),
        skip_nonfinite=pace.skip_nonfinite,
        remat=(memory or Memory()).remat,
        grace_seconds=pace.grace_s,
        data_dir=devices.data_dir,
        quiet=console.quiet,
        reread=resolved.reread,
        sources=experiment.sources(resolved),
        allow=tuple(allow),
    )


def seed_folders(
    experiment: "ExperimentFile", resolved: "Resolved", precision: str, workdir: str | None, seeds: range
) -> dict[int, pathlib.Path]:
    """Returns {seed: folder of its run}: the workdir itself for one seed, else seed_K below it or the run's own folder."""
    from cnnlab.runs.find import RunFinder

    if workdir and len(seeds) == 1:
        return {seeds[0]: pathlib.Path(workdir)}
    runs = pathlib.Path("runs")
    above = pathlib.Path(workdir) if workdir else runs / RunFinder(runs, experiment, precision).folder_of(resolved)
    return {seed: above / f"seed_{seed}" for seed in seeds}
