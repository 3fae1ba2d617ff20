"""The recorder of a run: it writes the files of the run's folder, from the start or resume to the end."""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import pathlib
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from cnnlab import figures, files
from cnnlab.core import Batch, Stats, TrainState
from cnnlab.engine import train
from cnnlab.engine.averages import evaluated
from cnnlab.engine.checkpoint import Checkpoints, tree_digest
from cnnlab.engine.clock import StepClock
from cnnlab.engine.program import Program
from cnnlab.engine.skipping import LeftOut
from cnnlab.errors import CnnlabError, DataError, DivergedError, Preempted, of_the_world
from cnnlab.runs import early_stopping, final_figures, finite, network_file, run_files, writers
from cnnlab.runs.early_stopping import EarlyStopping
from cnnlab.runs.folder import RunSpec, record_attempt
from cnnlab.runs.identity import say_once
from cnnlab.runs.lock import locked
from cnnlab.runs.open_writers import EVENTS, open_writers
from cnnlab.runs.restoring import LEFT_OUT, LOSS_SCALE, noted, restore_or_init
from cnnlab.runs.run_progress import RunProgress
from cnnlab.runs.summaries import declarations, summarise, summarise_training
from cnnlab.runs.trained_function import META, kept_rows, untrained_remark
from cnnlab.runs.ways_on import last_checkpoint
from cnnlab.runs.writers import Writer
from cnnlab.text import counted, listed

log = logging.getLogger("cnnlab")

SNAPSHOT_EXAMPLES = 32
"""Number of held-out examples for a task's snapshots."""
TIMES = ("wall_seconds", "compile_seconds", "step_seconds", "waiting_share")
"""Names of the times in a checkpoint and in result.json (RunRecorder.timing)."""
COMPILED: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()
"""Steps of programs that this process compiled: the runs of other seeds and arms share them."""
STATES: dict[type[BaseException], str] = {DivergedError: "DIVERGED", Preempted: "PREEMPTED"}
"""State in status.json by the error that ended a run; FAILED for any other error."""


