"""Trains what is left of a study, one compilation for each group of arms. Any number of such processes may share a study."""

import logging
import pathlib
from collections.abc import Callable, Sequence

from cnnlab import run, train, write
from cnnlab.ablation.cells import FINISHED, Cell, sign, this_process
from cnnlab.ablation.study import Arm
from cnnlab.errors import CnnlabError, DivergedError, Preempted
from cnnlab.folder import Busy, Plan, check_folder
from cnnlab.knobs import Resolved

log = logging.getLogger("cnnlab")

Resolve = Callable[[Arm], tuple[Resolved, Plan]]


def work(cells: Sequence[Cell], resolve: Resolve, note: pathlib.Path | None = None) -> None:
    """Trains those of the cells that are neither finished nor being trained by another process, group by group.

    A cell that diverges or fails does not stop the others; Preempted goes through. A cell that fails, or whose process dies,
    while this process works is left alone: whether it is tried again is the launcher's to say.

    Args:
        cells: groups in the order in which they first come.
        resolve: arm -> its knobs and its plan.
        note: the file in which to say what is being trained (see `cells.sign`), and in which the launcher said which attempts
            had failed when it asked for another one.
    """
    given = (write.read_json(note) or {}).get("broken") if note else None
    broken_before = {str(cell.folder): _broken(cell) for cell in cells} if given is None else given
    ended = 0
    sign(note, None, ended=ended)
    for group in dict.fromkeys(cell.arm.group for cell in cells):
        programs: dict[str, train.Program] = {}
        for cell in [cell for cell in cells if cell.arm.group == group]:
            if cell.state in FINISHED or _broken(cell) not in (None, broken_before.get(str(cell.folder))):
                continue
            if cell.state == "RUNNING" and not cell.is_dead():
                log.info("%s, seed %d is being trained by %s", cell.arm.name, cell.seed, cell.status["process"])
                continue
            sign(note, cell, ended=ended)
            ended += _train(cell, resolve, programs)
            sign(note, None, ended=ended)


def _train(cell: Cell, resolve: Resolve, programs: dict[str, train.Program]) -> bool:
    """Trains one cell, or writes down why it failed; whether it was this process that did. Fills in `programs`,
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
        if cell.state in FINISHED:  # another process was faster than this one compiled
            return False
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
