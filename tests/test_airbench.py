"""CIFAR-10 to 94 %: whitening, Muon, alternating flips and views do what they say, and the experiment puts them together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toys

from cnnlab import knobs
from cnnlab.core import CLASSIFIER, FROZEN, OUTPUT
from cnnlab.engine.train import Intervals
from cnnlab.ops import muon
from cnnlab.ops.schedules import constant
from cnnlab.ops.views import over_views
from cnnlab.ops.whitening import patch_whitening
from experiments.airbench_cifar10 import experiment
from tests.flipping import require_every_knob_does_something

TINY = {
    "dataset": "stripes",
    "dataset.examples": 200,
    "dataset.size": 6,
    "batch_size": 50,
    "model.widths": "4",
    "lr": 0.1,
    "other_lr": 5.0,
    "output_lr": 5.0,
}
DURATION = {"duration": "6 steps", "whitening_bias": "3 steps", "whitening_images": 100}


def test_whitened_patches_have_identity_covariance_and_filters_come_with_their_negatives():
    random = np.random.default_rng(0)
    images = random.normal(size=(60, 8, 7, 3)) @ random.normal(size=(3, 3))
    images[:, 1:] += images[:, :-1]
    kernel = patch_whitening(images, side=2, epsilon=1e-9)
    assert kernel.shape == (2, 2, 3, 24) and kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel[..., :12], -kernel[..., 12:])
    out = jax.lax.conv_general_dilated(
        images.astype(np.float32), kernel[..., :12], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    rows = np.asarray(out, np.float64).reshape(-1, 12)  # [N, H - 1, W - 1, 12] -> [N · (H - 1) · (W - 1), 12]
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(12), atol=1e-3)


def first_update(optimizer: optax.GradientTransformation, gradient: optax.Updates, params: optax.Params) -> optax.Updates:
    """The first update; optax leans on implicit promotion, as in the engine's step."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(gradient, optimizer.init(params), params)[0]


@pytest.mark.parametrize("shape", [(3, 3, 4, 16), (6, 30)])
def test_muon_updates_have_singular_values_near_one(shape: tuple[int, ...]):
    kernel = jax.random.normal(jax.random.key(0), shape)
    optimizer = muon.muon(steps=10, lr=0.5, schedule=constant)
    update = first_update(optimizer, {"layer": kernel}, {"layer": kernel})
    values = np.linalg.svd(np.asarray(update["layer"]).reshape(-1, shape[-1]), compute_uv=False) / 0.5
    assert values.min() > 0.6 and values.max() < 1.3
    assert float(jnp.vdot(update["layer"], kernel)) < 0


def test_muon_fixes_norms_of_kernels_and_leaves_the_last_layer_and_vectors_to_nesterov():
    params = {
        "conv": {"kernel": 3 * jax.random.normal(jax.random.key(0), (3, 3, 2, 9)), "bias": jnp.ones(9)},
        OUTPUT: {"kernel": jax.random.normal(jax.random.key(1), (9, 4))},
    }
    optimizer = muon.muon(
        steps=10,
        lr=1e-6,
        schedule=constant,
        fixed_norm=True,
        other_lr=0.1,
        output_lr=0.2,
        weight_decay=0.02,
        other_decay=0.03,
        other_momentum=0.5,
    )
    ones = jax.tree.map(jnp.ones_like, params)
    update = first_update(optimizer, ones, params)
    after = optax.apply_updates(params, update)
    assert float(jnp.linalg.norm(after["conv"]["kernel"].reshape(-1))) == pytest.approx(3.0, rel=1e-4)
    # A first step looks ahead along a velocity of one gradient, and decays by a share that does not depend on the rate.
    np.testing.assert_allclose(update["conv"]["bias"], -1.5 * (0.1 + 0.03), rtol=1e-5)
    kernel = params[OUTPUT]["kernel"]
    np.testing.assert_allclose(update[OUTPUT]["kernel"], -1.5 * (0.2 + 0.02 * kernel), rtol=1e-5)
    assert muon.LAST_LAYER == OUTPUT


