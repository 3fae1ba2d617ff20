"""Instances: metrics of masks beside those of boxes, of objects that touch, and of kinds of images."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import TWO_STAGES

from cnnlab.data.placement import placement
from cnnlab.models.mask_head import MaskHead, packed
from cnnlab.ops import instances, metrics_of_boxes, objects
from cnnlab.predict.write import RECORDS
from cnnlab.recipes.detection import detection
from cnnlab.tasks import instances_shown
from cnnlab.tasks.detect import detect
from cnnlab.tasks.detection_metrics import FOUND, TRUE, Suppression, boxes_at
from cnnlab.tasks.instance_metrics import InstanceMetrics, masks_of
from tests.flipping import require_every_knob_does_something

NAMES, SIZE, BINS = ("cat", "fire truck"), (24, 32), 8
METRICS = InstanceMetrics(
    NAMES,
    "objects",
    ("box_loss", "mask_loss"),
    Suppression(most=4),
    masks="instances",
    group_column="label",
    group_names=("a", "b"),
)


class Read(nn.Module):
    """Reads detections from the image: four rows of it hold one each, 7 + 8 · 8 numbers in the first channels."""

    classes: int

    @nn.compact
    def __call__(self, images, *, train, suppression=None):
        """Maps images [B, 24, 32, 3] to (outputs [B, 4, 71], {})."""
        self.param("nothing", nn.initializers.zeros, ())
        return images.reshape(len(images), -1)[:, : 4 * 71].reshape(-1, 4, 71), {}  # [B, 24·32·3] -> [B, 4, 71]

    def head(self, image_size):
        """Returns what the outputs mean, without a loss."""
        return _Silent(anchors=(np.zeros((1, 4), np.float32),), image_size=image_size, classes=self.classes)


class _Silent(MaskHead):
    def losses(self, outputs, objects):
        """Returns two terms that are 0."""
        return jnp.zeros(2), jnp.ones(2)


def ellipses(corners):
    """Masks of ellipses in boxes f32 [M, 4], u8 [M, 24, 32]."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    middle, half = (corners[:, :2] + corners[:, 2:]) / 2, np.maximum((corners[:, 2:] - corners[:, :2]) / 2, 0.1)
    far = [((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 for (cx, cy), (w, h) in zip(middle, half, strict=True)]
    return (np.asarray(far) <= 1).astype(np.uint8)


@functools.cache
def example():
    """(the batch of two images of three objects, the rows of its measurement): the second image's masks are half as large."""
    corners = np.asarray([[1, 1, 11, 13], [11, 2, 21, 14], [24, 12, 31, 23], [0, 0, 0, 0]], np.float32)
    label, valid = np.asarray([0, 1, 0, 0], np.int32), np.asarray([True, True, True, False])
    y, x = np.mgrid[:BINS, :BINS] + 0.5
    disc = (np.hypot(y - BINS / 2, x - BINS / 2) / BINS * 2)[None] <= np.asarray([1.0, 0.5])[:, None, None]
    images = []
    for mask in disc.astype(np.float32):
        found = {"corners": corners, "score": np.linspace(0.9, 0.6, 4, dtype=np.float32), "label": label, "valid": valid}
        outputs = np.asarray(packed(jax.tree.map(jnp.asarray, found), jnp.asarray(np.stack([mask] * 4))))
        images.append(np.resize(np.append(outputs.reshape(-1), np.zeros(9)), (*SIZE, 3)).astype(np.float32))
    both = {
        name: jnp.asarray(np.stack([value] * 2)) for name, value in (("corners", corners), ("label", label), ("valid", valid))
    }
    batch = {
        "image": jnp.asarray(np.stack(images)),
        "objects": both,
        "instances": jnp.asarray(np.stack([ellipses(corners)] * 2)),
        "label": jnp.asarray([0, 1]),
        "index": jnp.arange(2),
        "mask": jnp.ones(2, bool),
    }
    task = detect(Read(2), metrics=METRICS)
    params, state = task.init(jax.random.key(0), batch)
    return task, batch, jax.device_get(jax.jit(task.measure)(params, state, batch))


def test_boxes_and_masks_have_an_average_precision_each():
    task, _, stats = example()
    found = task.summary(stats)
    assert found["ap"] == pytest.approx(1) and found["mask_ap50_a"] == pytest.approx(1) and found["mask_ap50_b"] == 0
    # By class the two detections of one image that are right come with those of the other that are wrong.
    assert 0 < found["mask_ap50"] < 1 and found["mask_ap75"] <= found["mask_ap50"] and found["mask_ap"] < found["ap"]
    assert set(found) <= {metric.name for metric in task.metrics} and task.metrics[0].name == "mask_ap"
    assert stats["rows"]["mask_touching"].tolist() == [[True, True, False, False]] * 2
    assert found["mask_recall50_touching"] == pytest.approx(0.5)


def test_counts_on_the_device_are_those_of_the_masks_on_the_host():
    _, batch, stats = example()
    rows = stats["rows"]
    for place, ours in enumerate(masks_of(rows)):
        truth, found = (boxes_at(rows, which, place) for which in (TRUE, FOUND))
        mask = np.asarray(batch["image"]).reshape(2, -1)[place, : 4 * 71].reshape(4, 71)[:, 7:].reshape(4, BINS, BINS)
        on = np.asarray(jax.jit(instances.on_image, static_argnums=2)(mask, found["corners"], SIZE)) >= 0.5
        theirs = objects.of_masks(truth, np.asarray(batch["instances"])[place] > 0, found, on)
        for name in ("overlaps", "area", "found_area", "label", "found_label", "score"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
        scaled = objects.of_counts(
            {**truth, "scale": np.asarray([0.5, 0.25])},
            *(rows["mask_true"][place], found, rows["mask_found"][place], rows["mask_both"][place]),
        )
        np.testing.assert_allclose(scaled.area, 8 * ours.area)
        np.testing.assert_allclose(scaled.found_area, 8 * ours.found_area)
        np.testing.assert_array_equal(scaled.overlaps, ours.overlaps)
        numbers = metrics_of_boxes.coco_summary([ours], 2)
        assert numbers["AP50"] == pytest.approx(1 if place == 0 else 0)


def test_the_padding_of_a_canvas_belongs_to_no_mask():
    task, batch, stats = example()
    params, state = task.init(jax.random.key(0), batch)
    cut = {**batch, "extent": jnp.asarray([[24, 20], [24, 32]])}
    rows = jax.device_get(jax.jit(task.measure)(params, state, cut))["rows"]
    np.testing.assert_array_equal(rows["mask_found"][1], stats["rows"]["mask_found"][1])
    whole, within = stats["rows"]["mask_found"][0], rows["mask_found"][0]
    assert within[0] == whole[0] and 0 < within[1] < whole[1] and within[2] == 0 < whole[2]
    assert np.all(rows["shown_found"][0][:, 20:] == -1) and not np.all(stats["rows"]["shown_found"][0][:, 20:] == -1)


def test_records_have_the_mask_at_the_size_of_the_image_itself_and_pictures_show_it():
    task, batch, _ = example()
    params, state = task.init(jax.random.key(0), batch)
    arrays = task.prediction.arrays(task.predict(params, state, batch["image"]), batch["image"])
    one = {name: np.asarray(values)[0] for name, values in arrays.items()}
    place = placement({"name": "canvas", "scale": 0.5, "height": 24, "width": 32}, (44, 60), 32)
    placed = task.prediction.placed(one, place)
    records = task.prediction.records(placed, None, "000042.png")
    assert len(records) == 3 and records[0]["image_id"] == 42 and records[0]["category"] == "cat" and json.dumps(records)
    for record in records:
        assert record["segmentation"]["size"] == [44, 60]
        x, y, width, height = (round(side) for side in record["bbox"])
        inside = mask_of(record["segmentation"])
        assert 0.7 < inside[y : y + height, x : x + width].mean() < 0.9 and not inside[: y - 1].any(), "a disc in its box"
    image = np.zeros((44, 60, 3), np.float32)
    picture = task.prediction.maps(image, one, place)["instances"]
    assert picture.shape == image.shape and picture[14, 12].any() and not picture[40:, :30].any()
    small = task.prediction.picture(np.zeros((*SIZE, 3), np.float32), one)
    assert small.shape == (*SIZE, 3) and small[7, 6].any()


@pytest.mark.slow
@pytest.mark.thorough
def test_every_knob_of_mask_rcnn_does_something():
    several_levels = {"model.levels": 3, "model.maps": 2, "model.before": 20, "model.proposals": 10}
    values = {**TWO_STAGES, **several_levels, "duration": "3 steps"}
    others = {"first_level": 1}
    require_every_knob_does_something(detection, values, below="model", others=others, but=("model.backbone",))


@pytest.mark.slow
def test_a_run_without_training_measures_draws_and_predicts_instances(here, tmp_path):
    """Discs of which two touch, in the layout of the Data Science Bowl; every second image is coloured."""
    from PIL import Image

    y, x = np.mgrid[:32, :40]
    discs = [np.hypot(y - row, x - column) < 6 for row, column in ((9, 9), (11, 19), (24, 31))]
    for number in range(12):
        pixels = np.where(np.any(discs, axis=0), 200, 40).astype(np.uint8)
        folder = tmp_path / "data" / f"image{number}"
        for part, arrays in (("images", [np.stack([pixels, pixels, pixels - number % 2], -1)]), ("masks", discs)):
            (folder / part).mkdir(parents=True)
            for place, array in enumerate(arrays):
                Image.fromarray(array.astype(np.uint8) * (255 if part == "masks" else 1)).save(folder / part / f"{place}.png")
    words = ["--experiment=watershed_nuclei", f"--dataset=nuclei:{tmp_path}/data", "--dataset.instances"]
    code, _, errors = here(*words, f"--workdir={tmp_path}/run")
    assert code == 0, errors
    found = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert found["test/mask_ap50"] == pytest.approx(1) == found["test/mask_recall50_touching"]
    assert {"boxes", "masks", "mistakes"} <= {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels[:, :30]).save(tmp_path / "photos" / "7.png")
    code, _, errors = here("predict", f"--workdir={tmp_path}/run", f"--images={tmp_path}/photos", f"--to={tmp_path}/out")
    assert code == 0, errors
    with Image.open(tmp_path / "out" / "instances" / "7.png") as picture:
        assert picture.size == (30, 32)
    records = json.loads((tmp_path / "out" / RECORDS).read_text())
    masks = np.stack([mask_of(record["segmentation"]) for record in records])
    assert masks.shape == (3, 32, 30) and masks[:, 9, 9].sum() == masks[:, 11, 19].sum() == 1


def mask_of(coded):
    """The mask bool [H, W] of a segmentation in the form of COCO's results."""
    lengths, value, shift = [], 0, 0
    for letter in coded["counts"]:
        part = ord(letter) - 48
        value, shift = value | (part & 0x1F) << shift, shift + 5
        if not part & 0x20:
            value -= (1 << shift) if part & 0x10 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value, shift = 0, 0
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(coded["size"], order="F")


def test_a_snapshot_shows_true_objects_beside_those_that_were_found():
    task, batch, stats = example()
    params, state = task.init(jax.random.key(0), batch)
    shown = np.asarray(jax.jit(task.snapshot)(params, state, batch, jax.random.key(0))["masks"])
    assert shown.shape == (4, *SIZE, 3) and shown.min() >= 0 and shown.max() <= 1
    rows = stats["rows"]
    assert rows["shown_true"][0, 7, 6] == 0 and rows["shown_found"][0, 7, 16] == 1 and rows["shown_found"][1, 2, 6] == -1
    colours = np.eye(3, dtype=np.float32)
    for xp in (np, jnp):
        drawn = np.asarray(instances_shown.painted(xp.zeros((*SIZE, 3)), xp.asarray(rows["shown_true"][0]), colours, xp))
        assert drawn[7, 6].tolist() == pytest.approx([instances_shown.OPACITY, 0, 0]) and drawn[7, 10].tolist() == [1, 0, 0]
