"""Durations and sizes as text. Imports nothing."""

import re


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
