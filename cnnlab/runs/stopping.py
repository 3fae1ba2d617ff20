"""How training is stopped: by a signal, which all processes of a run obey at one step, or since no step is made any more."""

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator

from cnnlab.engine import processes

log = logging.getLogger("cnnlab")


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields `should_stop`, which returns true after SIGTERM or Ctrl-C; a second signal ends the process at once.

    Several processes stop at the same step, whichever of them got the signal; their parent handles the second one.
    """
    if processes.count() > 1:
        yield processes.agreed_stop()
        return
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


@contextlib.contextmanager
def watched(seconds: float) -> Iterator[None]:
    """Ends this process, one of several, where no step is made for so many seconds."""
    if processes.count() == 1:
        yield
        return
    watchdog = processes.Watchdog(processes.agreed_stop(), seconds)
    try:
        yield
    finally:
        watchdog.close()
