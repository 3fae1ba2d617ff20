"""The page of a compression: what each stage took away and what it cost, one HTML file in the style of a study's report."""

from collections.abc import Sequence

from cnnlab import home
from cnnlab.ablation.report import svg
from cnnlab.ablation.report.html import cell, escape, table
from cnnlab.compress.report import Compression, stage_rows
from cnnlab.compress.sizes import LayerSize
from cnnlab.explain.page import Section, whole_page
from cnnlab.text import format_bytes

HEIGHT = 240
"""Pixels of the picture of error against size."""


def as_html(found: Compression) -> str:
    """Returns the page."""
    facts = [
        ("File", f"{found.target} ({format_bytes(found.sizes.file)})"),
        ("Network", f"{found.sizes.numbers:,} numbers in {len(found.sizes.layers)} arrays"),
        ("Data", f"{found.data}, seed {found.seed}"),
        (f"{found.split.capitalize()} {found.compared}", " → ".join(found.text(stage) for stage in found.stages)),
        ("Runs", ", ".join(str(stage.folder) for stage in found.stages)),
    ]
    about_error = f"Each stage as a file of its own, the size on a logarithmic scale; {found.split} {found.compared}, one seed."
    sections = [
        Section("From f32 to the file", _waterfall(found), WATERFALL),
        Section("What the file holds", _content(found), CONTENT),
        Section(f"{found.compared.capitalize()} against size", _trade_off(found), about_error),
        Section("By stage", _stage_table(found), STAGES),
        Section("By layer", _layer_table(found), LAYERS),
        Section("Use it", _commands(found)),
    ]
    title = f"{found.title}, {found.smaller(found.stages[-1]):.1f} times smaller"
    return whole_page(title, found.lead, facts, sections, {}, eyebrow="A compressed network", room="cnnlab.compress")


WATERFALL = (
    "Bytes of all arrays after each step, on one scale; the pale part is what the step took away. Pruned weights are left out, "
    "and gaps say where the others stand. Few values need a code each and a codebook. Huffman codes lose nothing."
)
CONTENT = "Every byte of the file, by what it is for."
STAGES = (
    "Each stage is a run of its own, with its curves and figures in its folder; the bytes are those of a file of its network."
)
LAYERS = (
    "Bits are those of a weight in the file on average, its code and the gap before it; biases and norms stay as they are. "
    "Effective multiply-accumulates are those by weights that are not 0, of one example."
)


def _waterfall(found: Compression) -> str:
    """Returns a bar for each step, with what it took away."""
    steps, rows = found.sizes.steps, []
    whole = steps[0][1]
    for number, (text, size) in enumerate(steps):
        before = steps[number - 1][1] if number else size
        cut = max(0, before - size)
        pale = f'<i class="cut" style="left:{100 * size / whole:.3f}%;width:{100 * cut / whole:.3f}%"></i>' if cut else ""
        bar = f'<i style="width:{100 * size / whole:.3f}%"></i>'
        times = f"{whole / size:.1f}×" if number else "1×"
        rows.append(
            f'<span>{escape(text)}</span><span class="size"><b>{size:,}</b> B · {times}</span>'
            f'<div class="track" title="{escape(f"{text}: {size:,} bytes")}">{pale}{bar}</div>'
        )
    return f'<div class="stages">{"".join(rows)}</div>'


def _parts(found: Compression) -> list[tuple[str, int]]:
    """Returns (what, bytes) of the parts of the file, the largest first, the header last."""
    layers = found.sizes.layers
    coded = sum(layer.bytes["coded"] for layer in layers)
    kinds = {
        "codes of weights": sum(layer.size.codes for layer in layers),
        "gaps between them": sum(layer.size.gaps for layer in layers),
        "codebooks": sum(layer.size.codebook for layer in layers),
        "tables of words": sum(layer.size.tables for layer in layers),
        "biases, norms and others as they are": sum(layer.size.plain for layer in layers),
    }
    rows = sorted(((what, size) for what, size in kinds.items() if size), key=lambda row: -row[1])
    return [*rows, ("header and digest", found.sizes.file - coded)]


def _content(found: Compression) -> str:
    """Returns the parts of the file as one bar with a key."""
    rows, whole = _parts(found), found.sizes.file
    bar = "".join(
        f'<i class="c{number}" style="flex:{size}" title="{escape(f"{what}: {size:,} bytes")}"></i>'
        for number, (what, size) in enumerate(rows, start=1)
    )
    key = "".join(
        f'<li><span class="swatch c{number}"></span>{escape(what)} <b>{size:,} B, {100 * size / whole:.1f} %</b></li>'
        for number, (what, size) in enumerate(rows, start=1)
    )
    return f'<div class="stack" role="img" aria-label="parts of the file">{bar}</div><ul class="key">{key}</ul>'


