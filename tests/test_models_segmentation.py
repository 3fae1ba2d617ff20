"""What a network of segmentation has to do, whichever it is, and what each is known for."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

from cnnlab import inspect, knobs
from cnnlab.errors import UsageError
from cnnlab.interop import convert, export
from cnnlab.models import MODELS, SEGMENTERS, fcn, norms, unet
from cnnlab.models.dense_maps import BACKBONES
from cnnlab.models.resnet import ResNet
from cnnlab.ops import tiles, trees, upsample
from tests import jitted
from tests.equalities import float_equalities
from tests.stages import slow_but
from tests.zoo import kinds, thin

KEY = jax.random.key(0)
PUBLISHED = [  # name, knobs, image, parameters, multiply-accumulates, source
    ("unet_2015", {"classes": 2, "border": "none"}, (572, 572, 1), 31_030_658, 150_428_424_448, "Ronneberger et al. 2015"),
    ("unet", {"classes": 2}, (64, 64, 3), 31_037_698, None, "the same layers with norms"),
    ("fcn32s", {"classes": 21, "upsampling": "learnt"}, (500, 500, 3), 134_346_581 + 1_806_336, 181_365_854_976, "net.py"),
    ("fcn16s", {"classes": 21, "upsampling": "learnt"}, (500, 500, 3), 134_357_354 + 458_640, 181_448_086_272, "net.py"),
    ("fcn8s", {"classes": 21, "upsampling": "learnt"}, (500, 500, 3), 134_362_751 + 127_008, 181_529_034_048, "net.py"),
    ("fcn8s", {"classes": 2}, (64, 64, 3), 134_270_278, None, "net.py, without the fixed upsampling"),
    ("fcn_resnet50", {"classes": 21}, (520, 520, 3), 32_957_013, 142_725_772_800, "torchvision"),
    ("fcn_resnet50", {"classes": 21, "auxiliary": True}, (64, 64, 3), 35_322_218, None, "torchvision"),
    ("fcn_resnet101", {"classes": 21}, (64, 64, 3), 51_949_141, None, "torchvision"),
    ("deconvnet", {"classes": 21}, (224, 224, 3), 251_805_653, 32_745_979_904, "the authors' prototxt"),
    ("segnet", {"classes": 11}, (360, 480, 3), 29_449_355, 106_712_432_640, "the authors' prototxt"),
    ("segnet_basic", {"classes": 11}, (64, 64, 3), 1_416_587, None, "the authors' prototxt"),
]
SMALL = functools.partial(ResNet, stages=(1, 1, 1), block="basic", channels=4)
DILATED = functools.partial(SMALL, dilated=1)
THIN = {
    "unet": {"width": 2, "levels": 2},
    "unet_2015": {"width": 2, "levels": 2, "dropout": 0.0},
    "fcn32s": {"width": 0.03},
    "fcn16s": {"width": 0.03},
    "fcn8s": {"width": 0.03},
    "fcn_resnet50": {"backbone": DILATED, "auxiliary": True},
    "fcn_resnet101": {"backbone": SMALL},
    "deconvnet": {"width": 0.03, "grid": 1},
    "segnet": {"width": 0.03},
    "segnet_basic": {"width": 0.06},
    "full_resolution": {"width": 3, "depth": 2, "dilated": True},
    "patch_classifier": {"widths": (2, 3), "hidden": (4, 4)},
}
"""Knobs with which each network is cheap."""
FORMS = [
    *THIN.items(),
    ("unet", {"width": 2, "backbone": SMALL, "up": "bilinear"}),
    ("unet", {"width": 2, "backbone": SMALL, "up": "nearest", "skips": False}),
    ("unet_2015", {"width": 2, "levels": 1, "skips": False}),
    ("fcn8s", {"width": 0.03, "upsampling": "learnt", "at_once": True}),
    ("fcn8s", {"backbone": SMALL}),
    ("fcn16s", {"backbone": DILATED, "upsampling": "learnt"}),
    ("segnet", {"width": 0.03, "unpool": "nearest", "dropout": 0.5}),
    ("segnet_basic", {"width": 0.06, "unpool": "nails"}),
    ("patch_classifier", {"widths": (2, 3), "hidden": (4, 4), "form": "sliding"}),
]
FAST = [FORMS[0], FORMS[4], FORMS[len(THIN)]]


def random_variables(model, images):
    """Variables with weights that are random whatever the model's own initialiser."""

    @jax.jit
    def start():
        variables = model.init(KEY, images, train=False)
        leaves, structure = jax.tree.flatten(variables["params"])
        noise = [leaf + 0.1 * jax.random.normal(jax.random.fold_in(KEY, i), leaf.shape) for i, leaf in enumerate(leaves)]
        return {**variables, "params": jax.tree.unflatten(structure, noise)}

    return start()


