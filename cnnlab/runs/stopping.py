"""How training is stopped: by a signal, which all processes of a run obey at one step, or since no step is made any more."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from cnnlab.engine import processes
from cnnlab.errors import STOP_SIGNALS, WARNING_SIGNAL, Preempted

log = logging.getLogger("cnnlab")


class StopRequest:
    """Whether a signal asked this process to end; it counts the seconds since then, and leaves when they are over.

    A handler in Python waits for C++ code, such as a compilation of minutes. Therefore a thread waits for the byte that the
    interpreter's handler in C writes for each signal, and ends the process where training does not end in time.
    """

    def __init__(self, grace: float) -> None:
        """Waits for signals, for the main thread.

        Args:
            grace: seconds from the first signal to the end of the process.
        """
        self.received: list[int] = []
        self.on_leaving: list[Callable[[str], None]] = []
        """Functions of the reason that write the status of a run before the process ends at once."""
        self._grace, self._over = grace, threading.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)  # as the interpreter asks for
        self._handlers = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="grace", daemon=True)
        self._thread.start()

    def __call__(self) -> bool:
        """Returns whether to stop."""
        return bool(self.received)

    def close(self) -> None:
        """Puts back the handlers that there were."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._over.set()
        os.write(self._writer, b"\0")
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def _handle(self, number: int, frame: object) -> None:
        name = signal.Signals(number).name
        # Slurm sends SIGUSR2 as a warning, and SIGTERM some time after it: the second of these asks for nothing new.
        if any(before != WARNING_SIGNAL for before in self.received) and number != WARNING_SIGNAL:
            self._leave(f"stopped by a second {name}, without a checkpoint of its last steps", 128 + number)
        if not self.received:
            log.warning("\n%s: saving a checkpoint; once more to leave at once.", name)
        self.received.append(number)

    def _watch(self) -> None:
        """Waits for the first signal, then for the end of training; ends the process where that takes too long."""
        while (number := os.read(self._reader, 1)[0]) not in STOP_SIGNALS:
            if self._over.is_set():
                return
        if not self._over.wait(self._grace):
            name = signal.Signals(number).name
            reason = f"stopped by {name}: the step at hand did not end within --grace_s={self._grace:g} seconds"
            print(f"\n{reason}. The same command goes on from the newest checkpoint.", file=sys.stderr, flush=True)
            self._leave(reason, Preempted.exit_code)

    def _leave(self, reason: str, code: int) -> None:
        """Ends the process at once, after the runs at hand have a status that says so."""
        for write in self.on_leaving:
            with contextlib.suppress(Exception):  # a disk that is full must not keep the process
                write(reason)
        os._exit(code)


@contextlib.contextmanager
def stop_signals(grace: float) -> Iterator[Callable[[], bool]]:
    """Yields `should_stop`, which returns true after SIGTERM, Ctrl-C or SIGUSR2; a second SIGTERM or Ctrl-C ends the process.

    Several processes stop at the same step, whichever of them got the signal; their parent handles the second one.

    Args:
        grace: seconds from the first signal to the end of the process, whatever it does; for a process alone.
    """
    if processes.count() > 1:
        with _warning_as_sigterm():
            yield processes.agreed_stop()
        return
    request = StopRequest(grace)
    try:
        yield request
    finally:
        request.close()


def before_leaving(should_stop: Callable[[], bool], write: Callable[[str], None]) -> None:
    """Has `write` called with the reason before a signal ends this process at once; where it is one of several, nothing is."""
    if isinstance(should_stop, StopRequest):
        should_stop.on_leaving.append(write)


@contextlib.contextmanager
def _warning_as_sigterm() -> Iterator[None]:
    """Passes SIGUSR2 on as SIGTERM, the one signal that jax's preemption service takes."""
    if WARNING_SIGNAL is None:
        yield
        return
    before = signal.signal(WARNING_SIGNAL, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(WARNING_SIGNAL, before)


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
