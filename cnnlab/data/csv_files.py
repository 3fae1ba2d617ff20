"""Data sets that are a table of image files: a CSV file with the path of an image and what is known about it in every row."""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cnnlab import files
from cnnlab.data.decode import EXTENSIONS, MAX_PIXELS
from cnnlab.data.image_files import checked_images
from cnnlab.data.kinds import Image, Kind, Label, MultiLabel, Name, Target
from cnnlab.data.kinds.kind import Values
from cnnlab.data.source import LazyImages, Source, Split, with_test_split
from cnnlab.data.split_names import split_named
from cnnlab.data.tree import entries
from cnnlab.digests import combined_digest
from cnnlab.errors import DataError, did_you_mean
from cnnlab.text import counted, listed, printable
from cnnlab.values import Count, PathText

FILE_COLUMNS = ("file", "filename", "file_name", "path", "image", "image_path", "image_id", "id")
"""Names of the column of files, in the order in which they are tried."""
LABEL_COLUMNS = ("label", "class", "category", "target", "diagnosis")
"""Names of the column of classes, in the order in which they are tried."""
YES = {"1": 1.0, "1.0": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0, "no": 0.0, "": 0.0}
"""What a cell of one of several labels may hold; an empty one is 0."""


def csv_table(
    path: PathText,
    /,
    *,
    file: str | None = None,
    labels: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
    standardize: bool = False,
    split: str | None = None,
    group: str | None = None,
    below: PathText | None = None,
    skip_bad_images: int = 0,
    max_pixels: Count = MAX_PIXELS,
    draft: Count | None = None,
) -> Source:
    """Opens the images that the rows of a CSV file name, with their class, several labels, or numbers to predict.

    The first line holds the names of the columns. Paths count from the folder of the CSV file, and may lack the ending of the
    file. Without a column of splits a stratified fifth of the rows becomes the test split; with groups, such as patients, all
    rows of a group are in one split.

    Args:
        file: column of the files; none: one called file, filename, path, image, image_id or the like.
        labels: column of the class, or several columns of 0 and 1, one for each label; none: one called label, class or the
            like, unless there are targets.
        targets: columns of the numbers that a regression shall predict.
        standardize: whether each of these numbers is predicted in units of its standard deviation above its mean, both of the
            training rows; a network learns numbers of this size best.
        split: column that says train, validation or test; none: one called split, if there is one.
        group: column of groups, such as patients, that no division may cut.
        below: folder from which the paths count; none: that of the CSV file.
        skip_bad_images: largest number of unreadable files that are left out; more are an error.
        max_pixels: size of the largest image that is decoded, in pixels.
        draft: JPEGs are decoded at a part of their size where both sides keep this many pixels; none: they are decoded whole.
    """
    table = read_table(files.absolute(path))
    name = f"csv:{printable(table.path.stem)}"
    file_column = _column(table, file, FILE_COLUMNS, "file") or ""
    root = files.absolute(below) if below else table.path.parent
    paths = files_named(table, file_column, root)
    wanted = list(labels) or ([] if targets else [found] if (found := _column(table, None, LABEL_COLUMNS, "labels")) else [])
    kinds, columns = _targets(table, wanted, targets)
    if group is not None:
        kinds["group"], columns["group"] = Name(), np.array(table.cells(known_column(table, group, "group")))
    split_column = _column(table, split, ("split",), "split")
    parts, remarks = _parts(name, table, split_column, group)
    used = {file_column, split_column, group, *wanted, *targets}
    if unused := [column for column in table.columns if column not in used]:
        remarks.append(f"{name}: {counted(len(unused), 'column')} of the table not used: {listed(unused, 10)}")
    names = [printable(cell) for cell in table.cells(file_column)]
    checked = checked_images(name, root, paths, names, skip_bad_images=skip_bad_images, max_pixels=max_pixels, draft=draft)
    rows = {part: [row for row in chosen if checked.good[row]] for part, chosen in parts.items()}
    splits = {part: _split(checked.at(chosen), columns, chosen) for part, chosen in rows.items()}
    splits, carved = with_test_split(name, splits)
    if standardize and targets:
        splits, more = _standardized(name, splits, targets)
        remarks += more
    choices = f"{file_column} {wanted} {targets} {split_column} {group} {standardize}"
    fingerprint = combined_digest(checked.fingerprint, table.digest, choices)
    return Source(name, splits, {"image": Image(), **kinds}, fingerprint, (*remarks, *checked.remarks, *carved))


def _split(images: LazyImages, columns: Mapping[str, Values], rows: Sequence[int]) -> Split:
    """Returns images with the values of the other columns [N, …] in their rows."""
    return Split({"image": images, **{name: values[rows] for name, values in columns.items()}})


