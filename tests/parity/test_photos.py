"""From image files to logits: decoding, resizing, cropping, normalisation and network against timm's transform and network."""

import pathlib

import numpy as np
import pytest

from tests.parity import fixtures
from tests.photos import lite0, logits, written

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def test_logits_equal_timm_from_the_file_on(shared_data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    path = fixtures.photos_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures photos` makes it (torch in an environment of its own)")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fixture = dict(np.load(path))
    files = {key.partition("/")[2]: value.tobytes() for key, value in fixture.items() if key.startswith("file/")}
    assert {"chelsea.png", "rocket.jpg", "grey.png", "palette.png", "cmyk.jpg"} <= set(files) and len(files) == 16
    variables, report = lite0(shared_data / "weights" / "efficientnet_lite0.safetensors")
    assert report.library == "efficientnet_pytorch" and not report.caveats
    expected = np.stack([fixture[f"logits/{name}"] for name in files])
    signal = np.abs(expected - expected[:1]).max()
    root = written(files, tmp_path / "photos")
    # Images are normalised in f32 by both, so that the network gets inputs that are equal to about 1e-7.
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-4)):
        found = logits(root, variables, dtype)
        ours = np.stack([found[name] for name in files])
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * signal, err_msg=str(dtype))
        np.testing.assert_array_equal(ours.argmax(1), expected.argmax(1))
