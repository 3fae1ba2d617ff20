"""Escapes text for Markdown."""

MARKS = "\\`*_|[]"
"""Letters that have a meaning in Markdown."""


def escape_markdown(text: str, *, keep: str = "") -> str:
    """Returns the text as one line in which no letter is a mark of Markdown or of HTML, but for those in `keep`."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in MARKS and letter not in keep else letter for letter in text)
