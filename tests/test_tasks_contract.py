"""What every task promises: exact resumption, one curve on any devices and processes, losses of examples, padding, bf16, f16.

The rows are those of tests/contract.py: a new task adds one there, and nothing here.
"""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from contract import (
    INTERVALS,
    MIXING,
    OVER_PROCESSES,
    REMEMBERING,
    STEPS,
    TASKS,
    batch_of,
    compiled_loss,
    compiled_measure,
    experiment,
    held,
    joined,
    measured,
    players,
    program,
    reference,
)

from cnnlab.engine import loss_scaling, train
from cnnlab.engine.averages import batch_statistics
from cnnlab.engine.batched import batch_programs, select_member, stack_members
from cnnlab.engine.checkpoint import tree_digest
from tests.commands import ROOT, finish, read
from tests.stages import slow_but

TRAINED = [name for name in TASKS if name not in REMEMBERING]
SEPARATE = [name for name in TRAINED if name not in MIXING]
SILENT = (
    "pursuit",
    "surgery",
    "classify",
    "quantize",
    "self_training",
    "mean_teacher",
    "distil",
    "distil_hints",
    "ensemble",
    "knn",
    "stacked",
    "segment",
    "detect",
    "detect_regions",
    "detect_crops",
    "localize",
    "synthesis",
    "fast_style",
    "write",
    "ngram",
    "pretext",
    "contrast",
    "contrast_queue",
    "probe",
    "pretext_counting",
    "pretext_inpainting",
    "pretext_colours",
)
"""Rows whose task draws no images."""
SAMPLERS = [name for name in TASKS if name not in SILENT]
LATER = (
    "contrast_queue",
    "denoise",
    "detect_crops",
    "detect_regions",
    "distil",
    "distil_hints",
    "ensemble",
    "fast_style",
    "gan",
    "mean_teacher",
    "probe",
    "pretext_colours",
    "pretext_counting",
    "pretext_inpainting",
    "quantize",
    "self_training",
    "stacked_unsupervised",
    "synthesis",
    "vq_vae",
)
"""Rows like others of their kind, which the fast stage leaves to the slow one."""
ALIKE = ("autoregress", "localize", "variational")
"""Further rows that take long, for which tests of several processes and of f16, which others show, are run by hand."""
PLACES = [("jit", 8), ("pmap", 3), ("fsdp", 8)]
UNEVEN = [(name, "jit", 3) for name in ("pursuit", "classify", "gan", "knn")]
"""A count of devices that splits no batch of evaluation evenly, as pmap has it for every task: here one, two and no players
that move, with and without batch norm."""
RARE = [("jit", 2), ("jit", 3), ("jit", 4), ("pmap", 1), ("pmap", 8), ("fsdp", 1), ("fsdp", 3)]
"""Places that say little beside these: tests/test_parallel.py has them for one network, a run by hand for every task."""
COVERED = [
    *[(name, "jit", 8) for name in (*LATER, "write")],
    *[(name, "pmap", 3) for name in LATER],
]
"""Places of rows like others of their kind, run by hand too: fsdp on eight devices splits the batch as jit does, and the state
besides, and the rows of which these are alike have pmap."""
PLACED = slow_but(
    [(name, *place) for place in [*PLACES, *RARE] for name in TASKS],
    ("surgery", "pmap", 3),
    *[(name, "jit", 8) for name in ("pursuit", "classify", "knn", "pca", "variational", "wgan_gp", "stacked")],
    thorough=[*COVERED, *(case for case in [(name, *place) for place in RARE for name in TASKS] if case not in UNEVEN)],
)


SAME_CURVE = "test_two_processes_with_two_devices_each_give_the_same_curve"


def fast_first(names: list[str]) -> list[Any]:
    """The rows as parameters of a test, those of LATER for the slow stage."""
    return slow_but(names, *(name for name in names if name not in LATER))


def by_name(numbers):
    """Named numbers as a sorted list, for pytest.approx."""
    return dict(sorted(numbers.items()))


@pytest.mark.parametrize("name", fast_first(list(TASKS)))
def test_resumed_equals_uninterrupted_bit_for_bit(name: str):
    """At every checkpoint: between two logs, at the border of two phases, and just before a log."""
    whole, end, curve, saved = reference(name)
    assert (sorted(saved), end) == (([3, 6, 9], 9) if name in TRAINED else ([], 0))
    for at in sorted(saved)[:-1]:
        resumed, _, rest, _ = toys.run(experiment(name), program=program(name), intervals=INTERVALS, resume=(*saved[at], at))
        assert tree_digest(resumed) == tree_digest(whole) != tree_digest(saved[at][0]), at
        assert rest == {step: numbers for step, numbers in curve.items() if step > at}, at


