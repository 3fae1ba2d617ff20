"""Planning a study: arms are checked together, share compilations where they can, and equal the runs made alone."""

import dataclasses
import pathlib

import numpy as np
import pytest
import toys

from cnnlab import knobs
from cnnlab.ablation import commands
from cnnlab.ablation.plan import check
from cnnlab.ablation.plan.request import DesignRequest
from cnnlab.ablation.plan.study import Arm, Study, merge_knobs
from cnnlab.ablation.run import reproduce, runs
from cnnlab.ablation.run.worker import run_worker
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.tracing import step_operations
from cnnlab.errors import UsageError
from cnnlab.ops import trees
from cnnlab.recipes.classification import classification
from cnnlab.runs import run
from cnnlab.runs.experiments import ExperimentFile
from cnnlab.runs.folder import RunSpec

COMMON = {"model": "mlp", "widths": "8", "duration": "6 steps", "dropout": "0.1", "batch_size": "32"}
TOY = ExperimentFile("toy", classification)
NOWHERE = pathlib.Path("nowhere")
"""A folder without older runs."""


def resolve(arm: Arm) -> knobs.Resolved:
    return knobs.resolve(classification, merge_knobs(COMMON, arm))


def study(*vary: str, seeds=(0,), controls=(), design="grid", toggle=()) -> Study:
    asked = DesignRequest(tuple(vary), design, tuple(toggle), 4, tuple(controls))
    arms = asked.arms(knobs.resolve(classification, COMMON), 0)
    factors = commands.designs.varied([arm for arm in arms if not arm.control])
    return Study("toy", "toy", COMMON, design, arms, seeds, factors)


def planned(one: Study, allow: tuple[str, ...] = ()) -> Study:
    return commands.plan_study(one, TOY, STRATEGIES["jit"](pick_devices(1)), NOWHERE, allow=allow)[0]


def groups(one: Study, allow: tuple[str, ...] = ()) -> dict[str, int]:
    return {arm.name: arm.group for arm in planned(one, allow).arms}


def test_arms_that_differ_in_numbers_share_a_compilation():
    found = planned(study("lr:0.1,0.01", "smoothing:0,0.1", "weight_decay:0.0,1e-4", "model.dropout:0.1,0.3"))
    assert len(found.arms) == 16 and found.groups == (0,)
    assert set(found.arms[0].numbers) == {"optimizer.lr", "loss.smoothing", "optimizer.weight_decay", "model.dropout"}


def test_arms_of_another_network_have_a_compilation_of_their_own():
    found = groups(study("activation:relu,tanh", "lr:0.1,0.01"))
    assert found["baseline"] == found["lr=0.01"] != found["activation=tanh"] == found["activation=tanh, lr=0.01"]


def test_a_number_that_cannot_be_a_tracer_gets_compilations_of_its_own():
    found = planned(study("warmup:0.0,0.5", "lr:0.1,0.01"))
    assert len(found.groups) == 2 and all(set(arm.numbers) == {"optimizer.lr"} for arm in found.arms)
    by_name = {arm.name: arm.group for arm in found.arms}
    assert by_name["baseline"] == by_name["lr=0.01"] != by_name["warmup=0.5"]


def test_a_number_that_changes_the_data_is_no_argument():
    assert len(set(groups(study("validation:0.1,0.2"), allow=("data", "splits", "steps")).values())) == 2


def test_every_arm_that_cannot_run_is_named_before_any_starts():
    with pytest.raises(UsageError) as caught:
        planned(study("batch_size:32,100000", "lr:0.1,-1"))
    text = str(caught.value)
    assert text.startswith("3 of 4 arms cannot run, so none was started.")
    assert "lr=-1: --optimizer.lr=-1: expected float finite and > 0" in text and "batch 100000" in text


