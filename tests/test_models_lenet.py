"""LeNet-5 of 1998 against its paper: connections, parameters layer by layer, sub-sampling, output codes and options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import inspect
from cnnlab.errors import UsageError
from cnnlab.models.lenet import DIGIT_CODES, TABLE_I, LeNet5, LeNet5Caffe, LeNet51998, RadialBasis, SparseConv, SubSampling
from cnnlab.ops import init
from tests import jitted

KEY = jax.random.key(0)


def test_table_i_has_its_sixty_connections():
    table = np.zeros((6, 16), int)
    for output, inputs in enumerate(TABLE_I):
        assert len(set(inputs)) == len(inputs)
        table[list(inputs), output] = 1
    np.testing.assert_array_equal(table.sum(0), [3] * 6 + [4] * 9 + [6])
    np.testing.assert_array_equal(table.sum(1), [10] * 6)
    np.testing.assert_array_equal(table[0], [1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1])  # first row of the table


def test_lenet5_1998_layers_have_the_papers_parameters():
    params = {row.name: row.params for row in inspect.layers(LeNet51998(classes=10), (32, 32, 1))}
    assert params == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164, "output": 0}


def test_lenet5_1998_options_change_what_they_name():
    def total(**knobs):
        return inspect.as_json(inspect.layers(LeNet51998(classes=10, **knobs), (28, 28, 1)))["total"]["params"]

    assert total(sub_sampling="average") == total(sub_sampling="max") == 60_000 - 12 - 32
    assert total(connections="full") == 60_000 + 900
    assert total(output="softmax") == 60_000 + 850
    assert total(output="softmax", connections="full", sub_sampling="max") == 61_706  # the modern form


def test_sparse_convolution_is_a_dense_one_with_missing_kernels():
    x = jax.random.normal(KEY, (2, 9, 9, 6))
    module = SparseConv(TABLE_I, 5, init.lecun)
    y, variables = jitted.init_with_output(module, KEY, x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (60, 5, 5)
    expected, place = np.zeros(y.shape, np.float32), 0
    for output, inputs in enumerate(TABLE_I):
        for channel in inputs:
            window = np.lib.stride_tricks.sliding_window_view(np.asarray(x[..., channel]), (5, 5), axis=(1, 2))
            expected[..., output] += np.einsum("bhwij,ij->bhw", window, np.asarray(kernel[place]))
            place += 1
    np.testing.assert_allclose(y, expected + bias.reshape(1, 1, 1, -1), atol=1e-4)


def test_sparse_kernels_start_by_the_fan_in_of_their_own_map():
    kernel = jitted.init(SparseConv(TABLE_I, 5, init.lecun_1998), KEY, jnp.ones((1, 9, 9, 6)))["params"]["kernel"]
    few, many = np.abs(kernel[:18]).max(), np.abs(kernel[54:]).max()
    assert 0.9 * 2.4 / 75 < few <= 2.4 / 75 and 0.9 * 2.4 / 150 < many <= 2.4 / 150


def test_sub_sampling_sums_four_times_coefficient_plus_bias():
    x = jax.random.normal(KEY, (2, 4, 6, 3))
    coefficient, bias = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.0, 1.0, -1.0])
    y = jitted.apply(SubSampling(), {"params": {"coefficient": coefficient, "bias": bias}}, x)
    np.testing.assert_allclose(y[1, 1, 2], np.asarray(x[1, 2:4, 4:6].sum((0, 1)) * coefficient + bias), rtol=1e-4)
    start, _ = jitted.init_with_output(SubSampling(), KEY, x)
    np.testing.assert_allclose(start[0, 0, 0], x[0, :2, :2].mean((0, 1)), rtol=1e-4)


def test_digit_codes_are_ten_distinct_drawings_of_ink_and_paper():
    assert DIGIT_CODES.shape == (10, 84)
    assert set(np.unique(DIGIT_CODES)) == {-1.0, 1.0}
    apart = (DIGIT_CODES[:, None] != DIGIT_CODES[None]).sum(-1)[~np.eye(10, dtype=bool)]
    assert apart.min() >= 8


def test_radial_basis_is_nearest_at_its_own_code():
    logits = jitted.apply(RadialBasis(), {}, jnp.asarray(DIGIT_CODES))
    np.testing.assert_array_equal(np.diag(logits), np.zeros(10))
    np.testing.assert_array_equal(jnp.argmax(logits, axis=1), np.arange(10))
    np.testing.assert_allclose(logits, -((DIGIT_CODES[:, None] - DIGIT_CODES[None]) ** 2).sum(-1))


@pytest.mark.parametrize("model", [LeNet51998, LeNet5])
def test_28_pixels_are_framed_by_their_border(model):
    images = jax.random.normal(KEY, (2, 28, 28, 1))
    variables = jitted.init(model(classes=10), KEY, images, train=False)
    framed = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    small, large = (
        jitted.apply(model(classes=10), variables, given, train=False)[0] for given in (images, jnp.asarray(framed))
    )
    np.testing.assert_array_equal(small, large)


@pytest.mark.parametrize(
    ("model", "size", "message"),
    [
        (LeNet51998, 8, r"image of 8x8 is too small: layer c5 .*\nThe smallest image for this network is 28x28"),
        (LeNet51998, 64, "takes images of 28x28 or 32x32, not 64x64"),
        (LeNet5, 8, r"image of 8x8 is too small: layer conv2 .* needs 6x6 and gets 2x2.\nThe smallest .* is 16x16"),
        (LeNet5Caffe, 15, r"image of 15x15 is too small: layer conv2 .*\n.*16x16"),
    ],
)
def test_a_size_that_does_not_fit_is_reported_with_the_smallest_that_does(model, size, message):
    with pytest.raises(UsageError, match=message):
        inspect.layers(model(classes=10), (size, size, 1))


@pytest.mark.parametrize("model", [LeNet5, LeNet5Caffe])
def test_16_pixels_are_enough(model):
    assert inspect.layers(model(classes=10), (16, 16, 3))[-1].output == (10,)


def test_rbf_output_knows_ten_classes_only():
    with pytest.raises(UsageError, match=r"ten digits, and there are 26 classes.\nTake --model.output=softmax"):
        inspect.layers(LeNet51998(classes=26), (32, 32, 1))
    inspect.layers(LeNet51998(classes=26, output="softmax"), (32, 32, 1))
