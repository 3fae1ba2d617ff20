"""Opens a run or a study from its folder. Imports no jax."""

import pathlib
from collections.abc import Sequence

from cnnlab import home
from cnnlab.errors import UsageError
from cnnlab.files import absolute
from cnnlab.python.run import Run
from cnnlab.python.study import Study
from cnnlab.runs import run_files
from cnnlab.text import listed


def load(folder: str | pathlib.Path, *, best: bool = False, allow: Sequence[str] = (), devices: int | None = 1) -> Run | Study:
    """Opens the run or the study in a folder, from any working directory.

    The folder above the seeds of one setting stands for its run where it holds only one. Raises UsageError where the folder is
    neither, and DataError where its files are damaged.

    Args:
        folder: folder of a run, such as runs/NAME-HASH/seed_0, or of a study.
        best: use the checkpoint with the best validation metric, not the newest one.
        allow: what may have changed since a run was trained, of code, data, weights.
        devices: number of devices on which networks compute; None: all.
    """
    place = absolute(folder)
    if not place.exists():
        raise UsageError(
            f"there is no folder {place}.\nGive the folder of a run or of a study: `{home.COMMAND} runs` lists them."
        )
    if (place / run_files.STUDY).exists():
        return Study(place, best=best, allow=allow, devices=devices)
    seeds = sorted(path.parent for path in place.glob(f"seed_*/{run_files.RUN}"))
    if not (place / run_files.RUN).exists() and seeds:
        if len(seeds) > 1:
            raise UsageError(
                f"{place} holds {len(seeds)} runs.\nGive the folder of one: {listed([one.name for one in seeds], 10)}."
            )
        (place,) = seeds
    return Run(place, best=best, allow=allow, devices=devices)
