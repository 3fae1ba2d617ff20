"""The table of results of the shipped experiments, made from the folders of their runs. Imports no jax.

A record of each experiment is kept, so that its row can be written again when the folders of its runs are gone.
"""

import ast
import dataclasses
import pathlib
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnlab import files, home
from cnnlab.ablation.analyse.statistics import mean_interval
from cnnlab.ablation.analyse.words import ALPHA
from cnnlab.ablation.plan.study import metrics_from_json
from cnnlab.errors import DataError, UsageError
from cnnlab.metric import Metric
from cnnlab.overview.find import look
from cnnlab.overview.rows import RunRow, iso_time
from cnnlab.runs import run_files
from cnnlab.runs.catalogue import experiment_files
from cnnlab.runs.revision import describe_commit
from cnnlab.text import without_own_paths

BEGIN, END = "<!-- results: written by `python launch.py results` -->", "<!-- end of results -->"
HEADS = ("experiment", "what", "result", "steps", "published", "command")
WITHOUT_EFFECT = (
    *("seed", "seeds", "workdir", "overwrite", "allow", "stop_after", "data_dir", "log_level", "debug"),
    *("devices", "fake_devices", "strategy", "remat", "num_processes", "process_id", "coordinator"),
    *("step_timeout", "start_timeout", "grace_s", "log_every", "save_every", "steps_per_dispatch"),
    *("gradient_norms", "nogradient_norms"),
)
"""Flags that a command of the table leaves out: they do not change which experiment it is."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What the runs of one experiment with the same settings gave. The content of an entry of its record."""

    settings: tuple[str, ...]
    """Flags beyond the name of the experiment, such as `--model=resnet18`."""
    metric: str
    """SPLIT/NAME."""
    declared: Metric
    values: Mapping[int, float]
    """{seed: number}."""
    steps: int
    commits: tuple[str, ...]
    """Commits of the code of its runs; with ` and changes` where there were uncommitted changes."""
    finished: float
    """The time at which its last run ended, in seconds since 1970."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Result":
        """Returns the result from JSON content that `dataclasses.asdict` made of it."""
        declared = metrics_from_json({"one": content["declared"]})["one"]
        values = {int(seed): float(value) for seed, value in content["values"].items()}
        lists = {name: tuple(content[name]) for name in ("settings", "commits")}
        return cls(**{**content, **lists, "declared": declared, "values": values})


def write_results(places: Sequence[pathlib.Path], records: pathlib.Path, page: pathlib.Path) -> list[str]:
    """Writes the records of the experiments whose finished runs lie below folders, and the table into the page.

    Args:
        places: folders of runs; none: the table is written again from the records.
        records: folder of the records.
        page: file with the marks BEGIN and END, between which the table is replaced.

    Returns:
        The names of the experiments whose records were written.
    """
    if not page.is_file():
        raise UsageError(f"{page}: no such file.\nExpected one with the lines {BEGIN} and {END}. Name it by --to=FILE.")
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UsageError(f"{page} has no place for the table.\nExpected the lines {BEGIN} and {END}, each once. Add them.")
    found = collect(places) if places else {}
    files.make_folder(records)
    for experiment, results in found.items():
        path = records / f"{experiment}.json"
        kept = {one.settings: one for one in read_results(path)}
        # A record of more seeds stays.
        kept |= {one.settings: one for one in results if len(one.values) >= len(getattr(kept.get(one.settings), "values", ()))}
        files.write_json(path, [dataclasses.asdict(one) for one in sorted(kept.values(), key=lambda one: one.settings)])
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    files.write_text(page, f"{before}{BEGIN}\n{results_table(records)}\n{END}{after}")
    return list(found)


def collect(places: Sequence[pathlib.Path]) -> dict[str, list[Result]]:
    """Returns {experiment: its results} of the finished runs below folders that belong to no study.

    Raises UsageError where there is none of an experiment of this repository.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[RunRow]] = {}
    known = shipped()
    for row in look(places).loose:
        if row.state == "finished" and row.experiment in known and row.precision == "f32" and row.value is not None:
            groups.setdefault((row.experiment, settings_of(row.trained_by)), []).append(row)
    if not groups:
        raise UsageError(
            f"there is no finished run of an experiment of this repository in {', '.join(map(str, places))}.\n"
            f"Train one: {home.COMMAND} --experiment=lenet5_digits --seeds=5"
        )
    found: dict[str, list[Result]] = {}
    for (experiment, settings), rows in groups.items():
        commits = [describe_commit(run_files.read(row.folder, run_files.RUN) or {}) for row in rows]
        values = {row.seed: row.value for row in rows if row.seed is not None and row.value is not None}
        one, last = rows[0], max(row.changed or 0.0 for row in rows)
        values = dict(sorted(values.items()))
        result = Result(settings, one.metric, one.shown_metric, values, one.step, tuple(dict.fromkeys(commits)), last)
        found.setdefault(experiment, []).append(result)
    return found


