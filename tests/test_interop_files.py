"""Weights in: every kind of file gives the same arrays, and every damaged or foreign one a single clear error."""

import pathlib
import shutil
import zipfile
from collections.abc import Callable

import h5py
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from toys import chase

from cnnlab.core import TrainState
from cnnlab.engine.checkpoint import Checkpoints, tree_digest
from cnnlab.errors import CheckpointError
from cnnlab.interop import export, files
from cnnlab.metric import Metric
from cnnlab.runs.network_leaves import weights_of
from tests import torch_writer

RANDOM = np.random.default_rng(0)
FOREIGN = {"conv1.weight": RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32), "fc.bias": np.arange(5, dtype=np.float32)}
OURS = {"params": {"stem": {"kernel": FOREIGN["conv1.weight"]}, "output": {"bias": FOREIGN["fc.bias"]}}}


def refused(path: pathlib.Path) -> str:
    with pytest.raises(CheckpointError) as error:
        files.read(path)
    assert error.value.exit_code == 3 and str(path) in str(error.value)
    return str(error.value)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return set(found) == set(expected) and all(np.array_equal(found[name], expected[name]) for name in found)


def write_h5_named(path: pathlib.Path, layers: dict[str, dict[str, np.ndarray]], *, below: str | None = None) -> None:
    """The older layout of keras: groups by layer, lists of names in attributes, long ones in pieces."""
    with h5py.File(path, "w") as file:
        group = file.create_group(below) if below else file
        names = [name.encode() for name in layers]
        group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:1], names[1:]
        for layer, weights in layers.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name in weights]
            for name, array in weights.items():
                inner[f"{layer}/{name}:0"] = array


def write_h5_numbered(path: pathlib.Path, layers: dict[str, tuple[str, list[np.ndarray]]], *, inside: str = "layers") -> None:
    """The newer layout of keras: groups by kind of layer, numbered variables, the layer's name an attribute."""
    with h5py.File(path, "w") as file:
        for kind, (name, arrays) in layers.items():
            group = file.create_group(f"{inside}/{kind}/vars")
            group.attrs["name"] = name
            for number, array in enumerate(arrays):
                group[str(number)] = array


def write(kind: str, path: pathlib.Path) -> None:
    """A good file of a kind."""
    if kind == ".safetensors":
        save_file(FOREIGN, path)
    elif kind == ".npz":
        np.savez(path, **FOREIGN)
    elif kind == ".pt":
        torch_writer.save(path, FOREIGN)
    elif kind == ".h5":
        write_h5_named(path, {"conv1": {"kernel": FOREIGN["conv1.weight"]}, "fc": {"bias": FOREIGN["fc.bias"]}})
    else:
        write_h5_numbered(path.with_suffix(".h5"), {"conv2d": ("conv1", [FOREIGN["conv1.weight"]])})
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(path.with_suffix(".h5"), "model.weights.h5")


KINDS = [".safetensors", ".npz", ".h5", ".keras", ".pt"]


@pytest.mark.parametrize("kind", [".safetensors", ".npz", ".pt"])
def test_what_was_written_is_read(kind: str, tmp_path: pathlib.Path):
    write(kind, tmp_path / f"x{kind}")
    assert same(files.read(tmp_path / f"x{kind}"), FOREIGN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["empty", "half", "first bytes", "another file"])
