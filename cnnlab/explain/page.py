"""The page: one HTML file in the style of a study's report, with its pictures inside, in light and dark."""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources

from cnnlab.ablation.report.html import escape, section
from cnnlab.explain.render import as_source

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy: the browser blocks whatever the page would fetch."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture on the page, which also lies beside it as a file."""

    name: str
    """Name of the file without its ending."""
    png: bytes
    text: str
    """What it shows, for those who do not see it."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    body: str
    """HTML."""
    note: str = ""
    """What is shown and how it was made, plain text."""
    pictures: tuple[Picture, ...] = ()


def shown(picture: Picture, kind: str = "") -> str:
    """Returns a picture as HTML."""
    named = f' class="{kind}"' if kind else ""
    return f'<img{named} src="{as_source(picture.png)}" alt="{escape(picture.text)}">'


def definitions(rows: Sequence[tuple[str, str]]) -> str:
    """Returns a list of terms and what they mean, as plain text."""
    return f"<dl>{''.join(f'<dt>{escape(term)}</dt><dd>{escape(text)}</dd>' for term, text in rows)}</dl>"


def whole_page(
    title: str,
    lead: str,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    left_out: Mapping[str, str],
    *,
    eyebrow: str = "Inside a network",
    room: str = "cnnlab.explain",
) -> str:
    """Returns the page as HTML.

    Args:
        title: name of what is explained.
        lead: a sentence below it.
        facts: (what, text) of the list at the top.
        sections: the parts.
        left_out: {what: the reason for which it is not shown}.
        eyebrow: what kind of page it is, above the title.
        room: package whose page.css follows that of a study's report.
    """
    report, own = resources.files("cnnlab.ablation.report"), resources.files(room)
    style = report.joinpath("page.css").read_text(encoding="utf-8") + own.joinpath("page.css").read_text(encoding="utf-8")
    parts = [section(one.title, one.body, escape(one.note)) for one in sections]
    if left_out:
        parts.append(section("Not shown", definitions(list(left_out.items()))))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style.rstrip()}</style>\n</head>\n<body>\n<main>\n"
        f'<header><p class="eyebrow">{escape(eyebrow)}</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(lead)}</p>{definitions(facts)}</header>\n'
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def figure(picture: Picture, caption: str) -> str:
    """Returns a picture with its caption, plain text, as HTML."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{shown(picture)}{below}</figure>"
