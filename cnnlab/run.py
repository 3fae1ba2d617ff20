"""One run from its beginning, or from where it was, to its last words.

run.json       what is run: experiment, knobs, run flags, versions, commit, devices, data fingerprint, source
status.json    RUNNING, DONE, STOPPED, PREEMPTED, DIVERGED or FAILED, with step, process and time
metrics.jsonl  a line for every log and every evaluation
result.json    the final numbers, steps, wall seconds, digests of parameters and of the whole state
test_rows.npz  what was predicted for every test example
snapshots/     what a generative model made, at every evaluation
checkpoints/ tensorboard/ figures/
"""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from PIL import Image

from cnnlab import figures, train, write
from cnnlab.checkpoint import Checkpoints, digest
from cnnlab.core import Batch, Experiment, Stats, TrainState
from cnnlab.errors import CheckpointError, CnnlabError, DataError, DivergedError, Preempted
from cnnlab.folder import Plan, check_folder, empty, finished, locked, provenance, recorded
from cnnlab.knobs import Resolved
from cnnlab.parallel import STRATEGIES, check_batch, pick_devices
from cnnlab.values import Duration

log = logging.getLogger("cnnlab")

SPLITS = ("train", "validation", "test")
ON_ACCELERATOR = 32
"""Steps sent to an accelerator at once; one on a CPU, where a convolution inside a loop is slow."""
WATCHED = 32
"""Held-out examples that a task's snapshots are made with."""


