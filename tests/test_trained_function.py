"""A run's function is whole: the normalisation, classes and sizes of its checkpoint are used, whatever data are at hand."""

import dataclasses
import json
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnlab import knobs
from cnnlab.data import digits, npz
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.data.pipeline import build
from cnnlab.data.resize import crop
from cnnlab.engine import train
from cnnlab.engine.program import build_program, stack_steps
from cnnlab.errors import DataError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.interop import export
from cnnlab.recipes.classification import classification
from cnnlab.runs import run, trained_function
from cnnlab.runs.folder import RunSpec

KNOBS = {"model": "linear", "duration": "30 steps", "dataset": "digits"}
TEST = digits().splits["test"]


def resolved(**more: Any) -> knobs.Resolved:
    return knobs.resolve(classification, {**KNOBS, **more})


def spec_of(one: knobs.Resolved) -> RunSpec:
    return RunSpec("classification", one.values, "f32", source="", devices=1, quiet=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a short run on the digits."""
    one = resolved()
    target = tmp_path_factory.mktemp("trained") / "run"
    run.train_run(run.build(one, spec_of(one)), target, spec_of(one), 0, overwrite=False)
    return target


def accuracy_on(folder: pathlib.Path, images: np.ndarray, tmp_path: pathlib.Path) -> float:
    """The test accuracy of a run on other test images, whose training images are like them."""
    file = tmp_path / "other.npz"
    np.savez(file, train_images=images, train_labels=TEST.labels, test_images=images, test_labels=TEST.labels)
    one = resolved(dataset=f"npz:{file}")
    changed = {"data.dataset": one.values["data.dataset"]}
    spec = dataclasses.replace(spec_of(one), changed=changed)
    program, host, _ = run.restore_run(one, spec, folder, best=False)
    stats = train.evaluate(program, program.strategy.to_devices(host), "test")
    return program.experiment.task.summary(stats)["accuracy"]


def test_darker_images_are_measured_as_the_training_process_and_the_exported_program_would(folder, tmp_path):
    dark = TEST.images // 3
    one = resolved()
    export.export_run(one, spec_of(one), folder, tmp_path / "x.stablehlo", best=False, replace=False)
    exported = np.argmax(export.load_stablehlo(tmp_path / "x.stablehlo")(dark), axis=1)
    # What the training process would have computed: its own statistics, its own weights.
    program, host, _ = run.restore_run(one, spec_of(one), folder, best=False)
    inputs = program.experiment.data.inputs
    seen = (jnp.asarray(dark, jnp.float32) - inputs.subtract) / inputs.divide
    trained = np.argmax(program.experiment.task.predict(host.params, host.model_state, seen), axis=1)
    np.testing.assert_array_equal(exported, trained)
    expected = np.mean(trained == TEST.labels)
    assert accuracy_on(folder, dark, tmp_path) == pytest.approx(expected)
    own = build(npz(str(tmp_path / "other.npz")), batch_size=10).inputs
    assert not np.allclose(own.subtract, inputs.subtract), "statistics of the dark images would be others"


def test_the_same_images_as_floats_give_the_same_number(folder, tmp_path, caplog):
    whole = accuracy_on(folder, TEST.images, tmp_path)
    with caplog.at_level(logging.INFO, "cnnlab"):
        assert accuracy_on(folder, TEST.images.astype(np.float32) / 255, tmp_path) == pytest.approx(whole)
    assert "is normalised as the training images of" in caplog.text


def test_the_files_of_a_run_say_what_its_network_takes_and_trace_every_prediction(folder):
    inputs = trained_function.read_inputs(folder)
    assert inputs is not None and inputs.is_same(resolved().call().data.inputs)
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["data"]["class_names"] == list("0123456789")
    rows = np.load(folder / "test_rows.npz")
    assert rows["probabilities"].shape == (len(rows["label"]), 10) and "name" not in rows
    np.testing.assert_array_equal(rows["probabilities"].argmax(1), rows["prediction"])
    np.testing.assert_allclose(rows["probabilities"].max(1), rows["confidence"], rtol=1e-6)


SPEC = InputSpec((4, 6, 3), "uint8", np.float32([[[[1, 2, 3.3]]]]), np.full((1, 1, 1, 1), 255, np.float32), ("cat", "犬"))
OTHERS = {
    "channels": (dataclasses.replace(SPEC, image_shape=(4, 6, 1)), "trained on images of 4x6x3, and those of new are 4x6x1"),
    "fewer classes": (
        dataclasses.replace(SPEC, class_names=("cat",)),
        "are 0 cat, 1 犬, and those of new are 0 cat",
    ),
    "order": (dataclasses.replace(SPEC, class_names=("犬", "cat")), "with the same classes in the same order"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_data_of_another_kind_are_refused(case: str):
    given, message = OTHERS[case]
    with pytest.raises(DataError, match=message):
        trained_function.check_inputs(SPEC, given, name="new", folder=pathlib.Path("there"))


@pytest.mark.parametrize("change", [{"class_names": ("cat", "wolf")}, {"image_shape": (8, 8, 3)}, {"fit": {"name": "pad"}}])
def test_other_names_another_size_and_another_rule_for_it_are_said(change: dict[str, Any], caplog):
    trained = dataclasses.replace(SPEC, fit={"name": "resize"})
    given = dataclasses.replace(trained, **change)
    trained_function.check_inputs(trained, given, name="new", folder=pathlib.Path("there"))
    assert "WARNING" in caplog.text and "new" in caplog.text
    caplog.clear()
    for other in (trained, dataclasses.replace(trained, fit={"name": "none"})):
        trained_function.check_inputs(trained, other, name="new", folder=pathlib.Path("there"))
    assert not caplog.text


def test_a_specification_comes_back_from_json_to_the_bit_and_follows_the_unit():
    again = InputSpec.from_json(json.loads(json.dumps(SPEC.as_json())))
    assert again.is_same(SPEC) and again.subtract.dtype == np.float32 and again.class_names == SPEC.class_names
    floats = SPEC.for_dtype("float32")
    np.testing.assert_allclose((0.5 - floats.subtract) / floats.divide, (127.5 - SPEC.subtract) / SPEC.divide, rtol=1e-6)
    assert SPEC.for_dtype("uint8") is SPEC


@pytest.mark.parametrize("name", ["imagenet", "half", "cifar10", "cifar100"])
def test_fixed_normalisers_do_not_look_at_the_images(name: str):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 3), np.uint8)
    subtract, divide = NORMALIZERS[name](images)
    dark, unit = NORMALIZERS[name](images // 7), NORMALIZERS[name](images.astype(np.float32))
    np.testing.assert_array_equal(subtract, dark[0])
    expected = (images / np.float32(255) - unit[0]) / unit[1]
    np.testing.assert_allclose((images - subtract) / divide, expected, rtol=1e-4, atol=1e-5)


def test_imagenet_is_the_published_pair_and_another_number_of_channels_is_refused():
    subtract, divide = NORMALIZERS["imagenet"](np.zeros((1, 2, 2, 3), np.uint8))
    np.testing.assert_allclose(subtract.ravel() / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(divide.ravel() / 255, [0.229, 0.224, 0.225], rtol=1e-6)
    with pytest.raises(UsageError, match=r"--normalize.mean has 3 numbers and the images have 1 channel\."):
        NORMALIZERS["imagenet"](np.zeros((1, 2, 2, 1), np.uint8))
    given = knobs.resolve(classification, {"normalize": "fixed", "normalize.mean": "0.5,0.4,0.3", "normalize.std": "0.25"})
    assert given.values["data.normalize.mean"] == [0.5, 0.4, 0.3]


@pytest.mark.parametrize(("height", "width", "fraction", "filter"), [(300, 451, 0.875, "bicubic"), (97, 64, 0.95, "bilinear")])
def test_crop_is_the_evaluation_transform_of_torchvision_and_timm_to_the_bit(height, width, fraction, filter):
    """Resize(int(floor(size / crop_pct))) and CenterCrop(size), by the formulas of torchvision.transforms.functional."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    size, scale = 56, int(np.floor(56 / fraction))
    short, long = sorted((height, width))
    longer = int(scale * long / short)
    new = (longer, scale) if width > height else (scale, longer)
    resized = Image.fromarray(image).resize(new, Image.Resampling[filter.upper()])
    top, left = round((new[1] - size) / 2.0), round((new[0] - size) / 2.0)
    expected = np.asarray(resized.crop((left, top, left + size, top + size)))
    np.testing.assert_array_equal(crop(image[None], size, fraction=fraction, filter=filter)[0], expected)
    grey = crop(image[None, ..., :1].astype(np.float32), size, fraction=fraction, filter=filter)
    assert grey.shape == (1, size, size, 1) and abs(grey[0, ..., 0] - expected[..., 0]).max() <= 1.5


def test_names_of_files_go_with_their_examples_through_every_choice(tmp_path):
    for label in ("ant", "bee"):
        (tmp_path / label).mkdir()
        for number in range(10):
            image = np.full((4, 4, 3), 20 * number + 5 * (label == "bee"), np.uint8)
            Image.fromarray(image).save(tmp_path / label / f"{number}.png")
    made = knobs.resolve(classification, {"dataset": f"folder:{tmp_path}", "batch_size": 4, "validation": 0.2}).call()
    data = made.data
    assert data.example_names is not None
    rows = trained_function.kept_rows(made, {"rows": {"index": np.array([1, 0])}}, "test")
    assert rows["name"].tolist() == data.example_names("test", np.array([1, 0]))
    for split, size in data.sizes.items():
        images = data.images(split, np.arange(size))
        for name, image in zip(data.example_names(split, np.arange(size)), images, strict=True):
            label, number = name.removesuffix(".png").split("/")
            assert image[0, 0, 0] == 20 * int(number) + 5 * (label == "bee"), split


def test_a_run_of_an_older_version_says_that_its_normalisation_is_not_known(folder, caplog):
    one = resolved()
    program = run.build(one, spec_of(one))
    for fingerprint, said in ((program.experiment.data.fingerprint, False), ("another", True)):
        assert trained_function.with_inputs(program, {"fingerprint": fingerprint}, folder, precision="f32") is program
        assert ("did not keep how images are normalised" in caplog.text) is said


@pytest.mark.parametrize("batched", [False, True])
def test_a_run_that_goes_on_with_other_data_keeps_the_normalisation_of_its_checkpoint(batched: bool, tmp_path, caplog):
    images = TEST.images.astype(np.float32) / 255
    trained, states = [], []
    for factor in (1.0, 0.5):  # by statistics of their own, both are the same images
        np.savez(tmp_path / "d.npz", train_images=images * factor, train_labels=TEST.labels)
        one = resolved(dataset=f"npz:{tmp_path / 'd.npz'}", duration="6 steps", batch_size=16)
        spec = dataclasses.replace(spec_of(one), allow=("data",), stop_after=3 if factor == 1 else 5)
        program, target = run.build(one, spec), tmp_path / "run"
        with caplog.at_level(logging.INFO, "cnnlab"):
            if batched:
                run.train_batched([(program, target, spec, 0)])
            else:
                run.train_run(program, target, spec, 0, overwrite=False)
        trained.append(trained_function.read_inputs(target))
        states.append((program, run.restore_run(one, dataclasses.replace(spec, allow=("data",)), target, best=False)[1]))
    assert trained[0].is_same(trained[1]) and not trained[0].is_same(states[1][0].experiment.data.inputs)
    assert "is normalised as the training images of" in caplog.text
    # The same steps, with the specification of the first images written into the second data set by hand.
    (_, begun), (program, ended) = states
    data = dataclasses.replace(program.experiment.data, inputs=trained[0])
    by_hand = build_program(dataclasses.replace(program.experiment, data=data), program.strategy, precision="f32")
    steps, _ = by_hand.phase_at(3)
    state, feeds = by_hand.strategy.to_devices(begun), data.train(0, 3)
    for _ in range(2):
        feed = by_hand.strategy.shard_batch(stack_steps([next(feeds)]))
        state, _ = steps(state, by_hand.step_inputs("train"), feed)
    for found, expected in zip(jax.tree.leaves(ended.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_run_does_not_go_on_with_classes_in_another_order(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
    for names in (["ant", "bee"], ["bee", "ant"]):
        np.savez(tmp_path / "d.npz", train_images=images, train_labels=np.arange(20) % 2, class_names=names)
        one = resolved(dataset=f"npz:{tmp_path / 'd.npz'}", duration="2 steps", batch_size=4)
        spec = dataclasses.replace(spec_of(one), allow=("data",), stop_after=1)
        program = run.build(one, spec)
        if names[0] == "ant":
            run.train_run(program, tmp_path / "run", spec, 0, overwrite=False)
    with pytest.raises(DataError, match="with the same classes in the same order"):
        run.train_run(program, tmp_path / "run", spec, 0, overwrite=False)
