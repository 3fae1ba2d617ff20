"""One session on a device: the cases that were asked for, in order, until they are done or the minutes are over."""

from collections.abc import Sequence

from benchmarks.accelerator import batched, ceilings, cifar10, steps, unfinished, works
from benchmarks.accelerator.board import Board, Case, Settings
from cnnlab.errors import UsageError, did_you_mean


def all_cases() -> tuple[Case, ...]:
    """Returns every case, the most valuable first."""
    return (*works.cases(), *ceilings.CASES, *steps.CASES, *batched.CASES, *cifar10.CASES, *unfinished.CASES)


def chosen(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """Returns the cases of the named parts or with these names; all for no name. Raises UsageError for an unknown name."""
    known = {name for case in cases for name in (case.part, case.name)}
    for name in only:
        if name not in known:
            names = sorted(known)
            raise UsageError(f"--only={name}: no such part or case.{did_you_mean(name, names)}\nThere are: {', '.join(names)}.")
    return [case for case in cases if not only or {case.part, case.name} & set(only)]


def measure(cases: Sequence[Case], board: Board, settings: Settings) -> bool:
    """Runs the cases and returns whether all went well; the file of the board is whole at any moment.

    A case that would not end in time is not begun; one whose time runs out stops after the row that it is measuring.
    """
    good = True
    for case in cases:
        needed = 1.0 if settings.tiny else case.seconds
        if settings.left() < needed:
            board.leave_out(case, f"{max(settings.left(), 0):.0f} s are left and it may take {needed:.0f} s")
            continue
        try:
            for row in case.rows(settings):
                board.add(case, row)
                if settings.left() <= 0:
                    board.leave_out(case, f"the minutes were over after {row.name!r}")
                    break
        except Exception as error:  # one case that fails must not take the others' time on a borrowed machine
            good = False
            board.leave_out(case, f"{type(error).__name__}: {str(error).strip()[:500]}")
    board.write()
    return good
