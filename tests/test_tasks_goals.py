"""Several labels of an image and numbers to predict: metrics against independent ones, refused losses, training by command."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, r2_score

from cnnlab.errors import UsageError
from cnnlab.ops import losses
from cnnlab.tasks.goals import CLASS, NUMBERS, TAGS, goal_of
from cnnlab.tasks.multi_label_metrics import mean_average_precision
from cnnlab.tasks.regression_metrics import explained


def test_mean_average_precision_leaves_out_labels_that_no_image_has():
    draw = np.random.default_rng(0)
    tags, scores = (draw.random((50, 4)) < 0.3).astype(np.float32), draw.random((50, 4)).astype(np.float32)
    tags[:, 2] = 0
    expected = np.mean([average_precision_score(tags[:, label], scores[:, label]) for label in (0, 1, 3)])
    assert mean_average_precision(scores, tags) == pytest.approx(expected)
    assert mean_average_precision(tags + 0.1 * scores, tags) == 1.0
    scores[3, 1] = np.nan
    assert np.isnan(mean_average_precision(scores, tags)) and np.isnan(mean_average_precision(scores[:2] * 0, tags[:2] * 0))


def test_explained_variance_is_that_of_scikit_learn_without_constant_numbers():
    draw = np.random.default_rng(0)
    targets = draw.normal(5, 2, (40, 3)).astype(np.float32)
    predictions = targets + draw.normal(0, 1, (40, 3)).astype(np.float32)
    assert explained(predictions, targets) == pytest.approx(r2_score(targets, predictions))
    assert explained(np.tile(targets.mean(axis=0), (40, 1)), targets) == pytest.approx(0, abs=1e-6)
    constant = np.concatenate([targets, np.ones((40, 1), np.float32)], axis=1)
    both = np.concatenate([predictions, 2 * np.ones((40, 1), np.float32)], axis=1)
    assert explained(both, constant) == pytest.approx(explained(predictions, targets))


def test_a_goal_is_the_first_known_column_and_refuses_losses_of_another():
    assert goal_of("a", {"image": 0, "label": 0, "tags": 0}, losses.cross_entropy) is CLASS
    assert goal_of("a", {"image": 0, "tags": 0}, losses.sigmoid) is TAGS
    assert goal_of("a", {"image": 0, "target": 0}, lambda outputs, labels: outputs[:, 0]) is NUMBERS
    with pytest.raises(UsageError, match=r"--loss=cross_entropy: a has several labels(.|\n)*--loss=sigmoid"):
        goal_of("a", {"image": 0, "tags": 0}, losses.cross_entropy)
    with pytest.raises(UsageError, match=r"--loss=absolute: a has the class"):
        goal_of("a", {"image": 0, "label": 0}, losses.absolute)
    with pytest.raises(UsageError, match="no column label, tags, target"):
        goal_of("a", {"image": 0}, losses.cross_entropy)


def test_losses_of_numbers_are_sums_over_them_and_the_knob_of_huber_is_where_it_becomes_linear():
    outputs, targets = jnp.array([[1.0, -2.0], [0.5, 4.0]]), jnp.array([[0.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(losses.absolute(outputs, targets), [3.0, 3.5])
    np.testing.assert_allclose(losses.huber(outputs, targets), [0.5 + 1.5, 0.125 + 2.5])
    np.testing.assert_allclose(losses.huber(outputs, targets, delta=2.0), [0.5 + 2.0, 0.125 + 4.0])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """120 images with a bright half, upper or lower, left or right, in a CSV file with tags and with a number."""
    folder = tmp_path_factory.mktemp("halves")
    draw, lines = np.random.default_rng(0), ["file,upper,left,brightness"]
    for number in range(120):
        upper, left, brightness = number % 2, number // 2 % 2, draw.integers(60, 250)
        pixels = draw.integers(0, 20, (8, 8))
        pixels[slice(0, 4) if upper else slice(4, 8), slice(0, 4) if left else slice(4, 8)] = brightness
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{upper},{left},{brightness}")
    (folder / "halves.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "halves.csv"


CASES = {
    "tags": (("--labels=upper,left", "--loss=sigmoid"), "mean_average_precision"),
    "numbers": (("--targets=brightness", "--standardize", "--loss=squared"), "r2"),
}


@pytest.mark.slow
@pytest.mark.parametrize("goal", CASES)
def test_a_table_of_tags_or_numbers_is_learned_evaluated_and_predicted(table, here, goal, tmp_path):
    words, metric = CASES[goal]
    experiment = ("--experiment=linear_digits", f"--dataset=csv:{table}", *words, "--epochs=40", "--batch_size=16")
    code, out, err = here(*experiment, "--lr=0.02", "--workdir=run", "--devices=1", "--precision=bf16")
    assert code == 0 and metric in out, err
    found = tmp_path / "found.csv"
    code, out, err = here("predict", "--workdir=run", f"--images={table.parent}", f"--to={found}", "--devices=1")
    assert code == 0, err
    rows = list(csv.DictReader(found.read_text(encoding="utf-8").splitlines()))
    names = words[0].partition("=")[2].split(",")
    assert len(rows) == 120 and all(set(names) <= set(row) for row in rows)
    code, out, err = here(*experiment[:2], "--steps=2", "--devices=1", *(words[:1]))
    assert code == 2 and "--loss=cross_entropy" in err
