"""Metrics are declared: every number of every task, its unit and its sense, and what follows from them."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from cnnlab import knobs
from cnnlab.core import Experiment
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program, stack_steps
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric, name_of
from cnnlab.ops.optimizers import scale_by_layer
from cnnlab.recipes.autoencoder import principal_components, reconstruction, stacked_autoencoders
from cnnlab.recipes.classification import classification, ensemble_classification, nearest_neighbours
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.recipes.vae import quantized_autoencoder, variational_autoencoder
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.runs.summaries import summarise
from cnnlab.values import Duration
from tests.stages import slow_but

DIGITS = {"dataset": "digits", "duration": "2 steps", "batch_size": "8"}
TASKS = {
    "classify": (classification, {"model": "linear"}),
    "ensemble": (ensemble_classification, {"model": "linear", "members": "2"}),
    "knn": (nearest_neighbours, {"k": "1", "dataset": "digits"}),
    "pca": (principal_components, {"components": "3", "dataset": "digits"}),
    "reconstruct": (reconstruction, {"penalty": "contractive", "model.widths": "16"}),
    "stacked": (stacked_autoencoders, {"widths": "8,4", "pretrain": "1 steps"}),
    "stacked, unsupervised": (stacked_autoencoders, {"widths": "8,4", "pretrain": "1 steps", "finetune": "unsupervised"}),
    "gan": (adversarial_pair, {"model": "mlp", "r1": "1"}),
    "wgan_gp": (adversarial_pair, {"model": "mlp", "loss": "wgan_gp"}),
    "autoregress": (pixel_by_pixel, {"model.width": "4", "model.blocks": "1"}),
    "variational": (variational_autoencoder, {"log_p_samples": "2", "model.widths": "16"}),
    "importance weighted": (variational_autoencoder, {"log_p_samples": "2", "bound": "importance_weighted", "samples": "2"}),
    "vq_vae": (quantized_autoencoder, {"model.widths": "4,8", "model.blocks": "0"}),
}
"""{task: (recipe, knobs)}: a network of the recipe on digits."""


@pytest.mark.parametrize("name", slow_but(TASKS, "classify", "knn", "pca", "reconstruct"))  # the contract has one of each task
def test_every_number_that_a_task_gives_is_declared(name: str):
    recipe, given = TASKS[name]
    common = DIGITS if "dataset" not in given else {}
    experiment = knobs.resolve(recipe, common | given).call()
    task, program = experiment.task, build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    names = [metric.name for metric in task.metrics]
    assert len(set(names)) == len(names) and set(task.logged_metrics) <= {*names, "loss"}
    assert task.primary_metric.higher_is_better is not None
    state, found = program.init(0), set()
    if task.turns:
        feeds = experiment.data.train(0, 0)
        for step in range(experiment.steps):
            steps, _ = program.phase_at(step)
            state, stats = steps(state, program.step_inputs("train"), program.strategy.shard_batch(stack_steps([next(feeds)])))
            found |= summarise(task, train.merge([jax.device_get(stats)])).keys()
    held_out = train.evaluate(program, state, "test", final=True)
    found |= summarise(task, held_out).keys()
    assert task.primary_metric.name in found and set(task.logged_metrics) & found | {task.primary_metric.name} <= found
    assert task.kept_rows is None or set(task.kept_rows) & set(held_out["rows"])


def test_a_number_that_is_not_declared_is_refused():
    task = dataclasses.replace(toys.pursuit(), summary=lambda stats: {"scout_loss": 1.0, "surprise": 2.0})
    with pytest.raises(UsageError, match=r'gives surprise, which its metrics do not declare(.|\n)*Metric\("surprise"'):
        summarise(task, {"sums": {}, "rows": {}})


def test_the_primary_metric_is_the_first_and_is_watched_last():
    task = dataclasses.replace(toys.pursuit(), logged_metrics=("hunter_loss", "scout_loss"))
    assert task.primary_metric.name == "scout_loss"
    assert [metric.name for metric in task.watched_metrics] == ["hunter_loss", "scout_loss"]


def test_a_metric_knows_its_units_and_has_a_sense_or_none():
    share, distance = Metric("mean_iou", SHARE, higher_is_better=True), Metric("code_distance", "nats")
    assert (share.label, share.shown_unit, share.difference_unit, share.factor) == ("mean iou", "%", "points", 100.0)
    assert (distance.shown_unit, distance.difference_unit, distance.factor) == ("nats", "nats", 1.0)
    assert share.require_sense("--prune=asha") is True and name_of("test/mean_iou") == name_of("mean_iou") == "mean_iou"
    with pytest.raises(UsageError, match=r"--prune=asha needs a metric(.|\n)*code_distance is declared without a sense"):
        distance.require_sense("--prune=asha")


def counting(steps: int = 20) -> Experiment:
    """The chase, whose players also count the labels in a table [2, 3], of the training batches and held out."""
    chase = toys.chase(steps=steps)
    base = chase.task

    def table(batch) -> jax.Array:
        real = batch["mask"].astype(jnp.float32)
        rows = jax.nn.one_hot(batch["label"], 2) * real[:, None]  # [B, 2]
        return jnp.einsum("bi,bj->ij", rows, jax.nn.one_hot(batch["index"] % 3, 3))  # [2, 3]

    def loss(params, model_state, batch, key, player):
        value, (state, stats) = base.loss(params, model_state, batch, key, player)
        return value, (state, {"sums": {**stats["sums"], "table": table(batch)}})

    def measure(params, model_state, batch):
        stats = base.measure(params, model_state, batch)
        return {**stats, "sums": {**stats["sums"], "table": table(batch)}}

    def summary(stats):
        counts = stats["sums"]["table"]
        assert counts.shape == (2, 3) and counts.dtype == np.float64
        return {**base.summary(stats), "share_0_2": counts[0, 2] / counts.sum(), "examples": counts.sum()}

    more = (Metric("share_0_2", SHARE), Metric("examples"))
    task = dataclasses.replace(base, loss=loss, measure=measure, summary=summary, metrics=(*base.metrics, *more))
    return dataclasses.replace(chase, task=task)


def test_merged_sums_keep_their_shape():
    part = {"sums": {"confusion": np.arange(18.0).reshape(2, 3, 3), "count": np.ones(2)}, "rows": {}}
    merged = train.merge([part, part])["sums"]
    np.testing.assert_array_equal(merged["confusion"], 2 * part["sums"]["confusion"].sum(axis=0))
    assert merged["confusion"].shape == (3, 3) and merged["count"] == 4.0
    again = train.merge([train.as_part(train.merge([part])), part])["sums"]
    jax.tree.map(np.testing.assert_array_equal, again, merged)


@pytest.mark.parametrize(
    ("strategy", "devices"), slow_but([("jit", 1), ("jit", 4), ("pmap", 4), ("fsdp", 4)], ("jit", 4), ("pmap", 4))
)
def test_a_table_of_counts_is_summed_over_steps_batches_and_devices(strategy: str, devices: int):
    experiment = counting()
    _, _, logged, _ = toys.run(experiment, strategy=strategy, devices=devices)
    program = build_program(experiment, STRATEGIES[strategy](pick_devices(devices)), precision="f32")
    assert {step: numbers["examples"] for step, numbers in logged.items()} == dict.fromkeys((5, 10, 15, 20), 3 * 5 * 16)
    held_out = experiment.task.summary(train.evaluate(program, program.init(0), "test"))
    assert held_out["examples"] == 16 and held_out["share_0_2"] == np.mean([i % 2 == 0 and i % 3 == 2 for i in range(16)])


def test_a_table_of_counts_comes_back_from_a_checkpoint(tmp_path: pathlib.Path):
    program = build_program(counting(), STRATEGIES["jit"](pick_devices(1)), precision="f32")
    spec = RunSpec("counting", {}, "f32", source="", devices=1, quiet=True, log_every=Duration(5, "steps"))
    whole = run.train_run(program, tmp_path / "whole", spec, 0, overwrite=False)
    run.train_run(program, tmp_path / "half", dataclasses.replace(spec, stop_after=13), 0, overwrite=False)
    rest = run.train_run(program, tmp_path / "half", spec, 0, overwrite=False)
    assert (rest["state_digest"], rest["metrics"]) == (whole["state_digest"], whole["metrics"])
    lines = [(tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8") for name in ("whole", "half")]
    assert lines[0] == lines[1] and '"train/examples": 240.0' in lines[0]
    batched = run.train_batched([(program, tmp_path / f"batched_{seed}", spec, seed) for seed in (0, 1)])
    assert [result["metrics"]["test/examples"] for result in batched] == [16.0, 16.0]


@pytest.mark.parametrize(("strategy", "devices"), [("jit", 1), ("pmap", 4)])
def test_an_optimiser_that_reads_the_loss_gets_the_global_one(strategy: str, devices: int):
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=3, rtol=0.2)
    chase = toys.chase(steps=20)
    slower = {**chase.optimizers, "scout": scale_by_layer(optax.chain(optax.sgd(0.05), plateau), ("at=1",))}
    state = toys.run(dataclasses.replace(chase, optimizers=slower), strategy=strategy, devices=devices)[0]
    found = state.opt_state["scout"][1]
    assert 0.0 < float(found.scale) < 1.0 and 0.0 < float(found.best_value) < 36.0
    alone = toys.run(dataclasses.replace(chase, optimizers=slower))[0]
    assert float(found.scale) == float(alone.opt_state["scout"][1].scale) and toys.gap(state, alone) < 2e-5


def test_a_task_keeps_the_rows_that_it_names(tmp_path: pathlib.Path):
    chase = toys.chase(steps=2)
    for kept, expected in ((None, {"distance", "index"}), (("index", "absent"), {"index"})):
        experiment = dataclasses.replace(chase, task=dataclasses.replace(chase.task, kept_rows=kept))
        program = build_program(experiment, STRATEGIES["jit"](pick_devices(1)), precision="f32")
        spec = RunSpec("chase", {}, "f32", source="", devices=1, quiet=True)
        result = run.train_run(program, tmp_path / str(kept), spec, 0, overwrite=False)
        assert set(np.load(tmp_path / str(kept) / "test_rows.npz")) == expected
        assert result["declared"]["scout_loss"] == {
            "name": "scout_loss",
            "unit": "",
            "higher_is_better": False,
            "log_scale": False,
            "is_proportion": False,
        }
