"""The folder of a run: whether it is the run that is meant, and the provenance of its numbers."""

import dataclasses
import functools
import os
import pathlib
import platform
import socket
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

from cnnlab import files, home
from cnnlab.core import Dataset, Experiment
from cnnlab.engine import loss_scaling
from cnnlab.errors import UsageError
from cnnlab.knobs import Resolved
from cnnlab.runs import identity, network_notes, run_files
from cnnlab.runs.identity import Identity, Reread
from cnnlab.runs.revision import code_revision, uncommitted
from cnnlab.runs.trained_function import keep_matrix
from cnnlab.values import Duration

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")
LONGEST_DIFF = 2**20
"""Bytes of the uncommitted changes that are kept beside run.json; longer ones are cut."""
TRAIN_ELSEWHERE = "give another --workdir, or --overwrite to delete that run and start again"
LEAVE_KNOBS = "leave --experiment and its knobs out to take those of the run in --workdir"


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """The specification of a run, apart from its seed: its identity (the first three fields) and how it is executed."""

    experiment: str
    """Name of a file in experiments/, or the absolute path of an own file."""
    knobs: Mapping[str, Any]
    precision: str
    source: str
    """Text of the experiment's file."""
    given: Mapping[str, Any] | None = None
    """Those of the knobs that are not as the experiment has them; None: not known."""
    strategy: str = "jit"
    devices: int | None = None
    stop_after: int | None = None
    log_every: Duration | None = None
    eval_every: Duration | None = None
    save_every: Duration | None = None
    steps_per_dispatch: int | None = None
    gradient_norms: bool = False
    """Whether the sizes of gradients and updates are logged."""
    skip_nonfinite: int | None = None
    """Most steps in a row that are left out since their loss or gradients are not finite; None: none are."""
    remat: str = "none"
    """What a backward pass computes again (engine/remat.py)."""
    grace_seconds: int = 50
    """Seconds after a signal within which the process leaves."""
    data_dir: str | None = None
    """Folder of its data, an absolute path; None: the default."""
    quiet: bool = False
    reread: Reread | None = None
    """Recorded knobs -> the same by today's signatures (`Resolved.reread`), for folders of an older version; None: as is."""
    sources: Mapping[str, str] | None = None
    """Digests of its code (`sources.code_digests`); None: not compared."""
    allow: tuple[str, ...] = ()
    """Differences from the run in the folder that are accepted (identity.ALLOWED)."""
    step_timeout: int | None = None
    """Seconds without a step after which the process ends; None: as `stopping.watched` says."""
    heartbeat: pathlib.Path | None = None
    """File that is touched as long as steps are made, for the scheduler of a study; None: there is none."""
    starts: bool = True
    """Whether its initial weights matter, which are then compared; a trained run has its own in its checkpoint."""
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """{knob: its value} of those that the command sets otherwise than the run in the folder, and says so."""
    said: set[str] = dataclasses.field(default_factory=set, compare=False)
    """Lines on differences that the command has said already."""

    @property
    def title(self) -> str:
        """The name of the experiment, or of its own file without the folder."""
        return pathlib.Path(self.experiment).name

    @property
    def left_out_in_a_row(self) -> int | None:
        """The number of steps in a row that may be left out since they are not finite; None: none is."""
        return self.skip_nonfinite or (loss_scaling.IN_A_ROW if self.precision in loss_scaling.SCALED else None)

    @functools.cached_property
    def weights(self) -> dict[str, str]:
        """Digests of the files that its knobs name."""
        return identity.weights_of(self.knobs)

    def settings(self) -> dict[str, Any]:
        """Returns the experiment, the precision and the knobs, as run.json shows them."""
        return {"experiment": self.experiment, "precision": self.precision, **{f"--{k}": v for k, v in self.knobs.items()}}

    def identity(self, seed: int | None, experiment: Experiment | None = None) -> Identity:
        """Returns the identity of the run of a seed; its data are known where the experiment is built."""
        data, fit = (experiment.data.fingerprint, identity.plain(experiment.data.inputs.fit)) if experiment else (None, None)
        knobs = {name: identity.plain(value) for name, value in self.knobs.items()}
        weights = self.weights if self.starts else None
        return Identity(self.experiment, self.precision, knobs, seed, self.sources, data, weights, fit)

    def with_knobs(self, resolved: Resolved, sources: Mapping[str, str] | None) -> "RunSpec":
        """Returns the specification of the same run with other knobs, and with the code that these need."""
        return dataclasses.replace(self, knobs=resolved.values, given=resolved.given, reread=resolved.reread, sources=sources)


