"""Files of PyTorch are read without PyTorch, and nothing that their index asks for is run."""

import collections
import io
import os
import pathlib
import pickle
import re
import tarfile
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from cnnlab.errors import CheckpointError
from cnnlab.interop import files, torch_files, torch_index, wrapped
from tests import torch_writer
from tests.torch_writer import Parameter, Part, Typed

RANDOM = np.random.default_rng(0)
STATE = collections.OrderedDict({"conv.weight": RANDOM.normal(size=(4, 3, 3, 2)).astype(np.float32), "fc.bias": np.arange(5.0)})
STATE._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
"""A state dict as a module gives it, with the attribute that torch adds."""
TYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.int32, np.int16, np.int8, np.uint8, np.bool_]


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name]) for name in found
    )


def refused(path: pathlib.Path) -> str:
    with pytest.raises(CheckpointError) as error:
        files.read(path)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("order", ["little", "big", None])
def test_every_type_and_byte_order_of_a_zip_archive_is_read(order: str | None, protocol: int, tmp_path: pathlib.Path):
    state = {np.dtype(kind).name: (np.arange(6).reshape(2, 3) % 3).astype(kind) for kind in TYPES}
    torch_writer.save(tmp_path / "x.pt", {**state, "empty": np.zeros((0, 3), np.float32)}, order=order, protocol=protocol)
    found, _ = torch_files.read(tmp_path / "x.pt")
    assert found.pop("empty").shape == (0, 3) and same(found, state)


@pytest.mark.parametrize("write", [torch_writer.save, torch_writer.save_legacy])
def test_views_of_one_storage_parameters_and_numbers_without_a_storage_kind_are_read(write: Any, tmp_path: pathlib.Path):
    storage, narrow = np.arange(24, dtype=np.float32), np.arange(4).astype(ml_dtypes.float8_e4m3fn)
    tied = {"turned": Part(storage, 0, (6, 4), (1, 6)), "piece": Part(storage, 5, (2, 3), (6, 2)), "all": storage}
    more = {"typed": Typed(narrow)} if write is torch_writer.save else {}
    write(tmp_path / "x.pth", {**tied, "learned": Parameter(storage.reshape(4, 6)), "one": Part(storage, 23, (), ()), **more})
    found, _ = torch_files.read(tmp_path / "x.pth")
    turned = storage.reshape(4, 6)
    piece = np.stack([storage[5:11:2], storage[11:17:2]])
    expected = {"turned": turned.T, "piece": piece, "all": storage, "learned": turned, "one": storage[23]}
    assert same(found, {**expected, **({"typed": narrow} if more else {})})


@pytest.mark.parametrize("write", [torch_writer.save, torch_writer.save_legacy])
@pytest.mark.parametrize("above", [None, "state_dict", "model"])
def test_a_state_dict_is_found_below_its_container_and_widened(above: str | None, write: Any, tmp_path: pathlib.Path):
    half = {f"module.{name}": leaf.astype(np.float16) for name, leaf in STATE.items()}
    training = {"epoch": 3, "best": 0.5, "optimizer": {"state": {0: {"step": 7}}, "param_groups": [{"betas": (0.9, 0.999)}]}}
    write(tmp_path / "x.pth.tar", {above: half, "arch": "resnet50b", **training} if above else half)
    found, source = files.load(tmp_path / "x.pth.tar")
    assert found.keys() == STATE.keys() and all(leaf.dtype == np.float32 for leaf in found.values())
    assert source.architecture == ("resnet50b" if above else "x")
    assert any("2 of 2 leaves are float16 and are widened" in note for note in source.notes)


def test_a_module_state_with_its_metadata_and_python_2_text_are_read(tmp_path: pathlib.Path):
    torch_writer.save(tmp_path / "x.pt", STATE)
    assert same(files.read(tmp_path / "x.pt"), dict(STATE))
    old = b"\x80\x02ccollections\nOrderedDict\n]](U\x05epochK\x03ea\x85R."
    assert torch_index.interpreted(io.BytesIO(old)) == ({"epoch": 3}, {})


