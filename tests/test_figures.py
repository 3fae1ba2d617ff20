import pathlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cnnlab import figures
from cnnlab.errors import DiskError
from cnnlab.figures.grids import MOST_FILTERS
from cnnlab.figures.page import DPI, SAVED_DPI, fit_text, text_width
from cnnlab.metric import SHARE, Metric

LOSS = Metric("loss", higher_is_better=False, log_scale=True)
WATCHED = (LOSS, Metric("accuracy", SHARE, higher_is_better=True))


def records(count: int, *, splits: tuple[str, ...] = ("train", "validation")) -> list[dict[str, float | None]]:
    """A run that learns: loss from 2 towards 0.02, accuracy from 0.5 towards 1."""
    lines: list[dict[str, float | None]] = []
    for i in range(count):
        decay = float(np.exp(-6 * i / count))
        numbers = {
            f"{split}/{name}": v for split in splits for name, v in (("loss", 0.01 + 2 * decay), ("accuracy", 1 - decay / 2))
        }
        lines.append({"step": 10 * (i + 1), "epoch": (i + 1) / 2, **numbers})
    return lines


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def draw(figure) -> np.ndarray:
    pixels = figures.as_pixels(figure)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    return pixels


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"step": 1}],
        records(1),
        records(2, splits=("train",)),
        records(30, splits=("validation",)),
        records(300),
        [{"step": 1, "test/accuracy": 0.5}],
        [{"step": i, "train/loss": None, "train/accuracy": float("nan"), "validation/loss": float("inf")} for i in range(3)],
        [{"step": i, "train/loss": -1.0 * i, "validation/loss": 0.0} for i in range(5)],
        [{"step": i, "train/loss": 0.0, "train/accuracy": 1.0 if i else 0.2} for i in range(30)],
        [{"step": i, "train/loss": 0.0, "validation/accuracy": 0.0} for i in range(3)],
    ],
    ids=["empty", "bare", "one", "train", "validation", "many", "test", "nothing finite", "negative", "solved", "never right"],
)
def test_learning_curves_draw_whatever_was_recorded(lines):
    figure = figures.learning_curves(lines, title="a run", metrics=WATCHED)
    assert len(figure.axes) == 2
    draw(figure)


def test_learning_curves_mark_the_best_validation_point_and_the_test_result():
    lines = records(9)
    lines[4]["validation/accuracy"], lines[6]["validation/loss"] = 0.999, 0.001
    figure = figures.learning_curves([*lines, {"step": 90, "test/accuracy": 0.875}], title="a run", metrics=WATCHED)
    loss, accuracy = figure.axes
    assert {"best 0.001", "train", "validation"} <= {text.get_text() for text in loss.texts}
    assert {"best 99.90", "test 87.5"} <= {text.get_text() for text in accuracy.texts}
    assert [50.0, 0.999] in [list(line.get_xydata()[0]) for line in accuracy.lines if line.get_markersize() == 8]


def test_learning_curves_have_their_remarks_below_within_the_page():
    long = "over-fitting: " + "validation loss rose, " * 30
    one, two = (
        figures.learning_curves(records(9), title="a run", metrics=WATCHED, remarks=said) for said in ([], [long, "spike: 猫"])
    )
    lines = texts(two)[len(texts(one)) :]
    assert " ".join(lines[:-1]).split() == long.split() and lines[-1].startswith("spike: ")
    width, height = two.get_size_inches() * DPI
    draw(two)
    boxes = [text.get_window_extent() for text in two.texts]
    assert height > one.get_size_inches()[1] * DPI and all(box.x1 < width - 10 and box.y0 > 0 for box in boxes)


def test_learning_curves_know_when_lower_is_better():
    lines = [{"step": i, "validation/bits": value} for i, value in enumerate([3.5, 2.25, 4.5])]
    low = figures.learning_curves(lines, title="a run", metrics=[Metric("bits", higher_is_better=False)])
    high = figures.learning_curves(lines, title="a run", metrics=[Metric("bits", higher_is_better=True)])
    assert "best 2.25" in texts(low) and "best 4.5" in texts(high)


