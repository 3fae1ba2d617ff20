"""Claims about VGG and AlexNet: small filters stacked, dense layers as convolutions, and where the cost sits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.models.alexnet import alexnet_two_tower
from cnnlab.models.convolutionalize import convolutionalize
from cnnlab.models.vgg import vgg11_a, vgg16_d, vgg16_d_bn
from cnnlab.models.zfnet import ZFNet
from experiments.claims.c16_receptive_field_of_three import Stack, receptive_field
from experiments.claims.c19_dense_evaluation import DenseLayers, Unpadded, twins, values
from experiments.claims.c20_where_parameters_sit import shares

KEY = jax.random.key(0)


@pytest.mark.parametrize(("kernels", "side"), [((3,), 3), ((3, 3), 5), ((3, 3, 3), 7), ((7,), 7)])
def test_stacked_small_filters_see_as_much_as_one_large_filter(kernels, side):
    assert receptive_field(Stack(kernels, 4), seed=0, side=15) == ((side, side), True)


@pytest.mark.parametrize("channels", [4, 16])
def test_three_3x3_filters_hold_27_and_one_7x7_filter_49_numbers_for_each_pair_of_channels(channels):
    counts = {}
    for kernels in ((3, 3, 3), (7,)):
        image = jnp.ones((1, 15, 15, channels))
        shapes = jax.eval_shape(functools.partial(Stack(kernels, channels).init, train=False), KEY, image)
        counts[kernels] = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert counts == {(3, 3, 3): 27 * channels**2, (7,): 49 * channels**2}  # 81 % more (section 2.3)


HEADS = [
    pytest.param(alexnet_two_tower, 227, 6, id="alexnet_two_tower", marks=pytest.mark.slow),
    pytest.param(vgg11_a, 224, 7, id="vgg11_a", marks=pytest.mark.slow),
    pytest.param(ZFNet, 224, 6, id="zfnet", marks=pytest.mark.slow),
    pytest.param(vgg16_d_bn, 224, 7, id="vgg16_d_bn", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("model", "size", "grid"), HEADS)
def test_dense_head_is_a_convolution_with_a_kernel_as_big_as_its_input(model, size, grid):
    dense, variables, sliding, reshaped = twins(model, size, grid)
    images = np.random.default_rng(0).normal(size=(2, size, size, 3))
    needed = jax.eval_shape(functools.partial(sliding.init, train=False), KEY, jax.ShapeDtypeStruct(images.shape, jnp.float32))
    assert jax.tree.map(jnp.shape, reshaped) == jax.tree.map(jnp.shape, needed)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        (expected, hidden), (found, seen) = (values(*pair, images, dtype) for pair in ((dense, variables), (sliding, reshaped)))
        assert seen["class_map"].shape == (2, 1, 1, 10)
        for ours, theirs in ((found, expected), (seen["features"], hidden["features"])):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


def test_class_map_of_a_larger_image_is_the_dense_head_on_every_window_of_its_features():
    _, variables, sliding, reshaped = twins(vgg11_a, 224, 7)
    logits, seen = values(sliding, reshaped, np.random.default_rng(0).normal(size=(1, 288, 256, 3)))
    assert seen["stage5"].shape[1:3] == (9, 8) and seen["class_map"].shape == (1, 3, 2, 10)
    head = {"params": {name: variables["params"][name] for name in ("fc6", "fc7", "output")}}
    for row, column in itertools.product(range(3), range(2)):
        window = seen["stage5"][:, row : row + 7, column : column + 7]
        expected = DenseLayers(10, hidden=(256, 256), grid=7).apply(head, window)
        np.testing.assert_allclose(seen["class_map"][:, row, column], expected, atol=1e-5 * float(jnp.abs(expected).max()))
    np.testing.assert_allclose(logits, seen["class_map"].mean((1, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_without_padding_the_class_map_is_the_classifier_run_on_every_crop():
    images = jax.random.normal(KEY, (1, 30, 26, 3))
    variables = Unpadded("dense").init(KEY, images[:, :22, :22])
    reshaped = convolutionalize({"params": variables["params"]["classifier"]}, grid=4)["params"]
    class_map = Unpadded("convolution").apply({"params": {**variables["params"], "classifier": reshaped}}, images)
    assert class_map.shape == (1, 3, 2, 5)
    for row, column in itertools.product(range(3), range(2)):
        crop = images[:, 4 * row : 4 * row + 22, 4 * column : 4 * column + 22]
        np.testing.assert_allclose(class_map[:, row, column], Unpadded("dense").apply(variables, crop), atol=1e-5)


@pytest.mark.parametrize("offset", [(0, 0), (1, 1), (2, 1), (0, 2)])
def test_with_zero_padding_a_crop_agrees_only_where_the_cut_is_out_of_sight(offset):
    """A unit of VGG-11's stage5 sees 150 pixels: in a crop of 224 rows 2 to 4 of 7 see nothing beyond the crop.

    The others see zeros where the larger image goes on, unless the crop ends where the image does. So the class map equals
    the classifier on the crops only as far as padding goes unseen: the crops of a padded network are another computation.
    """
    dense, variables, sliding, reshaped = twins(vgg11_a, 224, 7)
    images = np.random.default_rng(0).normal(size=(1, 288, 288, 3))
    _, seen = values(sliding, reshaped, images)
    row, column = offset
    crop = images[:, 32 * row : 32 * row + 224, 32 * column : 32 * column + 224]
    logits, alone = values(dense, variables, crop)
    together = seen["stage5"][:, row : row + 7, column : column + 7]
    difference = np.abs(together - alone["stage5"]).max((0, 3)) / np.abs(together).max()
    unseen = [[2 <= p <= 4 or (start == 0 and p < 2) or (start == 2 and p > 4) for p in range(7)] for start in offset]
    np.testing.assert_array_equal(difference < 1e-5, np.outer(*unseen))
    assert np.abs(seen["class_map"][0, row, column] - logits[0]).max() > 1e-3 * np.abs(logits).max()


@pytest.mark.parametrize(
    ("model", "size", "of_params", "of_macs"),
    [(alexnet_two_tower, 227, 0.6193, 0.9191), (vgg16_d, 224, 0.7427, 0.9920)],
    ids=["alexnet_two_tower", "vgg16_d"],
)
def test_most_parameters_sit_in_the_first_dense_layer_and_most_compute_in_the_convolutions(model, size, of_params, of_macs):
    params, macs, _ = shares(model(classes=1000), size)
    assert max(params, key=params.get) == "fc6"
    np.testing.assert_allclose(params["fc6"], of_params, atol=5e-5)
    np.testing.assert_allclose(sum(share for name, share in macs.items() if name.startswith("conv")), of_macs, atol=5e-5)


def test_compute_does_not_sit_in_the_very_first_convolutions_but_activations_do():
    """The claim that the first convolutions compute most is refuted: they have the activations, hence the memory."""
    _, macs, _ = shares(alexnet_two_tower(classes=1000), 227)
    assert max(macs, key=macs.get) == "conv2"
    np.testing.assert_allclose([macs["conv1"], macs["conv2"]], [0.1455, 0.3091], atol=5e-5)
    assert macs["conv1"] + macs["conv2"] < 0.5
    _, macs, outputs = shares(vgg16_d(classes=1000), 224)
    most = {name for name, share in macs.items() if share == max(macs.values())}
    assert most == {"conv1_2", "conv2_2", "conv3_2", "conv3_3", "conv4_2", "conv4_3"}
    np.testing.assert_allclose([macs["conv1_1"], macs["conv1_2"]], [0.0056, 0.1196], atol=5e-5)
    by_stage = {stage: sum(share for name, share in macs.items() if name.startswith(f"conv{stage}")) for stage in range(1, 6)}
    np.testing.assert_allclose(list(by_stage.values()), [0.1252, 0.1793, 0.2989, 0.2989, 0.0897], atol=1e-4)
    first = sum(share for name, share in outputs.items() if name.startswith(("conv1", "conv2")))
    np.testing.assert_allclose(first, 0.7104, atol=1e-3)
