"""Networks of segmentation against torchvision's and pytorchcv's with the same weights: logits in f64 and f32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.interop import convert
from cnnlab.models import SEGMENTERS
from tests.parity import fixtures

pytestmark = [pytest.mark.parity, pytest.mark.slow]

KNOBS = {"fcn_resnet50": {"auxiliary": True}, "segnet": {"width": 0.125}}


def of_fixture(name):
    """The arrays of a network of the fixture."""
    path = fixtures.segmentation_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures segmentation` makes it (torch in an environment of its own)")
    with np.load(path) as file:
        return {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}


@pytest.mark.parametrize("name", KNOBS)
def test_logits_equal_the_reference(name):
    fixture = of_fixture(name)
    logits, signal = fixture["logits"].transpose(0, 2, 3, 1), float(fixture["signal"])  # [B, K, H, W] -> [B, H, W, K]
    assert signal >= 1e-2 * np.abs(logits).max(), "the reference hardly depends on the image: this comparison proves nothing"
    model = SEGMENTERS[name](classes=logits.shape[-1], **KNOBS[name])
    state = {leaf.removeprefix("state/"): value for leaf, value in fixture.items() if leaf.startswith("state/")}
    images = fixture["input"].transpose(0, 2, 3, 1)  # [B, C, H, W] -> [B, H, W, C]
    leaves, report = convert.convert(state, model, convert.shapes_of(model, images.shape[1:]))
    assert not (report.missing or report.unexpected or report.wrong or report.caveats)
    for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 1e-3)):
        with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
            variables = jax.tree.map(lambda leaf, dtype=dtype: jnp.asarray(leaf, dtype), convert.unflatten(leaves))
            apply = jax.jit(lambda variables, images: model.apply(variables, images, train=False))
            ours, values = jax.device_get(apply(variables, jnp.asarray(images, dtype)))
        np.testing.assert_allclose(ours, logits, rtol=0, atol=tolerance * signal, err_msg=str(dtype))
        if "auxiliary" in fixture:
            auxiliary = fixture["auxiliary"].transpose(0, 2, 3, 1)
            np.testing.assert_allclose(values["auxiliary"], auxiliary, rtol=0, atol=tolerance * signal, err_msg=str(dtype))


def test_weights_without_the_auxiliary_head_are_taken_from_a_file_that_has_it():
    fixture = of_fixture("fcn_resnet50")
    model = SEGMENTERS["fcn_resnet50"](classes=5)
    state = {leaf.removeprefix("state/"): value for leaf, value in fixture.items() if leaf.startswith("state/")}
    _, report = convert.convert(state, model, convert.shapes_of(model, (33, 33, 3)))
    assert all("aux" in name or "batches" in name for name in report.ignored) and any("aux" in name for name in report.ignored)