def test_learning_curves_show_what_the_metric_declares():
    lines = [{"step": i, "validation/error": value} for i, value in enumerate([0.4, 0.025, 0.1])]
    error = figures.learning_curves(
        [*lines, {"step": 3, "test/error": 0.05}], title="a run", metrics=[Metric("error", SHARE, False)]
    )
    assert {"error, %", "best 2.5", "test 5.0"} <= set(texts(error))
    lines = [{"step": i, "validation/code_distance": value} for i, value in enumerate([0.4, 0.025, 0.1])]
    neither = texts(figures.learning_curves(lines, title="a run", metrics=[Metric("code_distance", "nats")]))
    assert "code distance, nats" in neither and not any(text.startswith("best") for text in neither)


def test_learning_curves_scale_is_logarithmic_above_a_decade():
    def scale(values):
        return (
            figures.learning_curves([{"step": i, "train/loss": v} for i, v in enumerate(values)], title="", metrics=WATCHED)
            .axes[0]
            .get_yscale()
        )

    assert (scale([1.0, 0.2]), scale([1.0, 0.05]), scale([1.0, 0.0])) == ("linear", "log", "linear")


def test_learning_curves_of_one_metric_have_one_panel():
    assert len(figures.learning_curves(records(3), title="a run", metrics=[LOSS]).axes) == 1


def test_learning_curves_tell_how_many_values_are_not_finite():
    lines = records(4)
    lines[2]["train/loss"] = None
    assert "1 of 8 values not finite" in texts(figures.learning_curves(lines, title="a run", metrics=WATCHED))


def test_end_labels_keep_their_distance():
    figure = figures.learning_curves([*records(5), {"step": 50, "test/accuracy": 0.99}], title="a run", metrics=WATCHED)
    names = {"train", "validation"}
    for axes in figure.axes:
        places = sorted(t.get_position()[1] for t in axes.texts if t.get_text() in names or t.get_text().startswith("test"))
        assert np.all(np.diff(places) > 0.064)


@pytest.mark.parametrize("classes", [1, 2, 10, 20])
def test_confusion_matrix_shows_the_counts_it_was_given(classes):
    counts = np.random.default_rng(0).integers(0, 3, (classes, classes)) ** 5
    matrix = figures.confusion_matrix(counts, [f"class {i}" for i in range(classes)]).axes[0]
    shown = np.zeros_like(counts)
    for text in matrix.texts:
        column, row = text.get_position()
        shown[int(row), int(column)] = int(text.get_text())
    np.testing.assert_array_equal(shown, counts)


def test_confusion_matrix_colours_errors_and_not_hits():
    counts = np.array([[98, 2, 0], [1, 99, 0], [0, 0, 100]])
    colors = figures.confusion_matrix(counts, "abc").axes[0].images[0].get_array()
    darkness = 1 - np.asarray(colors).mean(-1)
    assert darkness[0, 1] > darkness[1, 0] > 2 * darkness.diagonal().max()
    assert np.all(colors[0, 2] == 1.0)


@pytest.mark.parametrize("classes", [3, 21, 100])
def test_confusion_matrix_draws_long_names_and_empty_rows(classes):
    counts = np.eye(classes, dtype=np.int64) * 5
    counts[0], counts[1, 2] = 0, 7
    figure = figures.confusion_matrix(counts, [f"a $very_ long\nname 漢 of class number {i}" for i in range(classes)])
    assert "–" in texts(figure)
    assert any("taken for" in text for text in texts(figure)) == (classes > 20)
    assert len(draw(figure)) < 1400


def test_confusion_matrix_names_every_class_up_to_a_hundred():
    for classes, named in ((100, 100), (101, 51)):
        matrix = figures.confusion_matrix(np.eye(classes, dtype=int), ["x"] * classes).axes[0]
        assert len(matrix.get_xticks()) == len(matrix.get_yticks()) == named and not matrix.texts


def test_confusion_matrix_writes_a_row_of_errors_alone_as_a_number():
    shown = " ".join(texts(figures.confusion_matrix(np.array([[0, 9], [1, 8]]), "ab")))
    assert "up to 100" in shown and "e+" not in shown


def test_confusion_matrix_draws_no_examples_and_no_errors():
    assert "no examples" in texts(figures.confusion_matrix(np.zeros((2, 2), int), "ab"))
    assert "no errors" in texts(figures.confusion_matrix(np.eye(2, dtype=int), "ab"))