@pytest.mark.parametrize(
    ("name", "knobs", "shape", "params", "macs", "source"),
    slow_but(PUBLISHED, "unet_2015", PUBLISHED[5], "segnet_basic"),
)
def test_parameters_and_macs_are_the_published_ones(name, knobs, shape, params, macs, source):
    total = inspect.as_json(inspect.layers(SEGMENTERS[name](**knobs), shape))["total"]
    assert total["params"] == params, source
    assert macs is None or total["macs"] == macs, source


def test_every_network_of_segmentation_is_tested():
    assert set(THIN) | {"otsu"} == set(SEGMENTERS)  # that has no parameters: tests/test_models_thresholds.py


@pytest.mark.parametrize("name", inspect.INSPECTED)
def test_every_network_can_be_chosen_with_its_defaults(name):
    assert knobs.resolve(inspect.of_model, {"model": name}).values["model"] == name


def assert_complete(model, shape):
    """Every pixel of images of a shape has logits, and every parameter takes part; returns the number of heads."""
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), KEY, images)
    seen = {}

    def outputs(variables, images):
        logits, values = model.apply(variables, images, train=False)
        seen.update({name: value.shape for name, value in values.items()})
        return [logits, *(value for name, value in values.items() if name.startswith("auxiliary"))]

    jaxpr, found = jax.make_jaxpr(outputs, return_shape=True)(variables, images)
    assert {each.shape for each in found} == {(*shape[:3], model.classes)} == {seen["output"]}
    _, used = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(found))
    idle = [path for path, needed in zip(trees.flatten(variables), used, strict=False) if not needed]
    assert not idle, f"nothing depends on {idle}"
    return len(found)


@pytest.mark.parametrize(("name", "knobs"), slow_but(FORMS, *FAST))
def test_every_pixel_has_logits_and_every_parameter_takes_part(name, knobs):
    assert assert_complete(SEGMENTERS[name](classes=3, **knobs), (2, 37, 45, 3)) == 1 + bool(knobs.get("auxiliary"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "knobs"), FORMS)
def test_an_image_of_a_row_is_taken_and_no_gradient_compares_floats(name, knobs):
    model = SEGMENTERS[name](classes=2, **knobs)
    images = jax.ShapeDtypeStruct((1, 1, 3, 1), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), KEY, images)
    state = sorted(set(variables) - {"params"})

    def loss(params, rest, images):
        (logits, _), _ = model.apply(
            {"params": params, **rest}, images, train=True, mutable=state, rngs={"dropout": jax.random.key(1)}
        )
        assert logits.shape == (1, 1, 3, 2)
        return jnp.sum(logits)

    rest = {name: variables[name] for name in state}
    equalities = float_equalities(jax.make_jaxpr(jax.grad(loss))(variables["params"], rest, images).jaxpr)
    assert not equalities, f"compared by == are floats in {equalities}"


@pytest.mark.parametrize("name", slow_but(THIN, thorough=("deconvnet", "segnet")))
def test_a_prediction_does_not_depend_on_company_on_export_or_much_on_precision(name, tmp_path):
    model = SEGMENTERS[name](classes=3, **THIN[name])
    images = jax.random.normal(KEY, (3, 21, 18, 1))
    variables = random_variables(model, images)
    exact, seen = jitted.apply(model, variables, images, train=False)
    scale = float(jnp.abs(exact).max())
    assert np.isfinite(exact).all() and scale > 0
    np.testing.assert_array_equal(seen["output"], exact)
    others, _ = jitted.apply(model, variables, images.at[jnp.array([0, 1])].multiply(2.0), train=False)
    np.testing.assert_allclose(others[2], exact[2], atol=1e-5 * scale)
    assert not np.allclose(others[1], exact[1], atol=1e-2 * scale)
    assert_exported(model, variables, images, exact, tmp_path)
    halves = {**variables, "params": jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), variables["params"])}
    rough, _ = jitted.apply(model, halves, images.astype(jnp.bfloat16), train=False)
    assert rough.dtype == jnp.bfloat16 and np.isfinite(rough.astype(jnp.float32)).all()
    assert float(jnp.linalg.norm(rough.astype(jnp.float32) - exact)) < 0.2 * float(jnp.linalg.norm(exact))


