"""Trains, resumes, evaluates and restores runs.

run.json       the run: experiment, knobs, run flags, versions, commit, devices, data fingerprint, source
status.json    RUNNING, DONE, STOPPED, PREEMPTED, DIVERGED or FAILED, with step, process and time
metrics.jsonl  a line for every log and every evaluation
result.json    the final numbers and their declarations (unit, sense), steps, seconds (in all, of compilation, of a step),
               digests of parameters and of the whole state
test_rows.npz  the rows that are kept for every test example, such as label and prediction (core.Task.kept_rows)
snapshots/     images of a generative model, at every evaluation
checkpoints/ tensorboard/ figures/
"""

import contextlib
import dataclasses
import logging
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnnlab import files, own, text
from cnnlab.core import Experiment, TrainState
from cnnlab.engine import processes, train
from cnnlab.engine.batched import batch_programs, select_member, stack_members
from cnnlab.engine.parallel import STRATEGIES, check_batch, fsdp_bytes, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.errors import CheckpointError, DivergedError, Preempted
from cnnlab.knobs import Resolved
from cnnlab.runs import ends, network_notes, restoring, run_files, run_progress
from cnnlab.runs.folder import RunSpec, check_folder, compare_run, record_allowed
from cnnlab.runs.following import open_follower
from cnnlab.runs.recorder import RunRecorder, open_run
from cnnlab.runs.stopping import before_leaving, stop_signals, watched
from cnnlab.runs.summaries import reported
from cnnlab.runs.trained_function import check_inputs, read_inputs, with_inputs
from cnnlab.runs.ways_on import saying_what_is_saved, saying_what_takes_memory
from cnnlab.runs.without_data import experiment_without_data
from cnnlab.values import Duration

log = logging.getLogger("cnnlab")

RunInputs = tuple[Program, pathlib.Path, RunSpec, int]
"""Program, folder, specification and seed of a run, as `train_run` takes them."""
SPLITS = ("train", "validation", "test")
ON_ACCELERATOR = 32
"""Number of steps sent to an accelerator at once; one on a CPU, where a convolution inside a loop is slow."""


