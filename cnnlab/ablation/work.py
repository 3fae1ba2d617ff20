"""Trains what is left of a study, one compilation for each group of arms. Any number of such processes may share a study."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Iterator, Sequence

from cnnlab import run, train, write
from cnnlab.ablation.cells import Cell, Targets, sign, this_process
from cnnlab.ablation.pruning import FINISHED, is_due
from cnnlab.ablation.study import Arm
from cnnlab.errors import CnnlabError, DivergedError, Preempted
from cnnlab.folder import Busy, Plan, check_folder
from cnnlab.knobs import Resolved

log = logging.getLogger("cnnlab")

Resolve = Callable[[Arm], tuple[Resolved, Plan]]


def work(cells: Sequence[Cell], resolve: Resolve, note: pathlib.Path | None = None, targets: Targets | None = None) -> None:
    """Trains those of the cells that are neither finished nor being trained by another process, group by group.

    A cell that diverges or fails does not stop the others; Preempted goes through. A cell that fails, or whose process dies,
    while this process works is left alone: whether it is tried again is the launcher's to say.

    Args:
        cells: groups in the order in which they first come.
        resolve: arm -> its knobs and its plan.
        note: the file in which to say what is being trained (see `cells.sign`), and in which the launcher said which attempts
            had failed when it asked for another one.
        targets: of all cells of a study whose worse arms are stopped early; None: every cell is trained to its end.
    """
    given = (write.read_json(note) or {}).get("broken") if note else None
    broken_before = {str(cell.folder): _broken(cell) for cell in cells} if given is None else given
    ended = 0
    sign(note, None, ended=ended)
    programs: dict[str, train.Program] = {}
    group = None
    for cell, stop in turns(cells, targets) if targets else _groups(cells):
        if cell.state in FINISHED or _broken(cell) not in (None, broken_before.get(str(cell.folder))):
            continue
        if cell.state == "RUNNING" and not cell.is_dead():
            log.info("%s, seed %d is being trained by %s", cell.arm.name, cell.seed, cell.status["process"])
            continue
        if cell.arm.group != group:
            group, programs = cell.arm.group, {}
        sign(note, cell, ended=ended)
        ended += _train(cell, resolve, programs, stop)
        sign(note, None, ended=ended)


def _groups(cells: Sequence[Cell]) -> Iterator[tuple[Cell, int | None]]:
    """Every cell once, group by group, to its end."""
    for group in dict.fromkeys(cell.arm.group for cell in cells):
        yield from ((cell, None) for cell in cells if cell.arm.group == group)


def turns(cells: Sequence[Cell], targets: Targets) -> Iterator[tuple[Cell, int | None]]:
    """(cell, step to which it is due), asked anew each time; every cell at most once for each step.

    What has gone on farthest comes first, as ASHA has it; then what shares the compilation of the cell before; then all
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
        *_, cell, stop = min(due, key=lambda one: one[:4])
        taken.add((str(cell.folder), stop))
        group = cell.arm.group
        yield cell, stop


def _train(cell: Cell, resolve: Resolve, programs: dict[str, train.Program], stop: int | None) -> bool:
    """Trains one cell up to a step, or writes down why it failed; whether it was this process that did. Fills in `programs`,
    {arm: program} of the group.
    """
    log.info("%s, seed %d", cell.arm.name, cell.seed)
    attempt = cell.status.get("attempt", 0) + 1
    try:
        resolved, plan = resolve(cell.arm)
        check_folder(cell.folder, plan, overwrite=False)
        if cell.arm.name not in programs:
            numbers = cell.arm.numbers
            compiled = next(iter(programs.values()), None)
            programs[cell.arm.name] = (
                compiled.member(resolved.call(), numbers) if compiled else run.build(resolved, plan, numbers=numbers)
            )
        if not is_due(cell.status, stop):  # another process was faster than this one compiled
            return False
        plan = dataclasses.replace(plan, stop_after=stop) if stop else plan
        run.train_run(programs[cell.arm.name], cell.folder, plan, cell.seed, overwrite=False)
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


def _broken(cell: Cell) -> int | None:
    """Number of the attempt that failed or whose process is gone; None where there is no such attempt."""
    status = cell.status
    return status.get("attempt", 0) if status.get("state") == "FAILED" or cell.is_dead() else None
