"""The folder of a run: which run it belongs to, which process holds it, and the provenance of its numbers."""

import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any

import jax

from cnnlab import files
from cnnlab.core import Experiment
from cnnlab.errors import UsageError
from cnnlab.runs import run_files
from cnnlab.values import Duration

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Busy(UsageError):
    """Another process trains in the folder."""


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """The specification of a run, apart from its seed: its identity (the first three fields) and how it is executed."""

    experiment: str
    """Name or path as given on the command line."""
    knobs: Mapping[str, Any]
    precision: str
    source: str
    """Text of the experiment's file."""
    strategy: str = "jit"
    devices: int | None = None
    stop_after: int | None = None
    log_every: Duration | None = None
    eval_every: Duration | None = None
    save_every: Duration | None = None
    steps_per_dispatch: int | None = None
    data_dir: str | None = None
    """Folder of its data, an absolute path; None: the default."""
    quiet: bool = False
    reread: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """Recorded knobs -> the same by today's signatures (`Resolved.reread`), for folders of an older version; None: as is."""

    def identity(self) -> dict[str, Any]:
        """Returns what must agree for a folder to belong to this run."""
        return {"experiment": self.experiment, "precision": self.precision, **{f"--{k}": v for k, v in self.knobs.items()}}


def check_folder(folder: pathlib.Path, spec: RunSpec, *, overwrite: bool) -> dict[str, Any] | None:
    """Returns the result of a run that is finished already, or None.

    Raises UsageError where the folder holds something else, or cannot be written to.
    """
    if found := _in_the_way(folder):
        raise UsageError(f"{found} is a file, expected a folder for the run.\nGive another --workdir.")
    above = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(above, os.W_OK):
        raise UsageError(f"{above} cannot be written to, so the run cannot be kept there.\nGive another --workdir.")
    first = (run_files.LOCK, run_files.STATUS)
    if not folder.exists() or all(entry.name in first or entry.name.endswith(".tmp") for entry in folder.iterdir()):
        return None  # at most the files of a run that ended before it wrote run.json
    if overwrite and (folder / run_files.RUN).is_file():
        return None  # also where it is damaged
    if not (folder / run_files.RUN).exists() and not run_files.own_files(folder):
        kind = "holds a study" if (folder / run_files.STUDY).exists() else "is not empty and holds no run.json"
        raise UsageError(f"{folder} {kind}, so it is not a run of cnnlab.\nGive another --workdir.")
    recorded = run_files.read_run(folder)
    before, now = _recorded_identity(recorded, spec), json.loads(json.dumps(spec.identity()))
    differing = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if differing:
        rows = "\n".join(f"  {key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in differing[:10])
        raise UsageError(
            f"{folder} holds a run of other knobs:\n{rows}\n"
            "Give another --workdir, or --overwrite to delete that run and start again."
        )
    return run_files.finished_result(folder)


def _in_the_way(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file, or the link to nothing, that stands where the folder or one above it would be; None where none does."""
    with files.naming_errors(folder):
        places = (folder, *folder.absolute().parents)
        return next((place for place in places if not place.is_dir() and (place.exists() or place.is_symlink())), None)


def _recorded_identity(recorded: Mapping[str, Any], spec: RunSpec) -> dict[str, Any]:
    """Returns the identity in run.json, with the knobs by today's signatures where these still take them."""
    if spec.reread is None or recorded["experiment"] != spec.experiment:
        return recorded["identity"]
    try:
        knobs = spec.reread(recorded["knobs"])
    except UsageError:
        return recorded["identity"]
    today = dataclasses.replace(spec, knobs=knobs, precision=recorded["identity"]["precision"])
    return json.loads(json.dumps(today.identity()))


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds the folder for this process; the lock ends with the process, however that ends."""
    with files.open_text(folder / run_files.LOCK, "a+") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = run_files.read_status(folder).get("process", "another process")
            raise Busy(f"{folder} is being trained by {holder}.\nWait for it, or give another --workdir.") from None
        yield


def code_revision() -> tuple[str | None, bool | None]:
    """Returns (commit of this code, whether files differ from it); None where git does not know."""
    root = pathlib.Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        asked = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, encoding="utf-8", check=False)
        return asked.stdout.strip() if asked.returncode == 0 else None

    try:
        commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:  # no git on this machine
        return None, None
    return commit, None if changes is None else bool(changes)


def provenance(spec: RunSpec, experiment: Experiment, seed: int) -> dict[str, Any]:
    """Returns the content of run.json."""
    commit, has_changes = code_revision()
    flags = {"strategy": spec.strategy, "devices": spec.devices, "seed": seed, "precision": spec.precision}
    given = ("log_every", "eval_every", "save_every", "data_dir")
    flags |= {name: str(value) for name in given if (value := getattr(spec, name)) is not None}
    return {
        "experiment": spec.experiment,
        "knobs": dict(spec.knobs),
        "identity": spec.identity(),
        "flags": flags,
        "steps": experiment.steps,
        "data": {
            "name": experiment.data.name,
            "fingerprint": experiment.data.fingerprint,
            "sizes": dict(experiment.data.sizes),
            "remarks": list(experiment.data.remarks),
        },
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.devices()],
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "commit": commit,
        "uncommitted_changes": has_changes,
        "source": spec.source,
    }