def check_folder(
    folder: pathlib.Path, spec: RunSpec, *, overwrite: bool, seed: int | None = None, experiment: Experiment | None = None
) -> dict[str, Any] | None:
    """Returns the result of a run that is finished already, or None.

    Raises UsageError where the folder holds something else, or cannot be written to, and DataError where its data changed.

    Args:
        folder: folder of the run.
        spec: what is to be trained there.
        overwrite: whether what is there is deleted first.
        seed: the run's seed; None: not compared.
        experiment: the experiment as built, whose data are compared; None: before it is built, they are not.
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
    compare_run(folder, spec, seed=seed, experiment=experiment, remedy=TRAIN_ELSEWHERE)
    return run_files.finished_result(folder)


def compare_run(
    folder: pathlib.Path,
    spec: RunSpec,
    *,
    seed: int | None = None,
    experiment: Experiment | None = None,
    remedy: str = LEAVE_KNOBS,
) -> tuple[str, ...]:
    """Raises an error where a folder holds another run, or one of other code, data or weights; returns what is allowed.

    Args:
        folder: folder of a run.
        spec: what the command means.
        seed: the seed that it means; None: any.
        experiment: the experiment as built, whose data are compared; None: before it is built, they are not.
        remedy: what to do instead, in words that follow `or`.
    """
    recorded = run_files.read_run(folder)
    there, now = identity.recorded_identity(recorded, spec.reread), spec.identity(seed, experiment)
    if network_notes.is_network_file(folder):  # which holds no digests of code or of first weights
        if said := network_notes.differing_knobs(folder, recorded["digest"], there.knobs):
            identity.say_once(said, spec.said, warning=True)
        data = now.data and now.data[: network_notes.FINGERPRINT_DIGITS]
        now = dataclasses.replace(now, sources=None, weights=None, data=data)
    elif not has_progress(folder):  # nothing there depends on code, data or weights yet: a first attempt may be mended
        now = dataclasses.replace(now, sources=None, weights=None, data=None)
    if spec.changed:  # data and weights follow from the knobs
        knobs = {**now.knobs, **{name: there.knobs.get(name) for name in spec.changed}}
        now = dataclasses.replace(now, knobs={k: v for k, v in knobs.items() if k in there.knobs}, weights=None, data=None)
    allowed = identity.require_same(folder, there, now, allow=spec.allow, said=spec.said, remedy=remedy)
    if changed := changed_conditions(recorded, spec):
        identity.say_once(f"not as when the run was last trained: {changed}", spec.said)
    return allowed


def changed_conditions(run: Mapping[str, Any], spec: RunSpec) -> str:
    """Returns how the latest attempt of a run.json differs from this command in what does not make another run; or nothing."""
    return identity.describe_conditions(identity.latest_conditions(run), conditions(spec))


def has_progress(folder: pathlib.Path) -> bool:
    """Returns whether a run has logged, saved or finished anything."""
    logged = folder / run_files.METRICS
    saved = any((folder / "checkpoints").glob("[0-9]*"))
    return saved or (folder / run_files.RESULT).exists() or (logged.is_file() and logged.stat().st_size > 0)


def _in_the_way(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the file, or the link to nothing, that stands where the folder or one above it would be; None where none does."""
    with files.naming_errors(folder):
        places = (folder, *folder.absolute().parents)
        return next((place for place in places if not place.is_dir() and (place.exists() or place.is_symlink())), None)


@functools.cache
def versions() -> dict[str, str]:
    """Returns {library: version}; the plan of a study asks for each of its runs."""
    return {name: metadata.version(name) for name in LIBRARIES}


def conditions(spec: RunSpec) -> dict[str, Any]:
    """Returns how and where a run is trained: what may differ between its attempts."""
    devices = jax.devices()[: spec.devices]
    return {
        "strategy": spec.strategy,
        "precision": spec.precision,
        "skip_nonfinite": spec.skip_nonfinite,
        "remat": spec.remat,
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "versions": {"cnnlab": home.VERSION, "python": platform.python_version(), **versions()},
    }


