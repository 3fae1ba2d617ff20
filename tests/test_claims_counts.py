"""What the measurements of claims count: executions in a traced program, multiply-accumulates, and what padding hides."""

import jax
import jax.numpy as jnp
import pytest

from cnnlab.ops.pixel_distributions import bernoulli, softmax
from experiments.claims import c28_pixelcnn_sampling as pixelcnn
from experiments.claims import c35_shared_convolutions as shared
from experiments.claims import c36_sliding_window as window


def test_the_products_of_a_loop_are_counted_as_often_as_it_runs():
    matrix = jnp.ones((2, 2))

    def twice_in_a_row(x):
        row = jax.lax.fori_loop(0, 5, lambda _, y: matrix @ (matrix @ y), x)
        return jax.jit(lambda y: matrix @ y)(row)

    traced = jax.make_jaxpr(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: twice_in_a_row(y), x))(matrix)
    assert pixelcnn.executions(traced.jaxpr, "dot_general") == 3 * (5 * 2 + 1)
    unknown = jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda y: y.sum() < 9, lambda y: y + 1, x))(matrix)
    with pytest.raises(AssertionError, match="no exact count"):
        pixelcnn.executions(unknown.jaxpr, "dot_general")


@pytest.mark.parametrize(
    ("way", "shape", "output"), [("naive", (4, 3, 1), bernoulli()), ("cached", (3, 4, 3), softmax(levels=4))]
)
def test_a_pixelcnn_is_evaluated_once_for_each_value(way, shape, output):
    assert pixelcnn.evaluations_per_value(way, shape, output) == 1.0


def test_lenet5_on_289_windows_multiplies_what_its_layers_say():
    assert window.macs() == window.expected_macs() == {"one pass": 22_531_080.0, "every window": 289 * 416_520.0}
    assert window.unseen_positions() == 16  # 4 x 4 of the 8 x 8 positions of a window


def test_shared_convolutions_multiply_what_their_layers_say_and_vgg16_would_save_more():
    assert shared.macs() == shared.macs_by_hand()
    assert shared.inside().sum() == 9  # 3 x 3 of 8 x 8 cells, whose receptive field has 43 pixels
    assert round(shared.ratio_of_the_paper(), 1) == 73.2