def test_a_network_that_does_not_fit_its_images_is_found_by_shapes_alone():
    arms = DesignRequest(("model:linear,vgg16_d",)).arms(knobs.resolve(classification, {}), 0)
    one = dataclasses.replace(study("lr:0.1,0.2"), arms=arms)
    with pytest.raises(UsageError, match=r"model=vgg16_d: .* needs at least"):
        planned(dataclasses.replace(one, knobs={}))


def test_arms_that_are_one_are_refused():
    twice = dataclasses.replace(study("lr:0.1,0.2"), arms=(Arm("a", {"lr": "0.1"}), Arm("b", {"lr": "1e-1"})))
    with pytest.raises(UsageError, match="the arms a and b are one and the same"):
        planned(twice)


def test_controls_come_last_and_have_no_share_in_the_factors():
    one = planned(study("lr:0.1,0.01", controls=["shuffle_labels", "random_parameters"]))
    assert [arm.control for arm in one.arms] == [False, False, True, True]
    assert one.factors == {"lr": ("0.1", "0.01")} and one.arms[3].steps == 0


def test_an_unknown_control_is_refused():
    with pytest.raises(UsageError, match=r"--controls=shuffle: unknown\. It takes some of: shuffle_labels"):
        study("lr:0.1,0.01", controls=["shuffle"])


def test_the_arms_knob_wins_over_the_common_one_however_they_are_written():
    assert merge_knobs({"lr": "1", "seeds": "2"}, Arm("a", {"optimizer.lr": "3"})) == {"seeds": "2", "optimizer.lr": "3"}
    assert merge_knobs({"model.dropout": "1"}, Arm("a", {"dropout": "3"})) == {"dropout": "3"}


def test_the_command_of_a_cell_says_every_knob_once(tmp_path):
    one = planned(study("optimizer.lr:0.1,0.01"))
    one = dataclasses.replace(one, knobs={**COMMON, "lr": "0.5"})
    words = [runs.run_command(one, cell) for cell in runs.study_runs(one, tmp_path / "study")]
    assert all("--optimizer.lr=" in text and "--lr=" not in text for text in words)


def test_leave_one_out_compares_with_everything_switched_on():
    baseline, without = study(design="leave_one_out", toggle=["model.dropout"]).arms
    assert baseline.knobs == {"model.dropout": "0.1"} and without.knobs == {"model.dropout": "0"}


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (DesignRequest(("lr:1,2",), "leave_one_out", ("dropout",)), "--vary is for other designs"),
        (DesignRequest(("lr:1,2",), "grid", ("dropout",)), "--toggle is for the designs leave_one_out and add_one_in"),
        (DesignRequest((), "grid"), "there is nothing to vary"),
        (DesignRequest(("depth_of_field:uniform(0,1)",), "random"), "--vary=depth_of_field: no such knob"),
    ],
)
def test_designs_that_make_no_sense_are_refused(asked: DesignRequest, text: str):
    with pytest.raises(UsageError, match=text):
        asked.arms(knobs.resolve(classification, COMMON), 0)


def parameters(folder: pathlib.Path, arm: Arm) -> dict[str, np.ndarray]:
    resolved = resolve(arm)
    found = RunSpec("toy", resolved.values, "f32", source="", devices=1, quiet=True)
    return trees.flatten(run.restore_run(resolved, found, folder, best=False)[1].params)


