"""Pictures of a latent space."""

import numpy as np

from cnnlab import figures
from cnnlab.figures.latent import code_plane, tiles


def images(rows: int, columns: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(rows, columns, 4, 6, channels)).astype(np.float32)


def drawn(figure) -> np.ndarray:
    """The pixels of the one picture on the page."""
    return np.asarray(figure.axes[0].images[0].get_array())


def test_every_tile_stands_in_its_row_and_column():
    shown = images(2, 3)
    page = drawn(tiles(shown, title="Tiles", gap=1, row_captions=("a", "b"), column_captions=("1", "2", "3")))
    assert page.shape == (2 * 5, 3 * 7, 3)
    np.testing.assert_allclose(page[5:9, 7:13], np.broadcast_to(shown[1, 1], (4, 6, 3)))
    assert np.all(page[4] == 1) and np.all(page[:, 6] == 1)
    np.testing.assert_allclose(drawn(tiles(images(2, 3, 3), title="Tiles", gap=0))[:4, 6:12], images(2, 3, 3)[0, 1])


def test_values_outside_the_scale_are_clipped_and_nan_is_black():
    shown = np.float32([np.nan, 7.0, -3.0, 0.5]).reshape(1, 4, 1, 1, 1)
    np.testing.assert_allclose(drawn(tiles(shown, title="Tiles", gap=0))[0, :, 0], [0.0, 1.0, 0.0, 0.5])


def test_codes_are_points_of_their_class():
    codes, labels = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    figure = code_plane(codes, labels, ("a", "b", "c$"), title="Codes")
    points = figure.axes[0].lines
    assert [line.get_label() for line in points] == ["a", "b", "c$"]
    np.testing.assert_allclose(np.stack(points[1].get_data(), axis=1), codes[labels == 1])
    assert len({line.get_color() for line in points}) == 3 and figures.as_pixels(figure).shape[2] == 3
