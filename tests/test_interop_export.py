"""Networks out: the weights come back bit for bit, the program predicts without cnnlab, and nothing is overwritten unasked."""

import functools
import json
import math
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ROOT, command, read
from PIL import Image, ImageOps

from cnnlab.cli.main import main
from cnnlab.data.arrays import digits
from cnnlab.data.decode import read_image
from cnnlab.data.resize import canvas, crop, pad, resize, settings_of
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.inputs import InputSpec
from cnnlab.interop import convert, export, files
from cnnlab.models.convnet import ConvNet

NETWORK = ConvNet(classes=10, widths=(4, 8), depth=1)
TRAIN = ["--experiment=convnet_digits", "--widths=4,8", "--depth=1", "--average_decay=0.9", "--steps=6", "--lr=1"]
EVERY = ["--eval_every=1 steps", "--save_every=1 steps"]


def predict(variables, images):
    return NETWORK.apply(variables, images, train=False)[0]


@pytest.fixture(scope="module")
def variables() -> dict:
    """Weights and statistics of a small network for 8x8 images."""
    fresh = NETWORK.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    return jax.tree.map(np.asarray, dict(fresh))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a short run on the digits, with averaged parameters."""
    above = tmp_path_factory.mktemp("export")
    code, _, err = command(*TRAIN, *EVERY, "--workdir=run", cwd=above)
    assert code == 0, err
    return above / "run"


def test_weights_come_back_bit_for_bit_by_our_names(variables, tmp_path: pathlib.Path):
    size = export.write_safetensors(tmp_path / "x.safetensors", variables, {"step": "3"})
    found, expected = files.read(tmp_path / "x.safetensors"), convert.flatten(variables)
    assert size == (tmp_path / "x.safetensors").stat().st_size and set(found) == set(expected)
    assert all(np.array_equal(found[name], leaf) and found[name].dtype == leaf.dtype for name, leaf in expected.items())
    given, report = convert.start_from(variables, NETWORK, tmp_path / "x.safetensors")
    assert report.library == "cnnlab" and jax.tree.all(jax.tree.map(np.array_equal, given, variables))


def test_a_program_predicts_as_the_network_for_any_batch(variables, tmp_path: pathlib.Path):
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
    export.write_stablehlo(tmp_path / "x.stablehlo", predict, variables, (8, 8, 1))
    again = export.load_stablehlo(tmp_path / "x.stablehlo")
    for count in (1, 5):
        np.testing.assert_allclose(again(images[:count]), predict(variables, images[:count]), rtol=0, atol=1e-6)


def test_a_program_needs_jax_alone(variables, tmp_path: pathlib.Path):
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    export.write_stablehlo(tmp_path / "x.stablehlo", predict, variables, (8, 8, 1))
    np.save(tmp_path / "images.npy", images)
    script = (
        "import sys, numpy\nfrom jax import export\n"
        "program = export.deserialize(bytearray(open('x.stablehlo', 'rb').read()))\n"
        "numpy.save('logits.npy', program.call(numpy.load('images.npy')))\n"
        "assert not {'cnnlab', 'flax'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), predict(variables, images), rtol=0, atol=1e-6)


def test_a_damaged_program_and_one_too_large_are_refused(variables, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x.stablehlo").write_bytes(b"nothing of the kind")
    for name in ("x.stablehlo", "nowhere.stablehlo"):
        with pytest.raises(CheckpointError, match=r"missing, damaged or no \.stablehlo file"):
            export.load_stablehlo(tmp_path / name)
    monkeypatch.setattr(export, "LARGEST_PROGRAM", 100)
    with pytest.raises(UsageError, match=r"at most 2 GiB .* Take \.safetensors"):
        export.write_stablehlo(tmp_path / "y.stablehlo", predict, variables, (8, 8, 1))
    assert not (tmp_path / "y.stablehlo").exists()


def test_a_run_is_exported_as_weights_and_as_a_program(run: pathlib.Path, tmp_path: pathlib.Path):
    for suffix in ("safetensors", "stablehlo"):
        code, out, err = command("export", f"--workdir={run}", f"--to=network.{suffix}", cwd=tmp_path)
        assert code == 0 and f"network.{suffix}: " in out and "load it by" in out, err
    weights, of_run = files.read(tmp_path / "network.safetensors"), files.read(run)
    assert set(weights) == set(of_run) and all(np.array_equal(weights[name], of_run[name]) for name in weights)
    assert {name.split("/")[0] for name in weights} == {"params", "batch_stats"}
    test = digits().splits["test"]
    logits = export.load_stablehlo(tmp_path / "network.stablehlo")(test.images)
    about = read(tmp_path / "network.json")
    assert about["image"] == {"height": 8, "width": 8, "channels": 1, "dtype": "uint8", "range": [0, 255]}
    assert about["class_names"] == list("0123456789") and about["pillow"] == {"mode": "L", "size": [8, 8]}
    accuracy = np.mean(np.argmax(logits, axis=1) == test.labels)
    assert accuracy == pytest.approx(read(run / "result.json")["metrics"]["test/accuracy"])


@pytest.mark.parametrize("source", ["docs/zoo.md", "the command"])
def test_the_lines_that_are_documented_and_printed_classify_a_picture(
    source: str, run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"--workdir={run}", "--to=network.stablehlo"]) == 0
    out = capsys.readouterr().out
    assert "size 8 x 8: all training images had this size" in out and "u8, 0 … 255" in out
    if source == "docs/zoo.md":
        text = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
        lines = next(block for block in text.split("```python\n")[1:] if "jax.export" in block).partition("```")[0]
    else:
        lines = "\n".join(line.strip() for line in out.partition("load it by\n")[2].splitlines())
    picture = Image.fromarray(digits().splits["test"].images[0, ..., 0])
    picture.resize((16, 16)).convert("RGB").save("IMAGE.png")
    assert read(tmp_path / "network.json")["example"] == [
        line.strip() for line in out.partition("load it by\n")[2].splitlines()
    ]
    exec(compile(lines, source, "exec"), {})
    seen = np.asarray(Image.open("IMAGE.png").convert("L").resize((8, 8), Image.Resampling.BILINEAR))
    expected = export.load_stablehlo(tmp_path / "network.stablehlo")(seen[None, ..., None])
    assert capsys.readouterr().out == f"{int(np.argmax(expected))}\n"


CANVAS = functools.partial(canvas, scale=0.3, height=12, width=12)


@pytest.mark.parametrize("fit", [functools.partial(crop, fraction=0.8), crop, pad, resize, CANVAS])
def test_example_lines_do_what_the_data_pipeline_does_to_a_file(fit: Any, tmp_path: pathlib.Path):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3) if fit is pad else (40, 31, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "IMAGE.png")
    shape, zero = (12, 12, 3), np.zeros((1, 1, 1, 1), np.float32)
    inputs = InputSpec(shape, "uint8", zero, zero + 1, ("a", "b"), settings_of(fit))
    np.testing.assert_array_equal(seen_by_the_lines(inputs, tmp_path / "IMAGE.png"), fit(image[None], 12))


def seen_by_the_lines(inputs: InputSpec, file: pathlib.Path) -> np.ndarray:
    """The images u8 [1, H, W, C] that a program gets where the printed lines are executed on a file."""
    lines = export.example_lines(pathlib.Path("x.stablehlo"), inputs, "print(scores)")
    scope: dict[str, Any] = {"predict": lambda images: images, "Image": Image, "ImageOps": ImageOps, "math": math, "numpy": np}
    exec("\n".join(lines[3:-1]).replace("IMAGE.png", str(file)), scope)
    return scope["scores"]


def saved(kind: str, file: pathlib.Path) -> None:
    """Writes a picture of 40 x 31 pixels in one of the ways that files have."""
    numbers = np.random.default_rng(0).integers(0, 256, (31, 40, 4), np.uint8)
    picture = Image.fromarray(numbers, "RGBA")
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.convert("RGB").save(file, "JPEG", exif=exif)
    elif kind == "CMYK":
        picture.convert("CMYK").save(file, "JPEG")
    elif kind == "palette":
        picture.convert("RGB").quantize(8).save(file, "PNG", transparency=3)
    else:
        picture.convert(kind).save(file, "PNG")


@pytest.mark.parametrize("kind", ["RGBA", "LA", "1", "palette", "turned", "CMYK"])
def test_example_lines_read_a_file_of_any_kind_as_training_does(kind: str, tmp_path: pathlib.Path):
    saved(kind, tmp_path / "IMAGE.png")
    pixels = read_image(tmp_path / "IMAGE.png", max_pixels=10_000).pixels
    channels, zero = pixels.shape[2], np.zeros((1, 1, 1, 1), np.float32)
    for count in {channels, 3}:
        inputs = InputSpec((12, 12, count), "uint8", zero, zero + 1, ("a", "b"), settings_of(resize))
        expected = resize(np.repeat(pixels, count // channels, axis=2)[None], 12)
        np.testing.assert_array_equal(seen_by_the_lines(inputs, tmp_path / "IMAGE.png"), expected)


def test_a_rule_of_an_own_file_is_named_in_the_lines():
    zero = np.zeros((1, 1, 1, 1), np.float32)
    inputs = InputSpec((12, 12, 3), "uint8", zero, zero + 1, ("a", "b"), {"name": "letterbox", "colour": 3})
    lines = export.example_lines(pathlib.Path("x.stablehlo"), inputs, "print(scores)")
    assert any(line.endswith("# letterbox colour=3") for line in lines)


def test_the_best_checkpoint_can_be_exported_instead_of_the_newest(run: pathlib.Path, tmp_path: pathlib.Path):
    code, out, err = command("export", f"--workdir={run}", "--to=best.safetensors", "--best", cwd=tmp_path)
    assert code == 0, err
    ranked = {}
    for manifest in (run / "checkpoints").glob("*/manifest.json"):
        content = read(manifest)["content"]
        ranked[content["step"]] = content["metrics"]["accuracy"]
    best = max(ranked, key=ranked.__getitem__)
    assert best != max(ranked), "the newest is the best: this test proves nothing"
    assert f"{run}, step {best}\n" in out
    found, newest = files.read(tmp_path / "best.safetensors"), files.read(run)
    assert not np.array_equal(found["params/output/kernel"], newest["params/output/kernel"])


REFUSED = {
    "no name": ([], "export to what?"),
    "suffix": (
        ["--to=network.onnx"],
        "--to=network.onnx: expected a name that ends in .safetensors (weights) or .cnnz (weights) or .stablehlo",
    ),
    "folder": (["--to=nowhere/network.safetensors"], "nowhere is no folder that can be written to"),
    "there already": (["--to=there.safetensors"], "--to=there.safetensors: there.safetensors is there already."),
    "seeds": (["--to=network.safetensors", "--seeds=2"], "--seeds is a flag of train, evaluate, ablate and measure."),
    "no run": (["--to=network.safetensors", "--workdir=nowhere"], "nowhere is not a run"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_exported_is_one_clear_message(case: str, run: pathlib.Path, tmp_path: pathlib.Path):
    words, message = REFUSED[case]
    (tmp_path / "there.safetensors").write_text("mine", encoding="utf-8")
    folder = [] if any(word.startswith("--workdir") for word in words) else [f"--workdir={run}"]
    code, _, err = command("export", *folder, *words, cwd=tmp_path)
    assert code == 2 and message in err and "Traceback" not in err
    assert (tmp_path / "there.safetensors").read_text(encoding="utf-8") == "mine" and len(list(tmp_path.iterdir())) == 1


def test_overwrite_replaces_a_file(run: pathlib.Path, tmp_path: pathlib.Path):
    (tmp_path / "there.safetensors").write_text("mine", encoding="utf-8")
    code, _, err = command("export", f"--workdir={run}", "--to=there.safetensors", "--overwrite", cwd=tmp_path)
    assert code == 0 and files.read(tmp_path / "there.safetensors"), err
    assert read(run / "status.json")["state"] == "DONE", "the run itself stays"


def test_the_header_says_where_the_weights_come_from(run: pathlib.Path, tmp_path: pathlib.Path):
    from safetensors import safe_open

    assert command("export", f"--workdir={run}", "--to=x.safetensors", cwd=tmp_path)[0] == 0
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        notes = file.metadata()
    assert notes["experiment"] == "convnet_digits" and notes["step"] == "6" and notes["image"] == "8x8x1"
    assert json.loads(notes["inputs"])["image"]["dtype"] == "uint8"
    assert json.loads(notes["knobs"])["model.widths"] == [4, 8] and json.loads(notes["classes"])[3] == "3"
