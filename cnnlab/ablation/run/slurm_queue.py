"""Reads the states of the jobs of a study from Slurm: one call of squeue for all of them, and not often. Imports no jax."""

import dataclasses
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 60.0
"""Time between two calls of squeue: short after a job was submitted or changed its state, else twice as long each time."""
ANSWER_SECONDS = 60.0
"""Time that a program of Slurm is given to answer."""
MISSES = 2
"""Answers in a row without a job, after which it is gone: Slurm forgets a job some minutes after its end."""
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
LIVES = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "SUSPENDED", "STOPPED", "RESIZING")
LOST = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", "GONE")
"""States of a job that ended through no fault of the run; GONE: Slurm knows it no longer."""
COLUMNS = "JobID:24,State:24,exit_code:16,TimeUsed:24,TimeLimit:24,Reason:120"
REASONS = {
    "Priority": "other jobs come first",
    "Resources": "no node with what they ask for is free",
    "PartitionTimeLimit": "they ask for more time than their partition allows; give a smaller time=",
    "PartitionNodeLimit": "they ask for other numbers of nodes than their partition allows; give another nodes=",
    "PartitionDown": "their partition is down",
    "PartitionInactive": "their partition takes no jobs now",
    "PartitionConfig": "their partition does not allow what they ask for",
    "ReqNodeNotAvail": "a node that they need is down, drained or reserved (sinfo -R says why)",
    "Nodes required for job are DOWN": "the nodes that they need are down, drained or reserved (sinfo -R says why)",
    "NodeDown": "the node that they need is down",
    "BadConstraints": "no node fits what they ask for",
    "BeginTime": "they were requeued and begin again in some minutes",
    "JobHeldUser": "they are held; `scontrol release JOB` lets them go on",
    "JobHeldAdmin": "an administrator holds them",
    "JobLaunchFailure": "a node could not start them; ask the administrator, or leave the node out by exclude=NODE",
    "launch failed": "a node could not start them; ask the administrator, or leave the node out by exclude=NODE",
    "Licenses": "a licence that they need is in use",
    "Dependency": "they wait for another job",
    "Reservation": "they wait for their reservation",
    "Assoc": "a limit of the account is reached",
    "QOS": "a limit of the quality of service is reached",
    "MaxJobs": "a limit on the number of jobs is reached",
}
"""{beginning of Slurm's reason: why jobs wait, in words}."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What squeue shows of a job."""

    state: str = "PENDING"
    code: int = 0
    """Its exit code, the negative number of the signal that ended it."""
    used: float = 0.0
    """Seconds that it has run."""
    limit: float | None = None
    """Seconds that it may run; None: there is no limit, or it is not known."""
    reason: str = ""
    """Slurm's word for why it waits."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state not in (*WAITS, *LIVES)

    @property
    def why(self) -> str:
        """Why it waits, in words; empty where it does not wait, or Slurm has not said why."""
        if self.state not in WAITS or self.reason in ("", "None"):
            return ""
        known = next((words for beginning, words in REASONS.items() if self.reason.startswith(beginning)), "")
        return f"{self.reason}{f': {known}' if known else ''}"


def ask(words: Sequence[str], text: str | None = None) -> tuple[int, str, str]:
    """Runs a program of Slurm; returns (exit code, stdout, stderr), 1 where it does not answer.

    A launcher that is a job itself does not pass the variables of that job on to its own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
    try:
        said = subprocess.run(
            words,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="backslashreplace",
            env=kept,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"{words[0]}: timed out, no answer in {ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return 1, "", f"{words[0]}: {error.strerror}"
    return said.returncode, said.stdout, said.stderr


def seconds_of(text: str) -> float | None:
    """Returns the seconds of `1-02:03:04`, `2:03:04` or `3:04` as squeue writes them; None for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)


def read_listing(text: str) -> dict[str, Seen]:
    """Returns {job: what is shown of it} of squeue's answer in COLUMNS."""
    found = {}
    for line in text.splitlines():
        if len(words := line.split(None, 5)) < 5:
            continue
        job, state, status, used, limit = words[:5]
        reason = words[5].strip().strip("()") if len(words) > 5 else ""
        code = os.waitstatus_to_exitcode(int(status)) if status.isdigit() else 0
        found[job] = Seen(state, code, seconds_of(used) or 0.0, seconds_of(limit), reason)
    return found


class Queue:
    """The jobs of a study as Slurm last showed them. Needs no accounting database."""

    def __init__(self, notify: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Knows no job yet; `notify` shows a person each text once."""
        self._notify, self._clock = notify, clock
        self._jobs: dict[str, Seen] = {}
        self._misses: dict[str, int] = {}
        self._pause, self._polled_at = SHORTEST_SECONDS, clock()

    def add(self, job: str) -> None:
        """Watches a job that was submitted just now."""
        self._jobs[job] = Seen()
        self.hurry()

    def hurry(self) -> None:
        """Asks again soon: something is about to change."""
        self._pause = SHORTEST_SECONDS

    def remove(self, job: str) -> None:
        """Watches a job no more."""
        self._jobs.pop(job, None)
        self._misses.pop(job, None)

    def seen(self, job: str) -> Seen:
        """Returns what Slurm showed of a job; asks it again, for all jobs at once, where that is some time ago."""
        if self._clock() - self._polled_at >= self._pause:
            before = dict(self._jobs)
            self._poll()
            self._polled_at = self._clock()
            changed = any(before[one].state != self._jobs[one].state for one in self._jobs)
            self._pause = SHORTEST_SECONDS if changed else min(2 * self._pause, LONGEST_SECONDS)
        return self._jobs[job]

    def _poll(self) -> None:
        code, out, err = ask(["squeue", "--noheader", "--states=all", f"--jobs={','.join(self._jobs)}", f"--Format={COLUMNS}"])
        if code and "Invalid job id" not in err:  # the last known states stay until it answers
            self._notify(f"Slurm does not answer: {last_line(err)}. Its jobs go on, and it is asked again.")
            return
        self._take(read_listing(out))

    def _take(self, found: Mapping[str, Seen]) -> None:
        for job in self._jobs:
            if job in found:
                self._jobs[job], self._misses[job] = found[job], 0
                continue
            self._misses[job] = self._misses.get(job, 0) + 1
            if self._misses[job] >= MISSES:
                self._jobs[job] = Seen("GONE")


def last_line(text: str) -> str:
    """Returns the last line of what a program of Slurm wrote, without its own name and full stop."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Try ")]  # "Try "sbatch --help" …"
    line = lines[-1] if lines else "no answer"
    return re.sub(r"^\w+: (error: |fatal: )?", "", line.strip()).rstrip(".")


def jobs_with_comment(prefix: str) -> dict[str, str] | None:
    """Returns {job: comment} of this user's jobs that wait or run, by the beginning of the comment; None without an answer."""
    code, out, _ = ask(["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%k"])
    if code:
        return None
    pairs = (line.strip().partition("|")[::2] for line in out.splitlines())
    return {job: comment for job, comment in pairs if comment.startswith(prefix)}
