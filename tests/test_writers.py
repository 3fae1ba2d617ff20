"""Files appear whole or not at all, torn lines do not break a reader, and times are shown in words."""

import errno
import pathlib
import sys
import types
from typing import Any, BinaryIO

import pytest

from cnnlab import files
from cnnlab.errors import DiskError
from cnnlab.runs import writers
from cnnlab.runs.rates import learning_rates
from cnnlab.text import format_duration


def test_json_is_replaced_as_a_whole_and_leaves_nothing_beside_it(tmp_path: pathlib.Path):
    path = tmp_path / "status.json"
    for content in ({"state": "RUNNING"}, {"state": "DONE", "steps": 3}):
        files.write_json(path, content)
        assert files.read_json(path) == content
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]
    with pytest.raises(TypeError):
        files.write_json(path, {"state": object()})
    assert files.read_json(path) == {"state": "DONE", "steps": 3}


def test_a_missing_or_broken_json_reads_as_none(tmp_path: pathlib.Path):
    (tmp_path / "broken.json").write_text('{"state": ', encoding="utf-8")
    assert files.read_json(tmp_path / "broken.json") is None and files.read_json(tmp_path / "no.json") is None


def test_a_torn_last_line_is_left_out_and_resuming_drops_what_came_after(tmp_path: pathlib.Path):
    path = tmp_path / "metrics.jsonl"
    lines = writers.metrics_file(path, resume_at=0)
    for step in (10, 20, 30):
        lines(step, {"train/loss": 1 / step})
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"step": 40, "train/lo')
    assert [record["step"] for record in writers.read_metrics(path)] == [10, 20, 30]
    writers.metrics_file(path, resume_at=20)(25, {"train/loss": 0.5})
    assert [record["step"] for record in writers.read_metrics(path)] == [10, 20, 25]


def test_numbers_that_json_has_no_word_for_become_null(tmp_path: pathlib.Path):
    path = tmp_path / "metrics.jsonl"
    writers.metrics_file(path, resume_at=0)(1, {"train/loss": float("nan"), "train/accuracy": 0.5})
    assert "NaN" not in path.read_text(encoding="utf-8")
    assert writers.read_metrics(path) == [{"step": 1, "train/loss": None, "train/accuracy": 0.5}]


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (47, "47 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")])
def test_durations_read_as_people_say_them(seconds: float, text: str):
    assert format_duration(seconds) == text


def test_a_file_whose_writing_fails_stays_as_it_was_and_nothing_is_left(tmp_path: pathlib.Path):
    path = tmp_path / "report.md"
    files.write_text(path, "−0.5 ± 0.1 →\n")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskError, match=r"report\.md: no space is left on the disk\.\nFree some space"):
        files.replace_file(path, fail)
    assert path.read_bytes() == "−0.5 ± 0.1 →\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.md"]


def test_tensorboard_gets_the_rates_and_the_speed_of_each_training_record(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[tuple[str, float, int]] = []
    recorder = types.SimpleNamespace(add_scalar=lambda *record: written.append(record), close=lambda: None)
    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=lambda *a, **k: recorder))
    monkeypatch.setattr(writers, "_survive_full_disks", lambda events, folder: None)
    write, _, _ = writers.tensorboard(tmp_path, resume_at=10, rates=lambda step: {"learning_rate/optimizer": step / 100})
    for step, name in ((20, "train/loss"), (20, "validation/loss"), (30, "train/loss")):
        write(step, {name: 0.5})
    by_name = {name: [(value, at) for known, value, at in written if known == name] for name, _, _ in written}
    assert by_name["learning_rate/optimizer"] == [(0.2, 20), (0.3, 30)]
    ((speed, step),) = by_name["speed/steps_per_second"]  # the first record holds the compilation
    assert step == 30 and speed > 0 and by_name["validation/loss"] == [(0.5, 20)]


def test_learning_rates_follow_the_knobs_of_every_optimizer():
    given = {
        "optimizer.lr": "0.5",
        "optimizer.schedule": "linear",
        "other.lr": "0.1",
        "other.schedule": "constant",
        "model.lr": "3",
        "mine.lr": "1",
        "mine.schedule": "no_such_schedule",
    }
    experiment: Any = types.SimpleNamespace(steps=100, phases=())
    rates = learning_rates(given, experiment)
    assert rates(0).keys() == {"learning_rate/optimizer", "learning_rate/other"}
    assert [round(rates(step)["learning_rate/optimizer"], 6) for step in (0, 33, 99)] == [0.5, 0.333333, 0.0]
    assert rates(99)["learning_rate/other"] == pytest.approx(0.1)
    phased: Any = types.SimpleNamespace(steps=100, phases=(1, 2))
    assert learning_rates(given, phased)(5) == {}
