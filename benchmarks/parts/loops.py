"""What stands around the step: the loop, the start of a command, compilation, and `--help`."""

import pathlib
import sys
import tempfile
from collections.abc import Mapping

from benchmarks.measure import ROOT, Run, in_turns, of_command, together
from benchmarks.settings import Settings
from benchmarks.tables import Table, lines_of

FIT, BARE = "fit", "bare step"
OURS, LIBRARY = "cnnlab", "library's convolutions"
RECOMPILED = "programs compiled after the first step"
COLD, WARM = "cold cache", "warm cache"
STRIPES = {"dataset": "stripes", "dataset.size": 28, "dataset.examples": 10_000, "dataset.classes": 10}
STARTS: Mapping[str, tuple[str, ...]] = {
    "lenet5": ("--experiment=lenet5_digits",),
    "resnet18": ("--experiment=lenet5_digits", "--model=resnet18", "--model.stem=small"),
}


def fit(settings: Settings, *, experiment: str = "lenet5_mnist", length: float = 1.5) -> Table:
    """Measures `fit` (feeds, statistics, logs to a file and to TensorBoard) against the compiled step on feeds that lie ready.

    Args:
        settings: how the benchmark was called.
        experiment: name of a file in experiments/; the images are stripes of 28x28.
        length: seconds of a measurement.
    """
    worker = settings.worker("benchmarks.workers.program", experiment=experiment, given=STRIPES)
    seconds = settings.seconds if settings.quick else length
    how = {**settings.how, "seconds": seconds}
    _, found = together({FIT: (worker, "fit"), BARE: (worker, "bare")}, **how)
    # The worker is one process for both: it has compiled all when each has taken its first steps.
    counts = [told["compilations"] for measured in found.values() for told in measured.told[1:]]
    again = max(counts) - min(counts) if counts else 0
    assert not again, f"{experiment}: {again} programs were compiled after the first step"
    more = {FIT: {RECOMPILED: again}}
    title = f"{experiment}: the loop and its bare step"
    return Table("loops", "fit", title, "ms", over=(BARE,), **lines_of(found, "ms", more))


def start(settings: Settings, *, net: str, runs: int = 3) -> Table:
    """Measures the time from the command to its first finished step, with an empty and with a filled cache.

    Args:
        settings: how the benchmark was called.
        net: name in STARTS.
        runs: number of commands of either kind.
    """
    warm = settings.folder / f"start-{net}"
    words = [sys.executable, str(ROOT / "launch.py"), *STARTS[net], "--steps=4", "--log_every=1 steps", "--workdir=run"]

    def to_first_step(cache: pathlib.Path | None) -> Run:
        def run(steps: int) -> object:
            with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
                environment = {"XDG_CACHE_HOME": str(cache or folder), "PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
                # Where steps are fast, the first line may be that of the second or third.
                return of_command(words, until="step ", cwd=folder, env=environment)

        return run

    to_first_step(warm)(1)
    commands = {COLD: to_first_step(None), WARM: to_first_step(warm)}
    found = in_turns(commands, rounds=min(runs, settings.rounds), seconds=0, say=settings.say)
    table = Table("loops", f"start_{net}", f"{' '.join(STARTS[net])}: to the first step", "s", **lines_of(found, "s"))
    for line in table.lines:
        line.cpu = []  # the wall time is what a person waits for
    return table


def compile_resnet50(settings: Settings, *, runs: int = 2, batch: int = 32, side: int = 224) -> Table:
    """Measures tracing and compiling a step of ResNet-50, with cnnlab's convolutions and with the library's.

    Args:
        settings: how the benchmark was called.
        runs: number of compilations of either kind.
        batch: images of the step, which is not run.
        side: of the images.
    """
    given = {"batch": batch, "side": side}
    workers = {name: settings.worker("benchmarks.workers.compiling", kind=name, **given) for name in (OURS, LIBRARY)}
    how = {**settings.how, "rounds": min(runs, settings.rounds), "seconds": 0}
    _, found = together({name: (worker, "compile") for name, worker in workers.items()}, **how)
    more = {name: {"tracing s": measured.told[-1]["lower"]} for name, measured in found.items() if measured.told}
    title = f"Compiling a step of ResNet-50, {batch} images of {side}x{side}"
    return Table("loops", "compile_resnet50", title, "s", over=(LIBRARY,), **lines_of(found, "s", more))


def show_help(settings: Settings) -> Table:
    """Measures `launch.py --help`."""
    words = [sys.executable, str(ROOT / "launch.py"), "--help"]
    found = in_turns(
        {"--help": lambda steps: of_command(words, cwd=ROOT, env={})}, rounds=settings.rounds, seconds=0, say=settings.say
    )
    return Table("loops", "help", "launch.py --help", "s", **lines_of(found, "s"))
