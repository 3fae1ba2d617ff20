"""Makes docs/benchmarks.md from benchmarks/records/*.json: what was measured on CPUs and on accelerators. Never edited by hand.

A record is a file that `python -m benchmarks` or `python -m benchmarks.accelerator` wrote with --to; its machine and date come
from the file itself. Of a CPU the page shows the newest measurement of each table. Records with --quick or --tiny are left
out: their numbers mean nothing.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import goals, tables
from benchmarks.parts import PARTS
from benchmarks.settings import elapsed
from benchmarks.tables import Table, escaped

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEAD = """# Benchmarks

Written by `python -m benchmarks --page` from the records in `benchmarks/records/`, each of which is the JSON of one
`python -m benchmarks --to=benchmarks/records/cpu-DATE.json`, or of
`python -m benchmarks.accelerator --to=benchmarks/records/NAME.json` where there is a GPU or TPU.
"""
NONE_SEEN = """
**No accelerator has been seen yet.** There is no record of one, so what this repository says about GPUs and TPUs (`pmap`, `jit`
and `fsdp` there, batched runs in one program, many steps a dispatch, bf16, memory) is tested on CPU devices alone. Where an
accelerator is at hand, run the last of the commands above and then the first.
"""
HOW = """
Every comparison is of processes that are all alive and take turns, round after round: seven, or five where they take over a
minute. The number is the median over the rounds, beside it the least and the most; CPU time is that of all threads. A ratio is
the median of the ratios of the rounds, of wall time and in brackets of CPU time; below 1 cnnlab is faster. The networks of one
table have the same number of parameters, which is asserted, and every step gets another batch from the host. PyTorch compile
has the layout channels_last too; the first step of a kind is what compiles it, with empty caches.
"""


def write() -> None:
    """Reads the records and writes the page."""
    (ROOT / "docs" / "benchmarks.md").write_text(page(records()), encoding="utf-8")


def records() -> list[dict[str, Any]]:
    """Returns the records that are kept."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "benchmarks" / "records").glob("*.json"))]


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page as Markdown: what CPUs did, then a section for each record of an accelerator, the newest first."""
    real = [record for record in records if not any(record["arguments"].get(name) for name in ("tiny", "quick"))]
    real.sort(key=lambda record: record["machine"]["time"], reverse=True)
    on_cpu, others = [record for record in real if "tables" in record], [record for record in real if "rows" in record]
    seen = any(not device.startswith("cpu") for record in others for device in record["machine"]["devices"])
    parts = [HEAD, *([cpu_section(on_cpu)] if on_cpu else []), PART_LIST, *([] if seen else [NONE_SEEN])]
    return "\n".join([*(part.rstrip() for part in [*parts, *(section(record) for record in others)]), ""])


def part_list() -> str:
    """Returns the section on what can be measured."""
    lines = ["", "## What can be measured", "", "| `python -m benchmarks …` | measures | takes |", "|---|---|---|"]
    for name, part in PARTS.items():
        seconds = elapsed(sum(case.seconds for case in part.cases.values()))
        words = f"`{name}`" if part.by_default else f"`{name}`, only when named"
        lines.append(f"| {words} | {part.measures} | {seconds} |")
    lines += ["", "`python -m benchmarks --list` shows the cases of each and their knobs."]
    return "\n".join(lines)


PART_LIST = part_list()


def cpu_section(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the section on CPUs of records, the newest first: the goals, the missed ones, and the tables."""
    newest: dict[tuple[str, str], tuple[Table, Mapping[str, Any]]] = {}
    for record in records:
        for content in record["tables"]:
            newest.setdefault((content["part"], content["case"]), (tables.of_record(content), record))
    ordered = [newest[part, case] for part, case in sorted(newest, key=_place)]
    lines = ["", f"## On a CPU ({records[0]['machine']['time'][:10]})", "", described(records[0]), *HOW.splitlines()]
    lines += goal_lines([table for table, _ in ordered])
    for table, record in ordered:
        lines += ["", f"### {escaped(table.title)}", "", *tables.as_markdown(table)]
        if remark := goals.REMARKS.get((table.part, table.case)):
            lines += ["", " ".join(remark.split())]
        if record is not records[0]:
            lines += ["", f"Measured {record['machine']['time'][:10]} on {record['machine']['devices'][0]}."]
    if left_out := [case for case in records[0]["left_out"] if (case["part"], case["case"]) not in newest]:
        lines += ["", "Left out:", "", *(f"- {case['part']}, {case['case']}: {escaped(case['why'])}" for case in left_out)]
    return "\n".join(lines)


def _place(key: tuple[str, str]) -> tuple[int, int]:
    """Returns the place of a table in the order of PARTS; one that is measured no longer comes last."""
    part, case = key
    names = list(PARTS)
    cases = list(PARTS[part].cases) if part in PARTS else []
    return (names.index(part) if part in PARTS else len(names), cases.index(case) if case in cases else len(cases))


def goal_lines(found: Sequence[Table]) -> list[str]:
    """Returns the lines on the goals, and for those that are missed the cause and what was tried."""
    judged = goals.judged(found)
    if not judged:
        return []
    lines = ["", "| goal | measured | at most | |", "|---|---|---|---|"]
    for each in judged:
        verdict = "met" if each.met else "**missed**"
        lines.append(f"| {escaped(each.goal.name)} | {each.value:.2f} | {each.goal.most:g} | {verdict} |")
    causes: dict[str, list[str]] = {}
    for each in judged:
        if not each.met:
            causes.setdefault(each.goal.cause or "The cause is not known yet.", []).append(each.goal.name)
    lines += ["", *(f"- **{'; '.join(names)}**: {' '.join(cause.split())}" for cause, names in causes.items())]
    return lines


def described(record: Mapping[str, Any]) -> str:
    """Returns the line on the machine and the versions of a record."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    took = f", in {elapsed(record['seconds'])}" if "seconds" in record else ""
    devices = f"{', '.join(machine['devices'])}; " if "tables" in record else ""
    return f"{devices}{machine['platform']}, Python {machine['python']}, {versions}; measured at {machine['time']}{took}."


def section(record: Mapping[str, Any]) -> str:
    """Returns the section of one record of an accelerator: machine, date, versions and a table of its rows."""
    machine = record["machine"]
    lines = ["", f"## {', '.join(machine['devices'])} ({machine['time'][:10]})", "", described(record), ""]
    lines += ["| part | what | value | goal | note |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(cells(row))} |" for row in record["rows"]]
    if record["left_out"]:
        lines += ["", "Left out:", ""]
        lines += [f"- {case['part']}, {case['case']}: {escaped(case['why'])}" for case in record["left_out"]]
    return "\n".join(lines)


def cells(row: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a row of the table."""
    value = row["value"]
    if isinstance(value, bool):
        shown = "yes" if value else "**no**"
    else:
        shown = value if isinstance(value, str) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    goal = row["goal"] + {True: ", met", False: ", **missed**", None: ""}[row["met"]] if row["goal"] else ""
    return [escaped(cell) for cell in (row["part"], row["name"], f"{shown} {row['unit']}".strip(), goal, row["note"])]
