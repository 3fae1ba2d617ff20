"""Runs a study as Slurm jobs.

A job is the worker's command line in a batch script, so signals reach the worker, and a job that Slurm requeues
(`scontrol requeue`, a node that is lost, preemption) runs the same command again, which resumes from the checkpoint. Slurm
sends SIGTERM before the time limit; runs that are then unfinished go on in a new job. Jobs outlive a launcher that is killed,
and the next launcher takes them over. The study must lie in a file system that all nodes share, with working locks.

A worker takes runs until none is left, so there are as many jobs as --jobs, however many runs there are. An array of them would
save a few calls of sbatch at the start, and could not replace a single job that ended; so each job is submitted by itself.
"""

import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Sequence

from cnnlab import files
from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run import console, slurm_queue
from cnnlab.ablation.run.local import Command
from cnnlab.ablation.run.scheduler import ActiveWorker, Scheduling, Unavailable, run_study
from cnnlab.ablation.run.slurm_queue import LIVES, LOST, Queue, Seen, jobs_with_comment, last_line
from cnnlab.ablation.run.slurm_script import JobOptions, batch_script, minutes_of, planned_minutes
from cnnlab.errors import Preempted, UsageError, did_you_mean
from cnnlab.text import counted, format_duration

POLL_SECONDS = 5.0
PROGRAMS = ("sbatch", "squeue", "scancel", "srun")
RESOLUTION_SECONDS = 90
"""How much earlier than asked for Slurm may send a signal (60 s), with some time for a worker to end."""
PASSING = re.compile(
    "timed out|timeout|unable to contact|connection (refused|reset|failure)|connect failure|transport endpoint|zero bytes|"
    "temporarily|try again|standby mode|no answer|unexpected message|submit.*limit|busy|not responding",
    re.IGNORECASE,
)
"""What sbatch writes where it may take the same job later: its controller does not answer, or too many jobs wait."""
LATER = re.compile("down, drained or reserved|requested nodes are busy|partition.*(inactive|state)", re.IGNORECASE)
"""What `sbatch --test-only` writes where a job would be taken and wait."""


class _Job:
    """A worker in a Slurm job."""

    def __init__(self, job: str, log: pathlib.Path, queue: Queue, signal_seconds: int) -> None:
        self.job, self.log, self._queue, self._signal_seconds = job, log, queue, signal_seconds
        self._was_ended = False
        self._seen = Seen()
        queue.add(job)

    def poll(self) -> int | None:
        if not self._seen.is_over:
            self._seen = self._queue.seen(self.job)
            if not self._seen.is_over:
                return None
            self._queue.remove(self.job)
        if self._seen.state == "COMPLETED":
            return 0
        if self._is_out_of_time() or self._seen.state in (*LOST, "CANCELLED"):
            return Preempted.exit_code
        return self._seen.code or 1

    def is_running(self) -> bool:
        return self.poll() is None and self._seen.state in LIVES

    def is_lost(self) -> bool:
        return self.poll() is not None and self._seen.state in LOST

    def waits(self) -> str:
        return f"Slurm jobs wait: {why}." if self.poll() is None and (why := self._seen.why) else ""

    def how(self) -> str:
        state, code = self._seen.state, self._seen.code
        if state == "GONE":
            return f"Slurm no longer knows its job {self.job}"
        if self._is_out_of_time():
            limit = f" of {format_duration(self._seen.limit)}" if self._seen.limit else ""
            return f"Slurm job {self.job} reached its time limit{limit}"
        if state == "CANCELLED" and not self._was_ended:
            return f"Slurm job {self.job} was cancelled, not by this launcher"
        if code == Preempted.exit_code:
            return f"Slurm job {self.job} was asked to end by a signal"
        killed = f" (signal {code - 128})" if code > 128 else ""
        return f"Slurm job {self.job} {state}, exit code {code}{killed}"

    def end(self, *, now: bool) -> None:
        if self.poll() is None:
            self._was_ended = True
            self._queue.hurry()
            slurm_queue.ask(["scancel", *(["--signal=KILL"] if now else []), self.job])

    def _is_out_of_time(self) -> bool:
        """Returns whether it ended at its time limit, by itself after Slurm's signal or killed."""
        seen = self._seen
        if seen.state in ("TIMEOUT", "DEADLINE"):
            return True
        if seen.state != "FAILED" or seen.code not in (Preempted.exit_code, -15, 143) or seen.limit is None:
            return False
        return seen.used >= seen.limit - self._signal_seconds - RESOLUTION_SECONDS


@dataclasses.dataclass
class _Submitter:
    """Hands jobs to Slurm."""

    study: Study
    options: JobOptions
    minutes: int
    place: pathlib.Path
    has_accepted: bool = False
    """Whether Slurm took a job with these options: what it refuses from then on, it may take later."""
    unsure: str = ""
    """Comment of a job of which sbatch did not say whether Slurm took it."""

    def script(self, words: Sequence[str], status_file: pathlib.Path) -> str:
        """Returns the script of a worker that keeps a status file."""
        log = status_file.with_suffix(".txt").absolute()
        comment = str(status_file.absolute())
        return batch_script(
            self.options, words, name=self.study.name, minutes=self.minutes, log=log, comment=comment, place=self.place
        )

    def submit(self, words: Sequence[str], status_file: pathlib.Path) -> str:
        """Returns the number of the new job; raises Unavailable where it can be tried again later, else UsageError."""
        comment, script = str(status_file.absolute()), status_file.with_suffix(".sh")
        if self.unsure == comment:  # "Socket timed out" is also what sbatch writes where the job was taken
            found = jobs_with_comment(comment)
            if found is None:
                raise Unavailable("Slurm does not answer")
            if found:
                self.unsure, self.has_accepted = "", True
                return next(iter(found))
        files.write_text(script, self.script(words, status_file))
        code, out, err = slurm_queue.ask(["sbatch", "--parsable", str(script)])
        job = out.strip().partition(";")[0]
        if code == 0 and re.fullmatch(r"\d+", job):
            self.unsure, self.has_accepted = "", True
            return job
        reason = last_line(err or out)
        if self.has_accepted or PASSING.search(err):
            self.unsure = comment
            raise Unavailable(f"Slurm does not take a job now: {reason}")
        raise UsageError(f"Slurm did not take the job: {reason}.\nCorrect --launcher_options; the script is {script}.")


