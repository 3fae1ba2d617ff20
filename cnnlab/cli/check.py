"""The verb that checks an experiment before a long run: check."""

import json
import pathlib
import sys
from typing import Literal

from cnnlab.cli.common import load, resolve
from cnnlab.cli.groups import Console, Devices, Length
from cnnlab.errors import UsageError
from cnnlab.values import PathText, Positive, Target


def check(
    values: dict[str, str],
    /,
    *,
    experiment: str | None = None,
    seconds: Positive = 10.0,
    format: Literal["text", "json"] = "text",
    to: Target | None = None,
    data_dir: PathText | None = None,
    length: Length,
    console: Console,
) -> int:
    """Checks an experiment before a long run: data, start, gradients, learning rate, and whether it can memorise.

    It looks at inputs, classes, the loss at the start, outputs and gradients layer by layer, and whether labels go
    with images. It trains a few steps at four learning rates, and on a few examples without regularisation, and
    compares the gradient with finite differences, in f32 on one device. It exits with 1 where something is wrong.

    Args:
        values: the experiment's knobs.
        experiment: name of a file in experiments/, or the path of a .py file of your own.
        seconds: longest time of each short training.
        format: how to print.
        to: .png file for the figure; none: runs/check-EXPERIMENT.png.
        data_dir: folder of prepared TFDS data sets; none: $TFDS_DATA_DIR or ~/tensorflow_datasets.
        length: length of the run, of which the time is estimated.
        console: what is shown.
    """
    if to and pathlib.Path(to).suffix != ".png":
        raise UsageError(f"--to={to}: the figure is a PNG.\nGive a file that ends with .png.")
    loaded = load(experiment, values, Devices(data_dir=data_dir))
    resolved = resolve(loaded, values, length)
    from cnnlab import figures
    from cnnlab.check import command, show
    from cnnlab.check.findings import verdict
    from cnnlab.progress import ProgressLine
    from cnnlab.terminal import Terminal

    line = ProgressLine(quiet=console.quiet)
    found = command.check(resolved, seconds=seconds, say=lambda text: line.show(f"check: {text} …"))
    line.close()
    path = pathlib.Path(to or f"runs/check-{loaded.title.removesuffix('.py')}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    names, outputs, gradients = show.figure_numbers(found)
    drawn = figures.training_check(
        found.curves, names, outputs, gradients, title=f"Check of {loaded.title}", note=verdict(found.findings)
    )
    figures.save(drawn, path)
    lines = show.as_lines(found, Terminal.of_stdout())
    print(json.dumps(show.as_json(found), indent=1) if format == "json" else "\n".join(lines))
    print(f"figure: {path}", file=sys.stderr)
    return 1 if found.has_fault else 0