ENDINGS = ("", *EXTENSIONS, *(ending.upper() for ending in EXTENSIONS))
"""What a cell may lack of the name of its file, which comes from a camera in capitals."""


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a CSV file as texts, without the blanks around them."""

    path: pathlib.Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    """The line of each row in the file, from 1."""
    digest: str

    def cells(self, column: str) -> list[str]:
        """Returns the texts of a column."""
        place = self.columns.index(column)
        return [row[place] for row in self.rows]


def read_table(path: pathlib.Path) -> Table:
    """Returns the table of a file, or raises DataError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        there = f"\nFound in {path.parent}: {entries(path.parent)}." if not path.exists() else ""
        raise DataError(
            f"{path} cannot be read: {reason}.{there}\nExpected a CSV file in UTF-8 with a line of names first."
        ) from None
    # The delimiter alone is guessed: from the first line, how quotation marks within cells are written is not known.
    try:
        delimiter = csv.Sniffer().sniff(text.split("\n", 1)[0], delimiters=",;\t|").delimiter
    except csv.Error:
        delimiter = csv.excel.delimiter
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:  # a cell of more than 131,072 characters
        raise DataError(
            f"{path}, line {reader.line_num}: {error}.\n"
            "Expected a line for each image. Look for a quotation mark that is not closed."
        ) from None
    found = [(line, row) for line, row in lines if any(row)]
    columns = tuple(found[0][1]) if found else ()
    if len(found) < 2 or len(set(columns)) < len(columns) or not all(columns):
        raise DataError(
            f"{path} has {counted(max(len(found) - 1, 0), 'row')} below the columns {listed(columns, 10) or 'none'}.\n"
            "Expected a first line of names, each different, and a row for every image below it."
        )
    for line, row in found[1:]:
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {line}: {len(row)} cells, and the first line has {len(columns)} names.\n"
                "Expected a cell for each name. Put cells that hold the delimiter in quotation marks."
            )
    return Table(path, columns, [row for _, row in found[1:]], [line for line, _ in found[1:]], combined_digest(text))


def known_column(table: Table, column: str, knob: str) -> str:
    """Returns the name of a column, or raises DataError where the table has none of this name."""
    if column not in table.columns:
        guess = did_you_mean(column, list(table.columns))
        raise DataError(
            f"{table.path} has no column {column}.{guess}\nIt has {listed(table.columns, 20)}. Give --dataset.{knob}."
        )
    return column


def _column(table: Table, given: str | None, usual: Sequence[str], knob: str) -> str | None:
    """Returns the given column, or the first one with a usual name whatever its case; an error where a file has none."""
    if given is not None:
        return known_column(table, given, knob)
    lower = {column.lower(): column for column in reversed(table.columns)}
    found = next((lower[name] for name in usual if name in lower), None)
    if found is None and knob == "file":
        raise DataError(
            f"{table.path} has no column called {', '.join(usual)}; it has {listed(table.columns, 20)}.\n"
            "Say which column holds the files: --dataset.file=NAME."
        )
    return found


