"""Pairs of networks: published numbers of parameters, sizes, spectral norms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.errors import UsageError
from cnnlab.models import GANS
from cnnlab.models.gan import SpectralConv, dcgan, mlp, stages
from tests import jitted


def started(pair, shape: tuple[int, int, int], latent: int = 100) -> tuple[dict, dict]:
    """Shapes of the variables of (generator, discriminator)."""
    generator, discriminator = pair
    key = jax.eval_shape(lambda: jax.random.key(0))
    codes, images = (jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, latent), (2, *shape)))
    made, of_generator = jax.eval_shape(lambda k, c: generator.init_with_output(k, c, train=False), key, codes)
    scores, of_discriminator = jax.eval_shape(lambda k, x: discriminator.init_with_output(k, x, train=False), key, images)
    assert made.shape == (2, *shape) and scores.shape == (2,)
    return of_generator, of_discriminator


def count(variables: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_dcgan_has_the_parameters_of_pytorchs_examples():
    generator, discriminator = started(dcgan((64, 64, 3), is_penalised=False), (64, 64, 3))
    assert (count(generator), count(discriminator)) == (3_576_704, 2_765_568)
    assert set(generator["params"]) == {"up1", "up2", "up3", "up4", "output", "norm1", "norm2", "norm3", "norm4"}
    assert set(discriminator["params"]) == {"down1", "down2", "down3", "down4", "output", "norm2", "norm3", "norm4"}


def test_dcgan_of_the_paper_begins_with_1024_channels():
    generator, _ = started(dcgan((64, 64, 3), is_penalised=False, width=128), (64, 64, 3))
    assert generator["params"]["up1"]["kernel"].shape == (4, 4, 100, 1024)


def test_the_fully_connected_pair_has_goodfellows_sizes():
    generator, discriminator = started(mlp((28, 28, 1), is_penalised=False), (28, 28, 1))
    assert count(generator) == 101 * 1200 + 1201 * 1200 + 1201 * 784
    assert count(discriminator) == 785 * 1200 + 241 * 1200 + 241


@pytest.mark.parametrize(("side", "base", "doublings"), [(8, 4, 1), (16, 4, 2), (28, 7, 2), (32, 4, 3), (96, 6, 4), (40, 5, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_dcgan_is_as_deep_as_the_image_is_large(side: int, base: int, doublings: int, channels: int):
    assert stages((side, side, channels)) == (base, doublings)
    generator, discriminator = started(dcgan((side, side, channels), is_penalised=False, width=4), (side, side, channels))
    assert sum(name.startswith("up") for name in generator["params"]) == doublings
    assert sum(name.startswith("down") for name in discriminator["params"]) == doublings


@pytest.mark.parametrize("shape", [(30, 30, 1), (28, 32, 1), (1, 2, 1), (4, 4, 1), (9, 9, 3)])
def test_dcgan_refuses_other_sizes(shape: tuple[int, int, int]):
    with pytest.raises(UsageError, match="whose side is 4, 5, 6 or 7 doubled"):
        dcgan(shape, is_penalised=False)


def test_a_penalised_discriminator_has_no_norm_over_the_batch():
    _, discriminator = started(dcgan((16, 16, 1), is_penalised=True), (16, 16, 1))
    assert "batch_stats" not in discriminator and "norm2" in discriminator["params"]
    with pytest.raises(UsageError, match="a norm over the batch mixes them"):
        dcgan((16, 16, 1), is_penalised=True, norm="batch")
    assert mlp((8, 8, 1), is_penalised=True)[1].dropout == 0.0 and mlp((8, 8, 1), is_penalised=False)[1].dropout == 0.5


def test_a_maxout_unit_is_the_largest_of_its_pieces():
    _, discriminator = mlp((1, 2, 1), is_penalised=False, discriminator_widths=(1,), pieces=2, dropout=0.0)
    params = {
        "dense1": {"kernel": jnp.array([[1.0, -1.0], [0.0, 0.0]]), "bias": jnp.zeros(2)},
        "output": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)},
    }
    images = jnp.array([-3.0, 9.0, 2.0, 9.0]).reshape(2, 1, 2, 1)
    np.testing.assert_allclose(jitted.apply(discriminator, {"params": params}, images, train=False), [3.0, 2.0])


def test_spectral_norm_divides_by_the_largest_singular_value_of_numpy():
    layer = SpectralConv(6, 3, 1, 1, initializer=jax.nn.initializers.normal(0.5))
    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
    variables = jitted.init(layer, jax.random.key(0), x, train=False)
    kernel = np.asarray(variables["params"]["kernel"])
    largest = np.linalg.svd(kernel.reshape(-1, 6), compute_uv=False)[0]
    plain = jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    before = variables["spectral"]["left"]
    for _ in range(60):
        out, updated = jitted.apply(layer, variables, x, train=True, mutable=["spectral"])
        variables = {**variables, **updated}
    np.testing.assert_allclose(out, plain / largest, rtol=1e-4, atol=1e-5)
    assert float(jnp.linalg.norm(variables["spectral"]["left"])) == pytest.approx(1.0, abs=1e-5)
    assert not np.allclose(before, variables["spectral"]["left"])
    np.testing.assert_allclose(jitted.apply(layer, variables, x, train=False), out, rtol=1e-4, atol=1e-5)


def test_one_step_of_power_iteration_is_miyatos():
    layer = SpectralConv(3, 1, 1, 0, initializer=jax.nn.initializers.normal(1.0))
    x = jnp.ones((1, 1, 1, 5))
    variables = jitted.init(layer, jax.random.key(2), x, train=False)
    matrix, left = np.asarray(variables["params"]["kernel"]).reshape(5, 3), np.asarray(variables["spectral"]["left"])
    right = matrix @ left / np.linalg.norm(matrix @ left)
    expected = matrix.T @ right / np.linalg.norm(matrix.T @ right)
    out, updated = jitted.apply(layer, variables, x, train=True, mutable=["spectral"])
    np.testing.assert_allclose(updated["spectral"]["left"], expected, rtol=1e-5)
    np.testing.assert_allclose(out[0, 0, 0], matrix.sum(axis=0) / (right @ matrix @ expected), rtol=1e-4)


def test_a_spectral_dcgan_has_no_other_norm_and_a_vector_for_each_kernel():
    _, discriminator = started(dcgan((16, 16, 1), is_penalised=False, spectral=True), (16, 16, 1))
    assert set(discriminator["params"]) == set(discriminator["spectral"]) == {"down1", "down2", "output"}


def test_pairs_are_what_the_task_expects():
    for pair in GANS.values():
        started(pair((16, 16, 3), is_penalised=False), (16, 16, 3), latent=7)
