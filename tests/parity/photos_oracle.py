"""Writes the fixture of whole image files: timm's evaluation transform and network, from the file to the logits.

    python photos_oracle.py WEIGHTS.safetensors PHOTOS.tar FIXTURE.npz

It runs in the environment of oracle.py. The fixture holds file/NAME (u8 [N], the bytes of an image file: the photos, and some
of them in other colour modes) and logits/NAME [1000] in f64, of tf_efficientnet_lite0 with the weights.
"""

import io
import sys
import tarfile

import numpy as np
import oracle  # declares torchvision's operators, without which timm cannot be imported
import torch
from PIL import Image
from safetensors.torch import load_file

PARTS = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand", "_depthwise_conv": "conv_dw"}
ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def timm_name(name: str, depths: list[int]) -> str:
    """`_blocks.3._bn1.weight` -> `blocks.2.0.bn2.weight`: blocks are counted within stages, norms from 1 without gaps."""
    parts = name.split(".")
    if parts[0] != "_blocks":
        return ".".join([ENDS[parts[0]], *parts[1:]])
    number, stage = int(parts[1]), 0
    while number >= depths[stage]:
        number, stage = number - depths[stage], stage + 1
    widens = stage > 0
    names = {**PARTS, "_expand_conv": "conv_pw", "_project_conv": "conv_pwl" if widens else "conv_pw"}
    names |= {f"_bn{i}": f"bn{i + 1 if widens else i}" for i in range(3)}
    return ".".join(["blocks", str(stage), str(number), names[parts[2]], *parts[3:]])


def saved(image: Image.Image, **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def files(archive: str) -> dict[str, bytes]:
    """The photos of an archive by name, and copies in grey, palette and CMYK."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile() and not member.name.endswith(".md")]
        found = {member.name.rpartition("/")[2]: tar.extractfile(member).read() for member in members}
    with Image.open(io.BytesIO(found["chelsea.png"])) as cat:
        found["grey.png"] = saved(cat.convert("L"), format="PNG")
        found["palette.png"] = saved(cat.quantize(64), format="PNG")
        found["cmyk.jpg"] = saved(cat.convert("CMYK"), format="JPEG")
    return found


def main() -> None:
    """Writes the fixture."""
    import timm
    from timm.data import create_transform, resolve_data_config

    weights, archive, target = sys.argv[1:]
    model = oracle.build("timm:tf_efficientnet_lite0", {})
    depths = [len(stage) for stage in model.blocks]
    state = {timm_name(name, depths): leaf for name, leaf in load_file(weights).items()}
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys and all(name.endswith("num_batches_tracked") for name in left.missing_keys), left
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    model = model.double().eval()
    arrays = {}
    for name, content in files(archive).items():
        # timm's ImageDataset opens a file and converts it to RGB.
        images = transform(Image.open(io.BytesIO(content)).convert("RGB"))[None]
        with torch.no_grad():
            arrays[f"logits/{name}"] = model(images.double())[0].numpy()
        arrays[f"file/{name}"] = np.frombuffer(content, np.uint8)
    np.savez(target, **arrays)
    print(f"timm {timm.__version__}: {len(arrays) // 2} image files from the file to the logits", flush=True)


if __name__ == "__main__":
    main()
