"""Reductions with unequal weights and gathered batches: value and gradient are those of one device, under every strategy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.engine.parallel import STRATEGIES, pick_devices
from cnnlab.ops import collectives

B = 16
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(B, 3)).astype(np.float32)
PARAMS = RNG.normal(size=(3, 4)).astype(np.float32)
WEIGHTS = np.where(np.arange(B)[:, None] + np.arange(4) < 7, RNG.uniform(0.5, 2.0, (B, 4)), 0.0).astype(np.float32)
"""The devices of the second half have no weight at all."""


def masked(params, images, weights):
    """A weighted mean of squares, as of losses by box."""
    return collectives.weighted_mean((images @ params) ** 2, weights)


def contrastive(params, images, weights):
    """Every local example against all examples of the global batch (InfoNCE): it depends on their order."""
    codes = images @ params
    scores = codes @ collectives.gather(codes * 2.0).T  # [B / devices, 4] x [4, B] -> [B / devices, B]
    own = jax.nn.one_hot(collectives.positions(len(codes)), scores.shape[1])
    return -jnp.mean(jnp.sum(own * jax.nn.log_softmax(scores), axis=-1))


def under(strategy: str, devices: int, loss, weights) -> tuple[float, np.ndarray]:
    """(loss, gradient) as the step computes them: both averaged over the devices."""

    def measure(params, model_state, resident, feed):
        value, gradient = jax.value_and_grad(loss)(params, feed["image"][0], feed["weight"][0])
        return {"sums": collectives.global_mean({"loss": value, "gradient": gradient}), "rows": {}}

    made = STRATEGIES[strategy](pick_devices(devices))
    feeds = made.shard_batch({"image": IMAGES[None], "weight": weights[None]})
    sums = made.compile_measure(measure)(*made.replicate((PARAMS, {}, {})), feeds)["sums"]
    return float(sums["loss"]), np.asarray(sums["gradient"])


@pytest.mark.parametrize("loss", [masked, contrastive])
@pytest.mark.parametrize(("strategy", "devices"), [("jit", 8), ("pmap", 8), ("pmap", 2), ("fsdp", 8)])
def test_a_loss_over_the_global_batch_and_its_gradient_do_not_depend_on_the_devices(loss, strategy: str, devices: int):
    value, gradient = under("jit", 1, loss, WEIGHTS)
    shared, other = under(strategy, devices, loss, WEIGHTS)
    assert shared == pytest.approx(value, rel=1e-6) and abs(gradient).max() > 0.1
    np.testing.assert_allclose(other, gradient, rtol=1e-5, atol=1e-6)


def test_a_weighted_mean_is_that_of_numpy_and_ignores_what_has_no_weight():
    values = np.where(WEIGHTS > 0, IMAGES @ PARAMS, np.nan)
    expected = np.average(np.where(WEIGHTS > 0, values, 0.0), weights=WEIGHTS)
    assert collectives.weighted_mean(jnp.asarray(values), jnp.asarray(WEIGHTS)) == pytest.approx(expected, rel=1e-6)
    assert collectives.weighted_mean(jnp.arange(4.0), jnp.arange(4) > 1) == 2.5
    with pytest.raises(ValueError, match=r"values \(2, 3\) and weights \(2,\) differ: broadcast"):
        collectives.weighted_mean(jnp.ones((2, 3)), jnp.ones(2))


@pytest.mark.parametrize(("strategy", "devices"), [("jit", 1), ("pmap", 8)])
def test_a_weighted_mean_without_any_weight_is_zero_and_so_is_its_gradient(strategy: str, devices: int):
    value, gradient = under(strategy, devices, masked, np.zeros_like(WEIGHTS))
    assert value == 0.0 and not gradient.any()
