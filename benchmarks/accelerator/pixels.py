"""Brings CIFAR-10 and MNIST to a machine without a network, in pieces that fit into one transfer.

    python -m benchmarks.accelerator.pixels pack --cifar10=FILE.tar --mnist=FOLDER --to=pixels      (here)
    python -m benchmarks.accelerator.pixels unpack --to=pixels                                      (there)

`pack` writes mnist.npz and cuts the archive of lossless WebP strips (cifar10/{train,test}_NNNNN.webp, 500 images each, and
{train,test}_labels.u8) into pieces of at most 50 MiB, cifar10.tar.0, cifar10.tar.1, …; `unpack` joins them and writes
cifar10.npz, for which it needs Pillow.
"""

import argparse
import gzip
import io
import pathlib
import tarfile

import numpy as np

PIECE = 50 * 2**20
IDX_HEADERS = {"images": 16, "labels": 8}
"""Bytes before the data of an IDX file."""


def main() -> None:
    """Packs or unpacks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("pack", "unpack"))
    for name in ("cifar10", "mnist", "to"):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=name == "to")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    if given.verb == "unpack":
        unpack(given.to)
        return
    if given.cifar10:
        cut(given.cifar10, given.to)
    if given.mnist:
        np.savez_compressed(given.to / "mnist.npz", **read_idx(given.mnist))


def cut(archive: pathlib.Path, to: pathlib.Path, piece: int = PIECE) -> list[pathlib.Path]:
    """Writes the bytes of an archive as numbered pieces and returns their paths."""
    content = archive.read_bytes()
    paths = []
    for number, start in enumerate(range(0, len(content), piece)):
        paths.append(to / f"cifar10.tar.{number}")
        paths[-1].write_bytes(content[start : start + piece])
    return paths


def unpack(folder: pathlib.Path) -> pathlib.Path:
    """Joins the pieces in a folder, decodes the strips and writes cifar10.npz beside them."""
    pieces = sorted(folder.glob("cifar10.tar.*"), key=lambda path: int(path.suffix[1:]))
    if not pieces:
        raise SystemExit(f"error: no cifar10.tar.0 in {folder}.\nMake the pieces with `pixels pack --cifar10=FILE.tar`.")
    arrays: dict[str, np.ndarray] = {}
    with tarfile.open(fileobj=io.BytesIO(b"".join(path.read_bytes() for path in pieces))) as archive:
        contents = {pathlib.PurePath(name).name: archive.extractfile(name) for name in archive.getnames()}
        read = {name: file.read() for name, file in contents.items() if file}
    for split in ("train", "test"):
        strips = [read[name] for name in sorted(read) if name.startswith(split) and name.endswith(".webp")]
        arrays[f"x_{split}"] = np.concatenate([decoded(strip) for strip in strips])
        arrays[f"y_{split}"] = np.frombuffer(read[f"{split}_labels.u8"], np.uint8).astype(np.int32)
    np.savez(folder / "cifar10.npz", **arrays)
    return folder / "cifar10.npz"


def decoded(strip: bytes) -> np.ndarray:
    """Returns u8 [N, 32, 32, 3] of a strip of N images, one below another."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(strip))).reshape(-1, 32, 32, 3)  # [N · 32, 32, 3] -> [N, 32, 32, 3]


def read_idx(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads MNIST's four gzipped IDX files."""
    arrays = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for kind, name in (("images", "x"), ("labels", "y")):
            (path,) = folder.glob(f"{prefix}-{kind}-idx?-ubyte.gz")
            with gzip.open(path) as file:
                numbers = np.frombuffer(file.read(), np.uint8)[IDX_HEADERS[kind] :]
            # [N · 28 · 28] -> [N, 28, 28]
            arrays[f"{name}_{split}"] = numbers.reshape(-1, 28, 28) if kind == "images" else numbers.astype(np.int32)
    return arrays


if __name__ == "__main__":
    main()
