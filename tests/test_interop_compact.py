"""Weights in few bytes: arrays come back bit for bit, and a run that was pruned and shared; damage is noticed."""

import json
import logging
import pathlib

import numpy as np
import pytest
from commands import Here, command

from cnnlab.compressed import network
from cnnlab.compressed.container import Shared, Sparse
from cnnlab.errors import CheckpointError
from cnnlab.interop import files

TRAIN = ["--experiment=mlp_digits", "--widths=16", "--steps=20", "--pruning=magnitude", "--density=0.25", "--sharing=kmeans"]


def bits(leaf):
    return np.ascontiguousarray(leaf).view(np.uint32).tolist()


def write(path, leaves, notes):
    """Writes a file of weights; returns what each array takes."""
    content, sizes = network.packed(leaves, notes)
    path.write_bytes(content)
    return sizes


ODD = np.float32([[0.0, -0.0, 1.5, -1.5], [np.float32(1e-42), 1.5, 0.0, 3.0]])
"""Both zeros, and a number that is not normal."""


@pytest.mark.parametrize("name", ("odd", "dense", "zeros", "vector", "many", "pruned"))
def test_arrays_of_all_kinds_come_back_bit_for_bit(name: str, tmp_path: pathlib.Path):
    random = np.random.default_rng(0)
    leaf = {
        "odd": ODD,
        "dense": random.choice(np.float32([0.25, -2.0]), (5, 7)),
        "zeros": np.zeros((3, 4), np.float32),
        "vector": random.normal(size=9).astype(np.float32),
        "many": random.normal(size=(20, 30)).astype(np.float32),
        "pruned": np.where(random.random((60, 70)) < 0.08, random.normal(size=(60, 70)), 0).astype(np.float32),
    }[name]
    write(tmp_path / "x.cnnz", {"params/a/kernel": leaf}, {"step": "3"})
    found, notes = network.read(tmp_path / "x.cnnz")
    assert bits(found["params/a/kernel"]) == bits(leaf) and found["params/a/kernel"].shape == leaf.shape
    assert notes == {"step": "3"}
    form = network.stored(leaf)
    assert isinstance(form, Shared) == (name in ("odd", "dense", "zeros")) and isinstance(form, Sparse) == (name == "pruned")
    if name == "dense":
        assert isinstance(form, Shared) and form.positions is None


def test_zeros_of_weights_that_share_nothing_take_no_number_each(tmp_path: pathlib.Path):
    kernel = np.zeros((100, 100), np.float32)
    kernel.reshape(-1)[[0, 300, 556, 813, 9999]] = 1.5  # gaps below 256, of 255 and of 256 positions, which takes a filler
    kernel.reshape(-1)[1:299] = np.arange(298) + 1.0  # too many values to be shared
    sizes = write(tmp_path / "x.cnnz", {"params/a/kernel": kernel}, {})["params/a/kernel"]
    assert sizes.kept == 303 and sizes.entries == 303 + 1 + 9186 // 256 and sizes.plain == 4 * sizes.entries
    assert np.array_equal(network.read(tmp_path / "x.cnnz")[0]["params/a/kernel"], kernel)


def numbers(out: str) -> dict[str, str]:
    """The metrics that `evaluate` prints."""
    rows = [line.split() for line in out.splitlines() if "/" in line.split()[0]]
    return {row[0]: row[1] for row in rows if len(row) == 2}


@pytest.mark.slow
def test_a_file_is_measured_and_predicts_as_its_run_does_and_starts_another(tmp_path: pathlib.Path):
    code, _, err = command(*TRAIN, "--workdir=run", cwd=tmp_path)
    assert code == 0, err
    for suffix in ("cnnz", "safetensors"):
        code, out, err = command("export", "--workdir=run", f"--to=net.{suffix}", cwd=tmp_path)
        assert code == 0, err
        assert ("times smaller than" in out) == (suffix == "cnnz")
    found, plain = (files.load(tmp_path / f"net.{suffix}") for suffix in ("cnnz", "safetensors"))
    assert {name: bits(leaf) for name, leaf in found[0].items()} == {name: bits(leaf) for name, leaf in plain[0].items()}
    assert found[1].knobs.items() <= plain[1].knobs.items() and found[1].knobs["pruning.density"] == 0.25
    kernels = [leaf for name, leaf in found[0].items() if name.endswith("kernel")]
    for leaf in kernels:
        assert np.count_nonzero(leaf) == np.ceil(0.25 * leaf.size) and len(np.unique(leaf[leaf != 0])) <= 32
    size = (tmp_path / "net.cnnz").stat().st_size
    assert size < 0.4 * (tmp_path / "net.safetensors").stat().st_size
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["test/file_bytes"] == size and metrics["test/density"] == 0.25
    assert metrics["test/times_smaller"] == 4 * sum(leaf.size for leaf in found[0].values()) / size
    (tmp_path / "run").rename(tmp_path / "elsewhere")  # the file alone has to do
    said = {}
    for place in ("elsewhere", "net.cnnz"):
        code, out, err = command("evaluate", f"--workdir={place}", cwd=tmp_path)
        assert code == 0, err
        said[place] = numbers(out)
    assert said["net.cnnz"] == said["elsewhere"] and float(said["net.cnnz"]["test/file_bytes"]) == size
    code, _, err = command("export", "--workdir=net.cnnz", "--to=again.cnnz", cwd=tmp_path)
    assert code == 0 and (tmp_path / "again.cnnz").read_bytes() == (tmp_path / "net.cnnz").read_bytes(), err
    start = ["--experiment=mlp_digits", "--widths=16", "--steps=1", "--init_from=net.cnnz", "--workdir=next"]
    code, _, err = command(*start, cwd=tmp_path)
    assert code == 0, err


def test_damage_is_noticed(tmp_path: pathlib.Path):
    path = tmp_path / "x.cnnz"
    write(path, {"params/a/kernel": ODD}, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.cnnz is damaged"):
        files.read(path)


def test_a_file_of_weights_alone_is_no_run(here: Here):
    write(pathlib.Path("x.cnnz"), {"params/a/kernel": ODD}, {"step": 3})
    for verb in ("evaluate", "predict --images=x", "export --to=y.safetensors"):
        code, _, err = here(*verb.split(), "--workdir=x.cnnz")
        assert code == 3 and "holds weights alone" in err and "--init_from=x.cnnz" in err, err


def test_a_file_whose_experiment_has_other_defaults_today_says_so(here: Here, caplog: pytest.LogCaptureFixture):
    notes = {"experiment": "mlp_digits", "knobs": {"model": "mlp"}, "digest": "00000000", "seed": 0, "step": 3, "inputs": {}}
    write(pathlib.Path("x.cnnz"), {"params/a/kernel": ODD}, {**notes, "data": {"name": "digits", "fingerprint": "0"}})
    with caplog.at_level(logging.WARNING, logger="cnnlab"):
        code, _, err = here("evaluate", "--workdir=x.cnnz", "--seed=1")
    assert code == 2 and "has other defaults" in caplog.text and "holds the run of seed 0" in err, err
