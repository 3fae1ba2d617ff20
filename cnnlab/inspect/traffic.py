"""Counts what a compiled step sends between devices, from the text of the program that XLA made of it (HLO).

Letters: n devices of a group, whose members exchange arrays with one another.
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from cnnlab.core import PyTree

SHARES = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "all-to-all": 1}
"""{kind of collective: how often a device sends (n - 1) / n of the whole array, on a ring}: an all-reduce is a reduce-scatter
and an all-gather (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms", section 3)."""

_BITS = {"pred": 8, "bf16": 16}
_SHAPE = re.compile(r"\b(pred|bf16|[sufc]\d+|f8\w+)\[([\d,]*)\]")
_COLLECTIVE = re.compile(rf" = (.+?) ({'|'.join(SHARES)}|collective-permute)(-start)?\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange of arrays in a step."""

    kind: str
    """Name of XLA's operation, such as `all-reduce`."""
    whole: int
    """Bytes of the whole arrays, as each device has them before it scatters or after it gathers."""
    devices: int
    """Number of devices that take part, n."""

    @property
    def sent(self) -> float:
        """Returns the bytes that a device sends, where the devices exchange on a ring."""
        if self.kind == "collective-permute":
            return float(self.whole)
        return SHARES[self.kind] * (self.devices - 1) / self.devices * self.whole


def step_traffic(steps: Any, *arguments: PyTree, devices: int) -> list[Collective]:
    """Returns the exchanges of compiled steps, such as `Program.phase_steps[0]`, called with these arguments."""
    return collectives(steps.lower(*arguments).compile().as_text(), devices)


def collectives(program: str, devices: int) -> list[Collective]:
    """Returns the exchanges of a compiled program in the order in which they stand, those of a loop once for each turn.

    Of a choice between branches all count. Exchanges among a single device are none.

    Args:
        program: text of a compiled HLO module.
        devices: number of devices that run it.

    Raises ValueError where a loop exchanges arrays in a number of turns that XLA does not know.
    """
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in program.splitlines():
        if header := _COMPUTATION.match(line):
            name = header[1]
            computations[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif name:
            computations[name].append(line)
    return list(_of_computation(entry, computations, devices))


def _of_computation(name: str, computations: dict[str, list[str]], devices: int) -> Iterator[Collective]:
    """Yields the exchanges of one computation and of those that it calls."""
    for line in computations.get(name, ()):
        if (found := _collective(line, devices)) is not None:
            if found.devices > 1:
                yield found
            continue
        called = [each for one, several in _CALLED.findall(line) for each in ([one] if one else several.split(", "))]
        inner = [each for callee in called for each in _of_computation(callee.lstrip("%"), computations, devices)]
        if inner and " while(" in line:
            turns = _TRIPS.search(line)
            if turns is None:
                raise ValueError(f"a loop of a compiled program exchanges arrays, and its number of turns is not known: {line}")
            inner *= int(turns[1])
        yield from inner


def _collective(line: str, devices: int) -> Collective | None:
    """Returns the exchange of a line; None where it is something else."""
    if (found := _COLLECTIVE.search(line)) is None:
        return None
    shapes, kind, is_begun = found.groups()
    sizes = [_bytes(*each) for each in _SHAPE.findall(shapes)]
    if is_begun and kind != "all-reduce":  # its output is (what goes in, what comes out, …)
        sizes = sizes[len(sizes) // 2 :] if kind == "all-gather" else sizes[1:2]
    group = _group(line, devices)
    whole = sum(sizes) * (group if kind == "reduce-scatter" else 1)
    return Collective(kind, whole, group)


def _bytes(dtype: str, shape: str) -> int:
    """Returns the bytes of an array such as f32[3,4]."""
    count = 1
    for size in filter(None, shape.split(",")):
        count *= int(size)
    bits = _BITS.get(dtype) or int(re.findall(r"\d+", dtype)[0])
    return count * max(bits // 8, 1)


def _group(line: str, devices: int) -> int:
    """Returns the number of devices of a group: [groups,n]<=[…], {{0,1,…},…}, or all where none is named."""
    if found := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(found[1])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return found[1].count(",") + 1
    return devices
