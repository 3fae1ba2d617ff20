"""The benchmark's command: its parts, how runs take turns, the record, the table and the page. Nothing here is timed."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import goals, measure, page, tables
from benchmarks.environments import NotInstalled, install
from benchmarks.measure import Measured, Spent, Worker, WorkerFailed, in_turns, of_command, ratio, together
from benchmarks.parts import PARTS, Case
from benchmarks.record import Record
from benchmarks.settings import Settings, available_cores
from benchmarks.tables import Line, Table
from cnnlab.errors import UsageError
from tests.commands import ROOT


def settings(folder: pathlib.Path, **given) -> Settings:
    return Settings(**{"rounds": 2, "seconds": 0.0, "cores": available_cores(2), "folder": folder, "quick": True, **given})


def fake(part: str = "steps", case: str = "lenet5", ours: float = 8.0) -> Table:
    """A table of three rounds of which the ratios are ours / 10 and ours / 5."""
    kinds = {"cnnlab": ours, "PyTorch eager": 10.0, "PyTorch channels_last": 5.0}
    lines = [Line(name, [ms, 2 * ms, 3 * ms], [ms, 2 * ms, 3 * ms], {"first step s": 1.5}) for name, ms in kinds.items()]
    return Table(part, case, "A network | of two layers", "ms", lines, tuple(kinds)[1:])


def test_runs_take_turns_and_one_that_fails_is_left_out():
    order = []

    def run_of(name: str):
        def run(steps: int) -> Spent:
            order.append(name)
            if name == "bad":
                raise WorkerFailed("it cannot")
            return Spent(0.1 * steps, 0.2 * steps)

        return run

    found = in_turns({name: run_of(name) for name in ("a", "bad", "b")}, rounds=2, seconds=1.0, say=lambda words: None)
    assert order == ["a"] * 3 + ["bad"] + ["b"] * 3 + ["a", "b"] * 2
    assert found["bad"].failed == "it cannot" and not found["bad"].wall
    assert found["a"].wall == pytest.approx([0.1, 0.1]) and found["b"].cpu == pytest.approx([0.2, 0.2])
    table = tables.lines_of(found, "ms")
    assert [line.name for line in table["lines"]] == ["a", "b"] and table["remarks"] == ["bad left out: it cannot"]


def test_a_comparison_of_steps_that_take_long_has_fewer_rounds_and_no_trial(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "ENOUGH", 0.0)
    asked = []

    def run(steps: int) -> Spent:
        asked.append(steps)
        return Spent(2.0 * steps, 2.0 * steps)

    found = in_turns({"slow": run}, rounds=9, seconds=1.0, say=lambda words: None)
    assert asked == [1, 2, *[1] * measure.LEAST_ROUNDS] and found["slow"].wall == [2.0] * measure.LEAST_ROUNDS


def test_a_ratio_compares_neighbours_in_time():
    assert ratio([1.0, 20.0, 3.0], [2.0, 40.0, 6.0]) == 0.5


def test_a_worker_answers_whatever_a_library_prints_and_its_last_words_are_told():
    workers = {
        "good": Worker("tests.idle_work", {"parameters": 7}, cores=available_cores(1)),
        "bad": Worker("tests.idle_work", {"parameters": 7, "fails": True}, cores=available_cores(1)),
        "none": Worker("tests.idle_work", {"misspelt": 7}, cores=available_cores(1)),
    }
    runs = {name: (worker, "step") for name, worker in workers.items()}
    about, found = together(runs, rounds=2, seconds=0.0, say=lambda words: None)
    assert about == {"good": {"parameters": 7}, "bad": {"parameters": 7}}
    assert len(found["good"].wall) == 2 and found["good"].told == [{"compilations": 1}] * 2
    assert found["bad"].failed == "ValueError: it cannot" and "misspelt" in found["none"].failed


def test_processes_that_work_together_are_asked_at_once_and_end_together():
    others = {"both": {"parameters": 9}, "half": {"parameters": 9, "fails": True}, "one": {"misspelt": 9}}
    workers = {
        name: Worker("tests.idle_work", {"parameters": 8}, other, cores=available_cores(1)) for name, other in others.items()
    }
    runs = {f"{name} {again}": (worker, "step") for name, worker in workers.items() for again in range(2)}
    about, found = together(runs, rounds=1, seconds=0.0, say=lambda words: None)
    assert about == {name: {"parameters": 8} for name in ("both 0", "both 1", "half 0", "half 1")}
    assert [name for name, each in found.items() if not each.failed] == ["both 0", "both 1"]
    assert len(found["both 1"].wall) == 1 and found["half 0"].failed == "ValueError: it cannot"
    assert "misspelt" in found["one 0"].failed and found["one 1"].failed, "nobody waits for the one that is there"


def test_a_command_is_timed_until_a_line_appears_and_must_end_well(tmp_path: pathlib.Path):
    words = [sys.executable, "-c", "import sys; print('step 1/2', file=sys.stderr)"]
    spent = of_command(words, until="step 1/", cwd=tmp_path, env={})
    assert 0 < spent.wall < 20 and spent.cpu > 0
    with pytest.raises(WorkerFailed, match="ended with code 3"):
        of_command([sys.executable, "-c", "raise SystemExit(3)"], cwd=tmp_path, env={})
    with pytest.raises(WorkerFailed, match="ended with code 0"):
        of_command([sys.executable, "-c", ""], until="step 1/", cwd=tmp_path, env={})


def test_names_are_parts_and_cases_and_knobs_have_the_type_of_their_default():
    def names(found: command.Chosen) -> list[str]:
        return [f"{part}.{case}" for part, case, _, _ in found]

    by_default = names(command.chosen([], {}))
    assert by_default == [f"{part}.{case}" for part in ("steps", "loops") for case in PARTS[part].cases]
    assert names(command.chosen(["remat", "steps.vae"], {})) == ["steps.vae", "remat.modes"]
    (_, _, _, knobs), *_ = command.chosen(["checkpoint"], {"width": "0.5", "folder": "/data"})
    assert knobs == {"width": 0.5, "folder": "/data"}
    with pytest.raises(UsageError, match=r"stepz: no such part or case\. Did you mean steps"):
        command.chosen(["stepz"], {})
    with pytest.raises(UsageError, match="--colour: no chosen case has such a knob"):
        command.chosen(["remat"], {"colour": "red"})
    with pytest.raises(UsageError, match="--size=large: expected a value such as 32"):
        command.chosen(["remat"], {"size": "large"})


def test_the_default_set_fits_into_twenty_minutes_and_every_goal_has_its_case():
    assert sum(case.seconds for _, _, case, _ in command.chosen([], {})) <= 18 * 60
    for goal in goals.GOALS:
        assert goal.case in PARTS[goal.part].cases, goal.name
    assert all(case in PARTS[part].cases for part, case in goals.REMARKS)


def test_a_record_has_what_was_measured_and_what_was_left_out(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    def broken(settings: Settings) -> Table:
        raise AssertionError("the networks differ")

    cases = {
        "lenet5": Case(5, lambda settings: fake()),
        "autoencoder": Case(5, broken),
        "resnet18": Case(500, lambda settings: fake()),
        "vae": Case(5, lambda settings: fake(case="vae")),
    }
    record = Record(tmp_path / "cpu.json", (0, 1), {"quick": False})
    listed = [("steps", name, case, {}) for name, case in cases.items()]
    assert not command.measure(listed, settings(tmp_path, quick=False), record, 100.0)
    command.report(record)
    written = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    assert [(table["part"], table["case"]) for table in written["tables"]] == [("steps", "lenet5"), ("steps", "vae")]
    assert tables.of_record(written["tables"][0]) == fake()
    left_out = {case["case"]: case["why"] for case in written["left_out"]}
    assert left_out["autoencoder"] == "AssertionError: the networks differ" and "it takes about" in left_out["resnet18"]
    said = capsys.readouterr().out
    assert "0.80 (0.80)" in said and "1.60 (1.60)" in said and "MISSED" in said and "2 tables in" in said


def record(table: Table, time: str, **arguments) -> dict:
    machine = {
        "devices": ["cpu: 2 cores of X"],
        "platform": "Linux",
        "python": "3.12",
        "versions": {"jax": "0.11"},
        "time": time,
    }
    found = {"tables": [dataclasses.asdict(table)], "left_out": [], "seconds": 61.0}
    return {"machine": machine, "arguments": arguments, **found}


def test_the_page_shows_the_newest_table_of_each_case_the_goals_and_why_one_is_missed():
    records = [
        record(fake(ours=8.0), "2026-11-29 01:00:00 UTC"),
        record(fake(ours=1.0), "2026-11-28 01:00:00 UTC"),
        record(fake(case="vae"), "2026-11-27 01:00:00 UTC"),
        record(fake(case="unet"), "2026-11-30 01:00:00 UTC", quick=True),
    ]
    shown = page.page(records)
    assert shown.count("A network \\| of two layers") == 2 and "On a CPU (2026-11-29)" in shown and "11-30" not in shown
    assert "| cnnlab | 16 | 8 – 24 | 16 | 1.5 | 0.80 (0.80) | 1.60 (1.60) |" in shown
    assert "| step of lenet5 / PyTorch eager | 0.80 | 0.9 | met |" in shown
    assert "| step of lenet5 / PyTorch channels_last | 1.60 | 0.9 | **missed** |" in shown
    assert " ".join(goals.STEP_GOALS["lenet5"][2].split()) in shown and "No accelerator has been seen yet" in shown
    assert "Measured 2026-11-27 on cpu: 2 cores of X." in shown


def test_libraries_that_cannot_be_installed_are_named(tmp_path: pathlib.Path):
    with pytest.raises(NotInstalled, match="nothing"):
        install(sys.executable, [("--no-index", "--disable-pip-version-check", "nothing==0")], tmp_path / "marker")
    assert not (tmp_path / "marker").exists()


def test_a_busy_machine_is_told():
    found = {"a": Measured([1.0], [1.0], busy=[0.5])}
    table = Table("steps", "lenet5", "title", "s", **tables.lines_of(found, "s"))
    assert "Other programs used 0.5 cores meanwhile." in tables.as_text(table)


def test_the_boxes_of_the_peers_are_those_of_cnnlab():
    from benchmarks.steps import nets
    from benchmarks.steps.ours import OURS

    head = OURS["ssd"]().head((nets.SSD_SIDE, nets.SSD_SIDE))
    np.testing.assert_allclose(nets.anchors(), head.anchors, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
def test_the_loss_of_boxes_by_flax_is_that_of_cnnlab():
    import jax
    import jax.numpy as jnp

    from benchmarks.peers import flax_nets
    from benchmarks.steps import nets
    from benchmarks.workers.steps import ssd_of_cnnlab

    batch = nets.batches("ssd")[0]
    outputs = np.random.default_rng(5).normal(size=(16, len(nets.anchors()), 5 + nets.CLASSES)).astype(np.float32)
    ours = jax.jit(lambda outputs: ssd_of_cnnlab(lambda images: outputs, batch, None))(outputs)
    with jax.numpy_dtype_promotion("standard"):
        theirs = flax_nets.multibox(jnp.asarray(outputs), batch, jnp.asarray(nets.anchors()))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.slow
def test_the_command_measures_a_network_and_writes_its_record(tmp_path: pathlib.Path):
    words = [sys.executable, "-m", "benchmarks", "steps.lenet5", "--quick", "--peers=no", f"--to={tmp_path / 'cpu.json'}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "cpu.json").read_text(encoding="utf-8"))
    (table,) = written["tables"]
    assert [line["name"] for line in table["lines"]] == ["cnnlab", "Flax"] and "61,706 parameters" in table["title"]
    assert page.page([written]) == page.page([])
