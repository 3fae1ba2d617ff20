"""The step at which several processes of a run stop, after a signal to any of them.

Each process counts the points of its program at which it could stop, its polls, and all have the same ones. A process that got
a signal leaves a notice with the coordinator. Then each states how many polls it has made, and all stop at the one after the
most. None makes a poll while they agree, so none can pass that one. Threads do this, since the program may be in the middle of
a step.
"""

import atexit
import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable

import jax

from cnnlab.engine.processes import client, count

log = logging.getLogger("cnnlab")

BEAT_SECONDS = 1.0
"""Seconds between two signs of life of a process, and after which it knows of a notice of another one at the latest."""
SIGN = "cnnlab/alive/"
"""Prefix of the keys under which processes leave their signs of life with the coordinator."""
NOTICE = "cnnlab/stop/notice"
"""Key of the signal that one of the processes got, in words."""
POLLS = "cnnlab/stop/polls/"
"""Prefix of the keys of the numbers of polls that the processes had made when they learnt of the notice."""
AGREE_SECONDS = 600
"""Longest time in which all have to learn of a notice. It ends nothing: a process that is left over ends with its grace."""
ANSWER_SECONDS = 5.0
"""Longest time to wait for the coordinator with a question that only explains an error."""


class AgreedStop:
    """Whether a signal asked any of the processes to end: all learn it at the same poll, so that all stop at the same step.

    Every process must poll at the same points of its program. A poll is also a sign of progress.
    """

    def __init__(self) -> None:
        """Starts before the first poll; alone, until it takes part in agreements."""
        self.polls, self.stopped, self.polled = 0, False, time.monotonic()
        self.reason = ""
        """The signal, and which process got it; empty as long as there was none."""
        self._at: int | None = None
        self._threads: list[threading.Thread] = []
        self._lock, self._wake, self._over = threading.Lock(), threading.Event(), threading.Event()

    def __call__(self) -> bool:
        """Returns whether to stop."""
        with self._lock:  # held while the processes agree
            self.polled = time.monotonic()
            if not self.stopped:
                self.polls += 1
                self.stopped = self._at is not None and self.polls >= self._at
            return self.stopped

    def request(self, signal_name: str) -> None:
        """Asks all processes to stop, since this one got a signal; returns at once."""
        self.reason = self.reason or f"{signal_name} to {this_process()}"
        self._wake.set()

    def take_part(self, on_notice: Callable[[], None]) -> None:
        """Takes part in agreements until the end of this process.

        Args:
            on_notice: is called in a thread when a signal, to whichever process, is known here.
        """
        me = jax.process_index()
        # Two, since a process that waits for the others to agree is alive.
        for target, arguments in ((self._leave_signs, (me,)), (self._take_part, (me, on_notice))):
            self._threads.append(threading.Thread(target=target, args=arguments, name="agreement", daemon=True))
            self._threads[-1].start()
        atexit.register(self.close)

    def close(self) -> None:
        """Takes part no more; a thread in C++ code at the end of the interpreter would abort the process."""
        self._over.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(ANSWER_SECONDS)

    def _leave_signs(self, me: int) -> None:
        """Leaves signs of life as process number `me`."""
        _leave_sign(me, self.polls)
        while not self._over.wait(BEAT_SECONDS):
            _leave_sign(me, self.polls)

    def _take_part(self, me: int, on_notice: Callable[[], None]) -> None:
        """Agrees with the others as process number `me`, once a signal is known."""
        while not self._over.is_set():
            if reason := self.reason or _notice():
                self.reason = reason
                on_notice()
                self._agree(me)
                return
            self._wake.wait(BEAT_SECONDS)
            self._wake.clear()

    def _agree(self, me: int) -> None:
        """Sets the poll at which all stop; leaves it open where a process does not answer, since it is gone or stuck."""
        with self._lock:
            try:
                client().key_value_set(NOTICE, self.reason, allow_overwrite=True)
                client().key_value_set(f"{POLLS}{me}", str(self.polls))
                client().wait_at_barrier("cnnlab/stop", AGREE_SECONDS * 1000)
                made = [int(polls) for _, polls in client().key_value_dir_get(POLLS)]
            except Exception as error:  # jaxlib has no class of its own for what the coordinator answers
                log.debug("the processes could not agree on a step: %s", error)
                return
            self._at = 1 + max(made)


_stop = AgreedStop()


def agreed_stop() -> AgreedStop:
    """Returns the one of this process: polls are counted over all runs of a command."""
    return _stop


def this_process() -> str:
    """Returns what this process is called in a sentence."""
    return f"process {jax.process_index()} of {count()}"


def silent_processes() -> str:
    """Returns which processes left no sign of life lately, in a clause."""
    found: dict[int, dict[str, float]] = {}

    def ask() -> None:
        with contextlib.suppress(Exception):  # the coordinator is gone
            found.update({int(key.rpartition("/")[2]): json.loads(value) for key, value in client().key_value_dir_get(SIGN)})

    # In a thread, since a coordinator that is stuck itself does not answer.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    if not found:
        return "the coordinator, which is in process 0, does not answer"
    now = time.time()
    silent = [number for number in range(count()) if now - found.get(number, {"time": 0.0})["time"] > 5 * BEAT_SECONDS]
    if silent:
        return f"process {', '.join(map(str, silent))} of {count()} shows no sign of life"
    fewest = min(found, key=lambda number: found[number]["polls"])
    return f"all processes are alive, and process {fewest} is the furthest behind"


def _notice() -> str:
    """Returns the signal that another process got; empty where there was none."""
    try:
        return str(client().key_value_try_get(NOTICE))
    except Exception:  # there is no such key, or no coordinator any more
        return ""


def _leave_sign(me: int, polls: int) -> None:
    """Leaves the time and the number of polls of process number `me` with the coordinator."""
    value = json.dumps({"time": time.time(), "polls": polls})
    try:
        client().key_value_set(f"{SIGN}{me}", value, allow_overwrite=True)
    except Exception as error:  # the coordinator is gone: the missing steps are what counts
        log.debug("no sign of life could be left: %s", error)
