"""`launch.py ablate`, `report` and `reproduce` as a person types them."""

import json
import math
import pathlib

import pytest

from cnnlab import files
from cnnlab.ablation import commands
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.ablation.run import local, reproduce, runs
from cnnlab.cli.main import main
from cnnlab.runs.lock import Busy, locked
from tests.commands import Here, command

SHORT = ["--seeds=2", "--steps=8", "--devices=1"]
WORDS = ["ablate", "--experiment=mlp_digits", "--vary=lr:0.05,0.01", "--vary=activation:relu,tanh", *SHORT]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """(folder of the command, of the study, what the command said)."""
    place = tmp_path_factory.mktemp("ablate")
    code, out, err = command(*WORDS, cwd=place)
    assert code == 0, err
    (folder,) = (place / "runs").glob("study-mlp_digits-*")
    return place, folder, out


def test_a_study_says_what_it_will_do_and_what_came_out(studied):
    _, folder, out = studied
    assert "4 arms x 2 seeds = 8 runs, compared by test/accuracy" in out
    assert "to do: 8 runs from 2 compilations; about" in out
    assert "baseline" in out and "lr=0.01, activation=tanh" in out and "2/2" in out
    assert {"study.json", "report.html", "report.md", "arms.csv", "arms.tex", "runs.csv", "tensorboard", "logs"} <= {
        path.name for path in folder.iterdir()
    }
    assert "Main effects" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_runs_are_those_of_train(studied):
    place, _, _ = studied
    words = ["--experiment=mlp_digits", "--lr=0.01", "--activation=tanh", "--steps=8", "--seed=1", "--devices=1"]
    code, out, _ = command("train", *words, cwd=place)
    assert code == 0 and "finished before" in out, "a run of a study is the run that train would make"


def test_a_second_study_runs_only_what_is_new(studied):
    place, _, _ = studied
    before = {path: path.stat().st_mtime_ns for path in place.glob("runs/mlp_digits-*/seed_*/result.json")}
    code, out, _ = command("ablate", *WORDS[1:2], "--vary=lr:0.05,0.01,0.02", *SHORT, "--dry_run", cwd=place)
    assert code == 0 and "3 arms x 2 seeds = 6 runs" in out and "to do: 2 runs from 1 compilation;" in out
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 8


def test_report_again_and_over_loose_runs_says_the_same(studied):
    place, folder, out = studied
    table = [line for line in out.splitlines() if "2/2" in line]
    code, again, _ = command("report", str(folder), cwd=place)
    assert code == 0 and [line for line in again.splitlines() if "2/2" in line] == table
    loose = sorted(str(path) for path in (place / "runs").glob("mlp_digits-*"))
    code, over, err = command("report", *loose, "--workdir=loose", cwd=place)
    assert code == 0, err
    means = sorted(line.split("2/2")[1].split()[0] for line in table)
    assert sorted(line.split("2/2")[1].split()[0] for line in over.splitlines() if "2/2" in line) == means
    assert (place / "loose" / "report.html").exists()


def test_loose_runs_of_two_precisions_are_two_arms(tmp_path: pathlib.Path):
    for number, precision in enumerate(("f32", "bf16")):
        for seed in (0, 1):
            folder = tmp_path / f"toy-{precision}" / f"seed_{seed}"
            folder.mkdir(parents=True)
            run = {"experiment": "toy", "knobs": {"lr": 0.1}, "flags": {"seed": seed, "precision": precision}}
            files.write_record(folder / "run.json", run)
            files.write_record(folder / "status.json", {"state": "DONE"})
            files.write_record(folder / "result.json", {"metrics": {"test/accuracy": 0.5 + number / 10 + seed / 100}})
    said = commands.report_runs([tmp_path], allow=(), metric="test/accuracy", to=str(tmp_path / "report"))
    rows = [line.split() for line in said.splitlines() if "2/2" in line]
    assert [row[0] for row in rows] == ["baseline", "precision=f32"] and [row[2] for row in rows] == ["0.6050", "0.5050"]


def test_a_report_on_another_metric_has_the_sense_of_that_metric(studied):
    place, folder, _ = studied
    code, out, err = command("report", str(folder), "--metric=test/loss", cwd=place)
    assert code == 0 and "2/2" in out, err
    assert "test/loss, lower is better" in (folder / "report.html").read_text(encoding="utf-8")
    assert command("report", str(folder), cwd=place)[0] == 0
    assert "test/accuracy, higher is better" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_and_a_study_are_reproduced(studied):
    place, folder, _ = studied
    single = sorted((place / "runs").glob("mlp_digits-*/seed_1"))[0]
    code, out, err = command("reproduce", str(single), cwd=place)
    assert code == 0, err
    assert "the same to the last bit" in out
    code, out, err = command("reproduce", str(folder), cwd=place)
    assert code == 0, err
    assert out.count("the same to the last bit") == 8 and "all runs agree" in out


@pytest.mark.slow
def test_a_run_whose_numbers_were_changed_is_found_out(studied):
    place, _, _ = studied
    single = sorted((place / "runs").glob("mlp_digits-*/seed_0"))[0]
    content = files.read_record(single / "result.json")
    kept = (single / "result.json").read_text(encoding="utf-8")
    content["metrics"]["test/accuracy"] += 0.01
    files.write_record(single / "result.json", content)
    code, out, _ = command("reproduce", str(single), cwd=place)
    (single / "result.json").write_text(kept, encoding="utf-8")
    assert code == 1 and "metrics differ (test/accuracy:" in out and "nothing that is recorded changed" in out


