"""Segmentation: metrics against scikit-learn, the loss of a batch, weights of classes, where weights go, what is refused."""

import dataclasses
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

from cnnlab import knobs
from cnnlab.data.kinds import Image as ImageKind
from cnnlab.data.kinds import Mask
from cnnlab.data.placement import placement
from cnnlab.data.source import Source, Split, digest_splits
from cnnlab.errors import UsageError
from cnnlab.interop.files import read
from cnnlab.ops.dense_losses import cross_entropy, dice
from cnnlab.recipes.segmentation import segmentation, weights_of
from cnnlab.tasks import masks_shown
from cnnlab.tasks.segment import segment
from cnnlab.tasks.segmentation_metrics import MaskMetrics, in_metric

SCENES = {"dataset": "scenes", "dataset.examples": 24, "dataset.size": 16, "batch_size": 8, "duration": "3 steps"}
SMALL = {**SCENES, "model": "unet", "model.width": 2, "model.levels": 1}
draw = np.random.default_rng(0)


class Pixelwise(nn.Module):
    """Softmax regression on the colour of each pixel."""

    classes: int

    @nn.compact
    def __call__(self, images, *, train):
        """Maps images [B, H, W, C] to (logits [B, H, W, K], {})."""
        return nn.Dense(self.classes, name="output")(images), {}


def of(values=None, recipe=segmentation):
    return knobs.resolve(recipe, {**SMALL, **(values or {})}, {"data_dir": None}).call()


def batch(names=("sky", "road", "car"), ignored=0.2, size=6):
    labels = draw.integers(0, len(names), (size, 8, 9))
    labels = np.where(draw.random(labels.shape) < ignored, 255, labels).astype(np.uint8)
    return {
        "image": jnp.asarray(draw.normal(0, 1, (size, 8, 9, 3)), jnp.float32),
        "segmentation": jnp.asarray(labels),
        "index": jnp.arange(size),
        "mask": jnp.ones(size, bool),
    }


def test_metrics_are_pooled_and_those_of_scikit_learn():
    names = ("sky", "road", "car")
    measured = MaskMetrics(names, 255, "segmentation")
    task, examples = (
        segment(Pixelwise(3), metrics=measured, losses=(cross_entropy, functools.partial(dice, weight=0.5))),
        batch(),
    )
    params, state = task.init(jax.random.key(0), examples)
    stats = jax.device_get(jax.jit(task.measure)(params, state, examples))
    found = task.summary(stats)
    guess = np.asarray(task.predict(params, state, examples["image"])).argmax(-1)
    truth = np.asarray(examples["segmentation"])
    valid = truth != 255
    assert found["pixel_accuracy"] == pytest.approx(reference.accuracy_score(truth[valid], guess[valid]), abs=1e-12)
    assert found["miou"] == pytest.approx(reference.jaccard_score(truth[valid], guess[valid], average="macro"), abs=1e-12)
    assert found["dice"] == pytest.approx(reference.f1_score(truth[valid], guess[valid], average="macro"), abs=1e-12)
    each = [reference.jaccard_score(truth[i][valid[i]], guess[i][valid[i]], average="macro") for i in range(len(truth))]
    assert found["image_miou"] == pytest.approx(np.mean(each), abs=1e-12) != found["miou"]
    assert found["iou_road"] == pytest.approx(reference.jaccard_score(truth[valid], guess[valid], average=None)[1], abs=1e-12)
    assert set(found) == {metric.name for metric in measured.declared}
    # The loss is the mean over the pixels of the batch plus half the mean of Dice over its images.
    total, (_, sums) = task.loss(params, state, examples, jax.random.key(1), "segmenter")
    assert float(total) == pytest.approx(found["loss"], rel=1e-6) == task.summary(jax.device_get(sums))["loss"]


def test_an_image_of_which_nothing_counts_and_padding_change_nothing():
    task = segment(Pixelwise(3), metrics=MaskMetrics(("a", "b", "c"), 255, "segmentation"), losses=(cross_entropy, dice))
    examples = batch()
    params, state = task.init(jax.random.key(0), examples)
    more = {name: jnp.concatenate([values, values[:2]]) for name, values in examples.items()}
    void = {**more, "segmentation": more["segmentation"].at[6:].set(255)}
    padded = {**more, "mask": more["mask"].at[6:].set(False)}
    key = jax.random.key(1)
    plain = float(task.loss(params, state, examples, key, "segmenter")[0])
    assert float(task.loss(params, state, void, key, "segmenter")[0]) == pytest.approx(plain, rel=1e-6)
    first, second, third = (jax.device_get(task.measure(params, state, one)) for one in (examples, void, padded))
    kept = {"sums": {}, "rows": {name: rows[third["rows"]["mask"]] for name, rows in third["rows"].items()}}
    for other in (second, kept):
        numbers = task.summary(other)
        assert {name: numbers[name] for name in numbers if name != "image_miou"} == pytest.approx(
            {name: value for name, value in task.summary(first).items() if name != "image_miou"}, rel=1e-6
        )


