"""Reads flags from files: `--flagfile=FILE`, as absl has it, but in UTF-8 wherever the command runs. Imports no jax."""

from collections.abc import Iterator, Sequence

from cnnlab.errors import UsageError
from cnnlab.files import expand_home

NAME = "--flagfile"
COMMENTS = ("#", "//")


def expand(words: Sequence[str], above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yields the words of a command with the lines of its flag files in place of each `--flagfile`.

    A line of a file is one word; empty lines and comments (`#`, `//`) are left out. A file may name others. Words after `--`
    stay as they are. Raises UsageError where a file cannot be read.

    Args:
        words: words of the command, or lines of a file.
        above: the files in which these lines are included, the outermost first.
    """
    left = list(words)
    while left:
        word = left.pop(0)
        name, equals, path = word.partition("=")
        if word == "--":
            yield from (word, *left)
            return
        if name not in (NAME, NAME[1:]):
            yield word
            continue
        if not equals and not left:
            raise UsageError(f"{NAME} names no file.\nGive {NAME}=FILE.")
        path = path if equals else left.pop(0)
        if path in above:
            raise UsageError(f"{NAME}={path}: it includes itself, by {' and '.join(above)}.\nTake out one of these lines.")
        yield from expand(_lines(path), (*above, path))


def _lines(path: str) -> list[str]:
    """Returns the lines of a flag file that are flags; raises UsageError where it is no text in UTF-8."""
    try:
        text = expand_home(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{NAME}={path}: line {line} is not UTF-8.\nSave the file in UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{NAME}={path}: {error.strerror}.\nExpected a text file with a flag on each line.") from None
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(COMMENTS)]
