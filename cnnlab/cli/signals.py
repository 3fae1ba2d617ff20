"""SIGTERM, SIGUSR2 and Ctrl-C while nothing is trained: they end a command with one line. Imports no jax."""

import contextlib
import signal
import threading
import time
import types
from collections.abc import Iterator

from cnnlab.errors import STOP_SIGNALS, Preempted

RETRY_SECONDS = 0.05
LONGEST_WAIT = 5.0
"""Seconds that a signal waits at most for code that it cannot interrupt."""


@contextlib.contextmanager
def raised_as_errors(received: list[Preempted]) -> Iterator[None]:
    """Raises Preempted, added to `received`, for a signal; training and the scheduler of a study handle them themselves.

    The error waits where it would be lost or become another one: in a module that is being imported, in a callback of the
    garbage collector or in a destructor.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: types.FrameType | None) -> None:
        if not received:
            text = f"stopped by {signal.Signals(number).name} while nothing was trained. What was finished is kept; the same "
            received.append(Preempted(f"{text}command does the rest."))
            waits_until.append(time.monotonic() + LONGEST_WAIT)
        if hasattr(signal, "setitimer") and _is_delicate(frame) and time.monotonic() < waits_until[0]:
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
            return
        raise received[0]

    waits_until: list[float] = []
    numbers = [*STOP_SIGNALS, *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_delicate(frame: types.FrameType | None) -> bool:
    """Returns whether an error that is raised in a frame may not reach the command."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") or code.co_name in ("_xla_gc_callback", "__del__"):
            return True
        frame = frame.f_back
    return False
