"""The checks of maps, and the other parts of the page: patches, activations, embeddings."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained import CLASSES, SHAPE, Small, examples, network
from sklearn.decomposition import PCA

from cnnlab.explain import activations, attribution, checks, embedding, patches
from cnnlab.explain.examples import Examples, chosen
from cnnlab.explain.network import Layer, in_batches, make_network, scores, values_of
from cnnlab.explain.opening import Opened
from cnnlab.inputs import InputSpec


@pytest.fixture(scope="module")
def net():
    return network(Small(), dtype=jnp.float32)


def test_weights_are_permuted_from_the_output_on(net):
    assert checks.kernels_in_order(net) == [f"classifier/{name}/kernel" for name in ("conv1", "conv2", "output")]
    for share, names in ((0.0, ["output"]), (0.5, ["conv2", "output"]), (1.0, ["conv1", "conv2", "output"])):
        other = checks.randomized(net, share).params["classifier"]
        changed = []
        for name, own in net.params["classifier"].items():
            np.testing.assert_array_equal(own["bias"], other[name]["bias"])
            changed += [name] if not np.array_equal(own["kernel"], other[name]["kernel"]) else []
            np.testing.assert_array_equal(np.sort(own["kernel"].ravel()), np.sort(other[name]["kernel"].ravel()))
        assert sorted(changed) == names


def test_a_map_of_the_image_alone_survives_random_weights_and_a_gradient_does_not(net):
    images, target = examples(jnp.float32)
    of_image = checks.randomization(lambda network, images, target: jnp.abs(images).sum(-1), net, images, target)
    np.testing.assert_allclose(of_image, 1.0)
    *_, last = checks.randomization(attribution.saliency, net, images, target)
    assert last < 0.8
    assert math.isnan(checks.rank_correlation(np.zeros((1, 3, 3)), np.ones((1, 3, 3))))


def test_integrated_gradients_are_checked_against_the_change_of_the_score(net):
    images, target = examples(jnp.float32)
    pairs = checks.completeness(np.asarray(attribution.integrated_gradients(net, images, target)), net, images, target)
    assert len(pairs) == CLASSES and all(abs(change - total) < 0.05 * abs(change) + 0.02 for change, total in pairs), pairs


def linear(params, model_state, images):
    """Scores [B, 3] that are linear in the pixels."""
    return images.reshape(images.shape[0], -1) @ params["classifier"]["kernel"]


def test_the_true_order_of_pixels_has_better_curves_than_its_reverse():
    random = np.random.default_rng(0)
    kernel = jnp.asarray(random.normal(0, 0.3, (math.prod(SHAPE), CLASSES)), jnp.float32)
    net = make_network(linear, {"classifier": {"kernel": kernel}}, {}, SHAPE)
    images, target = (np.asarray(part) for part in examples(jnp.float32))
    maps = np.asarray(attribution.gradient_x_input(net, jnp.asarray(images), jnp.asarray(target)))
    good, bad = (checks.curve_of(sign * maps, net, images, target) for sign in (1, -1))
    assert good.areas[0] < bad.areas[0] - 0.1
    # Both orders begin and end with the same images, and deletion begins where insertion ends.
    assert good.deletion[[0, -1]] == pytest.approx(bad.deletion[[0, -1]], abs=1e-5)
    assert good.insertion[[0, -1]] == pytest.approx(bad.insertion[[0, -1]], abs=1e-5)
    assert good.deletion[0] == pytest.approx(good.insertion[-1], abs=1e-5) and good.deletion[-1] == pytest.approx(
        1 / 3, abs=1e-5
    )


def test_curves_are_of_the_probabilities_of_the_task(net):
    images, target = (np.asarray(part) for part in examples(jnp.float32))
    order = checks.random_order(images.shape[:3])
    found = checks.curve_of(order, net, images, target, lambda logits, images: {"probabilities": jax.nn.sigmoid(logits)})
    own = np.asarray(jax.nn.sigmoid(scores(net, jnp.asarray(images))))
    assert found.deletion[0] == pytest.approx(own[np.arange(len(target)), target].mean(), rel=1e-5)


def test_images_are_whitened_as_those_of_training():
    random = np.random.default_rng(2)
    matrix = random.normal(size=(12, 12)).astype(np.float32)
    inputs = InputSpec((2, 2, 3), "uint8", np.full((1, 1, 1, 3), 100.0), np.full((1, 1, 1, 3), 50.0), ("a",), whiten=matrix)
    nothing: Any = None
    opened = Opened("", nothing, inputs, nothing, nothing, ())
    images = random.integers(0, 255, (4, 2, 2, 3), np.uint8)
    expected = ((images.reshape(4, 12) - 100.0) / 50.0 @ matrix).reshape(images.shape)
    np.testing.assert_allclose(opened.normalized(images), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(opened.normalized(images.astype(np.float32) / 255), expected, rtol=1e-4, atol=1e-4)


def test_maps_point_inside_or_outside_of_a_pasted_image():
    images = np.random.default_rng(0).normal(size=(4, 8, 6, 2)).astype(np.float32)
    out, inside = checks.pasted(images, [0, 1, 2, 3])
    assert inside.sum(axis=(1, 2)).tolist() == [12] * 4 and inside[1, :4, 3:].all() and inside[2, 4:, :3].all()
    assert np.ptp(out[3][~inside[3]], axis=0).max() == 0 and np.ptp(out[3][inside[3]]) > 0
    assert checks.pointing(inside.astype(np.float32), inside) == (1.0, 1.0)
    assert checks.pointing(1.0 - inside, inside) == (0.0, 0.0)
    hits, energy = checks.pointing(np.zeros((4, 8, 6)), inside)
    assert hits == 0 and math.isnan(energy)


def test_a_unit_depends_on_its_patch_and_on_nothing_else(net):
    images = np.asarray(examples(jnp.float32)[0])
    layer = net.layer("middle")
    peaks = patches.peaks_of(net, images, layer)
    values = np.asarray(values_of(net, jnp.asarray(images), names=("middle",))["middle"])
    for image, unit in ((0, 0), (1, 2), (2, 3)):
        row, column = peaks.rows[image, unit], peaks.columns[image, unit]
        assert values[image, row, column, unit] == values[image, ..., unit].max()
        assert peaks.values[image, unit] == pytest.approx(values[image, row, column, unit], rel=1e-5)
        top, left, height, width = patches.window_of(layer, SHAPE, row, column)
        assert (height, width) == (3, 3)
        rows, columns = slice(max(top, 0), top + height), slice(max(left, 0), left + width)
        for is_outside in (True, False):
            changed = np.zeros_like(images[image]) if is_outside else images[image].copy()
            changed[rows, columns] = images[image][rows, columns] if is_outside else -images[image][rows, columns]
            found = np.asarray(values_of(net, jnp.asarray(changed[None]), names=("middle",))["middle"])[0, row, column, unit]
            assert (abs(found - peaks.values[image, unit]) < 1e-5) == is_outside


def test_patches_are_cut_with_grey_beyond_the_border_and_whole_where_the_window_is_unknown():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1) / 12
    patch = patches.cut(image, (-1, 2, 3, 3))
    np.testing.assert_array_equal(patch[1:, :2, 0], image[:2, 2:, 0])
    assert (patch[0] == patches.PAPER).all() and (patch[:, 2] == patches.PAPER).all()
    everything = Layer("a", (5,), True, (None, None), (math.inf, math.inf), (None, None))
    assert patches.window_of(everything, (3, 4, 1), 0, 0) == (0, 0, 3, 4)


def test_sheets_show_channels_and_units():
    layer = Layer("a", (4, 5, 70), True, (None, None), (None, None), (None, None))
    values = np.random.default_rng(0).normal(size=(4, 5, 70)).astype(np.float32)
    values[..., 3] = 1.0
    sheet, text = activations.sheet_of(layer, values)
    assert sheet.dtype == np.uint8 and "70 channels of 4x5, the first 64; 1 constant" in text
    sheet, text = activations.sheet_of(layer, np.array([0.0, 2.0, -1.0], np.float32))
    assert "3 units; 1 are 0; blue tiles are no units; black -1, white 2" in text and sheet.shape[:2] == (128, 128)
    assert len(set(sheet[-1, -1])) == 3, "the tile without a unit looks like a value"
    assert "blue" not in activations.sheet_of(layer, np.array([0.0, 2.0, -1.0, 1.0], np.float32))[1]


def test_embeddings_are_those_of_scikit_learn_and_neighbours_are_the_nearest(net):
    features = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32) * [5, 3, 1, 1, 1, 1]
    features = features.astype(np.float32)
    plane, shares = embedding.principal_components(features)
    expected = PCA(2).fit(features.astype(np.float64))
    np.testing.assert_allclose(shares, expected.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(plane), np.abs(expected.transform(features.astype(np.float64))), atol=1e-5)
    distances = np.linalg.norm(features[:, None] - features[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    found = embedding.neighbours_of(features, [0, 7], 4)
    np.testing.assert_array_equal(found, np.argsort(distances, axis=1)[[0, 7], :4])
    assert embedding.feature_layer(net, None) == net.layer("features")
    images = examples(jnp.float32)[0]
    np.testing.assert_allclose(
        embedding.features_of(net, np.asarray(images), net.layer("last")),
        embedding.features_of(net, np.asarray(images), net.layer("features")),
        rtol=1e-5,
        atol=1e-6,
    )
    page = embedding.thumbnail_map(plane, np.zeros((20, 8, 8, 1), np.float32), np.arange(20))
    assert page.shape == (900, 900, 3) and (page == 0).any()


def test_images_of_all_classes_are_shown_in_turn():
    labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
    pixels = np.zeros((6, 2, 2, 1), np.uint8)
    found = Examples(pixels, pixels.astype(np.float32), labels, tuple("abcdef"), "here")
    assert chosen(found, 4).names == ("a", "d", "f", "b") and len(chosen(found, 9)) == 6
    assert functools.reduce(max, chosen(found, 2).shown().ravel()) == 0.0


def test_images_are_taken_in_batches_of_one_size(net):
    images, target = (np.asarray(part) for part in examples(jnp.float32))
    sizes = []

    def function(network, images, target):
        sizes.append(len(images))
        return images.sum(axis=(1, 2, 3)) + target.astype(jnp.float32)

    found = in_batches(function, net, images, target, 2)
    np.testing.assert_allclose(found, images.sum(axis=(1, 2, 3)) + target, rtol=1e-5)
    assert sizes == [2, 2]
    np.testing.assert_array_equal(checks.predicted(net, images, 2), np.argmax(np.asarray(scores(net, images)), axis=1))
