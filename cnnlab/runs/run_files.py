"""The files of a run's folder: their names, their one reader, and whether the run is finished. Imports no jax.

Every file that can be read without its neighbours has a digest of its own (`files.write_record`, `files.seal_line`);
result.json holds the digests of the others.
"""

import fnmatch
import functools
import logging
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cnnlab import files, home
from cnnlab.digests import file_digest
from cnnlab.errors import CheckpointError, DamagedFile, DataError, UsageError
from cnnlab.runs import network_notes

if TYPE_CHECKING:
    import numpy as np  # not imported for help

log = logging.getLogger("cnnlab")

RUN, STATUS, RESULT, METRICS, ROWS = "run.json", "status.json", "result.json", "metrics.jsonl", "test_rows.npz"
EVALUATION = "evaluation.json"
EVALUATION_ROWS = "evaluation_{}.npz"
"""Name of the file with what `evaluate` predicted for the examples of a split."""
METRICS_BEFORE = "metrics.before.jsonl"
"""Copy of a metrics.jsonl that was damaged, or whose checkpoints were lost, from before the run went on."""
WHITENING = "whitening.npy"
"""Matrix by which the images of a run are whitened, whose digest is in the notes of its checkpoints."""
LOCK = ".lock"
JOB = "CNNLAB_JOB"
"""Name of the environment variable by which a launcher names the job or actor that trains a run."""
STUDY = "study.json"
LAST_BYTES = 2**14
"""Bytes of the end of metrics.jsonl in which the latest metrics are looked for."""
OWN_FILES = (
    *(RUN, STATUS, RESULT, METRICS, METRICS_BEFORE, ROWS, EVALUATION, EVALUATION_ROWS.format("*"), WHITENING),
    *("*.diff", ".*.tmp"),
)
"""Patterns of the files of a run, apart from its lock."""
OWN_FOLDERS = {
    "checkpoints": ("[0-9]*", "*.corrupt", "*.orbax-checkpoint-tmp*"),
    "figures": ("*.png", "*.webp"),
    "explain": ("*.png", "explain.html"),
    "samples": ("*.png", "*.npz", "text-*.txt"),
    "snapshots": ("*",),
    "tensorboard": ("events.out.tfevents.*",),
}
"""{folder of a run: patterns of what a run, or a verb that looks at it, writes there}."""

MEASURE_AGAIN = "The command that trained the run (train, or ablate for a study's) measures it again from its checkpoint."
ADVICE = {
    RUN: "Restore it from a copy. Without one, move the folder away or train the run again with --overwrite.",
    STATUS: "The command that trained the run (train, or ablate for a study's) writes it again.",
    RESULT: MEASURE_AGAIN,
    ROWS: MEASURE_AGAIN,
    METRICS: "Restore it from a copy. The final numbers in result.json do not depend on it.",
    EVALUATION: f"`{home.COMMAND} evaluate` writes it again.",
    STUDY: "Restore it from a copy, or give the ablate command again: it repeats no run that is finished.",
}
"""{file: what a person can do where it is damaged}."""


def read(folder: pathlib.Path, name: str) -> dict[str, Any] | None:
    """Returns the content of a JSON file of a run or a study, None where there is none; raises DamagedFile."""
    return files.read_record(folder / name, advice=ADVICE[name])


def cluster_job() -> str | None:
    """Returns the name of the cluster's job that this process belongs to, such as `Slurm job 123`; None outside of clusters."""
    job = os.environ.get("SLURM_JOB_ID")
    return os.environ.get(JOB) or (f"Slurm job {job}" if job else None)


