"""The torchvision side of variations.py; runs in an environment of its own, on the cores that it is given."""

import json
import os
import sys
import time

CORES, SIZE, BATCH, ROUNDS = [int(core) for core in sys.argv[1].split(",")], *map(int, sys.argv[2:])
os.sched_setaffinity(0, CORES)

import torch  # noqa: E402

torch.set_num_threads(len(CORES))
if torch.version.cuda is None:
    # torchvision is built for torch with CUDA: beside a CPU build its operators are absent, which no variation needs.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.transforms import v2  # noqa: E402

FLIP_CROP = [v2.RandomHorizontalFlip(), v2.RandomCrop(SIZE, padding=4)]
LISTS = {
    "flip,pad_crop": v2.Compose(FLIP_CROP),
    "flip,pad_crop,color_jitter": v2.Compose([*FLIP_CROP, v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]),
    "random_resized_crop,flip": v2.Compose([v2.RandomResizedCrop(SIZE, antialias=False), v2.RandomHorizontalFlip()]),
    "rand_augment": v2.RandAugment(),
}


def main() -> None:
    """Prints {list: seconds of each round for a batch}; every image has draws of its own, as in a training set."""
    images = torch.randint(256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
    taken: dict[str, list[float]] = {name: [] for name in LISTS}
    for number in range(ROUNDS + 1):
        for name, vary in LISTS.items():
            began = time.perf_counter()
            torch.stack([vary(image) for image in images]).float()
            if number:
                taken[name].append(time.perf_counter() - began)
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
