"""Compares the runs of a study, or any others, with today's code, data and initial weights."""

import dataclasses
import logging
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from cnnlab.core import Experiment
from cnnlab.errors import CnnlabError, DataError, UsageError
from cnnlab.runs import identity, run_files
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.folder import RunSpec, changed_conditions, has_progress

log = logging.getLogger("cnnlab")

NAMED_RUNS = 3
"""Runs that are named for each difference; of the others only the number is shown."""

Cell = tuple[pathlib.Path, int | None, RunSpec, Experiment | None]
"""Folder of a run, its seed, what it would be today, and its experiment as built; None: its data are not compared."""


@dataclasses.dataclass(frozen=True)
class Today:
    """What differs between runs that are there and the same runs by today's code, data and devices."""

    found: dict[identity.Difference, list[pathlib.Path]]
    """{difference: folders of the runs that have it}."""
    conditions: dict[str, list[pathlib.Path]]
    """{difference in strategy, devices or versions, in words: folders}; it does not make another run."""
    count: int
    """Number of runs that are there."""
    missing: set[str]
    """What runs of an older version did not record."""


def spec_today(
    loaded: ExperimentFile, knobs: dict[str, object], precision: str, *, strategy: str = "jit", devices: int | None = None
) -> RunSpec:
    """Returns the specification of a run with these knobs by today's code."""
    resolved = loaded.resolve(knobs)
    return RunSpec(
        loaded.name,
        resolved.values,
        precision,
        source="",
        strategy=strategy,
        devices=devices,
        reread=resolved.reread,
        sources=loaded.sources(resolved),
    )


def recorded_cells(folders: Iterable[pathlib.Path], loaded: ExperimentFile) -> Iterator[Cell]:
    """Yields the runs in folders as they would be today; the experiment is built once for each data set among them."""
    built: dict[str, Experiment] = {}
    for folder in folders:
        run = run_files.read(folder, run_files.RUN)
        if run is None:
            continue
        flags = run["flags"]
        spec = spec_today(
            loaded, run["knobs"], flags["precision"], strategy=flags.get("strategy", "jit"), devices=flags.get("devices")
        )
        known = run["data"]["fingerprint"]
        if known not in built:
            built[known] = loaded.resolve(run["knobs"]).call()
        yield folder, None, spec, built[known]


def differences_today(cells: Iterable[Cell], flags: Mapping[str, str | None] | None = None) -> Today:
    """Returns what differs between the runs that are there, of all that may be, and today.

    `flags` are those of `require_same_runs`.
    """
    today = Today({}, {}, 0, set())
    for folder, seed, spec, experiment in cells:
        run = run_files.read(folder, run_files.RUN)
        if run is None or not has_progress(folder):
            continue
        there = identity.recorded_identity(run, spec.reread)
        missing = set(identity.unknown_parts(there)) if spec.sources is not None else set()
        for difference in identity.differences(there, spec.identity(seed, experiment)):
            today.found.setdefault(difference, []).append(folder)
        given = identity.counting_flags(run)
        for name, value in (flags or {}).items():
            if given.get(name) != value:
                text = f"--{name}: {given.get(name, 'not given')} there, {value or 'not given'} now"
                today.found.setdefault(identity.Difference(name, text), []).append(folder)
        if changed := changed_conditions(run, spec):
            today.conditions.setdefault(changed, []).append(folder)
        today = dataclasses.replace(today, count=today.count + 1, missing=today.missing | missing)
    return today


def require_same_runs(
    cells: Iterable[Cell], allow: Collection[str], *, remedy: str, flags: Mapping[str, str | None] | None = None
) -> None:
    """Raises an error that names what differs between runs that are there and today, unless that is allowed and said.

    Another strategy, other devices and other versions of libraries are said.

    Args:
        cells: the runs; those that were never begun are left out.
        allow: kinds of identity.ALLOWED, or flags, that may differ.
        remedy: what else to do, in words that follow `or`.
        flags: {run flag of identity.COUNTING that must agree: its value in the command, None where it is not given}.
    """
    today = differences_today(cells, flags)
    _say_missing(today)
    refused = {one: folders for one, folders in today.found.items() if one.kind not in allow}
    if not refused:
        if today.found:
            log.warning("accepted by --allow:\n%s", _rows(today.found, today.count))
        if today.conditions:
            log.info("runs that are there were last trained otherwise:\n%s", _rows(today.conditions, today.count))
        return
    kinds = sorted({one.kind for one in refused})
    is_allowable = set(kinds) <= {*identity.ALLOWED, *identity.COUNTING}
    accept = f", or accept the difference knowingly with --allow={','.join(sorted({*allow, *kinds}))}" if is_allowable else ""
    text = (
        f"runs that are there are not those of today; nothing was started:\n{_rows(refused, today.count)}\n"
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
        today = differences_today(recorded_cells(folders, load()))
    except CnnlabError as error:
        log.warning("not compared with today's code and data: %s", str(error).partition("\n")[0])
        return
    _say_missing(today)
    if today.found:
        rows = _rows(today.found, today.count)
        log.warning("changed since these runs were made; the report shows what they measured then:\n%s", rows)


def _say_missing(today: Today) -> None:
    """Says what runs of an older version did not record."""
    if today.missing:
        missing = " and ".join(sorted(today.missing))
        log.info("runs of an older version recorded no digest of their %s: not compared.", missing)


def _rows(found: Mapping[identity.Difference, list[pathlib.Path]] | Mapping[str, list[pathlib.Path]], count: int) -> str:
    """Returns a line for each difference with the runs that have it."""
    lines = []
    for one, folders in found.items():
        named = ", ".join(str(folder) for folder in folders[:NAMED_RUNS])
        more = f" and {len(folders) - NAMED_RUNS} more" if len(folders) > NAMED_RUNS else ""
        text = one if isinstance(one, str) else one.text
        lines.append(f"  {text} ({len(folders)} of {count} runs: {named}{more})")
    return "\n".join(lines[:10])
