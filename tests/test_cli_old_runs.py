"""Runs and studies of an older version are found by what they recorded, though knobs have other paths by now."""

import dataclasses
import json
import pathlib

import pytest
from commands import Here

from cnnlab import knobs
from cnnlab.ablation.plan.study import Study
from cnnlab.core import Experiment
from cnnlab.errors import UsageError
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.find import RunFinder, folder_name
from cnnlab.runs.folder import RunSpec, check_folder
from cnnlab.values import Choice


def images(*, dataset: str = "digits", batch_size: int = 64) -> Experiment:
    raise NotImplementedError


def recipe(*, data: Choice[{"images": images}] = "images", lr: float = 0.1, added: int = 1) -> Experiment:
    """The recipe of today; an older one had the knobs `dataset`, `batch_size` and `lr`."""
    raise NotImplementedError


TODAY = ExperimentFile("toy", recipe)
OLD = {"dataset": "npz", "batch_size": 32, "lr": 0.5}


def write_run(folder: pathlib.Path, recorded: dict[str, object], precision: str = "f32") -> None:
    folder.mkdir(parents=True)
    identity = {"experiment": "toy", "precision": precision, **{f"--{name}": value for name, value in recorded.items()}}
    content = {"experiment": "toy", "knobs": recorded, "identity": identity, "flags": {"precision": precision, "seed": 0}}
    (folder / "run.json").write_text(json.dumps(content))


def spec_of(resolved: knobs.Resolved, precision: str = "f32") -> RunSpec:
    return RunSpec("toy", resolved.values, precision, source="", reread=resolved.reread)


def test_a_run_is_found_by_its_recorded_knobs_and_not_by_the_digest_in_its_name(tmp_path: pathlib.Path):
    write_run(tmp_path / "toy-0ld0ld00" / "seed_3", OLD)
    write_run(tmp_path / "toy-11111111" / "seed_0", {**OLD, "lr": 0.25})
    write_run(tmp_path / "toy-22222222-bf16" / "seed_0", {**OLD, "lr": 0.75}, "bf16")
    write_run(tmp_path / "toy-33333333" / "seed_0", {"gone": 1})
    same, other = (TODAY.resolve({"dataset": "npz", "batch_size": 32, "lr": lr}) for lr in (0.5, 0.75))
    finder = RunFinder(tmp_path, TODAY, "f32")
    assert finder.folder_of(same) == "toy-0ld0ld00"
    assert finder.folder_of(other) == folder_name("toy", other.digest, "f32")
    assert RunFinder(tmp_path, TODAY, "bf16").folder_of(other) == "toy-22222222-bf16"
    (tmp_path / folder_name("toy", same.digest, "f32")).mkdir()
    assert RunFinder(tmp_path, TODAY, "f32").folder_of(same) == folder_name("toy", same.digest, "f32")


def test_the_identity_of_an_older_run_is_compared_by_todays_signatures(tmp_path: pathlib.Path):
    write_run(tmp_path / "run", OLD)
    same, other = (TODAY.resolve({"dataset": "npz", "batch_size": 32, "lr": lr}) for lr in (0.5, 0.25))
    assert check_folder(tmp_path / "run", spec_of(same), overwrite=False) is None
    with pytest.raises(UsageError, match=r"--lr: 0\.5 there, 0\.25 now"):
        check_folder(tmp_path / "run", spec_of(other), overwrite=False)
    with pytest.raises(UsageError, match="precision: 'f32' there, 'bf16' now"):
        check_folder(tmp_path / "run", spec_of(same, "bf16"), overwrite=False)
    with pytest.raises(UsageError, match="--data"):
        check_folder(tmp_path / "run", dataclasses.replace(spec_of(same), reread=None), overwrite=False)


def test_names_that_an_older_version_wrote_are_read_by_their_last_part():
    resolved = TODAY.resolve({})
    assert resolved.path_of("batch_size") == "data.batch_size" and resolved.path_of("lr") == "lr"
    with pytest.raises(UsageError, match="no knob --size here"):
        resolved.path_of("size")
    assert knobs.merged({"dataset": "npz", "lr": 1}, {"data.dataset": "digits"}) == {"lr": 1, "data.dataset": "digits"}


def test_the_flags_of_an_older_study_are_read_by_their_names_of_today():
    old = Study("toy", "toy", {}, "grid", (), (0,), {}, flags=("--dispatch=8", "--eval_every=1 epoch"))
    content = json.loads(json.dumps(dataclasses.asdict(old)))
    assert Study.from_json(content).flags == ("--steps_per_dispatch=8", "--eval_every=1 epoch")


def test_train_goes_on_in_the_folder_of_an_older_version(here: Here, tmp_path: pathlib.Path):
    words = ["--experiment=linear_digits", "--steps=4", "--save_every=2 steps"]
    code, out, err = here(*words, "--stop_after=2")
    assert code == 0 and "stopped by --stop_after" in out, err
    (made,) = (tmp_path / "runs").glob("linear_digits-*")
    made.rename(tmp_path / "runs" / "linear_digits-0ld0ld00")
    code, out, err = here(*words)
    assert code == 0 and "linear_digits-0ld0ld00/seed_0" in out, err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["linear_digits-0ld0ld00"]
    code, out, err = here("ablate", *words[:2], "--vary=lr:0.05,0.01", "--seeds=1", "--dry_run")
    assert code == 0 and "to do: 1 runs" in out, err
