"""Shows what a check has found: as lines for a terminal, as JSON, and as numbers for a figure."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from cnnlab.check.command import Checked
from cnnlab.check.findings import verdict
from cnnlab.terminal import Column, Terminal, table

PURPOSES = {"fine": "better", "note": "stale", "wrong": "worse", "not checked": "quiet"}
"""{state of a finding: purpose that gives its colour}."""
MOST_LAYERS = 30
"""Layers up to which the table of a network is printed."""


def as_lines(found: Checked, terminal: Terminal) -> list[str]:
    """Returns the findings, the table of layers, and the verdict in the last line."""
    width = max(len(finding.name) for finding in found.findings)
    state_width = max(len(finding.state) for finding in found.findings)
    lines = []
    for finding in found.findings:
        head = f"{finding.state:{state_width}}  {finding.name:{width}}  "
        first, *more = terminal.wrap(finding.sentence, first=head, following=" " * len(head))
        painted = terminal.paint(finding.state, PURPOSES[finding.state])
        lines += [first.replace(finding.state, painted, 1), *more]
    purpose = "worse" if found.has_fault else "better"
    return [*lines, "", *layer_table(found, terminal), "", terminal.paint(f"check: {verdict(found.findings)}", purpose)]


def layer_table(found: Checked, terminal: Terminal) -> list[str]:
    """Returns a row for each layer: its outputs, its weights and their gradient."""
    rows = rows_of(found)
    if not rows or len(rows) > MOST_LAYERS:
        return [f"{len(rows)} layers: --format=json lists them"] if rows else []

    def cells(name: str, form: str) -> list[str]:
        return ["" if row[name] is None else format(row[name], form) for row in rows]

    return table(
        terminal,
        [
            Column("layer", [row["layer"] for row in rows], least=12),
            Column("output rms", cells("output_rms", ".3g"), is_right=True),
            Column("spread over examples", cells("spread", ".3g"), is_right=True, rank=2),
            Column("weight rms", cells("weight_rms", ".3g"), is_right=True, rank=1),
            Column("gradient / weight", cells("gradient_ratio", ".1e"), is_right=True),
            Column("dead units", cells("dead", ".0%"), is_right=True),
        ],
    )


def rows_of(found: Checked) -> list[dict[str, Any]]:
    """Returns {layer, output_rms, spread, weight_rms, gradient_ratio, dead} of every layer; None: it has no such number."""
    kernels = {kernel.name: kernel for kernel in found.probed.kernels}
    outputs = {output.name: output for output in found.probed.outputs}
    rows = []
    for name in dict.fromkeys([*outputs, *kernels]):
        output, kernel = outputs.get(name), kernels.get(name)
        rows.append(
            {
                "layer": name,
                "output_rms": output and output.rms,
                "spread": output and output.spread,
                "weight_rms": kernel and kernel.rms,
                "gradient_ratio": kernel and (kernel.gradient / kernel.rms if kernel.rms else None),
                "dead": kernel and kernel.dead,
            }
        )
    return rows


def as_json(found: Checked) -> dict[str, Any]:
    """Returns the findings, layers and curves; numbers that are not finite are None."""

    def finite(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {
        "verdict": verdict(found.findings),
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
        "layers": [{name: finite(value) for name, value in row.items()} for row in rows_of(found)],
        "suggested_rate": found.suggested,
        "curves": {name: [finite(loss) for loss in losses] for name, losses in found.curves.items()},
    }


def figure_numbers(found: Checked) -> tuple[list[str], list[float], list[float]]:
    """Returns (names, outputs' root mean squares, gradient / weight) of the layers that have both numbers."""
    rows: Sequence[dict[str, Any]] = [row for row in rows_of(found) if row["output_rms"] and row["gradient_ratio"]]
    return [row["layer"] for row in rows], [row["output_rms"] for row in rows], [row["gradient_ratio"] for row in rows]
