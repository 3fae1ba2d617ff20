"""Writes a fixture of files as torch.save writes them; runs in an environment of its own, with torch.

    python saved_oracle.py FILE

The fixture holds file/NAME, the bytes of each file (u8), and array/NAME/TENSOR, its tensors, those of half precision as f32.
"""

import io
import sys

import numpy as np
import torch
from torch import nn


def contents() -> dict[str, object]:
    """What is saved: a module's state, a training program's checkpoint, every type, and views that share storages."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(8, 5, bias=False))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(2, 3, 3, 4)).sum().backward()
    optimizer.step()
    numbers = torch.arange(24.0)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    checkpoint = {"epoch": 3, "arch": "toy", "state_dict": network.state_dict(), "optimizer": optimizer.state_dict()}
    return {
        "module": network.state_dict(),
        "checkpoint": {**checkpoint, "best": 0.5, "lr": [0.1, None, True]},
        "parameters": dict(network.named_parameters()),
        "types": {str(kind).partition(".")[2]: numbers.to(kind) for kind in kinds} | {"bool": numbers > 3},
        "views": {"turned": numbers.view(4, 6).T, "piece": numbers[5:17].view(2, 6)[:, ::2], "all": numbers, "one": numbers[7]},
    }


def tensors(content: object, above: str = "") -> dict[str, np.ndarray]:
    """The tensors of nested dicts and lists by their names with dots."""
    if isinstance(content, torch.Tensor):
        narrow = content.dtype in (torch.float16, torch.bfloat16)
        return {above: (content.float() if narrow else content).detach().numpy()}
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list | tuple) else ()
    found: dict[str, np.ndarray] = {}
    for key, entry in items:
        found |= tensors(entry, f"{above}.{key}" if above else str(key))
    return found


def main() -> None:
    """Writes the fixture."""
    formats = {
        "zip": {},
        "protocol4": {"pickle_protocol": 4},
        "legacy": {"_use_new_zipfile_serialization": False},
    }
    arrays: dict[str, np.ndarray] = {}
    for name, content in contents().items():
        for format_, options in formats.items():
            file = io.BytesIO()
            torch.save(content, file, **options)
            arrays[f"file/{name}-{format_}"] = np.frombuffer(file.getvalue(), np.uint8)
        arrays |= {f"array/{name}/{tensor}": array for tensor, array in tensors(content).items()}
    rare = {"float8": torch.arange(8.0).to(torch.float8_e4m3fn)}
    file = io.BytesIO()
    torch.save(rare, file)
    arrays |= {"file/rare-zip": np.frombuffer(file.getvalue(), np.uint8), "array/rare/float8": np.arange(8.0, dtype=np.float32)}
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