def record_attempt(folder: pathlib.Path, spec: RunSpec, experiment: Experiment, seed: int, *, step: int) -> None:
    """Writes run.json at the start of a run, or adds the attempt that goes on from a step, for the process with the lock."""
    before = run_files.read(folder, run_files.RUN)
    allowed = compare_run(folder, spec, seed=seed, experiment=experiment, remedy=TRAIN_ELSEWHERE) if before else ()
    keep_matrix(folder, experiment.data.inputs)
    commit, has_changes = code_revision()
    attempts = list((before or {}).get("attempts", ()))
    now = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": step,
        "command": home.this_command(),
        "commit": commit,
        "uncommitted_changes": has_changes,
        "changes": _keep_changes(folder, len(attempts) + 1) if has_changes else None,
        "job": run_files.cluster_job(),
        **conditions(spec),
        "allowed": list(allowed),
    }
    content = before if before and has_progress(folder) else provenance(spec, experiment, seed)
    whole = _content(spec, experiment)
    now |= {kind: whole[kind] for kind in allowed if kind in whole}
    if "code" in allowed:
        now["sources"] = identity.changed_sources(identity.latest_sources(content) or {}, spec.sources or {})
    content["uncommitted_changes"] = content.get("uncommitted_changes") or has_changes
    files.write_record(folder / run_files.RUN, {**content, "attempts": [*attempts, now]})


def record_allowed(folder: pathlib.Path, spec: RunSpec, allowed: tuple[str, ...]) -> None:
    """Adds to run.json that a command measured or used the run although it differs."""
    if not allowed:
        return
    run = run_files.read_run(folder)
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": home.this_command(),
        "allowed": list(allowed),
    }
    files.write_record(folder / run_files.RUN, {**run, "accepted": [*run.get("accepted", ()), entry]})


def _keep_changes(folder: pathlib.Path, attempt: int) -> str | None:
    """Writes the uncommitted changes to changes-N.diff, or finds them in the file of an earlier attempt; returns its name."""
    content = uncommitted().encode()
    if len(content) > LONGEST_DIFF:
        content = content[:LONGEST_DIFF] + f"\n… {len(content) - LONGEST_DIFF} more bytes\n".encode()
    for path in sorted(folder.glob("changes-*.diff")):
        if path.read_bytes() == content:
            return path.name
    name = f"changes-{attempt}.diff"
    files.write_bytes(folder / name, content)
    return name


def columns_of(data: Dataset) -> dict[str, Any]:
    """Returns the types, shapes and kinds of the columns of a data set as JSON, by which it is stood in for."""
    columns = jax.tree.map(lambda leaf: f"{leaf.dtype.name} {list(leaf.shape)}", dict(data.stored))
    return {"columns": columns, "kinds": dict(data.recorded_kinds)}


def _content(spec: RunSpec, experiment: Experiment) -> dict[str, Any]:
    """Returns what makes the run by content: its data, code and initial weights."""
    data = experiment.data
    return {
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "sizes": dict(data.sizes),
            "remarks": list(data.remarks),
            "class_names": list(data.class_names),
            "fit": dict(data.inputs.fit),
            **columns_of(data),
        },
        "sources": None if spec.sources is None else dict(spec.sources),
        "weights": spec.weights,
    }


def provenance(spec: RunSpec, experiment: Experiment, seed: int) -> dict[str, Any]:
    """Returns the content of run.json, apart from its attempts; what they repeat is that of the first."""
    commit, has_changes = code_revision()
    flags = {"strategy": spec.strategy, "devices": spec.devices, "seed": seed, "precision": spec.precision}
    given = ("log_every", "eval_every", "save_every", "data_dir", "gradient_norms", "skip_nonfinite")
    flags |= {name: str(value) for name in given if (value := getattr(spec, name)) not in (None, False)}
    return {
        "experiment": spec.experiment,
        "knobs": dict(spec.knobs),
        "identity": spec.settings(),
        "flags": flags,
        "steps": experiment.steps,
        "primary_metric": dataclasses.asdict(experiment.task.primary_metric),  # shown while there is no result.json
        **_content(spec, experiment),
        **{name: value for name, value in conditions(spec).items() if name not in flags},
        "commit": commit,
        "uncommitted_changes": has_changes,
        "source": spec.source,
    }
