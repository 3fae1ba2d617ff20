"""The files of a run: damage is noticed and named by every verb that reads them, lost ones heal or are said."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable

import pytest

from cnnlab import files
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.ablation.run import runs
from cnnlab.cli.main import main
from cnnlab.engine import train as engine
from cnnlab.errors import CheckpointError, DamagedFile, DiskError, Preempted, UsageError, of_the_world
from cnnlab.runs import run, run_files, writers
from tests.commands import Here

WORDS = ["--experiment=linear_digits", "--steps=3", "--log_level=warning"]
FILES = ["run.json", "status.json", "result.json", "metrics.jsonl", "test_rows.npz"]


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.write_bytes(content)


def as_folder(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[pathlib.Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "truncated": lambda path: os.truncate(path, path.stat().st_size * 2 // 3),
    "one bit flipped": flip,
    "emptied": lambda path: os.truncate(path, 0),
    "a folder": as_folder,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder `runs` with one finished run, linear/seed_0, and a study of it."""
    above = tmp_path_factory.mktemp("trained") / "runs"
    assert main([*WORDS, f"--workdir={above / 'linear' / 'seed_0'}"]) == 0
    study = Study("linear", "linear_digits", {"duration": "3 steps"}, "grid", (Arm("baseline", {}, folder="linear"),), (0,), {})
    runs.save_study(study, above / "study")
    assert main(["report", str(above / "study")]) == 0
    return above


