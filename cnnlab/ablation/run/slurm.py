"""Runs a study as Slurm jobs, through submitit.

A job replaces itself by the worker's command line, so nothing of ours is pickled, signals reach the worker, and a job that
Slurm requeues (`scontrol requeue`, a node that is lost, preemption) runs the same command again, which resumes from the
checkpoint. Slurm sends SIGTERM before the time limit; runs that are then unfinished go on in a new job. Jobs outlive a launcher
that is killed; the next launcher waits for the runs that they train. The study must lie in a file system that all nodes share,
with working locks.
"""

import os
import pathlib
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run.local import Command, Value
from cnnlab.ablation.run.scheduler import Scheduling, run_study
from cnnlab.errors import Preempted, UsageError

POLL_SECONDS = 2.0
TIMEOUT_MINUTES = 60
SIGNAL_SECONDS = 90
"""Time before the limit at which a job receives the signal to save a checkpoint and end."""
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
LIVES = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "SUSPENDED", "STOPPED", "RESIZING")
LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED")
"""States of a job that ended through no fault of the run."""


class _Queue:
    """Reads the states of all jobs of a study from Slurm, at most every POLL_SECONDS. Needs no accounting database."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[str, int]] = {}
        self._polled_at = 0.0

    def add(self, job: str) -> None:
        self._jobs[job] = ("PENDING", 0)

    def remove(self, job: str) -> None:
        self._jobs.pop(job, None)

    def state(self, job: str) -> tuple[str, int]:
        """Returns (state, exit code) of a job; GONE where Slurm has forgotten it."""
        if time.monotonic() - self._polled_at > POLL_SECONDS:
            self._poll()
            self._polled_at = time.monotonic()
        return self._jobs[job]

    def _poll(self) -> None:
        listing = subprocess.run(
            [
                "squeue",
                "--noheader",
                "--states=all",
                f"--jobs={','.join(self._jobs)}",
                "--Format=JobID:24,State:24,exit_code:16",
            ],
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )
        if listing.returncode and "Invalid job id" not in listing.stderr:
            return  # Slurm does not answer: the last known states stay until it does
        found = {words[0]: words[1:] for line in listing.stdout.splitlines() if len(words := line.split()) == 3}
        for job in self._jobs:
            state, status = found.get(job, ("GONE", "0"))
            self._jobs[job] = (state, os.waitstatus_to_exitcode(int(status)))


class _Job:
    """A worker in a Slurm job."""

    def __init__(self, job: str, log: pathlib.Path, queue: _Queue) -> None:
        self._job, self.log, self._queue = job, log, queue
        self._ended: tuple[str, int] | None = None
        queue.add(job)

    def poll(self) -> int | None:
        if self._ended is None:
            found = self._queue.state(self._job)
            if found[0] in (*WAITS, *LIVES):
                return None
            self._ended = found
            self._queue.remove(self._job)
        state, code = self._ended
        if state == "COMPLETED":
            return 0
        return Preempted.exit_code if state in LOST else code or 1

    def is_running(self) -> bool:
        return self.poll() is None and self._queue.state(self._job)[0] in LIVES

    def how(self) -> str:
        state, code = self._ended or ("", 0)
        if state == "GONE":
            return f"Slurm no longer knows its job {self._job}"
        killed = f" (signal {code - 128})" if code > 128 else ""
        return f"Slurm job {self._job} {state}, exit code {code}{killed}"

    def end(self, *, now: bool) -> None:
        if self.poll() is None:
            subprocess.run(["scancel", *(["--signal=KILL"] if now else []), self._job], capture_output=True, check=False)


def run_on_slurm(
    study: Study,
    folder: pathlib.Path,
    command: Command,
    scheduling: Scheduling,
    *,
    options: Mapping[str, Value],
) -> int:
    """Trains every run that is not finished in Slurm jobs.

    See `run_study` for the other arguments and the result.

    Args:
        study: what to train.
        folder: the study's folder; logs go to its logs/.
        command: makes the command line of a worker.
        scheduling: how many of them there are at once, and what a failure leads to.
        options: for submitit's `update_parameters`, such as slurm_partition (text) or timeout_min (minutes).
    """
    executor, queue = _executor(study, folder / "logs", options), _Queue()

    def start(numbers: Sequence[int], slot: int, status_file: pathlib.Path) -> _Job:
        words = [*command(numbers), f"--status_file={status_file}"]
        try:
            job = executor.submit(os.execvp, words[0], words)
        except Exception as error:  # submitit raises classes of its own for the errors of sbatch
            raise UsageError(f"Slurm did not take the job: {error}\nSee --launcher_options.") from error
        return _Job(job.job_id, job.paths.stdout, queue)

    return run_study(study, folder, start, scheduling, seconds=POLL_SECONDS)


def _executor(study: Study, folder: pathlib.Path, options: Mapping[str, Value]) -> Any:
    """Returns submitit's executor with the options; raises UsageError where there is no Slurm, or no such option."""
    import submitit

    given = dict(options)
    seconds, minutes = given.pop("slurm_signal_delay_s", SIGNAL_SECONDS), given.get("timeout_min", TIMEOUT_MINUTES)
    if isinstance(seconds, int) and isinstance(minutes, int) and seconds >= 60 * minutes:
        raise UsageError(
            f"--launcher_options: a job of timeout_min={minutes} has to save and end {seconds} s before that, hence at "
            "once.\nGive more minutes, or less in slurm_signal_delay_s."
        )
    step = ["--open-mode=append"]  # a requeued job goes on in the log of its first part
    if "cpus_per_task" in given:
        step.append(f"--cpus-per-task={given['cpus_per_task']}")  # which srun since Slurm 22.05 does not take from sbatch
    try:
        executor = submitit.AutoExecutor(folder, cluster="slurm")
    except RuntimeError:
        raise UsageError("--launcher=slurm: this machine has no srun, so it cannot hand jobs to Slurm.") from None
    try:
        executor.update_parameters(
            **{
                "name": study.name,
                "timeout_min": TIMEOUT_MINUTES,
                "stderr_to_stdout": True,
                "slurm_srun_args": step,
                # submitit's own USR2 would kill a worker; SIGTERM makes it save and leave.
                "slurm_additional_parameters": {"signal": f"TERM@{seconds}", "requeue": True},
                **given,
            }
        )
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise UsageError(f"--launcher_options: {error}") from None
    return executor
