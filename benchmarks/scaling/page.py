"""Makes docs/scaling.md of template.md and of the record of `python -m benchmarks.scaling`."""

import pathlib
import statistics
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.measure import ratio
from benchmarks.scaling import model
from cnnlab.inspect.traffic import Collective

Row = Mapping[str, Any]
Cells = Iterable[Sequence[str]]
SMALL = 64 * 1024
"""Bytes below which an exchange is one that the computation waits for, such as the statistics of batch norm."""
NET = "ResNet-50 at 224"
"""The network that is predicted."""
PREDICTED_BATCH = 256
"""Examples of a step on each device, as in the published figures."""


def page(record: Mapping[str, Any]) -> str:
    """Returns the page as Markdown: the template with its tables."""
    exchanges, rows = record["exchanges"], record["rows"]
    filled = {
        "machine": about(record),
        "sent": table(
            "network|strategy|parameters|exchanges|bytes a device sends|/ parameters|formula|beside it", sent(exchanges)
        ),
        "times": table(
            "network|batch|devices|strategy|ms a step|/ one device|CPU ms|beside the computation|a device sends", times(rows)
        ),
        "machines": table("machine|GB/s inside|GB/s across|wait inside, µs|across, µs|from", machines()),
        "published": table("published|devices|speed-up|efficiency|predicted without overlap|with|from", published()),
        "predicted": table(
            "strategy|devices|machine|efficiency without overlap|with|images/s with overlap", predicted(exchanges)
        ),
    }
    template = pathlib.Path(__file__).with_name("template.md").read_text(encoding="utf-8")
    return string.Template(template).substitute(filled)


def table(heads: str, rows: Cells) -> str:
    """Returns a table as Markdown; heads are divided by `|`."""
    names = heads.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def about(record: Mapping[str, Any]) -> str:
    """Returns a sentence on the machine and the measurement."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {machine['versions'][name]}" for name in ("jax", "flax"))
    return (
        f"Measured on {machine['time'][:10]} in {record['seconds']} s: {machine['cores']} cores, {machine['platform']}, Python "
        f"{machine['python']}, {versions}; the load before was {machine['load']:.1f}."
    )


def exchanges_of(row: Row) -> list[Collective]:
    """Returns the exchanges of a row."""
    return [Collective(*each) for each in row["collectives"]]


def formula(row: Row) -> float:
    """Returns the bytes that a device sends of parameters and gradients alone, on a ring of n devices.

    Data-parallel: 2 (n − 1) / n of all. Fsdp: whole arrays as before; split ones are gathered twice, once each way, and their
    gradients are reduced as whole ones, which a device then cuts: 4 (n − 1) / n.
    """
    share = (row["devices"] - 1) / row["devices"]
    return share * (2 * (row["bytes"] - row["split"]) + 4 * row["split"])


def sent(rows: Iterable[Row]) -> Iterator[list[str]]:
    """Yields the cells of the table of bytes."""
    for row in rows:
        found = exchanges_of(row)
        total, expected = sum(each.sent for each in found), formula(row)
        counts = {kind: sum(each.kind == kind for each in found) for kind in dict.fromkeys(each.kind for each in found)}
        yield [
            row["net"],
            row["strategy"],
            megabytes(row["bytes"]),
            ", ".join(f"{count} {kind}" for kind, count in counts.items()),
            megabytes(total),
            f"{total / row['bytes']:.3f}",
            megabytes(expected),
            megabytes(total - expected),
        ]


def times(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yields the cells of the table of times."""
    alone = {(row["net"], row["batch"]): row for row in rows if row["devices"] == 1}
    for row in rows:
        whole = alone[row["net"], max(batch for net, batch in alone if net == row["net"])]
        if row["devices"] == 1 and row is not whole:
            continue
        wall, cpu = statistics.median(row["wall"]), statistics.median(row["cpu"])
        share = alone[row["net"], row["batch"] // row["devices"]]
        own = row["devices"] * statistics.median(share["cpu"])
        yield [
            row["net"],
            str(row["batch"]),
            str(row["devices"]) if row["processes"] == 1 else f"{row['devices']}, in {row['processes']} processes",
            row["strategy"] if row["devices"] > 1 else "–",
            digits(wall),
            f"{ratio(row['wall'], whole['wall']):.2f}",
            digits(cpu),
            f"{1 - own / cpu:.0%}" if row["devices"] > 1 else "–",
            megabytes(row["sent"]) if row["devices"] > 1 else "–",
        ]


def machines() -> Iterator[list[str]]:
    """Yields the cells of the table of machines."""
    for each in (model.P100, model.V100, model.A100, model.H100):
        numbers = (each.inside / 1e9, each.across / 1e9, each.wait_inside * 1e6, each.wait_across * 1e6)
        yield [each.name, *(f"{number:.3g}" for number in numbers), each.source]


def published() -> Iterator[list[str]]:
    """Yields the cells of the table of published figures."""
    for each in model.PUBLISHED:
        ideal = each.devices / each.of
        guesses = (
            model.speedup(each.step, each.machine, each.devices, overlap=overlap, of=each.of) for overlap in (False, True)
        )
        yield [
            each.what,
            f"{each.of} → {each.devices:,}",
            f"{each.measured:.4g} of {ideal:.4g}",
            f"{each.measured / ideal:.0%}",
            *(f"{guess / ideal:.0%}" for guess in guesses),
            each.source,
        ]


def predicted(rows: Iterable[Row]) -> Iterator[list[str]]:
    """Yields the cells of the table of predictions."""
    for row in rows:
        if row["net"] != NET:
            continue
        found = exchanges_of(row)
        sent = sum(each.sent for each in found) * row["devices"] / (row["devices"] - 1)
        waits = sum(each.whole < SMALL for each in found)
        for machine, rate in ((model.A100, 2470.0), (model.H100, model.EIGHT)):
            step = model.Step(rate, PREDICTED_BATCH, sent, waits)
            for devices in (8, 256):
                gains = [model.speedup(step, machine, devices, overlap=overlap) for overlap in (False, True)]
                yield [
                    row["strategy"],
                    str(devices),
                    machine.name,
                    *(f"{gain / devices:.1%}" for gain in gains),
                    f"{gains[1] * rate:,.0f}",
                ]


def megabytes(number: float) -> str:
    """Returns bytes in MB with three digits, few of them by their number."""
    return f"{digits(number / 1e6)} MB" if abs(number) >= 1e4 else f"{number:.0f} B"


def digits(number: float) -> str:
    """Returns a number with three significant digits."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
