"""Digests that old runs, checkpoints and exported files hold never change. The values are those of commit f2dbc6b."""

import pathlib

import ml_dtypes
import numpy as np

from cnnlab import knobs
from cnnlab.ablation import commands
from cnnlab.ablation.plan import designs
from cnnlab.ablation.plan.study import Arm, Study
from cnnlab.digests import combined_digest, file_digest, json_digest
from cnnlab.engine.checkpoint import tree_digest
from cnnlab.interop.files import leaves_digest

VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_the_fingerprint_of_texts_and_arrays_is_the_old_one():
    parts = ("name – with a dash", VALUES.transpose(1, 2, 0), np.zeros(0, np.int32), np.array(["ab", "c"]), "")
    assert combined_digest(*parts) == "8925fa6be6f4d32ceac2a8827f014773cd1c9812267658a022f17f5aa57519a9"


def test_the_digest_of_a_tree_is_the_old_one_for_every_type_and_layout():
    leaves = {"b": VALUES.transpose(2, 0, 1), "a": VALUES.astype(ml_dtypes.bfloat16)}
    tree = {"params": leaves, "step": np.int32(7), "empty": np.zeros((0, 3), np.float32)}
    assert tree_digest(tree) == "b506b061cfc1e9fc2ae27c58df4fd2e3e04762ae1b7fd84eb52479aec4ceff4f"


def test_the_digests_of_json_and_of_a_file_are_the_old_ones(tmp_path: pathlib.Path):
    assert json_digest({"b": [1, 2.5, None], "a": "−"}) == "998afec221b66fd8bcaa60880581098e98aeabb47bd143190f0ef5c85b3d3aa1"
    (tmp_path / "x").write_bytes(bytes(range(256)))
    assert file_digest(tmp_path / "x") == "40aff2e9d2d8922e47afd4648e6967497158785fbd1da870e7110266bf944880"


def test_the_digest_of_exported_weights_is_the_old_one():
    leaves = {"w": VALUES, "half": VALUES.astype(np.float16)}
    notes = {"step": "6", "experiment": "x"}
    assert leaves_digest(leaves, notes) == "67e4aba8ec820d5db5c00755f0c6eed558a1e993f7e35c28c9a353cfe2e09b90"
    assert leaves_digest({"w": VALUES}, {}) == "213caa3d1beab4333d610ceece6b2b236b7f0235dfada585345dbe60bcfd8d87"


def test_folders_of_runs_and_studies_keep_their_names():
    def experiment(*, lr: float = 0.1, name: str = "x") -> float:
        return lr

    assert knobs.resolve(experiment, {"lr": "0.25"}).digest == "04249944"
    arms = (Arm("baseline", {"lr": "0.1"}), Arm("lr=1", {"lr": "1"}))
    common = {"experiment": "e", "knobs": {"epochs": "1"}, "design": "grid", "seeds": (0,), "factors": {}}
    assert commands.study_digest(Study(name="s", arms=arms, **common)) == "302b3937"


def test_random_arms_are_drawn_as_ever():
    assert [designs._drawn(tuple("abcdefg"), 3, number, "lr") for number in range(6)] == ["b", "g", "e", "c", "c", "f"]
