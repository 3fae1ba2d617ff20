"""Pictures against a frozen network: named activations, Gram matrices, canvases, octaves, objectives and runs of synthesis."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamShapeError
from PIL import Image

from cnnlab import inspect, knobs
from cnnlab.errors import UsageError
from cnnlab.models.canvas import COLOURS, Fourier, Pixels
from cnnlab.models.convnet import ConvNet
from cnnlab.models.layers import Conv, MaxPool, flatten
from cnnlab.models.taps import layer_shapes, tapped
from cnnlab.ops.gram import gram, relative_distance
from cnnlab.ops.picture import gaussian_blur, jitter, total_variation
from cnnlab.recipes.synthesis import fast_style_transfer, picture_synthesis
from cnnlab.tasks.makers import octave_sizes
from cnnlab.tasks.objectives import activation, style_transfer, texture
from cnnlab.tasks.synthesis import TARGETS
from tests.commands import read
from tests.flipping import require_every_knob_does_something
from tests.stages import slow_but

SMALL = {"model": "convnet", "model.widths": "4,8", "control": "random_parameters", "classes": 10}
STRIPES = {**SMALL, "optimizer": "momentum", "dataset": "stripes", "dataset.examples": 24, "dataset.size": 8}
STYLE = {"objective": "style_transfer", "style_layers": "stage2", "content_layers": "stage2_conv1"}
OCTAVES = {"octaves": 2, "octave_scale": 2.0, "start": "picture", "jitter": 1, "total_variation": 0.5, "image_size": 10}
WORDS = [f"--{name}={value}" for name, value in SMALL.items()]


def resolved(**values):
    return knobs.resolve(picture_synthesis, {**SMALL, **values}, {"data_dir": None})


def picture_of(size: int, seed: int = 0) -> np.ndarray:
    """A picture f32 [1, size, size, 3] in [0, 1] of smooth colours."""
    return np.asarray(gaussian_blur(jax.random.uniform(jax.random.key(seed), (1, size, size, 3)), 1.0))


def test_gram_matrices_are_the_mean_products_of_channels():
    features = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    wide = features.astype(np.float64)
    np.testing.assert_allclose(gram(jnp.asarray(features)), np.einsum("bhwi,bhwj->bij", wide, wide) / 20, atol=1e-6)
    shuffled = features.reshape(2, 20, 3)[:, ::-1].reshape(features.shape)
    np.testing.assert_allclose(gram(jnp.asarray(shuffled)), gram(jnp.asarray(features)), atol=1e-6)  # places do not matter


def test_a_relative_distance_does_not_depend_on_the_scale_of_the_target():
    values, target = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), jnp.asarray([[3.0, 4.0]])
    np.testing.assert_allclose(relative_distance(values, target), [8 / 25, 0.0])
    np.testing.assert_allclose(relative_distance(7 * values, 7 * target), [8 / 25, 0.0], rtol=1e-6)


def test_taps_have_the_names_of_the_inspector_and_the_values_of_the_network():
    network, images = ConvNet(10, (4, 8)), jnp.asarray(picture_of(8))
    variables = network.init(jax.random.key(0), images, train=False)
    shapes = layer_shapes(network, images.shape[1:])
    assert {layer.name: layer.output for layer in inspect.layers(network, images.shape[1:])}.items() <= shapes.items()
    logits, intermediates = network.apply(variables, images, train=False)
    found = tapped(network, variables, images, ["stage1_conv2", "stage2", "output"])
    assert all(found[name].shape[1:] == shapes[name] for name in found)
    np.testing.assert_allclose(found["output"], logits)
    np.testing.assert_allclose(found["stage2"], intermediates["stage2"])
    with pytest.raises(UsageError, match=r"no layer 'stage9'. Did you mean .*stage.*\?\nLayers: stage1_conv1, .*output"):
        tapped(network, variables, images, ["stage9"])


class Pooled(nn.Module):
    """A convolution, a pooling by maxima and a head of a fixed size."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        x = MaxPool(2, name="pool")(Conv(4, 3, name="conv")(images))
        return nn.Dense(2, name="output")(flatten(x)), {}


