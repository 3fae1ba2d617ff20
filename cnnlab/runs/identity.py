"""Which run a folder holds, by content: knobs, seed, code, data, initial weights; and what differs from what a command means.

One function compares (`require_same`), and every verb calls it before it trains, measures or writes. Imports no jax.
"""

import ast
import contextlib
import dataclasses
import json
import logging
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from cnnlab.digests import digest
from cnnlab.errors import CnnlabError, DataError, UsageError, did_you_mean
from cnnlab.inputs import fit_in_words
from cnnlab.own import items, split_part
from cnnlab.runs.weights_digest import content_digest
from cnnlab.sources import DIGITS, code_digest, differing_files

log = logging.getLogger("cnnlab")

ALLOWED = ("code", "data", "weights")
"""Differences that --allow accepts; one of the others makes it another run."""
COUNTING = ("log_every", "skip_nonfinite")
"""Run flags that change numbers: those of training are means since the last log line, and a step that is left out would have
ended the run as diverged."""
NAMED_FILES = 6
"""Files of code that are named in a line."""

Reread = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a run is. None stands for what is not known, which is compared with nothing."""

    experiment: str
    """Name of a file in experiments/, or the path of an own file."""
    precision: str
    knobs: Mapping[str, Any]
    seed: int | None = None
    sources: Mapping[str, str] | None = None
    """{file: digest of its code} as of `sources.code_digests`."""
    data: str | None = None
    """Fingerprint of the data set."""
    weights: Mapping[str, str] | None = None
    """{knob: digest of the file or run that it names}."""
    fit: Mapping[str, Any] | None = None
    """Rule by which the images were brought to size, which is a part of the fingerprint and explains it."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference between a run and what a command means."""

    kind: str
    """experiment, knobs, seed, code, data, weights or a flag of COUNTING."""
    text: str
    """What differs: there, and now."""


def recorded_identity(run: Mapping[str, Any], reread: Reread | None = None) -> Identity:
    """Returns the identity in the content of a run.json, as of the latest attempt.

    Args:
        run: the content.
        reread: recorded knobs -> the same by today's signatures, for the run of an older version; None: as they are.
    """
    knobs = run["knobs"]
    with contextlib.suppress(CnnlabError):  # today's function may take other knobs
        knobs = plain(reread(knobs)) if reread else knobs
    newest: dict[str, Any] = {name: run.get(name) for name in ("weights", "data")}
    for attempt in run.get("attempts", ()):
        newest |= {name: attempt[name] for name in newest if attempt.get(name) is not None}
    sources = latest_sources(run)
    if sources is None and run["experiment"].endswith(".py") and run.get("source"):
        # An older version kept the text of an own file, and nothing of what it imports.
        sources = {pathlib.Path(run["experiment"]).name: code_digest(ast.parse(run["source"]))}
    flags = run.get("flags") or {}
    return Identity(
        run["experiment"],
        (run.get("identity") or flags).get("precision", "f32"),
        knobs,
        flags.get("seed"),
        sources,
        (newest["data"] or {}).get("fingerprint"),
        newest["weights"],
        (newest["data"] or {}).get("fit"),
    )


def differences(there: Identity, now: Identity) -> list[Difference]:
    """Returns what differs between a run and what a command means, in everything that both know."""
    found = []
    if not same_experiment(there.experiment, now.experiment):
        found.append(Difference("experiment", f"experiment: {there.experiment} there, {now.experiment} now"))
    if there.precision != now.precision:
        found.append(Difference("knobs", f"precision: {there.precision!r} there, {now.precision!r} now"))
    for name in sorted({*there.knobs, *now.knobs}):
        before, after = there.knobs.get(name), now.knobs.get(name)
        if before != after and not _same_content(name, there, now):
            found.append(Difference("knobs", f"--{name}: {before!r} there, {after!r} now"))
    if None not in (there.seed, now.seed) and there.seed != now.seed:
        found.append(Difference("seed", f"seed: {there.seed} there, {now.seed} now"))
    if files := _changed_code(there, now):
        found.append(Difference("code", f"the code of {_first(files)}"))
    for name in sorted({*(there.weights or {}), *(now.weights or {})} if None not in (there.weights, now.weights) else ()):
        digests = [str((one.weights or {}).get(name, "none"))[:12] for one in (there, now)]
        if digests[0] != digests[1]:
            place = now.knobs.get(name) or there.knobs.get(name)
            found.append(Difference("weights", f"the content of --{name}={place}: {digests[0]} there, {digests[1]} now"))
    if None not in (there.data, now.data) and there.data != now.data:
        text = f"the data: fingerprint {str(there.data)[:12]} there, {str(now.data)[:12]} now{_other_fit(there.fit, now.fit)}"
        found.append(Difference("data", text))
    return found


