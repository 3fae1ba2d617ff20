"""Writes predictions as they come: a table in CSV or on the terminal, JSON, a sheet of pictures, a folder of pictures.

Each writer takes the predictions as an iterator, so that memory does not grow with their number, and returns what it wrote.
A file appears whole or not at all.
"""

import csv
import functools
import io
import itertools
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from cnnlab import files
from cnnlab.core import Predicted, Prediction
from cnnlab.errors import UsageError
from cnnlab.inputs import InputSpec, unit_value
from cnnlab.predict.predictor import PredictedImage
from cnnlab.text import counted, printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

SHEET = 100
"""Number of pictures on a sheet."""
COLUMNS = 10
"""Number of pictures in a row of a sheet."""
TABLE_LINES = 100
"""Number of lines of a printed table after which the widths of its columns are chosen again."""

RECORDS = "detections.json"
"""File of the records beside a folder of pictures."""

Table = Literal["top", "classes"]
"""The columns of a table: the most probable classes with their probabilities, or every class with its own."""
Predictions = Iterable[PredictedImage]
Writer = Callable[[pathlib.Path, Predictions, Prediction, InputSpec], str]


def rows_of(predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table, each beginning with the column `file`; numbers are plain."""
    for one in predictions:
        for row in prediction.rows(_placed(one, prediction), inputs):
            yield {"file": printable(one.found.name), **{name: _plain(value) for name, value in row.items()}}


def _placed(one: PredictedImage, prediction: Prediction) -> Predicted:
    """Returns the arrays of an image from which its rows and records are made."""
    return prediction.placed(one.arrays, one.prepared.place)


def records_of(one: PredictedImage, prediction: Prediction, inputs: InputSpec) -> list[dict[str, Any]]:
    """Returns what JSON has of an image: its records, or its rows."""
    if prediction.records is None:
        return list(rows_of([one], prediction, inputs))
    return prediction.records(_placed(one, prediction), inputs, printable(one.found.name))


def _plain(value: Any) -> Any:
    """Returns a number of NumPy as one of Python, whose shortest text gives the same bits again; NaN and infinities as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value[()] if isinstance(value, np.ndarray) else value
        value = float(str(value)) if isinstance(value, np.floating) else value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def write_csv(path: pathlib.Path, predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> str:
    """Writes a table with a header: the path of the image, and what is predicted."""

    def lines() -> Iterator[Iterable[Any]]:
        for number, row in enumerate(rows_of(predictions, prediction, inputs)):
            if number == 0:
                yield row
            yield ("" if value is None else value for value in row.values())

    return _write_lines(path, lines())


def write_class_table(path: pathlib.Path, predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> str:
    """Writes a table with the name of the image, without folder and ending, and the probability of every class."""

    def lines() -> Iterator[Iterable[Any]]:
        yield ["image", *inputs.class_names]
        for one in predictions:
            if "probabilities" not in one.arrays:
                raise UsageError("--table=classes: this run predicts no classes. Leave --table out.")
            yield [pathlib.PurePath(one.found.name).stem, *map(_plain, one.arrays["probabilities"])]

    return _write_lines(path, lines())


def _write_lines(path: pathlib.Path, lines: Iterable[Iterable[Any]]) -> str:
    """Writes the lines of a table in CSV as they come; returns the path."""

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        try:
            csv.writer(text, lineterminator="\n").writerows(lines)
        finally:
            text.detach()  # flushed; the file itself stays open

    files.replace_file(path, write)
    return str(path)


def write_json(path: pathlib.Path, predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> str:
    """Writes a list of records, as a rule with the same names as the columns of the table."""
    records = (record for one in predictions for record in records_of(one, prediction, inputs))
    _write_records(path, records)
    return str(path)


def _write_records(path: pathlib.Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes records as they come as one list of JSON, a line each."""

    def write(file: BinaryIO) -> None:
        file.write(b"[")
        for number, record in enumerate(records):
            file.write((",\n " if number else "\n ").encode() + json.dumps(record, ensure_ascii=False).encode())
        file.write(b"\n]\n")

    files.replace_file(path, write)


def print_table(predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> None:
    """Prints the table, the path of the image last: columns grow wider where the values need it."""
    widths: dict[str, int] = {}
    rows = rows_of(predictions, prediction, inputs)
    while some := list(itertools.islice(rows, TABLE_LINES)):
        shown = [{name: _short(value) for name, value in row.items()} for row in some]
        lines = shown if widths else [{name: name for name in shown[0]}, *shown]
        for line in lines:
            widths |= {name: max(widths.get(name, 0), len(text)) for name, text in line.items() if name != "file"}
        for line in lines:
            print("  ".join([*(text.ljust(widths[name]) for name, text in line.items() if name != "file"), line["file"]]))
        sys.stdout.flush()


def _short(value: Any) -> str:
    """Returns a value as a cell of a printed table."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def write_sheet(path: pathlib.Path, predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> str:
    """Draws the first pictures on one sheet, each with its caption."""
    from cnnlab import figures

    rest = iter(predictions)
    first = list(itertools.islice(rest, SHEET))
    count = len(first) + sum(1 for _ in rest)
    figures.save(draw_sheet(first, prediction, inputs, count=count), path)
    return f"{path}{_of_them(count)}"


def draw_sheet(first: Sequence[PredictedImage], prediction: Prediction, inputs: InputSpec, *, count: int) -> "Figure":
    """Returns the figure of the first predictions, at least one, of `count`: pictures with their captions."""
    from cnnlab import figures

    pictures = np.stack([_picture(one, prediction) for one in first])  # N of [H, W, C] -> [N, H, W, C]
    captions = [prediction.caption(one.arrays, inputs) for one in first]
    title = f"Predictions of {counted(count, 'image')}{_of_them(count)}"
    return figures.image_grid(pictures, captions, title=title, columns=min(COLUMNS, len(first)))


def _of_them(count: int) -> str:
    """Returns how many of so many pictures are on a sheet; empty where it has all."""
    return "" if count <= SHEET else f" (the first {SHEET} of them)"


def write_pictures(path: pathlib.Path, predictions: Predictions, prediction: Prediction, inputs: InputSpec) -> str:
    """Writes a picture for each image: FOLDER/NAME.png, FOLDER/CLASS/NAME.png where a class is predicted, or each of its maps.

    Maps have the size of the image itself, and a folder for each kind of them: FOLDER/masks/NAME.png, FOLDER/overlays/NAME.png.
    Records, where a prediction has any, are FOLDER/detections.json.
    """
    labels: set[str] = set()
    records: list[dict[str, Any]] = []
    written: dict[pathlib.Path, str] = {}
    for one in predictions:
        if prediction.records is not None:
            records += records_of(one, prediction, inputs)
        labels.add(label := prediction.label(one.arrays, inputs).replace("/", "_").replace("\\", "_"))
        place = pathlib.PurePath(one.found.place)
        name = str(place) if place.suffix.lower() == ".png" else f"{place}.png"
        for folder, picture in pictures_of(one, prediction).items():
            target = path / (folder or label) / name
            if target in written:
                raise UsageError(
                    f"--to={path}: {target.relative_to(path)} would be the picture of both {printable(written[target])} and "
                    f"{printable(one.found.name)}.\nGive images whose paths differ, or write them into two folders."
                )
            written[target] = one.found.name
            files.make_folder(target.parent)
            files.replace_file(target, functools.partial(picture.save, format="PNG"))
    if prediction.records is not None:
        _write_records(path / RECORDS, records)
    return f"{path} ({counted(len(labels), 'class', 'classes')})" if labels - {""} else str(path)


def pictures_of(one: PredictedImage, prediction: Prediction) -> "dict[str, Image.Image]":
    """Returns {kind: picture} of a prediction: its maps, such as masks or boxes at the size of the image, else {"": one}."""
    if prediction.maps is None:
        return {"": _as_image(_picture(one, prediction), None)}
    original = one.prepared.original
    image = original.astype(np.float32) / np.float32(unit_value(original.dtype))
    maps = prediction.maps(image, one.arrays, one.prepared.place)
    return {kind: _as_image(values, prediction.palettes.get(kind)) for kind, values in maps.items()}


def _as_image(values: np.ndarray, palette: np.ndarray | None) -> "Image.Image":
    """Returns a picture f32 [H, W, 1 or 3] in [0, 1], or a map u8 [H, W] with the colours of a palette u8 [256, 3]."""
    from PIL import Image

    if values.ndim == 2:
        picture = Image.fromarray(values)
        if palette is not None:
            picture.putpalette(palette.tobytes())
        return picture
    pixels = np.rint(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)  # [H, W, 1] -> [H, W]


def _picture(one: PredictedImage, prediction: Prediction) -> np.ndarray:
    """Returns the picture f32 [H, W, C] that shows a prediction."""
    pixels = one.prepared.pixels
    return prediction.picture(pixels.astype(np.float32) / np.float32(unit_value(pixels.dtype)), one.arrays)


WRITERS: dict[str, Writer] = {".csv": write_csv, ".json": write_json, ".png": write_sheet, "": write_pictures}
"""Writers by the suffix of the path; a path without one is a folder."""


def writer_for(target: pathlib.Path, *, replace: bool, table: Table = "top") -> Writer:
    """Returns the writer of a path; raises UsageError where the path cannot be written, or must not be replaced."""
    writer = WRITERS[""] if target.is_dir() else WRITERS.get(target.suffix.lower())
    if table == "classes":
        if writer is not write_csv:
            raise UsageError(f"--table=classes is a table in CSV, and --to={target} is none. Give a name that ends in .csv.")
        writer = write_class_table
    if writer is None:
        raise UsageError(f"--to={target}: expected a name that ends in .csv, .json or .png (a sheet), or a folder.")
    if not replace and (any(target.iterdir()) if target.is_dir() else target.exists()):
        what = "holds files already" if target.is_dir() else "is there already"
        raise UsageError(f"--to={target}: it {what}. Give another name, or --overwrite to replace it.")
    if writer is not write_pictures and not target.parent.is_dir():
        raise UsageError(f"--to={target}: there is no folder {target.parent}.\nMake it, or give another path.")
    return writer
