"""The verb runs: every run and study below a folder in rows, whatever state their files are in."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import pytest
from commands import ROOT, Here

from cnnlab import files
from cnnlab.ablation.plan.study import Arm, Pruning, Study
from cnnlab.ablation.run import runs
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.overview import find, show
from cnnlab.overview.rows import Reader
from cnnlab.overview.select import select
from cnnlab.runs.lock import locked
from cnnlab.terminal import Column, Terminal, columns, table

ACCURACY = dataclasses.asdict(Metric("accuracy", SHARE, higher_is_better=True))
LOSS = dataclasses.asdict(Metric("loss", "nats", higher_is_better=False))


def write_run(folder: pathlib.Path, state: str = "DONE", *, step: int = 40, accuracy: float = 0.5, **more: Any) -> pathlib.Path:
    """Writes the folder of a run with these knobs, as training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    knobs = {"model": "linear", "optimizer.lr": more.pop("lr", 0.1)}
    flags = {"strategy": "jit", "devices": None, "seed": more.pop("seed", 0), "precision": "f32"}
    attempt = {"time": "2026-01-31T12:00:00Z", "command": "python launch.py train", "step": 0}
    run = {"experiment": "linear_digits", "knobs": knobs, "flags": flags, "steps": 40, "primary_metric": ACCURACY}
    files.write_record(folder / "run.json", {**run, "attempts": [attempt], **more.pop("run", {})})
    status = {"state": state, "step": step, "steps": 40, "attempt": 1, "process": "process 1 on vm", "time": time.time() - 60}
    files.write_record(folder / "status.json", {**status, **more})
    if state == "DONE":
        metrics = {"test/accuracy": accuracy, "test/loss": 1.0, "validation/accuracy": accuracy}
        result = {"metrics": metrics, "declared": {"accuracy": ACCURACY, "loss": LOSS}, "wall_seconds": 3.25}
        result["curves"] = more.get("curves", [])
        files.write_record(folder / "result.json", result)
    records = [{"step": step, "train/loss": 2.0}, {"step": step, "validation/accuracy": accuracy, "validation/loss": 1.5}]
    (folder / "metrics.jsonl").write_text("".join(map(files.seal_line, records)))
    (folder / ".lock").touch()
    return folder


