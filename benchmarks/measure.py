"""How everything here is measured: processes that take turns, round after round. Needs the standard library alone.

A *run* is a function (steps) -> Spent. `in_turns` calls the runs of one comparison one after another, in every round again, so
that a machine whose speed drifts bends no ratio. Most runs live in a worker, a process of its own (or several that work
together) which is told what to do by lines of JSON: all workers of a comparison are alive and one of them works. A process is
`python -m benchmarks.measure MODULE GIVEN CORES`: it calls `MODULE.work(**GIVEN)`, which returns a `Work`.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
WARM_STEPS, TRIED_STEPS = 2, 3
"""Steps after the first that are not measured, and those that tell how many steps a measurement has."""
LEAST_ROUNDS, ENOUGH = 5, 60.0
"""Rounds that every comparison has, and seconds after which it has no more than these."""

LONGEST_ANSWER = 600.0
"""Seconds after which a worker that says nothing is given up."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """What some steps took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all threads of the process."""
    told: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the process says of itself."""


Run = Callable[[int], Spent]


@dataclasses.dataclass
class Measured:
    """The measurements of one run."""

    wall: list[float] = dataclasses.field(default_factory=list)
    """Seconds of a step, by round."""
    cpu: list[float] = dataclasses.field(default_factory=list)
    """Seconds of all threads for a step, by round."""
    first: float = 0.0
    """Seconds of the first step, which compiles."""
    told: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    """What the process said of itself: after the first steps, then by round."""
    busy: list[float] = dataclasses.field(default_factory=list)
    """Cores that other programs used meanwhile, by round."""
    failed: str = ""
    """Why there are no measurements."""


def in_turns(runs: Mapping[str, Run], *, rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Measured]:
    """Measures runs in turn; one that fails is left out of the rounds that follow.

    Args:
        runs: {name: run}.
        rounds: number of rounds, each of one measurement of every run; where they take more than ENOUGH seconds there are no
            more than LEAST_ROUNDS.
        seconds: length of a measurement, at least one step; 0: each is one step, and nothing warms up.
        say: is told what is being done.
    """
    found, steps = {name: Measured() for name in runs}, dict.fromkeys(runs, 1)
    for name, run in runs.items() if seconds else ():
        say(f"{name}: first step")
        with _failing(found[name]):
            found[name].first = run(1).wall
            tried = run(WARM_STEPS)
            if tried.wall < WARM_STEPS * seconds:
                tried = run(TRIED_STEPS)
                steps[name] = max(round(seconds * TRIED_STEPS / tried.wall), 1)
            found[name].told.append(tried.told)
    start = time.monotonic()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.monotonic() - start > ENOUGH:
            break
        for name, run in runs.items():
            measured = found[name]
            if measured.failed:
                continue
            say(f"{name}: round {number + 1} of {rounds}")
            with _failing(measured):
                before, began = busy_seconds(), time.perf_counter()
                spent = run(steps[name])
                passed = time.perf_counter() - began
                measured.wall.append(spent.wall / steps[name])
                measured.cpu.append(spent.cpu / steps[name])
                measured.told.append(spent.told)
                measured.busy.append(max(busy_seconds() - before - spent.cpu, 0.0) / max(passed, 0.01))
    return found


class _failing:
    """Notes an error of a worker in what is measured of it."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, WorkerFailed):
            self.measured.failed = str(error)
        return isinstance(error, WorkerFailed)


def busy_seconds() -> float:
    """Returns the seconds that all cores have worked since the machine started; 0 where the system does not say."""
    try:
        user, nice, system, _, _, interrupts, soft = map(
            int, pathlib.Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=8)[1:8]
        )
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def of_command(words: Sequence[str], *, until: str = "", **how: Any) -> Spent:
    """Runs a command to its end, or until a line of its standard error begins with `until`, where it is killed.

    Raises WorkerFailed where it ends before that line, or with an exit code other than 0.
    """
    before, began, reached, last = os.times(), time.perf_counter(), False, ""
    how["env"] = {**os.environ, **how["env"]}
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if until and line.startswith(until):
                reached = True
                process.kill()
                break
            last = line.strip() or last
        wall = time.perf_counter() - began
    if not reached and (process.returncode or until):
        shown = " ".join(map(str, words[1:])).replace(f"{ROOT}/", "")  # a record names no path of a machine
        raise WorkerFailed(f"{shown} ended with code {process.returncode}: {last[:200]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(wall, cpu)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the median over the rounds of ours divided by theirs: each round compares neighbours in time."""
    return statistics.median(one / max(other, 1e-12) for one, other in zip(ours, theirs, strict=True))


