"""The verb that prunes one layer of a trained network at a time: sensitivity."""

import json
import pathlib
from typing import Literal

from cnnlab.cli.groups import Console, Devices, Length
from cnnlab.cli.show import trained_run
from cnnlab.errors import UsageError
from cnnlab.values import Target

DENSITIES = (0.8, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05)


def sensitivity(
    *,
    workdir: Target | None = None,
    prune: Literal["weights", "channels"] = "weights",
    densities: tuple[float, ...] = DENSITIES,
    to: Target | None = None,
    format: Literal["text", "json"] = "text",
    best: bool = False,
    allow: tuple[str, ...] = (),
    devices: Devices,
    console: Console,
) -> int:
    """Measures a trained network with one layer pruned at a time, without training: which layers can lose more than others.

    It prints a row for each layer and a column for each density, and draws a picture of them; the number is that of the
    validation split, or of test where there is none.

    Args:
        workdir: folder of the run, or the file of its network.
        prune: what goes: weights, the smallest of each kernel, or channels, those whose weights are smallest.
        densities: shares of a layer that stay.
        to: a .png file for the picture; none: sensitivity_weights.png, or _channels.png, among the figures of the run.
        format: how to print.
        best: use the checkpoint with the best validation metric, not the newest one.
        allow: what may have changed since the run was trained, of code, data, weights.
        devices: on what it runs.
        console: what is shown.
    """
    if not workdir:
        raise UsageError("sensitivity of which run? Add --workdir=RUN, the folder of a trained run.")
    if to and pathlib.Path(to).suffix != ".png":
        raise UsageError(f"--to={to}: the picture is a PNG.\nGive a file that ends with .png.")
    resolved, spec, folders = trained_run({}, None, workdir, None, Length(), devices, console, allow=allow, starts=False)
    from cnnlab import figures
    from cnnlab.inspect import sensitivity as inspector
    from cnnlab.progress import ProgressLine
    from cnnlab.runs.run import restore_run
    from cnnlab.terminal import Terminal

    (folder,) = folders.values()
    program, state, step = restore_run(resolved, spec, folder, best=best)
    line = ProgressLine(quiet=console.quiet)
    found = inspector.scan(
        program,
        state,
        kind=prune,
        densities=densities,
        say=lambda done, total: line.show(f"sensitivity: {done} of {total} measurements …"),
    )
    line.erase()
    usual = folder / "figures" if folder.is_dir() else pathlib.Path()
    target = pathlib.Path(to) if to else usual / f"sensitivity_{prune}.png"
    figures.save(inspector.picture(found, prune, f"{spec.experiment}, step {step}"), target)
    print(
        json.dumps(inspector.as_json(found), indent=1) if format == "json" else inspector.as_table(found, Terminal.of_stdout())
    )
    if format == "text":
        print(f"picture: {target}")
    return 0