def assert_exported(model, variables, images, expected, folder):
    """The weights come back from a file bit for bit, and the program from a file gives the same logits."""
    export.write_safetensors(folder / "x.safetensors", variables, {})
    given, report = convert.start_from(variables, model, folder / "x.safetensors")
    assert report.library == "cnnlab" and jax.tree.all(jax.tree.map(np.array_equal, given, variables))
    predict = functools.partial(model.apply, train=False)
    export.write_stablehlo(folder / "x.stablehlo", lambda *given: predict(*given)[0], variables, images.shape[1:])
    program = export.load_stablehlo(folder / "x.stablehlo")
    np.testing.assert_allclose(program(images), expected, atol=1e-5 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("name", slow_but(THIN, thorough=[each for each in THIN if each != "segnet_basic"]))
def test_eight_devices_give_the_gradient_of_one(name):
    """In f64; the contract table has whole runs of U-Net.

    In f32 the curves of SegNet and DeconvNet part within ten steps, by rounding alone: they do so on one device, too, when the
    weights that they start from are changed by 3e-16 of themselves in f64.
    """
    model = SEGMENTERS[name](classes=3, **THIN[name])
    started = jitted.init(model, KEY, jnp.zeros((1, 32, 32, 3)), train=False)
    with jax.enable_x64(True):
        rest = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), started)
        params = rest.pop("params")
        draw = np.random.default_rng(0)
        images, labels = draw.normal(size=(16, 32, 32, 3)), draw.integers(0, 3, (16, 32, 32))

        @jax.jit
        @jax.value_and_grad
        def loss(params, images, labels):
            how = {"train": True, "mutable": list(rest), "rngs": {"dropout": KEY}}
            (logits, _), _ = model.apply({"params": params, **rest}, images, **how)
            return -jnp.mean(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, 3, dtype=logits.dtype))

        value, gradient = loss(params, images, labels)
        rows = jax.NamedSharding(jax.sharding.Mesh(np.array(jax.devices()), ("rows",)), jax.P("rows"))
        shared_value, shared = loss(params, *jax.device_put((images, labels), rows))
    assert float(shared_value) == pytest.approx(float(value), rel=1e-12)
    for path, leaf in trees.flatten(gradient).items():
        size = np.abs(leaf).max()
        np.testing.assert_allclose(trees.flatten(shared)[path], leaf, rtol=0, atol=1e-9 * size + 1e-12, err_msg=path)


ENCODERS = ("alexnet_two_tower", "vgg11_a", "resnet18", "preact_resnet18")
"""Networks that are tried as encoders in the slow stage; the others are so by hand."""


@pytest.mark.parametrize("name", slow_but(kinds(), thorough=[each for each in kinds() if each not in ENCODERS]))
def test_every_network_of_the_zoo_can_be_the_encoder(name):
    backbone = functools.partial(MODELS[name], **{knob: value for knob, value in thin(name).items() if knob != "stem"})
    model = SEGMENTERS["unet"](classes=3, width=2, backbone=backbone)
    assert_complete(model, (2, 97, 130, 3))


def test_a_network_without_maps_is_no_encoder():
    images = jnp.zeros((1, 8, 8, 1))
    with pytest.raises(UsageError, match=r"Linear cannot be an encoder: .*\nTake a convolutional network"):
        jitted.init(SEGMENTERS["unet"](classes=2, backbone=MODELS["linear"]), KEY, images, train=False)


def test_the_fcn_of_torchvision_has_no_encoder_of_its_own():
    model = SEGMENTERS["fcn_resnet50"](classes=2, backbone=BACKBONES["none"])
    with pytest.raises(UsageError, match="no encoder of its own"):
        jitted.init(model, KEY, jnp.zeros((1, 8, 8, 1)), train=False)


