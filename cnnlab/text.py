"""Durations, sizes, counts and names as text that every terminal shows. Imports nothing of cnnlab."""

import codecs
import re
from collections.abc import Iterable


def format_duration(seconds: float) -> str:
    """Formats seconds as `47 s`, `3 min 05 s` or `2 h 10 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def format_bytes(count: int) -> str:
    """Formats a number of bytes as `392.0 KiB`."""
    power = min(max(count.bit_length() - 1, 0) // 10, 3)
    return f"{count} B" if power == 0 else f"{count / 1024**power:.1f} {'KMG'[power - 1]}iB"


def without_own_paths(word: str) -> str:
    """Returns a word of a command without paths of this machine: FOLDER for a folder, FOLDER/NAME for a file."""
    found = re.search(r"(?<=[=:])(?:/|[A-Za-z]:[\\/]).*", word)
    if not found:
        return word
    name = re.split(r"[\\/]", found[0])[-1]
    return word[: found.start()] + ("FOLDER" if "." not in name else f"FOLDER/{name}")


def split_items(text: str, separators: str = ", \t\n") -> list[str]:
    """The items of a list, separated outside brackets, braces and double quotes: regular expressions keep their commas.

    An item in double quotes is everything between them. Brackets that do not match do not count.
    """
    pieces, separator = r'"[^"]*"|\\.|[^\\]', f"[{separators}]"
    items: list[str] = []
    item, open_brackets = "", 0
    for piece in re.findall(pieces, text, re.DOTALL):
        open_brackets += (piece in tuple("([{")) - (piece in tuple(")]}"))
        if re.fullmatch(separator, piece) and open_brackets == 0:
            items, item = [*items, item], ""
        else:
            item += piece.strip('"') if len(piece) > 1 and piece[0] == '"' else piece
    if open_brackets:
        return [part.strip() for part in re.split(separator, text) if part.strip()]
    return [part.strip() for part in [*items, item] if part.strip()]


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Returns `1 image` or `1,200 images`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Iterable[object], most: int = 3) -> str:
    """Returns the first names, `a, b, c, …`, each as it can be printed."""
    found = list(names)
    return ", ".join(printable(str(name)) for name in found[:most]) + (", …" if len(found) > most else "")


def printable(name: str) -> str:
    r"""Returns a name that every text file and font takes: bytes of a file name that are no UTF-8 become `\udcXX`."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


ASCII_FALLBACKS = {
    "±": "+/-",
    "−": "-",
    "–": "-",
    "—": "-",
    "→": "->",
    "…": "...",
    "×": "x",
    "·": ".",
    "≥": ">=",
    "≤": "<=",
    "²": "^2",
}
"""What is printed for a sign that a terminal's encoding lacks; any other letter becomes its number, `\\u732b`."""


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Implements the error handler `plain` of encodings: signs in ASCII, other letters as `\uXXXX`, so names stay distinct."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(ASCII_FALLBACKS.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in wrong), error.end


codecs.register_error("plain", _plain)