def archive(path: pathlib.Path, index: bytes, storages: dict[str, bytes] | None = None) -> pathlib.Path:
    torch_writer.write_archive(path, index, storages or {})
    return path


class Calling:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.called = function, arguments

    def __reduce__(self) -> Any:
        return self.called


TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOSTILE = {
    "a call of the system": (pickle.dumps(Calling(os.system, "touch harm"), 2), "asks for posix.system"),
    "a name from the stack": (pickle.dumps(Calling(os.system, "touch harm"), 4), "asks for posix.system"),
    "evaluated text": (pickle.dumps(Calling(eval, "open('harm', 'w')"), 2), "eval"),
    "an attribute of an attribute": (
        b"\x80\x02cbuiltins\ngetattr\ncos\npath\nX\x02\x00\x00\x00os\x86R.",
        "asks for builtins.getattr",
    ),
    "a dotted name": (b"\x80\x04\x8c\x0ctorch._utils\x8c\x0aos.systems\x93.", "asks for torch._utils.os.systems"),
    "text instructions": (b"(S'touch harm'\nios\nsystem\n.", "the instruction STRING"),
    "a class with arguments": (b"\x80\x02(ccollections\nOrderedDict\no.", "the instruction OBJ"),
    "a new object": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "the instruction NEWOBJ"),
    "an extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "a class in the place of a function": (b"\x80\x02ctorch\nFloatStorage\n)R.", "calls torch.FloatStorage"),
    "a text that is called": (b"\x80\x02X\x02\x00\x00\x00os)R.", "calls a value of type str"),
    "attributes of a function": (b"\x80\x02" + TENSOR + b"}b.", "changes torch._utils._rebuild_tensor_v2"),
    "a function from the memo": (b"\x80\x02" + TENSOR + b"q\x000h\x00}R.", "the instruction POP"),
    "a tensor of nothing": (b"\x80\x02" + TENSOR + b")R.", "missing"),
    "a tensor of text": (b"\x80\x02" + TENSOR + b"X\x01\x00\x00\x00a\x85R.", "with something else"),
    "a whole module": (b"\x80\x02X\x06\x00\x00\x00moduleX\x01\x00\x00\x00a\x86Q.", "refers to a value of type tuple"),
    "a container as a key": (b"\x80\x02}]K\x01s.", "a value of type list is the key"),
    "more than there is": (b"\x80\x02K\x01\x87.", "takes more values than there are"),
    "values before a mark": (b"\x80\x02K\x01(K\x02\x86.", "takes more values than there are"),
    "an unknown place of the memo": (b"\x80\x02h\x07.", "KeyError"),
    "no end": (b"\x80\x02}", "exhausted before seeing STOP"),
    "two values": (b"\x80\x02}}.", "too many values"),
    "deep nesting": (b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 5000 + b"a" * 4999 + b"s.", "nested over 100 deep"),
    "a list in itself": (b"\x80\x02}X\x01\x00\x00\x00a]q\x00h\x00as.", "nested over 100 deep"),
    "lists that double": (
        b"\x80\x02}X\x01\x00\x00\x00a(]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60)) + b"ts.",
        "entries",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_index_that_is_more_than_tensors_is_refused_before_anything_runs(
    kind: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wrapped, "MOST_ENTRIES", 1000)
    index, words = HOSTILE[kind]
    assert words in refused(archive(tmp_path / "x.pt", index))
    # The same pickle at the beginning of a file, where the older format has one.
    if index.startswith(b"\x80"):
        (tmp_path / "x.bin").write_bytes(index)
        refused(tmp_path / "x.bin")
    assert not (tmp_path / "harm").exists()


def test_what_is_no_state_dict_is_said_and_how_a_refused_file_is_written_anew(tmp_path: pathlib.Path):
    for content in ({"epoch": 3}, [np.ones(2)], {}):
        torch_writer.save(tmp_path / "x.pt", content)
        assert "holds no state dict" in refused(tmp_path / "x.pt")
    text = refused(archive(tmp_path / "x.pt", HOSTILE["a call of the system"][0]))
    assert "can run code" in text and "nothing of it was run" in text and "torch.save(model.state_dict(), FILE)" in text
    with tarfile.open(tmp_path / "x.pth", "w", format=tarfile.USTAR_FORMAT) as oldest:
        oldest.addfile(tarfile.TarInfo("storages"))
    text = refused(tmp_path / "x.pth")
    assert "oldest format of torch" in text and "torch.save(torch.load(" in text
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as script:
        script.writestr("archive/constants.pkl", b"\x80\x02).")
    assert "torch.jit.load(" in refused(tmp_path / "x.pt")


BEYOND = {
    "an offset": (20, (2, 3), (3, 1)),
    "a stride": (0, (2, 3), (30, 1)),
    "a negative offset": (-1, (2,), (1,)),
    "a negative stride": (3, (2,), (-1,)),
    "a size that is no number": (0, ("a",), (1,)),
    "another number of strides": (0, (2, 3), (1,)),
    "a stride of 0 that fills the memory": (0, (10**12,), (0,)),
}


@pytest.mark.parametrize("kind", BEYOND)
def test_a_tensor_beyond_its_storage_is_refused(kind: str, tmp_path: pathlib.Path):
    torch_writer.save(tmp_path / "x.pt", {"w": Part(np.arange(24, dtype=np.float32), *BEYOND[kind])})
    assert re.search("its tensor w (reaches beyond its storage|has impossible)", refused(tmp_path / "x.pt"))


def test_storages_that_are_not_as_the_index_says_are_refused(tmp_path: pathlib.Path):
    index, storages = torch_writer.index_of({"w": np.arange(24, dtype=np.float32)})
    content, path = storages["0"].tobytes(), tmp_path / "x.pt"
    assert "which has 95 bytes" in refused(archive(path, index, {"0": content[:-1]}))
    assert "which has no bytes" in refused(archive(path, index, {"1": content}))
    torch_writer.write_archive(path, index, {"0": content}, order="middle")
    assert "its byteorder is 'middle'" in refused(path)
    # A member that is compressed, or that claims more bytes than the file has, would fill the memory.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", index)
    assert "is compressed" in refused(path)
    archive(path, index, {"0": content})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(content, content[:-1] + b"\x01"))
    assert "Bad CRC-32" in refused(path)
    entry = whole.rindex(b"PK\x01\x02", 0, whole.index(b"archive/data/0", whole.index(b"PK\x01\x02")))
    larger = (len(whole) * 2).to_bytes(4, "little")
    path.write_bytes(whole[: entry + 20] + larger * 2 + whole[entry + 28 :])
    assert "larger in all than the file" in refused(path)


def test_a_legacy_file_that_ends_early_or_lists_other_storages_is_refused(tmp_path: pathlib.Path):
    torch_writer.save_legacy(tmp_path / "x.pt", {"w": np.arange(24, dtype=np.float32)})
    whole = (tmp_path / "x.pt").read_bytes()
    for broken, words in (
        (whole[:-1], "ends too early"),
        (whole[: -24 * 4 - 8] + (2**40).to_bytes(8, "little") + whole[-24 * 4 :], "another size than in its index"),
        (whole.replace(pickle.dumps(["0"], 2), pickle.dumps(["1"], 2)), "not that of its index"),
        (whole.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2)), "not the one of torch.save"),
        (whole[:40], "remain"),
    ):
        (tmp_path / "x.pt").write_bytes(broken)
        assert words in refused(tmp_path / "x.pt")


def test_every_name_of_an_index_stands_for_a_function_of_this_package():
    assert all(function.__module__ == torch_index.__name__ for function in torch_index.CALLS.values())
    assert {name.partition(".")[0] for name in torch_index.NAMES} == {"torch", "collections"}