def test_views_of_a_symmetric_network_are_one_and_others_are_averaged():
    images = jax.random.normal(jax.random.key(0), (3, 6, 5, 2))
    symmetric = functools.partial(jnp.mean, axis=(1, 2))
    np.testing.assert_array_equal(over_views(symmetric, "one")(images), symmetric(images))
    np.testing.assert_allclose(over_views(symmetric, "mirrored")(images), symmetric(images), atol=1e-6)
    constant_images = jnp.ones((1, 6, 5, 2))
    np.testing.assert_allclose(over_views(symmetric, "mirrored_and_shifted")(constant_images), symmetric(constant_images))

    def corner(x: jax.Array) -> jax.Array:
        return x[:, 0, 0]

    left, right = images[:, 0, 0], images[:, 0, -1]
    np.testing.assert_allclose(over_views(corner, "mirrored")(images), (left + right) / 2, atol=1e-6)
    # The two shifts show the pixel at (1, 1), reflected over the corner and moved into it.
    inner = (images[:, 1, 1] + images[:, 1, -2]) / 2
    np.testing.assert_allclose(over_views(corner, "mirrored_and_shifted")(images), (left + right) / 4 + inner / 2, atol=1e-6)


@pytest.fixture(scope="module")
def run():
    """(experiment, state at the start, after 3 steps and at the end)."""
    made = knobs.resolve(experiment, {**TINY, **DURATION}).call()
    end, _, curve, saved = toys.run(made, intervals=Intervals(log=1, evaluate=100, save=3))
    return made, saved[3][0], end, curve


def test_the_first_kernel_whitens_and_stays_and_its_bias_rests_after_its_time(run):
    made, middle, end, curve = run
    images = made.data.prepare(made.data.resident["train"], {"index": jnp.arange(100)}, None)["image"]
    np.testing.assert_allclose(
        end.params[FROZEN]["whitening"]["kernel"], patch_whitening(np.asarray(images), side=2), rtol=1e-5
    )
    np.testing.assert_array_equal(end.params[FROZEN]["stage1_norm1"]["scale"], 1.0)
    bias = [state.params[CLASSIFIER]["whitening"]["bias"] for state in (middle, end)]
    assert np.abs(bias[0]).max() > 0
    np.testing.assert_allclose(*bias, atol=1e-7)  # the schedule's last value is 0 up to rounding
    moved = [state.params[CLASSIFIER]["stage1_conv2"]["kernel"] for state in (middle, end)]
    assert np.abs(moved[0] - moved[1]).max() > 1e-3
    assert all(np.isfinite(value) for numbers in curve.values() for value in numbers.values())


@pytest.mark.parametrize("resident_mib", [0, 10])
def test_every_image_is_seen_both_ways_in_two_epochs(resident_mib: int):
    values = {**TINY, **DURATION, "augment": "alternating_flip", "resident_mib": resident_mib}
    data = knobs.resolve(experiment, values).call().data
    seen: dict[int, list[np.ndarray]] = {}
    feeds = data.train(0, 0)
    for _ in range(2 * data.sizes["train"] // data.batch_size):
        feed = next(feeds)
        batch = data.prepare(data.resident["train"], jax.tree.map(jnp.asarray, feed), jax.random.key(1))
        for index, image in zip(feed["index"].tolist(), np.asarray(batch["image"]), strict=True):
            seen.setdefault(index, []).append(image)
    assert len(seen) == data.sizes["train"]
    for first, second in seen.values():
        np.testing.assert_array_equal(first, second[:, ::-1])


@pytest.mark.slow
@pytest.mark.parametrize("below", [None, "optimizer", "data.augment", "model"])
def test_every_knob_does_something(below: str | None):
    base = {**TINY, **DURATION, "image_size": 9, "image_fit": "pad", "batch_size": 30}
    others = {"model.widths": "6", "edge": "zeros", "frozen": "stage1_conv1", "whitening_bias": "2 steps"}
    # whitening_images sets first weights alone: the test of the first kernel has it. Here nothing is held out.
    but = ("whitening_images", "data.split_seed")
    require_every_knob_does_something(experiment, base, below=below, others=others, but=but)