def read_status(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of status.json; {} where it is missing or damaged, which `open_run` says and mends."""
    try:
        return read(folder, STATUS) or {}
    except DamagedFile:
        return {}


def read_run(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a run's run.json, or the same of the file of its network (network_notes.py).

    Raises UsageError where there is no run, DamagedFile where the file is lost.
    """
    if network_notes.is_network_file(folder):
        return network_notes.as_run(folder)
    content = read(folder, RUN)
    if content is not None:
        return content
    if others := own_files(folder):
        raise DamagedFile(folder / RUN, f"it is missing, beside {', '.join(others)} of a run", ADVICE[RUN])
    if (folder / STUDY).exists():
        raise UsageError(f"{folder} is a study, not a run.\nGive the folder of one of its runs: its report lists them.")
    kind = "a file, expected a folder" if folder.is_file() else "not a run: it has no run.json"
    raise UsageError(f"{folder} is {kind}.\nGive the folder of a run, such as runs/NAME-HASH/seed_0.")


def require_study_folder(folder: pathlib.Path) -> None:
    """Raises UsageError where a study cannot be kept in a folder: it is a file, or holds a run or something else."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected a folder for the study.\nGive another --workdir.")
    if (folder / RUN).exists() or own_files(folder):
        raise UsageError(f"{folder} holds a run, whose files a study would overwrite.\nGive another --workdir for the study.")


def own_files(folder: pathlib.Path) -> list[str]:
    """Returns the names of those files that only a run that began to train has, such as metrics.jsonl."""
    return [name for name in (METRICS, RESULT, ROWS, "checkpoints") if (folder / name).exists()]


def read_metrics(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of metrics.jsonl; raises DamagedFile, which names the damaged lines."""
    records, damaged = files.read_lines(folder / METRICS)
    if damaged:
        raise DamagedFile(folder / METRICS, describe_lines(damaged), ADVICE[METRICS])
    return records


def latest_metrics(folder: pathlib.Path) -> dict[str, float]:
    """Returns {name: value as last logged} of a run, with its step, from the undamaged lines at the end of metrics.jsonl."""
    found: dict[str, float] = {}
    for record in files.read_last_lines(folder / METRICS, LAST_BYTES):
        found |= {name: value for name, value in record.items() if value is not None}
    return found


def describe_lines(damaged: Mapping[int, str]) -> str:
    """Returns which lines of a file are damaged, and how."""
    return "; ".join(f"line {number}: {reason}" for number, reason in list(damaged.items())[:3]) + (
        f"; {len(damaged) - 3} more lines" if len(damaged) > 3 else ""
    )


def read_rows(folder: pathlib.Path) -> "dict[str, np.ndarray] | None":
    """Returns the arrays of test_rows.npz; None where a run has none. Raises DamagedFile."""
    import numpy as np

    path = folder / ROWS
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as rows:
            return {name: rows[name] for name in rows}
    except Exception as error:  # of NumPy, zipfile, zlib and tokenize, which have no class for a damaged archive
        raise DamagedFile(path, f"it is no archive of arrays ({type(error).__name__})", ADVICE[ROWS]) from error


def write_result(folder: pathlib.Path, result: Mapping[str, Any]) -> None:
    """Writes result.json, with the digests of the other files that are complete by then."""
    digests = {name: file_digest(folder / name) for name in (ROWS, METRICS) if (folder / name).is_file()}
    files.write_record(folder / RESULT, {**result, "files": digests})


def unmeasured(folder: pathlib.Path) -> DamagedFile | None:
    """Returns why a run that is DONE has to be measured again: result.json or test_rows.npz is lost or damaged; else None."""
    try:
        result = read(folder, RESULT)
        if result is None:
            return DamagedFile(folder / RESULT, "it is missing", ADVICE[RESULT])
        _compare_digest(folder, result, ROWS)
        if "files" not in result:
            read_rows(folder)
    except DamagedFile as damage:
        return damage
    return None


def damages(folder: pathlib.Path) -> list[DamagedFile]:
    """Returns every damage of the files of a run that is DONE, and of those that a report reads of any other."""
    found = []
    status: dict[str, Any] | None = None
    for name in (RUN, STATUS, METRICS):
        try:
            if name == METRICS:
                read_metrics(folder)
            elif (content := read(folder, name)) is None and own_files(folder):
                found.append(DamagedFile(folder / name, "it is missing", ADVICE[name]))
            elif name == STATUS:
                status = content
        except DamagedFile as damage:
            found.append(damage)
    if (status or {}).get("state") != "DONE":
        return found
    if lost := unmeasured(folder):
        return [*found, lost]
    if not any(damage.path.name == METRICS for damage in found):
        try:
            _compare_digest(folder, read(folder, RESULT) or {}, METRICS)
        except DamagedFile as damage:
            found.append(damage)
    return found


def say_damage(folder: pathlib.Path) -> None:
    """Warns of files of a run that are lost or damaged and that the run, which goes on, writes again."""
    try:
        status = read(folder, STATUS)
    except DamagedFile as damage:
        log.warning("WARNING: %s", damage)
        return
    if status is None and own_files(folder):
        log.warning("WARNING: %s is missing; it is written again.", folder / STATUS)
    if (status or {}).get("state") == "DONE" and (lost := unmeasured(folder)):
        log.warning("WARNING: %s is damaged: %s. The run is measured again from its checkpoint.", lost.path, lost.reason)


def require_undamaged(folders: Iterable[pathlib.Path]) -> None:
    """Raises DataError with every damage of the files of runs."""
    found = [damage for folder in folders for damage in damages(folder)]
    if found:
        lines = "\n".join(str(damage).replace("\n", "\n  ") for damage in found)
        raise DataError(f"{len(found)} damaged file{'s' * (len(found) > 1)} of runs; their numbers are left out:\n{lines}")


def finished_result(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the result of a run that is DONE and whose results are whole, else None.

    A run whose results are lost or damaged is measured again from its checkpoint by whoever asks: train, ablate or a worker.
    """
    if read_status(folder).get("state") != "DONE" or unmeasured(folder):
        return None
    return read(folder, RESULT)


def status_of(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of status.json, in which a DONE run that has to be measured again is PREEMPTED, with the reason."""
    status = read_status(folder)
    if status.get("state") == "DONE" and (damage := unmeasured(folder)):
        return {**status, "state": "PREEMPTED", "message": f"{damage.path} is damaged: {damage.reason}; it is measured again"}
    return status


def require_checkpoint_kept(folder: pathlib.Path, steps: Iterable[int]) -> None:
    """Raises CheckpointError where the run had a checkpoint and none is left; warns where the newest one is gone.

    Args:
        folder: folder of the run.
        steps: steps of the checkpoints that are there.
    """
    status, newest = read_status(folder), max(steps, default=0)
    # A version that did not record the newest checkpoint saved one in each of these states.
    saved = status.get("step", 0) if status.get("state") in ("DONE", "STOPPED", "PREEMPTED") else 0
    saved = status.get("checkpoint", saved) or 0
    if saved > newest == 0:
        raise CheckpointError(
            f"the checkpoints of {folder} are gone: {STATUS} records one of step {saved:,}, and {folder / 'checkpoints'} holds "
            f"none.\nRestore them from a copy. To train from the start instead, add --overwrite to the train command, or move "
            f"the folder away (the only way for a study's run). Nothing was changed."
        )
    if saved > newest:
        log.warning("WARNING: the checkpoint of step %d in %s is gone; going on from step %d.", saved, folder, newest)


def keep_metrics(folder: pathlib.Path, reason: str) -> None:
    """Copies metrics.jsonl aside before it is written anew, and says so."""
    log.warning("WARNING: %s; the metrics logged so far are kept in %s.", reason, folder / METRICS_BEFORE)
    files.write_bytes(folder / METRICS_BEFORE, (folder / METRICS).read_bytes())


def clear_folder(folder: pathlib.Path) -> None:
    """Deletes the files of a run, for the process that holds the lock; what a run does not write is left and named.

    Raises UsageError, before anything is deleted, where a file of the run is a symbolic link: what it points to is not ours.
    """
    entries = [entry for entry in sorted(folder.iterdir()) if entry.name != LOCK]
    linked = [entry.name for entry in entries if entry.is_symlink() and _is_own(entry)]
    if linked:
        raise UsageError(
            f"--overwrite deletes the files of {folder}, and of these a symbolic link: {', '.join(linked)}.\n"
            "What it points to is not touched. Remove the link yourself, or give another --workdir."
        )
    left = []
    for entry in entries:
        if not _is_own(entry):
            left.append(entry.name)
        elif entry.is_dir():
            left += _clear_own(entry)
        else:
            entry.unlink()
    if left:
        log.warning("left in %s, because a run does not write them: %s", folder, ", ".join(left))


def _is_own(entry: pathlib.Path) -> bool:
    """Returns whether a run writes a file or folder of this name."""
    if entry.is_dir() and not entry.is_symlink():
        return entry.name in OWN_FOLDERS
    return entry.name in OWN_FOLDERS or any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in OWN_FILES)


def _clear_own(folder: pathlib.Path) -> list[str]:
    """Deletes what a run writes in one of its folders, and the folder where nothing else is there; returns what is left."""
    left = []
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() or not any(fnmatch.fnmatchcase(entry.name, own) for own in OWN_FOLDERS[folder.name]):
            left.append(f"{folder.name}/{entry.name}")
        elif entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not left:
        folder.rmdir()
    return left


def _compare_digest(folder: pathlib.Path, result: Mapping[str, Any], name: str) -> None:
    """Raises DamagedFile where a file does not have the digest that result.json holds for it."""
    expected = result.get("files", {}).get(name)
    if expected is None:
        return
    path = folder / name
    if not path.is_file():
        raise DamagedFile(path, "it is missing" if not path.exists() else "it is a folder, expected a file", ADVICE[name])
    stat = path.stat()
    if _known_digest(path, stat.st_mtime_ns, stat.st_size) != expected:
        raise DamagedFile(path, f"its digest is not the one in {RESULT}", ADVICE[name])


@functools.lru_cache(maxsize=10_000)
def _known_digest(path: pathlib.Path, changed: int, size: int) -> str:
    """Returns the digest of a file, taken once for each time that it changed: schedulers ask again and again."""
    return file_digest(path)
