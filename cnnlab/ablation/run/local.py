"""Runs a study in processes of this machine. They end with the launcher, however it ends, and save a checkpoint first."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

from cnnlab import files
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.scheduler import GRACE_SECONDS, POLL_SECONDS, Scheduling, run_study
from cnnlab.errors import Preempted

Command = Callable[[Sequence[int]], list[str]]
"""Numbers of runs, in the order of study_runs() -> the command line that trains them."""


class Process:
    """A worker on this machine, in a session of its own."""

    def __init__(self, command: list[str], log: pathlib.Path, environment: dict[str, str]) -> None:
        self.log = log
        with files.open_text(log, "w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C reaches the launcher alone, which ends its workers in order
            )

    def poll(self) -> int | None:
        """Returns its exit code, the negative number of the signal that killed it, or None while it runs."""
        if self._process.returncode is None and self._process.poll() is not None:
            self._kill_group()  # what it started itself, such as readers of data, and could no longer end
        return self._process.returncode

    def is_running(self) -> bool:
        """Returns whether it runs."""
        return self.poll() is None

    def how(self) -> str:
        """Returns how it ended, in words."""
        code = self._process.returncode
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as the system does when memory runs out"
        if code == Preempted.exit_code:
            return "a signal asked the worker to end"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def waits(self) -> str:
        """Returns nothing: it has its place."""
        return ""

    def is_lost(self) -> bool:
        """Returns False: it ends by itself, or by a signal."""
        return False

    def end(self, *, now: bool) -> None:
        """Asks it to save a checkpoint and to end, or kills it and what it started."""
        if now:
            self._kill_group()
        else:
            self._process.terminate()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def run_locally(study: Study, folder: pathlib.Path, command: Command, scheduling: Scheduling) -> int:
    """Trains every run that is not finished by workers that each have their share of cores and accelerators.

    See `run_study` for the other arguments and the result.
    """
    jobs = scheduling.jobs
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    accelerators = _accelerators() if jobs > 1 else []

    def start(numbers: Sequence[int], slot: int, status_file: pathlib.Path) -> Process:
        environment, mine = slot_environment(slot, jobs, cores=cores, accelerators=accelerators) if jobs > 1 else ({}, [])
        words = [*command(numbers), f"--status_file={status_file}", f"--parent={os.getpid()}", "--watched"]
        if mine:
            words.append(f"--cores={','.join(map(str, mine))}")
        return Process(words, status_file.with_suffix(".txt"), environment)

    return run_study(study, folder, start, scheduling)


def slot_environment(
    slot: int, jobs: int, *, cores: Sequence[int], accelerators: Sequence[str]
) -> tuple[dict[str, str], list[int]]:
    """Returns (environment, cores) of a slot: its share of the cores, one accelerator, and its share of the memory of that."""
    share = max(len(cores) // jobs, 1)
    mine = [cores[(slot * share + i) % len(cores)] for i in range(share)] if cores else []
    if not accelerators:
        return {}, mine
    on_one = -(-jobs // len(accelerators))
    return {
        "CUDA_VISIBLE_DEVICES": accelerators[slot % len(accelerators)],
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / on_one:.2f}",
    }, mine


def _accelerators() -> list[str]:
    """Returns the NVIDIA GPUs that this process may use."""
    if (allowed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [part.strip() for part in allowed.split(",") if part.strip() not in ("", "-1", "NoDevFiles")]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", timeout=10, check=True).stdout
        return [str(number) for number, line in enumerate(line for line in listed.splitlines() if line.startswith("GPU"))]
    return []


def bind_to_parent(parent: int | None, cores: Sequence[int]) -> None:
    """Keeps this worker to some cores, and saves and ends it when its launcher is gone. Call it before importing jax."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if parent is not None:
        if os.getppid() != parent:
            sys.exit(Preempted.exit_code)
        threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    """Waits until the launcher has ended in whatever way, then ends this process with a checkpoint.

    A thread instead of Linux's PR_SET_PDEATHSIG: it works on every Unix, and can kill a worker that hangs.
    """
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)  # it hangs, and nobody else is left to see it
