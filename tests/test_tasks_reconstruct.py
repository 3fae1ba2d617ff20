"""Autoencoders as a game: one curve on any devices, exact resume, clean measurement, codes to draw from; PCA exactly."""

import functools
import gzip
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flipping import require_every_knob_does_something
from sklearn.decomposition import PCA
from toys import run

from cnnlab import knobs
from cnnlab.core import Experiment
from cnnlab.engine import train
from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.engine.program import Program, build_program
from cnnlab.errors import UsageError
from cnnlab.recipes.autoencoder import principal_components, reconstruction
from cnnlab.tasks.pca import pca_task

SMALL = {"widths": "12", "code": "5", "batch_size": "32", "duration": "20 steps"}
INTERVALS = train.Intervals(log=5, evaluate=20, save=10)


@functools.cache
def experiment(**given: Any) -> Experiment:
    """Digits, 20 steps of a small autoencoder."""
    return knobs.resolve(reconstruction, {**SMALL, **given}).call()


NOISY = {"corruption": "gaussian", "penalty": "sparse_kl", "code_activation": "sigmoid"}


def test_training_lowers_the_loss_and_shows_the_penalty():
    _, _, curve, _ = run(experiment(**NOISY), intervals=INTERVALS)
    assert curve[20]["loss"] < curve[5]["loss"] and curve[20]["penalty"] > 0


def started(one: Experiment) -> tuple[Program, Any]:
    program = build_program(one, STRATEGIES["jit"](pick_devices(1)), precision="f32")
    return program, program.init(0)


def test_held_out_errors_are_of_clean_images_and_count_every_image_once(monkeypatch: pytest.MonkeyPatch):
    one = experiment(corruption="masking")
    program, state = started(one)
    images = one.data.images("test", np.arange(one.data.sizes["test"])).astype(np.float32) / 255
    outputs = np.asarray(one.task.predict(state.params, state.model_state, jnp.asarray(images)))
    expected = ((outputs - images) ** 2).sum((1, 2, 3))
    for size in (100, 359):
        monkeypatch.setattr(train, "EVALUATION_BATCH", size)
        stats = train.evaluate(program, state, "test")
        np.testing.assert_allclose(stats["rows"]["squared_error"], expected, rtol=1e-4)
        assert one.task.summary(stats)["squared_error"] == pytest.approx(expected.mean(), rel=1e-5)
        assert stats["sums"]["count"] == one.data.sizes["test"]


@pytest.mark.slow
def test_snapshots_stand_beside_their_inputs_and_draws_depend_on_their_own_keys():
    one = experiment(corruption="gaussian")
    program, _ = started(one)
    state = program.strategy.to_devices(run(one, intervals=INTERVALS)[0])
    batch = train.snapshot_batch(one.data, 6)
    shown = program.snapshot(state, batch)
    assert {name: len(images) for name, images in shown.items()} == {"reconstructions": 12, "denoised": 12, "samples": 6}
    np.testing.assert_allclose(shown["reconstructions"][::2], batch["image"])
    np.testing.assert_allclose(
        shown["reconstructions"][1::2], np.clip(one.task.predict(state.params, {}, batch["image"]), 0, 1), atol=1e-5
    )
    assert all(images.min() >= 0 and images.max() <= 1 for images in shown.values())
    sampler, keys, labels = one.task.sampler, jax.random.split(jax.random.key(0), 8), jnp.zeros(8, jnp.int32)
    assert sampler is not None and sampler.codes is not None and sampler.decode is not None
    drawn = sampler.draw(state.params, state.model_state, keys, labels, jnp.float32(1))
    some = sampler.draw(state.params, state.model_state, keys[3:5], labels[:2], jnp.float32(1))
    np.testing.assert_allclose(some, drawn[3:5], atol=1e-5)
    cold = sampler.draw(state.params, state.model_state, keys, labels, jnp.float32(0))
    mean = state.model_state["codes"]["mean"][None]
    np.testing.assert_allclose(cold[0], sampler.decode(state.params, state.model_state, mean, labels[:1])[0], atol=1e-6)


def test_pictures_of_a_code_of_two_units_have_its_plane():
    one = experiment(code="2")
    program, state = started(one)
    stats = train.evaluate(program, state, "test")
    shown = one.task.figures(state.params, state.model_state, stats, one.data, "test")
    assert set(shown) == {"reconstructions", "worst", "filters", "codes"}