def test_kinds_of_images_are_told_apart_and_names_fit_into_metrics():
    measured = MaskMetrics(("background", "cell wall"), 255, "segmentation", "label", ("fluorescence", "H&E"))
    names = [metric.name for metric in measured.declared]
    assert {"iou_cell_wall", "miou_H_E", "dice_fluorescence"} <= set(names) and in_metric("a b/c") == "a_b_c"
    task = segment(Pixelwise(2), metrics=measured)
    examples = {**batch(("a", "b")), "label": jnp.asarray([0, 1, 0, 1, 1, 1])}
    params, state = task.init(jax.random.key(0), examples)
    stats = jax.device_get(task.measure(params, state, examples))
    of_second = {"sums": {}, "rows": {name: rows[[1, 3, 4, 5]] for name, rows in stats["rows"].items()}}
    assert task.summary(stats)["miou_H_E"] == pytest.approx(task.summary(of_second)["miou"])


def masked(labels, names=("background", "cell")):
    labels = np.asarray(labels, np.uint8)
    pixels = draw.integers(0, 255, (*labels.shape, 3), np.uint8)
    splits = {split: Split({"image": pixels, "segmentation": labels}) for split in ("train", "test")}
    return Source("made", splits, {"image": ImageKind(), "segmentation": Mask(names)}, digest_splits("made", splits))