def test_layers_before_a_dense_head_are_read_at_any_size_and_maxima_may_become_means():
    network, images = Pooled(), jnp.asarray(picture_of(8))
    variables = network.init(jax.random.key(0), images[:, :6, :6], train=False)
    maxima, means = (tapped(network, variables, images, ["pool"], average_pool=each)["pool"] for each in (False, True))
    before = np.asarray(tapped(network, variables, images, ["conv"])["conv"]).reshape(1, 4, 2, 4, 2, 4)
    np.testing.assert_allclose(maxima, before.max(axis=(2, 4)), rtol=1e-6)
    np.testing.assert_allclose(means, before.mean(axis=(2, 4)), atol=1e-6)
    with pytest.raises(UsageError, match="--average_pool: no MaxPool comes before conv whose maxima could become means"):
        tapped(network, variables, images, ["conv"], average_pool=True)
    with pytest.raises(ScopeParamShapeError):
        tapped(network, variables, images, ["output"])


def test_a_fourier_canvas_is_the_inverse_transform_of_its_coefficients_divided_by_frequency():
    canvas = Fourier(3, 6, 8, 3, noise=1.0, decorrelate=False)
    params = canvas.init(jax.random.key(1), jnp.arange(2, dtype=jnp.int32))
    spectrum = np.asarray(params["params"]["spectrum"], np.float64)[2]
    frequencies = np.hypot(np.fft.fftfreq(6)[:, None], np.fft.rfftfreq(8)[None])
    scaled = (spectrum[..., 0] + 1j * spectrum[..., 1]) * (np.sqrt(48) / np.maximum(frequencies, 1 / 8) / 4)[..., None]
    expected = np.fft.irfft2(scaled, s=(6, 8), axes=(0, 1))
    np.testing.assert_allclose(canvas.apply(params, jnp.asarray([2]))[0], expected, atol=1e-5)
    assert spectrum.shape == (6, 5, 3, 2)
    # Colours of photos lie along lightness: that axis is the longest, and of one sign.
    lengths = np.linalg.norm(COLOURS, axis=0)
    assert lengths.argmax() == 0 and (COLOURS[:, 0] > 0).all()
    coloured = Pixels(1, 2, 2, 3, noise=0.0).apply({"params": {"pixels": jnp.ones((1, 2, 2, 3))}}, jnp.asarray([0]))
    np.testing.assert_allclose(coloured[0, 0, 0], (COLOURS / lengths.max()).sum(axis=1), rtol=1e-6)


def test_regularisers_of_pictures_are_what_they_say():
    ramp = jnp.broadcast_to(jnp.arange(5.0)[None, :, None, None], (1, 5, 4, 2))
    np.testing.assert_allclose(total_variation(ramp), [1.0])
    np.testing.assert_allclose(gaussian_blur(jnp.ones((1, 5, 4, 2)), 1.5), 1.0, rtol=1e-6)
    pictures = jnp.arange(72.0).reshape(2, 6, 6, 1)
    keys = jax.random.split(jax.random.key(0), 2)
    moved = np.asarray(jitter(pictures, keys, 2))
    for before, after in zip(np.asarray(pictures), moved, strict=True):
        shifts = [(a, b) for a in range(-2, 3) for b in range(-2, 3) if np.array_equal(np.roll(before, (a, b), (0, 1)), after)]
        assert len(shifts) == 1
    np.testing.assert_array_equal(jitter(pictures + 1, keys, 2), moved + 1)  # the same keys shift other pictures alike
    assert jitter(pictures, keys, 0) is pictures and gaussian_blur(pictures, 0.0) is pictures


def test_octaves_go_from_coarse_to_fine_and_each_is_a_phase_of_one_player():
    assert octave_sizes((224, 112), 3, 2.0) == ((56, 28), (112, 56), (224, 112))
    experiment = resolved(
        objective="dream", layers="stage1", octaves=3, octave_scale=2.0, start="picture", image_size=32, duration="8 steps"
    ).call()
    assert [(phase.steps, phase.turns) for phase in experiment.phases] == [
        (2, ("octave1",)),
        (3, ("octave2",)),
        (3, ("octave3",)),
    ]
    with pytest.raises(UsageError, match="3 octaves need at least one step each"):
        resolved(objective="dream", layers="stage1", octaves=3, image_size=32, duration="2 steps").call()


def begun(experiment):
    """(params, model state, batch) with which the first phase starts."""
    data = experiment.data
    batch = jax.tree.map(jnp.asarray, data.prepare(data.resident["train"], next(data.train(0, 0)), None))
    params, state = jax.jit(experiment.task.init)(jax.random.key(0), batch)
    (begin, *_) = [phase.begin for phase in experiment.phases]
    if begin is None:
        return params, state, batch
    from cnnlab.core import TrainState

    whole = TrainState(jnp.zeros((), jnp.int32), jax.random.key(0), params, state, {}, {})
    return params, begin(whole, batch).model_state, batch


