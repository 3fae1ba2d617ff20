"""Says where a claim's study departed from its declaration, by what its runs recorded. Imports no jax."""

import calendar
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cnnlab.ablation.run.runs import StudyRun
from cnnlab.runs import run_files
from cnnlab.runs.identity import counting_flags
from cnnlab.sources import differing_files

MOST_NAMED = 4
"""Files that are named one by one."""


def deviations(declaration: Mapping[str, Any], study_runs: Sequence[StudyRun]) -> tuple[str, ...]:
    """Returns a sentence for each kind of departure; none: the runs are as declared.

    Args:
        declaration: the content of declaration.json.
        study_runs: every run of the study; those that were never begun are left out.
    """
    recorded = [(one.seed, run) for one in study_runs if (run := run_files.read(one.folder, run_files.RUN)) is not None]
    found = _early(declaration, recorded)
    found += _untraced(declaration, [run for _, run in recorded], "runs were made")
    names = {name for _, run in recorded for name in differing_files(declaration["sources"], _shared(declaration, run))}
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        found.append(f"Code changed between declaration and runs: {', '.join(sorted(names)[:MOST_NAMED])}{more}.")
    flags = sorted({f"--{name}={value}" for _, run in recorded for name, value in counting_flags(run).items()})
    if flags:
        found.append(f"Runs were made with {' and '.join(flags)}, which the declaration does not have.")
    accepted = {kind for _, run in recorded for one in run.get("attempts", ()) for kind in one.get("allowed", ())}
    if accepted:
        found.append(f"Runs went on with differences that --allow={','.join(sorted(accepted))} accepted.")
    return tuple(found)


def measured_deviations(
    declaration: Mapping[str, Any], content: Mapping[str, Any], every: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Returns a sentence for each kind of departure of a measurement.

    Args:
        declaration: the content of declaration.json.
        content: that of measurement.json.
        every: what it holds of each declared seed.
    """
    found = _untraced(declaration, every, "seeds were measured")
    if early := sum(one["time"] < declaration["time"] for one in every):
        found.append(f"{early} of {len(every)} seeds were measured before the declaration, so they could be looked at.")
    if content["sources"] != declaration["sources"]:
        found.append("Code changed between the declaration and the measurement.")
    return tuple(found)


def _untraced(declaration: Mapping[str, Any], made: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    """Returns sentences about code that no commit holds; `what` is `runs were made`, or the same of seeds."""
    found = []
    if declaration["commit"] is None:
        found.append("The code lies in no git repository, so it is known by its digests alone.")
    if changed := sum(bool(one.get("uncommitted_changes")) for one in made):
        found.append(f"{changed} of {len(made)} {what} with uncommitted changes.")
    return found


def _early(declaration: Mapping[str, Any], recorded: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    """Returns a sentence about runs that were begun before the declaration: their numbers could be looked at."""
    begun = [(seed, run["attempts"][0]["time"]) for seed, run in recorded if run.get("attempts")]
    early = [(seed, when) for seed, when in begun if _seconds(when) < int(declaration["time"])]
    if not early:
        return []
    seeds, times = sorted({seed for seed, _ in early}), sorted(when for _, when in early)
    later = sorted({seed for seed, _ in begun} - set(seeds))
    added = f" Seeds added after them: {', '.join(map(str, later))}." if later else ""
    return [
        f"{len(early)} of {len(recorded)} runs were begun before the declaration (seeds {', '.join(map(str, seeds))}; "
        f"{times[0]} to {times[-1]}), so they could be looked at.{added}"
    ]


def _seconds(when: str) -> float:
    """Returns the seconds since 1970 of a time as in run.json."""
    return calendar.timegm(time.strptime(when, "%Y-%m-%dT%H:%M:%SZ"))


def _shared(declaration: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digests of a run's code, of files that the declaration has too: arms may need further ones."""
    sources = run.get("sources") or declaration["sources"]
    return {name: code for name, code in sources.items() if name in declaration["sources"]} | {
        name: code for name, code in declaration["sources"].items() if name not in sources
    }
