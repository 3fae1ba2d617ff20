"""Shared blocks: noise and statistics that do not depend on the number of devices, and norms against their definitions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnlab.errors import UsageError
from cnnlab.models import norms
from cnnlab.models.layers import POOLS, Dropout, gaussian_noise, spatial_dropout
from cnnlab.models.norms import NORMS
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.ops.collectives import AXIS
from tests import jitted

random = np.random.default_rng(0)
x = jnp.asarray(random.normal(1, 2, (8, 4, 4, 6)), jnp.float32)
KEY = jax.random.key(3)


class Normed(nn.Module):
    norm: object
    train: bool = True

    @nn.compact
    def __call__(self, x):
        return self.norm(train=self.train, name="norm")(x)


def split(values, count):
    return values.reshape(count, -1, *values.shape[1:])


@pytest.mark.parametrize("count", [4, 8])
def test_dropout_is_the_same_on_one_device_and_on_several(count):
    def apply(x):
        return Dropout(0.4).apply({}, x, train=True, rngs={"dropout": KEY})

    whole = jax.jit(apply)(x)
    parts = jax.pmap(apply, axis_name=AXIS, devices=jax.devices()[:count])(split(x, count))
    np.testing.assert_array_equal(whole, parts.reshape(x.shape))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_dropout_drops_the_rate_and_keeps_the_mean(rate):
    ones = jnp.ones((200, 500))
    dropped = np.asarray(jitted.apply(Dropout(rate), {}, ones, train=True, rngs={"dropout": KEY}))
    np.testing.assert_allclose((dropped == 0).mean(), rate, atol=0.01)
    np.testing.assert_allclose(dropped.mean(), 1.0, atol=0.02)
    assert len(np.unique(dropped)) == (1 if rate == 0 else 2)


def test_dropout_rate_may_be_a_tracer():
    def apply(rate):
        return Dropout(rate).apply({}, x, train=True, rngs={"dropout": KEY})

    np.testing.assert_allclose(jax.jit(apply)(0.4), apply(0.4), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(apply)(0.0), x, rtol=1e-6)


def test_dropout_outside_training_is_the_identity_and_draws_nothing():
    np.testing.assert_array_equal(jitted.apply(Dropout(0.9), {}, x, train=False), x)


def test_dropout_keeps_bf16():
    assert jitted.apply(Dropout(0.5), {}, x.astype(jnp.bfloat16), train=True, rngs={"dropout": KEY}).dtype == jnp.bfloat16


class Noisy(nn.Module):
    noise: object
    strength: object

    @nn.compact
    def __call__(self, x, *, train):
        return self.noise(x, self.strength, train=train, name="noise")


def test_spatial_dropout_drops_whole_maps():
    noisy = Noisy(spatial_dropout, 0.3)
    dropped = np.asarray(jitted.apply(noisy, {}, jnp.ones((100, 3, 2, 40)), train=True, rngs={"dropout": KEY}))
    maps = dropped.reshape(100, 6, 40)
    np.testing.assert_array_equal(maps, np.broadcast_to(maps[:, :1], maps.shape))
    np.testing.assert_allclose((maps[:, 0] == 0).mean(), 0.3, atol=0.03)
    np.testing.assert_allclose(maps.max(), 1 / 0.7, rtol=1e-6)


def test_noise_on_activations_has_its_deviation():
    noisy = Noisy(gaussian_noise, 0.3)
    noise = np.asarray(jitted.apply(noisy, {}, jnp.ones((100, 50)), train=True, rngs={"dropout": KEY})) - 1
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, 0.3], atol=0.02)


@pytest.mark.parametrize("noise", [spatial_dropout, gaussian_noise])
def test_noise_of_activations_is_the_examples_own_and_of_training_alone(noise):
    def apply(x, strength):
        return Noisy(noise, strength).apply({}, x, train=True, rngs={"dropout": KEY})

    strength = jnp.float32(0.4)
    parts = jax.jit(jax.vmap(apply, axis_name=AXIS, in_axes=(0, None)))(split(x, 4), strength)  # as on four devices
    np.testing.assert_allclose(jax.jit(apply)(x, strength), parts.reshape(x.shape), atol=1e-6)
    np.testing.assert_array_equal(jitted.apply(Noisy(noise, 0.4), {}, x, train=False), x)
    np.testing.assert_array_equal(jitted.apply(Noisy(noise, 0.0), {}, x, train=True), x)  # draws nothing


@pytest.mark.parametrize(("name", "axes"), [("batch", (0, 1, 2)), ("layer", (1, 2, 3)), ("instance", (1, 2))])
def test_norm_has_mean_zero_and_variance_one_over_its_axes(name, axes):
    y, _ = jitted.init_with_output(Normed(NORMS[name]), KEY, x)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, atol=1e-3)


def test_group_norm_takes_as_many_groups_as_divide_the_channels():
    y, _ = jitted.init_with_output(Normed(NORMS["group"]), KEY, x)  # gcd(8, 6) = 2
    np.testing.assert_allclose(y.reshape(8, 4, 4, 2, 3).var((1, 2, 4)), 1, atol=1e-3)
    one, _ = jitted.init_with_output(Normed(functools.partial(NORMS["group"], groups=1)), KEY, x)
    np.testing.assert_allclose(one, jitted.init_with_output(Normed(NORMS["layer"]), KEY, x)[0], atol=1e-5)


def test_no_norm_is_the_identity_and_alone_leaves_the_bias_to_the_layer_before():
    y, variables = jitted.init_with_output(Normed(NORMS["none"]), KEY, x)
    assert not variables
    np.testing.assert_array_equal(y, x)
    assert [name for name, norm in NORMS.items() if norms.needs_bias(norm)] == ["none"]


@pytest.mark.parametrize("name", NORMS)
def test_norm_of_bf16_gives_bf16_with_f32_statistics(name):
    variables = jitted.init(Normed(NORMS[name]), KEY, x)
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables.get("params", {}))
    state = {"batch_stats": variables["batch_stats"]} if "batch_stats" in variables else {}
    y, state = jitted.apply(Normed(NORMS[name]), {"params": params, **state}, x.astype(jnp.bfloat16), mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == ({jnp.dtype("float32")} if name == "batch" else set())


@pytest.mark.parametrize("count", [4, 8])
def test_batch_norm_sees_the_whole_batch_on_any_number_of_devices(count):
    module = Normed(NORMS["batch"])
    variables = jitted.init(module, KEY, x)

    def apply(x):
        return module.apply(variables, x, mutable=["batch_stats"])

    whole, state = jax.jit(apply)(x)
    parts, states = jax.pmap(apply, axis_name=AXIS, devices=jax.devices()[:count])(split(x, count))
    np.testing.assert_allclose(whole, parts.reshape(x.shape), atol=1e-5)
    jax.tree.map(lambda one, many: [np.testing.assert_allclose(one, m, atol=1e-6) for m in many], state, states)


FAR = (1000.0 + random.normal(size=(64, 6, 6, 3))).astype(np.float32)
"""Units of a mean of 1000 and a standard deviation of 1."""


@pytest.mark.parametrize(("devices", "dtype"), [(1, jnp.float32), (4, jnp.float32), (1, jnp.bfloat16)])
def test_batch_norm_keeps_the_digits_of_a_variance_beside_a_large_mean(devices, dtype):
    given = jnp.asarray(FAR, dtype)  # bf16 rounds the units themselves, so the reference is what they are then
    wide = np.asarray(given, np.float64)
    module = norms.BatchNorm(momentum=0.0)
    variables = jitted.init(module, KEY, given, train=True)

    def apply(x):
        return module.apply(variables, x, train=True, mutable=["batch_stats"])

    if devices == 1:
        y, state = jax.jit(apply)(given)
    else:
        y, states = jax.pmap(apply, axis_name=AXIS, devices=jax.devices()[:devices])(split(given, devices))
        y, state = y.reshape(given.shape), jax.tree.map(lambda leaf: leaf[0], states)  # [D, B/D, …] -> [B, …]
    np.testing.assert_allclose(state["batch_stats"]["var"], wide.var((0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(state["batch_stats"]["mean"], wide.mean((0, 1, 2)), rtol=1e-6)
    expected = (wide - wide.mean((0, 1, 2))) / wide.std((0, 1, 2))
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=2e-3 if dtype == jnp.float32 else 0.02)


@pytest.mark.parametrize(("dtype", "deviation", "atol"), [(jnp.float32, 1.0, 2e-3), (jnp.bfloat16, 16.0, 0.02)])
@pytest.mark.parametrize("name", ["layer", "group", "instance"])
def test_other_norms_keep_the_digits_of_a_variance_beside_a_large_mean(name, dtype, deviation, atol):
    # bf16 has steps of 4 there: at a deviation of 1 all units of a channel might be equal.
    given = jnp.asarray(1000.0 + deviation * (FAR - 1000.0), dtype)
    variables = jax.tree.map(lambda leaf: leaf.astype(dtype), jitted.init(Normed(NORMS[name]), KEY, given))
    y = jitted.apply(Normed(NORMS[name]), variables, given)
    axes = (1, 2) if name == "instance" else (1, 2, 3)  # three channels are one group
    wide = np.asarray(given, np.float64)
    expected = (wide - wide.mean(axes, keepdims=True)) / wide.std(axes, keepdims=True)
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, atol=atol)


def test_batch_norm_outside_training_uses_the_running_statistics():
    variables = jitted.init(Normed(NORMS["batch"]), KEY, x)
    stats = {"norm": {"mean": jnp.full(6, 2.0), "var": jnp.full(6, 4.0)}}
    y = jitted.apply(Normed(NORMS["batch"], train=False), {**variables, "batch_stats": stats}, x)
    np.testing.assert_allclose(y, (x - 2) / np.sqrt(4 + 1e-5), atol=1e-5)


@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_is_flax_in_values_statistics_and_gradients(train):
    ours, theirs = norms.BatchNorm(0.9, 1e-5), nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5)
    start = jitted.init(ours, KEY, x, train=train)
    variables = jax.tree.map(lambda leaf: leaf + random.uniform(0, 1, leaf.shape).astype("f"), start)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, jitted.init(theirs, KEY, x))
    target = jnp.asarray(random.normal(size=x.shape), jnp.float32)

    def loss(apply, params, x):
        y, state = apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum((y - target) ** 2), (y, state)

    mine, those = (
        jax.jit(jax.value_and_grad(functools.partial(loss, apply), argnums=(0, 1), has_aux=True))(variables["params"], x)
        for apply in (functools.partial(ours.apply, train=train), theirs.apply)
    )
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), mine, those)


@pytest.mark.slow
def test_batch_norm_can_be_differentiated_twice_and_forwards():
    variables = jitted.init(norms.BatchNorm(), KEY, x, train=True)

    def loss(x):
        return jnp.sum(norms.BatchNorm().apply(variables, x, train=True, mutable=["batch_stats"])[0] ** 3)

    check_grads(loss, (x[:2, :2, :2],), order=2, modes=["fwd", "rev"], rtol=0.1, atol=0.1)


def test_instance_norm_of_what_has_no_space_is_refused():
    with pytest.raises(UsageError, match="instance norm averages over space and norm has none"):
        jitted.init(Normed(NORMS["instance"]), KEY, jnp.ones((2, 5)))


def test_pools_agree_with_numpy_and_leave_out_an_odd_border():
    odd = x[:, :3, :3]
    np.testing.assert_allclose(POOLS["average"](x)[0, 1, 1], x[0, 2:4, 2:4].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(POOLS["max"](odd), odd[:, :2, :2].max((1, 2), keepdims=True))
    np.testing.assert_array_equal(POOLS["stride"](odd), odd[:, :1, :1])
    assert POOLS["blur"](odd).shape == POOLS["stride"](odd).shape == (8, 1, 1, 6)
    wide = np.asarray(random.normal(size=(2, 6, 6, 3)), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(wide, (2, 2), axis=(1, 2)).max((-2, -1))  # [2, 5, 5, 3]
    weights = np.array([1, 2, 1]) / 4  # output 1 is centred on pixel 2
    np.testing.assert_allclose(
        POOLS["blur"](jnp.asarray(wide))[:, 1, 1], np.einsum("bijc,i,j->bc", windows[:, 1:4, 1:4], weights, weights), rtol=1e-5
    )


def test_prelu_learns_its_slope():
    class Activated(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ACTIVATIONS["prelu"](x, slope=0.1)

    y, variables = jitted.init_with_output(Activated(), KEY, x)
    np.testing.assert_allclose(y, jnp.where(x > 0, x, 0.1 * x), rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda v: Activated().apply(v, x).sum()))(variables)
    np.testing.assert_allclose(jax.tree.leaves(gradient)[0], jnp.minimum(x, 0).sum(), rtol=1e-5)
