"""Attributions against captum and pytorch-grad-cam on an imported network, in f64, with their conventions fixed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.explain import activation_maps, attribution, occlusion
from cnnlab.explain.network import make_network, scores
from cnnlab.interop import convert
from cnnlab.models.squeezenet import squeezenet1_1
from cnnlab.ops.trees import unflatten
from cnnlab.tasks.classify import classify
from tests.parity import fixtures
from tests.parity.conventions import SIDE, STEPS, STRIDE, WINDOW

pytestmark = [pytest.mark.parity, pytest.mark.slow]

TOLERANCE = {"integrated_gradients": 1e-7, "occlusion": 1e-7}
"""Largest difference as a share of the map's maximum, where it is not 1e-12: captum keeps the steps and the count in f32."""


@functools.cache
def fixture():
    path = fixtures.explain_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures explain` makes it (torch in an environment of its own)")
    return dict(np.load(path))


@pytest.fixture(scope="module")
def opened():
    """(network, images, target) of the fixture, in f64."""
    given, model = fixture(), squeezenet1_1(classes=1000)
    state = {name.partition("/")[2]: value for name, value in given.items() if name.startswith("state/")}
    leaves, _ = convert.convert(state, model, convert.shapes_of(model, (SIDE, SIDE, 3)))
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), unflatten(leaves)["params"])
        network = make_network(classify(model).predict, {"classifier": params}, {}, (SIDE, SIDE, 3))
        yield network, jnp.asarray(given["input"].transpose(0, 2, 3, 1)), jnp.asarray(given["target"], jnp.int32)


def same(found, name):
    """The attribution [B, H, W, C] or map [B, h, w] equals that of the fixture, [B, C, H, W]."""
    expected = fixture()[name].transpose(0, 2, 3, 1)
    found = np.asarray(found)
    found = found if found.ndim == 4 else found[..., None]
    tolerance = TOLERANCE.get(name, 1e-12)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=0, atol=tolerance * np.abs(expected).max())


def test_logits_and_gradients_equal_captum(opened):
    network, images, target = opened
    np.testing.assert_allclose(scores(network, images), fixture()["logits"], rtol=1e-9)
    for name, rule in (("saliency", "plain"), ("guided_backpropagation", "guided"), ("deconvnet", "deconvnet")):
        same(attribution.gradient(network, images, target, rule=rule), name)
    same(attribution.integrated_gradient(network, images, target, attribution.gauss_legendre(STEPS)), "integrated_gradients")


def test_occlusion_equals_captum(opened):
    network, images, target = opened
    # captum returns the same number for every channel of a covered pixel.
    maps = occlusion.occlusion(network, images, target, window=WINDOW, stride=STRIDE)
    same(jnp.repeat(maps[..., None], 3, axis=-1), "occlusion")


@pytest.mark.parametrize(
    ("name", "weights"), [("grad_cam", activation_maps.mean_gradients), ("grad_cam_plus_plus", activation_maps.second_order)]
)
def test_class_activation_maps_equal_captum_and_grad_cam(opened, name, weights):
    network, images, target = opened
    candidates = [layer for layer in network.layers if layer.is_spatial and layer.shape[2] == 512]
    same(activation_maps.weighted_channels(network, images, target, layer=candidates[-1], weights=weights), name)