@dataclasses.dataclass
class RunRecorder:
    """One run in its folder: the callbacks of `train.fit`, which write as it trains, and the results at its end."""

    program: Program
    folder: pathlib.Path
    spec: RunSpec
    seed: int
    checkpoints: Checkpoints
    writers: list[Writer] = dataclasses.field(default_factory=list)
    images: Callable[[int, Mapping[str, np.ndarray]], None] = lambda step, images: None
    """Writer of images {name: u8 [H, W, 3]}."""
    timing_before: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """`wall_seconds`, `compile_seconds` and `step_seconds` of earlier attempts, as far as they are known."""
    clock: StepClock = dataclasses.field(default_factory=StepClock)
    """Filled by `fit`; batched runs share one."""
    members: int = 1
    """Number of runs that take their steps together: a run's step takes this part of theirs."""
    began: float = dataclasses.field(default_factory=time.monotonic)
    measured: tuple[int, dict[str, float]] = (-1, {})
    """Step of the latest validation, and its metrics."""
    records: int = 0
    """Number of lines of metrics.jsonl, by which lost ones are noticed."""
    step: int = 0
    """Last step that is known to be done."""
    saved: int | None = None
    """Step of the newest checkpoint, which may still be on its way to the disk; None: there is none."""
    attempt: int = 1
    """Number of times that the run was started or resumed."""
    start: int = 0
    """Step from which it is resumed."""
    state: TrainState | None = None
    """State at that step, on the devices; `fit` donates it."""
    pending_stats: list[Stats] = dataclasses.field(default_factory=list)
    """Statistics since the last log before that step."""
    result: dict[str, Any] | None = None
    """Content of result.json of a run that is finished already."""
    is_closed: bool = False
    """Whether its final status is written."""
    should_stop: Callable[[], bool] = lambda: False
    """Whether a signal asked the process to end."""
    early: EarlyStopping | None = None
    """The validations so far, of a run with early stopping."""
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
    """The steps up to the latest log that were left out since their loss or gradients were not finite."""
    unmeasured: int | None = None
    """Step whose validation a signal interrupted: its checkpoint says so, and the resumed run measures it first."""
    progress: RunProgress | None = None
    """Shows the run to a person; None before its writers are opened."""

    @property
    def is_over(self) -> bool:
        """Returns whether early stopping ended the training, and the step at which it did is saved."""
        return self.early is not None and self.early.is_over and (self.saved or 0) >= self.early.step

    @property
    def timing(self) -> dict[str, float]:
        """Returns wall and compile seconds of all attempts, the latest seconds of a step and share of waiting for data."""
        before, took = self.timing_before, self.clock.step_seconds
        step = before.get("step_seconds") if took is None else took / self.members
        share = self.clock.waiting_share
        waiting = before.get("waiting_share") if share is None else share
        return {
            "wall_seconds": before.get("wall_seconds", 0.0) + time.monotonic() - self.began,
            "compile_seconds": before.get("compile_seconds", 0.0) + self.clock.compile_seconds,
            **({} if step is None else {"step_seconds": step}),
            **({} if waiting is None else {"waiting_share": waiting}),
        }

    def status(self, state: str, step: int, **more: Any) -> None:
        """Writes status.json."""
        self.step = step
        process = f"process {os.getpid()} on {socket.gethostname()}"
        content = {
            "state": state,
            "step": step,
            "steps": self.program.experiment.steps,
            "attempt": self.attempt,
            "process": process,
            "job": run_files.cluster_job(),
            "time": time.time(),
            "waiting_share": self.clock.waiting_share,
            "checkpoint": max(self.checkpoints.steps(), default=0),  # by which a lost one is noticed
        }
        files.write_record(self.folder / run_files.STATUS, content | more)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Passes scalars to every writer."""
        data, self.records = self.program.experiment.data, self.records + 1
        for writer in self.writers:
            writer(step, {"epoch": step * data.batch_size / data.sizes["train"], **scalars})

    def begin(self) -> None:
        """Shows that the first step is being compiled, unless this process has done so before."""
        if self.progress is None or self.start >= self.program.experiment.steps:
            return
        steps, _ = self.program.phase_at(self.start)
        if steps not in COMPILED:
            COMPILED.add(steps)
            self.progress.compiling()

    def training_metrics(self, merged: Stats) -> dict[str, float]:
        """Returns {name: value} of merged statistics of training steps."""
        return summarise_training(self.program.experiment.task, merged)

    def on_log(self, step: int, pending_stats: list[Stats]) -> None:
        """Writes the training metrics since the last log; raises DivergedError where one is not finite."""
        before, (self.left_out, parts) = self.left_out.total, self.left_out.after(pending_stats)
        finite.warn_of_scale(self.left_out.scale, self.spec)
        scalars = self.training_metrics(train.merge(parts)) if parts else {}  # else every step was left out
        self.write(step, scalars | self._counted())
        self.status("RUNNING", step)
        if now := self.left_out.total - before:
            log.warning("step %d: %s left out, not finite; %d in all", step, counted(now, "step"), self.left_out.total)
        self._require_finite(scalars, self.left_out, step)

    def _counted(self) -> dict[str, float]:
        """Returns the number of steps that were left out, of a run that may leave some out, and the loss scale in f16."""
        may = self.spec.left_out_in_a_row is not None or self.left_out.total > 0
        counted: dict[str, float] = {LEFT_OUT: self.left_out.total} if may else {}
        return counted if self.left_out.scale is None else {**counted, LOSS_SCALE: self.left_out.scale}

    def _require_finite(self, scalars: Mapping[str, float], left_out: LeftOut, step: int) -> None:
        """Raises DivergedError where a metric is not finite, or more steps in a row were left out than may be."""
        if (allowed := self.spec.left_out_in_a_row) and left_out.longest > allowed:
            raise finite.diverged_row(left_out, self.spec.skip_nonfinite, step, last_checkpoint(self))
        if bad := finite.not_finite(scalars):
            raise finite.diverged_metrics(bad, step, last_checkpoint(self))

    def on_evaluate(self, step: int, state: TrainState) -> None:
        """Measures the validation split and writes a snapshot; what a signal or the data end is done by the resumed run."""
        experiment = self.program.experiment
        self.keep_snapshots(step, state)
        if "validation" not in experiment.data.sizes:
            return
        try:
            stats = self._measure(state, "validation")
        except (Preempted, DataError, OSError) as error:
            self.unmeasured = step  # `fit` stops next, and the checkpoint of this step remembers it
            if isinstance(error, Preempted):
                return
            raise
        numbers = summarise(experiment.task, stats)
        self.write(step, {f"validation/{name}": value for name, value in numbers.items()})
        bad = [f"validation/{name}" for name in finite.not_finite(numbers)]
        if {f"validation/{metric.name}" for metric in experiment.task.watched_metrics} & {*bad}:
            raise finite.diverged_metrics(bad, step, last_checkpoint(self))
        if bad:  # such as a metric of a class that has no examples
            say_once(f"WARNING: {listed(bad)} cannot be computed: not a finite number", self.spec.said, warning=True)
        self.measured, self.unmeasured = (step, numbers), None
        self.early = self.early and self.early.after(step, numbers)

    def _measure(self, state: TrainState, split: str, *, final: bool = False, at_end: bool = False) -> Stats:
        """Returns the statistics of a split, and shows how far this is."""
        assert self.progress is not None
        on_batch = self.progress.measuring(split, at_end=at_end)
        stats = train.evaluate(self.program, state, split, final=final, should_stop=self.should_stop, on_batch=on_batch)
        self.progress.measured()
        return stats

    def measure_interrupted(self) -> None:
        """Does what a signal interrupted: validates the state that was restored, and saves it again with its metrics."""
        if self.unmeasured is None or self.state is None:
            return
        self.on_evaluate(self.start, self.state)
        if self.unmeasured is None:
            self.status("RUNNING", self.start, checkpoint=0)  # a process that is killed now lost no checkpoint
            self.checkpoints.delete(self.start)
            self.on_save(self.start, self.state, self.pending_stats)

    @functools.cached_property
    def snapshot_batch(self) -> Batch:
        """Held-out examples for the snapshots."""
        return train.snapshot_batch(self.program.experiment.data, SNAPSHOT_EXAMPLES)

    def keep_snapshots(self, step: int, state: TrainState) -> None:
        """Writes a sheet of each of the task's snapshots to snapshots/NAME/STEP.png and TensorBoard."""
        if self.program.experiment.task.snapshot is None:
            return
        shown = self.program.snapshot(state, self.snapshot_batch)
        self.images(step, final_figures.write_sheets(self.folder, step, shown))

    def on_save(self, step: int, state: TrainState, pending_stats: list[Stats]) -> None:
        """Writes a checkpoint, with the statistics that a resumed log needs to equal an uninterrupted one."""
        left_out, parts = self.left_out.after(jax.device_get(pending_stats))
        recent = train.merge(parts)
        self._require_finite(self.training_metrics(recent) if parts else {}, left_out, step)
        meta = {
            "seed": self.seed,
            "fingerprint": self.program.experiment.data.fingerprint,
            "recent": {name: value.tolist() for name, value in recent["sums"].items()},  # f64, as nested lists of their shape
            "records": self.records,
            "unmeasured": self.unmeasured == step,
            **({early_stopping.NOTES: self.early.notes()} if self.early else {}),
            **({LEFT_OUT: notes} if (notes := left_out.notes()) else {}),
            **self.timing,
            META: self.program.experiment.data.inputs.as_json(),
        }
        measured_at, numbers = self.measured
        known = measured_at == step and math.isfinite(numbers[self.program.experiment.task.primary_metric.name])
        host = self.program.strategy.to_host(state)
        if bad := finite.bad_leaves(host):
            raise finite.diverged_leaves(bad, step, last_checkpoint(self))
        if self.early:
            self.checkpoints.keep(self.early.best_step)
        self.checkpoints.save(step, host, meta, numbers if known else None)
        self.saved = step

    def finish(self, state: TrainState, step: int, pending_stats: list[Stats]) -> dict[str, Any]:
        """Returns the content of result.json of a run that reached its last step, or a short result of one stopped earlier.

        Raises Preempted before --stop_after, where a signal stopped it. `pending_stats` are the statistics since the last log.
        """
        if step != self.saved and not self.is_over:
            self.on_save(step, state, pending_stats)
        self.checkpoints.close()
        if self.is_over or step == self.program.experiment.steps:
            return self._write_results(*early_stopping.reported_state(self.program, self.checkpoints, self.early, state))
        self.step = step
        if self.spec.stop_after is None or step < self.spec.stop_after:
            raise Preempted(
                f"stopped by a signal at step {step}, with a checkpoint in {self.folder}.\nThe same command goes on."
            )
        self.status("STOPPED", step)
        self.is_closed = True
        return {"metrics": {}, "steps": step, **self.timing, "stopped": True}

    def leave(self, reason: str, state: str) -> None:
        """Writes the status of a run whose process is about to end at once: what it has is its newest checkpoint."""
        if not self.is_closed and self.result is None:
            self.status(state, max(self.checkpoints.steps(), default=0), message=reason)

    def failed(self, error: BaseException) -> None:
        """Writes the status of a run that an error ended."""
        text = str(of_the_world(error) or f"{type(error).__name__}: {error}")
        self.is_closed = True
        try:
            self.status(STATES.get(type(error), "FAILED"), self.step, message=text)
        except CnnlabError as second:  # the disk is full: the error that ended the run counts
            log.warning("status.json could not be written: %s", second)

    def _write_results(self, state: TrainState, reported: int, reached: int) -> dict[str, Any]:
        """Measures every split of `measured_splits`, draws the figures and writes result.json, then DONE.

        `reported` is the step of the state, `reached` the last one that was taken.
        """
        experiment, task = self.program.experiment, self.program.experiment.task
        # The results are measured by `final`, which may be slow; another split as it was in training.
        split = experiment.data.report_split
        stats = {each: self._measure(state, each, final=each == split, at_end=True) for each in experiment.data.measured_splits}
        host = self.program.strategy.to_host(state)
        metrics = network_file.final_metrics(self.spec, experiment, self.seed, stats, host, reported)
        if bad := finite.not_finite(metrics):
            log.warning("WARNING: %s cannot be computed: not a finite number", listed(bad))
        records = writers.read_metrics(self.folder / run_files.METRICS)
        trained = {name: value for record in records for name, value in record.items() if name.startswith("train/")}
        tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
        if self.writers:
            self.writers[EVENTS](reported, tested)
        shown = [*records, {"step": reported, **tested}] if records else []
        findings = final_figures.read(shown, self.spec, experiment)
        remarks = [task.diagnosis(trained | metrics) or untrained_remark(experiment), self.early.remark() if self.early else ""]
        result = {
            "metrics": metrics,
            "declared": declarations(task),
            "remark": " ".join(filter(None, remarks)),
            "curves": findings,
            "steps": reached,
            **({} if self.early is None else {"reported_step": reported}),
            **self._counted(),
            **self.timing,
            "params_digest": tree_digest(host.params),
            "state_digest": tree_digest(host),
        }
        plots = task.figures(*evaluated(host), stats[split], experiment.data, split)
        if records:
            title = f"{pathlib.Path(self.spec.experiment).stem}, seed {self.seed}"
            curves = figures.learning_curves(shown, title=title, metrics=task.watched_metrics, remarks=findings)
            plots = {"curves": curves, **plots}
        final_figures.draw(self.folder, plots, self.images, reported)
        # result.json comes after all other files, and DONE last of all: a run that is killed here measures again.
        if split == "test":
            stored = kept_rows(experiment, stats[split], split)
            files.replace_file(self.folder / run_files.ROWS, lambda file: np.savez(file, **stored))
        run_files.write_result(self.folder, result)
        self.status("DONE", reached)
        self.is_closed = True
        return result


