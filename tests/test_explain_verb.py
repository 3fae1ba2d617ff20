"""The verb explain: one page for a run or for imported weights, and one clear line for what cannot be shown."""

import pathlib
import re
import tarfile

import jax.numpy as jnp
import numpy as np
import pytest
from commands import Here, command
from PIL import Image

from cnnlab.explain import opening
from cnnlab.explain.checks import pointing
from cnnlab.explain.examples import read_examples
from cnnlab.explain.methods import fitted
from cnnlab.explain.network import scores

TRAIN = ("--experiment=lenet5_digits", "--steps=2", "--batch_size=32", "--devices=1", "--workdir=run")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with a run of LeNet-5 and two images of other sizes, one of which is no image."""
    place = tmp_path_factory.mktemp("explain")
    code, _, err = command(*TRAIN, cwd=place)
    assert code == 0, err
    (place / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "images" / "a.png")
    (place / "images" / "b.png").write_bytes(b"no image")
    return place


@pytest.fixture
def explain(place: pathlib.Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(place)
    return lambda *words: here("explain", *words)


def test_one_page_holds_all_pictures_and_they_lie_beside_it(explain: Here, place: pathlib.Path):
    code, out, err = explain("--workdir=run", "--what=saliency,grad_cam", "--count=2", "--layer=conv2")
    assert code == 0 and "run/explain/explain.html: 1 part, and 6 pictures beside it" in out, err
    page = (place / "run" / "explain" / "explain.html").read_text(encoding="utf-8")
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 6 and "Layer: conv2." in page
    assert "http" not in re.sub(r"http-equiv", "", page) and "the test split" in page and "prefers-color-scheme: dark" in page
    names = sorted(path.name for path in (place / "run" / "explain").glob("*.png"))
    assert names == [f"{kind}_{n}.png" for kind in ("grad_cam", "image", "saliency") for n in (1, 2)]
    with Image.open(place / "run" / "explain" / "saliency_1.png") as picture:
        assert picture.size == (128, 128)


@pytest.mark.slow
def test_images_of_a_folder_are_explained_for_a_class_and_those_that_cannot_be_read_are_named(
    explain: Here, place: pathlib.Path, caplog: pytest.LogCaptureFixture
):
    words = ("--what=gradient_x_input", "--class=3")
    code, _, err = explain("--workdir=run", "--images=images", *words, "--to=page")
    assert code == 0, err
    page = (place / "page" / "explain.html").read_text(encoding="utf-8")
    assert "left out: images/b.png" in caplog.text and "explained: 3 (" in page and "a.png" in page
    # The same weights read as a file of another program would be: normalised otherwise, with names of their own.
    (place / "names.txt").write_text("\n".join(f"digit {number}" for number in range(10)), encoding="utf-8")
    network = ("--model=lenet5", "--init_from=run", "--class_names=names.txt", "--image_size=32")
    code, _, err = explain(*network, "--images=images", *words, "--to=imported")
    assert code == 0, err
    page = (place / "imported" / "explain.html").read_text(encoding="utf-8")
    assert "explained: digit 3 (" in page and "lenet5, weights of run" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workdir=run", "--what=gradcam"), "--what=gradcam: there is no such part. Did you mean grad_cam?"),
        (("--workdir=run", "--model=lenet5"), "--model and --workdir both say which network"),
        (("--model=lenet5",), "explain which network?"),
        (("--model=lenet5", "--init_from=run"), "Add --images=FOLDER"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(here: Here, words: tuple[str, ...], message: str):
    code, _, err = here("explain", *words)
    assert code == 2 and message in err, err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--what=cam",), 2, "--what=cam: the network does not end with a global average"),
        (("--layer=dense1", "--what=grad_cam"), 2, "Take one of conv1, pool1, conv2, pool2."),
        (("--what=patches", "--images=images/a.png"), 2, "--what=patches: the strongest patches of 1 image say nothing"),
        (("--images=images/b.png",), 3, "none of the images could be read"),
    ],
)
def test_what_cannot_be_explained_is_one_line(explain: Here, words: tuple[str, ...], code: int, message: str):
    found, _, err = explain("--workdir=run", *words)
    assert found == code and message in err, err


def test_imported_networks_are_normalised_as_their_published_weights_expect(tmp_path: pathlib.Path):
    means = {
        name: opening.usual_normalization(name, channels)(np.zeros((1, 1, 1, channels), np.uint8))[0].ravel()
        for name, channels in (("efficientnet_lite0", 3), ("resnet50_v1_5", 3), ("lenet5", 1))
    }
    np.testing.assert_allclose(means["efficientnet_lite0"], [127.5])
    np.testing.assert_allclose(means["resnet50_v1_5"], [123.675, 116.28, 103.53], rtol=1e-6)
    assert means["lenet5"].tolist() == [0.0]


@pytest.mark.slow
def test_maps_of_an_imported_network_lie_on_the_cat(shared_data: pathlib.Path, tmp_path: pathlib.Path):
    """A real network, and the photo of a cat in a corner of grass: the cat has a fifth of the picture."""
    with tarfile.open(shared_data / "photos" / "photos.tar") as tar:
        grass, cat = (
            Image.open(tar.extractfile(f"photos/{name}")).convert("RGB")  # type: ignore[arg-type]
            for name in ("texture/grass.png", "content/chelsea.png")
        )
        picture = grass.resize((448, 448))
        picture.paste(cat.resize((270, 180)), (150, 230))
    picture.save(tmp_path / "cat.png")
    weights = shared_data / "weights"
    network = {"model": "efficientnet_lite0", "init_from": str(weights / "efficientnet_lite0.safetensors")}
    names = {"class_names": str(weights / "imagenet_classes.json"), "image_fit": "resize"}
    opened = opening.open_imported(network | names)
    images = read_examples(opened, [str(tmp_path)]).images
    target = np.argmax(np.asarray(scores(opened.network, jnp.asarray(images))), axis=1).astype(np.int32)
    assert opened.class_names[int(target[0])] == "Egyptian cat"
    box = np.zeros((1, 224, 224), bool)
    box[:, 115:205, 75:192] = True
    for name in ("grad_cam", "cam", "occlusion"):
        maps = fitted(name, opened.network, images, None)
        assert not isinstance(maps, str)
        hits, energy = pointing(np.asarray(maps(opened.network, jnp.asarray(images), jnp.asarray(target))), box)
        assert hits == 1 and energy > 0.5 > 2 * box.mean(), name
