"""Networks out: the weights come back bit for bit, the program predicts without cnnlab, and nothing is overwritten unasked."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import command, read

from cnnlab.data.arrays import digits
from cnnlab.errors import CheckpointError, UsageError
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
        assert code == 0 and f"network.{suffix}: 0." in out and "load it by" in out, err
    weights, of_run = files.read(tmp_path / "network.safetensors"), files.read(run)
    assert set(weights) == set(of_run) and all(np.array_equal(weights[name], of_run[name]) for name in weights)
    assert {name.split("/")[0] for name in weights} == {"params", "batch_stats"}
    test = digits().splits["test"]
    logits = export.load_stablehlo(tmp_path / "network.stablehlo")(test.images.astype(np.float32))
    accuracy = np.mean(np.argmax(logits, axis=1) == test.labels)
    assert accuracy == pytest.approx(read(run / "result.json")["metrics"]["test/accuracy"])


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
    "suffix": (["--to=network.onnx"], "--to=network.onnx: expected a name that ends in .safetensors (weights) or .stablehlo"),
    "folder": (["--to=nowhere/network.safetensors"], "nowhere is no folder that can be written to"),
    "there already": (["--to=there.safetensors"], "--to=there.safetensors: the file is there already."),
    "seeds": (["--to=network.safetensors", "--seeds=2"], "--seeds is a flag of train, evaluate and ablate."),
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
    assert json.loads(notes["knobs"])["model.widths"] == [4, 8] and json.loads(notes["classes"])[3] == "3"
