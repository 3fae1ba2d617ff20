"""Checks that runs may be compared: same data, same sizes, same number of steps, same code."""

import collections
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from cnnlab.ablation.plan.study import RunResult
from cnnlab.digests import digest
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.runs.identity import COUNTING, counted_devices, counting_flags, latest_conditions, latest_sources
from cnnlab.sources import DIGITS

Provenance = Mapping[str, Any]


def _data(provenance: Provenance) -> str:
    data = provenance.get("data") or {}
    return f"{data.get('name', 'unknown data')} with fingerprint {str(data.get('fingerprint', 'unknown'))[:12]}"


def _splits(provenance: Provenance) -> str:
    sizes = (provenance.get("data") or {}).get("sizes")
    return ", ".join(f"{split} {size}" for split, size in sorted(sizes.items())) if sizes else "unknown sizes"


def _steps(provenance: Provenance) -> str:
    return f"{provenance.get('steps', 'an unknown number of')} steps"


def _code(provenance: Provenance) -> str:
    if known := provenance.get("shared_code"):
        return f"code with digest {known}"
    changes = " with uncommitted changes" if provenance.get("uncommitted_changes") else ""
    return f"commit {str(provenance.get('commit') or 'unknown')[:12]}{changes}"


def _flag(provenance: Provenance, *, name: str) -> str:
    given = counting_flags(provenance)
    return f"--{name}={given[name]}" if name in given else "not given"


KINDS: dict[str, Callable[[Provenance], str]] = {
    "data": _data,
    "splits": _splits,
    "steps": _steps,
    "code": _code,
    **{name: functools.partial(_flag, name=name) for name in COUNTING},
}
"""Properties that must agree, with functions that read them from run.json as text; the keys are the words of --allow."""
NAMED_RUNS = 3
"""Runs named for each value that differs; of the others only the number is shown."""


def require_comparable(outcomes: Iterable[RunResult], *, allow: Collection[str] = (), logged: bool = True) -> None:
    """Raises UsageError, naming what differs and in which runs, unless the runs that are DONE differ in their arms only.

    Runs that all had uncommitted changes to one commit pass, since nothing shows that they differ; `analyse` warns of them.

    Args:
        outcomes: the results of the runs.
        allow: kinds that may differ, of KINDS; steps, for one, where the duration is a factor.
        logged: whether numbers of training may be compared, so that the interval between log lines matters.
    """
    done = [(f"{outcome.arm} seed {outcome.seed}", outcome.provenance) for outcome in outcomes if outcome.state == "DONE"]
    differing = what_differs(done, [kind for kind in KINDS if logged or kind != "log_every"], allow)
    if differing:
        raise UsageError(
            "These runs differ in more than their arms, so a difference of their results has several explanations:\n"
            + _lines(differing)
            + "\nRun the ones that differ again under the same conditions, or accept the difference with "
            + f"--allow={','.join([*sorted(allow), *differing])}."
        )


def require_same_conditions(arms: Mapping[str, Provenance], *, allow: Collection[str] = ()) -> None:
    """Raises UsageError, before anything is trained, where the arms of a plan differ in their data or in their length.

    Args:
        arms: {name: what run.json will record: `data` and `steps`}.
        allow: kinds that may differ, as of `require_comparable`.
    """
    differing = what_differs(list(arms.items()), [kind for kind in KINDS if kind != "code"], allow)
    if differing:
        raise UsageError(
            "These arms differ in more than their network and its training, so a difference of their results would have "
            "several explanations; nothing was started:\n"
            + _lines(differing)
            + "\nVary something else, or accept the difference with "
            + f"--allow={','.join([*sorted(allow), *differing])}."
        )


def code_warnings(outcomes: Iterable[RunResult]) -> list[str]:
    """Returns a warning where runs that are DONE differ in code, or changed it on their way, which --allow accepted."""
    done = [outcome for outcome in outcomes if outcome.state == "DONE"]
    codes = {_code(provenance) for _, provenance in _by_content([(outcome.arm, outcome.provenance) for outcome in done])}
    found = [f"The runs differ in code ({len(codes)} versions), which --allow=code accepts."] if len(codes) > 1 else []
    mixed = sum(any(attempt.get("allowed") for attempt in one.provenance.get("attempts", ())) for one in done)
    runs = "1 run" if mixed == 1 else f"{mixed} runs"
    return found + ([f"{runs} went on with a change that --allow accepted (run.json says which)."] if mixed else [])


def condition_warnings(outcomes: Iterable[RunResult]) -> list[str]:
    """Returns a warning where runs that are DONE differ in strategy, devices or versions, which may change last digits."""
    latest = [latest_conditions(outcome.provenance) for outcome in outcomes if outcome.state == "DONE" and outcome.provenance]
    libraries = sorted({name for one in latest for name in one.get("versions") or {}})
    kinds: dict[str, list[Any]] = {
        "strategy": [one.get("strategy") for one in latest],
        "devices": [counted_devices(one.get("devices")) for one in latest],
        **{name: [(one.get("versions") or {}).get(name) for one in latest] for name in libraries},
    }
    counts = {kind: collections.Counter(value for value in values if value) for kind, values in kinds.items()}
    rows = [
        f"{kind} {', '.join(f'{value} in {count}' for value, count in found.most_common())}"
        for kind, found in counts.items()
        if len(found) > 1
    ]
    return [f"The runs were not trained alike: {'; '.join(rows)}."] if rows else []


def what_differs(
    runs: Sequence[tuple[str, Provenance]], kinds: Sequence[str], allow: Collection[str]
) -> dict[str, dict[str, list[str]]]:
    """Returns {kind: {value: names of the runs}} of every kind in which runs differ although they may not."""
    for kind in allow:
        if kind not in (*KINDS, "weights"):
            known = ", ".join(KINDS)
            raise UsageError(f"--allow={kind}: no such difference.{did_you_mean(kind, list(KINDS))} Known: {known}.")
    runs = _by_content(runs)
    found: dict[str, dict[str, list[str]]] = {kind: {} for kind in kinds if kind not in allow}
    for kind, values in found.items():
        for name, provenance in runs:
            values.setdefault(KINDS[kind](provenance), []).append(name)
    return {kind: values for kind, values in found.items() if len(values) > 1}


def _by_content(runs: Sequence[tuple[str, Provenance]]) -> Sequence[tuple[str, Provenance]]:
    """Returns the runs with one digest of the files of code that all of them have, `shared_code`.

    A file that only some have belongs to what their arms choose, such as a network in an own file; where the code of the others
    changed so that it needs one file more, a file that all have changed too. Runs of an older version, which have their commit
    alone, make all be compared by that.
    """
    sources = [latest_sources(dict(provenance)) for _, provenance in runs]
    if not all(sources):
        return runs
    shared = set.intersection(*(set(known or ()) for known in sources)) if sources else set()
    digests = [digest(f"{name} {(known or {})[name]}\n" for name in sorted(shared))[:DIGITS] for known in sources]
    return [(name, {**provenance, "shared_code": one}) for (name, provenance), one in zip(runs, digests, strict=True)]


def _lines(differing: Mapping[str, Mapping[str, list[str]]]) -> str:
    return "\n".join(
        f"  {kind}: " + "; ".join(_named_runs(*item) for item in values.items()) for kind, values in differing.items()
    )


def _named_runs(value: str, runs: list[str]) -> str:
    more = f" and {len(runs) - NAMED_RUNS} more" if len(runs) > NAMED_RUNS else ""
    return f"{value} in {', '.join(runs[:NAMED_RUNS])}{more}"
