"""A network that was really trained on ImageNet, imported, names what is on photos."""

import json
import pathlib
import tarfile

import numpy as np
import pytest

from tests.photos import lite0, logits, written

SEEN = {
    "chelsea.png": ((282, "tiger cat", 0.3928), (285, "Egyptian cat", 0.3563), (281, "tabby", 0.1695)),
    "coffee.png": ((967, "espresso", 0.9514), (968, "cup", 0.0151)),
    "rocket.jpg": ((657, "missile", 0.2736), (744, "projectile", 0.1895)),
    "tubingen.jpg": ((449, "boathouse", 0.1454), (975, "lakeside", 0.1345), (483, "castle", 0.1305)),
    "astronaut.png": ((560, "football helmet", 0.1616),),
}
"""{photo: (class, its name, probability)} of timm 1.0.31 with the same weights (tests/parity compares the rest). The astronaut
is named wrongly, as there."""


@pytest.mark.slow
def test_an_imported_network_names_what_is_on_photos(
    shared_data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with tarfile.open(shared_data / "photos" / "photos.tar") as tar:
        contents = {name: tar.extractfile(f"photos/content/{name}").read() for name in SEEN}  # type: ignore[union-attr]
    variables, _ = lite0(shared_data / "weights" / "efficientnet_lite0.safetensors")
    found = logits(written(contents, tmp_path / "photos"), variables, np.float32)
    names = json.loads((shared_data / "weights" / "imagenet_classes.json").read_text(encoding="utf-8"))
    for photo, classes in SEEN.items():
        exponentials = np.exp(found[photo] - found[photo].max())
        probabilities = exponentials / exponentials.sum()
        order = np.argsort(-probabilities)[: len(classes)].tolist()
        assert order == [number for number, _, _ in classes], photo
        np.testing.assert_allclose(probabilities[order], [share for *_, share in classes], atol=0.0002, err_msg=photo)
        assert all(name.lower() in str(names[number]).lower() for number, name, _ in classes)