@pytest.fixture
def copy(trained: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the folder; the study in it finds the run beside itself."""
    return pathlib.Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_report_names_the_damaged_file_of_a_run_and_leaves_its_numbers_out(
    name: str, damage: str, copy: pathlib.Path, here: Here
):
    DAMAGES[damage](copy / "linear" / "seed_0" / name)
    before = (copy / "study" / "report.md").read_bytes()
    code, out, err = here("report", str(copy / "study"))
    assert code == 3 and f"{name} is damaged" in err and "is left as it is" in err and "Traceback" not in err and not out
    assert (copy / "study" / "report.md").read_bytes() == before, "a good report is not replaced unasked"
    code, out, err = here("report", str(copy / "study"), "--overwrite")
    assert code == 3 and f"{name} is damaged" in err and "Traceback" not in err and "0.8" not in out


@pytest.mark.parametrize("name", ["run.json", "result.json", "test_rows.npz"])
def test_loose_runs_and_repetitions_refuse_a_damaged_run(name: str, copy: pathlib.Path, here: Here):
    run = copy / "linear" / "seed_0"
    for damage in ("one bit flipped", "deleted"):
        if (run / name).exists():
            DAMAGES[damage](run / name)
        for words in (["report", str(run), f"--workdir={copy / 'new'}"], ["reproduce", str(run)]):
            code, _, err = here(*words)
            assert code == 3 and name in err and "Traceback" not in err


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_json_is_damaged_and_not_no_run(damage: str, copy: pathlib.Path, here: Here):
    run = copy / "linear" / "seed_0"
    DAMAGES[damage](run / "run.json")
    for words in (WORDS, ["evaluate"], ["export", f"--to={copy / 'x.safetensors'}"], ["sample"]):
        code, _, err = here(*words, f"--workdir={run}")
        assert code == 3 and "run.json is damaged" in err and "not a run" not in err and "Restore it" in err


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("result.json", "one bit flipped"),
        pytest.param("result.json", "deleted", marks=pytest.mark.slow),
        pytest.param("test_rows.npz", "truncated", marks=pytest.mark.slow),
        pytest.param("status.json", "emptied", marks=pytest.mark.slow),
    ],
)
def test_a_finished_run_whose_results_are_lost_measures_again_and_says_so(
    name: str, damage: str, copy: pathlib.Path, here: Here, caplog: pytest.LogCaptureFixture
):
    run = copy / "linear" / "seed_0"
    before = run_files.read(run, "result.json")
    assert before is not None
    DAMAGES[damage](run / name)
    study = runs.load_study(copy / "study")
    (one,) = runs.study_runs(study, copy / "study")
    assert one.state == ("MISSING" if name == "status.json" else "PREEMPTED"), "a study does not take it for finished either"
    code, _, err = here(*WORDS, f"--workdir={run}")
    assert code == 0 and f"{name} is damaged" in caplog.text, err
    after = run_files.read(run, "result.json")
    assert after is not None and after["metrics"] == before["metrics"] and after["state_digest"] == before["state_digest"]
    assert one.state == "DONE" and not run_files.damages(run)


def test_every_damage_to_the_file_of_a_study_is_named(copy: pathlib.Path, here: Here):
    path, shown = copy / "study" / "study.json", (copy / "study" / "report.md").read_bytes()
    whole = path.read_bytes()
    for name, damage in DAMAGES.items():
        damage(path)
        code, out, err = here("report", str(path.parent))
        wanted = (2, "there is no run in ") if name == "deleted" else (3, "study.json is damaged: ")
        assert code == wanted[0] and wanted[1] in err and "Traceback" not in err and not out, name
        assert (path.parent / "report.md").read_bytes() == shown
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(whole)
    study = runs.load_study(path.parent)
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with contextlib.suppress(DamagedFile):
            assert runs.load_study(path.parent) == study, place


def test_lost_checkpoints_are_said_and_nothing_is_destroyed(copy: pathlib.Path, here: Here, caplog: pytest.LogCaptureFixture):
    run = copy / "linear" / "seed_0"
    for entry in (run / "checkpoints").iterdir():
        shutil.rmtree(entry)
    assert here(*WORDS, f"--workdir={run}")[0] == 0, "a finished run needs none"
    code, _, err = here("evaluate", f"--workdir={run}")
    assert code == 3 and "the checkpoints of" in err and "records one of step 3" in err
    (run / "result.json").unlink()
    metrics = (run / "metrics.jsonl").read_bytes()
    code, _, err = here(*WORDS, f"--workdir={run}")
    assert code == 3 and "Restore them from a copy" in err and "--overwrite" in err
    assert (run / "metrics.jsonl").read_bytes() == metrics
    # Without a status nobody knows whether there was one: the run starts again, and what was logged is kept.
    (run / "status.json").unlink()
    code, _, err = here(*WORDS, f"--workdir={run}")
    assert code == 0 and "no checkpoint: it starts again" in caplog.text, err
    assert (run / "metrics.before.jsonl").read_bytes() == metrics == (run / "metrics.jsonl").read_bytes()


def test_a_newer_checkpoint_that_is_gone_is_a_warning(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture):
    files.write_record(tmp_path / "status.json", {"state": "RUNNING", "step": 50, "checkpoint": 40})
    run_files.require_checkpoint_kept(tmp_path, [20])
    assert "the checkpoint of step 40" in caplog.text and "going on from step 20" in caplog.text
    with pytest.raises(CheckpointError, match="records one of step 40"):
        run_files.require_checkpoint_kept(tmp_path, [])
    files.write_record(tmp_path / "status.json", {"state": "RUNNING", "step": 50, "checkpoint": 0})
    run_files.require_checkpoint_kept(tmp_path, [])
    files.write_json(tmp_path / "status.json", {"state": "PREEMPTED", "step": 50})  # of an older version
    with pytest.raises(CheckpointError, match="records one of step 50"):
        run_files.require_checkpoint_kept(tmp_path, [])


def test_every_flipped_bit_of_a_record_is_noticed_or_changes_nothing(tmp_path: pathlib.Path):
    path, content = tmp_path / "result.json", {"metrics": {"test/accuracy": 0.9875}, "steps": 20, "seeds": [0, 1]}
    files.write_record(path, content)
    whole = path.read_bytes()
    noticed = 0
    for place in range(len(whole)):
        for bit in (1, 16):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                assert files.read_record(path) == content, place
            except DamagedFile as error:
                assert str(path) in str(error)
                noticed += 1
    assert noticed > 1.6 * len(whole)


def test_a_damaged_line_loses_no_other_and_resuming_keeps_what_there_was(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "metrics.jsonl"
    write = writers.metrics_file(path, resume_at=0)
    for step in range(1, 6):
        write(step, {"train/loss": 1 / step})
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"0.5", b"0.6")
    lines[2] = b"\x00\xff{}\n"
    path.write_bytes(b"".join(lines))
    assert [record["step"] for record in writers.read_metrics(path)] == [1, 4, 5]
    with pytest.raises(DamagedFile, match=r"line 2: it does not agree with its digest; line 3: it is not JSON"):
        run_files.read_metrics(tmp_path)
    writers.metrics_file(path, resume_at=4)
    assert [record["step"] for record in writers.read_metrics(path)] == [1, 4]
    assert "line 2" in caplog.text and (tmp_path / "metrics.before.jsonl").read_bytes() == b"".join(lines)


def test_files_of_older_versions_are_read(tmp_path: pathlib.Path):
    (tmp_path / "result.json").write_text('{"metrics": {"test/loss": NaN}}', encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.5}\n', encoding="utf-8")
    assert "test/loss" in (run_files.read(tmp_path, "result.json") or {})["metrics"]
    assert run_files.read_metrics(tmp_path) == [{"step": 1, "train/loss": 2.5}]


def test_overwrite_deletes_what_a_run_wrote_and_leaves_the_rest(
    copy: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    run = copy / "linear" / "seed_0"
    mine = [run / "notes.txt", run / "figures" / "mine.svg", run / "thesis" / "a.tex"]
    of_verbs = [
        run / "samples" / "text-4-temperature-1-seed-0.txt",
        run / "explain" / "explain.html",
        run / "explain" / "a.png",
    ]
    for path in [*mine, *of_verbs]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work", encoding="utf-8")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.png").touch()
    (run / "link").symlink_to(outside)
    run_files.clear_folder(run)
    assert all(path.exists() for path in mine) and (outside / "kept.png").exists() and (run / "link").is_symlink()
    assert {entry.name for entry in run.iterdir()} == {".lock", "notes.txt", "figures", "thesis", "link"}
    assert "figures/mine.svg, link, notes.txt, thesis" in caplog.text


def test_overwrite_follows_no_link_and_deletes_nothing_then(copy: pathlib.Path, tmp_path: pathlib.Path):
    run = copy / "linear" / "seed_0"
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    before = sorted(run.iterdir())
    with pytest.raises(UsageError, match="a symbolic link: checkpoints"):
        run_files.clear_folder(run)
    assert sorted(run.iterdir()) == before and any((tmp_path / "elsewhere").iterdir())


def test_a_study_that_was_moved_is_reported_where_it_is(copy: pathlib.Path, tmp_path: pathlib.Path, here: Here):
    runs.save_study(runs.load_study(copy / "study"), copy / "study")
    moved = pathlib.Path(shutil.move(copy / "study", tmp_path / "elsewhere"))
    code, out, err = here("report", str(moved))
    assert code == 0 and "elsewhere" in out and not err
    shutil.rmtree(copy / "linear")
    before = (moved / "report.html").read_bytes()
    code, _, err = here("report", str(moved))
    assert code == 2 and "Missing: baseline, seed 0" in err and (moved / "report.html").read_bytes() == before
    (moved / "report.json").unlink()  # a report of an older version
    assert here("report", str(moved))[0] == 2 and (moved / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["ablate", "--experiment=linear_digits", "--vary=lr:0.1,0.2", "--workdir=runs/linear/seed_0"],
        ["ablate", "--experiment=linear_digits", "--vary=lr:0.1,0.2", "--workdir=a_file"],
        ["train", *WORDS, "--workdir=a_file"],
        ["train", *WORDS, "--workdir=a_file/below"],
        ["train", *WORDS, "--workdir=dangling"],
        ["train", *WORDS, "--workdir=runs/study"],
        ["train", *WORDS, f"--workdir={'x' * 300}"],
        ["train", *WORDS, "--seed=4294967295", "--seeds=2"],
        ["train", *WORDS, "--seed=-1"],
        ["train", *WORDS, "--seed=4294967296"],
        ["ablate", "--experiment=linear_digits", "--vary=lr:0.1,0.2", "--seed=4294967290", "--seeds=7"],
        ["evaluate", "--workdir=a_file"],
        ["evaluate", f"--workdir={'x' * 300}"],
        ["report", "a_file"],
        ["reproduce", "runs/study/report.md"],
        ["work", "--workdir=a_file"],
    ],
)
def test_impossible_places_and_seeds_are_a_line_before_any_work(words: list[str], copy: pathlib.Path, here: Here):
    (copy.parent / "a_file").write_text("mine", encoding="utf-8")
    (copy.parent / "dangling").symlink_to("nowhere")
    before = sorted(copy.parent.rglob("*"))
    code, out, err = here(*words)
    assert code in (2, 3) and err.startswith("error: ") and "Traceback" not in err and not out
    assert sorted(copy.parent.rglob("*")) == before


SLOW_NAMES = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("status.json", "curves.png", "test_rows.npz", "result.json")
]


@pytest.mark.parametrize("name", ["metrics.jsonl", *SLOW_NAMES])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    name: str, trained: pathlib.Path, tmp_path: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    def full(path: pathlib.Path, *arguments: object, **more: object) -> object:
        if name in str(path):
            raise OSError(28, "No space left on device", str(path))
        return open(path, *arguments, **more)  # type: ignore[call-overload]

    with monkeypatch.context() as patched:
        patched.setattr(files, "open", full, raising=False)
        code, _, err = here(*WORDS, "--workdir=run")
    assert code == 3 and "Traceback" not in err and f"{name}: no space is left on the disk" in err
    assert "run the same command again" in err
    assert name == "status.json" or run_files.read_status(tmp_path / "run")["state"] == "FAILED"
    if name == "test_rows.npz":
        assert here(*WORDS, "--workdir=run")[0] == 0
        one, other = (run_files.read(run, "result.json") or {} for run in (tmp_path / "run", trained / "linear" / "seed_0"))
        assert one["state_digest"] == other["state_digest"] and one["metrics"] == other["metrics"]


def test_tensorboard_gives_up_on_a_full_disk_and_the_training_does_not_wait(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    tensorboardx = pytest.importorskip("tensorboardX")
    events = tensorboardx.SummaryWriter(str(tmp_path))
    writer = events.file_writer.event_writer._ev_writer

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    writer.flush = writer.write_event = full
    writers._survive_full_disks(events, tmp_path)
    for step in range(50):  # the queue holds ten
        events.add_scalar("loss", 1.0, step)
    events.close()
    assert caplog.text.count("nothing more is written for TensorBoard") == 1


def test_errors_of_the_machine_are_told_from_bugs():
    class XlaRuntimeError(RuntimeError):
        pass

    for error in (MemoryError(), XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")):
        found = of_the_world(error)
        assert found and str(found).startswith("out of memory") and "--batch_size" in str(found) and found.exit_code == 3
    found = of_the_world(OSError(122, "Disk quota exceeded", "/data/x"))
    assert isinstance(found, DiskError) and "/data/x: the quota of the disk is used up" in str(found)
    found = of_the_world(RuntimeError("Unable to initialize backend 'cuda': no device (set JAX_PLATFORMS='' to choose)"))
    assert found and found.exit_code == 2 and "nothing is run on another one instead" in str(found)
    assert of_the_world(XlaRuntimeError("INTERNAL: a bug")) is None and of_the_world(ValueError("a bug")) is None


def test_memory_that_runs_out_is_one_line_with_advice(here: Here, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    def exhausted(*arguments: object, **more: object) -> None:
        raise MemoryError

    monkeypatch.setattr(engine, "fit", exhausted)
    code, _, err = here(*WORDS, "--workdir=run")
    assert code == 3 and err.count("error: ") == 1 and "Give a smaller --batch_size" in err
    status = run_files.read_status(tmp_path / "run")
    assert status["state"] == "FAILED" and status["message"].startswith("out of memory")


@pytest.mark.parametrize("split", ["validation", pytest.param("test", marks=pytest.mark.slow)])
def test_a_signal_during_an_evaluation_ends_it_and_the_resumed_run_is_the_same(
    split: str, trained: pathlib.Path, tmp_path: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    measured = engine.evaluate

    def interrupted(program: object, state: object, which: str, **more: object) -> object:
        if which == split:
            os.kill(os.getpid(), signal.SIGTERM)
        return measured(program, state, which, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(engine, "evaluate", interrupted)
        code, _, err = here(*WORDS, "--workdir=run")
    assert code == 75 and "same command" in err
    assert run_files.read_status(tmp_path / "run")["state"] == "PREEMPTED"
    assert here(*WORDS, "--workdir=run")[0] == 0
    whole = trained / "linear" / "seed_0"
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    one, other = (run_files.read(run, "result.json") or {} for run in (tmp_path / "run", whole))
    assert one["state_digest"] == other["state_digest"] and one["metrics"] == other["metrics"]
    kept = sorted(json.loads(path.read_text(encoding="utf-8"))["content"]["metrics"] != {} for path in
                  (tmp_path / "run").glob("checkpoints/*/manifest.json"))  # fmt: skip
    assert kept == [True], "the checkpoint is ranked as that of an uninterrupted run"


def test_a_signal_outside_of_training_is_exit_75(here: Here, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        monkeypatch.setattr(run, "build", lambda *_, number=number, **__: os.kill(os.getpid(), number))
        code, _, err = here(*WORDS, "--workdir=run")
        assert code == 75 and "stopped by SIG" in err and "the same command does the rest" in err
    assert not (tmp_path / "run").exists()


class Dying:
    """An object whose destructor is interrupted by Ctrl-C; an error of a destructor is lost."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(1000))


def interrupted_destructor() -> None:
    Dying()
    time.sleep(5)


def interrupted_import() -> None:
    with contextlib.suppress(ImportError):
        import interrupted_while_it_is_imported  # type: ignore[import-not-found]  # noqa: F401
    time.sleep(5)


def interrupted_and_broken() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except Preempted:
        raise ImportError("Encountered an error while initializing the extension.") from None


@pytest.mark.parametrize("what", [interrupted_destructor, interrupted_import, interrupted_and_broken])
def test_a_signal_is_neither_lost_nor_another_error(
    what: Callable[[], None], here: Here, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    module = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\n"
    (tmp_path / "interrupted_while_it_is_imported.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(run, "build", lambda *arguments, **more: what())
    code, _, err = here(*WORDS, "--workdir=run")
    assert code == 75 and err.startswith("stopped by SIGINT") and "Traceback" not in err


@pytest.mark.slow
def test_no_steps_are_remarked(here: Here, tmp_path: pathlib.Path):
    code, out, _ = here("--experiment=linear_digits", "--steps=0", "--workdir=run")
    assert code == 0 and "0 steps: these are the numbers of the network as it was initialised" in out


@pytest.mark.slow
def test_the_code_that_a_run_names_is_said_before_it_is_executed(
    here: Here, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    odd = tmp_path / "my {v2} [1]%s.py"
    odd.write_text("from experiments.linear_digits import experiment\n", encoding="utf-8")
    code, _, err = here(f"--experiment={odd}", "--steps=1", f"--workdir={tmp_path / 'run {0}[a]'}")
    assert code == 0, err
    odd.write_text("raise SystemExit('executed')\n", encoding="utf-8")
    code, _, err = here("evaluate", f"--workdir={tmp_path / 'run {0}[a]'}")
    assert code == 2 and "executed" in err, err
    assert f"running the code of {odd}, which " in caplog.text