def test_a_picture_that_is_its_own_style_and_content_has_no_loss(tmp_path: pathlib.Path):
    """A picture that starts from the photo, whose style and content are those of the same photo."""
    pixels = np.rint(255 * np.clip(picture_of(16)[0], 0.02, 0.98)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    layers = {"style_layers": "stage1,stage2", "content_layers": "stage2_conv1", "style": str(tmp_path / "photo.png")}
    experiment = resolved(
        objective="style_transfer", dataset=f"photos:{tmp_path / 'photo.png'}", start="picture", noise=0.0, **layers
    ).call()
    params, state, batch = begun(experiment)
    measured = experiment.task.summary(jax.jit(experiment.task.measure)(params, state, batch))
    assert measured["style_loss"] < 1e-6 and measured["content_loss"] < 1e-6 and measured["total_variation"] > 1e-5
    assert {name: leaf.shape for name, leaf in state[TARGETS]["image"].items()} == {"stage1": (1, 4, 4), "stage2": (1, 8, 8)}
    other = resolved(objective="style_transfer", dataset=f"photos:{tmp_path / 'photo.png'}", **layers).call()
    assert experiment.task.summary(jax.jit(other.task.measure)(*begun(other)))["style_loss"] > 1e-3


def test_a_run_of_no_steps_measures_by_the_targets_that_training_begins_with():
    values = {"objective": "texture", "layers": "stage1", "dataset": "blank", "dataset.size": 16}
    trained, untrained = (resolved(**values, duration=f"{steps} steps").call() for steps in (1, 0))
    params, state, batch = begun(trained)
    zeros = jax.tree.map(jnp.zeros_like, state[TARGETS])
    found = jax.jit(untrained.task.measure)(params, {**state, TARGETS: zeros}, batch)
    expected = jax.jit(trained.task.measure)(params, state, batch)
    np.testing.assert_allclose(found["sums"]["style_loss"], expected["sums"]["style_loss"], rtol=1e-5)
    assert 0.01 < float(expected["sums"]["style_loss"]) < 100


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"control": "none"}, r"--init_from is not given.\nGive a file of weights"),
        ({"init_from": "x.npz"}, "Leave one of them out"),
        ({"normalize": "standard"}, "expected the fixed numbers"),
        ({"objective": "dream", "layers": "stage1,stage7"}, "no layer 'stage7'"),
        ({"dataset.labels": "3,10"}, r"class 10, and the classes of the network are 0 … 9"),
        ({"objective": "class_score", "layer": "stage1"}, "are no logits"),
        ({"dataset": "sample_photos", "image_size": 16}, "this objective needs the class of every image"),
        ({"model": "lenet5", "dataset.size": 20}, r"does not take pictures of 20x20.*\n.*made for 224x224"),
    ],
)
def test_what_cannot_be_synthesised_is_said_before_anything_compiles(values, said):
    base = {name: value for name, value in SMALL.items() if name != "model.widths" or values.get("model") is None}
    base = {**base, "dataset": "blank", "dataset.size": 16, **values}
    base = {name: value for name, value in base.items() if base["dataset"] == "blank" or name != "dataset.size"}
    with pytest.raises(UsageError, match=said):
        knobs.resolve(picture_synthesis, base, {"data_dir": None}).call()


def test_a_channel_that_does_not_exist_is_said_with_those_that_do():
    batch = {"index": jnp.zeros(1, jnp.int32)}
    with pytest.raises(UsageError, match=r"--channels=1,4: stage1 has the channels 0 … 3\."):
        activation(layer="stage1", channels=(1, 4)).losses({"stage1": jnp.zeros((1, 2, 2, 4))}, {}, {}, batch)


def test_a_run_of_synthesis_is_stopped_goes_on_and_leaves_its_pictures(here, tmp_path: pathlib.Path):
    words = ["train", "--experiment=class_image", "--workdir=run", *WORDS, "--dataset.size=16", "--labels=3,7"]
    words += ["--steps=4", "--devices=1"]
    assert here(*words, "--stop_after=2")[0] == 0
    code, out, _ = here(*words)
    result = read(tmp_path / "run" / "result.json")
    assert code == 0 and "test" in out and result["steps"] == 4
    assert np.isfinite(result["metrics"]["test/score"]) and 0 < result["metrics"]["test/confidence"] < 1
    with Image.open(tmp_path / "run" / "figures" / "picture_1.png") as picture:
        assert picture.size == (16, 16)
    sheets = sorted(path.name for path in (tmp_path / "run" / "snapshots" / "pictures").iterdir())
    assert sheets[-1] == "00000004.png" and (tmp_path / "run" / "figures" / "pictures.webp").exists()


