"""Writers of metrics, functions `(step, scalars) -> None`: metrics.jsonl, TensorBoard and the progress line."""

import json
import logging
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cnnlab import files, text
from cnnlab.progress import ProgressLine

log = logging.getLogger("cnnlab")

Writer = Callable[[int, Mapping[str, float]], None]


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
    """Returns the records of a metrics.jsonl; an incomplete last line (the process was killed) is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def metrics_file(path: pathlib.Path, *, resume_at: int) -> Writer:
    """Returns a writer that appends {"step": …, name: value} lines to `path`; records after step `resume_at` are dropped."""
    kept = [record for record in read_metrics(path) if record["step"] <= resume_at]
    files.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))

    def write(step: int, scalars: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        with open(path, "a", encoding="utf-8") as file:  # opened each time: a full disk fails here and now
            file.write(json.dumps({"step": step, **finite}) + "\n")

    return write


def tensorboard(
    folder: pathlib.Path, *, resume_at: int
) -> tuple[Writer, Callable[[int, Mapping[str, np.ndarray]], None], Callable[[], None]]:
    """Returns (scalar writer, image writer of u8 [H, W, 3], close) of event files for TensorBoard; needs no TensorFlow.

    Where tensorboardX is not installed the writers do nothing, with a warning: metrics.jsonl has the same numbers.
    """
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError:
        log.warning("tensorboardX is not installed, so %s is not written. metrics.jsonl has the same numbers.", folder)
        return (lambda step, scalars: None), (lambda step, images: None), (lambda: None)

    events = SummaryWriter(str(folder), purge_step=resume_at + 1 if resume_at else None)

    def write(step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            events.add_scalar(name, value, step)

    def pictures(step: int, images: Mapping[str, np.ndarray]) -> None:
        for name, image in images.items():
            events.add_image(name, image, step, dataformats="HWC")

    return write, pictures, events.close


def progress(*, steps: int, start: int, epoch_steps: float, names: Sequence[str], quiet: bool = False) -> Writer:
    """Returns a writer that shows the step, the metrics `names` of training and validation, the speed and the time left.

    On a terminal one line is rewritten; elsewhere a line is printed every two seconds at most and at the end.
    """
    began, progress_line = time.monotonic(), ProgressLine(quiet=quiet)
    latest: dict[str, float] = {}
    labels = {f"{split}/{name}": f"{short}{name}" for split, short in (("train", ""), ("validation", "val ")) for name in names}

    def write(step: int, scalars: Mapping[str, float]) -> None:
        latest.update(scalars)
        speed = (step - start) / max(time.monotonic() - began, 1e-9)
        shown = [f"{label} {latest[name]:.4g}" for name, label in labels.items() if latest.get(name) is not None]
        line = (
            f"step {step:,}/{steps:,} ({step / steps:.0%}, epoch {step / epoch_steps:.1f})  "
            f"ETA {text.format_duration((steps - step) / max(speed, 1e-9))}  {speed:.1f} steps/s  {'  '.join(shown)}"
        )
        progress_line.show(line, last=step >= steps)

    return write