def settings_of(command: str) -> tuple[str, ...]:
    """Returns the flags of a command that change what is trained, sorted; FOLDER replaces the folders of this machine."""
    kept = []
    for word in shlex.split(command):
        name = word.lstrip("-").partition("=")[0]
        if word.startswith("--") and name not in ("experiment", *WITHOUT_EFFECT):
            kept.append(without_own_paths(word))
    return tuple(sorted(kept))


def shipped() -> dict[str, pathlib.Path]:
    """Returns {name: file} of the experiments that have a row: all but the studies of claims, which docs/claims shows."""
    return {name: path for name, path in experiment_files().items() if path.parent.name != "claims"}


def read_results(path: pathlib.Path) -> list[Result]:
    """Returns the results of a record; none where there is no such file."""
    content = files.read_json(path) if path.exists() else []
    if not isinstance(content, list):
        raise DataError(f"{path} is no record of results: expected a list in JSON. Bring the file back from the repository.")
    return [Result.from_json(one) for one in content]


def results_table(records: pathlib.Path) -> str:
    """Returns the table as Markdown: a row for each setting of each experiment, and one for each without a record."""
    lines = [f"| {' | '.join(HEADS)} |", f"|{'|'.join('---' for _ in HEADS)}|"]
    for name, path in shipped().items():
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        what, published = doc.partition("\n")[0].rstrip("."), _entry(doc, "Published") or "–"
        results = read_results(records / f"{name}.json")
        for one in results:
            seeds = f" --seeds={len(one.values)}" if len(one.values) > 1 else ""
            command = shlex.join([*home.WORDS, f"--experiment={name}", *one.settings]) + seeds
            cells = (f"`{name}`", what, describe(one), f"{one.steps:,}", published, f"`{command}`")
            lines.append(f"| {' | '.join(cells)} |")
        if not results:
            command = f"`{home.COMMAND} --experiment={name}`"
            cells = (f"`{name}`", what, _earlier(doc), "–", published, command)
            lines.append(f"| {' | '.join(cells)} |")
    last = max((one.finished for path in records.glob("*.json") for one in read_results(path)), default=None)
    note = "Mean over seeds with the 95 % interval of the mean, by Student's t."
    return "\n".join([*lines, "", f"{note} The last run ended on {iso_time(last)[:10]}." if last else note])


def _earlier(doc: str) -> str:
    """Returns what an experiment's docstring says of its result, as far as one sentence goes, marked as an earlier number."""
    said = re.split(r"(?<=[a-z%)0-9])[.;] ", f"{_entry(doc, 'Result')} ")[0].strip(" .")
    if said.count("(") > said.count(")"):  # the sentence was cut inside of parentheses
        said = said.rpartition("(")[0].strip()
    return f"earlier: {said}" if said else "not run yet"


def describe(result: Result) -> str:
    """Returns `accuracy 97.2 % [96.8, 97.6], 5 seeds` of a result; of one seed it says so."""
    declared, values = result.declared, list(result.values.values())
    split = result.metric.partition("/")[0]
    label = f"{declared.label}{'' if split == 'test' else f' on {split}'}"
    unit = f" {declared.shown_unit}" if declared.shown_unit else ""
    mean = f"{label} {_number(statistics.fmean(values), declared)}{unit}"
    if len(values) == 1:
        return f"{mean}, one seed"
    interval = mean_interval(np.asarray(values), ALPHA, bounds=declared.bounds)
    if interval is None:
        return f"{mean}, the same with {len(values)} seeds"
    return f"{mean} [{_number(interval.low, declared)}, {_number(interval.high, declared)}], {len(values)} seeds"


def _number(value: float, declared: Metric) -> str:
    shown = f"{value * 100:.2f}" if declared.is_share else f"{value:.4g}"
    return shown.replace("-", "−")


def _entry(doc: str, name: str) -> str:
    """Returns the entry `Name: …` of an experiment's docstring as one line; empty where it has none."""
    found = re.search(rf"^{name}:\s+(.*(?:\n[ ]{{10,}}.*)*)", doc, flags=re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
