"""Checkpoints: orbax writes them in the background, a manifest of digests makes them verifiable.

Orbax 0.12 restores a checkpoint with a flipped bit, another dtype or another shape without a word. So every step folder holds
`manifest.json`: SHA-256 of every file, path, shape and dtype of every leaf, the run's own notes, a digest of itself. It is
written before orbax renames the folder into place, so a folder without a good manifest is no checkpoint. Restoring compares
the leaves with what the network expects, verifies the digests, and falls back to the checkpoint before only with a warning.
"""

import dataclasses
import json
import logging
import math
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from cnnlab import files
from cnnlab.core import PyTree, TrainState
from cnnlab.digests import arrays_digest, file_digest, json_digest
from cnnlab.engine import averages, processes
from cnnlab.errors import CheckpointError, DivergedError
from cnnlab.metric import Metric
from cnnlab.ops.trees import named_leaves

FORMAT = 1
MANIFEST = "manifest.json"
PARTS = ("state", "metrics")
"""Folders of a step that hold data; the other files are book-keeping of orbax."""
STATISTICS = "average_statistics/"
"""Prefix of the paths of averaged batch statistics, which older versions did not keep."""
MOST_NAMED = 10
"""Largest number of leaves that an error names."""

log = logging.getLogger("cnnlab")


def tree_digest(tree: PyTree) -> str:
    """Returns the SHA-256 over path, dtype, shape and bytes of every leaf: equal digests mean equal bits."""
    return arrays_digest(named_leaves(tree))


def describe(tree: PyTree) -> dict[str, list[Any]]:
    """Returns {path: [shape, dtype]} of arrays or of their shapes."""
    return {path: [list(leaf.shape), str(leaf.dtype)] for path, leaf in named_leaves(tree).items()}


def _alone() -> ocp.options.MultiprocessingOptions:
    """Returns the options by which the first of several processes reads and writes alone, and waits for no other."""
    return ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0} if processes.count() > 1 else None)


