"""Pruning of studies: who goes on at a rung, that nothing is trained twice or differently, and what a report says of it."""

import dataclasses
import itertools
import json
import math
import os
import pathlib
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from cnnlab import files, knobs
from cnnlab.ablation import commands
from cnnlab.ablation.analyse.analysis import analyse
from cnnlab.ablation.plan import check, pruning
from cnnlab.ablation.plan.pruning import RungScores, first_rung, promoted, rungs, targets
from cnnlab.ablation.plan.request import DesignRequest
from cnnlab.ablation.plan.study import Arm, Pruning, RunResult, Study, merge_knobs
from cnnlab.ablation.report.csv_tables import arms_csv
from cnnlab.ablation.report.random_search import random_search
from cnnlab.ablation.report.text import markdown, terminal_table
from cnnlab.ablation.run import runs
from cnnlab.ablation.run.scheduler import Scheduling, run_study
from cnnlab.ablation.run.worker import next_runs, run_worker
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric
from cnnlab.recipes.classification import classification
from cnnlab.runs import writers
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.lock import locked
from cnnlab.values import Duration
from tests.commands import launch, start
from tests.test_ablation_scheduler import found_statuses, is_alive, running, wait_until

HALVING = Pruning("halving", (1, 3, 9, 27), 3, "validation/accuracy", higher_is_better=True)
ASHA = dataclasses.replace(HALVING, method="asha")

# Rungs and who goes on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((81, 1, 3), (1, 3, 9, 27, 81)),
        ((100, 10, 3), (10, 30, 100)),
        ((7, 5, 2), (5, 7)),
        ((182, 21, 3), (21, 63, 182)),
        ((540, 27, 3), (27, 81, 243, 540)),
    ],
)
def test_rungs_grow_by_the_factor_up_to_the_whole_training(arguments: tuple[int, int, int], expected: tuple[int, ...]):
    assert rungs(*arguments) == expected


def test_numbers_that_make_no_rungs_are_refused():
    with pytest.raises(UsageError, match=r"--prune_factor=1 leaves nothing out\.\nExpected a whole number >= 2"):
        rungs(10, 1, 1)
    for first in (10, 20):
        with pytest.raises(UsageError, match=rf"the first rung is at step {first}, the whole training has 10, so nothing"):
            rungs(10, first, 3)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((2700, 10, 3, 30), 100),  # 30 arms can be divided by 3 three times: 2700 / 27
        ((2700, 10, 3, 9), 300),  # 9 arms twice
        ((2700, 10, 3, 2), 900),  # at least one rung
        ((540, 27, 3, 30), 27),  # 540 / 27 = 20 comes before the first evaluation
        ((2700, 30, 3, 30), 120),  # 100 moves on to the next evaluation
        ((2700, 30, 3, 30, 60), 60),
    ],
)
def test_the_first_rung_is_an_evaluation(arguments: tuple[int, ...], expected: int):
    assert first_rung(*arguments) == expected


@pytest.mark.parametrize(("count", "factor"), [(9, 3), (10, 3), (2, 3), (16, 4), (100, 2)])
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_best_of_every_factor_are_promoted(count: int, factor: int, higher_is_better: bool):
    scores = {f"trial {number}": float((number * 37) % 101) for number in range(count)}
    chosen = promoted(scores, factor, higher_is_better)
    assert len(chosen) == count // factor
    sign = 1 if higher_is_better else -1
    rest = [sign * scores[trial] for trial in scores if trial not in chosen]
    assert all(sign * scores[trial] > max(rest) for trial in chosen)


def test_diverged_arms_count_and_are_never_promoted():
    scores = {"a": math.nan, "b": 0.5, "c": math.nan, "d": math.inf, "e": 0.5, "f": 0.1}
    assert promoted(scores, 3, True) == {"b", "e"} and promoted(scores, 3, False) == {"f", "b"}
    assert promoted(scores, 6, True) == {"b"}, "of equals the first"
    assert promoted(dict.fromkeys("abc", math.nan), 3, True, at_least=1) == promoted({}, 3, True, at_least=1) == set()


