"""Measures the processes that train, in turns, and keeps what they took.

A case is one network with one strategy on one number of devices. Every number of devices has a process of its own (two
processes with a device each are one more case); all are alive, and take turns in every round, so that a machine whose speed
drifts bends no ratio.
"""

import dataclasses
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.measure import Worker, WorkerFailed, together
from benchmarks.record import machine
from benchmarks.settings import available_cores

SECONDS = 0.8
"""Length of one measurement of a case, at least one step."""
WORKER = "benchmarks.scaling.worker"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured of a network."""

    batch: int
    """Examples of a step on all devices together."""
    counts: tuple[int, ...]
    """Numbers of devices."""
    rounds: int
    in_processes: bool
    """Whether two processes train it, too."""


PLANS = {
    "LeNet-5": Plan(256, (1, 2, 4, 8), 7, True),
    "ResNet-18 for CIFAR": Plan(16, (1, 2, 8), 5, True),
    "ResNet-50": Plan(8, (1, 8), 2, False),
}
QUICK = {"LeNet-5": Plan(16, (1, 2), 1, True)}
"""A trial of all parts in half a minute."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One thing that is measured."""

    net: str
    strategy: str
    devices: int
    processes: int
    batch: int

    @property
    def name(self) -> str:
        """How it is called while it is measured."""
        return f"{self.net}, batch {self.batch}: {self.strategy}, devices: {self.devices}, processes: {self.processes}"


def cases(net: str, plan: Plan) -> list[Case]:
    """Returns the cases of a network: one device with each share of a batch, then several with the whole of it."""
    alone = [Case(net, "jit", 1, 1, plan.batch // count) for count in plan.counts]
    together = [Case(net, strategy, count, 1, plan.batch) for count in plan.counts if count > 1 for strategy in ("jit", "fsdp")]
    apart = [Case(net, strategy, 2, 2, plan.batch) for strategy in ("jit", "fsdp")] if plan.in_processes else []
    return [*alone, *together, *apart]


def worker(devices: int, processes: int, cores: Sequence[int], **given: Any) -> Worker:
    """Starts the processes that share so many CPU devices."""
    groups: list[dict[str, Any]] = [{}]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        groups = [{"group": [processes, index, f"127.0.0.1:{port}"]} for index in range(processes)]
    return Worker(WORKER, *({"devices": devices // processes, **given, **group} for group in groups), cores=cores)


def measured(net: str, plan: Plan, cores: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields a row for each case: its fields, milliseconds of wall and CPU time of a step by round, and what a device sends.

    Raises WorkerFailed where a case cannot be measured.
    """
    places: dict[tuple[int, int], list[Case]] = {}
    for case in cases(net, plan):
        places.setdefault((case.devices, case.processes), []).append(case)
    workers = {
        place: worker(*place, cores, net=net, cases=[[case.name, case.strategy, case.batch] for case in found])
        for place, found in places.items()
    }
    runs = {case.name: (workers[place], case.name) for place, found in places.items() for case in found}
    about, found = together(runs, rounds=plan.rounds, seconds=SECONDS, say=say)
    for case in cases(net, plan):
        one = found[case.name]
        if one.failed:
            raise WorkerFailed(f"{case.name}: {one.failed}")
        times = {kind: [1e3 * each for each in seconds] for kind, seconds in (("wall", one.wall), ("cpu", one.cpu))}
        yield {**dataclasses.asdict(case), **times, **about[case.name][case.name]}


def say(words: str) -> None:
    """Says what is being done."""
    print(words, file=sys.stderr, flush=True)


COUNTED = {"LeNet-5": 256, "ResNet-18 for CIFAR": 32, "ResNet-50 at 224": 64}
"""{network: size of its batch} of those whose exchanges are counted."""
DEVICES = 8
"""Devices among which they are counted."""


def counted(nets: dict[str, int], cores: Sequence[int]) -> list[dict[str, Any]]:
    """Returns a row for each network and strategy: its fields, its bytes and its exchanges as accelerators make them."""
    found = []
    for net, batch in nets.items():
        say(f"{net}: exchanges among {DEVICES} devices")
        counting = worker(DEVICES, 1, cores, net=net, counted=batch)
        try:
            rows = counting.about.items()
            found += [{"net": net, "strategy": strategy, "devices": DEVICES, **row} for strategy, row in rows]
        finally:
            counting.end()
    return found


def record(plans: dict[str, Plan]) -> dict[str, Any]:
    """Measures, and returns what is kept: the machine, its load before, the seconds that it took, and all rows."""
    cores, began = available_cores(os.cpu_count() or 1), time.monotonic()
    about = {**machine(cores), "cores": len(cores)}  # and the load before
    exchanges = counted({net: batch for net, batch in COUNTED.items() if plans is PLANS or net in plans}, cores)
    rows = [row for net, plan in plans.items() for row in measured(net, plan, cores)]
    seconds = time.monotonic() - began
    return {"machine": about, "seconds": round(seconds), "exchanges": exchanges, "rows": rows}
