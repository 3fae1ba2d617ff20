"""Trains what is left of a study, one compilation for each group of arms. Any number of such processes may share a study."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence

from cnnlab import files
from cnnlab.ablation.plan.pruning import FINISHED, is_due
from cnnlab.ablation.plan.study import Arm
from cnnlab.ablation.run.runs import StudyRun, Targets, this_process, write_worker_note
from cnnlab.engine.program import Program
from cnnlab.errors import CnnlabError, DivergedError, Preempted
from cnnlab.knobs import Resolved
from cnnlab.runs import run
from cnnlab.runs.folder import Busy, RunSpec, check_folder

log = logging.getLogger("cnnlab")

Resolve = Callable[[Arm], tuple[Resolved, RunSpec]]


def run_worker(
    cells: Sequence[StudyRun],
    resolve: Resolve,
    note: pathlib.Path | None = None,
    targets: Targets | None = None,
    *,
    at_once: int = 1,
) -> None:
    """Trains those of the cells that are neither finished nor being trained by another process, group by group.

    A cell that diverges or fails does not stop the others; Preempted goes through. A cell that fails, or whose process dies,
    while this process works is left alone: whether it is tried again is the launcher's to say.

    Args:
        cells: groups in the order in which they first come.
        resolve: arm -> its knobs and its spec.
        note: the file in which to say what is being trained (see `cells.sign`), and in which the launcher said which attempts
            had failed when it asked for another one.
        targets: of all cells of a study whose worse arms are stopped early; None: every cell is trained to its end.
        at_once: cells of one group that take their steps in one batched program; 1: one after another.
    """
    given = (files.read_json(note) or {}).get("broken") if note else None
    broken_before = {str(cell.folder): _failed_attempt(cell) for cell in cells} if given is None else given
    ended = 0
    write_worker_note(note, [], ended=ended)
    programs: dict[str, Program] = {}
    group = None
    for some, stop in next_runs(cells, targets, at_once) if targets else _groups(cells, at_once):
        free = [cell for cell in some if _is_free(cell, broken_before.get(str(cell.folder)))]
        if not free:
            continue
        if free[0].arm.group != group:
            group, programs = free[0].arm.group, {}
        write_worker_note(note, free, ended=ended)
        ended += _train_batched(free, resolve, programs, stop)
        write_worker_note(note, [], ended=ended)


def _is_free(cell: StudyRun, broken_before: int | None) -> bool:
    """Whether nobody has finished it, trains it, or broke it since this process began."""
    if cell.state in FINISHED or _failed_attempt(cell) not in (None, broken_before):
        return False
    if cell.state == "RUNNING" and not cell.is_dead():
        log.info("%s, seed %d is being trained by %s", cell.arm.name, cell.seed, cell.status["process"])
        return False
    return True


def _groups(cells: Sequence[StudyRun], at_once: int) -> Iterator[tuple[list[StudyRun], int | None]]:
    """Every cell once, group by group, so many at once, to its end."""
    for group in dict.fromkeys(cell.arm.group for cell in cells):
        left = [cell for cell in cells if cell.arm.group == group]
        while left := [cell for cell in left if cell.state not in FINISHED]:
            yield left[:at_once], None
            left = left[at_once:]


def next_runs(cells: Sequence[StudyRun], targets: Targets, at_once: int = 1) -> Iterator[tuple[list[StudyRun], int | None]]:
    """(cells that share a compilation, step to which they are due), asked anew each time; a cell at most once for each step.

    What has gone on farthest comes first, as ASHA has it; then what shares the compilation of the cells before; then all
    seeds of an arm together, so that it soon has a score.
    """
    mine = {str(cell.folder) for cell in cells}
    arms = {name: place for place, name in enumerate(dict.fromkeys(cell.arm.name for cell in cells))}
    taken: set[tuple[str, int | None]] = set()
    group = None
    while True:
        statuses = [cell.status for cell in targets.cells]
        due = [
            (-(stop or cell.arm.steps or 0), cell.arm.group != group, arms[cell.arm.name], number, cell, stop)
            for number, (cell, status, stop) in enumerate(zip(targets.cells, statuses, targets.by(statuses), strict=True))
            if str(cell.folder) in mine and (str(cell.folder), stop) not in taken and is_due(status, stop)
        ]
        if not due:
            return
        due.sort(key=lambda one: one[:4])
        *_, first, stop = due[0]
        some = [cell for *_, cell, aim in due if cell.arm.group == first.arm.group and aim == stop][:at_once]
        taken |= {(str(cell.folder), stop) for cell in some}
        group = first.arm.group
        yield some, stop


def _train_batched(cells: Sequence[StudyRun], resolve: Resolve, programs: dict[str, Program], stop: int | None) -> int:
    """Trains cells of one group up to a step, in one batched program; how many it was this process that did.

    Where that fails (memory that ran out, a folder that another process holds) they are trained one after another, so that
    one which fails alone is the only one that does.
    """
    if len(cells) > 1:
        try:
            members = [_run_inputs(cell, resolve, programs, stop) for cell in cells]
            log.info("%d runs of %s … together", len(members), cells[0].arm.name)
            for cell, became in zip(cells, run.train_batched(members), strict=True):
                if isinstance(became, DivergedError):
                    log.warning("%s, seed %d diverged: %s", cell.arm.name, cell.seed, became)
            return len(cells)
        except Preempted:
            raise
        except Exception as error:
            log.warning("%d runs could not be trained together, so one after another: %s", len(cells), error)
    return sum(_train(cell, resolve, programs, stop) for cell in cells)


def _run_inputs(cell: StudyRun, resolve: Resolve, programs: dict[str, Program], stop: int | None) -> run.RunInputs:
    """What `run.train_run` takes of a cell. Fills in `programs`, {arm: program} of the group."""
    resolved, spec = resolve(cell.arm)
    check_folder(cell.folder, spec, overwrite=False)
    if cell.arm.name not in programs:
        numbers = cell.arm.numbers
        compiled = next(iter(programs.values()), None)
        programs[cell.arm.name] = (
            compiled.member(resolved.call(), numbers) if compiled else run.build(resolved, spec, numbers=numbers)
        )
    return programs[cell.arm.name], cell.folder, dataclasses.replace(spec, stop_after=stop) if stop else spec, cell.seed


def _train(cell: StudyRun, resolve: Resolve, programs: dict[str, Program], stop: int | None) -> bool:
    """Trains one cell up to a step, or writes down why it failed; whether it was this process that did."""
    log.info("%s, seed %d", cell.arm.name, cell.seed)
    attempt = cell.status.get("attempt", 0) + 1
    try:
        member = _run_inputs(cell, resolve, programs, stop)
        if not is_due(cell.status, stop):  # another process was faster than this one compiled
            return False
        run.train_run(*member, overwrite=False)
    except Busy:
        log.info("  is being trained by another process")
        return False
    except Preempted:
        raise
    except DivergedError as error:
        log.warning("%s, seed %d diverged: %s", cell.arm.name, cell.seed, error)
    except CnnlabError as error:
        log.error("%s, seed %d failed: %s", cell.arm.name, cell.seed, error)
        return cell.record("FAILED", str(error), attempt=attempt, process=this_process())
    except Exception as error:  # whatever a library raises, memory that ran out among it, ends this run and no other
        log.exception("%s, seed %d failed", cell.arm.name, cell.seed)
        return cell.record("FAILED", f"{type(error).__name__}: {error}", attempt=attempt, process=this_process())
    return True


def _failed_attempt(cell: StudyRun) -> int | None:
    """Number of the attempt that failed or whose process is gone; None where there is no such attempt."""
    status = cell.status
    return status.get("attempt", 0) if status.get("state") == "FAILED" or cell.is_dead() else None