def curves_of(count: int, seed: int) -> dict[str, dict[int, float]]:
    """{arm: {rung: score}}, noisier at the lower rungs."""
    draw = random.Random(seed)
    quality = {f"arm {number}": draw.random() for number in range(count)}
    return {arm: {rung: best + draw.gauss(0, 1 / rung) for rung in HALVING.rungs} for arm, best in quality.items()}


def simulated(rule: Pruning, curves: Mapping[str, Mapping[int, float]]) -> tuple[dict[str, int], list[tuple[str, int]]]:
    """({arm: where it stopped}, what was trained in order) with one worker that asks `targets` each time it is free."""
    reached, trained = dict.fromkeys(curves, 0), []
    while True:
        runs = {
            arm: [
                RungScores(
                    "STOPPED" if reached[arm] else "MISSING",
                    reached[arm],
                    {r: s for r, s in scores.items() if r <= reached[arm]},
                )
            ]
            for arm, scores in curves.items()
        }
        due = [
            (-target, place, arm) for place, (arm, target) in enumerate(targets(rule, runs).items()) if reached[arm] < target
        ]
        if not due:
            return reached, trained
        target, _, arm = min(due)
        reached[arm] = -target
        trained.append((arm, -target))


@pytest.mark.parametrize("count", [27, 30, 50])
@pytest.mark.parametrize("seed", range(5))
def test_halving_is_that_of_jamieson_and_talwalkar(count: int, seed: int):
    curves = curves_of(count, seed)
    left = list(curves)
    expected = {}
    for rung in HALVING.rungs:  # figure 3: evaluate those that are left, keep the best 1/factor
        expected |= dict.fromkeys(left, rung)
        left = sorted(left, key=lambda arm: -curves[arm][rung])[: len(left) // 3]
    assert simulated(HALVING, curves)[0] == expected


@pytest.mark.parametrize("count", [27, 30, 50])
@pytest.mark.parametrize("seed", range(5))
def test_asha_is_that_of_li_and_others(count: int, seed: int):
    curves = curves_of(count, seed)
    at: list[list[str]] = [[] for _ in HALVING.rungs]  # algorithm 2 for one worker, as it stands there
    fresh: Iterator[str] = iter(curves)
    expected = []

    def get_job() -> tuple[str, int] | None:
        for k in reversed(range(len(at) - 1)):
            candidates = sorted(at[k], key=lambda arm: -curves[arm][HALVING.rungs[k]])[: len(at[k]) // 3]
            if promotable := [arm for arm in candidates if arm not in at[k + 1]]:
                return min(promotable, key=list(curves).index), k + 1
        return (arm, 0) if (arm := next(fresh, None)) else None

    while job := get_job():
        at[job[1]].append(job[0])
        expected.append((job[0], HALVING.rungs[job[1]]))
    assert simulated(ASHA, curves)[1] == expected


def test_asha_trains_more_than_halving_and_ends_with_an_arm_in_full_however_few_there_are():
    for count in (2, 5, 9, 40):
        steps = {}
        for rule in (HALVING, ASHA):
            reached, _ = simulated(rule, curves_of(count, 0))
            assert 27 in reached.values()
            steps[rule.method] = sum(reached.values())
        assert steps["halving"] <= steps["asha"] < 27 * count
        if count == 9:
            assert steps["halving"] == 27 * 9 * pruning.expected_share(HALVING, 9) == 6 * 1 + 2 * 3 + 27


def run_at(step: int, *scores: float | None, state: str = "STOPPED") -> RungScores:
    """A run with numbers at the first rungs."""
    return RungScores(state, step, dict(zip(HALVING.rungs, scores, strict=False)))


def test_halving_waits_for_all_and_asha_does_not():
    runs = {arm: [run_at(1, score)] for arm, score in (("a", 0.3), ("b", 0.9), ("c", 0.5))} | {
        "d": [run_at(0, state="MISSING")]
    }
    assert targets(HALVING, runs) == dict.fromkeys("abcd", 1)
    assert targets(ASHA, runs) == {"a": 1, "b": 3, "c": 1, "d": 1}
    runs["d"] = [run_at(1, state="RUNNING")]  # its number is not written yet
    assert targets(HALVING, runs) == dict.fromkeys("abcd", 1)
    runs["d"] = [run_at(1, 0.1)]
    assert targets(HALVING, runs) == {"a": 1, "b": 3, "c": 1, "d": 1}


def test_a_run_that_diverged_or_failed_is_the_worst_and_nobody_waits_for_it():
    for state in ("DIVERGED", "FAILED"):
        runs = {"a": [run_at(0, state=state)], "b": [run_at(1, 0.2)], "c": [run_at(1, None)]}
        assert targets(HALVING, runs) == {"a": 1, "b": 3, "c": 1}


def test_an_arm_is_judged_by_the_mean_of_its_seeds_when_all_have_come():
    one = {"a": [run_at(1, 0.9), run_at(1, 0.1)], "b": [run_at(1, 0.6), run_at(0, state="MISSING")], "c": [run_at(1, 0.4)] * 2}
    assert targets(ASHA, one) == {"a": 1, "b": 1, "c": 1}
    one["b"] = [run_at(1, 0.6), run_at(1, 0.5)]
    assert targets(ASHA, one) == {"a": 1, "b": 3, "c": 1}


def test_an_arm_that_went_on_stays_so_when_better_ones_come():
    runs = {"a": [run_at(2, 0.3, state="PREEMPTED")], "b": [run_at(1, 0.9)], "c": [run_at(1, 0.8)]}
    assert targets(ASHA, runs) == {"a": 3, "b": 3, "c": 1}


# The loop -------------------------------------------------------------------------------------------------------------


class Trainer:
    """A worker in a thread: it takes turns as a real one does, and writes down scores instead of training."""

    def __init__(self, study: Study, folder: pathlib.Path, numbers: Sequence[int], note: pathlib.Path, log: list) -> None:
        self.log = note.with_suffix(".txt")
        self._everything = list(runs.study_runs(study, folder))
        self._study, self._note, self._trained = study, note, log
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._work, args=([self._everything[number] for number in numbers],))
        self._thread.start()

    def _work(self, mine: Sequence[runs.StudyRun]) -> None:
        ended = 0
        runs.write_worker_status(self._note, [], ended=0)
        for (cell,), stop in next_runs(mine, runs.Targets(self._study, self._everything)):
            if self._asked.is_set():
                return
            runs.write_worker_status(self._note, [cell], ended=ended)
            cell.folder.mkdir(parents=True, exist_ok=True)
            with open(cell.folder / ".turn", "a+", encoding="utf-8") as turn:
                if not lock(turn) or not pruning.is_due(cell.status, stop):
                    continue
                self._train(cell, stop or 27)
            ended += 1
            runs.write_worker_status(self._note, [], ended=ended)

    def _train(self, cell: runs.StudyRun, stop: int) -> None:
        before, name = cell.status.get("step", 0), cell.arm.name
        common = {"process": runs.this_process(), "attempt": cell.status.get("attempt", 0) + 1, "steps": 27}
        with locked(cell.folder):
            files.write_json(cell.folder / "status.json", {"state": "RUNNING", "step": before, **common})
            time.sleep(0.002)
            if name == "arm 5":
                state = "FAILED" if "fails" in self._study.name else "DIVERGED"
                files.write_json(cell.folder / "status.json", {"state": state, "step": 0, "message": "bad", **common})
                return
            self._trained.append((name, cell.seed, before, stop))
            with open(cell.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
                for rung in [rung for rung in HALVING.rungs if before < rung <= stop]:
                    file.write(json.dumps({"step": rung, "validation/accuracy": quality(name)}) + "\n")
            for name in ("run.json", "result.json") if stop == 27 else ("run.json",):
                files.write_json(cell.folder / name, {})
            state = "DONE" if stop == 27 else "STOPPED"
            files.write_json(cell.folder / "status.json", {"state": state, "step": stop, **common})

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else 0

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def how(self) -> str:
        return "ended"

    def waits(self) -> str:
        return ""

    def is_lost(self) -> bool:
        return False

    def end(self, *, now: bool) -> None:
        self._asked.set()


def lock(file: Any) -> bool:
    """Whether this thread alone has the file."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def quality(arm: str) -> float:
    """Returns the quality of arm 0, arm 1, …, which all differ."""
    return (int(arm.split()[1]) * 37 % 101) / 101


def toy(rule: Pruning | None, arms: int = 10, seeds: Sequence[int] = (0,), name: str = "toy") -> Study:
    """A study of a baseline, arms 1 to `arms` − 1 and a control."""
    made = [
        Arm(f"arm {i}", {"lr": str(i + 1)}, folder=f"a{i}", group=i % 2, steps=27, control=i == arms) for i in range(arms + 1)
    ]
    levels = {"lr": tuple(str(i + 1) for i in range(arms))}
    accuracy = Metric("accuracy", SHARE, higher_is_better=True, is_proportion=True)
    return Study(name, "none", {}, "random", tuple(made), tuple(seeds), levels, metrics={"accuracy": accuracy}, pruning=rule)


def conducted(study: Study, folder: pathlib.Path, jobs: int = 2) -> tuple[int, list[tuple[str, int, int, int]]]:
    """(exit code, (arm, seed, from, to) of everything that was trained)."""
    trained: list[tuple[str, int, int, int]] = []
    runs.save_study(study, folder)

    def begin(numbers: Sequence[int], slot: int, note: pathlib.Path) -> Trainer:
        return Trainer(runs.load_study(folder), folder, numbers, note, trained)

    return run_study(study, folder, begin, Scheduling(jobs, quiet=True), seconds=0.02), trained


@pytest.mark.parametrize("rule", [HALVING, ASHA], ids=lambda rule: rule.method)
@pytest.mark.parametrize("jobs", [1, 3])
def test_the_loop_trains_every_rung_once_and_ends(tmp_path: pathlib.Path, rule: Pruning, jobs: int):
    study, folder = toy(rule, seeds=(0, 1)), tmp_path / "study"
    code, trained = conducted(study, folder, jobs)
    assert code == 0
    assert len({(arm, seed, to) for arm, seed, _, to in trained}) == len(trained), "nothing is trained twice"
    ends = {
        (arm, seed): sorted((since, to) for a, s, since, to in trained if (a, s) == (arm, seed)) for arm, seed, *_ in trained
    }
    for (arm, _), parts in ends.items():
        assert parts[0][0] == 0 and all(one[1] == other[0] for one, other in itertools.pairwise(parts))
        if arm in ("arm 0", "arm 10"):
            assert parts == [(0, 27)], "the baseline and the control are trained to their end"
    states = {(o.arm, o.seed): o.state for o in runs.read_results(study, folder)}
    assert all(states[f"arm {i}", 0] == states[f"arm {i}", 1] for i in range(11)), "all seeds of an arm go as far"
    assert states["arm 5", 0] == "DIVERGED"
    last = {arm: parts[-1][1] for (arm, _), parts in ends.items()}
    assert all(states[arm, 0] == ("DONE" if to == 27 else "PRUNED") for arm, to in last.items())
    ranked = sorted((f"arm {i}" for i in range(1, 10) if i != 5), key=lambda arm: -quality(arm))
    if rule is HALVING:
        assert [last[arm] for arm in ranked] == [27, 3, 3, 1, 1, 1, 1, 1]
    assert last[ranked[0]] == 27 and set(last.values()) >= {1, 27}
    assert conducted(study, folder) == (0, []), "the same command has nothing to do"


def test_a_failed_arm_holds_up_no_other_and_sets_the_exit_code(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    study, folder = toy(HALVING, name="it fails"), tmp_path / "study"
    code, trained = conducted(study, folder)
    assert code == 1 and sum(to == 27 for *_, to in trained) == 3, "the baseline, the control and the best"
    assert re.search(r"3 of 11 runs done, 1 failed, 7 pruned\. The same command goes on", capsys.readouterr().err)


def test_runs_of_another_study_are_gone_on_with(tmp_path: pathlib.Path):
    assert conducted(toy(HALVING), tmp_path / "one")[0] == 0
    code, trained = conducted(toy(ASHA, arms=12), tmp_path / "two")
    assert code == 0 and {arm for arm, _, since, _ in trained if since == 0} == {"arm 11", "arm 12"}, "the others were there"


# What a report says ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pruned_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, list[RunResult]]:
    """A pruned study and its outcomes, with test numbers of what is done."""
    folder = tmp_path_factory.mktemp("pruned_study") / "study"
    study = toy(HALVING)
    assert conducted(study, folder)[0] == 0
    found = [
        dataclasses.replace(o, metrics={"test/accuracy": quality(o.arm)} if o.state == "DONE" else {})
        for o in runs.read_results(study, folder)
    ]
    return study, found


def test_pruned_runs_are_counted_and_in_no_mean(pruned_study: tuple[Study, list[RunResult]]):
    study, outcomes = pruned_study
    analysis = analyse(study, outcomes)
    rows = {row.arm: row for row in analysis.rows}
    cut = [row for row in rows.values() if row.pruned]
    assert len(cut) == 7 and all(row.mean is None and not row.values and row.missing == row.done == 0 for row in cut)
    for row in cut:
        assert row.pruned is not None and row.pruned.score == quality(row.arm) and row.pruned.step in (1, 3)
    assert rows["arm 5"].diverged == 1 and not rows["arm 5"].pruned
    assert sum(row.done for row in rows.values()) == 3
    steps = 3 * 27 + 2 * 3 + 5 * 1
    assert analysis.warnings[0].startswith(
        f"Pruned by halving: 3 of 11 runs done, 7 pruned (5 at step 1, 2 at step 3), after {steps / (11 * 27):.0%} of the steps"
    )
    assert analysis.sentence.endswith(
        "7 arms were pruned; arm 5: not compared, since no seed is finished both there and in arm 0."
    )


def test_every_table_shows_the_rung_and_the_number_there(pruned_study: tuple[Study, list[RunResult]]):
    study, outcomes = pruned_study
    analysis = analyse(study, outcomes)
    last = next(row for row in analysis.rows if row.pruned and row.pruned.step == 3)
    shown = f"pruned, step 3: {100 * quality(last.arm):.2f}"
    assert shown in terminal_table(study, analysis) and shown in markdown(study, outcomes, analysis)
    header, *lines = [line.split(",") for line in arms_csv(study, analysis).splitlines()]
    table = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert table[last.arm]["pruned"] == "1" and table[last.arm]["pruned_at"] == "3"
    assert float(table[last.arm]["pruned_score"]) == quality(last.arm) and table["arm 0"]["pruned"] == ""


def test_the_picture_of_a_random_search_compares_all_arms_at_the_first_rung(pruned_study: tuple[Study, list[RunResult]]):
    study, outcomes = pruned_study
    text = random_search(study, outcomes, analyse(study, outcomes))
    assert "Parallel coordinates of 9 arms" in text and "validation/accuracy at step 1, before any was pruned" in text
    assert all(f"arm {i}: {100 * quality(f'arm {i}'):.2f}" in text for i in (1, 2, 3)) and "arm 5" not in text


def test_a_pruned_study_survives_its_file(tmp_path: pathlib.Path):
    for rule in (ASHA, None):
        study = toy(rule)
        saved = runs.save_study(study, tmp_path)
        assert runs.load_study(tmp_path) == saved == dataclasses.replace(study, above=str(tmp_path.parent))


# Real runs ------------------------------------------------------------------------------------------------------------

COMMON = {"model": "mlp", "widths": "8", "duration": "18 steps", "batch_size": "32"}
EVERY = Duration(2, "steps")
NEVER = Duration(100, "steps")


def resolve(arm: Arm) -> knobs.Resolved:
    return knobs.resolve(classification, merge_knobs(COMMON, arm))


def plan_of(arm: Arm) -> tuple[knobs.Resolved, RunSpec]:
    resolved = resolve(arm)
    return resolved, RunSpec(
        "toy", resolved.values, "f32", source="", devices=1, quiet=True, eval_every=EVERY, save_every=NEVER
    )


def designed(*vary: str, design: str = "random", trials: int = 9, common: Mapping[str, str] = COMMON) -> tuple[Study, list]:
    """A planned study and its arms as checked."""
    arms = DesignRequest(tuple(vary), design, (), trials).arms(knobs.resolve(classification, common), 0)
    factors = commands.designs.varied(arms)
    study = Study("toy", "toy", common, design, arms, (0,), factors)
    toy = ExperimentFile("toy", classification)
    return commands.plan_study(study, toy, STRATEGIES["jit"](pick_devices(1)), pathlib.Path("nowhere"))


@pytest.mark.slow
def test_what_goes_on_equals_the_run_without_pruning(tmp_path: pathlib.Path):
    full, found = designed("lr:log(1e-3,1)", "smoothing:uniform(0,0.2)")
    study = commands.add_rungs(full, found, "halving", Duration(2), factor=3)
    assert study.pruning == Pruning("halving", (2, 6, 18), 3, "validation/accuracy", higher_is_better=True)
    folder = tmp_path / "pruned" / "study"
    everything = list(runs.study_runs(study, folder))
    calls = 0

    def interrupted(arm: Arm) -> tuple[knobs.Resolved, RunSpec]:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return plan_of(arm)

    with pytest.raises(KeyboardInterrupt):
        run_worker(everything, interrupted, targets=runs.Targets(study, everything))
    assert 0 < plan_runs(study, found, folder) < 10
    run_worker(everything, plan_of, targets=runs.Targets(study, everything))
    states = [outcome.state for outcome in runs.read_results(study, folder)]
    assert states.count("DONE") == 2 and states.count("PRUNED") == 8 and plan_runs(study, found, folder) == 0
    logged = {}
    for cell in everything:
        steps = [record["step"] for record in writers.read_metrics(cell.folder / "metrics.jsonl") if "train/loss" in record]
        assert steps == list(range(1, len(steps) + 1)), "no step is taken twice"
        logged[cell.arm.name] = len(steps)
    assert sorted(logged.values()) == [2] * 6 + [6] * 2 + [18] * 2, "6 stop at the first rung, 2 at the second"
    unpruned = list(runs.study_runs(full, tmp_path / "full" / "study"))
    pairs = sorted(zip(everything, unpruned, strict=True), key=lambda pair: -logged[pair[0].arm.name])[1:4]
    run_worker([whole for _, whole in pairs], plan_of)
    for cell, whole in pairs:  # a run in full, two that were stopped at the second rung
        reached = logged[cell.arm.name]
        here, there = (writers.read_metrics(one.folder / "metrics.jsonl") for one in (cell, whole))
        assert here == [record for record in there if record["step"] <= reached], "the same curve to the last bit"
        if reached == 18:
            one, other = (json.loads((c.folder / "result.json").read_text(encoding="utf-8")) for c in (cell, whole))
            assert one["state_digest"] == other["state_digest"] and one["metrics"] == other["metrics"]


def plan_runs(study: Study, found: Sequence[check.CheckedArm], folder: pathlib.Path) -> int:
    """How many runs there are to do."""
    return commands.estimate_remaining(study, found, folder).runs


def test_the_estimate_counts_the_steps_that_are_expected(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check, "_rate", lambda: 1e10)
    monkeypatch.setattr(check, "COMPILE_SECONDS", 0.0)
    full, found = designed("lr:log(1e-3,1)")
    study = commands.add_rungs(full, found, "asha", Duration(1), factor=3)
    whole, less = (commands.estimate_remaining(one, found, tmp_path / "study") for one in (full, study))
    assert whole.runs == less.runs == 10
    steps = 18 + 9 * 2 + 3 * 4 + 1 * 12  # the baseline, then what is left of nine arms between the rungs 2, 6 and 18
    assert less.seconds / whole.seconds == pytest.approx(steps / (10 * 18))


@pytest.mark.parametrize(
    ("vary", "common", "more", "text"),
    [
        (
            ["lr:0.1,0.2"],
            COMMON,
            {},
            r"chooses between arms, and beside its baseline and controls the study has 1\.\nExpected at",
        ),
        (
            ["lr:0.1,0.2,0.3"],
            {**COMMON, "validation": "0"},
            {},
            r"--prune=asha compares arms by the validation split, and \S+ has none here",
        ),
        (
            ["batch_size:16,32,64"],
            {**COMMON, "duration": "2 epochs"},
            {},
            r"compares arms at the same steps, and theirs differ: ",
        ),
        (["lr:0.1,0.2,0.3"], COMMON, {"start": Duration(18)}, r"the first rung is at step 18, the whole training has 18"),
        (["lr:0.1,0.2,0.3"], COMMON, {"factor": 1}, r"--prune_factor=1 leaves nothing out"),
        (
            ["lr:0.1,0.2,0.3"],
            COMMON,
            {"start": Duration(1), "method": "none"},
            r"--prune_from=1 steps sets where pruning begins",
        ),
    ],
)
def test_pruning_that_makes_no_sense_is_refused(vary: list[str], common: Mapping[str, str], more: dict[str, Any], text: str):
    common = {name: value for name, value in common.items() if all(name != one.partition(":")[0] for one in vary)}
    study, found = designed(*vary, design="grid", common=common)
    given = {"method": "asha", "factor": 3, **more}
    with pytest.raises(UsageError, match=text):
        commands.add_rungs(study, found, given.pop("method"), Duration(1), **given)


PRUNED = [
    "ablate",
    f"--experiment={pathlib.Path(__file__).resolve().parent / 'misbehaving.py'}",
    "--workdir=runs/study",
    "--log_every=1 steps",
    "--eval_every=3 steps",
    "--design=random",
    "--trials=9",
    "--vary=optimizer.lr:log(1e-3,1)",
    "--seeds=1",
    "--steps=27",
]


@pytest.mark.slow
def test_a_killed_launcher_and_an_interrupted_one_repeat_no_step(tmp_path: pathlib.Path):
    words = [*PRUNED, "--prune=asha", "--prune_from=3 steps", "--pause=0.1"]

    def rungs_done() -> int:
        return sum(status["state"] == "STOPPED" for status in found_statuses(tmp_path).values())

    for signal_sent, done in ((signal.SIGKILL, 2), (signal.SIGINT, 7)):
        launcher = start(*words, "--jobs=2", cwd=tmp_path)
        mine: Callable[[], Any] = lambda: rungs_done() >= done and running(tmp_path, 1)  # noqa: B023, E731
        workers = wait_until(mine, launcher)
        launcher.send_signal(signal_sent)
        launcher.communicate()
        wait_for_end(workers)
    code, out, err = launch(*words, cwd=tmp_path)
    assert code == 0, err
    outcomes = runs.read_results(runs.load_study(tmp_path / "runs" / "study"), tmp_path / "runs" / "study")
    assert {outcome.state for outcome in outcomes} == {"DONE", "PRUNED"}
    ends = []
    for outcome in outcomes:
        steps = [record["step"] for record in outcome.curve if "train/loss" in record]
        assert steps == list(range(1, len(steps) + 1)), outcome.arm
        ends.append(len(steps))
    assert set(ends) <= {3, 9, 27} and 6 >= ends.count(3) >= 4 and ends.count(27) >= 2
    assert f"{ends.count(27)} of 10 runs done, {10 - ends.count(27)} pruned" in out
    assert launch(*words, "--dry_run", cwd=tmp_path)[1].count("to do: 0 runs") == 1


def wait_for_end(processes: Sequence[int]) -> None:
    """Until workers are gone that saw their launcher go."""
    for _ in range(600):
        if not any(map(is_alive, processes)):
            return
        time.sleep(0.1)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    raise AssertionError("workers outlived their launcher")
