"""The end of a run for a person: its figures, and what its curves show in words."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cnnlab import figures, files
from cnnlab.core import PRETEXT, Experiment
from cnnlab.engine.program import phases
from cnnlab.runs.curve_reading import read_curves
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.rates import learning_rates


def read(records: Sequence[Mapping[str, float]], spec: RunSpec, experiment: Experiment) -> list[str]:
    """Returns what the curves of a run show, a line each (curve_reading.py); of several phases, those of the last one.

    Curves may leap where a phase begins, with another player or with surgery on the weights, and no rule is made for that.

    Args:
        records: lines of metrics.jsonl, and the results on the test split.
        spec: specification of the run.
        experiment: what was trained.
    """
    begun = experiment.steps - phases(experiment)[-1].steps
    records = [record for record in records if record["step"] > begun]
    if not records:
        return []
    rates = learning_rates(spec.knobs, experiment)
    is_known = len(rates(0)) == 1
    found = read_curves(
        records,
        experiment.task.watched_metrics,
        classes=0 if PRETEXT in experiment.task.turns else experiment.data.classes,
        rate=(lambda step: next(iter(rates(step).values()))) if is_known else None,
    )
    return list(map(str, found))


def write_sheets(folder: pathlib.Path, step: int, snapshots: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Writes a sheet of the images f32 [N, H, W, C] of each snapshot to snapshots/NAME/STEP.png; returns {name: u8 sheet}."""
    sheets = {name: figures.sheet(images) for name, images in snapshots.items()}
    for name, sheet in sheets.items():
        target = files.make_folder(folder / "snapshots" / name) / f"{step:08d}.png"
        files.replace_file(target, functools.partial(Image.fromarray(sheet).save, format="PNG"))
    return sheets


def draw(
    folder: pathlib.Path,
    plots: Mapping[str, Any],
    images: Callable[[int, Mapping[str, np.ndarray]], None],
    step: int,
) -> None:
    """Writes figures to figures/NAME.png and for TensorBoard, and animates the snapshots.

    Args:
        folder: folder of the run.
        plots: {name: matplotlib figure}.
        images: writer of images {name: u8 [H, W, 3]} for TensorBoard.
        step: last step.
    """
    files.make_folder(folder / "figures")
    for name, figure in plots.items():
        figures.save(figure, folder / "figures" / f"{name}.png")
    images(step, {name: _at_half_size(folder / "figures" / f"{name}.png") for name in plots})
    for kept in sorted((folder / "snapshots").glob("*")):
        figures.animate(sorted(kept.glob("*.png")), folder / "figures" / f"{kept.name}.webp")


def _at_half_size(path: pathlib.Path) -> np.ndarray:
    """Reads a figure that was saved as u8 [H, W, 3] at half its size, in a third of the time that drawing it again takes."""
    with Image.open(path) as saved:
        return np.array(saved.convert("RGB").reduce(2))
