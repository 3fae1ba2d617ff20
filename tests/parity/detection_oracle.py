"""Writes the fixture of the operations of detection from torchvision in f64; runs in an environment of its own, with torch.

    python detection_oracle.py FILE

The file holds for each operation NAME/ARGUMENT and NAME/y, and NAME/dx for the gradient of the sum of y · dy. What has no
kernel in a CPU build (nms, roi_pool) is left out. Fixed choices, which test_detection.py reads too, stand at the top.
"""

import os
import sys
import types

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # roi_align would be compiled, for minutes

import numpy as np

ALIGNED = [(aligned, size) for aligned in (True, False) for size in ((7, 7), (2, 3))]
SCALE = 1 / 8
WEIGHTS = {"rcnn": (10.0, 10.0, 5.0, 5.0), "rpn": (1.0, 1.0, 1.0, 1.0)}
MATCHERS = {"rpn": (0.7, 0.3, True), "retina": (0.5, 0.4, True), "rcnn": (0.5, 0.5, False)}
GRID = {"sizes": (32, 64), "ratios": (0.5, 1.0, 2.0), "cells": (5, 7), "image": (40, 57)}
SSD_SCALES = (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)
SSD_RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
SSD_STEPS = (8, 16, 32, 64, 100, 300)
SSD_CELLS = ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
CLASSES = 4
"""Classes of the SSD's loss; the last of its logits, number 0 there, is the background."""
PASTED = (48, 56)


def some(random: np.random.Generator, count: int, extent: float = 60.0) -> np.ndarray:
    """Random boxes f64 [count, 4], with the digits of f32."""
    low = random.uniform(0, extent, (count, 2))
    return np.concatenate([low, low + random.uniform(2, extent, (count, 2))], axis=1).astype(np.float32).astype(np.float64)


