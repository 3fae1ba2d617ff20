"""Weights in few bytes: arrays come back bit for bit, and a run that was pruned and shared; damage is noticed."""

import pathlib

import numpy as np
import pytest
from commands import command

from cnnlab.compressed.container import Shared
from cnnlab.errors import CheckpointError
from cnnlab.interop import compact, files

TRAIN = ["--experiment=mlp_digits", "--widths=16", "--steps=20", "--pruning=magnitude", "--density=0.25", "--sharing=kmeans"]


def bits(leaf):
    return np.ascontiguousarray(leaf).view(np.uint32).tolist()


ODD = np.float32([[0.0, -0.0, 1.5, -1.5], [np.float32(1e-42), 1.5, 0.0, 3.0]])
"""Both zeros, and a number that is not normal."""


@pytest.mark.parametrize("name", ("odd", "dense", "zeros", "vector", "many"))
def test_arrays_of_all_kinds_come_back_bit_for_bit(name: str, tmp_path: pathlib.Path):
    random = np.random.default_rng(0)
    leaf = {
        "odd": ODD,
        "dense": random.choice(np.float32([0.25, -2.0]), (5, 7)),
        "zeros": np.zeros((3, 4), np.float32),
        "vector": random.normal(size=9).astype(np.float32),
        "many": random.normal(size=(20, 30)).astype(np.float32),
    }[name]
    compact.write(tmp_path / "x.cnnz", {"params/a/kernel": leaf}, {"step": "3"})
    found, notes = compact.read(tmp_path / "x.cnnz")
    assert bits(found["params/a/kernel"]) == bits(leaf) and found["params/a/kernel"].shape == leaf.shape
    assert notes == {"step": "3"}
    form = compact.stored(leaf)
    assert isinstance(form, Shared) == (name in ("odd", "dense", "zeros"))
    if name == "dense":
        assert isinstance(form, Shared) and form.positions is None


@pytest.mark.slow
def test_a_run_goes_through_its_file_and_starts_another(tmp_path: pathlib.Path):
    code, _, err = command(*TRAIN, "--workdir=run", cwd=tmp_path)
    assert code == 0, err
    for suffix in ("cnnz", "safetensors"):
        code, out, err = command("export", "--workdir=run", f"--to=net.{suffix}", cwd=tmp_path)
        assert code == 0, err
        assert ("times smaller than" in out) == (suffix == "cnnz")
    found, plain = (files.load(tmp_path / f"net.{suffix}") for suffix in ("cnnz", "safetensors"))
    assert {name: bits(leaf) for name, leaf in found[0].items()} == {name: bits(leaf) for name, leaf in plain[0].items()}
    assert found[1].knobs == plain[1].knobs and found[1].knobs["pruning.density"] == 0.25
    kernels = [leaf for name, leaf in found[0].items() if name.endswith("kernel")]
    for leaf in kernels:
        assert np.count_nonzero(leaf) == np.ceil(0.25 * leaf.size) and len(np.unique(leaf[leaf != 0])) <= 32
    assert (tmp_path / "net.cnnz").stat().st_size < 0.4 * (tmp_path / "net.safetensors").stat().st_size
    start = ["--experiment=mlp_digits", "--widths=16", "--steps=1", "--init_from=net.cnnz", "--workdir=next"]
    code, _, err = command(*start, cwd=tmp_path)
    assert code == 0, err


def test_damage_is_noticed(tmp_path: pathlib.Path):
    path = tmp_path / "x.cnnz"
    compact.write(path, {"params/a/kernel": ODD}, {})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.cnnz is damaged"):
        files.read(path)
