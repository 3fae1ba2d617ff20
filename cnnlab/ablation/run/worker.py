"""Trains the unfinished runs of a study, one compilation a group of arms. Any number of such processes may share a study."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cnnlab import files
from cnnlab.ablation.plan.pruning import FINISHED, is_due
from cnnlab.ablation.plan.study import Arm, Study, merge_knobs
from cnnlab.ablation.run.runs import StudyRun, Targets, this_process, write_worker_status
from cnnlab.engine import processes
from cnnlab.engine.program import Program
from cnnlab.errors import DivergedError, Preempted, of_the_world
from cnnlab.knobs import Resolved
from cnnlab.runs import run
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.folder import RunSpec, check_folder
from cnnlab.runs.lock import Busy

log = logging.getLogger("cnnlab")

Resolve = Callable[[Arm], tuple[Resolved, RunSpec]]


def resolver(study: Study, experiment: ExperimentFile, spec: RunSpec) -> Resolve:
    """Returns the function that gives `run_worker` the knobs of an arm, and `spec` with them."""

    def resolve(arm: Arm) -> tuple[Resolved, RunSpec]:
        resolved = experiment.resolve(merge_knobs(study.knobs, arm))
        return resolved, spec.with_knobs(resolved, experiment.sources(resolved))

    return resolve


def run_worker(
    study_runs: Sequence[StudyRun],
    resolve: Resolve,
    status_file: pathlib.Path | None = None,
    targets: Targets | None = None,
    *,
    at_once: int = 1,
) -> None:
    """Trains those of the runs that are neither finished nor being trained by another process, group by group.

    A run that diverges or fails does not stop the others; Preempted is passed on. A run that fails, or whose process dies,
    while this process works is left alone: the scheduler decides whether it is tried again.

    Args:
        study_runs: the runs; groups are trained in the order in which they first come.
        resolve: arm -> its knobs and its spec.
        status_file: the file in which this worker records what it trains (`runs.write_worker_status`), and in which the
            scheduler recorded which attempts had failed when it started this worker.
        targets: the targets of all runs of a study whose worse arms are stopped early; None: runs are trained to their end.
        at_once: runs of one group that take their steps in one batched program; 1: one after another.
    """
    if not processes.is_main():
        status_file = None  # of several processes that train each run together, the first alone writes
    given = (files.read_json(status_file) or {}).get("failed_attempts") if status_file else None
    failed_before = {str(study_run.folder): _failed_attempt(study_run) for study_run in study_runs} if given is None else given
    ended = 0
    write_worker_status(status_file, [], ended=ended)
    programs: dict[str, Program] = {}
    group = None
    chosen = next_runs(study_runs, targets, at_once) if targets else _groups(study_runs, at_once)
    for free, stop in _agreed(_free(chosen, failed_before), study_runs):
        if free[0].arm.group != group:
            group, programs = free[0].arm.group, {}
        write_worker_status(status_file, free, ended=ended)
        ended += _train_batched(free, resolve, programs, stop)
        write_worker_status(status_file, [], ended=ended)


def _free(
    chosen: Iterator[tuple[list[StudyRun], int | None]], failed_before: Mapping[str, int | None]
) -> Iterator[tuple[list[StudyRun], int | None]]:
    """Yields what is left of each choice of runs, as it is when it comes to them."""
    for some, stop in chosen:
        if free := [study_run for study_run in some if _is_free(study_run, failed_before.get(str(study_run.folder)))]:
            yield free, stop


def _agreed(
    chosen: Iterator[tuple[list[StudyRun], int | None]], study_runs: Sequence[StudyRun]
) -> Iterator[tuple[list[StudyRun], int | None]]:
    """Yields what process 0 chooses, in all processes that train each run together."""
    if processes.count() == 1:
        yield from chosen
        return
    numbers = {str(study_run.folder): number for number, study_run in enumerate(study_runs)}

    def next_choice() -> list[Any] | None:
        some, stop = next(chosen, ([], None))
        return [[numbers[str(study_run.folder)] for study_run in some], stop] if some else None

    while found := processes.agreed(next_choice):
        yield [study_runs[number] for number in found[0]], found[1]


def _is_free(study_run: StudyRun, failed_before: int | None) -> bool:
    """Returns whether a run is unfinished, is trained by nobody, and has not failed since this process began."""
    if study_run.state in FINISHED or _failed_attempt(study_run) not in (None, failed_before):
        return False
    if study_run.state == "RUNNING" and not study_run.is_dead():
        log.info("%s, seed %d is being trained by %s", study_run.arm.name, study_run.seed, study_run.status["process"])
        return False
    return True


def _groups(study_runs: Sequence[StudyRun], at_once: int) -> Iterator[tuple[list[StudyRun], int | None]]:
    """Yields every run once, group by group, `at_once` at a time, to be trained to its end."""
    for group in dict.fromkeys(study_run.arm.group for study_run in study_runs):
        left = [study_run for study_run in study_runs if study_run.arm.group == group]
        while left := [study_run for study_run in left if study_run.state not in FINISHED]:
            yield left[:at_once], None
            left = left[at_once:]


def next_runs(mine: Sequence[StudyRun], targets: Targets, at_once: int = 1) -> Iterator[tuple[list[StudyRun], int | None]]:
    """Yields (runs that share a compilation, step to which they are due), each run at most once for each such step.

    What is due is read anew each time. The runs that have progressed farthest come first, as in ASHA; then those that share the
    compilation of the runs before; then all seeds of an arm together, so that it soon has a score.
    """
    folders = {str(study_run.folder) for study_run in mine}
    arms = {name: place for place, name in enumerate(dict.fromkeys(study_run.arm.name for study_run in mine))}
    taken: set[tuple[str, int | None]] = set()
    group = None
    while True:
        statuses = [study_run.status for study_run in targets.study_runs]
        due = []
        for study_run, status, stop in zip(targets.study_runs, statuses, targets.by(statuses), strict=True):
            folder, arm = str(study_run.folder), study_run.arm
            if folder in folders and (folder, stop) not in taken and is_due(status, stop):
                due.append(((-(stop or arm.steps or 0), arm.group != group, arms[arm.name]), study_run, stop))
        if not due:
            return
        due.sort(key=lambda one: one[0])  # a stable sort: of equals, the run that comes first in the study
        _, first, stop = due[0]
        some = [study_run for _, study_run, aim in due if study_run.arm.group == first.arm.group and aim == stop][:at_once]
        taken |= {(str(study_run.folder), stop) for study_run in some}
        group = first.arm.group
        yield some, stop


def _train_batched(study_runs: Sequence[StudyRun], resolve: Resolve, programs: dict[str, Program], stop: int | None) -> int:
    """Trains runs of one group up to a step, in one batched program; returns how many this process trained.

    Where that fails (memory that ran out, a folder that another process holds) they are trained one after another, so that
    the run at fault is the only one that fails.
    """
    if len(study_runs) > 1:
        try:
            members = [_run_inputs(study_run, resolve, programs, stop) for study_run in study_runs]
            log.info("%d runs of %s … in one batched program", len(members), study_runs[0].arm.name)
            for study_run, result in zip(study_runs, run.train_batched(members), strict=True):
                if isinstance(result, DivergedError):
                    log.warning("%s, seed %d diverged: %s", study_run.arm.name, study_run.seed, result)
            return len(study_runs)
        except Preempted:
            raise
        except Exception as error:
            log.warning(
                "%d runs could not be trained in one batched program, so they are trained one after another: %s",
                len(study_runs),
                error,
            )
    return sum(_train(study_run, resolve, programs, stop) for study_run in study_runs)


def _run_inputs(study_run: StudyRun, resolve: Resolve, programs: dict[str, Program], stop: int | None) -> run.RunInputs:
    """Returns what `run.train_run` needs of a run. Adds to `programs`, {arm: program} of the group."""
    resolved, spec = resolve(study_run.arm)
    if processes.is_main():
        check_folder(study_run.folder, spec, overwrite=False, seed=study_run.seed)
    if study_run.arm.name not in programs:
        # The study may have been planned when a knob had another path.
        numbers = {resolved.path_of(name): value for name, value in study_run.arm.numbers.items()}
        compiled = next(iter(programs.values()), None)
        programs[study_run.arm.name] = (
            compiled.member(resolved.call(), numbers) if compiled else run.build(resolved, spec, numbers=numbers)
        )
    built = programs[study_run.arm.name].experiment
    if processes.is_main():
        check_folder(study_run.folder, spec, overwrite=False, seed=study_run.seed, experiment=built)
    return (
        programs[study_run.arm.name],
        study_run.folder,
        dataclasses.replace(spec, stop_after=stop) if stop else spec,
        study_run.seed,
    )


def _train(study_run: StudyRun, resolve: Resolve, programs: dict[str, Program], stop: int | None) -> bool:
    """Trains one run up to a step, or records why it failed; returns whether this process did so."""
    log.info("%s, seed %d", study_run.arm.name, study_run.seed)
    attempt = study_run.status.get("attempt", 0) + 1
    try:
        member = _run_inputs(study_run, resolve, programs, stop)
        if not processes.agreed(lambda: is_due(study_run.status, stop)):  # another worker was faster than this one compiled
            return False
        run.train_run(*member, overwrite=False)
    except Busy:
        if processes.count() > 1:
            raise
        log.info("  is being trained by another process")
        return False
    except Preempted:
        raise
    except DivergedError as error:
        log.warning("%s, seed %d diverged: %s", study_run.arm.name, study_run.seed, error)
    except Exception as error:  # whatever a library raises, memory that ran out among it, ends this run and no other
        if found := of_the_world(error):
            log.error("%s, seed %d failed: %s", study_run.arm.name, study_run.seed, found)
        else:
            log.exception("%s, seed %d failed", study_run.arm.name, study_run.seed)
        message = str(found or f"{type(error).__name__}: {error}")
        is_ours = processes.is_main() and study_run.record("FAILED", message, attempt=attempt, process=this_process())
        if processes.count() > 1:
            raise  # the other processes may wait for this one: all of them end, and a new worker goes on with the next run
        return is_ours
    return True


def _failed_attempt(study_run: StudyRun) -> int | None:
    """Returns the number of the attempt that failed or whose process is gone; None where the last attempt did neither."""
    status = study_run.status
    return status.get("attempt", 0) if status.get("state") == "FAILED" or study_run.is_dead() else None
