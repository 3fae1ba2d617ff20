"""Measures cnnlab on a CPU, and PyTorch and Flax beside it, in turns. Without a name: the steps and the loops, in 20 minutes.

    python -m benchmarks [NAME …] [--to=FILE.json] [--quick] [--torch_python=PYTHON | --peers=no] [--KNOB=VALUE …]
    python -m benchmarks --list
    python -m benchmarks --page     writes docs/benchmarks.md from the records in benchmarks/records

A NAME is a part such as `steps`, or a case of one such as `steps.lenet5`. Every comparison is of processes that are all alive
and take turns, round after round, so that a machine whose speed drifts bends no ratio: medians over the rounds, the least and
the most, and the CPU time of all threads, which other programs disturb less. Ratios are medians of those of the rounds, of wall
time and in brackets of CPU time. PyTorch has an environment of its own (peers/requirements.txt), which is made at first use in
the user's cache directory, unless --torch_python or $CNNLAB_ORACLE_PYTHON names a Python that has torch.
"""

import argparse
import inspect
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import goals, page
from benchmarks.measure import WorkerFailed
from benchmarks.parts import PARTS, Case
from benchmarks.record import Record
from benchmarks.settings import Settings, available_cores, elapsed
from benchmarks.tables import as_text
from cnnlab.errors import UsageError, did_you_mean

PRIOR = 30.0
"""Seconds at the expected speed with which the estimate of the time that is left begins."""
Chosen = list[tuple[str, str, Case, dict[str, Any]]]


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="parts or cases; none: steps and loops")
    made.add_argument("--to", type=pathlib.Path, help="file that keeps the record")
    made.add_argument("--quick", action="store_true", help="one short round, to see that it runs: the numbers mean nothing")
    made.add_argument("--torch_python", default=os.environ.get("CNNLAB_ORACLE_PYTHON"), help="a Python that has torch")
    made.add_argument("--peers", choices=("yes", "no"), default="yes", help="whether PyTorch is measured too")
    made.add_argument("--rounds", type=int, default=7, help="rounds, each of one measurement of every kind")
    made.add_argument("--seconds", type=float, default=0.5, help="length of one measurement, at least one step")
    made.add_argument("--threads", type=int, default=2, help="cores that every process may use")
    made.add_argument("--minutes", type=float, default=20.0, help="after which no case is begun")
    made.add_argument("--list", action="store_true", help="show the parts and their cases")
    made.add_argument("--page", action="store_true", help="write docs/benchmarks.md from the records")
    return made


def chosen(names: Sequence[str], given: Mapping[str, str]) -> Chosen:
    """Returns (part, case, what it measures, its knobs) for names of parts and cases; those by default for no name.

    Raises UsageError for an unknown name, and for a knob that no chosen case has or whose value is not of its type.
    """
    known = {f"{part}.{case}" for part, each in PARTS.items() for case in each.cases} | set(PARTS)
    for name in names:
        if name not in known:
            raise UsageError(f"{name}: no such part or case.{did_you_mean(name, sorted(known))}\nSee --list.")
    found: Chosen = []
    used: set[str] = set()
    for part, each in PARTS.items():
        for case, measured in each.cases.items():
            if {part, f"{part}.{case}"} & set(names) or (not names and each.by_default):
                own = _knobs(measured, given)
                used |= set(own)
                found.append((part, case, measured, own))
    if unused := sorted(set(given) - used):
        raise UsageError(f"--{unused[0]}: no chosen case has such a knob.\nSee --list.")
    return found