@dataclasses.dataclass
class _Chosen(checkpoint_managers.PreservationPolicy):
    """A rule of orbax by which the checkpoints of some steps are kept."""

    steps: frozenset[int] = frozenset()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns for each checkpoint whether it is kept."""
        return [checkpoint.step in self.steps for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of one run; one process at a time writes there (run.py holds the lock)."""

    def __init__(self, folder: pathlib.Path, *, ranked_by: Metric | None, keep: int = 2) -> None:
        """Opens or makes `folder`; keeps the `keep` newest and the best one.

        Args:
            folder: folder of the run's checkpoints.
            ranked_by: metric by which the best one is found; None: checkpoints are only read, and none is ranked.
            keep: number of the newest checkpoints that are kept.
        """
        self.folder = folder.resolve()  # orbax wants it absolute
        self._keep = keep
        sign = 1 if ranked_by is None or ranked_by.require_sense("ranking checkpoints") else -1

        def rank(metrics: Mapping[str, float]) -> float:
            return sign * metrics[ranked_by.name] if ranked_by else 0.0

        self.chosen = _Chosen()
        best = checkpoint_managers.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False)
        self._options = ocp.CheckpointManagerOptions(
            best_fn=rank,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                [checkpoint_managers.LatestN(keep), best, self.chosen]
            ),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            multiprocessing_options=_alone(),
            create=False,
        )
        self._manager: ocp.CheckpointManager | None = None
        self._saving: dict[str, Any] = {}
        self._bad: dict[int, str] = {}

    def keep(self, step: int) -> None:
        """Keeps the checkpoint of one step, besides the newest and the best, from the next one that is saved on."""
        self.chosen.steps = frozenset({step})

    def clear_unfinished(self) -> None:
        """Deletes what a process left that was killed while saving; only for the one process that trains here."""
        for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover)

    def steps(self) -> list[int]:
        """Returns the steps that have a folder, oldest first."""
        return (
            sorted(int(p.name) for p in self.folder.glob("*") if p.name.isdigit() and p.is_dir())
            if self.folder.exists()
            else []
        )

    def best(self) -> int | None:
        """Returns the step of the undamaged checkpoint with the best metric; None where no checkpoint has one."""
        manifests = [_manifest(self.folder / str(step)) for step in self.steps() if _damage(self.folder / str(step)) is None]
        ranked = [manifest for manifest in manifests if manifest["metrics"]]
        return max(ranked, key=lambda manifest: self._options.best_fn(manifest["metrics"]))["step"] if ranked else None

    def newest_meta(self) -> dict[str, Any] | None:
        """Returns the run's notes in the newest checkpoint whose manifest is whole; None where there is none."""
        for step in reversed(self.steps()):
            try:
                manifest = json.loads((self.folder / str(step) / MANIFEST).read_text(encoding="utf-8"))
                if manifest["sha256"] == json_digest(manifest["content"]):
                    return dict(manifest["content"]["meta"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return None

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any], metrics: Mapping[str, float] | None) -> None:
        """Starts saving a host tree; a failure is raised by the next save or by `close`.

        Raises DivergedError, and keeps the earlier checkpoints, where parameters are not finite.
        """
        bad = [path for path, leaf in named_leaves((state.params, state.model_state)).items() if not _finite(leaf)]
        if bad:
            raise DivergedError(
                f"training diverged: at step {step} {len(bad)} leaves are not finite, the first is {bad[0]}.\n"
                "Try a smaller --lr, a --clip_norm, or a warm-up of the schedule."
            )
        self._wait(manager := self._open())
        self._require_room(state, 1)
        numbers = dict(metrics) if metrics else None
        self._saving = {"format": FORMAT, "step": step, "leaves": describe(state), "meta": dict(meta), "metrics": numbers}
        manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(named_leaves(state))), metrics=numbers)

    def require_room(self, state: TrainState, saves: int) -> None:
        """Raises CheckpointError where the disk has no room for the checkpoints of a run that will be there at once.

        Args:
            state: state of the run, as arrays or their shapes.
            saves: number of checkpoints that the run is still to write.
        """
        # The newest ones, the best one, and the one that is being written, after which an older one is deleted.
        at_once = self._keep + 2 - len(self.steps())
        if saves > 0:
            self._require_room(state, min(saves, max(1, at_once)))

    def _require_room(self, state: TrainState, count: int) -> None:
        """Raises CheckpointError where `count` checkpoints do not fit, each with a fifth more than its arrays in reserve."""
        needed = int(1.2 * count * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in named_leaves(state).values()))
        free = shutil.disk_usage(next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())).free
        if free < needed:
            what = "a checkpoint" if count == 1 else f"the {count} checkpoints that are kept at once"
            raise CheckpointError(
                f"no room for {what} in {self.folder}: {needed / 2**20:.0f} MiB needed, {free / 2**20:.0f} MiB free.\n"
                f"Free some space and run the same command again: it continues from step {max(self.steps(), default=0)}."
            )

    def delete(self, step: int) -> None:
        """Deletes the checkpoint of a step, which is about to be saved again."""
        self._open().delete(step)

    def _open(self) -> ocp.CheckpointManager:
        """Returns orbax's manager of the folder, which is made where it is missing."""
        if self._manager is None:
            files.make_folder(self.folder)
            self._manager = ocp.CheckpointManager(self.folder, options=self._options)
        return self._manager

    def _wait(self, manager: ocp.CheckpointManager) -> None:
        """Waits for the save in progress; raises CheckpointError where it failed in the background."""
        try:
            manager.wait_until_finished()
        except Exception as error:  # from tensorstore, the file system or orbax
            reason = str(error).strip().partition("\n")[0][:300]
            raise CheckpointError(
                f"step {self._saving.get('step')} could not be written to {self.folder}: {reason}\n"
                "The earlier checkpoints are intact; repair the disk and run the same command again."
            ) from error

    def _seal(self) -> None:
        """Writes the manifest into the folder that orbax is about to rename; called in its background thread."""
        for unfinished in self.folder.glob(f"{self._saving['step']}.orbax-checkpoint-tmp*"):
            content = {**self._saving, "files": _digests(unfinished)}
            files.write_text(unfinished / MANIFEST, json.dumps({"content": content, "sha256": json_digest(content)}))

    def restore(
        self, shapes: TrainState, *, step: int | None = None, trains: bool = True
    ) -> tuple[TrainState, dict[str, Any], int] | None:
        """Returns (host tree, meta, step) of the newest undamaged checkpoint, or of `step`; None where there is no checkpoint.

        Args:
            shapes: the state that the network expects, as arrays or their shapes.
            step: step of the checkpoint that is wanted; None: the newest.
            trains: whether the run is to continue, so that an error may advise --overwrite.

        Raises:
            CheckpointError: the checkpoint belongs to another network, or every one is damaged.
        """
        found = self.steps()
        if step is not None and step not in found:
            raise CheckpointError(
                f"no checkpoint of step {step} in {self.folder}. There are: {', '.join(map(str, found)) or 'none'}."
            )
        # From the newest back: a damaged one is passed over with a warning, another network is an error at once.
        for candidate in [step] if step is not None else reversed(found):
            folder = self.folder / str(candidate)
            reason = _damage(folder)
            if reason is None:
                manifest = _manifest(folder)
                stored = _shapes_as_stored(shapes, manifest["leaves"])
                _check_leaves(folder, manifest["leaves"], describe(stored), trains=trains)
                try:
                    state = _read(folder, stored)
                    return state if stored is shapes else _with_statistics(state, folder), manifest["meta"], candidate
                except Exception as error:  # ValueError, FileNotFoundError, JSONDecodeError …: orbax has no class of its own
                    reason = f"orbax cannot read it ({type(error).__name__})"
            self._bad[candidate] = reason
            log.warning("WARNING: checkpoint of step %d in %s is damaged: %s.", candidate, self.folder, reason)
        reasons = [f"step {bad}: {reason}" for bad, reason in self._bad.items()]
        reasons += [f"{aside.name}: set aside before" for aside in self.folder.glob("*.corrupt")]
        if not reasons:
            return None
        raise CheckpointError(
            f"no checkpoint in {self.folder} can be used:\n  " + "\n  ".join(reasons) + "\n"
            f"Restore the files from a copy{', or add --overwrite to train from the start' if trains else ''}."
        )

    def quarantine(self) -> None:
        """Sets aside every damaged checkpoint as `<step>.corrupt`; never deletes one. For the process that trains here."""
        for step in self.steps():
            folder = self.folder / str(step)
            reason = self._bad.get(step) or _damage(folder)
            if reason is not None:
                target = self.folder / f"{step}.corrupt"
                log.warning("WARNING: the damaged checkpoint of step %d is set aside as %s: %s.", step, target, reason)
                shutil.rmtree(target, ignore_errors=True)  # left by an earlier fault at the same step
                folder.rename(target)

    def close(self) -> None:
        """Waits until everything is on the disk; raises CheckpointError where that failed."""
        if self._manager is not None:
            self._wait(self._manager)
            self._manager.close()
            self._manager = None