@pytest.mark.slow
def test_too_small_an_image_for_deconvnet_names_the_smallest_that_works():
    images = jax.ShapeDtypeStruct((1, 192, 193, 3), jnp.float32)
    with pytest.raises(UsageError, match=r"192x193 is too small: layer fc6/conv needs .*\n.*smallest image .* is 193x193"):
        jax.eval_shape(functools.partial(SEGMENTERS["deconvnet"](classes=2, width=0.03).init, train=False), KEY, images)


@pytest.mark.slow
def test_overlapping_tiles_of_the_published_unet_give_the_prediction_of_the_whole_image():
    assert unet.valid_size(388, 4) == (572, 388)
    model = unet.UNet2015(classes=2, width=2, levels=2, border="none")
    whole, tile = unet.valid_size(20, 2), unet.valid_size(8, 2)
    started = jitted.init(model, KEY, jnp.zeros((1, tile[0], tile[0], 1)), train=False)
    with jax.enable_x64(True):
        image = np.random.default_rng(0).normal(size=(1, whole[0], tile[0], 1))
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), started)
        expected, _ = jitted.apply(model, variables, image, train=False)
        assert expected.shape == (1, whole[1], tile[1], 2)
        for start in range(0, whole[1] - tile[1] + 1, 4):  # tiles lie a multiple of 2^levels apart
            logits, _ = jitted.apply(model, variables, image[:, start : start + tile[0]], train=False)
            np.testing.assert_allclose(logits, expected[:, start : start + tile[1]], rtol=0, atol=1e-13)
        # What the border is continued by is a reflection: a prediction for the middle is that for the image continued by hand.
        mirror = model.clone(border="mirror")
        middle = image[:, :8, :8]
        continued = np.pad(middle, ((0, 0), (20, 20), (20, 20), (0, 0)), mode="reflect")
        padded, _ = jitted.apply(model, variables, continued, train=False)
        np.testing.assert_allclose(jitted.apply(mirror, variables, middle, train=False)[0], padded, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(110, 133), (20, 31)])
def test_tiles_of_a_large_image_give_what_the_whole_image_gives_where_they_see_enough(shape):
    """A U-Net of one level sees 10 pixels around; half of the overlap is 16."""
    model = unet.UNet(classes=2, width=2, levels=1)
    images = jax.random.normal(KEY, (2, *shape, 1))
    variables = random_variables(model, images[:, :16, :16])
    expected, _ = jitted.apply(model, variables, images, train=False)
    seen = []

    def whole(part):
        seen.append(part.shape)
        return model.apply(variables, part, train=False)[0]

    found = jax.jit(lambda images: tiles.in_tiles(whole, images, 96, 32))(images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))
    assert set(seen) == {(2, 78, 69, 1) if shape[0] > 96 else (2, *shape, 1)}


def test_tiles_that_see_too_little_differ_at_the_borders_between_them_alone():
    def blurred(images):  # the mean of 41 pixels of a row
        return jax.lax.reduce_window(images, 0.0, jax.lax.add, (1, 1, 41, 1), (1, 1, 1, 1), "SAME") / 41

    images = jax.random.normal(KEY, (1, 3, 160, 1))
    gap = np.abs(tiles.in_tiles(blurred, images, 96, 32) - blurred(images))[0, 0, :, 0]
    assert set(np.flatnonzero(gap > 1e-6)) == set(
        range(76, 84)
    )  # less than 20 from an edge at 64 or 96, up to the border at 80


