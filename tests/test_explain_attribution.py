"""Attributions: exact identities in f64, slow loops as an independent implementation, and networks of every kind."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import SHAPE, Small, examples, network

from cnnlab.errors import UsageError
from cnnlab.explain import activation_maps, attribution, occlusion
from cnnlab.explain.attributions import chosen_target
from cnnlab.explain.methods import METHODS, fitted
from cnnlab.explain.network import scores, values_of
from cnnlab.explain.render import map_pixels, scale_of
from cnnlab.models.layers import Conv, MaxPool
from cnnlab.ops.activations import leaky_relu, relu6


@pytest.fixture
def f64():
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


def test_cam_is_grad_cam_times_the_number_of_positions(f64):
    net, (images, target) = network(Small()), examples()
    layer = activation_maps.pooled_layer(net, images)
    assert layer is not None and layer.name == "last" and layer == net.last_spatial()
    weigh = {"layer": layer, "weights": activation_maps.mean_gradients}
    maps = activation_maps.to_image(activation_maps.weighted_channels(net, images, target, **weigh), SHAPE)
    np.testing.assert_allclose(activation_maps.cam(net, images, target, layer=layer), 9 * maps, rtol=1e-12)


def test_integrated_gradients_are_complete(f64):
    (images, target), errors = examples(), []
    for activation, steps in ((jnp.tanh, 50), (jax.nn.relu, 50), (jax.nn.relu, 400)):
        net = network(Small(activation))
        rule = attribution.gauss_legendre(steps)
        total = jnp.sum(attribution.integrated_gradient(net, images, target, rule), axis=(1, 2, 3))
        change = attribution.target_scores(scores(net, images) - scores(net, 0 * images), target)
        errors.append(float(jnp.max(jnp.abs(total - change)) / jnp.max(jnp.abs(change))))
    assert errors[0] < 1e-9 and errors[1] < 0.02 and errors[2] < 0.002, errors


def test_integrated_gradients_take_more_points_until_they_are_complete(f64, monkeypatch):
    net, (images, target) = network(Small()), examples()
    change = attribution.target_scores(scores(net, images) - scores(net, 0 * images), target)
    for points, taken in (((1, 40, 80), 40), ((1, 1), 1)):  # within 5 % at 40 points; where none suffices, the last
        monkeypatch.setattr(attribution, "POINTS", points)
        found = attribution.integrated_gradients(net, images, target)
        rule = attribution.denser_at_baseline(taken)
        expected = jnp.sum(attribution.integrated_gradient(net, images, target, rule), axis=-1)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        error = jnp.abs(jnp.sum(found, axis=(1, 2)) - change) / jnp.maximum(jnp.abs(change), 1.0)
        assert bool(jnp.max(error) < 0.05) == (taken > 1)
    nodes, weights = attribution.denser_at_baseline(1000)
    assert np.sum(weights) == pytest.approx(1) and np.sum(weights * nodes**2) == pytest.approx(1 / 3, rel=1e-5)


def test_gradients_equal_finite_differences(f64):
    net, (images, target) = network(Small(jnp.tanh)), examples()
    found = np.asarray(attribution.gradient(net, images, target))
    direction = np.random.default_rng(1).normal(size=images.shape)
    step = 1e-5
    ahead, behind = (attribution.target_scores(scores(net, images + sign * step * direction), target) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(np.sum(found * direction, axis=(1, 2, 3)), expected, rtol=1e-8)
    np.testing.assert_array_equal(attribution.saliency(net, images, target), np.abs(found).max(-1))
    # Noise of 0 leaves the gradient.
    smooth = attribution.smooth_gradient(net, images, target, samples=2, noise=0.0)
    np.testing.assert_allclose(smooth, found, rtol=1e-12)


def test_occlusion_equals_a_slow_loop(f64):
    net, (images, target) = network(Small()), examples()
    found = np.asarray(occlusion.occlusion(net, images, target, window=3, stride=2))
    before = np.asarray(attribution.target_scores(scores(net, images), target))
    total, count = np.zeros(images.shape[:3]), np.zeros(SHAPE[:2])
    # Of 7 rows the last window ends at the border; of 6 columns it hangs over it.
    for top in (0, 2, 4):
        for left in (0, 2, 4):
            covered = np.array(images)
            covered[:, top : top + 3, left : left + 3] = 0
            after = np.asarray(attribution.target_scores(scores(net, jnp.asarray(covered)), target))
            total[:, top : top + 3, left : left + 3] += (before - after)[:, None, None]
            count[top : top + 3, left : left + 3] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-12)


RECTIFIERS = {"relu": (jax.nn.relu, np.inf), "relu6": (relu6, 6.0)}


def by_hand(activation: Callable, ceiling: float, params, images, target):
    """{rule: gradient [B, H, W, C]} of the score by a backward pass that is written out layer by layer."""
    first, second = (lambda x, name=name: Conv(4, 3).apply({"params": params[name]}, x) for name in ("conv1", "conv2"))
    before1, pull1 = jax.vjp(first, images)
    pooled, pull_pool = jax.vjp(lambda x: MaxPool(2).apply({}, x), activation(before1))
    before2, pull2 = jax.vjp(second, pooled)
    slope = jnp.broadcast_to(params["output"]["kernel"][:, target].T[:, None, None] / 9, before2.shape)
    found = {}
    for rule in ("plain", "guided", "deconvnet"):

        def back(gradient, before, rule=rule):
            gradient = jnp.where(before < ceiling, gradient, 0.0)
            mask = {"plain": before > 0, "guided": (before > 0) & (gradient > 0), "deconvnet": gradient > 0}[rule]
            return jnp.where(mask, gradient, 0.0)

        (slope2,) = pull2(back(slope, before2))
        (slope1,) = pull_pool(slope2)
        (found[rule],) = pull1(back(slope1, before1))
    return found


@pytest.mark.parametrize("name", RECTIFIERS)
def test_relu_rules_equal_a_backward_pass_by_hand(f64, name):
    activation, ceiling = RECTIFIERS[name]
    net, (images, target) = network(Small(activation)), examples()
    assert net.relus == 2
    expected = jax.jit(functools.partial(by_hand, activation, ceiling))(net.params["classifier"], images, target)
    found = {rule: attribution.gradient(net, images, target, rule=rule) for rule in expected}
    for rule, wanted in expected.items():
        np.testing.assert_allclose(found[rule], wanted, atol=1e-12, err_msg=rule)
    assert np.abs(found["plain"] - found["guided"]).max() > 0.01


def test_grad_cam_plus_plus_equals_its_formula(f64):
    net, (images, target) = network(Small()), examples()
    layer = net.layer("middle")
    weigh = {"layer": layer, "weights": activation_maps.second_order}
    found = np.asarray(activation_maps.weighted_channels(net, images, target, **weigh))
    activations, slopes = map(np.asarray, jax.jit(activation_maps.layer_gradient, static_argnums=3)(net, images, target, layer))
    expected = np.zeros(found.shape)
    for image, (a, g) in enumerate(zip(activations, slopes, strict=True)):
        for channel in range(a.shape[-1]):
            weight = 0.0
            for slope in g[..., channel].ravel():
                if slope:
                    weight += max(slope, 0) * slope**2 / (2 * slope**2 + a[..., channel].sum() * slope**3 + 1e-6)
            expected[image] += weight * a[..., channel]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_layers_have_names_shapes_and_windows():
    net, (images, _) = network(Small(), dtype=jnp.float32), examples(jnp.float32)
    assert [layer.name for layer in net.layers] == ["conv1", "middle", "pool", "conv2", "last", "features", "output"]
    assert net.layer("last").field == (8, 8) and net.layer("last").stride == (2, 2) and net.layer("last").start == (-3, -3)
    values = values_of(net, images, names=("conv1", "middle"))
    np.testing.assert_allclose(values["middle"], np.maximum(values["conv1"], 0), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match=r"no layer 'lst'\. Did you mean last\? Layers: middle, last, features, output; and 3"):
        net.layer("lst")


@pytest.mark.slow
def test_every_method_works_on_grouped_convolutions_without_norm_and_with_a_dense_head():
    net, (images, target) = network(Small(pooled=False, groups=2), dtype=jnp.float32), examples(jnp.float32)
    for name in METHODS:
        maps = fitted(name, net, np.asarray(images), None)
        if name == "cam":
            assert isinstance(maps, str) and "does not end with a global average" in maps
            continue
        assert not isinstance(maps, str)
        found = np.asarray(maps(net, images, target))
        assert found.shape == images.shape[:3] and np.isfinite(found).all() and scale_of(found) > 0, name
        assert METHODS[name].is_signed or found.min() >= 0


def test_what_does_not_suit_a_network_is_said():
    images = np.asarray(examples(jnp.float32)[0])
    leaky = network(Small(functools.partial(leaky_relu, slope=0.1)), dtype=jnp.float32)
    assert network(Small(lambda x: jnp.maximum(x, 0)), dtype=jnp.float32).relus == 2
    assert leaky.relus == 0 and "no ReLU" in str(fitted("guided_backpropagation", leaky, images, None))
    assert scale_of(np.zeros((4, 4))) == 0
    assert map_pixels(np.array([[-1.0, 0.0, 1.0]]), is_signed=True)[0].min(-1).tolist()[1] > 240


def test_the_class_is_given_by_number_or_name():
    shares = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
    names = ("cat, tabby", "dog", "7")
    assert chosen_target(None, shares, names).tolist() == [1, 0]
    assert chosen_target("2", shares, names).tolist() == chosen_target("7", shares, names).tolist() == [2, 2]
    assert chosen_target("dog", shares, names).tolist() == [1, 1] and chosen_target("Tabby", shares, names).tolist() == [0, 0]
    for text, message in (("3", r"classes 0 … 2"), ("dgo", "Did you mean dog"), ("mouse", "no class of that name")):
        with pytest.raises(UsageError, match=message):
            chosen_target(text, shares, names)