def together(
    runs: Mapping[str, tuple["Worker", str]], *, rounds: int, seconds: float, say: Callable[[str], None]
) -> tuple[dict[str, dict[str, Any]], dict[str, Measured]]:
    """Measures runs {name: (worker, its run)} in turn, and ends the workers.

    Returns ({name: what the worker says of itself}, {name: what was measured}); of one that fails only the latter.
    """
    about: dict[str, dict[str, Any]] = {}
    found: dict[str, Measured] = {}
    try:
        for name, (worker, _) in runs.items():  # all are there before the first of them compiles
            say(f"{name}: start")
            found[name] = Measured()
            with _failing(found[name]):
                about[name] = worker.about
        asked = {name: worker.run(run) for name, (worker, run) in runs.items() if name in about}
        found |= in_turns(asked, rounds=rounds, seconds=seconds, say=say)
        return about, found
    finally:
        for worker in {id(worker): worker for worker, _ in runs.values()}.values():
            worker.end()


class WorkerFailed(Exception):
    """A worker ended with an error; the text is its last line."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What a worker can do."""

    runs: Mapping[str, Callable[[int], Any]]
    """{name: function that takes so many steps and waits until they are done}."""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What it says of itself at once."""
    tell: Callable[[], Mapping[str, Any]] = dict
    """Returns what it says of itself after every measurement."""


class Worker:
    """Processes that do the work of a module when told to: one, or several that do it together and are asked at once."""

    def __init__(
        self,
        module: str,
        *given: Mapping[str, Any],
        cores: Sequence[int],
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the processes, one for each mapping of arguments."""
        self._members = [_Process(module, each, cores, python, environment or {}) for each in given]
        self._about: dict[str, Any] | None = None

    @property
    def about(self) -> dict[str, Any]:
        """What it says of itself; waits until all are there. Raises WorkerFailed where one does not get there."""
        if self._about is None:
            self._about = self._answers()[0]
        return self._about

    def run(self, name: str) -> Run:
        """Returns one of its runs: of several processes the longest wall time and the sum of their CPU time."""

        def ask(steps: int) -> Spent:
            assert self.about is not None
            for member in self._members:
                member.ask({"run": name, "steps": steps})
            spent = [Spent(**answer) for answer in self._answers()]
            return Spent(max(each.wall for each in spent), sum(each.cpu for each in spent), spent[0].told)

        return ask

    def end(self) -> None:
        """Ends the processes."""
        for member in self._members:
            member.end()

    def _answers(self) -> list[dict[str, Any]]:
        """Returns the next answer of each process. Where one fails all end, so that nobody waits for the others' answers."""
        try:
            return [member.hear() for member in self._members]
        except WorkerFailed:
            for member in self._members:
                member.kill()
            raise


class _Process:
    """One process of a worker."""

    def __init__(
        self, module: str, given: Mapping[str, Any], cores: Sequence[int], python: str, environment: Mapping[str, str]
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.measure", module, json.dumps(dict(given)), json.dumps(sorted(cores))],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def ask(self, what: Mapping[str, Any]) -> None:
        """Asks for something; raises WorkerFailed where the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerFailed(self._last_words()) from None

    def hear(self) -> dict[str, Any]:
        """Returns the next answer; raises WorkerFailed where none comes."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], LONGEST_ANSWER)[0]:
            self._process.kill()
            raise WorkerFailed(f"no answer within {LONGEST_ANSWER:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(self._last_words())
        return json.loads(line)

    def kill(self) -> None:
        """Stops the process, whose last words can still be read."""
        self._process.kill()

    def end(self) -> None:
        """Ends the process."""
        self.kill()
        self._process.communicate()
        self._errors.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        named = [line for line in lines if "Error" in line.split(" ")[0]]
        return (named or lines or [f"it ended with code {self._process.returncode}"])[-1][:300]


def serve() -> None:
    """Is the process of a worker: `MODULE GIVEN CORES`."""
    os.sched_setaffinity(0, json.loads(sys.argv[3]))  # before a library counts them
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    work: Work = importlib.import_module(sys.argv[1]).work(**json.loads(sys.argv[2]))
    print(json.dumps(dict(work.about)), file=lines, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        work.runs[asked["run"]](asked["steps"])
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "told": dict(work.tell())}
        print(json.dumps(spent), file=lines, flush=True)


if __name__ == "__main__":
    serve()
