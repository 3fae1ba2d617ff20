"""The parent of the processes that train one run together: starts them, watches them, and ends all when one ends badly.

A process whose peer is gone is ended by jax in C++ code, with a stack trace and without an exception; and a process that waits
for a peer that never answers takes no signal. So the parent says in one line what happened. Imports no jax.
"""

import collections
import contextlib
import dataclasses
import math
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, TextIO

from cnnlab import home
from cnnlab.cli.groups import Processes
from cnnlab.errors import STOP_SIGNALS, WARNING_SIGNAL, Preempted, UsageError
from cnnlab.runs import ends

CHILD = "CNNLAB_PROCESS"
"""Name of the variable in the environment of a process that has a parent here: its number."""
PARENT = "CNNLAB_PARENT"
"""The same for the system's number of the parent, with which it ends."""
WORDS: list[str] = []
"""The words of the command after its beginning, as `main` got them: a parent starts its processes with the same ones."""
SLICES = (("MEGASCALE_NUM_SLICES", 1), ("MEGASCALE_SLICE_ID", 0))
"""Names of the variables with the number of TPU slices of a job and the number of this one, and what they are without them."""
NOISE = re.compile(
    r"^(\[Gloo\] |[IWEF]\d{4} \d\d:\d\d|\s+@\s+0x|\*\*\* Check failure stack trace|terminate called|Fatal Python error)"
)
"""Lines of C++ libraries, which go with the end of a process and say nothing to a person."""
GRACE_SECONDS = 5.0
"""Seconds for the others to end by themselves after one ended badly."""
STOPPED_SECONDS = 1.5
"""The same after a signal, which all got."""
CRASHES = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
"""Exit codes of a process that C++ code ended."""
OURS = (2, 3, 4, 75)
"""Exit codes of a process that said itself why it ended."""
KEPT_LINES = 40


@dataclasses.dataclass
class Child:
    """One process."""

    index: int
    process: subprocess.Popen[bytes]
    shown: bool
    """Whether its output is shown as it comes."""
    lines: collections.deque[str]
    """Its last lines of errors."""
    readers: list[threading.Thread]


def leave(code: int) -> None:
    """Ends this process with an exit code, where it is one of several and an error ends it; does nothing else.

    At its usual end jax waits for the others, five minutes where they do not come since the error is of this process alone.
    After a signal all end together.
    """
    if CHILD in os.environ and code != Preempted.exit_code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def of_slurm() -> tuple[int, int] | None:
    """Returns (number of tasks, number of this task) where `srun` started several tasks of this command; else None."""
    names = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
    if any(name not in os.environ for name in names) or "SLURM_STEP_NODELIST" not in os.environ:
        return None
    tasks, index = (int(os.environ[name]) for name in names)
    return (tasks, index) if tasks > 1 else None


def of_tpu() -> tuple[int, int] | None:
    """Returns (number of hosts, number of this host) of a TPU slice, or of several, on Kubernetes (GKE); else None.

    The variables are those by which jax finds the hosts too. On TPU VMs of Compute Engine only a server of metadata knows them.
    """
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES")
    if not hosts or "TPU_WORKER_ID" not in os.environ:
        return None
    in_slice = len(hosts.split(","))
    slices, this_slice = (int(os.environ.get(name) or default) for name, default in SLICES)
    count = in_slice * slices
    return (count, this_slice * in_slice + int(os.environ["TPU_WORKER_ID"])) if count > 1 else None


def of_cluster() -> tuple[int, int] | None:
    """Returns (number of processes, number of this one) where a cluster started several of this command; else None."""
    return of_slurm() or of_tpu()