@pytest.mark.slow
def test_a_picture_of_a_class_for_the_network_of_a_run(here, tmp_path: pathlib.Path):
    """The run brings its network, its normalisation and its channels."""
    trained = [
        "train",
        "--experiment=convnet_digits",
        "--model.widths=8,16",
        "--epochs=15",
        "--workdir=digits",
        "--log_level=warning",
    ]
    code, _, err = here(*trained, "--devices=1")
    assert code == 0, err
    words = ["train", "--experiment=class_image", "--init_from=digits", "--dataset.size=8", "--labels=3,7", "--steps=150"]
    words += ["--devices=1", "--blur=0", "--total_variation=0", "--octaves=1"]
    code, _, err = here(*words, "--workdir=run", "--jitter=0")
    assert code == 0, err
    assert read(tmp_path / "run" / "result.json")["metrics"]["test/confidence"] > 0.9
    with Image.open(tmp_path / "run" / "figures" / "picture_0.png") as picture:
        assert picture.size == (8, 8)
    code, _, err = here("train", "--experiment=class_image", "--init_from=run", "--workdir=second", "--devices=1")
    assert code == 2 and "expected the run of a classifier" in err


@pytest.mark.slow
def test_gram_matrices_of_a_real_network_are_reached(here, shared_data, tmp_path: pathlib.Path):
    weights = shared_data / "weights" / "efficientnet_lite0.safetensors"
    words = ["train", "--experiment=texture", f"--init_from={weights}", "--dataset.size=64", "--steps=90", "--workdir=run"]
    code, _, err = here(*words, "--devices=1", "--octaves=1")
    assert code == 0, err
    lines = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if "train/style_loss" in line]
    assert lines[-1]["train/style_loss"] < 0.5 * lines[0]["train/style_loss"]


def read_lines(path: pathlib.Path):
    from cnnlab import files

    return files.read_lines(path)[0]


FLIPPED = {
    "layers": "stage1",
    "style_layers": "stage1",
    "content_layers": "stage1",
    "layer": "stage2",
    "channels": "1",
    "at": "centre",
    "by": "probability",
    "objective": "class_score",
    "image_size": 12,
    "classes": 11,
}
"""Values of knobs that a rule does not find."""
ELSEWHERE = ("init_from", "control", "model", "average_pool", "objective.style", "objective.style_scale")
"""Knobs that need a file, weights, another network or a MaxPool, or act before the first step: tests above and below."""


BASES = [
    (None, {**STYLE, **OCTAVES}),
    ("objective", STYLE),
    ("basis", STYLE),
    ("basis", {**STYLE, "basis": "pixels"}),
    ("objective", {"objective": "texture", "objective.layers": "stage2"}),
    ("objective", {"objective": "dream", "objective.layers": "stage2"}),
    ("objective", {"objective": "inversion", "objective.layers": "stage2"}),
    ("objective", {"objective": "activation", "objective.layer": "stage1"}),
    ("objective", {"objective": "class_score"}),
]


@pytest.mark.parametrize(("below", "base"), slow_but(BASES, thorough=BASES[2:]))
def test_every_knob_of_synthesis_does_something(below: str | None, base: dict[str, object]):
    """Of class_score the layer, which is `output` or one of the same logits, is left out."""
    but = (*ELSEWHERE, "objective.layer") if base["objective"] == "class_score" else ELSEWHERE
    given = {**STRIPES, "duration": "40 steps", **base}
    require_every_knob_does_something(picture_synthesis, given, below=below, others=FLIPPED, but=but)


@pytest.mark.slow
@pytest.mark.thorough
def test_every_knob_of_fast_style_transfer_and_its_network_does_something():
    given = {**STRIPES, **STYLE, "duration": "40 steps", "image_size": 16, "batch_size": 4, "width": 2, "blocks": 1}
    for below in (None, "transformer_network"):
        require_every_knob_does_something(fast_style_transfer, given, below=below, others=FLIPPED, but=ELSEWHERE)


@pytest.mark.parametrize("objective", [texture, style_transfer])
def test_the_picture_of_a_style_has_the_size_that_is_asked_for(objective):
    """It is read before the first step, so no step has the number in it."""
    for scale, side in ((1.0, 16), (0.5, 8)):
        reference = objective(style_scale=scale).reference
        assert reference is not None and min(reference((16, 20, 3)).shape[:2]) == side