def _finite(leaf: np.ndarray) -> bool:
    """Returns whether all values are finite; integers always are."""
    return not np.issubdtype(leaf.dtype, np.floating) or bool(np.isfinite(leaf).all())


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns {path below the folder: SHA-256} of the files that hold data."""
    found = sorted(p for part in PARTS for p in (folder / part).rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in found}


def _manifest(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a step's manifest."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["content"]


def _damage(folder: pathlib.Path) -> str | None:
    """Returns a description of the damage of a step folder, with the name of the file, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        content = manifest["content"]
        whole = manifest["sha256"] == json_digest(content)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (ValueError, KeyError, TypeError):
        return f"{MANIFEST} is not readable"
    if not whole:
        return f"{MANIFEST} does not agree with its own digest"
    if content["format"] != FORMAT:
        return f"it has format {content['format']}, this cnnlab reads format {FORMAT}"
    # The files last: digests of large arrays take time, and the manifest is now known to be right.
    recorded, present = content["files"], _digests(folder)
    for name, expected in recorded.items():
        if name not in present:
            return f"{name} is missing"
        if present[name] != expected:
            return f"{name} has digest {present[name][:12]}…, expected {expected[:12]}…"
    extra = sorted(set(present) - set(recorded))
    return f"{extra[0]} does not belong there" if extra else None


def _read(folder: pathlib.Path, shapes: TrainState) -> TrainState:
    """Returns the host tree of a step folder, in NumPy arrays of the wanted shapes."""
    wanted = named_leaves(shapes)
    targets = {path: np.empty(leaf.shape, leaf.dtype) for path, leaf in wanted.items()}
    with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as reader:
        restored = reader.restore(folder / "state", targets)
    return jax.tree.unflatten(jax.tree.structure(shapes), [restored[path] for path in wanted])


def _shapes_as_stored(shapes: TrainState, stored: Mapping[str, Any]) -> TrainState:
    """Returns the shapes, without averaged batch statistics where the checkpoint has none, as those of older versions."""
    is_wanted = any(path.startswith(STATISTICS) for path in describe(shapes))
    if not is_wanted or any(path.startswith(STATISTICS) for path in stored):
        return shapes
    return dataclasses.replace(shapes, average_statistics={})


def _with_statistics(state: TrainState, folder: pathlib.Path) -> TrainState:
    """Returns the state of an older version with averaged batch statistics that start from the raw ones, and says so."""
    log.warning(
        "WARNING: %s was written by a version that averaged the weights but not the statistics of batch normalisation: "
        "the average of these starts from the statistics of the weights before averaging.",
        folder,
    )
    return dataclasses.replace(state, average_statistics=averages.batch_statistics(state.model_state))


def _check_leaves(
    folder: pathlib.Path, stored: Mapping[str, Any], wanted: Mapping[str, list[Any]], *, trains: bool = True
) -> None:
    """Raises CheckpointError where tree, shapes or dtypes differ; the error names at most ten leaves."""
    rows = [f"missing     {path} {wanted[path]}" for path in wanted if path not in stored]
    rows += [f"unexpected  {path} {stored[path]}" for path in stored if path not in wanted]
    rows += [
        f"differs     {p}: stored {stored[p]}, wanted {wanted[p]}" for p in wanted if p in stored and stored[p] != wanted[p]
    ]
    if rows:
        more = f"\n  … and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
        raise CheckpointError(
            f"the checkpoint {folder} belongs to another network or optimiser; {len(rows)} leaves do not match:\n  "
            + "\n  ".join(rows[:MOST_NAMED])
            + more
            + (
                "\nUse another --workdir, or --overwrite to train from the start."
                if trains
                else "\nLeave out the knobs that change the network: --workdir alone says what was trained there."
            )
        )