def required(processes: Processes) -> bool:
    """Returns whether this command is to be the parent of others. Raises UsageError for flags that do not go together."""
    if CHILD in os.environ:
        return False
    count, index = processes.num_processes, processes.process_id
    if index is not None and (count is None or processes.coordinator is None):
        raise UsageError(
            f"--process_id={index} names one of several processes.\n"
            "Expected --num_processes=N and --coordinator=HOST:PORT with it."
        )
    if processes.coordinator is not None and index is None:
        raise UsageError(
            f"--coordinator={processes.coordinator}: which process is this?\n"
            "Expected --process_id=K with it. Leave it out to start all processes on this host."
        )
    if index is not None and count is not None and index >= count:
        raise UsageError(f"--process_id={index}: expected 0 to {count - 1} with --num_processes={count}.")
    if processes.coordinator is not None and not re.fullmatch(r"[^:\s]+:\d{1,5}", processes.coordinator):
        raise UsageError(f"--coordinator={processes.coordinator}: expected HOST:PORT, such as 10.0.0.1:1234.")
    return bool((count or 1) > 1 or of_cluster())


def run_supervised(processes: Processes, grace: float) -> int:
    """Starts this command's process, or all of them on this host, and returns the exit code when they have ended.

    Args:
        processes: the flags that name them.
        grace: seconds from a signal to the end of all of them.
    """
    words = WORDS
    index = processes.process_id
    if index is None and processes.num_processes is None and (found := of_cluster()):
        index = found[1]
    if index is not None:
        return _run([(index, list(words))], processes.coordinator or "that of the cluster", grace)
    count = processes.num_processes or 1
    address = f"127.0.0.1:{_free_port()}"
    each = [(index, [*words, f"--process_id={index}", f"--coordinator={address}"]) for index in range(count)]
    return _run(each, address, grace)


def _free_port() -> int:
    """Returns a port of this host that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _run(commands: Sequence[tuple[int, list[str]]], address: str, grace: float) -> int:
    """Runs the processes (number, words), which meet at an address, to their end; returns the exit code."""
    with tempfile.TemporaryDirectory() as place:
        note = pathlib.Path(place) / "run"
        children = [_start(index, words, note) for index, words in commands]
        with _passing_signals_on(children) as signalled:
            try:
                ended = _first_bad(children, signalled, grace)
                if ended is None:
                    return 0
                code, reason = _explain(ended, children, address, grace, signalled)
                # One that is frozen does not end by itself, and those that saved end together.
                _wait(children, STOPPED_SECONDS if signalled else GRACE_SECONDS)
                if frozen := [str(child.index) for child in children if child.process.poll() is None and child is not ended]:
                    reason += f"; process {', '.join(frozen)} did not end by itself and was killed"
            finally:
                _kill(children)
        # Process 0 alone writes the status of its run; frozen or killed, it could not.
        ends.record_end(note, "PREEMPTED" if signalled else "FAILED", reason)
        return code


def _kill(children: Sequence[Child]) -> None:
    """Kills the processes that still run, and waits until all are gone."""
    for child in children:
        if child.process.poll() is None:
            child.process.kill()
        child.process.wait()
        for reader in child.readers:
            reader.join(timeout=1)


def _start(index: int, words: list[str], note: pathlib.Path) -> Child:
    """Starts one process; the output of the first is shown, of the others their errors are kept.

    Args:
        index: its number.
        words: words of its command.
        note: file in which process 0 names the folder of its run.
    """
    shown = index == 0
    process = subprocess.Popen(
        home.process(words),
        env={"PJRT_NPROC": "16"}
        | os.environ
        | {CHILD: str(index), PARENT: str(os.getpid()), ends.NOTE: str(note), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
    )
    child = Child(index, process, shown, collections.deque(maxlen=KEPT_LINES), [])
    for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
        if source is not None:
            child.readers.append(threading.Thread(target=_read, args=(source, target, child), daemon=True))
            child.readers[-1].start()
    return child


def _read(source: IO[bytes], target: TextIO, child: Child) -> None:
    """Shows what a process writes, without the lines of C++ libraries, and keeps its last lines of errors."""
    for raw in source:
        line = raw.decode(errors="replace")
        if NOISE.match(line):
            continue
        if target is sys.stderr:
            child.lines.append(line.rstrip())
        if child.shown:
            target.write(line)
            target.flush()


@contextlib.contextmanager
def _passing_signals_on(children: Sequence[Child]) -> Iterator[list[int]]:
    """Passes SIGTERM, SIGUSR2 and Ctrl-C to the processes as SIGTERM; a second one kills them. Yields the signals received.

    SIGTERM after SIGUSR2, by which Slurm warns some time before, is no second one.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        if received == [WARNING_SIGNAL] or (number == WARNING_SIGNAL and received):
            received.append(number)
            return
        again = bool(received)
        received.append(number)
        if not again:
            name = signal.Signals(number).name
            print(f"\n{name}: all processes save a checkpoint; once more to leave at once.", file=sys.stderr, flush=True)
        for child in children:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGKILL if again else signal.SIGTERM)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_bad(children: Sequence[Child], signalled: Sequence[int] = (), grace: float = math.inf) -> Child | None:
    """Waits for the processes; returns the first that ends otherwise than with 0, None where all end well.

    Returns one that runs on where it does so for longer than the grace after the first of the signals.
    """
    until = math.inf
    while True:
        codes = [child.process.poll() for child in children]
        bad = [child for child, code in zip(children, codes, strict=True) if code not in (None, 0)]
        if bad:
            # The one that was killed or said why, before those that ended because of it.
            _wait(children, 0.5)
            bad = [child for child in children if child.process.poll() not in (None, 0)]
            return min(bad, key=lambda child: (_rank(child.process.returncode), child.index))
        if all(code == 0 for code in codes):
            return None
        if signalled:
            until = min(until, time.monotonic() + grace)
        if time.monotonic() > until:
            return next(child for child, code in zip(children, codes, strict=True) if code is None)
        time.sleep(0.05)


