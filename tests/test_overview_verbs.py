"""runs --watch, runs compare and runs clean: live numbers, what differs beside the numbers, and what may be removed."""

import io
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from commands import Here
from test_overview import above, write_run  # noqa: F401

from cnnlab.errors import UsageError
from cnnlab.overview import clean, find
from cnnlab.overview.compare import compare, comparison_lines
from cnnlab.overview.rows import Overview
from cnnlab.overview.watch import OTHER_SCREEN, OWN_SCREEN, watch
from cnnlab.runs.lock import is_held, locked
from cnnlab.terminal import Terminal, columns


def test_a_live_view_without_a_terminal_prints_a_line_for_each_change(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
):
    run = write_run(tmp_path / "runs" / "a", "RUNNING", step=10, accuracy=0.25)
    changes: Iterator[Callable[[], object]] = iter(
        [
            lambda: None,
            lambda: write_run(run, "RUNNING", step=20, accuracy=0.5),
            lambda: write_run(run, accuracy=0.75),
        ]
    )
    with locked(run):
        watch(
            lambda: find.look([tmp_path / "runs"]),
            lambda found, terminal: [f"{len(found.runs)} run"],
            is_terminal=False,
            sleep=lambda seconds: next(changes)() and None,
        )
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "1 run" and [line.split("  ", 1)[1] for line in lines] == [
        "a  running  20/40  validation accuracy 50.00 %",
        "a  finished  40  test accuracy 75.00 %",
    ]