def cadence(plan: Plan, experiment: Experiment, backend: str) -> train.Cadence:
    """Steps between logs, evaluations and checkpoints; by default about 20 evaluations a run, never oftener than an epoch."""
    data, steps = experiment.data, max(1, experiment.steps)

    def every(wanted: Duration | None, default: int) -> int:
        return max(1, wanted.steps(size=data.sizes["train"], batch_size=data.batch_size) if wanted else default)

    epoch = math.ceil(data.sizes["train"] / data.batch_size)
    evaluate = every(plan.eval_every, max(epoch, math.ceil(steps / 20)))
    return train.Cadence(
        log=every(plan.log_every, min(50, max(1, steps // 20))),
        evaluate=evaluate,
        save=every(plan.save_every, evaluate),
        dispatch=plan.dispatch or (1 if backend == "cpu" else ON_ACCELERATOR),
    )


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields `should_stop`, true once SIGTERM or Ctrl-C came; a second signal ends the process at once."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        log.warning("\n%s: saving a checkpoint; once more to leave at once.", signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclasses.dataclass
class _Run:
    """What the callbacks of one run share."""

    program: train.Program
    folder: pathlib.Path
    plan: Plan
    seed: int
    checkpoints: Checkpoints
    writers: list[write.Writer]
    images: Callable[[int, Mapping[str, np.ndarray]], None]
    """Writer of pictures u8 [H, W, 3] by name."""
    wall_before: float
    began: float = dataclasses.field(default_factory=time.monotonic)
    measured: tuple[int, dict[str, float]] = (-1, {})
    """The latest validation numbers, after the step at which they were taken."""
    step: int = 0
    """The last step that is known to be done."""
    attempt: int = 1
    """How often the run was begun or gone on with."""

    @property
    def wall_seconds(self) -> float:
        return self.wall_before + time.monotonic() - self.began

    def status(self, state: str, step: int, **more: Any) -> None:
        self.step = step
        process = f"process {os.getpid()} on {socket.gethostname()}"
        content = {
            "state": state,
            "step": step,
            "steps": self.program.experiment.steps,
            "attempt": self.attempt,
            "process": process,
            "time": time.time(),
        }
        write.write_json(self.folder / "status.json", content | more)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        data = self.program.experiment.data
        for writer in self.writers:
            writer(step, {"epoch": step * data.batch_size / data.sizes["train"], **scalars})

    def on_log(self, step: int, stats: Stats) -> None:
        scalars = {f"train/{name}": value for name, value in self.program.experiment.task.summary(stats).items()}
        self.write(step, scalars)
        self.status("RUNNING", step)
        bad = [name for name, value in scalars.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(
                f"{bad[0]} is not finite at step {step}: training diverged.\n"
                "Try a smaller --lr, a --clip_norm, or a warm-up of the schedule; the last good checkpoint is kept."
            )

    def on_evaluate(self, step: int, state: TrainState) -> None:
        experiment = self.program.experiment
        self.keep_snapshots(step, state)
        if "validation" not in experiment.data.sizes:
            return
        numbers = experiment.task.summary(train.evaluate(self.program, state, "validation"))
        self.write(step, {f"validation/{name}": value for name, value in numbers.items()})
        self.measured = step, numbers

    @functools.cached_property
    def watched(self) -> Batch:
        return train.watched(self.program.experiment.data, WATCHED)

    def keep_snapshots(self, step: int, state: TrainState) -> None:
        """Writes a sheet of each of the task's snapshots to snapshots/NAME/STEP.png and TensorBoard."""
        if self.program.experiment.task.snapshot is None:
            return
        for name, images in self.program.snapshot(state, self.watched).items():
            (self.folder / "snapshots" / name).mkdir(parents=True, exist_ok=True)
            sheet = figures.sheet(images)
            Image.fromarray(sheet).save(self.folder / "snapshots" / name / f"{step:08d}.png")
            self.images(step, {name: sheet})

    def on_save(self, step: int, state: TrainState, recent: list[Stats]) -> None:
        meta = {
            "seed": self.seed,
            "fingerprint": self.program.experiment.data.fingerprint,
            "recent": train.merge(jax.device_get(recent))["sums"] if recent else {},
            "wall_seconds": self.wall_seconds,
        }
        measured_at, numbers = self.measured
        known = measured_at == step and math.isfinite(numbers[self.program.experiment.task.headline])
        self.checkpoints.save(step, self.program.strategy.fetch(state), meta, numbers if known else None)


def train_run(program: train.Program, folder: pathlib.Path, plan: Plan, seed: int, *, overwrite: bool) -> dict[str, Any]:
    """Trains one seed in its folder to the end, or from where it was; returns the content of result.json.

    Raises Preempted after SIGTERM or Ctrl-C and DivergedError, with status.json saying so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if overwrite:
            empty(folder)
        elif result := finished(folder):  # by a process that held the lock until now
            return result
        if not (folder / "run.json").exists():
            write.write_json(folder / "run.json", provenance(plan, program.experiment, seed))
        experiment, task = program.experiment, program.experiment.task
        checkpoints = Checkpoints(folder / "checkpoints", headline=task.headline, higher_is_better=task.higher_is_better)
        checkpoints.clear_unfinished()
        state, meta, start = _begin(program, folder, checkpoints, seed)
        events, images, close_events = write.tensorboard(folder / "tensorboard", resume_at=start)
        epoch = experiment.data.sizes["train"] / experiment.data.batch_size
        names = [*(name for name in task.shown if name != task.headline), task.headline]
        shown = write.progress(steps=experiment.steps, start=start, epoch_steps=epoch, names=names, quiet=plan.quiet)
        writers = [write.metrics_file(folder / "metrics.jsonl", resume_at=start), events, shown]
        attempt = 1 + (write.read_json(folder / "status.json") or {}).get("attempt", 0)
        wall_before = meta.get("wall_seconds", 0.0)
        run = _Run(program, folder, plan, seed, checkpoints, writers, images, wall_before=wall_before, attempt=attempt)
        try:
            run.status("RUNNING", start)
            recent = [{"sums": meta["recent"], "rows": {}}] if meta.get("recent") else []
            with stop_signals() as should_stop:
                state, step = train.fit(
                    program,
                    state,
                    seed=seed,
                    step=start,
                    stop=min(experiment.steps, plan.stop_after or experiment.steps),
                    cadence=cadence(plan, experiment, program.strategy.devices[0].platform),
                    recent=recent,
                    on_log=run.on_log,
                    on_evaluate=run.on_evaluate,
                    on_save=run.on_save,
                    should_stop=should_stop,
                )
            if step not in checkpoints.steps():
                run.on_save(step, state, recent)
            checkpoints.close()
            if step < experiment.steps:
                return _stopped(run, step, asked=plan.stop_after == step)
            return _finish(run, state)
        except CnnlabError as error:
            states = {DivergedError: "DIVERGED", Preempted: "PREEMPTED"}
            run.status(states.get(type(error), "FAILED"), run.step, message=str(error))
            raise
        except BaseException as error:
            run.status("FAILED", run.step, message=f"{type(error).__name__}: {error}")
            raise
        finally:
            close_events()
            checkpoints.close()


def _begin(
    program: train.Program, folder: pathlib.Path, checkpoints: Checkpoints, seed: int
) -> tuple[TrainState, dict[str, Any], int]:
    """(placed state, meta, step): from the newest good checkpoint, or initialised."""
    restored = checkpoints.restore(program.shapes)
    if restored is None:
        return program.init(seed), {}, 0
    state, meta, step = restored
    data = program.experiment.data
    if meta["fingerprint"] != data.fingerprint:
        raise DataError(
            f"the data set {data.name} changed since {folder} was begun (fingerprint {meta['fingerprint'][:12]}, now "
            f"{data.fingerprint[:12]}).\nBring the old data back, or give another --workdir to train on the new ones."
        )
    checkpoints.quarantine()
    log.info("going on from step %d of %d in %s", step, program.experiment.steps, folder)
    return program.strategy.place(state), meta, step


def _stopped(run: _Run, step: int, *, asked: bool) -> dict[str, Any]:
    """What a run says that ended before its last step."""
    run.step = step
    if not asked:
        raise Preempted(f"stopped by a signal at step {step}, with a checkpoint in {run.folder}.\nThe same command goes on.")
    run.status("STOPPED", step)
    return {"metrics": {}, "steps": step, "wall_seconds": run.wall_seconds, "stopped": True}


def _finish(run: _Run, state: TrainState) -> dict[str, Any]:
    """Measures every held-out split, draws the figures and writes result.json, then DONE."""
    experiment, task = run.program.experiment, run.program.experiment.task
    stats = {split: train.evaluate(run.program, state, split) for split in experiment.data.sizes if split != "train"}
    metrics = _named({split: task.summary(part) for split, part in stats.items()}, task.headline)
    host = run.program.strategy.fetch(state)
    records = write.read_metrics(run.folder / "metrics.jsonl")
    trained = {name: value for record in records for name, value in record.items() if name.startswith("train/")}
    result = {
        "metrics": metrics,
        "remark": task.remark(trained | metrics),
        "steps": experiment.steps,
        "wall_seconds": run.wall_seconds,
        "params_digest": digest(host.params),
        "state_digest": digest(host),
    }
    drawn = task.pictures(host.average or host.params, host.model_state, stats["test"], experiment.data, "test")
    if records:
        tested = {"step": experiment.steps, **{name: value for name, value in metrics.items() if name.startswith("test/")}}
        title = f"{pathlib.Path(run.plan.experiment).stem}, seed {run.seed}"
        drawn = {
            "curves": figures.learning_curves(
                [*records, tested],
                title=title,
                headline=task.headline,
                higher_is_better=task.higher_is_better,
                others=task.shown,
            ),
            **drawn,
        }
    (run.folder / "figures").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        figures.save(figure, run.folder / "figures" / f"{name}.png")
    run.images(experiment.steps, {name: figures.as_pixels(figure) for name, figure in drawn.items()})
    for kept in sorted((run.folder / "snapshots").glob("*")):
        figures.animate(sorted(kept.glob("*.png")), run.folder / "figures" / f"{kept.name}.webp")
    np.savez(run.folder / "test_rows.npz", **stats["test"]["rows"])
    write.write_json(run.folder / "result.json", result)
    run.status("DONE", experiment.steps)
    return result


def _named(numbers: Mapping[str, Mapping[str, float]], headline: str) -> dict[str, float]:
    """{split: {name: value}} -> {"split/name": value}, the headline first."""
    return {f"{split}/{name}": part[name] for split, part in numbers.items() for name in sorted(part, key=headline.__ne__)}


def build(resolved: Resolved, plan: Plan, *, numbers: Mapping[str, float] | None = None) -> train.Program:
    """Calls the experiment's function and compiles its step for the devices; every usage and data error shows here.

    Args:
        resolved: the experiment's function and its knobs.
        plan: how it is carried out.
        numbers: {path: value} of those knobs that the program takes as arguments (see `train.Program.member`).
    """
    strategy = STRATEGIES[plan.strategy](pick_devices(plan.devices))
    experiment = resolved.call()
    check_batch(experiment.data.batch_size, strategy)
    family = resolved.call_with if numbers else None
    return train.build(experiment, strategy, precision=plan.precision, family=family, numbers=numbers)


def train_seeds(resolved: Resolved, plan: Plan, folders: Mapping[int, pathlib.Path], *, overwrite: bool) -> int:
    """Trains every seed that is not finished, says what came out, returns the exit code.

    All seeds share one compilation. A seed that diverges does not stop the others; the exit code is then 4.
    """
    results = {seed: check_folder(folder, plan, overwrite=overwrite) for seed, folder in folders.items()}
    program = None
    for seed, folder in folders.items():
        if results[seed] is not None:
            print(f"{tell(plan, seed, results[seed])}\n  finished before; in {folder} (--overwrite trains it again)")
            continue
        if program is None:
            program = build(resolved, plan)
            log.info(introduce(program, plan))
        try:
            results[seed] = train_run(program, folder, plan, seed, overwrite=overwrite)
        except DivergedError as error:
            log.error("error: seed %d: %s", seed, error)
            continue
        print(
            f"{tell(plan, seed, results[seed])}\n  in {folder} (figures/, metrics.jsonl, result.json, checkpoints/)", flush=True
        )
    done = {seed: result for seed, result in results.items() if result and not result.get("stopped")}
    if len(folders) > 1 and done:
        print(summarise(done, next(iter(folders.values())).parent, plan))
    return DivergedError.exit_code if None in results.values() else 0


def introduce(program: train.Program, plan: Plan) -> str:
    """What is about to be trained, on what."""
    experiment = program.experiment
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(program.shapes.params))
    sizes = ", ".join(f"{experiment.data.sizes[split]:,} {split}" for split in SPLITS if split in experiment.data.sizes)
    work = f"{experiment.steps:,} steps of {experiment.data.batch_size}" if experiment.task.turns else "nothing to train"
    devices = program.strategy.devices
    return (
        f"{plan.experiment}: {count:,} parameters on {experiment.data.name} ({sizes}); {work}; "
        f"{program.strategy.name} on {len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}, {plan.precision}"
    )


def tell(plan: Plan, seed: int, result: Mapping[str, Any] | None) -> str:
    """A run in one sentence."""
    assert result is not None
    took = f"{result['steps']:,} steps in {write.duration(result['wall_seconds'])}"
    if result.get("stopped"):
        return f"{plan.experiment}, seed {seed}: stopped by --stop_after after {took}; the same command without it goes on"
    shown = {name.removeprefix("test/"): value for name, value in result["metrics"].items() if name.startswith("test/")}
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
    remark = f"\n  {result['remark']}" if result.get("remark") else ""
    return f"{plan.experiment}, seed {seed}: test {numbers} after {took}{remark}"


def summarise(results: Mapping[int, Mapping[str, Any]], folder: pathlib.Path, plan: Plan) -> str:
    """Writes seeds.json beside the runs; returns mean ± standard deviation (n − 1) of the test metrics."""
    names = next(iter(results.values()))["metrics"]
    table = {}
    for name in names:
        values = [result["metrics"][name] for result in results.values()]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        table[name] = {"mean": float(np.mean(values)), "std": spread, "n": len(values), "values": values}
    write.write_json(folder / "seeds.json", {"seeds": list(results), "metrics": table})
    shown = ", ".join(
        f"{name.removeprefix('test/')} {row['mean']:.4f} ± {row['std']:.4f}"
        for name, row in table.items()
        if name.startswith("test/")
    )
    return f"{plan.experiment}: test {shown} (mean ± standard deviation of {len(results)} seeds)\n  in {folder / 'seeds.json'}"


def restored(resolved: Resolved, plan: Plan, folder: pathlib.Path, *, best: bool) -> tuple[train.Program, TrainState, int]:
    """(program, host state, step) of a run's newest checkpoint, or of the best on validation."""
    recorded(folder)
    nothing = CheckpointError(f"{folder} holds no checkpoint yet. Train it first.")
    if not (folder / "checkpoints").is_dir():
        raise nothing
    program = build(resolved, plan)
    task = program.experiment.task
    checkpoints = Checkpoints(folder / "checkpoints", headline=task.headline, higher_is_better=task.higher_is_better)
    found = checkpoints.restore(program.shapes, step=checkpoints.best() if best else None)
    if found is None:
        raise nothing
    return program, found[0], found[2]


def evaluate_run(resolved: Resolved, plan: Plan, folder: pathlib.Path, *, best: bool) -> str:
    """Measures the newest checkpoint of a run (or the best on validation); writes evaluation.json and returns a table."""
    program, host, step = restored(resolved, plan, folder, best=best)
    task, sizes = program.experiment.task, program.experiment.data.sizes
    state = program.strategy.place(host)
    numbers = {split: task.summary(train.evaluate(program, state, split)) for split in sizes if split != "train"}
    metrics = _named(numbers, task.headline)
    write.write_json(folder / "evaluation.json", {"step": step, "metrics": metrics})
    rows = [f"  {name.ljust(24)} {value:.6g}" for name, value in metrics.items()]
    return f"{folder}, step {step}\n" + "\n".join(rows)
