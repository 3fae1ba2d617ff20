"""Durations and sizes as text. Imports nothing."""


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
