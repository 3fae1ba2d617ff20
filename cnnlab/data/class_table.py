"""The file that names the classes of masks: the colour, or the grey value or index, by which each is drawn.

    name,r,g,b
    road,110,193,228
    water,226,169,41
    unlabeled,155,155,155

A table with columns `name,value`, or `name` alone, is for masks that hold numbers; without values the rows count from 0.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cnnlab.data.csv_files import read_table
from cnnlab.data.kinds.mask import IGNORE
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError
from cnnlab.text import counted, listed, printable

FILES = ("classes.csv", "classes.txt", "classes.json")
"""Names of the file of classes, in the order in which they are tried."""
IGNORED = ("unlabeled", "unlabelled", "ignore", "ignored", "void")
"""Names of rows, whatever their case, whose pixels do not count."""
COLOUR, VALUE = ("r", "g", "b"), "value"
EXPECTED = (
    "Expected classes.csv with a first line name,r,g,b (masks in colours), name,value (masks of numbers) or name (numbers from "
    "0), or classes.txt with a name in each line, or classes.json: {name: [r, g, b]}, {name: value} or [name, …]."
)


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """K classes, and the colours or numbers by which masks show them."""

    file: str
    """Name of the file that says so, for errors."""
    names: tuple[str, ...]
    keys: Mapping[int, int]
    """{packed colour, or number: class, or IGNORE}."""
    by_colour: bool
    """Whether the keys are colours, packed by `packed`."""
    shown: Mapping[int, str]
    """{key: the name in its row}, with the rows that are ignored."""
    remarks: tuple[str, ...] = ()
    """What was decided, a sentence each."""
    own_colours: tuple[tuple[int, int, int], ...] = ()
    """The colours in which pictures show classes that masks hold as numbers."""
    published: tuple[int, ...] = ()
    """The numbers of the classes in submissions; (): they have none of their own."""
    categories: tuple[str, ...] = ()
    """The category of each class; (): they have none."""

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """The colour of each class: that of its first row, or of its own where masks hold numbers; () if there is none."""
        if self.own_colours:
            return self.own_colours
        first = {number: key for key, number in reversed(list(self.keys.items()))}
        return tuple(unpacked(first[number]) for number in range(len(self.names))) if self.by_colour else ()

    @property
    def digest(self) -> str:
        """A text that changes with the classes and their keys."""
        return combined_digest(*self.names, str(sorted(self.keys.items())), str(self.by_colour))

    def nearest(self, key: int) -> int:
        """Returns the known key that is nearest to another one: by the distance of colours, or of numbers."""
        known = list(self.keys)
        place = _points if self.by_colour else _numbers
        distances = np.square(place(known) - place([key])).sum(axis=1)
        return known[int(np.argmin(distances))]

    def text_of(self, key: int) -> str:
        """Returns `110,193,228` for a colour, or a number as it is."""
        return ",".join(map(str, unpacked(key))) if self.by_colour else str(key)


def packed(pixels: np.ndarray) -> np.ndarray:
    """Returns colours u8 [..., 3] as one number each, i32 [...]."""
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def unpacked(key: int) -> tuple[int, int, int]:
    """Returns (r, g, b) of a packed colour."""
    return key >> 16, key >> 8 & 255, key & 255


def _points(keys: Sequence[int]) -> np.ndarray:
    return np.array([unpacked(key) for key in keys], np.int64)


def _numbers(keys: Sequence[int]) -> np.ndarray:
    return np.array(keys, np.int64)[:, None]


def numbered(names: Sequence[str], values: Sequence[int], file: str) -> ClassTable:
    """Returns the table of classes that masks show by numbers, of which IGNORE is ignored unless it is one of them."""
    keys = dict(zip(values, range(len(names)), strict=True))
    return ClassTable(
        file, tuple(names), {IGNORE: IGNORE, **keys}, False, {IGNORE: "ignore", **dict(zip(values, names, strict=True))}
    )


def read_classes(root: pathlib.Path) -> ClassTable | None:
    """Returns the classes that the first of FILES at the root names; None without one, DataError where it cannot be used."""
    found = [root / name for name in FILES if (root / name).is_file()]
    if not found:
        return None
    path = found[0]
    rows = _ROWS[path.suffix](path)
    by_colour = {len(key) for _, key in rows} == {3}
    if not by_colour and {len(key) for _, key in rows} != {1}:
        raise DataError(f"{path}: some rows have a colour and others a number.\n{EXPECTED}")
    unused = [one.name for one in found[1:]]
    remarks = (f"the classes are those of {path.name}; {listed(unused)} is not read",) if unused else ()
    return _table(path, rows, by_colour, remarks)


def _table(
    path: pathlib.Path, rows: Sequence[tuple[str, tuple[int, ...]]], by_colour: bool, remarks: tuple[str, ...]
) -> ClassTable:
    """Returns the classes of rows (name, colour or number); rows of one name are one class."""
    names: list[str] = []
    keys: dict[int, int] = {} if by_colour else {IGNORE: IGNORE}
    shown: dict[int, str] = {} if by_colour else {IGNORE: "ignore"}
    for name, key in rows:
        wrong = [number for number in key if not 0 <= number <= 255]
        if wrong or not name:
            raise DataError(
                f"{path}: {printable(name) or 'a row without a name'} has {wrong or key}.\nExpected numbers 0 to 255."
            )
        number = (key[0] << 16) | (key[1] << 8) | key[2] if by_colour else key[0]
        if number in shown and (by_colour or number != IGNORE or shown[number] != "ignore"):
            raise DataError(
                f"{path}: {printable(name)} and {printable(shown[number])} are both {','.join(map(str, key))}.\n"
                "Expected another colour, or number, in each row. Rows of one name are one class."
            )
        shown[number] = printable(name)
        if name.lower() in IGNORED:
            keys[number] = IGNORE
            continue
        names += [] if printable(name) in names else [printable(name)]
        keys[number] = names.index(printable(name))
    if not 2 <= len(names) <= IGNORE:
        raise DataError(
            f"{path} names {counted(len(names), 'class', 'classes')}: {listed(names, 10) or 'none'}.\n"
            f"Expected 2 to {IGNORE}, one of which may be the background; pixels called {listed(IGNORED, 5)} do not count."
        )
    return ClassTable(path.name, tuple(names), keys, by_colour, shown, remarks)


def _csv_rows(path: pathlib.Path) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (name, colour or number) of each row of a table."""
    table = read_table(path)
    columns = {name.lower(): name for name in table.columns}
    given = [name for name in (*COLOUR, VALUE) if name in columns]
    if "name" not in columns or tuple(given) not in (COLOUR, (VALUE,), ()):
        raise DataError(f"{path} has the columns {listed(table.columns, 10)}.\n{EXPECTED}")
    names = table.cells(columns["name"])
    cells = [table.cells(columns[name]) for name in given] or [[str(row) for row in range(len(names))]]
    try:
        return [(name, tuple(map(int, key))) for name, *key in zip(names, *cells, strict=True)]
    except ValueError as error:
        raise DataError(f"{path}: {error}.\nExpected whole numbers, 0 to 255, in the columns {listed(given)}.") from None


def _text_rows(path: pathlib.Path) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (name, its place) of each line that is not empty."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8.\n{EXPECTED}") from None
    return [(name, (number,)) for number, name in enumerate(filter(None, lines))]


def _json_rows(path: pathlib.Path) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (name, colour or number) of each entry of a list or a dict."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(found, list):
            return [(str(name), (number,)) for number, name in enumerate(found)]
        return [(str(name), tuple(map(int, key)) if isinstance(key, list) else (int(key),)) for name, key in found.items()]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {error}.\n{EXPECTED}") from None


_ROWS = {".csv": _csv_rows, ".txt": _text_rows, ".json": _json_rows}
