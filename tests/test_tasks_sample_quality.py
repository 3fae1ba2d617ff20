"""Evaluators of generated images: a classifier trained here, or pixels; equal images are at no distance."""

import dataclasses
import functools
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import files, knobs
from cnnlab.core import Dataset
from cnnlab.data.pipeline import build
from cnnlab.data.procedural import gaussians, stripes
from cnnlab.errors import UsageError
from cnnlab.recipes.classification import classification, ensemble_classification
from cnnlab.recipes.evaluators import by_run
from cnnlab.runs import run
from cnnlab.runs.folder import RunSpec
from cnnlab.tasks.sample_quality import evaluation_rows, mixture_evaluator, pixel_evaluator, sample_metrics, sampling_keys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A run of LeNet-5 on digits padded to 16x16, two steps long."""
    return trained(tmp_path_factory.mktemp("judge"), classification)


def trained(place: pathlib.Path, recipe, **more) -> pathlib.Path:
    given = {"dataset": "digits", "duration": "2 steps", **more}
    if recipe is classification:
        given |= {"model": "lenet5", "image_size": 16, "image_fit": "pad"}
    resolved = knobs.resolve(recipe, given)
    plan = RunSpec("judge", resolved.values, "f32", source="", devices=1, quiet=True)
    assert run.train_seeds(resolved, plan, {0: place / "run"}, overwrite=False) == 0
    return place / "run"


def shown(side: int, channels: int = 1) -> Dataset:
    """A data set of images of that size, as far as an evaluator reads it."""
    data = build(stripes(examples=8, size=side), batch_size=4)
    return dataclasses.replace(data, inputs=dataclasses.replace(data.inputs, image_shape=(side, side, channels)))


def metrics_of(evaluator, real: jax.Array, *drawn: jax.Array) -> list[dict[str, float]]:
    """The metrics of each of several arrays of drawn images, all by one program."""
    rows = jax.jit(functools.partial(evaluation_rows, evaluator))
    return [sample_metrics(evaluator, jax.device_get(rows(real, each))) for each in drawn]


def images(count: int, side: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).random((count, side, side, 1), np.float32))


@pytest.mark.slow
def test_an_evaluator_predicts_what_its_run_predicted(folder: pathlib.Path):
    data = knobs.resolve(classification, {"dataset": "digits", "normalize": "none"}).call().data
    batch = next(data.evaluate("test", 359))
    real = data.prepare(data.resident["test"], batch, None)["image"]
    logits, features = by_run(str(folder), data=data).features(real)
    rows = np.load(folder / "test_rows.npz")
    confidence = jnp.take_along_axis(jax.nn.softmax(logits, axis=1), rows["prediction"][:, None], axis=1)[:, 0]
    np.testing.assert_array_equal(np.argmax(logits, axis=1), rows["prediction"])
    np.testing.assert_allclose(confidence, rows["confidence"], rtol=1e-4)
    assert features.shape == (359, 84)


@pytest.mark.slow
def test_an_evaluator_reads_a_run_whose_knobs_were_flat(folder: pathlib.Path, tmp_path: pathlib.Path):
    """A run.json from before data and schedules were choices of their own, and files had digests."""
    old = shutil.copytree(folder, tmp_path / "old")
    recorded = files.read_record(old / "run.json")
    flat = {
        path.removeprefix("data.").replace("optimizer.schedule", "schedule"): value
        for path, value in recorded["knobs"].items()
        if path not in ("data", "data.resident_mib")
    }
    assert flat["dataset"] == "digits" and flat["image_fit"] == "pad" and flat["schedule"] == "cosine"
    files.write_json(old / "run.json", {**recorded, "knobs": flat})
    data = knobs.resolve(classification, {"dataset": "digits", "normalize": "none"}).call().data
    now, then = (by_run(str(place), data=data).features(images(3, 12)) for place in (folder, old))
    jax.tree.map(np.testing.assert_array_equal, now, then)


def test_equal_images_are_at_no_distance_and_noise_is_far(folder: pathlib.Path):
    evaluator, real = by_run(str(folder), data=shown(8)), images(64, 8)
    same, other = metrics_of(evaluator, real, real, jnp.zeros_like(real))
    assert same["judge_frechet"] < 1e-6 < 1e-2 < other["judge_frechet"]
    assert same["judge_precision"] == same["judge_recall"] == 1.0 and other["judge_recall"] == 0.0
    assert other["judge_two_sample"] == 1.0 and other["judge_classes"] == 1.0 and other["judge_entropy"] == 0.0
    assert other["judge_score"] == pytest.approx(1.0)


def test_the_pixel_evaluator_has_no_classes_and_keeps_few_pixels_as_they_are():
    few, many = images(40, 2), images(40, 28) - 0.5
    rows_of = functools.partial(evaluation_rows, pixel_evaluator())
    assert jax.eval_shape(rows_of, few, few)["real_features"].shape == (40, 4)
    rows = jax.device_get(jax.jit(rows_of)(many, many))
    lengths = np.linalg.norm(rows["real_features"], axis=1) / np.linalg.norm(many.reshape(40, -1), axis=1)
    assert rows["real_features"].shape == (40, 64) and abs(np.mean(lengths) - 1.0) < 0.1
    expected = {f"pixels_{name}" for name in ("frechet", "precision", "recall", "two_sample")} | {"sharpness", "sharpness_gap"}
    same = sample_metrics(pixel_evaluator(), rows)
    assert set(same) == expected and same["sharpness"] == pytest.approx(1.0) and same["sharpness_gap"] < 1e-6
    blurred = sum(0.25 * np.roll(many, shift, (1, 2)) for shift in ((0, 0), (1, 0), (0, 1), (1, 1)))
    blur, noisy = metrics_of(pixel_evaluator(), many, jnp.asarray(blurred), 2.0 * many)
    assert blur["sharpness"] < 0.5 and blur["sharpness_gap"] == pytest.approx(-np.log(blur["sharpness"]))
    assert noisy["sharpness"] > 1.0 and noisy["sharpness_gap"] == pytest.approx(np.log(4.0), rel=1e-4)
    assert sample_metrics(pixel_evaluator(), {}) == {}


def test_sampling_keys_belong_to_the_example():
    whole = jax.random.key_data(sampling_keys({"index": jnp.arange(8)}))
    part = jax.random.key_data(sampling_keys({"index": jnp.arange(3, 6)}))
    np.testing.assert_array_equal(part, whole[3:6])
    assert not np.array_equal(whole, jax.random.key_data(sampling_keys({"index": jnp.arange(8)}, "other")))


def test_an_evaluator_of_other_images_or_of_another_task_is_refused(folder: pathlib.Path, tmp_path: pathlib.Path):
    with pytest.raises(UsageError, match="takes images of 1 channels, and these have 3"):
        by_run(str(folder), data=shown(8, 3))
    with pytest.raises(UsageError, match="is not a run"):
        by_run(str(tmp_path), data=shown(8))
    other = trained(tmp_path, ensemble_classification, members=2, model="linear")
    with pytest.raises(UsageError, match="expected the run of a classifier, got that of another task: no knob --members"):
        by_run(str(other), data=shown(8))


def test_modes_are_hit_by_points_near_them_alone():
    train = gaussians().splits["train"]
    evaluator, real = mixture_evaluator(train.images, train.labels), jnp.asarray(train.images[:800])
    half = real[np.asarray(train.labels[:800]) < 4]
    middle = jnp.full_like(half, 0.5)
    same, other = metrics_of(evaluator, real, real, jnp.concatenate([half, middle]))
    assert same["modes_classes"] == 8.0 and same["modes_good"] == pytest.approx(1 - np.exp(-4.5), abs=0.01)
    assert other["modes_classes"] == 4.0 and other["modes_good"] == pytest.approx(0.5, abs=0.01)
    assert other["modes_entropy"] == pytest.approx(np.log(4), abs=0.02)
    assert same["modes_entropy"] == pytest.approx(np.log(8), abs=0.02)
    (nowhere,) = metrics_of(evaluator, real, middle)
    assert nowhere["modes_classes"] == nowhere["modes_good"] == nowhere["modes_entropy"] == 0.0
