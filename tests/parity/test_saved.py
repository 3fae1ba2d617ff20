"""Files that torch.save wrote, in both formats, hold the same tensors when they are read without torch."""

import pathlib

import numpy as np
import pytest

from cnnlab.interop import torch_files
from tests.parity import fixtures

pytestmark = [pytest.mark.parity, pytest.mark.slow]


def test_files_of_torch_save_are_read_bit_by_bit(tmp_path: pathlib.Path):
    path = fixtures.saved_path()
    if not path.exists():
        pytest.skip("no fixture: `python -m tests.parity.fixtures saved` makes it (torch in an environment of its own)")
    fixture = dict(np.load(path))
    names = [key.removeprefix("file/") for key in fixture if key.startswith("file/")]
    assert len(names) == 16
    for name in names:
        (tmp_path / name).write_bytes(fixture[f"file/{name}"].tobytes())
        found, header = torch_files.read(tmp_path / name)
        prefix = f"array/{name.partition('-')[0]}/"
        expected = {key.removeprefix(prefix): array for key, array in fixture.items() if key.startswith(prefix)}
        assert found.keys() == expected.keys() and header == ({"arch": "toy"} if name.startswith("checkpoint") else {}), name
        for tensor, array in expected.items():
            narrow = found[tensor].dtype.name in ("float16", "bfloat16", "float8_e4m3fn")
            numbers = found[tensor].astype(np.float32) if narrow else found[tensor]
            assert numbers.dtype == array.dtype and np.array_equal(numbers, array), f"{name}: {tensor}"