@pytest.mark.slow
def test_fcn16s_with_zero_skips_is_fcn32s():
    images = jax.random.normal(KEY, (1, 40, 33, 3))
    models = {skips: fcn.FCN(classes=3, width=0.03, skips=skips) for skips in (0, 1, 2)}
    coarse = random_variables(models[0], images)
    expected, seen = jitted.apply(models[0], coarse, images, train=False)
    for skips in (1, 2):
        variables = jitted.init(models[skips], KEY, images, train=False)
        assert not any(np.any(variables["params"][f"score{level}"]["kernel"]) for level in (5, 4, 3) if level >= 5 - skips)
        started = {**variables, "params": {**variables["params"], **coarse["params"]}}
        logits, joined = jitted.apply(models[skips], started, images, train=False)
        np.testing.assert_array_equal(joined["score5"], seen["score5"])
        np.testing.assert_allclose(joined["score4"], jax.jit(upsample.spread, static_argnums=1)(seen["score5"], 2), rtol=1e-6)
        # Interpolating in steps rounds off the corners of what is interpolated at once, and is equal between them.
        steps, offset = (1, 4) if skips == 1 else (1, 1, 3), fcn.IMAGE_OFFSETS[skips]
        whole = jax.jit(lambda x, steps=steps: functools.reduce(lambda x, n: upsample.spread(x, 2**n), steps, x))(
            seen["score5"]
        )
        np.testing.assert_allclose(logits, whole[:, offset : offset + 40, offset : offset + 33], atol=1e-4)
        assert float(jnp.linalg.norm(logits - expected)) < 0.2 * float(jnp.linalg.norm(expected))


def test_the_offsets_of_fcn_put_scores_of_all_strides_to_the_same_pixels():
    rows = np.broadcast_to(np.arange(9, dtype=np.float32)[None, :, None, None], (1, 9, 9, 1))  # linear: interpolation keeps it

    def at_image(steps):
        x = jnp.asarray(rows)
        for levels in steps:
            x = upsample.spread(x, 2**levels)
        start = fcn.IMAGE_OFFSETS[len(steps) - 1]
        return np.asarray(x[0, start + 60 : start + 160, start + 60, 0])  # away from the border

    expected = (60 + np.arange(100) + 19.5) / 32 - 1
    for steps in ((5,), (1, 4), (1, 1, 3)):
        np.testing.assert_allclose(at_image(steps), expected, atol=1e-5)


@pytest.mark.parametrize("block", slow_but(["basic", "bottleneck"], "bottleneck"))
def test_a_dilated_resnet_computes_the_same_at_more_positions(block):
    plain = functools.partial(ResNet, classes=0, stages=(1, 1), block=block, channels=2, stem="small", norm=norms.no_norm)
    images = jax.random.normal(KEY, (1, 7, 6, 1))
    variables = jitted.init(plain(), KEY, images, train=False)
    _, coarse = jitted.apply(plain(), variables, images, train=False)
    _, fine = jitted.apply(plain(dilated=1), variables, images, train=False)
    assert fine["stage2"].shape[1:3] == (7, 6) and coarse["stage2"].shape[1:3] == (4, 3)
    np.testing.assert_allclose(fine["stage2"][:, ::2, ::2], coarse["stage2"], atol=1e-5)


@pytest.mark.slow
def test_two_dilated_stages_have_taps_twice_and_four_times_as_far_apart():
    plain = functools.partial(ResNet, classes=0, stages=(1, 2, 2), channels=2, stem="small")
    images = jax.random.normal(KEY, (1, 13, 10, 1))
    variables = random_variables(plain(), images)
    _, coarse = jitted.apply(plain(), variables, images, train=False)
    _, fine = jitted.apply(plain(dilated=2), variables, images, train=False)
    assert fine["stage3"].shape[1:3] == (13, 10) and coarse["stage3"].shape[1:3] == (4, 3)
    np.testing.assert_allclose(fine["stage3"][:, ::4, ::4], coarse["stage3"], atol=1e-4)


def test_a_classifier_slid_over_an_image_is_its_fully_convolutional_form():
    dense = SEGMENTERS["patch_classifier"](classes=3, widths=(2, 3), hidden=(4, 5), grid=2)
    assert dense.patch == 14
    images = jax.random.normal(KEY, (2, 7, 9, 2))
    variables = random_variables(dense, images)
    expected, _ = jitted.apply(dense.clone(form="sliding"), variables, images, train=False)
    np.testing.assert_allclose(jitted.apply(dense, variables, images, train=False)[0], expected, atol=1e-5)


def test_a_network_of_segmentation_can_be_inspected_by_name(here):
    code, out, err = here("inspect", "--model=full_resolution", "--model.width=4", "--model.depth=2", "--format=json")
    assert code == 0, err
    last = json.loads(out)["layers"][-1]
    assert (last["name"], last["output"], last["receptive_field"]) == ("output", [256, 256, 21], [5, 5])
