"""Metrics are declared: every number of every task, its unit and its sense, and what follows from them."""

import dataclasses

import jax
import pytest
from toys import pursuit

from cnnlab import knobs
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import build_program, stack_steps
from cnnlab.errors import UsageError
from cnnlab.metric import SHARE, Metric, name_of
from cnnlab.recipes.autoencoder import principal_components, reconstruction, stacked_autoencoders
from cnnlab.recipes.classification import classification, ensemble_classification, nearest_neighbours
from cnnlab.recipes.gan import adversarial_pair
from cnnlab.recipes.pixels import pixel_by_pixel
from cnnlab.recipes.vae import quantized_autoencoder, variational_autoencoder
from cnnlab.runs.recorder import summarise

DIGITS = {"dataset": "digits", "duration": "2 steps", "batch_size": "8"}
TASKS = {
    "classify": (classification, {"model": "linear"}),
    "ensemble": (ensemble_classification, {"model": "linear", "members": "2"}),
    "knn": (nearest_neighbours, {"k": "1", "dataset": "digits"}),
    "pca": (principal_components, {"components": "3", "dataset": "digits"}),
    "reconstruct": (reconstruction, {"penalty": "contractive"}),
    "stacked": (stacked_autoencoders, {"widths": "8,4", "pretrain": "1 steps"}),
    "stacked, unsupervised": (stacked_autoencoders, {"widths": "8,4", "pretrain": "1 steps", "finetune": "unsupervised"}),
    "gan": (adversarial_pair, {"model": "mlp", "r1": "1"}),
    "wgan_gp": (adversarial_pair, {"model": "mlp", "loss": "wgan_gp"}),
    "autoregress": (pixel_by_pixel, {}),
    "variational": (variational_autoencoder, {"log_p_samples": "2"}),
    "importance weighted": (variational_autoencoder, {"log_p_samples": "2", "bound": "importance_weighted", "samples": "2"}),
    "vq_vae": (quantized_autoencoder, {}),
}
"""{task: (recipe, knobs)}: a network of the recipe on digits."""


@pytest.mark.parametrize("name", TASKS)
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
    task = dataclasses.replace(pursuit(), summary=lambda stats: {"scout_loss": 1.0, "surprise": 2.0})
    with pytest.raises(UsageError, match=r'gives surprise, which its metrics do not declare(.|\n)*Metric\("surprise"'):
        summarise(task, {"sums": {}, "rows": {}})


def test_the_primary_metric_is_the_first_and_is_watched_last():
    task = dataclasses.replace(pursuit(), logged_metrics=("hunter_loss", "scout_loss"))
    assert task.primary_metric.name == "scout_loss"
    assert [metric.name for metric in task.watched_metrics] == ["hunter_loss", "scout_loss"]


def test_a_metric_knows_its_units_and_has_a_sense_or_none():
    share, distance = Metric("mean_iou", SHARE, higher_is_better=True), Metric("code_distance", "nats")
    assert (share.label, share.shown_unit, share.difference_unit, share.factor) == ("mean iou", "%", "points", 100.0)
    assert (distance.shown_unit, distance.difference_unit, distance.factor) == ("nats", "nats", 1.0)
    assert share.require_sense("--prune=asha") is True and name_of("test/mean_iou") == name_of("mean_iou") == "mean_iou"
    with pytest.raises(UsageError, match=r"--prune=asha needs a metric(.|\n)*code_distance is declared without a sense"):
        distance.require_sense("--prune=asha")
