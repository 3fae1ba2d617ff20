"""Predicts the images of one command with a trained run, and says what was read, changed and left out."""

import collections
import logging
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

from cnnlab.errors import DataError, UsageError
from cnnlab.knobs import Resolved
from cnnlab.predict import write
from cnnlab.predict.find import Found, find_images
from cnnlab.predict.predictor import PredictedImage, Predictor
from cnnlab.progress import ProgressLine
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.text import counted, format_duration, printable

log = logging.getLogger("cnnlab")

NAMED = 20
"""Number of unreadable images that are named one by one."""


class _Tally:
    """The numbers of one command: predicted images, images that could not be read, and how images were changed."""

    def __init__(self, count: int | None, *, quiet: bool) -> None:
        """Begins with nothing; `count` is the number of images, None where it is not known."""
        self.count, self.predicted, self.unreadable = count, 0, 0
        self.changes: collections.Counter[str] = collections.Counter()
        self._reasons: list[str] = []
        self._line, self._began, self._first = ProgressLine(quiet=quiet), 0.0, 0
        self._line.show("compiling …")

    def bad(self, found: Found, reason: str) -> None:
        """Counts an image that cannot be used, and names the first of them."""
        self.unreadable += 1
        text = f"{printable(found.name)}: {reason}"
        self._reasons += [text] if len(self._reasons) < 3 else []
        if self.unreadable <= NAMED:
            self._line.erase()
            log.warning("not predicted: %s", text)

    def counting(self, predictions: Iterator[PredictedImage]) -> Iterator[PredictedImage]:
        """Yields the predictions, and shows the progress; raises DataError at the end where there were none."""
        for one in predictions:
            self.predicted += 1
            self.changes.update(one.prepared.remarks)
            if not self._began:  # the first batch is compiled: the rate is that of the images after its first one
                self._began, self._first = time.monotonic(), self.predicted
            self._show()
            yield one
        self._line.erase()
        if not self.predicted:
            raise DataError(
                f"none of the {counted(self.unreadable, 'image')} could be read: {'; '.join(self._reasons)}.\n"
                "Give whole image files of 8 bits per channel (PNG, JPEG, WebP, BMP, GIF, TIFF, PPM, TGA or JPEG 2000)."
                if self.unreadable
                else "there were no images to predict: standard input named none.\nGive one path on each line."
            )

    def _show(self) -> None:
        """Shows how many images are done and, where their number is known, the time left."""
        done, seconds = self.predicted + self.unreadable, time.monotonic() - self._began
        rate = (self.predicted - self._first) / seconds if seconds > 0.5 else 0.0
        parts = [f"{done:,} images" if self.count is None else f"{done:,} of {counted(self.count, 'image')}"]
        if rate and self.count is not None:
            parts.append(f"ETA {format_duration((self.count - done) / rate)}")
        parts += [f"{rate:.0f} images/s"] if rate else []
        self._line.show("  ".join(parts))

    def lines(self) -> list[str]:
        """Returns the sentences on the images that were changed, and on those that could not be used."""
        said = [f"{count:,} of {counted(self.predicted, 'image')} {text}" for text, count in self.changes.items()]
        if self.unreadable:
            total = counted(self.predicted + self.unreadable, "image")
            more = f"; the first {NAMED} are named above" if self.unreadable > NAMED else ""
            said.append(
                f"{self.unreadable:,} of {total} could not be read and {'is' if self.unreadable == 1 else 'are'} left out{more}"
            )
        return said


def predict_run(
    resolved: Resolved,
    spec: RunSpec,
    folder: pathlib.Path,
    images: Sequence[str],
    *,
    target: pathlib.Path | None,
    best: bool,
    replace: bool,
    table: write.Table = "top",
) -> str:
    """Predicts images with a run's newest checkpoint (or the best on validation); returns what to print about it.

    The data set of the run is not opened. Raises DataError where no image could be read.

    Args:
        resolved: the experiment's function and its knobs.
        spec: specification of the run.
        folder: folder of the run.
        images: where the images are (`find.find_images`).
        target: .csv, .json, .png or a folder; None: a table is printed.
        best: whether to restore the best checkpoint on validation instead of the newest.
        replace: whether files that are there already are replaced.
        table: columns of a table.
    """
    if table == "classes" and not target:
        raise UsageError("--table=classes is written into a file. Add --to=FILE.csv.")
    writer = write.writer_for(target, replace=replace, table=table) if target else None
    found = find_images(images)
    for remark in found.remarks:
        log.info(remark)
    program, state, step = run.restore_run(resolved, spec, folder, best=best, opens_data=False)
    predictor = Predictor(program, state, precision=spec.precision, knobs=spec.knobs)
    # Where the table itself runs over the terminal, a progress line would be in its way.
    tally = _Tally(found.count, quiet=spec.quiet or (target is None and sys.stdout.isatty()))
    predictions = tally.counting(predictor.each(found.images, tally.bad, batch_size=predictor.batch_size(found.count)))
    if writer and target:
        where = f"\n  in {writer(target, predictions, predictor.prediction, predictor.inputs)}"
    else:
        write.print_table(predictions, predictor.prediction, predictor.inputs)
        where = ""
    for line in tally.lines():
        log.warning(line)
    return f"{folder}, step {step}: {counted(tally.predicted, 'image')} predicted{where}"
