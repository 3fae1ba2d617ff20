"""The accelerator's command on a CPU: small twins of its parts, its minutes, its file, and what it says of unknown names."""

import json
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import contract
import numpy as np
import pytest

from benchmarks import page
from benchmarks.accelerator import batched, ceilings, cifar10, pixels, session, steps, unfinished, works
from benchmarks.accelerator.board import RESERVE_SECONDS, Board, Case, Row, Settings
from cnnlab.ablation import commands
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.plan import declaration
from cnnlab.ablation.plan.request import Comparison, DesignRequest
from cnnlab.ablation.plan.study import Arm, RunResult, Study
from cnnlab.ablation.report.csv_tables import arms_csv
from cnnlab.engine.program import phases
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.runs.experiments import load_experiment

FAST = ("knn", "pursuit", "copy", "products", "forms")
CASES = session.all_cases()


@pytest.fixture
def settings(tmp_path: pathlib.Path) -> Settings:
    """Tiny sizes, and ten minutes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return Settings(True, time.monotonic() + 600, folder, tmp_path / "pixels")


def one(value: float, name: str = "row") -> Row:
    return Row(name, value, "s", note="a | note")


def steady(settings: Settings) -> Iterator[Row]:
    yield one(1.0, "first")
    yield one(2.0, "second")


def failing(settings: Settings) -> Iterator[Row]:
    yield one(3.0, "before")
    raise RuntimeError("no such kernel")


def stage(name: str) -> list[Any]:
    """The marks of a case; of the tasks, which the contract has, and of the claims, one is run here, the others by hand."""
    if name in FAST:
        return []
    rarely = name in ("commands", *list(unfinished.DECLARED.values())[1:]) or (name in contract.TASKS and name != "classify")
    return [pytest.mark.slow, *[pytest.mark.thorough] * rarely]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name, marks=stage(case.name)) for case in CASES])
def test_a_tiny_twin_of_every_case_gives_finite_rows(case: Case, settings: Settings):
    rows = list(case.rows(settings))
    assert rows or case.name in ("knn", "pca"), "two tasks take no step"
    for row in rows:
        assert isinstance(row.value, str | bool) or math.isfinite(row.value), row
        assert row.value is not False and not str(row.value).startswith("out of time"), row
        assert row.met is not False, row
        assert "differs from the declaration" not in row.note, row


def test_parts_come_in_their_order_and_rows_take_twenty_steps():
    parts = list(dict.fromkeys(case.part for case in CASES))
    assert parts == ["does it work", "ceilings", "steps", "batched runs", "cifar10", "unfinished"]
    assert len({case.name for case in CASES}) == len(CASES)
    made = {name: make(works.STEPS) for name, make in works._tasks().items() if name in ("classify", "stacked", "pursuit")}
    assert {name: sum(phase.steps for phase in phases(each)) for name, each in made.items()} == dict.fromkeys(made, 20)


def test_a_case_that_fails_is_named_and_the_others_are_measured(settings: Settings, tmp_path: pathlib.Path):
    cases = [Case("part", "failing", 1, failing), Case("part", "steady", 1, steady)]
    board = Board(tmp_path / "new" / "table.json", {"tiny": True})
    assert session.measure(cases, board, settings) is False
    written = json.loads((tmp_path / "new" / "table.json").read_text())
    assert [row["value"] for row in written["rows"]] == [3.0, 1.0, 2.0]
    assert [(case["case"], case["why"]) for case in written["left_out"]] == [("failing", "RuntimeError: no such kernel")]
    assert written["machine"]["devices"] and written["machine"]["versions"]["jax"]


def test_it_stops_at_its_minutes_within_a_case_and_before_the_next(
    settings: Settings, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def slow(settings: Settings) -> Iterator[Row]:
        for number in range(5):
            clock[0] += 20
            yield one(float(number), f"row {number}")

    limited = Settings(False, 1000.0 + 45 + RESERVE_SECONDS, settings.folder)
    board = Board(tmp_path / "table.json", {})
    cases = [Case("part", "long", 46, slow), Case("part", "slow", 40, slow), Case("part", "next", 1, steady)]
    assert session.measure(cases, board, limited)
    written = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["row 0", "row 1", "row 2"]
    assert {case["case"]: case["why"] for case in written["left_out"]} == {
        "long": "45 s are left and it may take 46 s",
        "slow": "the minutes were over after 'row 2'",
        "next": "0 s are left and it may take 1 s",
    }
    assert "row 2" in capsys.readouterr().out


def test_only_takes_parts_and_cases_and_suggests_the_name_that_was_meant():
    assert {case.name for case in session.chosen(CASES, ["ceilings", "airbench"])} == {"copy", "products", "airbench"}
    assert session.chosen(CASES, []) == list(CASES)
    with pytest.raises(UsageError, match=r"--only=cielings: no such part or case\. Did you mean ceilings"):
        session.chosen(CASES, ["cielings"])


def test_without_pixels_the_last_parts_say_so(settings: Settings):
    real = Settings(False, settings.deadline, settings.folder, settings.data)
    cases = [*cifar10.CASES, *unfinished.CASES]
    assert {row.value for case in cases for row in case.rows(real)} == {"no cifar10.npz in --data", "no mnist.npz in --data"}


@pytest.mark.parametrize("name", unfinished.DECLARED)
def test_studies_run_as_they_are_declared(name: str):
    experiment = load_experiment(name)
    flags = {"dataset": "npz:cifar10.npz"}
    plan = commands.study_from_flags(
        DesignRequest(), experiment, experiment.resolve(flags), flags, (), Comparison(), precision="f32"
    )
    assert declaration.differences(plan, declaration.declared_by(experiment), experiment) == []


def test_pixels_travel_in_pieces(tmp_path: pathlib.Path):
    image = pytest.importorskip("PIL.Image")
    import io
    import tarfile

    random = np.random.default_rng(0)
    wanted = {split: random.integers(0, 256, (6, 32, 32, 3), np.uint8) for split in ("train", "test")}
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for split, images in wanted.items():
            contents = {f"{split}_labels.u8": bytes(range(6))}
            for number in (0, 1):
                strip = io.BytesIO()
                rows = images[3 * number : 3 * number + 3].reshape(-1, 32, 3)  # [3, 32, 32, 3] -> [96, 32, 3]
                image.fromarray(rows).save(strip, "WEBP", lossless=True)
                contents[f"{split}_{number:05d}.webp"] = strip.getvalue()
            for name, content in contents.items():
                entry = tarfile.TarInfo(f"cifar10/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    pieces = pixels.cut(tmp_path / "all.tar", tmp_path, piece=5000)
    assert len(pieces) > 2 and max(path.stat().st_size for path in pieces) <= 5000
    with np.load(pixels.unpack(tmp_path)) as found:
        for split, images in wanted.items():
            np.testing.assert_array_equal(found[f"x_{split}"], images)
            assert found[f"y_{split}"].tolist() == list(range(6))


def record(device: str, *, tiny: bool = False) -> dict:
    machine = {"devices": [device], "platform": "Linux", "python": "3.12", "versions": {"jax": "0.11", "torch": None}}
    row = {"part": "steps", "case": "lenet", "name": "LeNet-5", "value": 1234.5, "unit": "µs", "goal": "<= 2000"}
    return {
        "machine": {**machine, "time": "2026-11-28 04:00:00 UTC"},
        "arguments": {"tiny": tiny},
        "rows": [{**row, "met": True, "note": "a | b"}],
        "left_out": [{"part": "steps", "case": "resnet50", "why": "3 s are left"}],
    }


def test_the_page_names_machine_and_date_and_says_whether_an_accelerator_was_seen():
    assert "No accelerator has been seen yet" in page.page([])
    assert "No accelerator" in page.page([record("gpu: H100", tiny=True)])
    shown = page.page([record("gpu: NVIDIA H100")])
    assert "No accelerator" not in shown and "## gpu: NVIDIA H100 (2026-11-28)" in shown
    assert "| steps | LeNet-5 | 1,234 µs | <= 2000, met | a \\| b |" in shown and "- steps, resnet50: 3 s are left" in shown
    assert "Python 3.12, jax 0.11; measured" in shown  # and nothing of torch, which was not there


def test_the_page_in_docs_is_that_of_the_records():
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((page.ROOT / "benchmarks/records").glob("*.json"))
    ]
    assert (page.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == page.page(records)


def test_forms_of_many_convolutions_agree():
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 2, 5, 4, 2)).astype(np.float32)
    kernel = random.normal(size=(3, 3, 3, 2, 4)).astype(np.float32)
    first, *others = (form(x, kernel) for form in batched.FORMS.values())
    for other in others:
        np.testing.assert_allclose(other, first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ((0.5, 0.75), "+0.25 (no interval: the same in all 2 pairs) to the baseline"),
        ((0.25, 0.5), "+0 (no interval: the same in all 2 pairs) to the baseline"),
        ((0.5, 1.0), "+0.375 [-1.213, 1.963] to the baseline"),
        ((0.5,), "+0.25 (no interval: one pair) to the baseline"),
        ((), "n = 0, "),
    ],
)
def test_an_arm_without_a_spread_has_no_interval_and_says_why(scores: tuple[float, ...], shown: str, tmp_path: pathlib.Path):
    both = (Arm("baseline", {}, folder="a"), Arm("arm", {}, folder="b"))
    accuracy = Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True)
    plan = Study("toy", "none", {}, "grid", both, (0, 1), {}, metrics={"accuracy": accuracy})
    outcomes = [
        RunResult(arm, seed, "DONE", "", "", {"test/accuracy": value})
        for arm, values in (("baseline", (0.25, 0.5)), ("arm", scores))
        for seed, value in enumerate(values)
    ]
    analysis = analyse(plan, outcomes, resamples=100)
    (tmp_path / "study.json").write_text(json.dumps({"metric": plan.metric}), encoding="utf-8")
    (tmp_path / "arms.csv").write_text(arms_csv(plan, analysis), encoding="utf-8")
    *_, row = unfinished.rows_of("toy", tmp_path)
    assert shown in row.note and "nan" not in row.note and (row.value == "no finished run" or scores)


def test_ceilings_and_steps_have_goals_only_where_they_mean_something(settings: Settings):
    assert all(row.met is None for case in ceilings.CASES for row in case.rows(settings))
    assert steps.images(settings, side=4, channels=1, count=8).startswith("npz:")