@contextlib.contextmanager
def open_run(
    program: Program,
    folder: pathlib.Path,
    spec: RunSpec,
    seed: int,
    *,
    overwrite: bool,
    batched: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[RunRecorder]:
    """Yields the recorder of one run, at its start or resumed; its folder is locked until the end.

    Where another process finished the run meanwhile, it has a `result` and no state. An error that leaves the block is written
    to status.json; in a batch only a signal is: a run whose batch ends with another error stays RUNNING, to be trained alone.
    """
    program = program.for_run(seed)
    with locked(files.make_folder(folder)), contextlib.ExitStack() as closing:
        if overwrite:
            run_files.clear_folder(folder)
        if is_new := not (folder / run_files.RUN).exists():
            record_attempt(folder, spec, program.experiment, seed, step=0)
        checkpoints = Checkpoints(folder / "checkpoints", ranked_by=program.experiment.task.primary_metric)
        if result := run_files.finished_result(folder):  # by a process that held the lock until now
            yield RunRecorder(program, folder, spec, seed, checkpoints, result=result)
            return
        run_files.say_damage(folder)
        checkpoints.clear_unfinished()
        program, state, meta, start = restore_or_init(program, folder, checkpoints, seed, spec)
        if not is_new:
            record_attempt(folder, spec, program.experiment, seed, step=start)
        writers.say_restart(folder, start)
        recorder = RunRecorder(
            program,
            folder,
            spec,
            seed,
            checkpoints,
            timing_before={name: meta[name] for name in TIMES if name in meta},
            attempt=1 + run_files.read_status(folder).get("attempt", 0),
            state=state,
            should_stop=should_stop,
            **noted(program, meta, start),
        )
        closing.callback(checkpoints.close)
        try:
            recorder.status("RUNNING", start)
            opened = open_writers(program, folder, start, meta.get("records", 0), spec, recorder.clock)
            recorder.writers, recorder.images, recorder.progress, close_writers = opened
            closing.callback(close_writers)
            recorder.records = len(writers.read_metrics(folder / run_files.METRICS))
            recorder.measure_interrupted()
            yield recorder
        except BaseException as error:
            if not recorder.is_closed and not (batched and isinstance(error, Exception) and not isinstance(error, Preempted)):
                recorder.failed(error)
            raise