@pytest.mark.parametrize(("name", "strategy", "devices"), PLACED)
def test_every_strategy_and_device_count_gives_the_same_curve(name: str, strategy: str, devices: int):
    alone, _, curve, _ = reference(name)
    shared, _, other, _ = reference(name, strategy, devices)
    assert toys.gap(alone, shared) < 1e-4
    assert other.keys() == curve.keys()
    for step, numbers in curve.items():
        assert by_name(other[step]) == pytest.approx(by_name(numbers), rel=2e-5, abs=1e-6), step
    numbers, others = (experiment(name).task.summary(each) for each in (measured(name), measured(name, strategy, devices)))
    assert by_name(others) == pytest.approx(by_name(numbers), rel=1e-4, abs=1e-5)


AGAIN = [("full", "jit", 8), ("save_matmuls", "fsdp", 3), ("offload", "pmap", 3), ("full", "jit", 1), ("offload", "jit", 3)]
ROWS_AGAIN = [*TRAINED, "attacked", "skipping"]
COMPUTED_AGAIN = slow_but(
    # Three devices do not split the parts of 8 examples.
    [("in_parts", "full", "jit", 8), *((name, *AGAIN[number % len(AGAIN)]) for number, name in enumerate(ROWS_AGAIN))],
    "pursuit",
    "classify",
    thorough=[*LATER, "surgery", "denoise", "stacked", "attacked"],
)


@pytest.mark.parametrize(("name", "remat", "strategy", "devices"), COMPUTED_AGAIN)
def test_what_the_backward_pass_computes_again_changes_no_number(name: str, remat: str, strategy: str, devices: int):
    """Also batch statistics, dropout, turns, parts of a batch and steps that are left out."""
    alone, _, curve, _ = reference(name)
    again, _, other, _ = reference(name, strategy, devices, remat=remat)
    assert toys.gap(alone, again) < 1e-4
    assert other.keys() == curve.keys()
    for step, numbers in curve.items():
        assert by_name(other[step]) == pytest.approx(by_name(numbers), rel=2e-5, abs=1e-6), step


@pytest.mark.slow
def test_a_run_that_goes_on_on_other_devices_and_strategies_keeps_its_curve():
    """On one device to step 3, on three to step 6, on eight to the end: the same batches in the same order, within rounding."""
    alone, _, curve, saved = reference("classify")
    state, at, logged = saved[3], 3, {step: numbers for step, numbers in curve.items() if step <= 3}
    for (strategy, devices), stop in ((("pmap", 3), 6), (("fsdp", 8), STEPS)):
        built = program("classify", strategy, devices)
        end, _, rest, kept = toys.run(built.experiment, program=built, intervals=INTERVALS, resume=(*state, at), stop=stop)
        state, at, logged = kept[stop], stop, logged | rest
    assert toys.gap(alone, end) < 1e-4 and logged.keys() == curve.keys()
    for step, numbers in curve.items():
        assert by_name(logged[step]) == pytest.approx(by_name(numbers), rel=2e-5, abs=1e-6), step


