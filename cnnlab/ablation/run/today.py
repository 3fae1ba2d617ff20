"""Compares the runs of a study, or any others, with today's code, data and initial weights."""

import logging
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator

from cnnlab.core import Experiment
from cnnlab.errors import CnnlabError, DataError, UsageError
from cnnlab.runs import identity, run_files
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.folder import RunSpec, has_progress

log = logging.getLogger("cnnlab")

NAMED_RUNS = 3
"""Runs that are named for each difference; of the others only the number is shown."""

Cell = tuple[pathlib.Path, int | None, RunSpec, Experiment | None]
"""Folder of a run, its seed, what it would be today, and its experiment as built; None: its data are not compared."""


def spec_today(loaded: ExperimentFile, knobs: dict[str, object], precision: str) -> RunSpec:
    """Returns the specification of a run with these knobs by today's code."""
    resolved = loaded.resolve(knobs)
    return RunSpec(loaded.name, resolved.values, precision, source="", reread=resolved.reread, sources=loaded.sources(resolved))


def recorded_cells(folders: Iterable[pathlib.Path], loaded: ExperimentFile) -> Iterator[Cell]:
    """Yields the runs in folders as they would be today; the experiment is built once for each data set among them."""
    built: dict[str, Experiment] = {}
    for folder in folders:
        run = run_files.read(folder, run_files.RUN)
        if run is None:
            continue
        spec = spec_today(loaded, run["knobs"], run["flags"]["precision"])
        known = run["data"]["fingerprint"]
        if known not in built:
            built[known] = loaded.resolve(run["knobs"]).call()
        yield folder, None, spec, built[known]


def differences_today(cells: Iterable[Cell]) -> tuple[dict[identity.Difference, list[pathlib.Path]], int, set[str]]:
    """Returns ({difference: folders of the runs that have it}, number of runs that are there, what runs did not record)."""
    found: dict[identity.Difference, list[pathlib.Path]] = {}
    count, missing = 0, set()
    for folder, seed, spec, experiment in cells:
        run = run_files.read(folder, run_files.RUN)
        if run is None or not has_progress(folder):
            continue
        count += 1
        there = identity.recorded_identity(run, spec.reread)
        missing |= set(identity.unknown_parts(there)) if spec.sources is not None else set()
        for difference in identity.differences(there, spec.identity(seed, experiment)):
            found.setdefault(difference, []).append(folder)
    return found, count, missing


def require_same_runs(cells: Iterable[Cell], allow: Collection[str], *, remedy: str) -> None:
    """Raises an error that names what differs between runs that are there and today, unless that is allowed and said.

    Args:
        cells: the runs; those that were never begun are left out.
        allow: kinds of identity.ALLOWED that may differ.
        remedy: what else to do, in words that follow `or`.
    """
    found, count, missing = differences_today(cells)
    if missing:
        log.info("runs of an older version recorded no digest of their %s: not compared.", " and ".join(sorted(missing)))
    refused = {one: folders for one, folders in found.items() if one.kind not in allow}
    if not refused:
        if found:
            log.warning("accepted by --allow:\n%s", _rows(found, count))
        return
    kinds = sorted({one.kind for one in refused})
    is_allowable = set(kinds) <= set(identity.ALLOWED)
    accept = f", or accept the difference knowingly with --allow={','.join(sorted({*allow, *kinds}))}" if is_allowable else ""
    text = (
        f"runs that are there are not those of today; nothing was started:\n{_rows(refused, count)}\n"
        f"Put back what they were made with, or {remedy}{accept}."
    )
    raise DataError(text) if kinds == ["data"] else UsageError(text)


def say_today(folders: Iterable[pathlib.Path], load: Callable[[], ExperimentFile]) -> None:
    """Says in a line for each kind what changed since runs were made; a report of them stands all the same.

    Args:
        folders: folders of runs of one experiment.
        load: loads the experiment; what it raises is said, too.
    """
    try:
        found, count, missing = differences_today(recorded_cells(folders, load()))
    except CnnlabError as error:
        log.warning("not compared with today's code and data: %s", str(error).partition("\n")[0])
        return
    if missing:
        log.info("runs of an older version recorded no digest of their %s: not compared.", " and ".join(sorted(missing)))
    if found:
        log.warning("changed since these runs were made; the report shows what they measured then:\n%s", _rows(found, count))


def _rows(found: dict[identity.Difference, list[pathlib.Path]], count: int) -> str:
    """Returns a line for each difference with the runs that have it."""
    lines = []
    for one, folders in found.items():
        named = ", ".join(str(folder) for folder in folders[:NAMED_RUNS])
        more = f" and {len(folders) - NAMED_RUNS} more" if len(folders) > NAMED_RUNS else ""
        lines.append(f"  {one.text} ({len(folders)} of {count} runs: {named}{more})")
    return "\n".join(lines[:10])