def test_confusion_matrix_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"counts \(2, 2\) should be \[K, K\] for 3 class names"):
        figures.confusion_matrix(np.eye(2), "abc")


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_image_grid_holds_every_image_and_caption(dtype, channels):
    images = np.random.default_rng(0).integers(0, 2, (11, 8, 6, channels)).astype(dtype)
    figure = figures.image_grid(images, [f"{i}" for i in range(11)], title="digits", columns=4, colors=["red"] * 11)
    (page,) = figure.axes
    assert [text.get_text() for text in page.texts] == [f"{i}" for i in range(11)]
    assert len(page.images) == 11 and {text.get_color() for text in page.texts} == {"red"}
    assert {image.get_array().shape for image in page.images} == {(8, 6, 3)}
    draw(figure)


def test_image_grid_is_crisp(tmp_path):
    """Every pixel of a small image is a square of one colour in the file."""
    from matplotlib.image import imread

    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    figure = figures.image_grid(image, [""], title="digits")
    figures.save(figure, tmp_path / "grid.png")
    saved = np.rint(255 * imread(tmp_path / "grid.png")[..., :3]).astype(np.uint8)
    side = SAVED_DPI // 8
    left, _, low, top = (round(x * SAVED_DPI) for x in figure.axes[0].images[0].get_extent())
    assert low - top == 8 * side
    inside = np.arange(8) * side + side // 2
    for shift in (-side // 2 + 2, 0, side // 2 - 2):
        rows, columns = top + inside + shift, left + inside + shift
        np.testing.assert_array_equal(saved[rows[:, None], columns], image[0])


def test_image_grid_tells_the_scale_of_floats_outside_the_unit_interval():
    images = np.linspace(-2, 4, 16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert "black −2, white 4" in texts(figures.image_grid(images, ["x"], title="normalised"))


def test_image_grid_without_images_says_none():
    figure = figures.image_grid(np.zeros((0, 8, 8, 1), np.float32), [], title="mistakes")
    assert "none" in texts(figure) and not figure.axes[0].images
    draw(figure)


def test_image_grid_says_what_does_not_fit():
    with pytest.raises(ValueError, match="2 images, but 1 captions; give one for each image"):
        figures.image_grid(np.zeros((2, 8, 8, 1)), ["a"], title="")


@pytest.mark.parametrize(("channels", "zero"), [(1, 247), (3, 128), (16, 247)])
def test_filters_are_symmetric_around_zero(channels, zero):
    kernels = np.zeros((5, 3, 3, channels), np.float32)
    kernels[:, 0, 0], kernels[:, 2, 2] = 0.5, -0.25
    for image in figures.filters(kernels, title="conv1").axes[0].images:
        pixels = np.asarray(image.get_array()).astype(int)
        assert np.all(np.abs(pixels[1, 1] - zero) <= 1)
        assert channels != 3 or pixels[0, 0].tolist() == [255] * 3


def test_filters_are_capped_and_say_so():
    figure = figures.filters(np.ones((96, 3, 3, 3), np.float32), title="conv1", captions=[str(i) for i in range(96)])
    assert len(figure.axes[0].images) == MOST_FILTERS
    assert any("the first 64 of 96 filters" in text for text in texts(figure))
    draw(figure)


@pytest.mark.parametrize("count", [0, 1])
def test_filters_draw_nothing_and_zeros(count):
    assert draw(figures.filters(np.zeros((count, 3, 3, 1), np.float32), title="conv1")).min() < 128  # the title, at least


def test_long_text_is_cut_in_its_middle_to_the_width(monkeypatch: pytest.MonkeyPatch):
    cut = fit_text("first " + "x" * 100 + " last", 1.0, 10)
    assert cut.startswith("first") and cut.endswith("last") and "…" in cut and text_width(cut, 10) <= 1.0
    monkeypatch.setattr("cnnlab.figures.page.families", lambda: ("DejaVu Sans",))
    assert fit_text("short\n漢", 2.0, 10) == "short U+6F22"


def test_class_names_that_no_font_has_stay_distinct_and_are_numbered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cnnlab.figures.page.families", lambda: ("DejaVu Sans",))
    names = ("Straße", "मेज़", "机" * 30 + "一" + "机" * 30, "机" * 30 + "二" + "机" * 30, "γάτα", "кошка")
    labels = figures.class_labels(names)
    assert labels[0] == "Straße" and labels[4:] == ["γάτα", "кошка"] and labels[1].startswith("1: U+092E")
    assert len({fit_text(label, 1.0, 10) for label in labels}) == len(names) and not any("?" in label for label in labels)
    figure = figures.confusion_matrix(np.eye(6, dtype=int), names)
    draw(figure)  # a letter without a glyph would be a warning, hence an error
    assert figure.axes[0].get_yticklabels()[2].get_text().startswith("2: U+")
    draw(figures.tiles(np.zeros((2, 1, 4, 4, 1)), title="猫", row_captions=["猫", "犬"]))


def test_as_pixels_has_the_size_of_the_page():
    figure = figures.learning_curves(records(3), title="a run", metrics=WATCHED)
    width, height = figure.get_size_inches() * DPI
    assert draw(figure).shape[:2] == (int(height), int(width))


def test_save_leaves_the_old_file_when_drawing_fails(tmp_path, monkeypatch):
    figure = figures.image_grid(np.zeros((1, 4, 4, 1)), ["x"], title="one")
    path = tmp_path / "one.png"
    figures.save(figure, path)
    before = path.read_bytes()
    assert before.startswith(b"\x89PNG") and [file.name for file in tmp_path.iterdir()] == ["one.png"]

    def torn(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", torn)
    with pytest.raises(DiskError, match="disk full"):
        figures.save(figure, path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["one.png"]


def test_threads_draw_what_one_thread_draws():
    counts = np.random.default_rng(0).integers(0, 9, (3, 4, 4))

    def picture(i: int) -> np.ndarray:
        return figures.as_pixels(figures.confusion_matrix(counts[i], [f"class {j}" for j in range(4)]))

    with ThreadPoolExecutor(3) as pool:
        for alone, together in zip(map(picture, range(3)), pool.map(picture, range(3)), strict=True):
            np.testing.assert_array_equal(alone, together)


def test_figures_import_is_cheap_and_pyplot_is_never_touched(tmp_path):
    program = f"""
import sys
from PIL import Image

from cnnlab import figures
from cnnlab.metric import Metric
from cnnlab.errors import DiskError
import numpy as np
assert "matplotlib" not in sys.modules and "jax" not in sys.modules
figures.save(figures.learning_curves([{{"step": 1, "train/loss": 1.0}}], title="a run", metrics=[Metric("loss")]),
    {str(tmp_path / "curves.png")!r})
import matplotlib
settings = matplotlib.rcParams.copy()
figures.as_pixels(figures.confusion_matrix(np.eye(3, dtype=int), "abc"))
assert settings == matplotlib.rcParams.copy() and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=pathlib.Path(__file__).parents[1])


def test_a_sheet_shows_every_image_in_its_place():
    images = np.linspace(0, 1, 5, dtype=np.float32)[:, None, None, None] * np.ones((1, 28, 14, 1), np.float32)
    page = figures.sheet(images, columns=3)
    assert page.shape == (2 * (2 * 30 + 2), 2 * (3 * 16 + 2), 3) and page.dtype == np.uint8
    for number in range(5):
        row, column = divmod(number, 3)
        assert (page[2 * (2 + row * 30 + 14), 2 * (2 + column * 16 + 7)] == round(255 * number / 4)).all()
    assert (page[-30, -20] == 255).all()


@pytest.mark.parametrize(("count", "shape"), [(32, (4, 8)), (64, (8, 8)), (7, (3, 3)), (1, (1, 1)), (62, (8, 8))])
def test_a_sheet_is_as_square_as_full_rows_allow(count: int, shape: tuple[int, int]):
    page = figures.sheet(np.zeros((count, 56, 56, 1), np.float32))
    assert page.shape[:2] == tuple(58 * side + 2 for side in shape)


def test_a_sheet_survives_what_a_broken_model_draws():
    images = np.full((2, 64, 64, 3), np.nan, np.float32)
    images[1] = 7.0
    page = figures.sheet(images)
    assert (page[10, 10] == 0).all() and (page[10, 80] == 255).all()


def test_a_film_has_a_frame_for_every_sheet(tmp_path: pathlib.Path):
    sheets = [figures.sheet(np.full((4, 8, 8, 1), share, np.float32)) for share in (0.0, 0.5, 1.0)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for page, path in zip(sheets, paths, strict=True):
        Image.fromarray(page).save(path)
    figures.animate(paths, tmp_path / "film.webp")
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames == 3 and film.size == (sheets[0].shape[1], sheets[0].shape[0] + 6)
