"""Drives the processes that train, in turns, and keeps what they took.

A case is one network with one strategy on one number of devices. Every number of devices has a process of its own (two
processes with a device each are one more case); all are alive, and take turns in every round, so that a machine whose speed
drifts bends no ratio.
"""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.record import machine
from benchmarks.settings import available_cores

SECONDS = 0.4
"""Least length of one measurement of a case."""


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


def cases(net: str, plan: Plan) -> list[Case]:
    """Returns the cases of a network: one device with each share of a batch, then several with the whole of it."""
    alone = [Case(net, "jit", 1, 1, plan.batch // count) for count in plan.counts]
    together = [Case(net, strategy, count, 1, plan.batch) for count in plan.counts if count > 1 for strategy in ("jit", "fsdp")]
    apart = [Case(net, strategy, 2, 2, plan.batch) for strategy in ("jit", "fsdp")] if plan.in_processes else []
    return [*alone, *together, *apart]


class Workers:
    """The processes that train one case: one, or two that do it together and are asked at once."""

    def __init__(self, devices: int, processes: int):
        if processes == 1:
            groups: list[list[str]] = [[]]
        else:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            groups = [[str(index), str(processes), str(port)] for index in range(processes)]
        command = [sys.executable, "-m", "benchmarks.scaling.worker", str(devices // processes)]
        self.members = [
            subprocess.Popen([*command, *group], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for group in groups
        ]

    def tell(self, **what: Any) -> None:
        """Asks for something, whose answer `hear` reads."""
        for member in self.members:
            assert member.stdin is not None
            member.stdin.write(json.dumps(what) + "\n")
            member.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Returns the answer to the oldest open question: of several processes the longest time and the sum of their work."""
        answers = []
        for member in self.members:
            assert member.stdout is not None
            line = member.stdout.readline()
            if not line:
                raise RuntimeError(f"a process of the benchmark ended with code {member.wait()}")
            answers.append(json.loads(line))
        if "wall" in answers[0]:
            return {"wall": max(each["wall"] for each in answers), "cpu": sum(each["cpu"] for each in answers)}
        return answers[0]

    def end(self) -> None:
        """Ends the processes: those that train together leave each other when their input ends."""
        for member in self.members:
            assert member.stdin is not None
            member.stdin.close()
        for member in self.members:
            try:
                member.wait(timeout=20)
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()


def measure(plans: dict[str, Plan]) -> list[dict[str, Any]]:
    """Returns a row for each case: its fields, milliseconds of wall and CPU time of a step by round, and what it sends."""
    places = sorted({(case.devices, case.processes) for net, plan in plans.items() for case in cases(net, plan)})
    workers = {place: Workers(*place) for place in places}
    try:
        return [row for net, plan in plans.items() for row in _measured(net, plan, workers)]
    finally:
        for each in workers.values():
            each.end()


def _measured(net: str, plan: Plan, workers: dict[tuple[int, int], Workers]) -> Iterator[dict[str, Any]]:
    """Yields the rows of one network."""
    place = {case: workers[case.devices, case.processes] for case in cases(net, plan)}
    build = {case: [net, case.strategy, case.batch] for case in place}
    for case, worker in place.items():  # each compiles in its own process, while the others do
        worker.tell(build=build[case])
    about = {case: worker.hear() for case, worker in place.items()}
    steps = {}
    for case, worker in place.items():
        for number in (1, 2):  # the first step is not measured
            worker.tell(use=build[case], steps=number)
            told = worker.hear()
        steps[case] = max(1, round(2 * SECONDS / told["wall"]))
    times: dict[Case, dict[str, list[float]]] = {case: {"wall": [], "cpu": []} for case in place}
    for _ in range(plan.rounds):
        for case, worker in place.items():
            worker.tell(use=build[case], steps=steps[case])
            for kind, seconds in worker.hear().items():
                times[case][kind].append(1e3 * seconds / steps[case])
    for worker in set(place.values()):
        worker.tell(forget=True)
        worker.hear()
    for case in place:
        print(
            f"{case.net}, {case.strategy}, {case.devices} devices, batch {case.batch}: {times[case]}",
            file=sys.stderr,
            flush=True,
        )
        yield {**dataclasses.asdict(case), **times[case], **about[case]}


COUNTED = {"LeNet-5": 256, "ResNet-18 for CIFAR": 32, "ResNet-50 at 224": 64}
"""{network: size of its batch} of those whose exchanges are counted."""
DEVICES = 8
"""Devices among which they are counted."""


def counted(nets: dict[str, int]) -> list[dict[str, Any]]:
    """Returns a row for each network and strategy: its fields, its bytes and its exchanges as accelerators make them."""
    found = []
    worker = Workers(DEVICES, 1)
    try:
        for net, batch in nets.items():
            for strategy in ("jit", "fsdp"):
                worker.tell(count=[net, strategy, batch])
                found.append({"net": net, "strategy": strategy, "devices": DEVICES, **worker.hear()})
    finally:
        worker.end()
    return found


def record(plans: dict[str, Plan]) -> dict[str, Any]:
    """Measures, and returns what is kept: the machine, its load before, the seconds that it took, and all rows."""
    cores, began = available_cores(os.cpu_count() or 1), time.monotonic()
    about = {**machine(cores), "cores": len(cores)}  # and the load before
    exchanges = counted({net: batch for net, batch in COUNTED.items() if plans is PLANS or net in plans})
    rows = measure(plans)
    seconds = time.monotonic() - began
    return {"machine": about, "seconds": round(seconds), "exchanges": exchanges, "rows": rows}