def test_weights_of_classes_are_those_of_their_papers():
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[0, :4], labels[1, :2], labels[2, 0] = 1, 1, 255
    kind = Mask(("background", "cell"))
    data = of({"dataset": "scenes"}).data
    data = dataclasses.replace(data, resident={"train": {"segmentation": labels}})
    zeros, ones = 256 - 48 - 8, 48
    np.testing.assert_allclose(weights_of("balanced", data, "segmentation", kind), [248 / (2 * zeros), 248 / (2 * ones)])
    frequency = np.asarray([zeros / (zeros + ones), ones / 128])
    expected = np.median(frequency) / frequency
    np.testing.assert_allclose(weights_of("median_frequency", data, "segmentation", kind), expected, rtol=1e-6)
    assert weights_of(None, data, "segmentation", kind) is None
    for wanted, said in (((1.0,), "there are 2 classes"), ("balanced", "no training pixel is of class cell")):
        bare = dataclasses.replace(data, resident={"train": {"segmentation": 0 * labels}})
        with pytest.raises(UsageError, match=said):
            weights_of(wanted, bare, "segmentation", kind)
    streamed = dataclasses.replace(data, resident={"train": {}})
    with pytest.raises(UsageError, match="streamed"):
        weights_of("balanced", streamed, "segmentation", kind)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dataset": "stripes", "dataset.size": 16, "dataset.examples": 24}, "no column of masks"),
        ({"losses": "none"}, "--losses is empty"),
        ({"tile": 100}, "would not begin at multiples of 32 pixels"),
        ({"tile": 64, "overlap": 64}, "the overlap 64 below the tile or more"),
        ({"class_weights": "1,2"}, "there are 11 classes"),
        ({"early_stopping": 3, "validation": 0.0}, "no validation split"),
        ({"control": "random_parameters", "init_from": "weights.npz"}, "--init_from gives it other weights"),
        ({"new_head": True}, "without --init_from every layer is"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_compiles(values, said):
    with pytest.raises(UsageError, match=said):
        of(values)


@pytest.mark.parametrize(
    ("fit", "shape"),
    [
        ({"name": "resize"}, (20, 34)),
        ({"name": "pad"}, (13, 16)),
        ({"name": "crop", "fraction": 0.875}, (40, 60)),
        ({"name": "none"}, (16, 16)),
    ],
)
def test_masks_come_back_to_the_size_of_the_image(fit, shape):
    """A mask of two halves has its border at the same place of the image, to a pixel; what was not seen has no class."""
    place = placement(fit, shape, 16)
    middle = shape[1] / 2 * place.scale[1] + place.offset[1]  # in pixels of what the network saw
    columns = np.arange(place.size[1]) + 0.5
    right = np.broadcast_to(columns - middle, place.size)
    mask = masks_shown.at_own_size(np.stack([-right, right], axis=-1), place, 255)
    assert mask.shape == shape and mask.dtype == np.uint8
    seen = mask != 255
    assert seen.all() == (fit["name"] != "crop") and seen.mean() > 0.3
    where = np.broadcast_to(np.arange(shape[1]) + 0.5, shape)
    sure = seen & (np.abs(where - shape[1] / 2) > 1 / place.scale[1])
    np.testing.assert_array_equal(mask[sure], (where > shape[1] / 2)[sure])


def test_colours_of_classes_differ_and_what_is_ignored_is_white():
    measured = MaskMetrics(tuple(map(str, range(60))), 255, "segmentation")
    table = masks_shown.palette(measured)
    assert len(np.unique(np.round(255 * table[:60]), axis=0)) == 60 and np.all(table[255] == 1) and np.all(table[60:] == 1)
    own = MaskMetrics(("sky", "road"), 255, "segmentation", colours=((70, 130, 180), (128, 64, 128)), published=(23, 7))
    np.testing.assert_allclose(255 * masks_shown.palette(own)[1], [128, 64, 128], atol=1e-4)
    scores = np.zeros((4, 4, 2), np.float32)
    scores[:, 2:, 1] = 1.0
    place = placement({"name": "none"}, (4, 4), 4)
    maps = masks_shown.prediction(own).maps(np.zeros((4, 4, 3), np.float32), {"scores": scores}, place)
    np.testing.assert_array_equal(maps["submission"], np.where(maps["masks"] == 1, 7, 23))


@pytest.mark.parametrize("resident", [2048, 0])
def test_figures_show_the_first_and_the_worst_images(resident):
    experiment = of({"resident_mib": resident, "validation": 0.0})
    task, data = experiment.task, experiment.data
    params, state = jax.jit(task.init)(jax.random.key(0), masks_shown.examples(data, "train", np.arange(2)))
    examples = masks_shown.examples(data, "test", np.arange(data.sizes["test"]))
    again = masks_shown.examples(data, "test", np.asarray([4, 1]))
    np.testing.assert_array_equal(again["segmentation"], np.asarray(examples["segmentation"])[[4, 1]])
    stats = jax.device_get(jax.jit(task.measure)(params, state, examples))
    shown = task.figures(params, state, stats, data, "test")
    assert set(shown) == {"confusion_matrix", "class_iou", "masks", "worst_masks"}
    snapshot = jax.jit(task.snapshot)(params, state, examples, jax.random.key(0))["masks"]
    assert snapshot.shape == (2 * data.sizes["test"], 16, 16, 3) and 0 <= float(snapshot.min()) <= float(snapshot.max()) <= 1


@pytest.mark.slow
def test_a_backbone_starts_from_a_file_of_its_own_and_a_whole_network_from_its_run(here, tmp_path: pathlib.Path, caplog):
    """Training, going on, prediction and a second start, by the commands."""
    words = [
        "--experiment=unet_scenes",
        "--optimizer=adam",
        "--dataset.size=16",
        "--dataset.examples=24",
        "--batch_size=8",
        "--steps=2",
    ]
    words += ["--model.levels=1", "--model.width=2", "--model.backbone=cifar_resnet20", "--model.backbone.width=0.125"]
    words += ["--image_fit=canvas", "--image_fit.multiple=16"]
    code, _, errors = here(*words, f"--workdir={tmp_path}/first")
    assert code == 0, errors
    numbers = read(tmp_path / "first")
    assert {name.split("/")[1] for name in numbers if name.startswith("params/")} >= {"backbone", "output"}
    code, _, errors = here(*words, f"--workdir={tmp_path}/second", f"--init_from={tmp_path}/first", "--lr=1e-9")
    assert code == 0, errors
    again = read(tmp_path / "second")
    gap = {name: float(np.max(np.abs(again[name] - numbers[name]))) for name in numbers if name.startswith("params/")}
    assert max(gap.values()) < 1e-6
    part = {name.replace("/backbone/", "/"): leaf for name, leaf in numbers.items() if "/backbone/" in name}
    np.savez(tmp_path / "trunk.npz", **part)
    more = (f"--init_from={tmp_path}/trunk.npz", "--lr=1e-9", "--frozen=backbone")
    code, _, errors = here(*words, f"--workdir={tmp_path}/third", *more)
    assert code == 0, errors
    third = read(tmp_path / "third")
    same = {name: np.array_equal(third[name], numbers[name]) for name in numbers if name.startswith("params/")}
    assert all(same[name] for name in same if "/backbone/" in name) and not same["params/output/kernel"]
    (tmp_path / "photos").mkdir()
    sizes = {"small": (12, 9), "wide": (33, 21), "wider": (40, 16)}  # the canvas has 16 x 16 pixels
    for name, (width, height) in sizes.items():
        Image.fromarray(draw.integers(0, 255, (height, width, 3), np.uint8)).save(tmp_path / "photos" / f"{name}.png")
    code, _, errors = here("predict", f"--workdir={tmp_path}/first", f"--images={tmp_path}/photos", f"--to={tmp_path}/out")
    assert code == 0, errors
    assert "2 of 3 images are larger than 16 x 16, the canvas of the training images, and lie on a larger one" in caplog.text
    for name, size in sizes.items():
        with Image.open(tmp_path / "out" / "masks" / f"{name}.png") as mask:
            assert mask.size == size and mask.mode == "P" and np.asarray(mask).max() < 11
        with Image.open(tmp_path / "out" / "overlays" / f"{name}.png") as picture:
            assert picture.size == size