@pytest.mark.slow
def test_members_of_one_compilation_equal_runs_made_alone(tmp_path):
    one = planned(study("lr:0.1,0.02", "model.dropout:0.1,0.4", seeds=(0, 1)))
    assert one.groups == (0,)
    place = tmp_path / "study"

    def plan_of(arm: Arm) -> tuple[knobs.Resolved, RunSpec]:
        resolved = resolve(arm)
        return resolved, RunSpec("toy", resolved.values, "f32", source="", devices=1, quiet=True)

    runs.save_study(one, place)
    everything = list(runs.study_runs(one, place))
    run_worker(everything, plan_of)
    assert [cell.state for cell in everything] == ["DONE"] * 8
    for cell in everything[::3]:
        resolved, alone = plan_of(cell.arm)
        single = tmp_path / "alone" / cell.folder.parent.name / cell.folder.name
        assert run.train_seeds(resolved, alone, {cell.seed: single}, overwrite=False) == 0
        assert reproduce.compared(cell.folder, single)[0]
        here, there = parameters(cell.folder, cell.arm), parameters(single, cell.arm)
        assert here.keys() == there.keys()
        for path, leaf in here.items():
            np.testing.assert_allclose(leaf, there[path], atol=1e-5)
        assert {path.name for path in single.iterdir()} == {path.name for path in cell.folder.iterdir()}
    outcomes = runs.read_results(one, place)
    assert len({outcome.metrics["test/loss"] for outcome in outcomes}) == 8, "every member is a run of its own"
    assert all(len(outcome.correct) == 359 for outcome in outcomes)
    mtimes = [(cell.folder / "result.json").stat().st_mtime_ns for cell in everything]
    run_worker(everything, plan_of)
    assert mtimes == [(cell.folder / "result.json").stat().st_mtime_ns for cell in everything], "DONE is never run twice"


@pytest.mark.slow
def test_a_member_that_diverges_does_not_touch_the_others(tmp_path):
    one = planned(study("lr:0.1,1e30,0.2"))
    assert one.groups == (0,)
    everything = list(runs.study_runs(one, tmp_path / "study"))

    def plan_of(arm: Arm) -> tuple[knobs.Resolved, RunSpec]:
        resolved = resolve(arm)
        return resolved, RunSpec("toy", resolved.values, "f32", source="", devices=1, quiet=True)

    run_worker(everything, plan_of)
    assert [cell.state for cell in everything] == ["DONE", "DIVERGED", "DONE"]


def test_a_study_survives_its_file(tmp_path):
    one = planned(study("lr:0.1,0.01", controls=["shuffle_labels"], seeds=(3, 4)))
    one = runs.save_study(one, tmp_path / "study")
    again = runs.load_study(tmp_path / "study")
    assert dataclasses.asdict(again) == dataclasses.asdict(one)
    with pytest.raises(UsageError, match=r"is not a study: it has no study\.json"):
        runs.load_study(tmp_path)


def test_the_estimate_counts_what_is_left():
    one, found = commands.plan_study(study("lr:0.1,0.01", seeds=(0, 1, 2)), TOY, STRATEGIES["jit"](pick_devices(1)), NOWHERE)
    left, none = ({arm.name: count for arm in one.arms} for count in (3, 0))
    need = check.estimate(found, left)
    assert need.runs == 6 and need.compilations == 1 and need.seconds > check.COMPILE_SECONDS and need.disk > 0
    assert check.estimate(found, none).seconds == 0


def test_the_operations_of_several_turns_are_those_that_xla_counts():
    plain = step_operations(toys.chase(steps=4))
    twice = dataclasses.replace(toys.chase(steps=4), task=toys.pursuit(("scout", "scout", "hunter") * 2))
    assert plain is not None and 1.5 * plain < (step_operations(twice) or 0.0) < 2.5 * plain
    assert step_operations(toys.chase(steps=0)) is None
    found, _ = check.check_arms(study("lr:0.1,0.01"), resolve, STRATEGIES["jit"](pick_devices(1)))
    assert found.macs and check._step_operations(found) == 6 * found.macs * 32
    several = dataclasses.replace(found, experiment=twice)
    assert check._step_operations(several) == step_operations(twice)


def test_the_memory_counts_the_examples():
    resident, streamed = (knobs.resolve(classification, COMMON | {"resident_mib": mib}).call().data for mib in ("10", "0"))
    pixels, labels = 1797 * 64, 1797 * 4
    assert check.data_bytes(resident) == 2 * (pixels + labels)
    assert check.data_bytes(streamed) == check.BATCHES * 32 * 64
    need = check.Estimate(1, 1, 1.0, 5 * 2**20, 2**20, 3 * 2**20)
    assert "5.0 MiB of memory (3.0 MiB of it for the examples), 1.0 MiB of disk at most" in str(need)
