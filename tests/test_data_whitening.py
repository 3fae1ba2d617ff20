"""Whitening of the inputs: equal to scikit-learn's, uncorrelated, and the same function wherever a run is used."""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA

from cnnlab.data import normalize
from cnnlab.data.kinds import Image
from cnnlab.data.pipeline import build
from cnnlab.data.source import Source, Split
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.interop import export
from cnnlab.ops.whitening import normalised
from cnnlab.runs import run, run_files, trained_function
from tests.test_trained_function import resolved, spec_of

SHAPE = (4, 3, 2)
MIXED = np.random.default_rng(0).normal(size=(400, 24)) @ np.random.default_rng(1).normal(size=(24, 24))
IMAGES = (0.5 + 0.05 * MIXED.reshape(-1, *SHAPE)).astype(np.float32)  # [N, D] -> [N, H, W, C]


def seen(rule: Any, images: np.ndarray = IMAGES, **settings: float) -> np.ndarray:
    """Images [N, H, W, C] as a network sees them, as rows f64 [N, D]."""
    subtract, divide, matrix = rule(images, **settings)
    inputs = InputSpec(SHAPE, str(images.dtype), subtract, divide, (), whiten=matrix)
    return np.asarray(normalised(inputs, jnp.asarray(images, jnp.float32)), np.float64).reshape(len(images), -1)


def test_the_components_are_those_of_scikit_learn():
    theirs = PCA(whiten=True, svd_solver="full").fit_transform(IMAGES.reshape(len(IMAGES), -1).astype(np.float64))
    ours = seen(normalize.pca, epsilon=1e-12)
    theirs *= np.sqrt(len(IMAGES) / (len(IMAGES) - 1))  # it divides by N − 1
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, signs * theirs, atol=5e-3)


@pytest.mark.parametrize("rule", [normalize.pca, normalize.zca])
def test_the_covariance_of_whitened_images_is_the_identity(rule: Any):
    np.testing.assert_allclose(np.cov(seen(rule, epsilon=1e-12), rowvar=False, bias=True), np.eye(24), atol=2e-3)
    grey = np.round(255 * np.clip(IMAGES, 0, 1)).astype(np.uint8)
    of_floats = seen(rule, grey.astype(np.float32) / 255)
    np.testing.assert_allclose(seen(rule, grey), of_floats, atol=1e-3)


def test_zca_is_symmetric_and_nearest_to_the_images():
    zca, pca = (rule(IMAGES)[2] for rule in (normalize.zca, normalize.pca))
    np.testing.assert_allclose(zca, zca.T, rtol=1e-4, atol=1e-5)
    assert np.linalg.eigvalsh(zca.astype(np.float64)).min() > 0
    centred = IMAGES.reshape(len(IMAGES), -1) - IMAGES.reshape(len(IMAGES), -1).mean(axis=0)
    assert np.square(centred @ zca - centred).sum() < np.square(centred @ pca - centred).sum()
    assert np.array_equal(zca, normalize.zca(IMAGES.copy())[2]), "it is the same matrix every time"


def test_what_cannot_be_whitened_is_refused_before_anything_is_computed():
    with pytest.raises(
        UsageError, match=r"--normalize=zca: images of 33x32x3 take a matrix of 3,168 x 3,168 .*\n.*--image_size"
    ):
        normalize.zca(np.zeros((2, 33, 32, 3), np.uint8))
    columns = {"image": IMAGES, "other": IMAGES}
    two = Source("two", {"train": Split(columns), "test": Split(columns)}, {"image": Image(), "other": Image()}, "two")
    with pytest.raises(UsageError, match="whitens the images of one column, and two has image and other"):
        build(two, batch_size=4, validation=0.0, normalize=normalize.pca)


@pytest.mark.slow
def test_a_run_keeps_its_matrix_and_every_command_uses_it(tmp_path: pathlib.Path):
    one, folder = resolved(normalize="zca", duration="4 steps"), tmp_path / "run"
    run.train_run(run.build(one, spec_of(one)), folder, spec_of(one), 0, overwrite=False)
    trained = one.call().data
    inputs = trained_function.read_inputs(folder)
    assert inputs is not None and inputs.is_same(trained.inputs) and np.array_equal(inputs.whiten, trained.inputs.whiten)
    assert sum(path.stat().st_size for path in (folder / "checkpoints").rglob("manifest.json")) < 20_000
    export.export_run(one, spec_of(one), folder, tmp_path / "x.stablehlo", best=False, replace=False)
    with np.load(folder / run_files.ROWS) as rows:
        index, probabilities = rows["index"], rows["probabilities"]
    scores = np.asarray(export.load_stablehlo(tmp_path / "x.stablehlo")(trained.images("test", index)))
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(chances / chances.sum(axis=1, keepdims=True), probabilities, atol=1e-5)
    # A run that goes on, or is measured without its data set, reads the matrix.
    program, *_ = run.restore_run(one, spec_of(one), folder, best=False, opens_data=False)
    assert np.array_equal(program.experiment.data.inputs.whiten, inputs.whiten)
    path = folder / run_files.WHITENING
    np.save(path, 2 * np.load(path))
    with pytest.raises(CheckpointError, match=r"is not the one of the checkpoint.*\n.*from a copy"):
        trained_function.read_inputs(folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"whitening.npy, the matrix .* is missing"):
        trained_function.read_inputs(folder)
