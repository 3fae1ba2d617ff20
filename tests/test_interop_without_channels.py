"""Exporting the network that pruned channels leave: smaller in every file, the same function, a run like others."""

import json
import pathlib

import numpy as np
import pytest
from commands import Here

from cnnlab.interop import files
from cnnlab.interop.export import load_stablehlo

TRAIN = ["--experiment=mlp_digits", "--widths=16,8", "--norm=batch", "--steps=20", "--pruning=channels", "--density=0.25"]
SMALL = ["--experiment=mlp_digits", "--widths=16,8", "--norm=batch", "--pruning=none", "--units_by_layer=dense1=4,dense2=2"]


def numbers_of(folder: pathlib.Path):
    found = json.loads((folder / "result.json").read_text())["metrics"]
    return {name: value for name, value in found.items() if name.startswith("test/")}


@pytest.mark.slow
def test_a_network_without_its_channels_is_a_run_like_others(here: Here, tmp_path: pathlib.Path):
    def done(*words: str) -> str:
        code, out, err = here(*words)
        assert code == 0, err
        return out

    done(*TRAIN, "--average_decay=0.5", "--workdir=run")
    out = done("export", "--workdir=run", "--to=net.safetensors", "--smaller")
    assert "--units_by_layer=dense1=4,dense2=2" in out and "of 1,290 numbers" in out
    leaves, source = files.load(tmp_path / "net.safetensors")
    assert leaves["params/dense1/kernel"].shape == (64, 4) and leaves["batch_stats/norm2/mean"].shape == (2,)
    assert source.knobs["units_by_layer"] == ["dense1=4", "dense2=2"] and source.knobs["pruning"] == "none"
    done(*SMALL, "--init_from=net.safetensors", "--steps=0", "--workdir=small")
    whole, small = numbers_of(tmp_path / "run"), numbers_of(tmp_path / "small")
    assert "test/accuracy" in small and small == pytest.approx({name: whole[name] for name in small}, rel=1e-5)
    assert "306" in done("inspect", *SMALL)
    done("export", "--workdir=run", "--to=net.cnnz", "--smaller")
    assert f"{small['test/accuracy']:.4f}"[:6] in done("evaluate", "--workdir=net.cnnz")
    done("export", "--workdir=run", "--to=net.stablehlo", "--smaller")
    done("export", "--workdir=small", "--to=same.stablehlo")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    one, other = (np.asarray(load_stablehlo(tmp_path / f"{name}.stablehlo")(images)) for name in ("net", "same"))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    code, _, err = here("export", "--workdir=small", "--to=smaller.safetensors", "--smaller")
    assert code == 2 and "no channel of this network is 0" in err