def main() -> None:
    """Writes the file."""
    import torch
    from oracle import KEPT
    from torch.nn import functional
    from torchvision import ops
    from torchvision.models.detection import _utils, anchor_utils, image_list, ssd

    assert KEPT  # the operators of the wheel are declared
    random, arrays = np.random.default_rng(0), {}

    def add(name, function, x, **others):
        """The value of a function of x, and its gradient for a random dy."""
        given = torch.tensor(x, requires_grad=True)
        y = function(given)
        dy = torch.tensor(random.normal(size=tuple(y.shape)))
        (dx,) = torch.autograd.grad(y, given, dy)
        values = {"x": given, "y": y, "dy": dy, "dx": dx}
        arrays.update({f"{name}/{key}": value.detach().numpy() for key, value in values.items()})
        arrays.update({f"{name}/{key}": np.asarray(value) for key, value in others.items()})

    a, b = some(random, 9), some(random, 9)
    others = torch.tensor(b)
    add("iou", lambda x: ops.box_iou(x, others), a, other=b)
    add("giou", lambda x: ops.generalized_box_iou(x, others).diagonal(), a, other=b)
    add("giou_loss", lambda x: ops.generalized_box_iou_loss(x, others), a, other=b)
    add("clipped", lambda x: ops.clip_boxes_to_image(x, (50, 70)), a)
    targets = (random.random((12, 5)) < 0.2).astype(np.float64)
    add("focal", lambda x: ops.sigmoid_focal_loss(x, torch.tensor(targets)), random.normal(0, 3, (12, 5)), targets=targets)
    zeros = torch.zeros(12, 4, dtype=torch.float64)
    for beta in (1.0, 1 / 9):
        x = random.normal(0, 0.5, (12, 4))
        add(f"smooth_l1/{beta}", lambda x, s=beta: functional.smooth_l1_loss(x, zeros, reduction="none", beta=s), x)
    for name, weights in WEIGHTS.items():
        coder, anchors = _utils.BoxCoder(weights), torch.tensor(some(random, 9))
        add(f"encode/{name}", lambda x, c=coder, k=anchors: c.encode_single(x, k), a, anchors=anchors)
        codes = random.normal(0, 3, (9, 4))
        add(f"decode/{name}", lambda x, c=coder, k=anchors: c.decode_single(x, k), codes, anchors=anchors)

    # On the border and up to a cell across it. Without a compiled kernel, torchvision clamps points further away, which its
    # kernels take as 0 (tests/test_ops_regions.py).
    features, rois = random.normal(size=(2, 3, 12, 15)), np.clip(some(random, 8), 0, 96)
    rois[:3] = [[-6, -5, 60, 50], [0, 0, 120, 96], [50, 30, 122, 98]]
    given = [torch.tensor(rois), torch.tensor(rois[::-1].copy())]
    for aligned, size in ALIGNED:
        add(
            f"roi_align/{aligned}-{size}",
            lambda x, s=size, o=aligned: ops.roi_align(x, given, s, SCALE, sampling_ratio=2, aligned=o),
            features,
            boxes=np.stack([rois, rois[::-1]]),
        )
    masks = (random.random((3, 40, 50)) < 0.5).astype(np.float64)
    index = np.asarray([0, 2, 1, 1, 0, 2, 2, 0])
    around = np.clip(rois * 0.4, 0, 40)
    rows = torch.cat([torch.tensor(index, dtype=torch.float64)[:, None], torch.tensor(around)], dim=1)
    cut = ops.roi_align(torch.tensor(masks)[:, None], rows, (6, 6), 1.0, sampling_ratio=2, aligned=True)
    arrays |= {"masks/x": masks, "masks/index": index, "masks/boxes": around, "masks/y": cut[:, 0].numpy()}
    sides = np.concatenate([np.linspace(5, 1200, 200), [111.99, 112, 223.99, 224, 448]])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides * 0.9], axis=1).astype(np.float32)
    arrays |= {"levels/boxes": boxes, "levels/y": ops.poolers.LevelMapper(2, 5)([torch.tensor(boxes)]).numpy() + 2}
    # As detectron2's paste_masks_in_image: the centres of pixels in the coordinates of the box.
    mask, (x1, y1, x2, y2) = random.random((7, 7)), (-3.5, 8.25, 31.0, 44.5)
    down, right = (
        (torch.arange(size, dtype=torch.float64) + 0.5 - low) / (high - low) * 2 - 1
        for size, low, high in ((PASTED[0], y1, y2), (PASTED[1], x1, x2))
    )
    grid = torch.stack([right[None].expand(PASTED), down[:, None].expand(PASTED)], dim=-1)[None]
    back = functional.grid_sample(torch.tensor(mask)[None, None], grid, align_corners=False)[0, 0]
    arrays |= {"pasted/x": mask, "pasted/box": np.asarray([x1, y1, x2, y2]), "pasted/y": back.numpy()}

    for name, (high, low, forced) in MATCHERS.items():
        truth, anchors = some(random, 6), np.concatenate([some(random, 60), some(random, 1).repeat(2, axis=0)])
        anchors = np.concatenate(
            [anchors, truth + random.uniform(-4, 4, truth.shape), truth + random.uniform(-9, 9, truth.shape)]
        )
        overlaps = ops.box_iou(torch.tensor(truth), torch.tensor(anchors))
        arrays |= {f"matcher/{name}/x": overlaps.numpy()}
        arrays[f"matcher/{name}/y"] = _utils.Matcher(high, low, forced)(overlaps.clone()).numpy()
    arrays["matcher/ssd/x"] = overlaps.numpy()
    arrays["matcher/ssd/y"] = _utils.SSDMatcher(0.5)(overlaps.clone()).numpy()

    images = image_list.ImageList(torch.zeros(1, 3, *GRID["image"]), [GRID["image"]])
    made = anchor_utils.AnchorGenerator((GRID["sizes"],), (GRID["ratios"],))(images, [torch.zeros(1, 1, *GRID["cells"])])
    arrays["grid/y"] = made[0].numpy()
    images = image_list.ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)])
    maps = [torch.zeros(1, 1, *cells) for cells in SSD_CELLS]
    for clip in (True, False):
        for steps in (SSD_STEPS, None):
            generator = anchor_utils.DefaultBoxGenerator(
                [list(map(int, row)) for row in SSD_RATIOS], scales=list(SSD_SCALES), steps=steps and list(steps), clip=clip
            )
            arrays[f"default_boxes/{clip}-{steps is None}"] = generator(images, maps)[0].numpy()

    # The loss of SSD on two images, the second without an object: the method itself, without a network.
    anchors, truth = torch.tensor(some(random, 90)), torch.tensor(some(random, 3))
    matched = [_utils.SSDMatcher(0.5)(ops.box_iou(truth, anchors)), torch.full((90,), -1)]
    labels = [torch.tensor([1, 3, 2]), torch.zeros(0, dtype=torch.int64)]
    outputs = {"bbox_regression": torch.tensor(random.normal(size=(2, 90, 4)))}
    outputs["cls_logits"] = torch.tensor(random.normal(0, 2, (2, 90, CLASSES)))
    net = types.SimpleNamespace(box_coder=_utils.BoxCoder(WEIGHTS["rcnn"]), neg_to_pos_ratio=3)
    objects = [{"boxes": truth, "labels": labels[0]}, {"boxes": torch.zeros(0, 4, dtype=torch.float64), "labels": labels[1]}]
    loss = ssd.SSD.compute_loss(net, objects, outputs, [anchors, anchors], matched)
    arrays |= {"ssd/box_loss": loss["bbox_regression"].numpy(), "ssd/class_loss": loss["classification"].numpy()}
    for name in outputs:
        arrays[f"ssd/{name}"] = outputs[name].numpy()
    arrays |= {"ssd/anchors": anchors.numpy(), "ssd/truth": truth.numpy(), "ssd/labels": labels[0].numpy()}
    arrays["ssd/matched"] = torch.stack(matched).numpy()
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
