"""How training is stopped: by a signal, which all processes of a run obey at one step, or since no step is made any more."""

import contextlib
import functools
import logging
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from cnnlab.engine import processes
from cnnlab.engine.agreed_stop import AgreedStop, agreed_stop, silent_processes, this_process
from cnnlab.errors import STOP_SIGNALS, WARNING_SIGNAL, PeerLost, Preempted

log = logging.getLogger("cnnlab")

BEAT_SECONDS = 1.0
"""Seconds between two looks at whether steps are made."""
GROUP_STEP_SECONDS = 600
"""Seconds without a step after which one of several processes ends: a peer that is stuck keeps it waiting for ever."""
MARGIN_SECONDS = 3.0
"""How much earlier one of several processes leaves, so that their parent ends within the grace."""
BEHIND_SECONDS = 1.0
"""How much later than process 0 the others leave, which would end it before it has written the status."""


class StopRequest:
    """Whether a signal asked this process to end; it counts the seconds since then, and leaves when they are over.

    A handler in Python waits for C++ code, such as a compilation of minutes. Therefore a thread waits for the byte that the
    interpreter's handler in C writes for each signal, and ends the process where training does not end in time.
    """

    def __init__(self, grace: float, *, patience: float | None = None) -> None:
        """Waits for signals, for the main thread.

        Args:
            grace: seconds from the first signal to the end of the process, as the user set them.
            patience: seconds after which this process leaves; None: the grace.
        """
        self.received: list[int] = []
        self.on_leaving: list[Callable[..., None]] = []
        """Functions of (reason, state) that write the status of a run before the process ends at once."""
        self.polls, self.polled = 0, time.monotonic()
        """Number and time of the calls, by which it is known that steps are made."""
        self._grace, self._patience, self._over = grace, grace if patience is None else patience, threading.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)  # as the interpreter asks for
        self._handlers = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        self._wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="grace", daemon=True)
        self._thread.start()

    def __call__(self) -> bool:
        """Returns whether to stop."""
        self.polls, self.polled = self.polls + 1, time.monotonic()
        return bool(self.received)

    def begin(self) -> None:
        """Counts the time without a step from now on."""
        self.polled = time.monotonic()

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
        cause = self._asked(signal.Signals(number).name)
        if not self._over.wait(self._patience):
            reason = f"stopped by {cause}: the step at hand did not end within --grace_s={self._grace:g} seconds{self._peers()}"
            print(f"\n{reason}. The same command goes on from the newest checkpoint.", file=sys.stderr, flush=True)
            self._leave(reason, Preempted.exit_code)

    def _asked(self, name: str) -> str:
        """Takes in the first signal; returns what asked this process to end."""
        return name

    def _name(self) -> str:
        """Returns what this process is called in a sentence."""
        return "the process"

    def _peers(self) -> str:
        """Returns what is known of the other processes, as the end of a sentence; empty where there are none."""
        return ""

    def stuck(self, seconds: float) -> None:
        """Ends the process, which has made no step for so many seconds."""
        timed = f"made no step for {seconds:.0f} s (--step_timeout), after {self.polls} polls"
        reason = f"{self._name()} {timed}{self._peers()}"
        print(f"\nerror: {reason}.\nThe same command goes on from the newest checkpoint.", file=sys.stderr, flush=True)
        self._leave(reason, PeerLost.exit_code, state="FAILED")

    def _leave(self, reason: str, code: int, *, state: str = "PREEMPTED") -> None:
        """Ends the process at once, after the runs at hand have a status that says so."""
        for write in self.on_leaving:
            with contextlib.suppress(Exception):  # a disk that is full must not keep the process
                write(reason, state)
        os._exit(code)


class GroupRequest(StopRequest):
    """The same for one of several processes, until its end: all stop at the step on which they agree.

    A signal to any of them asks all, and the grace of each begins as it learns of that. A second signal is for their parent.
    """

    def __init__(self, grace: float, agreed: AgreedStop) -> None:
        """Waits for signals to any of the processes.

        Args:
            grace: seconds from the first signal to the end of all of them and of their parent.
            agreed: what they agree on.
        """
        self._agreed, self._is_asked = agreed, False
        patience = max(grace - MARGIN_SECONDS, grace / 2)
        super().__init__(grace, patience=patience if processes.is_main() else patience + BEHIND_SECONDS)
        agreed.take_part(self._noticed)

    def __call__(self) -> bool:
        """Returns whether to stop, at the same call in every process."""
        stop = self._agreed()
        self.polls, self.polled = self._agreed.polls, self._agreed.polled
        return stop

    def _handle(self, number: int, frame: object) -> None:
        """Does nothing: the thread that learns of the signal asks the others, whatever this process is in the middle of."""

    def _asked(self, name: str) -> str:
        self._is_asked = True
        self._agreed.request(name)
        return self._agreed.reason

    def _noticed(self) -> None:
        """Begins the grace where the signal went to another process."""
        if not self._is_asked:
            log.warning("\n%s: all save a checkpoint.", self._agreed.reason)
            os.write(self._writer, bytes([signal.SIGTERM]))

    def _name(self) -> str:
        return this_process()

    def _peers(self) -> str:
        return f"; {silent_processes()}"


@functools.cache
def group_request(grace: float) -> GroupRequest:
    """Returns the one of this process, one of several, which takes part from then on."""
    return GroupRequest(grace, agreed_stop())


@contextlib.contextmanager
def stop_signals(grace: float) -> Iterator[StopRequest]:
    """Yields `should_stop`, which returns true after SIGTERM, Ctrl-C or SIGUSR2; a second SIGTERM or Ctrl-C ends the process.

    Several processes stop at the same step, whichever of them got the signal; their parent handles the second one.

    Args:
        grace: seconds from the first signal to the end of the process, whatever it does.
    """
    if processes.count() > 1:
        group = group_request(grace)
        try:
            yield group
        finally:
            group.on_leaving.clear()
        return
    request = StopRequest(grace)
    try:
        yield request
    finally:
        request.close()


def before_leaving(should_stop: Callable[[], bool], write: Callable[..., None]) -> None:
    """Has `write` called with the reason and the state of the run before this process ends at once."""
    if isinstance(should_stop, StopRequest):
        should_stop.on_leaving.append(write)


@contextlib.contextmanager
def watched(request: StopRequest, limit: int | None, heartbeat: pathlib.Path | None = None) -> Iterator[None]:
    """Ends this process where no step is made for too long, and shows another one that steps are made.

    Args:
        request: what every step polls.
        limit: seconds without a step, compilation included, after which the process ends; None: GROUP_STEP_SECONDS for one of
            several, else there is no limit.
        heartbeat: file that is touched as long as steps are made, which the scheduler of a study looks at; None: none is.
    """
    if limit is None and processes.count() > 1:
        limit = GROUP_STEP_SECONDS
    if limit is None and heartbeat is None:
        yield
        return
    request.begin()
    over = threading.Event()
    thread = threading.Thread(target=_watch_steps, args=(request, limit, heartbeat, over), name="steps", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _watch_steps(request: StopRequest, limit: int | None, heartbeat: pathlib.Path | None, over: threading.Event) -> None:
    """Looks at the polls of a process until its run is over."""
    seen = -1
    while not over.wait(BEAT_SECONDS):
        if heartbeat and request.polls != seen:
            seen = request.polls
            with contextlib.suppress(OSError):
                os.utime(heartbeat)
        if limit and (waited := time.monotonic() - request.polled) > limit:
            request.stuck(waited)