def test_sparse_kl_of_a_code_that_is_no_coin_is_refused():
    with pytest.raises(
        UsageError, match=r"sparse_kl reads the activation of a unit(.|\n)*--code_activation=sigmoid, or --penalty=sparse_l1"
    ):
        experiment(penalty="sparse_kl")


FLIPPED = {"dataset": "stripes", "dataset.examples": 60, "dataset.size": 16, "batch_size": 8, "duration": "40 steps"}
BASES = [
    (None, {"model": "mlp", "image_size": 20, "image_fit": "pad"}),
    *[("model", {"model": name}) for name in ("mlp", "linear", "conv")],
    ("loss", {"loss": "squared"}),
    *[("corruption", {"corruption": name}) for name in ("gaussian", "masking", "salt_and_pepper")],
    *[("penalty", {"penalty": name, "code_activation": "sigmoid"}) for name in ("sparse_kl", "sparse_l1", "contractive")],
]


@pytest.mark.slow
@pytest.mark.parametrize(("below", "base"), BASES, ids=str)
def test_every_knob_does_something(below: str | None, base: dict[str, Any]):
    others, but = {"penalty": "sparse_l1", "batch_size": 10}, ("init_from", "init_into")  # these: test_interop_start.py
    require_every_knob_does_something(reconstruction, {**FLIPPED, **base}, below=below, others=others, but=but)


def as_batch(images: np.ndarray) -> dict[str, jax.Array]:
    count = len(images)
    return {
        "image": jnp.asarray(images),
        "label": jnp.zeros(count, jnp.int32),
        "index": jnp.arange(count, dtype=jnp.int32),
        "mask": jnp.ones(count, bool),
    }


@pytest.mark.parametrize(("solver", "tolerance"), [("exact", 1e-4), ("randomised", 5e-3)])
@pytest.mark.parametrize("count", [1200, 40])
def test_components_agree_with_scikit_learn(solver: Any, tolerance: float, count: int):
    data = knobs.resolve(principal_components, {}).call().data
    images, held = (data.images(split, np.arange(n)).astype(np.float32) / 255 for split, n in (("train", count), ("test", 300)))
    task = pca_task(data.image_shape, components=10, solver=solver)
    params, state = jax.jit(task.init)(jax.random.key(0), as_batch(images))
    judge = PCA(10, svd_solver="full").fit(images.reshape(count, -1).astype(np.float64))
    flat = held.reshape(300, -1)
    expected = ((judge.inverse_transform(judge.transform(flat)) - flat) ** 2).sum(1)
    stats = jax.device_get(task.measure(params, state, as_batch(held)))
    np.testing.assert_allclose(stats["rows"]["squared_error"], expected, rtol=tolerance)
    variances = judge.explained_variance_ * (count - 1) / count
    np.testing.assert_allclose(np.diag(state["codes"]["covariance"]), variances, rtol=tolerance)
    assert task.turns == () and params == {}


def test_more_components_than_values_and_a_step_are_refused():
    with pytest.raises(UsageError, match="--components=70: 1438 training images of 64 values have at most 64"):
        knobs.resolve(principal_components, {"components": 70}).call()
    with pytest.raises(UsageError, match="no loss to train"):
        pca_task((8, 8, 1)).loss({}, {}, {}, jax.random.key(0), "")


PUBLISHED = {"mnist": (43.6449, 13.8663, 7.0927), "fashion_mnist": (36.1394, 12.2429, 8.1286)}
"""Squared error of a test image from 2, 30 and 64 components; 13.87 in Hinton and Salakhutdinov 2006."""


def read(path: Any) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)[16:].reshape(-1, 28, 28, 1).astype(np.float32) / 255


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_errors_on_the_real_test_set_are_the_published_ones(shared_data: Any, name: str):
    images, held = (read(shared_data / name / f"{split}-images-idx3-ubyte.gz") for split in ("train", "t10k"))
    for components, expected in zip((2, 30, 64), PUBLISHED[name], strict=True):
        task = pca_task((28, 28, 1), components=components)
        held_state = jax.jit(task.init)(jax.random.key(0), as_batch(images))
        stats = jax.device_get(task.measure(*held_state, as_batch(held)))
        assert stats["rows"]["squared_error"].mean(dtype=np.float64) == pytest.approx(expected, abs=1e-3)