def _rank(code: int) -> int:
    """Returns how far an exit code is from the cause: first what killed a process, then errors it raised, then crashes."""
    if code in CRASHES:
        return 3
    return 0 if code in OURS else 1 if code < 0 else 2


def _wait(children: Sequence[Child], seconds: float) -> None:
    """Waits until all processes have ended, at most so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(child.process.poll() is None for child in children):
        time.sleep(0.05)


def _explain(ended: Child, children: Sequence[Child], address: str, grace: float, signalled: Sequence[int]) -> tuple[int, str]:
    """Prints why the processes end, where none of them was able to; returns the exit code and the reason."""
    code, name = ended.process.returncode, f"process {ended.index}"
    said = next((line for line in reversed(ended.lines) if line.startswith("error: ")), "")
    if code in OURS:
        if not ended.shown and said and not any(child.shown and child.process.poll() == code for child in children):
            print(f"error: {name}: {said.removeprefix('error: ')}", file=sys.stderr)
        return code, f"{name}: {said.removeprefix('error: ') or (ended.lines[-1] if ended.lines else f'exit code {code}')}"
    if code is None:
        how = f"did not end within --grace_s={grace:g} seconds of {signal.Signals(signalled[0]).name}"
    elif code < 0 and code not in CRASHES:
        how = f"was killed by {signal.Signals(-code).name}"
    elif code == -signal.SIGABRT:
        how = (
            f"lost its connection with the others at {address}, or never had one: a process is gone, none answered within "
            "--start_timeout, or another program uses the port"
        )
    elif code < 0:
        how = (
            f"crashed ({signal.Signals(-code).name}) inside a library; that also happens where the connection with the others "
            f"at {address} is lost"
        )
    elif said:
        how = f"ended: {said.removeprefix('error: ')}"
    else:
        how = f"ended with exit code {code}{': ' + ended.lines[-1].rstrip('.') if ended.lines else ''}"
    if said and ended.shown:
        return 1, f"{name} {how}"  # it was shown
    if not signalled or code != -signal.SIGKILL:
        after = "" if "newest checkpoint" in how else " The same command goes on from the newest checkpoint."
        print(f"error: {name} {how}. All processes of the run were ended.{after}", file=sys.stderr, flush=True)
    # After a signal a process that is stuck, or that lost one that is, ends as one that was asked to.
    return Preempted.exit_code if signalled and (code is None or code in CRASHES) else 1, f"{name} {how}"