@pytest.fixture
def above(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder `runs` with a run in every state, and a study of two arms and two seeds."""
    place = tmp_path / "runs"
    write_run(place / "a" / "seed_0", accuracy=0.75, lr=0.1)
    write_run(place / "a" / "seed_1", accuracy=0.875, lr=0.2, seed=1)
    write_run(place / "stale", "RUNNING", step=20)
    write_run(place / "busy", "RUNNING", step=30, accuracy=0.25)
    write_run(place / "failed", "FAILED", step=10, message="ValueError: no\nmore")
    write_run(place / "diverged", "DIVERGED", step=5, message="train/loss is not finite at step 5: training diverged.")
    write_run(place / "preempted", "PREEMPTED", step=7, run={"flags": {"strategy": "fsdp", "devices": 2, "seed": 0}})
    write_run(place / "stopped", "STOPPED", step=8)
    arms = (Arm("baseline", {}, folder="arm"), Arm("lr=0.2", {"lr": "0.2"}, folder="other", steps=40))
    runs.save_study(Study("s", "linear_digits", {}, "grid", arms, (0, 1), {"lr": ("0.1", "0.2")}), place / "study")
    write_run(place / "arm" / "seed_0", accuracy=0.5)
    write_run(place / "arm" / "seed_1", "FAILED", seed=1, message="OSError: x")
    write_run(place / "other" / "seed_0", "STOPPED", step=10, lr=0.2)
    return place


def test_every_run_has_its_state_step_metric_and_the_command_that_goes_on(above: pathlib.Path):
    with locked(above / "busy"):
        found = find.look([above])
    rows = {row.name: row for row in found.loose}
    states = {"a/seed_0": "finished", "a/seed_1": "finished", "busy": "running"}
    states |= {name: name for name in ("stale", "failed", "diverged", "preempted", "stopped")}
    assert {name: row.state for name, row in rows.items()} == states and found.problems == ()
    assert (rows["busy"].metric, rows["busy"].value, rows["busy"].step) == ("validation/accuracy", 0.25, 30)
    assert (rows["a/seed_1"].metric, rows["a/seed_1"].value, rows["a/seed_1"].seed) == ("test/accuracy", 0.875, 1)
    assert rows["stale"].command == f"python launch.py train --workdir={above / 'stale'}"
    assert rows["preempted"].command.endswith("preempted --strategy=fsdp --devices=2")
    assert not rows["busy"].command and not rows["diverged"].command and not rows["a/seed_0"].command
    (study,) = found.studies
    assert study.counts == {"finished": 1, "failed": 1, "stopped": 1, "not begun": 1} and study.state == "unfinished"
    assert [row.name for row in study.runs] == ["baseline, seed 0", "lr=0.2, seed 0", "baseline, seed 1", "lr=0.2, seed 1"]
    assert study.command == f"python launch.py work --workdir={above / 'study'}"
    assert len(found.runs) == 12 and {run.studies for run in found.runs} == {(), ("study",)}


def test_runs_that_a_study_stopped_at_a_rung_are_pruned(above: pathlib.Path):
    study = runs.load_study(above / "study")
    pruning = Pruning("asha", (10, 40), 3, "validation/accuracy", True)
    arms = (*study.arms, Arm("lr=0.3", {"lr": "0.3"}, folder="third"))
    runs.save_study(dataclasses.replace(study, arms=arms, seeds=(0,), pruning=pruning), above / "study")
    third = write_run(above / "third" / "seed_0", accuracy=0.9, lr=0.3)
    files.append_text(third / "metrics.jsonl", files.seal_line({"step": 10, "validation/accuracy": 0.75}))
    (row,) = find.look([above]).studies
    assert [run.state for run in row.runs] == ["finished", "pruned", "finished"]
    assert row.state == "finished" and not row.command and not row.runs[1].command


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("run.json", "{"),
        ("status.json", ""),
        ("result.json", '{"format": 2, "sha256": "0"}'),
        ("run.json", None),
        ("result.json", None),
        ("run.json", '{"experiment": 3, "knobs": 7, "flags": [1]}'),
        ("status.json", '{"state": "DONE", "step": [], "time": "x"}'),
        ("metrics.jsonl", "\0\0"),
        (".lock", None),
    ],
)
def test_a_damaged_folder_is_a_row_and_a_line_and_the_others_are_shown(name: str, damage: str | None, above: pathlib.Path):
    place = above / "a" / "seed_0"
    if damage is None:
        (place / name).unlink()
    else:
        (place / name).write_text(damage)
    found = find.look([above])
    row = next(row for row in found.loose if row.folder == place)
    harmless = name in ("metrics.jsonl", ".lock")  # the results of a finished run lie elsewhere
    assert row.state == ("finished" if harmless else "damaged") and bool(found.problems) != harmless
    assert all(str(place) in problem for problem in found.problems) and len(found.runs) == 12
    shown = show.overview_lines(found, Terminal(80))
    assert harmless or any(line.startswith("  ! ") for line in shown)


def test_a_damaged_study_is_a_line_and_its_runs_are_shown(above: pathlib.Path):
    (above / "study" / "study.json").write_text('{"name": "s"}')
    found = find.look([above])
    assert not found.studies and len(found.loose) == 11 and "study.json is damaged" in found.problems[0]


def test_links_in_a_circle_and_folders_without_runs_are_no_runs(above: pathlib.Path, tmp_path: pathlib.Path):
    (above / "circle").symlink_to(above, target_is_directory=True)
    (above / "empty").mkdir()
    (tmp_path / "elsewhere").symlink_to(above / "a", target_is_directory=True)
    assert len(find.look([above]).runs) == 12
    assert [row.name for row in find.look([tmp_path / "elsewhere"]).loose] == ["seed_0", "seed_1"]
    assert [row.name for row in find.look([above / "a" / "seed_0"]).loose] == [str(above / "a" / "seed_0")]
    with pytest.raises(UsageError, match="nowhere is not there"):
        find.look([tmp_path / "nowhere"])


@pytest.mark.parametrize("width", [40, 80, 140])
def test_no_line_is_wider_than_the_terminal(width: int, above: pathlib.Path):
    write_run(above / f"convnet_{'x' * 60}_猫猫猫猫猫猫é\n\x1b[31m" / "seed_0", "STOPPED", accuracy=0.3)
    found = find.look([above])
    lines = show.overview_lines(found, Terminal(width), everything=True)
    too_long = [line for line in lines if columns(line) > width]
    assert all("--workdir=" in line or str(above) in line for line in too_long), "a path is one word"
    assert all(line.isprintable() for line in lines)
    assert any("\x1b[" in line for line in show.overview_lines(found, Terminal(width, has_colours=True)))
    heads = next(line for line in lines if line.startswith("run ")).split()
    assert "state" in heads and ("knobs" in heads) == ("step" in heads) == (width > 40)


def test_a_table_leaves_out_the_last_columns_first_and_aligns_the_others():
    cells = [Column("name", ["a" * 30, "b"], least=10), Column("n", ["1", "22"], True), Column("x", ["y" * 9, ""], rank=1)]
    assert table(Terminal(60), cells)[1:] == [f"{'a' * 30}   1  {'y' * 9}", f"{'b':30}  22"]
    assert table(Terminal(25), cells)[1:] == [f"{'aaaaa…aaaa'}   1  {'y' * 9}", f"{'b':10}  22"]
    assert table(Terminal(20, has_signs=False), cells)[1:] == [f"{'aaaaaaaa~aaaaaaa'}   1", f"{'b':16}  22"]


def test_what_the_curves_of_loose_runs_show_is_said_below_the_table(tmp_path: pathlib.Path):
    for number in range(7):
        write_run(
            tmp_path / "runs" / f"run_{number}", curves=["slow: it has not levelled off", "spike: at step 5"][: 1 + number]
        )
    write_run(tmp_path / "runs" / "silent")
    lines = show.overview_lines(find.look([tmp_path / "runs"]), Terminal(200))
    said = lines[lines.index("what curves show") + 1 :][:6]
    assert said[0] == "  run_0: slow: it has not levelled off"
    assert said[1] == "  run_1: slow: it has not levelled off (and 1 more in its result.json)"
    assert said[5] == "  and 2 more" and not any("silent:" in line for line in lines)


def test_ages_metrics_and_knobs_are_shown_as_a_person_reads_them(above: pathlib.Path):
    assert [show.age(0.0, seconds) for seconds in (5, 200, 7300, 200_000)] == ["5 s", "3 min", "2 h", "2 d"]
    rows = {row.name: row for row in find.look([above]).loose}
    both = [rows["a/seed_0"], rows["a/seed_1"]]
    assert show.metric_cells(both) == ("test accuracy, %", ["75.00", "87.50"])
    assert show.metric_cells([both[0], rows["stale"]]) == ("accuracy, %", ["75.00 test      ", "50.00 validation"])
    assert show.knob_cells(both) == ["lr=0.1", "lr=0.2"]


def test_rows_are_chosen_and_sorted(above: pathlib.Path):
    found = find.look([above])

    def names(states: tuple[str, ...] = (), experiments: tuple[str, ...] = (), sort: str = "name") -> list[str]:
        return [row.name for row in select(found, states, experiments, sort).loose]

    assert names(("failed", "diverged")) == ["diverged", "failed"]
    assert names((), ("other",)) == [] and len(names((), ("linear_digits",))) == 8
    assert names(("finished",), sort="metric") == ["a/seed_1", "a/seed_0"]
    assert names(("finished",), sort="-accuracy") == ["a/seed_0", "a/seed_1"]
    assert names(("finished",), sort="lr") == ["a/seed_0", "a/seed_1"] == names(("finished",), sort="-test/accuracy")
    assert names(sort="step")[:2] == ["a/seed_0", "a/seed_1"] and names(sort="test/loss")[:1] == ["a/seed_0"]
    assert [study.name for study in select(found, ("not begun",), (), "time").studies] == ["study"]
    with pytest.raises(UsageError, match="no such state"):
        names(("finishd",))
    with pytest.raises(UsageError, match="no such order"):
        names(sort="accuracies")


def test_the_files_of_a_folder_are_read_again_only_after_a_change(above: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    reader = Reader()
    find.look([above], reader)
    read: list[pathlib.Path] = []
    original = files.read_record
    monkeypatch.setattr(files, "read_record", lambda path, **more: read.append(path) or original(path, **more))
    find.look([above], reader)
    assert {path.parent for path in read} == {above / "study"}
    write_run(above / "stopped", "STOPPED", step=9)
    row = next(row for row in find.look([above], reader).loose if row.name == "stopped")
    assert row.step == 9 and {path.parent for path in read} == {above / "study", above / "stopped"}


def test_the_verb_prints_a_table_csv_and_json(above: pathlib.Path, here: Here):
    code, out, err = here("runs")
    assert code == 0 and "runs: 1 study, 12 runs (1 running" not in out and "2 stale" in out and not err
    assert "baseline, seed 0" not in out and "baseline, seed 0" in here("runs", "--all")[1]
    assert "baseline, seed 0" in here("runs", "runs/study")[1], "a study that is named shows its runs"
    code, out, _ = here("runs", "--format=csv", "--sort=name")
    rows = {row["folder"]: row for row in csv.DictReader(io.StringIO(out))}
    assert code == 0 and len(rows) == 12
    row = rows["runs/a/seed_1"]
    assert row["optimizer.lr"] == "0.2" and row["test/accuracy"] == "0.875" and row["state"] == "finished"
    assert "model" not in row, "knobs that agree have no column"
    assert row["begun"] == "2026-01-31T12:00:00Z" and row["seconds"] == "3.25"
    assert rows["runs/other/seed_1"]["state"] == "not begun" and rows["runs/other/seed_1"]["study"] == "study"
    content = json.loads(here("runs", "--format=json", "--state=failed")[1])
    assert {run["message"] for run in content["runs"]} == {"ValueError: no\nmore", "OSError: x"}
    code, _, err = here("runs", "nowhere")
    assert code == 2 and "nowhere is not there" in err


def test_the_verb_imports_no_jax(above: pathlib.Path):
    script = (
        "import sys; from cnnlab.cli.main import main; code = main(['runs', 'runs']); sys.exit(code or 'jax' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", script], cwd=above.parent, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"stale" in done.stdout, done.stderr
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if b"workdir" not in line)


def test_a_run_goes_on_by_its_folder_alone(here: Here):
    words = ["--experiment=linear_digits", "--steps=4", "--lr=0.2", "--seed=3", "--eval_every=2", "--devices=1"]
    assert here(*words, "--stop_after=2")[0] == 0
    (row,) = find.look([pathlib.Path("runs")]).loose
    assert (row.state, row.step, row.steps, row.metric) == ("stopped", 2, 4, "validation/accuracy")
    assert row.shown_metric.is_share and row.command.endswith(f"--workdir={row.folder} --devices=1")
    code, out, err = here(*row.command.split()[2:])
    assert code == 0 and "after 4 steps" in out, err
    assert [record["step"] for record in files.read_lines(row.folder / "metrics.jsonl")[0] if "validation/loss" in record] == [
        2,
        4,
    ]
    (row,) = find.look([pathlib.Path("runs")]).loose
    assert row.state == "finished" and not row.command and row.knobs["optimizer.lr"] == 0.2 and row.seed == 3
    code, _, err = here("train", f"--workdir={row.folder}", "--lr=0.3")
    assert code == 2 and "--optimizer.lr: 0.2 there, 0.3 now" in err
