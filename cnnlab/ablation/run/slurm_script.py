"""The batch script of a Slurm job, and the options that shape it. Imports no jax."""

import dataclasses
import math
import pathlib
import re
import shlex
from collections.abc import Sequence

from cnnlab.errors import UsageError

SIGNAL_SECONDS = 90
"""Time before the limit at which a job receives the signal to save a checkpoint and end."""
OURS = ("output", "error", "input", "open_mode", "comment", "array", "wrap", "parsable", "test_only", "chdir", "wait")
"""Flags of sbatch that the launcher sets itself, or that would break what it relies on."""
MARGIN = 3
"""How many times the plan's estimate a job asks for: the plan knows this machine's speed, not the node's."""
SLACK_MINUTES = 10
"""Minutes on top of that, to start Python, read the data and compile."""
LONGEST_MINUTES = 24 * 60
"""Most minutes that a job asks for by itself; what is not done by then goes on in another job."""


@dataclasses.dataclass(frozen=True)
class JobOptions:
    """What a job asks for."""

    flags: dict[str, str]
    """Long flags of sbatch, with `_` for `-`; the value true stands for a flag without one."""
    setup: tuple[str, ...] = ()
    """Shell commands before the worker, such as `module load cuda`."""

    @property
    def signal_seconds(self) -> int:
        """Time before its limit at which a job is to save and end."""
        return int(self.flags["signal"].partition("@")[2]) if "signal" in self.flags else SIGNAL_SECONDS


def job_options(pairs: Sequence[tuple[str, str]]) -> JobOptions:
    """Returns the options of a job from KEY, VALUE pairs. Raises UsageError for those that cannot be meant."""
    flags = {name: value for name, value in pairs if name != "setup"}
    for name in flags:
        if name in OURS:
            raise UsageError(f"--launcher_options={name}=…: the launcher sets this flag of sbatch itself. Leave it out.")
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise UsageError(f"--launcher_options={name}=…: expected a long flag of sbatch, such as partition=gpu or time=60.")
    if "signal" in flags and not re.fullmatch(r"(TERM|SIGTERM|15)@\d+", flags["signal"]):
        raise UsageError(
            f"--launcher_options=signal={flags['signal']}: a worker saves and ends at SIGTERM.\n"
            "Write signal=TERM@SECONDS, the seconds before the time limit."
        )
    options = JobOptions(flags, tuple(value for name, value in pairs if name == "setup"))
    if "time" in flags and (minutes := minutes_of(flags["time"])) * 60 <= options.signal_seconds:
        raise UsageError(
            f"--launcher_options: a job of time={flags['time']} ({minutes:g} min) has to save and end "
            f"{options.signal_seconds} s before that, hence at once.\nGive more time, or fewer seconds: signal=TERM@SECONDS."
        )
    return options


def minutes_of(text: str) -> float:
    """Returns the minutes of a time limit as sbatch takes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        if text.upper() in ("UNLIMITED", "INFINITE"):
            return math.inf
        raise UsageError(
            f"--launcher_options=time={text}: this is no time limit. Write minutes, H:M:S or D-H:M, such as time=90."
        )
    days, *parts = match.groups()
    first, second, third = (int(part or 0) for part in parts)
    if days is not None:
        return 60 * (24 * int(days) + first) + second + third / 60
    return first + second / 60 if parts[2] is None else 60 * first + second + third / 60


def planned_minutes(seconds: float, jobs: int, most: float | None = None) -> int:
    """Returns the minutes that a job asks for where no time is given.

    Args:
        seconds: the plan's estimate for all that is left to train, one run after another.
        jobs: jobs at once.
        most: the limit of the partition in minutes; None: not known.
    """
    return int(min(math.ceil(MARGIN * seconds / 60 / jobs) + SLACK_MINUTES, LONGEST_MINUTES, most or math.inf))


def batch_script(
    options: JobOptions, words: Sequence[str], *, name: str, minutes: int, log: pathlib.Path, comment: str, place: pathlib.Path
) -> str:
    """Returns the script of a job that runs a command line, in as many tasks as its options ask for.

    srun starts the tasks; of several, each joins the others (cli/supervise.py), and where one ends badly all do.

    Args:
        options: what the job asks for.
        words: the command line of the worker.
        name: name of the job.
        minutes: its time limit where the options have none.
        log: the file to which it writes.
        comment: by which another launcher recognises it.
        place: the folder in which it runs.
    """
    flags = {
        "job_name": name,
        "time": str(minutes),
        "output": str(log),
        "open_mode": "append",  # a job that is requeued goes on in the log of its first part
        "comment": comment,
        "signal": f"TERM@{SIGNAL_SECONDS}",
        **({} if "no_requeue" in options.flags else {"requeue": "true"}),
        **options.flags,
    }
    lines = ["#!/bin/bash"]
    for flag, value in flags.items():
        if value != "false":
            text = "" if value == "true" else f"={shlex.quote(value)}"
            lines.append(f"#SBATCH --{flag.replace('_', '-')}{text}")
    lines += ["", f"cd {shlex.quote(str(place))} || exit 1"]
    for line in options.setup:
        lines.append(f"{line} || {{ echo {shlex.quote(f'this set-up line failed on this node: {line}')}; exit 1; }}")
    # Since Slurm 22.05 srun does not take --cpus-per-task from sbatch.
    srun = 'srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"}'
    return "\n".join([*lines, "", f"{srun} {shlex.join(words)}", ""])
