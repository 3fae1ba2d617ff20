"""Finds the folder of a run: the one named after its knobs, or an older one whose recorded knobs are the same today.

The default folder is named after a digest of the knobs' paths and values, so a knob that moves to another path changes it. A
run that an older version began is therefore found by its recorded knobs, read with today's signatures.
"""

import functools
import glob
import logging
import pathlib
from typing import Any

from cnnlab.errors import DamagedFile, UsageError
from cnnlab.knobs import Resolved
from cnnlab.runs import run_files
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.identity import same_experiment

log = logging.getLogger("cnnlab")


def folder_name(name: str, digest: str, precision: str) -> str:
    """Returns the name of the folder of a run's seeds: NAME-DIGEST, with the precision where it is not f32."""
    return f"{pathlib.Path(name).stem}-{digest}{'' if precision == 'f32' else f'-{precision}'}"


class RunFinder:
    """Finds the runs of one experiment below one folder; the older ones are read once, and only where they are needed."""

    def __init__(self, above: pathlib.Path, experiment: ExperimentFile, precision: str) -> None:
        """Searches below `above` for runs of the experiment with this precision."""
        self.above, self.experiment, self.precision = above, experiment, precision

    def folder_of(self, resolved: Resolved) -> str:
        """Returns the name, below `above`, of the folder that holds or will hold the seeds of these knobs."""
        default = folder_name(self.experiment.name, resolved.digest, self.precision)
        return default if (self.above / default).exists() else self._older.get(resolved.digest, default)

    @functools.cached_property
    def _older(self) -> dict[str, str]:
        """{digest by today's signatures: folder} of all recorded knobs of the experiment."""
        found: dict[str, str] = {}
        for folder in sorted(self.above.glob(f"{glob.escape(pathlib.Path(self.experiment.name).stem)}-*")):
            recorded = next(filter(None, map(_recorded, sorted(folder.glob("seed_*")))), None)
            if recorded is None or not same_experiment(recorded["experiment"], self.experiment.name):
                continue
            if recorded["flags"]["precision"] != self.precision:
                continue
            try:
                found.setdefault(self.experiment.resolve(recorded["knobs"]).digest, folder.name)
            except UsageError:  # a knob that no longer exists: today's function cannot have this run
                continue
        return found


def _recorded(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns run.json of a folder; None, with a warning where it is damaged, where it cannot be read."""
    try:
        return run_files.read(folder, run_files.RUN)
    except DamagedFile as damage:
        log.warning("WARNING: %s", damage)
        return None
