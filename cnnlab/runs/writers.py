"""Writers of metrics, functions `(step, scalars) -> None`: metrics.jsonl and TensorBoard (run_progress.py is another)."""

import logging
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnlab import files, text
from cnnlab.errors import disk_reason
from cnnlab.runs import run_files

log = logging.getLogger("cnnlab")

Writer = Callable[[int, Mapping[str, float]], None]


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the records of a metrics.jsonl; damaged lines, and an incomplete last one, are left out."""
    return files.read_lines(path)[0]


def metrics_file(path: pathlib.Path, *, resume_at: int, written: int = 0) -> Writer:
    """Returns a writer that appends {"step": …, name: value} lines to `path`; records after step `resume_at` are dropped.

    A damaged line is left out and named, and the file as it was is kept beside it. Lines that are gone are counted.

    Args:
        path: the file.
        resume_at: step from which the run goes on.
        written: number of lines that there were at that step; 0: not known.
    """
    records, damaged = files.read_lines(path)
    kept = [record for record in records if record["step"] <= resume_at]
    if damaged:
        run_files.keep_metrics(path.parent, f"{path} is damaged: {run_files.describe_lines(damaged)}; the other lines are kept")
    elif len(kept) < written:
        lost = f"of {text.counted(written, 'line')} up to step {resume_at:,}, lost: {written - len(kept):,}"
        log.warning("WARNING: %s is damaged: %s; the run goes on without.", path, lost)
    files.write_text(path, "".join(map(files.seal_line, kept)))

    def write(step: int, scalars: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        files.append_text(path, files.seal_line({"step": step, **finite}))

    return write


def say_restart(folder: pathlib.Path, start: int) -> None:
    """Says that a run with progress and no checkpoint starts again; keeps its metrics where a checkpoint may be lost."""
    records = [] if start else read_metrics(folder / run_files.METRICS)
    if not records:
        return
    last = records[-1]["step"]
    if run_files.read_status(folder).get("checkpoint") == 0:
        log.warning("%s was stopped at about step %d, before its first checkpoint: it starts again.", folder, last)
    else:
        reason = f"{folder} has metrics up to step {last} but no checkpoint: it starts again"
        run_files.keep_metrics(folder, reason)


def tensorboard(
    folder: pathlib.Path, *, resume_at: int, rates: Callable[[int], Mapping[str, float]] = lambda step: {}
) -> tuple[Writer, Callable[[int, Mapping[str, np.ndarray]], None], Callable[[], None]]:
    """Returns (scalar writer, image writer of u8 [H, W, 3], close) of event files for TensorBoard; needs no TensorFlow.

    With the training metrics it writes what no other file holds: the learning rates and the speed since the record before.

    Args:
        folder: folder of the event files.
        resume_at: step from which the run goes on; events after it are dropped.
        rates: step -> learning rates by name.

    Where tensorboardX is not installed the writers do nothing, with a warning: metrics.jsonl has the same numbers.
    """
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError:
        log.warning("tensorboardX is not installed, so %s is not written. metrics.jsonl has the same numbers.", folder)
        return (lambda step, scalars: None), (lambda step, images: None), (lambda: None)

    with files.naming_errors(folder):
        events = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)
    _survive_full_disks(events, folder)

    before = [(resume_at, time.monotonic())]

    def write(step: int, scalars: Mapping[str, float]) -> None:
        more: dict[str, float] = {}
        if any(name.startswith("train/") for name in scalars):
            (past, at), now = before[0], time.monotonic()
            # The first record holds the compilation, which is no part of the speed.
            more = dict(rates(step)) | (
                {"speed/steps_per_second": (step - past) / max(now - at, 1e-9)} if past > resume_at else {}
            )
            before[0] = (step, now)
        for name, value in {**scalars, **more}.items():
            if math.isfinite(value):  # TensorBoard shows no others, and its writer would warn
                events.add_scalar(name, value, step)

    def pictures(step: int, images: Mapping[str, np.ndarray]) -> None:
        for name, image in images.items():
            events.add_image(name, image, step, dataformats="HWC")

    return write, pictures, events.close


def _survive_full_disks(events: Any, folder: pathlib.Path) -> None:
    """Makes a SummaryWriter warn once, and write no more, where its thread meets an error of the disk.

    tensorboardX writes in a thread; one that ended with an error would let its queue fill up and the training wait for ever.
    """
    failed: list[OSError] = []

    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(*arguments: Any) -> Any:
            try:
                return None if failed else call(*arguments)
            except OSError as error:
                failed.append(error)
                log.warning("WARNING: nothing more is written for TensorBoard. %s", disk_reason(error, folder))
                return None

        return attempt

    writer = events.file_writer.event_writer._ev_writer  # what its thread writes to: the file
    for name in ("write_event", "flush", "close"):
        setattr(writer, name, guarded(getattr(writer, name)))