def test_a_live_view_on_a_terminal_leaves_it_as_it_was(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LINES", "10")
    seen: list[int] = []

    def interrupt(seconds: float) -> None:
        seen.append(len(seen))
        if len(seen) == 3:
            raise KeyboardInterrupt

    table = [f"line {i}" for i in range(20)]
    watch(lambda: Overview("runs", (), ()), lambda found, terminal: table, is_terminal=True, sleep=interrupt)
    out = capsys.readouterr().out
    assert out.startswith(OTHER_SCREEN) and len(seen) == 3 and "… 12 more lines" in out
    assert out.partition(OWN_SCREEN)[2] == "\n".join(table) + "\n"


def test_runs_are_compared_by_what_differs_beside_their_numbers(above: pathlib.Path):  # noqa: F811
    found = compare([above / "a" / "seed_0", above / "a" / "seed_1", above / "stopped"])
    assert {line.name: line.values for line in found.settings} == {
        "optimizer.lr": ("0.1", "0.2", "0.1"),
        "seed": ("0", "1", "0"),
    }
    numbers = {line.name: line for line in found.numbers}
    assert numbers["test accuracy, %"].values == ("75.00", "87.50", "–")
    assert numbers["test accuracy, %"].differences == ("+12.50", "")
    assert numbers["test accuracy, %"].purposes == ("better", "")
    assert numbers["time"].values == ("3.2 s", "3.2 s", "–")
    assert any(remark.startswith("C is stopped at step 8") for remark in found.remarks)
    assert any(remark.startswith("The seeds differ") for remark in found.remarks)
    for width in (40, 80, 140):
        lines = comparison_lines(found, Terminal(width))
        assert all(columns(line) <= width for line in lines)
        assert sum("B−A" in line for line in lines) == 1 and any("+12.50" in line for line in lines)


def test_runs_on_other_data_or_of_other_code_are_not_comparable(tmp_path: pathlib.Path):
    data = [{"name": "digits", "fingerprint": letter * 16, "sizes": {"train": 3}} for letter in "ab"]
    sources = [{"cnnlab/core.py": "1" * 16, "mine.py": letter * 16} for letter in "ab"]
    places = [
        write_run(tmp_path / name, run={"data": one, "sources": code})
        for name, one, code in zip("xy", data, sources, strict=True)
    ]
    remarks = " ".join(compare(places).remarks)
    assert (
        "they differ in data: digits with fingerprint aaaaaaaaaaaa in A; digits with fingerprint bbbbbbbbbbbb in B" in remarks
    )
    assert "they differ in code" in remarks and "the code of mine.py" in remarks
    with pytest.raises(UsageError, match="takes 2 to 26 runs, got 1"):
        compare(places[:1])
    with pytest.raises(UsageError, match="holds 2 runs, such as"):
        compare([tmp_path, places[0]])


def test_the_verb_compares_and_says_where_nothing_differs(above: pathlib.Path, here: Here):  # noqa: F811
    shutil.copytree(above / "a" / "seed_0", above / "copy" / "seed_0")
    code, out, err = here("runs", "compare", "runs/a/seed_0", "runs/copy")
    assert code == 0 and "The runs agree in every knob" in out and "+0.00" in out, err
    content = json.loads(here("runs", "compare", "runs/a/seed_0", "runs/a/seed_1", "--format=json")[1])
    assert content["differing"]["seed"] == ["0", "1"] and content["runs"][1]["metrics"]["test/accuracy"] == 0.875
    code, _, err = here("runs", "compare", "runs/a/seed_0", "runs/study")
    assert code == 2 and "is a study, not a run" in err
    assert "runs compare [FOLDER …] [flags]" in here("help", "runs", "compare")[1]


def old(folder: pathlib.Path) -> pathlib.Path:
    """Makes a folder that was there for an hour."""
    folder.mkdir(parents=True)
    os.utime(folder, (time.time() - 3600,) * 2)
    return folder


@pytest.fixture
def untidy(above: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:  # noqa: F811
    """The folder `runs` with things that may go: failed, superseded and stale runs, and empty folders."""
    monkeypatch.setattr("socket.gethostname", lambda: "vm")
    write_run(above / "again", "STOPPED", step=5, lr=0.2, seed=1)
    (above / "again" / "checkpoints" / "5").mkdir(parents=True)
    write_run(above / "kept", "FAILED", step=9, lr=7.0)
    (above / "kept" / "checkpoints" / "9").mkdir(parents=True)
    (above / "kept" / "checkpoints" / "4.corrupt").mkdir()
    (above / "kept" / "metrics.before.jsonl").write_text("x" * 100)
    write_run(above / "strange", "FAILED", lr=8.0)
    (above / "strange" / "notes.txt").write_text("mine")
    write_run(above / "elsewhere", "RUNNING", lr=9.0, process="process 1 on another")
    old(above / "linear-0123" / "seed_0")
    (above / "fresh").mkdir()
    (above / "a" / "seed_0" / "result.json").write_text("{")  # damaged
    return above


def test_only_what_is_failed_superseded_or_empty_may_be_removed(untidy: pathlib.Path):
    with locked(untidy / "busy"):
        found = {str(one.path.relative_to(untidy)): one.reason for one in clean.removals([untidy])}
        assert is_held(untidy / "busy")
    assert found == {
        "again": f"stopped, superseded by {untidy / 'a' / 'seed_1'}",
        "arm/seed_1": "failed, without a checkpoint",
        "failed": "failed, without a checkpoint",
        "kept/checkpoints/4.corrupt": "left over in a run",
        "kept/metrics.before.jsonl": "left over in a run",
        "linear-0123/seed_0": "a folder in which no run was begun",
        "preempted": "preempted, without a checkpoint",
        "stale": "stale, without a checkpoint",
        "stopped": f"stopped, superseded by {untidy / 'arm' / 'seed_0'}",
        "strange": "failed, without a checkpoint",
    }


def test_runs_of_a_study_that_is_running_stay(untidy: pathlib.Path):
    with locked(untidy / "study"):
        assert not any(one.path.is_relative_to(untidy / "arm") for one in clean.removals([untidy]))


def test_nothing_is_removed_without_a_yes_and_foreign_files_stay(
    untidy: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch
):
    before = sorted(untidy.rglob("*"))
    code, out, err = here("runs", "clean", "--dry_run")
    assert code == 0 and "to remove" in out and "runs/strange" in out and not err
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, err = here("runs", "clean")
    assert code == 2 and "Add --yes to remove it, or --dry_run" in err
    answers = io.StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", answers)
    assert here("runs", "clean")[0] == 0 and sorted(untidy.rglob("*")) == before
    code, out, err = here("runs", "clean", "--yes")
    assert code == 0 and "left: runs/strange: it holds files that a run does not write" in out, err
    assert not (untidy / "failed").exists() and not (untidy / "linear-0123").exists()
    assert (untidy / "strange" / "notes.txt").read_text() == "mine" and not (untidy / "strange" / "run.json").exists()
    assert (untidy / "kept" / "checkpoints" / "9").is_dir() and not (untidy / "kept" / "checkpoints" / "4.corrupt").exists()
    kept = ("a/seed_0", "a/seed_1", "arm/seed_0", "other/seed_0", "diverged", "elsewhere")
    assert all((untidy / name / "run.json").exists() for name in kept)


def test_a_run_that_began_again_after_the_list_was_made_stays(untidy: pathlib.Path):
    one = next(one for one in clean.removals([untidy]) if one.path.name == "failed")
    with locked(one.path):
        assert "is being trained by process 1 on vm" in clean.remove(one)
    write_run(one.path)
    assert clean.remove(one) == "it is finished now" and (one.path / "result.json").exists()