def test_a_damaged_file_is_one_clear_error(kind: str, damage: str, tmp_path: pathlib.Path):
    path = tmp_path / f"x{kind}"
    write(kind, path)
    content = path.read_bytes()
    broken = {"empty": b"", "half": content[: len(content) // 2], "first bytes": b"\xff" * 16 + content[16:]}
    path.write_bytes(broken.get(damage, b"<!DOCTYPE html><html>404 Not Found</html>"))
    assert f"is damaged or no {kind} file" in refused(path)


def test_a_missing_file_another_suffix_and_a_folder_without_a_run_say_what_is_read(tmp_path: pathlib.Path):
    assert "there is no such file or folder" in refused(tmp_path / "nowhere.npz")
    for name in ("weights.pkl", "weights"):
        (tmp_path / name).write_bytes(b"x")
        assert ".safetensors, .npz" in refused(tmp_path / name)
    assert "holds no checkpoint" in refused(tmp_path)


def test_half_precision_is_widened_exactly(tmp_path: pathlib.Path):
    values = np.array([1.0, -0.15625, 3.0e-5], np.float32)
    for narrow in (np.float16, ml_dtypes.bfloat16):
        save_file({"x": values.astype(narrow)}, tmp_path / "x.safetensors")
        found = files.read(tmp_path / "x.safetensors")["x"]
        assert found.dtype == np.float32 and np.array_equal(found, values.astype(narrow).astype(np.float32))
    np.savez(tmp_path / "x.npz", x=values.astype(np.float16), y=values.astype(np.float64), z=np.arange(3))
    assert [leaf.dtype for leaf in files.read(tmp_path / "x.npz").values()] == [np.float32, np.float64, np.int64]


@pytest.mark.parametrize("kind", [".safetensors", ".npz"])
def test_numbers_that_are_not_finite_are_refused_naming_ten_leaves_at_most(kind: str, tmp_path: pathlib.Path):
    leaves = {f"leaf{i:02}": np.array([1, np.nan if i % 2 else np.inf], np.float32) for i in range(25)} | {"good": np.ones(2)}
    path = tmp_path / f"x{kind}"
    np.savez(path, **leaves) if kind == ".npz" else save_file(leaves, path)
    text = refused(path)
    assert "25 of 26 leaves hold numbers that are not finite" in text
    assert text.count("leaf") == 10 and "… and 15 more" in text and "good" not in text


def test_objects_text_and_single_arrays_in_numpy_files_are_refused(tmp_path: pathlib.Path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    assert "Object arrays cannot be loaded" in refused(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", a=np.array(["text"]))
    assert "no real numbers: a (<U4)" in refused(tmp_path / "x.npz")
    np.save(tmp_path / "x.npy", np.ones(3))
    assert "single array" in refused((tmp_path / "x.npy").rename(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz")
    assert "holds no weights" in refused(tmp_path / "x.npz")


def test_of_an_archive_with_a_state_only_the_state_is_read(tmp_path: pathlib.Path):
    np.savez(tmp_path / "x.npz", **{f"state/{name}": leaf for name, leaf in FOREIGN.items()}, logits=np.ones(3))
    assert same(files.read(tmp_path / "x.npz"), FOREIGN)


def test_names_of_a_wrapped_network_lose_the_wrapper(tmp_path: pathlib.Path):
    save_file({f"module._orig_mod.{name}": leaf for name, leaf in FOREIGN.items()}, tmp_path / "x.safetensors")
    assert same(files.read(tmp_path / "x.safetensors"), FOREIGN)
    save_file({"module.a": np.ones(2), "b": np.ones(2)}, tmp_path / "x.safetensors")
    assert set(files.read(tmp_path / "x.safetensors")) == {"module.a", "b"}


def test_a_flipped_bit_anywhere_in_a_file_of_ours_is_noticed(tmp_path: pathlib.Path):
    path = tmp_path / "x.safetensors"
    export.write_safetensors(path, OURS, {"step": "3", "experiment": "none"})
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    positions = [(where, bit) for where in range(header) for bit in range(8)]
    positions += [(where, where % 8) for where in range(header, len(content), 5)] + [(len(content) - 1, 7)]
    for where, bit in positions:
        path.write_bytes(content[:where] + bytes([content[where] ^ (1 << bit)]) + content[where + 1 :])
        with pytest.raises(CheckpointError):
            files.read(path)
    path.write_bytes(content)
    assert len(files.read(path)) == 2


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"x", lambda content: content[:8]])
def test_a_file_of_another_length_is_noticed(damage: Callable[[bytes], bytes], tmp_path: pathlib.Path):
    path = tmp_path / "x.safetensors"
    export.write_safetensors(path, OURS, {})
    path.write_bytes(damage(path.read_bytes()))
    assert "is damaged or no .safetensors file" in refused(path)


def test_a_header_whose_offsets_leave_the_file_is_refused(tmp_path: pathlib.Path):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.ones(4, np.float32)}, path)
    path.write_bytes(path.read_bytes().replace(b"[0,16]", b"[0,96]"))
    assert "is damaged or no .safetensors file" in refused(path)


def test_our_names_without_a_digest_are_refused(tmp_path: pathlib.Path):
    save_file({"params/output/bias": np.ones(3)}, tmp_path / "x.safetensors")
    assert "lacks its digest" in refused(tmp_path / "x.safetensors")


BLOCK = {
    "block1_conv1": {"kernel": RANDOM.normal(size=(3, 3, 3, 4)), "bias": np.ones(4)},
    "conv1/bn": {"beta": np.zeros(4), "moving_mean": np.ones(4), "moving_variance": np.ones(4)},
}
BLOCK_LEAVES = {f"{layer.replace('/', '_')}.{name}": array for layer, part in BLOCK.items() for name, array in part.items()}


@pytest.mark.parametrize("below", [None, "model_weights"])
def test_the_older_keras_layout_is_read_by_layer(below: str | None, tmp_path: pathlib.Path):
    write_h5_named(tmp_path / "x.h5", BLOCK, below=below)
    assert same(files.read(tmp_path / "x.h5"), BLOCK_LEAVES)


def test_the_oldest_keras_names_are_understood(tmp_path: pathlib.Path):
    old = {"block1_conv1": {"block1_conv1_W_1": np.ones((3, 3, 3, 4)), "block1_conv1_b_1": np.ones(4)}}
    write_h5_named(tmp_path / "x.h5", old | {"fc": {"fc_W": np.ones((4, 4))}})
    assert set(files.read(tmp_path / "x.h5")) == {"block1_conv1.kernel", "block1_conv1.bias", "fc.kernel"}


@pytest.mark.parametrize("inside", ["layers", "layers/functional/layers"])
def test_the_newer_keras_layout_is_read_by_the_names_in_its_attributes(inside: str, tmp_path: pathlib.Path):
    layers = {"conv2d": "block1_conv1", "batch_normalization_7": "conv1/bn"}
    given = {kind: (name, list(BLOCK[name].values())) for kind, name in layers.items()}
    write_h5_numbered(tmp_path / "x.weights.h5", given, inside=inside)
    assert same(files.read(tmp_path / "x.weights.h5"), BLOCK_LEAVES)
    shutil.copy(tmp_path / "x.weights.h5", tmp_path / "model.weights.h5")
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    assert same(files.read(tmp_path / "x.keras"), BLOCK_LEAVES)


def test_a_keras_layer_of_an_unknown_kind_is_refused(tmp_path: pathlib.Path):
    write_h5_numbered(tmp_path / "x.h5", {"gru_1": ("gru", [np.ones(3)])})
    assert "layer gru, a gru_1 of 1 variables, is not known here" in refused(tmp_path / "x.h5")


def test_automatic_keras_names_count_from_zero_whatever_was_built_before():
    first = files.renumbered({"conv2d.kernel": np.ones(1), "conv2d_1.kernel": np.ones(2), "conv2d_10.kernel": np.ones(3)})
    later = files.renumbered({"conv2d_9.kernel": np.ones(1), "conv2d_99.kernel": np.ones(2), "conv2d_100.kernel": np.ones(3)})
    assert same(first, later) and list(first) == ["conv2d_0.kernel", "conv2d_1.kernel", "conv2d_2.kernel"]
    assert list(files.renumbered({"conv2d_1x.kernel": np.ones(1)})) == ["conv2d_1x.kernel"]


def state(step: int, *, average: bool = False, frozen: bool = False) -> TrainState:
    """The state of a classifier, some layers of which may be frozen."""
    head = {"output": {"bias": np.full(3, step, np.float32)}}
    stem = {"stem": {"kernel": np.full((2, 2), -step, np.float32)}}
    params = {"classifier": head, "frozen": stem} if frozen else {"classifier": {**head, **stem}}
    averaged = {player: {k: {n: 10 * x for n, x in v.items()} for k, v in part.items()} for player, part in params.items()}
    model_state = {"batch_stats": {"norm": {"mean": np.ones(2, np.float32)}}}
    numbers = np.full((), step, np.int32), np.array([0, 7], np.uint32)
    statistics = {"batch_stats/norm/mean": np.full(2, 10, np.float32)} if average else {}
    moments = {"classifier": (np.ones(3, np.float32),)}
    return TrainState(*numbers, params, model_state, moments, averaged if average else {}, statistics)


def saved(folder: pathlib.Path, **kind: bool) -> pathlib.Path:
    """The folder of a run with checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(folder / "checkpoints", ranked_by=Metric("accuracy", higher_is_better=True))
    for step in (1, 2):
        checkpoints.save(step, state(step, **kind), {}, {"accuracy": 0.5})
    checkpoints.close()
    return folder


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("average", [False, True])
def test_a_run_gives_its_newest_weights_averaged_where_they_are(average: bool, frozen: bool, tmp_path: pathlib.Path):
    found = files.read(saved(tmp_path, average=average, frozen=frozen))
    assert set(found) == {"params/output/bias", "params/stem/kernel", "batch_stats/norm/mean"}
    np.testing.assert_array_equal(found["params/output/bias"], np.full(3, 20.0 if average else 2.0))
    np.testing.assert_array_equal(found["batch_stats/norm/mean"], np.full(2, 10.0 if average else 1.0))


@pytest.mark.parametrize("damaged", ["manifest.json", "state"])
def test_a_damaged_checkpoint_of_a_run_gives_way_to_the_one_before(damaged: str, tmp_path: pathlib.Path, caplog):
    newest = saved(tmp_path) / "checkpoints" / "2"
    path = newest / damaged if damaged.endswith(".json") else next(p for p in (newest / damaged).rglob("*") if p.is_file())
    path.write_bytes(b"")
    assert files.read(tmp_path)["params/output/bias"][0] == 1
    assert "WARNING: checkpoint of step 2" in caplog.text


def test_a_run_with_only_damaged_checkpoints_is_refused(tmp_path: pathlib.Path):
    for manifest in saved(tmp_path).glob("checkpoints/*/manifest.json"):
        manifest.write_bytes(b"{")
    text = refused(tmp_path)
    assert "step 2: manifest.json is not readable" in text and "step 1: manifest.json is not readable" in text


def test_the_players_of_other_games_keep_their_names():
    players = {f"params/{player}/at": np.ones(4, np.float32) for player in chase().task.turns}
    assert set(weights_of(players)) == set(players)


def test_the_digest_is_of_names_types_shapes_numbers_and_notes():
    base = {"a": np.arange(4, dtype=np.float32)}
    others = [
        ({"b": base["a"]}, {}),
        ({"a": base["a"].astype(np.int32)}, {}),
        ({"a": base["a"].reshape(2, 2)}, {}),
        ({"a": base["a"] + 1}, {}),
        (base, {"step": "1"}),
    ]
    assert len({files.leaves_digest(leaves, notes) for leaves, notes in [(base, {}), *others]}) == 6
    assert files.leaves_digest(base, {}) != tree_digest(base), "of the notes too"
