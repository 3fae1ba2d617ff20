"""A run in its folder: what it holds, and that nothing — a kill, a signal, another device count — changes its numbers."""

import pathlib
import random
import shutil
import signal
import time

import numpy as np
import pytest
from commands import command, finish, kill, read, start, wait_for

import cnnlab
from cnnlab.digests import file_digest
from cnnlab.engine.checkpoint import tree_digest
from tests.stages import slow_but

SMALL = [
    "--experiment=convnet_digits",
    "--widths=4,8",
    "--dropout=0.2",
    "--average_decay=0.9",
    "--batch_size=16",
    "--steps=120",
    "--devices=1",
]
"""Batch statistics, dropout, augmentation, momentum and an average of the parameters: everything that a resume can forget."""
OFTEN = ["--eval_every=20 steps", "--save_every=10 steps", "--log_every=7 steps"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The uninterrupted run that the others must equal."""
    folder = tmp_path_factory.mktemp("whole")
    code, _, err = command(*SMALL, *OFTEN, "--workdir=run", cwd=folder)
    assert code == 0, err
    return folder / "run"


def assert_same(run: pathlib.Path, whole: pathlib.Path) -> None:
    """Parameters, the whole state and every line of the metric log are equal to the bit."""
    one, other = read(run / "result.json"), read(whole / "result.json")
    assert one["params_digest"] == other["params_digest"] and one["state_digest"] == other["state_digest"]
    assert one["metrics"] == other["metrics"]
    assert (run / "metrics.jsonl").read_text(encoding="utf-8") == (whole / "metrics.jsonl").read_text(encoding="utf-8")


def test_a_run_holds_what_the_readme_says(whole: pathlib.Path):
    assert {p.name for p in whole.iterdir() if not p.name.startswith(".") and p.suffix != ".diff"} == {
        "run.json", "status.json", "metrics.jsonl", "result.json", "test_rows.npz", "checkpoints", "tensorboard", "figures"
    }  # fmt: skip
    result = read(whole / "result.json")
    assert {"test/accuracy", "test/loss", "validation/accuracy"} <= set(result["metrics"]) and result["steps"] == 120
    assert read(whole / "status.json")["state"] == "DONE"
    run = read(whole / "run.json")
    assert run["knobs"]["model.widths"] == [4, 8] and run["flags"]["seed"] == 0 and run["versions"]["jax"]
    assert run["data"]["fingerprint"] and "experiment = partial(" in run["source"]
    assert {p.stem for p in (whole / "figures").glob("*.png")} >= {"curves", "confusion_matrix", "filters"}
    assert len(list((whole / "checkpoints").glob("*/manifest.json"))) in (2, 3)


def test_tensorboard_reads_the_scalars_and_the_pictures(whole: pathlib.Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(whole / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert {"train/loss", "validation/accuracy"} <= set(events.Tags()["scalars"])
    assert {"curves", "confusion_matrix", "filters"} <= set(events.Tags()["images"])
    assert [event.step for event in events.Scalars("validation/accuracy")] == [20, 40, 60, 80, 100, 120]


def test_the_same_command_again_says_that_it_is_finished_and_other_knobs_are_refused(whole: pathlib.Path):
    before = (whole / "result.json").stat().st_mtime_ns
    code, out, _ = command(*SMALL, *OFTEN, "--workdir=run", cwd=whole.parent)
    assert code == 0 and "finished before" in out and (whole / "result.json").stat().st_mtime_ns == before
    code, _, err = command(*SMALL, "--lr=0.01", "--workdir=run", cwd=whole.parent)
    assert code == 2 and "--optimizer.lr: 0.05 there, 0.01 now" in err
    (whole.parent / "mine").mkdir()
    (whole.parent / "mine" / "thesis.tex").write_text("years of work", encoding="utf-8")
    code, _, err = command(*SMALL, "--workdir=mine", "--overwrite", cwd=whole.parent)
    assert code == 2 and "is not a run of cnnlab" in err and (whole.parent / "mine" / "thesis.tex").exists()


@pytest.mark.slow
def test_overwrite_trains_afresh_to_the_same_bits(whole: pathlib.Path, tmp_path: pathlib.Path):
    shutil.copytree(whole, tmp_path / "run")
    code, _, err = command(*SMALL, *OFTEN, "--workdir=run", "--overwrite", cwd=tmp_path)
    assert code == 0 and "going on" not in err
    assert_same(tmp_path / "run", whole)


def test_stop_after_and_going_on_equal_an_uninterrupted_run(whole: pathlib.Path, tmp_path: pathlib.Path):
    for stop in (33, 90):
        code, out, err = command(*SMALL, *OFTEN, "--workdir=run", f"--stop_after={stop}", cwd=tmp_path)
        assert code == 0 and "stopped by --stop_after" in out, err
        assert read(tmp_path / "run" / "status.json")["state"] == "STOPPED" and not (tmp_path / "run" / "result.json").exists()
    code, _, err = command(*SMALL, *OFTEN, "--workdir=run", cwd=tmp_path)
    assert code == 0 and "going on from step 90" in err
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("seed", slow_but([20261121, 1, 2, 3], thorough=[1, 2, 3]))
def test_kill_9_at_random_moments_changes_nothing(seed: int, whole: pathlib.Path, tmp_path: pathlib.Path):
    """Six kills a seed, with a resumption after each."""
    moments = random.Random(seed)
    process = start(*SMALL, *OFTEN, "--workdir=run", cwd=tmp_path, same_devices=True)
    wait_for(process, tmp_path / "run" / ".lock")
    kill(process)  # before it wrote its first word
    for _ in range(5):
        process = start(*SMALL, *OFTEN, "--workdir=run", cwd=tmp_path, same_devices=True)
        log = tmp_path / "run" / "metrics.jsonl"
        begun, size = time.monotonic(), log.stat().st_size if log.exists() else 0
        while process.poll() is None and time.monotonic() - begun < 60 and (not log.exists() or log.stat().st_size <= size):
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.4))
        kill(process)
    code, _, err = command(*SMALL, *OFTEN, "--workdir=run", cwd=tmp_path)
    assert code == 0, err
    assert_same(tmp_path / "run", whole)
    assert not list((tmp_path / "run" / "checkpoints").glob("*tmp*"))


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGTERM, "metrics.jsonl"),
        pytest.param(signal.SIGINT, "metrics.jsonl", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, ".lock", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_exits_75_and_the_same_command_goes_on(number: int, when: str, tmp_path: pathlib.Path):
    """The run is so long that no signal comes too late; it goes on to a stop that an uninterrupted one makes, too."""
    words = [word.replace("--steps=120", "--steps=100000") for word in SMALL] + OFTEN
    process = start(*words, "--workdir=run", cwd=tmp_path, same_devices=True)
    wait_for(process, tmp_path / "run" / when)
    time.sleep(0.0 if when == ".lock" else 0.1)  # the lock is there before the first state
    process.send_signal(number)
    asked = time.monotonic()
    code, _, err = finish(process)
    assert time.monotonic() - asked < 20
    assert code == 75 and "the same command goes on" in err.lower() and "Traceback" not in err, err
    assert read(tmp_path / "run" / "status.json")["state"] == "PREEMPTED"
    stop = max((int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")), default=0) + 60
    for folder in ("run", "uninterrupted"):
        code, out, err = command(*words, f"--workdir={folder}", f"--stop_after={stop}", cwd=tmp_path)
        assert code == 0 and "stopped by --stop_after" in out, err
    one, other = (cnnlab.load(tmp_path / folder) for folder in ("run", "uninterrupted"))
    assert one.step == other.step == stop and tree_digest(one.params) == tree_digest(other.params)
    logs = [(run.folder / "metrics.jsonl").read_text(encoding="utf-8") for run in (one, other)]
    assert logs[0] == logs[1]


@pytest.mark.slow
def test_saved_sharded_over_four_devices_it_goes_on_on_one(whole: pathlib.Path, tmp_path: pathlib.Path):
    words = [*SMALL[:-1], *OFTEN, "--workdir=run"]
    code, _, err = command(*words, "--stop_after=50", "--devices=4", "--strategy=fsdp", cwd=tmp_path)
    assert code == 0, err
    code, _, err = command(*words, "--devices=1", cwd=tmp_path)
    assert code == 0 and "going on from step 50" in err
    one, other = read(tmp_path / "run" / "result.json")["metrics"], read(whole / "result.json")["metrics"]
    assert one["test/loss"] == pytest.approx(other["test/loss"], rel=1e-2)


def test_seeds_share_a_command_and_are_reported_together(tmp_path: pathlib.Path):
    words = ["--experiment=linear_digits", "--steps=40", "--seeds=3", "--seed=1", "--devices=1"]
    code, out, err = command(*words, cwd=tmp_path)
    assert code == 0 and "mean ± standard deviation of 3 seeds" in out, err
    (table,) = (tmp_path / "runs").glob("linear_digits-*/seeds.json")
    row = read(table)["metrics"]["test/accuracy"]
    values = [read(table.parent / f"seed_{seed}" / "result.json")["metrics"]["test/accuracy"] for seed in (1, 2, 3)]
    assert row["values"] == values and row["mean"] == pytest.approx(np.mean(values))
    assert row["std"] == pytest.approx(np.std(values, ddof=1))


def test_divergence_is_exit_4_and_keeps_the_last_good_checkpoint(tmp_path: pathlib.Path):
    words = [
        "--experiment=mlp_digits",
        "--steps=100",
        "--lr=1e30",
        "--log_every=10 steps",
        "--save_every=1 steps",
        "--workdir=run",
        "--devices=1",
    ]
    code, _, err = command(*words, cwd=tmp_path)
    assert code == 4 and "diverged" in err and "--lr" in err and "Traceback" not in err
    assert read(tmp_path / "run" / "status.json")["state"] == "DIVERGED" and not (tmp_path / "run" / "result.json").exists()


def test_other_data_behind_the_same_name_are_refused_on_resume(tmp_path: pathlib.Path):
    def write(offset: int) -> None:
        random = np.random.default_rng(0)
        images = random.integers(0, 200, (40, 8, 8, 1), dtype=np.uint8) + np.uint8(offset)
        labels = np.arange(40) % 2
        np.savez(tmp_path / "d.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)

    words = ["--experiment=linear_digits", "--dataset=npz:d.npz", "--batch_size=8", "--steps=6", "--workdir=run", "--devices=1"]
    write(0)
    assert command(*words, "--stop_after=3", cwd=tmp_path)[0] == 0
    write(1)
    code, _, err = command(*words, cwd=tmp_path)
    assert code == 3 and "changed since run was begun" in err


def test_a_damaged_checkpoint_falls_back_loudly_and_all_damaged_is_exit_3(whole: pathlib.Path, tmp_path: pathlib.Path):
    words = [*SMALL, *OFTEN, "--workdir=run"]
    assert command(*words, "--stop_after=45", cwd=tmp_path)[0] == 0
    folder = tmp_path / "run" / "checkpoints"
    newest, before = sorted((int(p.name) for p in folder.glob("[0-9]*")), reverse=True)[:2]
    data = max((p for p in (folder / str(newest)).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "run", copy / "run")
    code, _, err = command(*words, cwd=tmp_path)
    assert code == 0 and f"WARNING: checkpoint of step {newest}" in err and f"going on from step {before}" in err
    assert (folder / f"{newest}.corrupt").is_dir()
    assert_same(tmp_path / "run", whole)
    for step in (copy / "run" / "checkpoints").glob("[0-9]*"):
        (step / "manifest.json").unlink()
    code, _, err = command(*words, cwd=copy)
    assert code == 3 and "can be used" in err and "manifest.json is missing" in err


def test_two_processes_do_not_train_one_run(tmp_path: pathlib.Path):
    words = ["--experiment=mlp_digits", "--steps=100000", "--workdir=run", "--devices=1"]
    first = start(*words, cwd=tmp_path, same_devices=True)
    try:
        wait_for(first, tmp_path / "run" / "metrics.jsonl")
        code, _, err = command(*words, cwd=tmp_path)
        assert code == 2 and f"is being trained by process {first.pid}" in err
    finally:
        kill(first)


def test_evaluate_measures_the_newest_checkpoint_or_the_best(whole: pathlib.Path):
    code, out, err = command("evaluate", "--workdir=run", "--devices=1", "--predictions", cwd=whole.parent)
    assert code == 0 and "step 120" in out and str(pathlib.Path("run", "evaluation_test.npz")) in out, err
    evaluation = read(whole / "evaluation.json")
    assert evaluation["metrics"] == read(whole / "result.json")["metrics"]
    assert evaluation["files"] == {
        name: file_digest(whole / name) for name in ("evaluation_validation.npz", "evaluation_test.npz")
    }
    trained, found = np.load(whole / "test_rows.npz"), np.load(whole / "evaluation_test.npz")
    assert set(found) == set(trained) and all(np.array_equal(found[name], trained[name]) for name in found)
    (whole / "evaluation.json").unlink()
    code, out, err = command("evaluate", *SMALL, "--workdir=run", "--best", cwd=whole.parent)
    assert code == 0 and not list(whole.glob("evaluation_*.npz")), err
    (whole / "evaluation.json").unlink()
