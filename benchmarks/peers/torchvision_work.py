"""The same variations by torchvision.transforms.v2; runs in an environment of its own, on the cores that it is given."""

import os

import torch

from benchmarks.measure import Work

torch.set_num_threads(len(os.sched_getaffinity(0)))
if torch.version.cuda is None:
    # torchvision is built for torch with CUDA: beside a CPU build its operators are absent, which no variation needs.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.transforms import v2  # noqa: E402


def work(names: str, size: int, batch: int) -> Work:
    """Returns the run `vary`: a loop over the images, as a DataLoader's worker has it, so that each has draws of its own."""
    flip_crop = [v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=4)]
    vary = {
        "flip,pad_crop": v2.Compose(flip_crop),
        "flip,pad_crop,color_jitter": v2.Compose([*flip_crop, v2.ColorJitter(0.4, 0.4, 0.4, 0.1)]),
        "random_resized_crop,flip": v2.Compose([v2.RandomResizedCrop(size, antialias=False), v2.RandomHorizontalFlip()]),
        "rand_augment": v2.RandAugment(),
    }[names]
    images = torch.randint(256, (batch, 3, size, size), dtype=torch.uint8)

    def run(steps: int) -> None:
        for _ in range(steps):
            torch.stack([vary(image) for image in images]).float()

    return Work({"vary": run})