def _knobs(case: Case, given: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values of the knobs that a case has, as the types of their defaults."""
    found = {}
    for name, default in knobs_of(case).items():
        if name in given:
            try:
                found[name] = type(default)(given[name])
            except ValueError:
                raise UsageError(f"--{name}={given[name]}: expected a value such as {default}.") from None
    return found


def knobs_of(case: Case) -> dict[str, Any]:
    """Returns {name: default} of what can be set of a case: the keyword arguments of its function that are not bound."""
    bound = getattr(case.measure, "keywords", {})
    parameters = inspect.signature(case.measure).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty and each.name not in bound}


def measure(cases: Chosen, settings: Settings, record: Record, seconds: float) -> bool:
    """Measures cases in their order and prints a table for each; returns whether all went well.

    A case that would not end within the seconds, at the speed so far, is left out and named. One that fails takes no others
    with it.
    """
    good, began, done = True, time.monotonic(), 0.0
    whole = sum(case.seconds for _, _, case, _ in cases)
    for number, (part, name, case, given) in enumerate(cases, start=1):
        gone = time.monotonic() - began
        speed = 1.0 if settings.quick else (gone + PRIOR) / (done + PRIOR)
        if not settings.quick and gone + speed * case.seconds > seconds:
            record.leave_out(part, name, f"{elapsed(gone)} were gone, and it takes about {elapsed(speed * case.seconds)}")
            print(f"\n{part}.{name} left out: it would not end in time", flush=True)
            done += case.seconds
            continue
        left = f"about {elapsed(speed * (whole - done))} left" if not settings.quick else "quick"
        settings.heading = f"[{number}/{len(cases)}] {part}.{name}, {left} – "
        print(f"\n[{number}/{len(cases)}] {part}.{name}: {elapsed(gone)} gone, {left}", flush=True)
        try:
            table = case.measure(settings, **given)
        except (WorkerFailed, AssertionError, OSError) as error:
            good = False
            settings.say("")
            print(f"{part}.{name} failed: {error}", file=sys.stderr, flush=True)
            record.leave_out(part, name, f"{type(error).__name__}: {str(error)[:300]}")
        else:
            settings.say("")
            print(as_text(table), flush=True)
            record.add(table)
        done += case.seconds
    record.content["seconds"] = time.monotonic() - began
    record.write()
    return good


def report(record: Record) -> None:
    """Prints the goals that were measured."""
    if found := goals.judged(record.tables):
        print("\nGoals")
        for each in found:
            verdict = "met" if each.met else "MISSED"
            print(f"  {each.goal.name:<52}{each.value:8.2f}   at most {each.goal.most:<6g}{verdict}")
    print(f"\n{len(record.tables)} tables in {elapsed(record.content['seconds'])}", flush=True)


def show_parts() -> None:
    """Prints the parts, their cases and knobs."""
    for name, part in PARTS.items():
        seconds = sum(case.seconds for case in part.cases.values())
        print(f"{name}: {part.measures}; {elapsed(seconds)}{'' if part.by_default else ', only when named'}")
        for case, each in part.cases.items():
            knobs = "".join(f" --{knob}={default}" for knob, default in knobs_of(each).items())
            print(f"  {name}.{case}{knobs}")


def main(words: Sequence[str] | None = None) -> int:
    """Measures what is named; returns 1 where a case failed, and 2 for a mistake in the command."""
    given, rest = parser().parse_known_args(words)
    if given.list:
        show_parts()
        return 0
    if given.page:
        page.write()
        return 0
    try:
        if wrong := [word for word in rest if not (word.startswith("--") and "=" in word)]:
            raise UsageError(f"{wrong[0]}: expected a name, or --KNOB=VALUE.\nSee --list.")
        cases = chosen(given.names, dict(word[2:].split("=", 1) for word in rest))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cores = available_cores(given.threads)
    how = {name: value for name, value in vars(given).items() if name not in ("to", "list", "page", "torch_python")}
    record = Record(given.to, cores, {**how, "knobs": rest})
    print(f"{record.content['machine']['devices'][0]}, load {record.content['machine']['load']:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            rounds=1 if given.quick else given.rounds,
            seconds=0.01 if given.quick else given.seconds,
            cores=cores,
            folder=pathlib.Path(folder),
            peers=given.peers == "yes",
            torch_python=given.torch_python,
            quick=given.quick,
        )
        good = measure(cases, settings, record, 60 * given.minutes if not given.names else float("inf"))
    report(record)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