def intervals_of(spec: RunSpec, experiment: Experiment, backend: str) -> train.Intervals:
    """Returns the steps between logs, evaluations and checkpoints: by default about 20 evaluations, at most one an epoch."""
    evaluate = steps_between_evaluations(experiment, spec.eval_every)
    save = _steps_of(spec.save_every, experiment, evaluate)
    return train.Intervals(
        log=_steps_of(spec.log_every, experiment, min(50, max(1, experiment.steps // 20))),
        evaluate=evaluate,
        # The weights of every validation may become the result of early stopping.
        save=save if experiment.patience is None else math.gcd(save, evaluate),
        steps_per_dispatch=spec.steps_per_dispatch or (1 if backend == "cpu" else ON_ACCELERATOR),
    )


def steps_between_evaluations(experiment: Experiment, wanted: Duration | None) -> int:
    """Returns the steps of a duration; by default a twentieth of the training, or an epoch where that is longer."""
    epoch = math.ceil(experiment.data.sizes["train"] / experiment.data.batch_size)
    return _steps_of(wanted, experiment, max(epoch, math.ceil(max(1, experiment.steps) / 20)))


def _steps_of(wanted: Duration | None, experiment: Experiment, default: int) -> int:
    """Returns the steps of a duration, at least one, or the default where none is given."""
    data = experiment.data
    return max(1, wanted.steps(size=data.sizes["train"], batch_size=data.batch_size) if wanted else default)


def train_run(program: Program, folder: pathlib.Path, spec: RunSpec, seed: int, *, overwrite: bool) -> dict[str, Any]:
    """Trains one seed in its folder from the start or its newest checkpoint; returns the content of result.json.

    Raises Preempted after a signal (`stopping.stop_signals`) and DivergedError, with status.json saying so.
    """
    if processes.is_main():
        ends.announce(folder)
    with (
        stop_signals(spec.grace_seconds) as should_stop,
        watched(should_stop, spec.step_timeout, spec.heartbeat),
        open_run(program, folder, spec, seed, overwrite=overwrite, should_stop=should_stop)
        if processes.is_main()
        else open_follower(program, folder, spec, seed, should_stop=should_stop) as recorder,
    ):
        if recorder.result:
            return recorder.result
        assert recorder.state is not None
        before_leaving(should_stop, recorder.leave)
        recorder.begin()
        program = recorder.program  # on other data, that of the checkpoint's normalisation
        devices, stop = len(program.strategy.devices), _last_step(spec, program.experiment)
        intervals = intervals_of(spec, program.experiment, program.strategy.devices[0].platform)
        recorder.checkpoints.require_room(program.shapes, math.ceil((stop - recorder.start) / intervals.save))
        with saying_what_is_saved(recorder), saying_what_takes_memory(program.experiment.data, devices):
            state, step = train.fit(
                program,
                recorder.state,
                seed=seed,
                step=recorder.start,
                stop=stop,
                intervals=intervals,
                pending_stats=recorder.pending_stats,
                on_log=recorder.on_log,
                on_evaluate=recorder.on_evaluate,
                on_save=recorder.on_save,
                should_stop=lambda: should_stop() or recorder.is_over,
                clock=recorder.clock,
            )
            result = recorder.finish(state, step, recorder.pending_stats)
        raise_if_stopped(should_stop)
        return result


def train_batched(members: Sequence[RunInputs]) -> list[dict[str, Any] | DivergedError]:
    """Trains members of one family that take their steps in one program; returns the result or the error of each.

    Their folders and files are those of single runs. Members that resume from the same step share a program; one that
    diverges does not affect the others. Raises Preempted after a signal, with all of them saved; any
    other error leaves their status at RUNNING, for the caller to train them alone.
    """
    with contextlib.ExitStack() as stack:
        grace = members[0][2].grace_seconds
        should_stop, recorders = stack.enter_context(stop_signals(grace)), []
        stack.enter_context(watched(should_stop, members[0][2].step_timeout, members[0][2].heartbeat))
        for number, (program, folder, spec, seed) in enumerate(members):
            shown = dataclasses.replace(spec, quiet=spec.quiet or number > 0)
            opened = open_run(program, folder, shown, seed, overwrite=False, batched=True, should_stop=should_stop)
            recorders.append(stack.enter_context(opened))
            before_leaving(should_stop, recorders[-1].leave)
        results: dict[int, dict[str, Any] | DivergedError] = {
            id(recorder): recorder.result for recorder in recorders if recorder.result
        }
        groups: dict[tuple[int, int], list[RunRecorder]] = {}
        for number, (recorder, (program, *_)) in enumerate(zip(recorders, members, strict=True)):
            if not recorder.result:
                # A run with a compilation of its own, for another normalisation, takes its steps alone.
                own_program = 0 if recorder.program.phase_steps is program.phase_steps else 1 + number
                groups.setdefault((recorder.start, own_program), []).append(recorder)
        for _, same in sorted(groups.items()):
            results |= dict(zip(map(id, same), _fit_batched(same, should_stop), strict=True))
        raise_if_stopped(should_stop)
        return [results[id(recorder)] for recorder in recorders]


def _fit_batched(recorders: Sequence[RunRecorder], should_stop: Callable[[], bool]) -> list[dict[str, Any] | DivergedError]:
    """Trains runs that are at the same step; returns the result or the error of each."""
    batched, first = batch_programs([recorder.program for recorder in recorders]), recorders[0]
    diverged: dict[int, DivergedError] = {}
    for recorder in recorders:
        recorder.clock, recorder.members = first.clock, len(recorders)
    first.begin()

    def each(call: Callable[[int, RunRecorder], None]) -> None:
        """Calls for every run that goes on; one that diverges here is recorded and left out from now on."""
        for number, recorder in enumerate(recorders):
            if number in diverged or recorder.is_over:
                continue
            try:
                call(number, recorder)
            except DivergedError as error:
                recorder.failed(error)
                diverged[number] = error

    pending = zip(*(recorder.pending_stats for recorder in recorders), strict=True)
    pending_stats = [jax.tree.map(lambda *sums: np.stack(sums), *parts) for parts in pending]  # [1, …] -> [M, 1, …], in f64
    state, step = train.fit(
        batched,
        stack_members([recorder.state for recorder in recorders]),
        seed=tuple(recorder.seed for recorder in recorders),
        step=first.start,
        stop=_last_step(first.spec, first.program.experiment),
        intervals=intervals_of(first.spec, first.program.experiment, batched.strategy.devices[0].platform),
        pending_stats=pending_stats,
        on_log=lambda step, parts: each(lambda number, recorder: recorder.on_log(step, select_member(parts, number))),
        on_evaluate=lambda step, state: each(lambda number, recorder: recorder.on_evaluate(step, select_member(state, number))),
        on_save=lambda step, state, pending_stats: each(
            lambda number, recorder: recorder.on_save(
                step, select_member(state, number), select_member(jax.device_get(pending_stats), number)
            )
        ),
        should_stop=lambda: should_stop() or all(n in diverged or one.is_over for n, one in enumerate(recorders)),
        clock=first.clock,
    )
    results: list[dict[str, Any] | DivergedError] = []
    stopped: Preempted | None = None
    for number, recorder in enumerate(recorders):
        if number in diverged:
            results.append(diverged[number])
            continue
        try:
            results.append(
                recorder.finish(select_member(state, number), step, select_member(jax.device_get(pending_stats), number))
            )
        except Preempted as error:  # the others have to be saved too
            recorder.failed(error)  # here, since the error that leaves the batch names the folder of one member
            stopped = error
        except DivergedError as error:
            recorder.failed(error)
            results.append(error)
    if stopped:
        raise stopped
    return results


def raise_if_stopped(should_stop: Callable[[], bool]) -> None:
    """Raises Preempted for a signal that came while a run was measured at its end, so that no further run is started."""
    if should_stop():
        raise Preempted("stopped by a signal after the end of training. The same command does the rest.")


def _last_step(spec: RunSpec, experiment: Experiment) -> int:
    """Returns the step at which training stops."""
    return min(experiment.steps, spec.stop_after or experiment.steps)


def call(resolved: Resolved) -> Experiment:
    """Calls the experiment's function; an exception of an own file becomes one line."""
    with own.explained("the experiment"):
        experiment: Experiment = resolved.call()
    return experiment


def build(
    resolved: Resolved,
    spec: RunSpec,
    *,
    numbers: Mapping[str, float] | None = None,
    experiment: Experiment | None = None,
) -> Program:
    """Calls the experiment's function and compiles its step for the devices, which raises its usage and data errors.

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        numbers: {path: value} of those knobs that the program takes as arguments (see `Program.member`).
        experiment: what the function returned, where it was called before; None: it is called.
    """
    strategy = STRATEGIES[spec.strategy](pick_devices(spec.devices))
    experiment = experiment or call(resolved)
    check_batch(experiment.data.batch_size, strategy, experiment.data.accumulate)
    family = resolved.call_with if numbers else None
    return build_program(
        experiment,
        strategy,
        precision=spec.precision,
        experiment_of=family,
        traced_knobs=numbers,
        gradient_norms=spec.gradient_norms,
        skip_nonfinite=spec.skip_nonfinite is not None,
        remat=spec.remat,
    )


def train_seeds(
    resolved: Resolved,
    spec: RunSpec,
    folders: Mapping[int, pathlib.Path],
    *,
    overwrite: bool,
    program: Program | None = None,
) -> int:
    """Trains every seed that is not finished, prints the results and returns the exit code.

    All seeds share one compilation. A seed that diverges does not stop the others; the exit code is then 4.

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        folders: folder of the run of each seed.
        overwrite: whether an existing run is deleted first.
        program: program of the same experiment from `build`, to use its compilation again; None: it is built.
    """
    if processes.is_main():
        for seed, folder in folders.items():  # before the data are read
            check_folder(folder, spec, overwrite=overwrite, seed=seed)
    experiment = program.experiment if program else call(resolved)
    found = processes.agreed(
        lambda: [
            check_folder(folder, spec, overwrite=overwrite, seed=seed, experiment=experiment)
            for seed, folder in folders.items()
        ]
    )
    results: dict[int, dict[str, Any] | None] = dict(zip(folders, found, strict=True))
    for seed, folder in folders.items():
        if results[seed] is not None:
            for damage in run_files.damages(folder):  # of what its results do not depend on
                log.warning("WARNING: %s", damage)
            print(f"{format_result(spec, seed, results[seed])}\n  finished before; in {folder} (--overwrite trains it again)")
            continue
        if program is None:
            program = build(resolved, spec, experiment=experiment)
            log.info(describe_run(program, spec))
        try:
            results[seed] = train_run(program, folder, spec, seed, overwrite=overwrite)
        except DivergedError as error:
            log.error("error: seed %d: %s", seed, error)
            continue
        print(
            f"{format_result(spec, seed, results[seed])}\n  in {folder} (figures/, metrics.jsonl, result.json, checkpoints/)",
            flush=True,
        )
    done = {seed: result for seed, result in results.items() if result and not result.get("stopped")}
    if len(folders) > 1 and done and processes.is_main():
        print(summarise(done, next(iter(folders.values())).parent, spec))
    return DivergedError.exit_code if None in results.values() else 0


def describe_run(program: Program, spec: RunSpec) -> str:
    """Returns a line on the network, the data, the length of training and the devices."""
    experiment = program.experiment
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(program.shapes.params))
    sizes = ", ".join(f"{experiment.data.sizes[split]:,} {split}" for split in SPLITS if split in experiment.data.sizes)
    batch = f"{experiment.data.batch_size}{f' in {parts} parts' if (parts := experiment.data.accumulate) > 1 else ''}"
    work = f"{experiment.steps:,} steps of {batch}" if experiment.task.turns else "nothing to train"
    strategy, devices = program.strategy, program.strategy.devices
    split = experiment.data.report_split
    more = f", --remat={spec.remat}" if spec.remat != "none" else ""
    more += "" if split == "test" else f"; without a test split, the results are those of the {split} split"
    if strategy.name == "fsdp":
        part, whole = fsdp_bytes(program.shapes, len(devices))
        split_state = f"{text.format_bytes(part)} of arrays that are split"
        more += f"\nstate on each device: {split_state}, {text.format_bytes(whole)} of whole ones (more: inspect --train)"
    return (
        f"{spec.title}: {count:,} parameters on {experiment.data.name} ({sizes}); {work}; "
        f"{strategy.name} on {len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}, {spec.precision}{more}"
    )


def format_result(spec: RunSpec, seed: int, result: Mapping[str, Any] | None) -> str:
    """Returns the result of a run in one sentence, followed by its diagnosis and what its curves show."""
    assert result is not None
    took = f"{result['steps']:,} steps in {text.format_duration(result['wall_seconds'])}"
    if result.get("stopped"):
        is_beyond = spec.stop_after is not None and result["steps"] > spec.stop_after
        stopped = f"beyond --stop_after={spec.stop_after} before, with" if is_beyond else "stopped by --stop_after after"
        return f"{spec.title}, seed {seed}: {stopped} {took}; the same command without it goes on"
    split, shown = reported(result["metrics"])
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
    remark = "".join(f"\n  {line}" for line in [result.get("remark"), *result.get("curves", ())] if line)
    took += run_progress.describe_left_out(result) + run_progress.describe_waiting(result)
    return f"{spec.title}, seed {seed}: {split} {numbers} after {took}{remark}"


def summarise(results: Mapping[int, Mapping[str, Any]], folder: pathlib.Path, spec: RunSpec) -> str:
    """Writes seeds.json beside the runs; returns mean ± standard deviation (n − 1) of the metrics that are their results."""
    names = next(iter(results.values()))["metrics"]
    table = {}
    for name in names:
        values = [result["metrics"][name] for result in results.values()]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        table[name] = {"mean": float(np.mean(values)), "std": spread, "n": len(values), "values": values}
    files.write_record(folder / "seeds.json", {"seeds": list(results), "metrics": table})
    split, rows = reported(table)
    shown = ", ".join(f"{name} {row['mean']:.4f} ± {row['std']:.4f}" for name, row in rows.items())
    return f"{spec.title}: {split} {shown} (mean ± standard deviation of {len(results)} seeds)\n  in {folder / 'seeds.json'}"


def restore_run(
    resolved: Resolved, spec: RunSpec, folder: pathlib.Path, *, best: bool, opens_data: bool = True
) -> tuple[Program, TrainState, int]:
    """Returns (program, host state, step) of a run's newest checkpoint, of the best on validation, or of the file of a network.

    The program prepares images as the checkpoint says, not by statistics of the data at hand. Raises an error, before anything
    is restored, where the run is not the one that is meant (`folder.compare_run`).

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        folder: folder of the run, or the file of its network (network_file.py).
        best: whether to restore the best checkpoint on validation instead of the newest.
        opens_data: whether the data set is opened; otherwise the program has a stand-in without examples, wherever the
            experiment can be built with one (`without_data.experiment_without_data`).
    """
    compare_run(folder, spec)
    is_file = network_notes.is_network_file(folder)
    nothing = CheckpointError(f"{folder} holds no checkpoint yet. Train it first.")
    if not is_file and not any((folder / "checkpoints").glob("*")):
        run_files.require_checkpoint_kept(folder, [])
        raise nothing
    experiment = (None if opens_data else experiment_without_data(resolved, folder)) or call(resolved)
    allowed = compare_run(folder, spec, experiment=experiment)
    if not is_file:
        record_allowed(folder, spec, allowed)
    program = build(resolved, spec, experiment=experiment)
    if trained := read_inputs(folder):
        check_inputs(trained, program.experiment.data.inputs, name=program.experiment.data.name, folder=folder)
    found = restoring.restore(program, folder, best=best)
    if found is None:
        raise nothing
    state, meta, step = found
    return with_inputs(program.for_run(meta["seed"]), meta, folder, precision=spec.precision), state, step