def _trade_off(found: Compression) -> str:
    """Returns the picture of the compared number against the bytes of each stage."""
    sizes, values = [float(stage.bytes) for stage in found.stages], [found.shown(stage) for stage in found.stages]
    across, down = svg.Axis.around(sizes, log=True, space=0.12), svg.Axis.around(values, space=0.35)
    places = [(across.share(size), down.share(value)) for size, value in zip(sizes, values, strict=True)]
    line = svg.stretched(f'<path class="curve accent" d="{svg.path(places)}"/>')
    marks = []
    for (x, y), stage in zip(places, found.stages, strict=True):
        top = HEIGHT * (1 - y)
        kind = "baseline" if stage is found.stages[0] else "differs"
        side, apart = ("end", -12) if x > 0.5 else ("start", 12)
        label = f"{stage.name}, {found.text(stage)}, {stage.bytes:,} B"
        marks.append(svg.mark(kind, x, top, label))
        text = f'<text class="name halo {side}" x="{apart}" y="-9">{escape(stage.name)}</text>'
        marks.append(f'<svg x="{x:.2%}" y="{top:.1f}" class="place">{text}</svg>')
    unit = f" in {found.metric.shown_unit}" if found.metric.shown_unit else ""
    picture = svg.frame(
        across,
        down,
        line + "".join(marks),
        height=HEIGHT,
        labels=("size", f"{found.split} {found.compared}{unit}"),
        format_across=lambda value: f"{value / 1000:g} kB",
        format_down=lambda value: f"{value:.3g}",
        title=f"{found.compared} against bytes",
    )
    return f'<div class="trade">{picture}</div>'


def _stage_table(found: Compression) -> str:
    """Returns the table of the stages."""
    heads, rows = stage_rows(found)
    top = [f'<th scope="col" class="{"left" if number == 0 else ""}">{escape(head)}</th>' for number, head in enumerate(heads)]
    lines = []
    for row, stage in zip(rows, found.stages, strict=True):
        name = cell(escape(row[0]), sub=escape(stage.does), kind="left name")
        lines.append(f"<tr>{name}{''.join(cell(escape(text)) for text in row[1:])}</tr>")
    return table(top, ["".join(lines)])


HEADS = (
    "array",
    "numbers",
    "stay",
    "value bits",
    "gap bits",
    "f32",
    "pruned",
    "shared",
    "in the file",
    "smaller",
    "effective MACs",
)


def _layer_table(found: Compression) -> str:
    """Returns the table of the arrays, with a row for all of them."""
    top = [f'<th scope="col" class="{"left" if number == 0 else ""}">{escape(head)}</th>' for number, head in enumerate(HEADS)]
    lines = [_row(_cells(layer, found.macs.get(layer.name))) for layer in found.sizes.layers]
    totals = [found.sizes.total(form) for form in ("f32", "pruned", "shared", "coded")]
    kept = sum(layer.kept for layer in found.sizes.layers)
    macs = [
        round(found.macs[layer.name] * layer.kept / layer.numbers) for layer in found.sizes.layers if layer.name in found.macs
    ]
    sums = [
        "all arrays",
        f"{found.sizes.numbers:,}",
        f"{100 * kept / found.sizes.numbers:.2f} %",
        *("", ""),
        *(f"{total:,}" for total in totals),
        f"{totals[0] / totals[-1]:.1f}×",
        f"{sum(macs):,}" if macs else "",
    ]
    return table(top, ["".join(lines), _row(sums, kind="total")])


def _cells(layer: LayerSize, macs: int | None) -> list[str]:
    """Returns the cells of an array."""
    share = layer.kept / max(1, layer.numbers)
    effective = "" if macs is None else f"{round(macs * share):,} of {macs:,}"
    return [
        layer.name.partition("/")[2],
        f"{layer.numbers:,}",
        f"{100 * share:.2f} %",
        f"{layer.value_bits:.2f}",
        f"{layer.gap_bits:.2f}" if layer.gap_bits else "",
        *(f"{layer.bytes[form]:,}" for form in ("f32", "pruned", "shared", "coded")),
        f"{layer.bytes['f32'] / max(1, layer.bytes['coded']):.1f}×",
        effective,
    ]


def _row(cells: Sequence[str], *, kind: str = "") -> str:
    """Returns a row of text whose first cell is a name."""
    kinds = [f"left name {kind}".strip(), *([kind] * (len(cells) - 1))]
    return f"<tr>{''.join(cell(escape(text), kind=each) for text, each in zip(cells, kinds, strict=True))}</tr>"


def _commands(found: Compression) -> str:
    """Returns what can be done with the file, as commands."""
    commands = (
        f"evaluate --workdir={found.target}",
        f"predict --workdir={found.target} --images=FOLDER",
        f"inspect --workdir={found.target}",
        f"export --workdir={found.target} --to=NETWORK.stablehlo",
    )
    lines = "\n".join(f"{home.COMMAND} {command}" for command in commands)
    return f"<pre><code>{escape(lines)}</code></pre>"