@pytest.fixture(scope="module")
def over_processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder in which two processes with two devices each left the curve and the state of every row that is asked for."""
    folder, asked = tmp_path_factory.mktemp("processes"), {item.name for item in request.session.items}
    names = [name for name in OVER_PROCESSES if f"{SAME_CURVE}[{name}]" in asked]
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"  # the last one counts
    strict = {"JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_NUMPY_RANK_PROMOTION": "raise"}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = os.environ | strict | {"XLA_FLAGS": flags, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "tests.contract_process"]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    started = [
        subprocess.Popen(
            [*command, str(index), port, str(folder), *names],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for index in range(2)
    ]
    ends = [finish(process, seconds=400) for process in started]
    assert [code for code, _, _ in ends] == [0, 0], "\n".join(out for _, out, _ in ends)
    return folder


@pytest.mark.parametrize("name", slow_but(OVER_PROCESSES, thorough=[*LATER, *REMEMBERING, *ALIKE]))
def test_two_processes_with_two_devices_each_give_the_same_curve(name: str, over_processes: pathlib.Path):
    alone, _, curve, _ = reference(name)
    found, leaves = read(over_processes / f"{name}.json"), np.load(over_processes / f"{name}.npz")
    assert toys.gap(alone, list(leaves.values())) < 1e-4
    assert found["curve"].keys() == {str(step) for step in curve}
    for step, numbers in curve.items():
        assert by_name(found["curve"][str(step)]) == pytest.approx(by_name(numbers), rel=2e-5, abs=1e-6), step
    numbers = experiment(name).task.summary(measured(name))
    assert by_name(found["measured"]) == pytest.approx(by_name(numbers), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", fast_first(list(TASKS)))
def test_every_number_is_declared(name: str):
    """The numbers that are logged, and those of a split that is held out; test_metric.py also has the final ones."""
    task, (_, _, curve, _) = experiment(name).task, reference(name)
    declared = {metric.name for metric in task.metrics}
    logged = {number for numbers in curve.values() for number in numbers}
    assert logged | task.summary(measured(name)).keys() <= declared and len(declared) == len(task.metrics)
    assert set(task.logged_metrics) <= {*declared, "loss"} and task.primary_metric.higher_is_better is not None


@pytest.mark.parametrize("name", fast_first(list(TASKS)))
def test_evaluation_counts_every_example_once_however_the_split_is_cut_and_padded(name: str):
    size, first = experiment(name).data.sizes["test"], experiment(name).task.first_rows
    whole, cut = measured(name), measured(name, size=7)
    assert size % 7, "the last batch is padded"
    for key, rows in whole["rows"].items():
        assert len(rows) == len(cut["rows"][key]) == first.get(key, size)
        np.testing.assert_allclose(cut["rows"][key], rows, rtol=1e-4, atol=1e-5, err_msg=key)
    numbers, others = (experiment(name).task.summary(each) for each in (whole, cut))
    assert by_name(others) == pytest.approx(by_name(numbers), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", fast_first(list(TASKS)))
def test_what_is_measured_of_an_example_depends_neither_on_the_others_nor_on_what_lies_in_padding(name: str):
    batch = batch_of(name, "test", 12)
    padded = {**batch, "mask": jnp.arange(12) < 7}
    column, wrong = ("image", jnp.nan) if "image" in batch else ("text", 0)
    spoiled = {**padded, column: batch[column].at[7:].set(wrong)}
    whole, clean, dirty = (compiled_measure(name)(each) for each in (batch, padded, spoiled))
    for key, value in clean["sums"].items():
        np.testing.assert_allclose(dirty["sums"][key], value, rtol=1e-5, atol=1e-6, err_msg=key)
    for key, rows in whole["rows"].items():
        if key != "mask":
            np.testing.assert_allclose(dirty["rows"][key][:7], rows[:7], rtol=1e-5, atol=1e-6, err_msg=key)


def test_averages_carry_the_statistics_of_batch_norm():
    averaged = {name: reference(name)[0] for name in TRAINED if experiment(name).averaging}
    found = {name: (batch_statistics(state.model_state), state.average_statistics) for name, state in averaged.items()}
    assert {name for name, (raw, _) in found.items() if raw} == {"classify", "quantize", "gan", "segment"}
    for name, (raw, average) in found.items():
        assert raw.keys() == average.keys() and all(np.any(raw[path] != leaf) for path, leaf in average.items()), name


@pytest.mark.parametrize("name", fast_first(SEPARATE))
def test_the_loss_of_an_example_depends_on_its_own_key_and_not_on_the_others(name: str):
    """Sums of losses are additive in the halves of a batch, whatever stands beside them and however large the batch is."""
    whole = batch_of(name, "train", 48)
    parts = [jax.tree.map(lambda leaf, start=start: leaf[start : start + 12], whole) for start in range(0, 48, 12)]
    for player in players(name):
        loss = compiled_loss(name, player)
        (one, two), (beside, other) = parts[:2], parts[2:]
        difference = loss(joined(one, beside)) - loss(joined(two, beside))
        scale = abs(loss(joined(one, beside)))
        assert loss(joined(one, other)) - loss(joined(two, other)) == pytest.approx(difference, rel=1e-4, abs=2e-6 * scale)
        assert loss(one) - loss(two) == pytest.approx(difference, rel=1e-4, abs=2e-6 * scale)


@pytest.mark.parametrize("name", fast_first(SAMPLERS))
def test_a_draw_depends_on_its_own_key_alone(name: str):
    sampler, keys, labels = experiment(name).task.sampler, jax.random.split(jax.random.key(3), 6), jnp.arange(6) % 4
    draw = jax.jit(sampler.draw)
    images = draw(*held(name), keys, labels, jnp.float32(1))
    np.testing.assert_allclose(draw(*held(name), keys[2:4], labels[2:4], jnp.float32(1)), images[2:4], rtol=1e-5, atol=1e-5)
    assert images.shape == (6, *experiment(name).data.image_shape) and not np.array_equal(images[0], images[4])


def test_every_task_that_draws_is_tested():
    assert [name for name in TASKS if experiment(name).task.sampler] == SAMPLERS


BF16_TOLERANCE = 0.05
"""Largest difference of a loss in bf16 from that in f32, relative to it and, for small ones, absolute: bf16 has 8 bits."""
LOSSES = ("loss", "nats")
"""Ends of the names of metrics that are near each other in two precisions, as an accuracy of few examples need not be."""


def losses(numbers: dict[str, float]) -> dict[str, float]:
    """Those of named numbers that are losses."""
    return {name: value for name, value in sorted(numbers.items()) if name.endswith(LOSSES)}


@pytest.mark.parametrize("name", slow_but(TASKS, "pursuit", "pca", "reconstruct", "variational", thorough=LATER))
def test_bf16_trains_and_measures_near_f32_and_keeps_everything_else_in_f32(name: str):
    state, _, curve, _ = reference(name, precision="bf16")
    kept = jax.tree.leaves((state.params, state.average, state.model_state))
    assert {leaf.dtype for leaf in kept if np.issubdtype(leaf.dtype, np.inexact)} <= {np.dtype("float32")}
    numbers = [value for step in curve.values() for value in step.values()]
    assert np.isfinite(numbers).all() and all(np.isfinite(leaf).all() for leaf in kept)
    assert all(np.isfinite(value).all() for value in measured(name, precision="bf16")["sums"].values())
    half, whole = (losses(experiment(name).task.summary(measured(name, precision=each))) for each in ("bf16", "f32"))
    assert half == pytest.approx(whole, rel=BF16_TOLERANCE, abs=BF16_TOLERANCE)
    if name in TRAINED:
        alone, _, exact, _ = reference(name)
        assert toys.gap(alone, state) > 0
        first = min(exact)  # later steps of some games drift apart
        assert losses(curve[first]) == pytest.approx(losses(exact[first]), rel=BF16_TOLERANCE, abs=BF16_TOLERANCE)


STEADY_SCALE = 256.0
"""Scale at which no step of the table overflows."""
F16_TOLERANCE = 0.02
"""Largest difference of a loss in f16 from that in f32, relative to it and, for small ones, absolute: f16 has 11 bits."""


@pytest.mark.parametrize("name", slow_but(TRAINED, thorough=[*LATER, *ALIKE, "segment"]))
def test_f16_finds_its_loss_scale_and_trains_near_f32(name: str):
    """From the scale with which runs start, and from one with which no step overflows, which can be compared with f32."""
    built = program(name, precision="f16")
    state, _, curve, _ = toys.run(built.experiment, program=built, intervals=INTERVALS)
    kept = jax.tree.leaves((state.params, state.average, state.model_state))
    assert {leaf.dtype for leaf in kept if np.issubdtype(leaf.dtype, np.inexact)} <= {np.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in kept)
    assert np.isfinite([value for numbers in curve.values() for value in numbers.values()]).all()
    left_out = sum(numbers.get("left_out", 0) for numbers in curve.values())
    assert state.loss_scale["scale"] == loss_scaling.INITIAL / 2**left_out and left_out < 9
    start = built.strategy.to_host(built.init(0))
    assert toys.gap(start.params, state.params) > 0
    steady = dataclasses.replace(start, loss_scale=start.loss_scale | {"scale": np.float32(STEADY_SCALE)})
    state, _, curve, _ = toys.run(built.experiment, program=built, intervals=INTERVALS, resume=(steady, [], 0))
    assert state.loss_scale["scale"] == STEADY_SCALE and int(state.loss_scale["good_steps"]) == 9
    watched = {metric.name for metric in built.experiment.task.watched_metrics if metric.name.endswith(LOSSES)}
    for step, numbers in reference(name)[2].items():
        for metric in watched & numbers.keys():
            assert curve[step][metric] == pytest.approx(numbers[metric], rel=F16_TOLERANCE, abs=F16_TOLERANCE), (step, metric)


@pytest.mark.parametrize("name", slow_but(TRAINED, "pursuit", "classify", thorough=LATER))
def test_runs_in_one_batched_program_equal_single_ones(name: str):
    built, seeds = program(name), (0, 1)
    batched = batch_programs([built] * 2)
    logged: dict[int, list[dict[str, float]]] = {}

    def on_log(step, parts):
        logged[step] = [experiment(name).task.summary(train.merge(select_member(parts, member))) for member in range(2)]

    state, step = train.fit(
        batched,
        stack_members([built.init(seed) for seed in seeds]),
        seed=seeds,
        step=0,
        stop=9,
        intervals=INTERVALS,
        pending_stats=[],
        on_log=on_log,
        on_evaluate=lambda step, state: None,
        on_save=lambda step, state, pending: None,
        should_stop=lambda: False,
    )
    assert step == 9
    for member, seed in enumerate(seeds):
        alone, _, curve, _ = reference(name, seed=seed)
        assert toys.gap(alone, built.strategy.to_host(select_member(state, member))) < 1e-4
        for step, numbers in curve.items():
            assert by_name(logged[step][member]) == pytest.approx(by_name(numbers), rel=2e-4, abs=1e-6), step