def files_named(table: Table, column: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that a column names; DataError names those that are missing or named twice."""
    paths, missing = [], []
    for line, cell in zip(table.lines, table.cells(column), strict=True):
        # os.path.isfile is False, not an error, for a name that the system cannot have.
        found = next((path for ending in ENDINGS if cell and os.path.isfile(path := root / f"{cell}{ending}")), None)
        paths.append(found or root / cell)
        if found is None:
            missing.append(f"line {line}: {printable(cell) or '(empty)'}")
    if missing:
        raise DataError(
            f"{table.path}: {len(missing)} of {counted(len(paths), 'file')} are not there: {listed(missing, 3)}.\n"
            f"Expected paths that count from {root}. Give another folder: --dataset.below=FOLDER."
        )
    seen: dict[pathlib.Path, int] = {}
    for line, path in zip(table.lines, paths, strict=True):
        if path in seen:
            raise DataError(
                f"{table.path}: {path} stands in line {seen[path]} and in line {line}.\n"
                "Expected one row for each image. Several labels of an image are several columns of 0 and 1."
            )
        seen[path] = line
    return paths


def _targets(table: Table, labels: Sequence[str], targets: Sequence[str]) -> tuple[dict[str, Kind], dict[str, Values]]:
    """Returns the kinds and values [N, …] of what shall be predicted: a class, several labels, numbers, or nothing."""
    for column in labels:
        known_column(table, column, "labels")
    for column in targets:
        known_column(table, column, "targets")
    kinds: dict[str, Kind] = {}
    columns: dict[str, Values] = {}
    if len(labels) == 1:
        cells = table.cells(labels[0])
        if "" in cells:
            refuse_cells(table, labels[0], [place for place, cell in enumerate(cells) if not cell], "the name of a class")
        names = _sorted_names(set(cells))
        number = {text: position for position, text in enumerate(names)}
        kinds["label"] = Label(tuple(map(printable, names)))
        columns["label"] = np.array([number[cell] for cell in cells], np.int32)
    elif labels:
        kinds["tags"] = MultiLabel(tuple(map(printable, labels)))
        values = [numbers_of(table, column, YES) for column in labels]
        columns["tags"] = np.stack(values, axis=1)  # K of [N] -> [N, K]
    if targets:
        kinds["target"] = Target(tuple(map(printable, targets)))
        columns["target"] = np.stack([numbers_of(table, column, None) for column in targets], axis=1)  # T of [N] -> [N, T]
    return kinds, columns


def _standardized(name: str, splits: Mapping[str, Split], targets: Sequence[str]) -> tuple[dict[str, Split], list[str]]:
    """Returns the splits with their numbers f32 [N, T] in units of the deviations of training, and a remark with these."""
    trained = splits["train"].columns["target"].astype(np.float64)
    mean, deviation = trained.mean(axis=0), trained.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    units = [f"{column} ({a:.6g} ± {b:.6g})" for column, a, b in zip(targets, mean, deviation, strict=True)]
    remark = f"{name}: predicted in standard deviations from the mean of the training rows: {listed(units, 10)}"
    changed = {
        split: part.having(target=((part.columns["target"] - mean) / deviation).astype(np.float32))
        for split, part in splits.items()
    }
    return changed, [remark]


def _sorted_names(names: set[str]) -> list[str]:
    """Returns the names of classes in order: whole numbers by size, all others as texts."""
    return sorted(names, key=int) if all(name.removeprefix("-").isdecimal() for name in names) else sorted(names)


def numbers_of(table: Table, column: str, known: Mapping[str, float] | None) -> np.ndarray:
    """Returns the cells of a column as f32 [N]: by a dict of texts, or as finite numbers."""
    out, wrong = np.zeros(len(table.rows), np.float32), []
    for place, cell in enumerate(table.cells(column)):
        try:
            out[place] = float(cell) if known is None else known[cell.lower()]
        except (ValueError, KeyError):
            wrong.append(place)
        else:
            wrong += [] if np.isfinite(out[place]) else [place]
    if wrong:
        refuse_cells(table, column, wrong, "a finite number" if known is None else "0 or 1")
    return out


def refuse_cells(table: Table, column: str, places: Sequence[int], expected: str) -> None:
    """Raises DataError for cells of a column."""
    cells = table.cells(column)
    found = [f"line {table.lines[place]}: {printable(cells[place]) or '(empty)'}" for place in places]
    raise DataError(
        f"{table.path}, column {column}: {counted(len(places), 'cell')} of {len(cells)} cannot be used: {listed(found, 3)}.\n"
        f"Expected {expected} in every row. Correct the cells, or leave the rows out."
    )


def _require_whole_groups(table: Table, group: str, parts: Mapping[str, Sequence[int]]) -> None:
    """Raises DataError where the table puts rows of one group into several splits."""
    cells = table.cells(group)
    of = {split: {cells[row] for row in rows} for split, rows in parts.items()}
    cut = [one for one in dict.fromkeys(cells) if sum(one in members for members in of.values()) > 1]
    if cut:
        places = [f"{printable(one)} ({', '.join(split for split, members in of.items() if one in members)})" for one in cut]
        raise DataError(
            f"{table.path}: {len(cut)} of {counted(len(set(cells)), 'group')} of the column {group} are in more than one "
            f"split: {listed(places, 3)}.\nExpected all rows of a group in one split. Correct the column of splits, or leave "
            "--dataset.group out."
        )


def _parts(name: str, table: Table, column: str | None, group: str | None) -> tuple[dict[str, list[int]], list[str]]:
    """Returns {split: its rows} and remarks on the names of splits; raises DataError where these cut a group."""
    if column is None:
        return {"train": list(range(len(table.rows)))}, []
    named = {cell: split_named(cell) for cell in dict.fromkeys(table.cells(column))}
    wrong = [place for place, cell in enumerate(table.cells(column)) if named[cell] is None]
    if wrong:
        refuse_cells(table, column, wrong, "train, validation or test")
    parts: dict[str, list[int]] = {}
    for row, cell in enumerate(table.cells(column)):
        parts.setdefault(str(named[cell]), []).append(row)
    if group is not None:
        _require_whole_groups(table, group, parts)
    renamed = [f"{cell} is {split}" for cell, split in named.items() if cell != split]
    order = [split for split in ("train", "validation", "test") if split in parts]
    return {split: parts[split] for split in order}, [f"{name}: {listed(renamed)}"] if renamed else []