def _other_fit(there: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """Returns how images were brought to size and are now, where that is a reason for another fingerprint; else nothing."""
    if there is None:
        return "; an older version resized images to other grey levels" if "format" in (now or {}) else ""
    if now is None or there == now:
        return ""
    return f"; images were brought to size by {fit_in_words(there)}, and now by {fit_in_words(now)}"


def same_experiment(there: str, now: str) -> bool:
    """Returns whether both name the same experiment; own files of one name differ in their code, which is compared too."""
    return there == now or (there.endswith(".py") and pathlib.Path(there).name == pathlib.Path(now).name)


def is_data(knob: str) -> bool:
    """Returns whether a knob, by its path, names the data set; its content has the data's fingerprint."""
    return knob.rpartition(".")[2] == "dataset"


def _same_content(name: str, there: Identity, now: Identity) -> bool:
    """Returns whether two values of a knob are spellings of what other digests compare: data, weights, an own part."""
    before, after = str(there.knobs.get(name)), str(now.knobs.get(name))
    if split_part(before) and split_part(after):
        return _without_folders(before) == _without_folders(after)
    if is_data(name):
        kinds = [text.partition(":")[0] for text in (before, after)]
        return kinds[0] == kinds[1] and all(_is_path(text.partition(":")[2]) for text in (before, after))
    digests = [(one.weights or {}).get(name) for one in (there, now)]
    return digests[0] is not None and digests[0] == digests[1]


def _without_folders(value: str) -> list[Any]:
    """Returns the items of a list with own parts, each part with the name of its file alone."""
    parts = [(item, split_part(item)) for item in items(value)]
    return [(part[0].name, *part[1:]) if part else item for item, part in parts]


def _is_path(text: str) -> bool:
    return "/" in text or "\\" in text or "." in text


def _changed_code(there: Identity, now: Identity) -> list[str]:
    """Returns the files whose code differs; of a run that knows its own file alone, that file is compared."""
    if there.sources is None or now.sources is None:
        return []
    is_partial = len(there.sources) == 1 and len(now.sources) > 1
    known = {name: value for name, value in now.sources.items() if name in there.sources} if is_partial else now.sources
    return differing_files(there.sources, known)


def plain(value: Any) -> Any:
    """Returns a value of a knob as run.json holds it."""
    return json.loads(json.dumps(value))


def _first(names: Collection[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:NAMED_FILES]) + (f" and {len(listed) - NAMED_FILES} more" if len(listed) > NAMED_FILES else "")


def unknown_parts(there: Identity) -> list[str]:
    """Returns in words what a run of an older version did not record."""
    return [name for name, value in (("code", there.sources), ("initial weights", there.weights)) if value is None]


def check_allow(allow: Iterable[str], known: Collection[str] = ALLOWED) -> None:
    """Raises UsageError for a word of --allow that is no kind of difference."""
    for kind in allow:
        if kind not in known:
            raise UsageError(f"--allow={kind}: no such difference.{did_you_mean(kind, list(known))} Known: {', '.join(known)}.")


def require_same(
    folder: pathlib.Path, there: Identity, now: Identity, *, allow: Collection[str], said: set[str], remedy: str
) -> tuple[str, ...]:
    """Raises an error that names what differs, unless it is allowed; returns the kinds that differ and are allowed.

    Args:
        folder: folder of the run.
        there: what it records.
        now: what the command means.
        allow: kinds of ALLOWED that may differ; each is then said in a line.
        said: the lines that the command has said already; lines are added.
        remedy: what to do instead, in a sentence.
    """
    check_allow(set(allow) & set(ALLOWED))
    found = differences(there, now)
    if refused := [one for one in found if one.kind not in allow]:
        raise _error(folder, there, now, refused, allow, remedy)
    for one in found:
        say_once(f"--allow={one.kind}: {folder} goes on with a difference: {one.text}", said, warning=True)
    missing = unknown_parts(there) if now.sources is not None else []
    if missing:
        say_once(
            f"this run is of an older version, which recorded no digest of its {' and '.join(missing)}: not compared.", said
        )
    return tuple(dict.fromkeys(one.kind for one in found))


def _error(
    folder: pathlib.Path, there: Identity, now: Identity, found: list[Difference], allow: Collection[str], remedy: str
) -> CnnlabError:
    """Returns the error that says what differs and how to go on."""
    kinds = list(dict.fromkeys(one.kind for one in found))
    rows = "\n".join(f"  {one.text}" for one in found[:10]) + (f"\n  and {len(found) - 10} more" if len(found) > 10 else "")
    if kinds == ["seed"]:
        return UsageError(
            f"{folder} holds the run of seed {there.seed}, not of seed {now.seed}.\n"
            f"For that run, add --seed={there.seed}; to train seed {now.seed}, give another --workdir, or none."
        )
    if set(kinds) <= set(ALLOWED):
        accept = ",".join(sorted({*allow, *kinds}))
        text = (
            f"{' and '.join(kinds)} changed since {folder} was begun:\n{rows}\n"
            f"Put back what it was begun with, or {remedy}, or accept the difference knowingly with --allow={accept}."
        )
        return DataError(text) if kinds == ["data"] else UsageError(text)
    what = "other knobs" if "experiment" not in kinds else "another experiment"
    return UsageError(f"{folder} holds a run of {what}:\n{rows}\n{remedy[0].upper()}{remedy[1:]}.")


def say_once(line: str, said: set[str], *, warning: bool = False) -> None:
    """Logs a line unless this command has said it already."""
    if line not in said:
        said.add(line)
        log.log(logging.WARNING if warning else logging.INFO, line)


def weights_of(knobs: Mapping[str, Any]) -> dict[str, str]:
    """Returns {knob: digest of its content} of every knob that names a file or a run, but for data sets and code."""
    found = {}
    for name, value in knobs.items():
        if not isinstance(value, str) or is_data(name) or split_part(value):
            continue
        for text in (value, value.partition(":")[2]):
            if _is_path(text) and (path := pathlib.Path(text)).exists():
                found[name] = content_digest(path)
                break
    return found


def own_parts(knobs: Mapping[str, Any]) -> list[pathlib.Path]:
    """Returns the own files whose functions knobs name."""
    parts = [split_part(item) for value in knobs.values() if isinstance(value, str) for item in items(value)]
    return [part[0] for part in parts if part and part[0].is_file()]


def latest_sources(run: Mapping[str, Any]) -> dict[str, str] | None:
    """Returns the digests of the code of a run as of its latest attempt; None where they are not recorded."""
    if run.get("sources") is None:
        return None
    found = dict(run["sources"])
    for attempt in run.get("attempts", ()):
        found |= attempt.get("sources") or {}
    return {name: value for name, value in found.items() if value is not None}


def changed_sources(there: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """Returns {file: digest now, or None where it is gone} of the files whose code differs."""
    return {name: now.get(name) for name in sorted({*there, *now}) if there.get(name) != now.get(name)}


def code_summary(run: Mapping[str, Any]) -> str | None:
    """Returns one digest of all the code of a run, as of its latest attempt; None where it is not recorded."""
    newest = latest_sources(run)
    return digest(f"{name} {value}\n" for name, value in sorted(newest.items()))[:DIGITS] if newest else None


def counting_flags(run: Mapping[str, Any]) -> dict[str, str]:
    """Returns {flag of COUNTING: its value} of those that the run of a run.json, or an attempt at it, was given."""
    given = {**(run.get("flags") or {})}
    for attempt in run.get("attempts", ()):
        given |= {name: attempt[name] for name in COUNTING if attempt.get(name) is not None}
    return {name: str(given[name]) for name in COUNTING if given.get(name) is not None}


def latest_conditions(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the latest attempt of a run.json: strategy, devices and versions. Older versions have none, and the run's own."""
    flags = run.get("flags") or {}
    first = {**run, "strategy": flags.get("strategy"), "devices": (run.get("devices") or [])[: flags.get("devices")]}
    return [first, *run.get("attempts", ())][-1]


def describe_conditions(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns how two attempts differ in what makes no other run: strategy, remat, devices, versions; empty where they agree.

    Args:
        there: an attempt of a run.json.
        now: the same of this command.
    """
    rows = []
    if there.get("strategy") not in (None, now["strategy"]):
        rows.append(f"strategy {there['strategy']} there, {now['strategy']} now")
    if there.get("remat", "none") != now["remat"]:
        rows.append(f"--remat={there.get('remat', 'none')} there, {now['remat']} now")
    devices = [counted_devices(one.get("devices")) for one in (there, now)]
    if devices[0] and devices[0] != devices[1]:
        rows.append(f"{devices[0]} there, {devices[1]} now")
    before, after = there.get("versions") or {}, now["versions"]
    rows += [
        f"{name} {before[name]} there, {after[name]} now" for name in after if before.get(name, after[name]) != after[name]
    ]
    return "; ".join(rows)


def counted_devices(devices: Any) -> str:
    """Returns a list of devices in words, such as `2 × cpu: cpu`; nothing where they are not known."""
    names = list(devices or ())
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
