"""Makes the pieces of HTML that the parts of a report share."""

import html
from collections.abc import Sequence


def escape(text: object) -> str:
    """Returns text as HTML; it may stand in an attribute."""
    return html.escape(str(text))


def section(title: str, body: str, note: str = "") -> str:
    """Returns a section of the page with its title; empty where it has no body. `note` is HTML."""
    shown = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{shown}{body}</section>" if body else ""


def cell(text: str, value: object = "", *, sub: str = "", kind: str = "") -> str:
    """Returns a cell; rows are sorted by `value`, None and NaN last. `text` and, smaller below it, `sub` are HTML."""
    small = f'<span class="sub">{sub}</span>' if sub else ""
    value = "" if value is None or value != value else value
    named = f' class="{kind}"' if kind else ""
    return f'<td{named} data-value="{escape(value)}">{text}{small}</td>'


def header(name: str, *, kind: str = "", first: str = "ascending", sort: str = "none") -> str:
    """Returns a heading that sorts its column; the first click does so in the order `first`."""
    button = f'<button type="button">{escape(name)}</button>'
    return f'<th scope="col" class="{kind}" aria-sort="{sort}" data-first="{first}">{button}</th>'


def table(heads: Sequence[str], bodies: Sequence[str], *, kind: str = "") -> str:
    """Returns a table that scrolls by itself where the window is narrow; `heads` and `bodies` (rows) are HTML."""
    parts = "".join(f"<tbody>{body}</tbody>" for body in bodies if body)
    return f'<div class="scroll"><table class="{kind}"><thead><tr>{"".join(heads)}</tr></thead>{parts}</table></div>'


def plain_table(heads: Sequence[str], lines: Sequence[Sequence[str]], pictures: Sequence[str] = ()) -> str:
    """Returns a table of text whose first column holds the names; `pictures` is a last column of HTML."""
    kinds = ["left name"] + [""] * (len(heads) - 1)
    top = [f'<th scope="col" class="{kind}">{escape(head)}</th>' for head, kind in zip(heads, kinds, strict=True)]
    rows = ["".join(cell(escape(text), kind=kind) for text, kind in zip(line, kinds, strict=True)) for line in lines]
    if pictures:
        top.append('<th class="wide"></th>')
        rows = [f'{row}<td class="wide">{picture}</td>' for row, picture in zip(rows, pictures, strict=True)]
    return table(top, ["".join(f"<tr>{row}</tr>" for row in rows)])
