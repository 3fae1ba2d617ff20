"""Writes docs/benchmarks.md from the records of `python -m benchmarks.accelerator`: benchmarks/records/*.json.

    python -m benchmarks.page [--records=FOLDER] [--to=FILE.md]

A record is a file that the command wrote with --to; its machine and date come from the file itself. Records with --tiny are
left out: their numbers measure nothing.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEAD = """# Benchmarks

Written by `python -m benchmarks.page` from the records in `benchmarks/records/`, each of which is the JSON of one
`python -m benchmarks.accelerator --to=benchmarks/records/NAME.json`.
"""
NONE_SEEN = """
**No accelerator has been seen yet.** There is no record of one, so what this repository says about GPUs and TPUs (`pmap`, `jit`
and `fsdp` there, batched runs in one program, many steps a dispatch, bf16, memory) is tested on CPU devices alone. Where an
accelerator is at hand, run the command above and then this one.
"""

OTHERS = """
## On a CPU

| command | measures | seen on two cores |
|---|---|---|
| `python benchmarks/overhead.py` | the loop over the bare step | 1.01 × its time on `lenet5_mnist` |
| `python benchmarks/startup.py` | how fast a command starts | |
| `python benchmarks/streaming.py` | images that are streamed: 1,500 JPEGs of 224 to 500 pixels at 224 | CPU time of an \
image: 0.6 ms to check, 3.4 ms to decode, resize and keep, 0.07 to 0.25 ms from the cache |
| `python -m benchmarks.checkpoint` | how long a save keeps training waiting, and a restore takes | |
| `python -m benchmarks.soak` | whether the memory of a long run is flat | |
| `python -m benchmarks.remat` | what `--remat` saves | a step of ResNet-20: 157 MB, 64 MB with `--remat=full` |
"""


def main() -> None:
    """Reads the records and writes the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=pathlib.Path, default=ROOT / "benchmarks" / "records")
    parser.add_argument("--to", type=pathlib.Path, default=ROOT / "docs" / "benchmarks.md")
    given = parser.parse_args()
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(given.records.glob("*.json"))]
    given.to.write_text(page(records), encoding="utf-8")


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page as Markdown: a section for each record, the newest first."""
    real = [record for record in records if not record["arguments"].get("tiny")]
    real.sort(key=lambda record: record["machine"]["time"], reverse=True)
    seen = any(not device.startswith("cpu") for record in real for device in record["machine"]["devices"])
    parts = [HEAD, *([] if seen else [NONE_SEEN]), *(section(record) for record in real), OTHERS]
    return "\n".join([*(part.rstrip() for part in parts), ""])


def section(record: Mapping[str, Any]) -> str:
    """Returns the section of one record: machine, date, versions and a table of its rows."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    lines = [
        "",
        f"## {', '.join(machine['devices'])} ({machine['time'][:10]})",
        "",
        f"{machine['platform']}, Python {machine['python']}, {versions}; measured at {machine['time']}.",
        "",
        "| part | what | value | goal | note |",
        "|---|---|---|---|---|",
    ]
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


def escaped(text: str) -> str:
    """Returns a text that may stand in a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    main()