def require_slurm() -> None:
    """Raises UsageError where the programs of Slurm are missing."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise UsageError(
            f"--launcher=slurm: this machine has no {', '.join(missing)}, so it cannot hand jobs to Slurm.\n"
            "Give the command on a login node of the cluster, or load its module first."
        )


def check_slurm(study: Study, folder: pathlib.Path, scheduling: Scheduling, *, options: JobOptions) -> str:
    """Asks Slurm whether it would take the jobs of a study; returns what they ask for, in a line. Submits nothing.

    Raises UsageError where the partition is not known, or sbatch refuses a flag.
    """
    minutes, named = _minutes(scheduling, options), options.flags.get("partition", "")
    submitter = _Submitter(study, options, minutes, pathlib.Path.cwd())
    script = submitter.script(["true"], folder / "logs" / "worker_0.json")
    code, out, err = slurm_queue.ask(["sbatch", "--test-only"], script)
    said = last_line(err or out)
    if code and not PASSING.search(err) and not LATER.search(err):
        partitions = sorted(one.rstrip("*") for one in _partitions() or {})
        known = f"\nPartitions here: {', '.join(partitions)}.{did_you_mean(named, partitions)}" if "artition" in err else ""
        raise UsageError(
            f"sbatch refuses the jobs of this study: {said}.{known}\n"
            "--launcher_options are long flags of sbatch, such as partition=gpu,time=60,gpus_per_node=1."
        )
    if "time" in options.flags:
        time = f"time={options.flags['time']}"
    else:
        time = f"time={minutes} (minutes: 3 times the plan's estimate and 10 more; set it by --launcher_options=time=)"
    verdict = f"would not start them now: {said}" if code else f"answers: {said}"
    return f"Slurm: {counted(scheduling.jobs, 'job')} at once with {time}; sbatch {verdict}\n"


def _minutes(scheduling: Scheduling, options: JobOptions) -> int:
    """Returns the minutes that a job asks for where its options have no time."""
    limits, named = _partitions() or {}, options.flags.get("partition", "*")  # Slurm marks the default one by a star
    known = [minutes for one, minutes in limits.items() if one.rstrip("*") in named.split(",") or one[-1] == named]
    most = min((minutes for minutes in known if minutes), default=None)
    return planned_minutes(scheduling.planned_seconds or 0.0, scheduling.jobs, most)


def _partitions() -> dict[str, float | None] | None:
    """Returns {partition: its limit in minutes, None where it has none}; None where Slurm does not answer.

    The name of the default partition ends with a star.
    """
    code, out, _ = slurm_queue.ask(["sinfo", "--noheader", "--format=%P|%l"])
    if code:
        return None
    pairs = [line.strip().partition("|")[::2] for line in out.splitlines() if "|" in line]
    return {name: minutes_of(limit) if re.fullmatch(r"[\d:-]+", limit) else None for name, limit in pairs}


def run_on_slurm(study: Study, folder: pathlib.Path, command: Command, scheduling: Scheduling, *, options: JobOptions) -> int:
    """Trains every run that is not finished in Slurm jobs.

    See `run_study` for the arguments and the result.
    """
    queue = Queue(notify := console.Notices())
    submitter = _Submitter(study, options, _minutes(scheduling, options), pathlib.Path.cwd())

    def start(numbers: Sequence[int], slot: int, status_file: pathlib.Path) -> _Job:
        job = submitter.submit([*command(numbers), f"--status_file={status_file}"], status_file)
        worker = _Job(job, status_file.with_suffix(".txt"), queue, options.signal_seconds)
        console.print_line(f"Slurm job {job}; its log is {worker.log}")
        return worker

    adopted = _adopted(folder / "logs", queue, options, notify)
    return run_study(study, folder, start, scheduling, seconds=POLL_SECONDS, adopted=adopted)


def _adopted(logs: pathlib.Path, queue: Queue, options: JobOptions, notify: Callable[[str], None]) -> list[ActiveWorker]:
    """Returns the jobs of an earlier launcher of the study that still wait or run."""
    found = jobs_with_comment(f"{logs.absolute()}{os.sep}worker_") if list(logs.glob("worker_*.json")) else {}
    if found is None:
        notify("Slurm does not answer, so jobs of an earlier launcher of this study are not known.")
    workers = []
    for slot, (job, comment) in enumerate((found or {}).items()):
        status_file = logs / pathlib.Path(comment).name
        worker = _Job(job, status_file.with_suffix(".txt"), queue, options.signal_seconds)
        workers.append(ActiveWorker(worker, slot, status_file))
        notify(f"Slurm job {job} of an earlier launcher goes on; its log is {worker.log}")
    return workers