def test_a_study_is_reproduced_by_one_process_that_names_itself(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    arms = (Arm("baseline", {}, folder="arm"),)
    runs.save_study(Study("toy", "linear_digits", {}, "grid", arms, (0,), {}), tmp_path / "study")
    inner, seen = tmp_path / "again" / "study", []

    def train(study: Study, folder: pathlib.Path, *_: object) -> int:
        seen.append((folder, [run.folder for run in runs.study_runs(study, folder)]))
        assert runs.this_process() == (files.read_record(folder / "status.json") or {})["process"]
        with pytest.raises(Busy), locked(folder):
            pass
        return 0

    monkeypatch.setattr(local, "run_locally", train)
    assert main(["reproduce", str(tmp_path / "study"), f"--workdir={tmp_path / 'again'}"]) == 0
    assert seen == [(inner, [tmp_path / "again" / "arm" / "seed_0"])], "the runs of the repetition, not the first ones"


@pytest.mark.parametrize(
    ("now", "agrees"),
    [
        ({}, True),
        ({"d": 1.5}, False),
        ({"a": math.nan}, False),
        ({"c": -math.inf}, False),
        ({"b": 1.0}, False),
        ({"a": None}, False),
    ],
)
def test_metrics_that_are_not_finite_agree_with_themselves(now: dict[str, float | None], agrees: bool, tmp_path: pathlib.Path):
    metrics = {"a": 1.0, "b": math.nan, "c": math.inf, "d": 1e-9}
    changed = {name: value for name, value in {**metrics, **now}.items() if value is not None}
    provenance = {"data": {"fingerprint": "f"}, "versions": {}, "experiment": "e", "knobs": {}}
    for name, found in (("then", metrics), ("now", changed)):
        (tmp_path / name).mkdir()
        files.write_record(tmp_path / name / "run.json", provenance)
        files.write_record(tmp_path / name / "result.json", {"metrics": found, "params_digest": "p", "state_digest": "s"})
    assert reproduce.compared(tmp_path / "then", tmp_path / "now")[0] == agrees


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["ablate", "--experiment=mlp_digits"], "ablate what? Give --vary=KNOB:LEVEL,LEVEL"),
        (["ablate", "--experiment=mlp_digits", "--vary=lr:0.1,0.2", "--controls=nonsense"], "--controls=nonsense: unknown"),
        (["ablate", "--experiment=mlp_digits", "--vary=lr:0.1,0.2", "--metric=accuracy"], "expected SPLIT/NAME"),
        (["ablate", "--experiment=mlp_digits", "--vary=depht:1,2"], "no knob --depht"),
        (
            ["ablate", "--experiment=mlp_digits", "--vary=lr:0.1,0.2", "--prune=asha"],
            "beside its baseline and controls the study has 1",
        ),
        (
            ["ablate", "--experiment=mlp_digits", "--vary=lr:0.1,0.2", "--prune_from=1 epoch"],
            "Add --prune=asha or --prune=halving",
        ),
        (
            ["ablate", "--experiment=mlp_digits", "--vary=lr:0.1,0.2", "--batch_runs=always", "--strategy=pmap"],
            "--batch_runs=always is for --strategy=jit, not pmap",
        ),
        (["report"], "report on what?"),
        (["report", "nowhere"], "there is no run in nowhere"),
        (["reproduce", "nowhere"], "nowhere is not a run"),
        (["work"], "work on what?"),
        (["train", "runs"], "'runs' is neither a verb in first place nor a --flag"),
    ],
)
def test_commands_that_make_no_sense_are_refused(words: list[str], text: str, tmp_path: pathlib.Path, here: Here):
    code, out, err = here(*words)
    assert code == 2 and text in err and not list(tmp_path.iterdir()), out


@pytest.mark.slow
def test_members_that_train_together_are_the_runs_that_train_apart(studied, tmp_path: pathlib.Path):
    place, _, _ = studied
    code, out, err = command(*WORDS, "--batch_runs=always", "--max_batched_runs=3", cwd=tmp_path)
    assert code == 0 and "2/2" in out, err
    logs = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("runs/study-*/logs/*.txt"))
    assert "3 runs of baseline … in one batched program" in logs and "one after another" not in logs
    for path in sorted((place / "runs").glob("mlp_digits-*/seed_[0-9]/result.json")):
        alone = json.loads(path.read_text(encoding="utf-8"))
        other = json.loads((tmp_path / path.relative_to(place)).read_text(encoding="utf-8"))
        assert other["metrics"] == pytest.approx(alone["metrics"], abs=1e-4) and other["steps"] == alone["steps"]


def test_a_study_beyond_its_budget_is_refused_before_it_runs(tmp_path):
    words = ["ablate", "--experiment=lenet5_digits", "--vary=lr:0.1,0.2", "--epochs=100000", "--budget_minutes=1"]
    code, _, err = command(*words, cwd=tmp_path)
    assert code == 2 and "--budget_minutes=1: the study takes longer" in err and not list(tmp_path.iterdir())
