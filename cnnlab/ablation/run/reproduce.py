"""Runs a run or a study again, in a folder next to it, and compares bits and metrics."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.study import Study
from cnnlab.ablation.run import runs
from cnnlab.errors import UsageError
from cnnlab.runs import identity, run_files
from cnnlab.runs.run_files import read_run

TOLERANCE = 1e-6
"""Relative difference of a metric below which two runs agree: another machine adds in another order."""
DIGESTS = ("params_digest", "state_digest")


def command_of(run: Mapping[str, Any], folder: pathlib.Path, *, data_dir: str | None = None) -> list[str]:
    """Returns the words after `launch.py` that repeat the run of a run.json in another folder.

    Args:
        run: the content of run.json.
        folder: where the second run goes.
        data_dir: where the data are now; None: as recorded.
    """
    flags = {name: value for name, value in run["flags"].items() if value is not None}
    flags |= {"data_dir": data_dir} if data_dir else {}
    return [
        "train",
        f"--experiment={run['experiment']}",
        *(f"--{path}={_text(value)}" for path, value in run["knobs"].items()),
        *(f"--{name}={value}" for name, value in flags.items()),
        f"--workdir={folder}",
    ]


def _text(value: Any) -> str:
    """Returns a knob's recorded value as on the command line."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def again(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the second run."""
    return folder.with_name(f"{folder.name}-again")


def require_done(folder: pathlib.Path) -> dict[str, Any]:
    """Returns run.json of a finished run; raises UsageError for any other."""
    run = read_run(folder)
    run_files.require_undamaged([folder])
    state = (run_files.read(folder, run_files.STATUS) or {}).get("state", "MISSING")
    if state != "DONE":
        raise UsageError(f"{folder} is {state}, not DONE, so there is nothing to compare with. Finish it first.")
    return run


def compared(before: pathlib.Path, after: pathlib.Path) -> tuple[bool, str]:
    """Returns (whether the metrics agree, a description of the difference)."""
    old, new = (run_files.read(folder, run_files.RESULT) or {} for folder in (before, after))
    if not new:
        return False, f"{after} was not finished"
    same = all(old[name] == new[name] for name in DIGESTS)
    differing = [
        f"{name}: {value:.6g} then, {new['metrics'].get(name, math.nan):.6g} now"
        for name, value in old["metrics"].items()
        if name not in new["metrics"] or not _agree(value, new["metrics"][name])
    ]
    if same and not differing:
        return True, "the same to the last bit: parameters, optimiser state and metrics"
    causes = _causes(*(read_run(folder) for folder in (before, after)))
    because = f"; what changed in between: {', '.join(causes)}" if causes else "; nothing that is recorded changed in between"
    if differing:
        return False, f"metrics differ ({'; '.join(differing)}){because}"
    return True, f"the same metrics within {TOLERANCE:g}, but not the same bits{because}"


def _agree(then: float, now: float) -> bool:
    """Returns whether a metric is the same within TOLERANCE, or not finite in the same way."""
    return math.isclose(then, now, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (math.isnan(then) and math.isnan(now))


def _causes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns what is recorded of the two runs and differs."""
    found = [
        name for name in ("commit", "uncommitted_changes", "host", "platform", "devices") if old.get(name) != new.get(name)
    ]
    if None not in (code := [identity.code_summary(run) for run in (old, new)]) and code[0] != code[1]:
        found.append("the code")
    if old["data"]["fingerprint"] != new["data"]["fingerprint"]:
        found.append("the data")
    libraries = {**old["versions"], **new["versions"]}
    return found + [name for name in libraries if old["versions"].get(name) != new["versions"].get(name)]


def reproduce_run(
    folder: pathlib.Path, target: pathlib.Path, launch: Callable[[Sequence[str]], int], *, data_dir: str | None = None
) -> tuple[bool, str]:
    """Runs one run again.

    Args:
        folder: folder of the run.
        target: where the second one goes; an interrupted attempt there is continued.
        launch: runs a command line, given the words after `launch.py`; returns its exit code.
        data_dir: where the data are now; None: as recorded.
    """
    run = require_done(folder)
    code = launch(command_of(run, target, data_dir=data_dir))
    if code:
        return False, f"the second run ended with exit code {code}"
    return compared(folder, target)


def compare_study(study: Study, folder: pathlib.Path, target: pathlib.Path) -> tuple[bool, str]:
    """Returns (whether every finished run of a study agrees with its repetition, a line for each)."""
    lines, agree = [], True
    study = dataclasses.replace(study, above="")  # the runs of a repetition that was not finished are not the first ones
    for before, after in zip(runs.study_runs(study, folder), runs.study_runs(study, target), strict=True):
        if before.state != "DONE":
            lines.append(f"  {before.arm.name}, seed {before.seed}: was {before.state}, now {after.state}")
            agree &= before.state == after.state
            continue
        fine, text = compared(before.folder, after.folder)
        agree &= fine
        lines.append(f"  {before.arm.name}, seed {before.seed}: {text}")
    return agree, "\n".join(lines)
