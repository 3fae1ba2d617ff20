"""Writes the fixture of whole networks of detection from torchvision; runs in an environment of its own, with torch.

    python detectors_oracle.py FILE

For each network NAME the file holds NAME/state/LEAF and NAME/input [B, C, H, W] in f32, and in f64 the raw outputs of each
image (NAME/codes, NAME/logits; in two stages: of anchors as NAME/anchor_…, and of proposals), NAME/signal, the largest change
of a raw output between images, the detections of image n after suppression (NAME/n/boxes, labels, scores, masks), and the terms
of the loss of the batch with frozen statistics (NAME/loss/TERM) for the objects NAME/n/true_boxes, true_labels and true_masks.

Networks are calibrated as those of oracle.py are, and the layers that predict are scaled so that boxes lie near their anchors.
Nothing is drawn: as many anchors and regions enter the losses of Faster R-CNN as there are. The wheel's nms, which a CPU build
lacks, is replaced by a loop over the boxes.
"""

import os
import sys
import time

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # roi_align would be compiled, for minutes

import numpy as np

CLASSES = 3
"""Classes of objects."""
TWO_STAGES = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn")
SIZES = {"ssd300_vgg16": (300, 300), **dict.fromkeys(("retinanet_resnet50_fpn", *TWO_STAGES), (75, 100))}
"""(H, W) of the images; 75 and 100 are no multiples of a stride."""
PROPOSALS = {"before": 60, "after": 40}
"""Boxes of a level that enter the suppression, and proposals of an image."""
DETECTIONS = {"least_score": 0.2, "threshold": 0.45, "before": 400, "most": 50}
"""What becomes a detection."""
EVERYTHING = 5000
"""Boxes of RetinaNet that enter the suppression, above all that there are, since torchvision's limit is that of a level."""
OBJECTS = [([[8, 10, 40, 44], [30, 5, 95, 70], [60, 40, 80, 74]], [1, 3, 2]), ([[20, 30, 75, 60]], [2])]
"""Boxes and classes (from 1) of the objects of both images, for 75x100; none is the second at the anchor of another."""
DRAWN = {"anchors": 7000, "regions": 200}
"""Anchors and regions that enter a loss at most, of which half and a quarter may have an object: more than there are."""


def declared() -> list:
    """Declares the operators of torchvision's wheel, and suppression as a loop."""
    import torch
    from oracle import KEPT
    from torchvision.ops import boxes

    def suppressed(around: torch.Tensor, scores: torch.Tensor, threshold: float) -> torch.Tensor:
        left, kept = torch.argsort(scores, descending=True, stable=True), []
        while len(left):
            kept.append(left[0])
            # The IoU of two boxes without an area is NaN, and neither suppresses the other.
            left = left[1:][~(boxes.box_iou(around[left[:1]], around[left[1:]])[0] > threshold)]
        return torch.stack(kept) if kept else left

    KEPT[0].impl("nms", suppressed, "CPU")
    boxes._assert_has_ops = lambda: None
    return KEPT


def networks() -> dict:
    """The networks by name."""
    from torchvision.models import detection

    plain = {"weights": None, "weights_backbone": None, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    cut = {"score_thresh": DETECTIONS["least_score"], "nms_thresh": DETECTIONS["threshold"]}
    cut |= {"detections_per_img": DETECTIONS["most"]}
    boxes = {f"box_{name}": value for name, value in cut.items()}
    proposals = {
        f"rpn_{name}_nms_top_n_{mode}": PROPOSALS[which]
        for name, which in (("pre", "before"), ("post", "after"))
        for mode in ("train", "test")
    }
    drawn = {"rpn_batch_size_per_image": DRAWN["anchors"], "box_batch_size_per_image": DRAWN["regions"]}
    height, width = SIZES[TWO_STAGES[0]]
    size = {"min_size": height, "max_size": width}
    return {
        "ssd300_vgg16": detection.ssd300_vgg16(num_classes=1 + CLASSES, topk_candidates=DETECTIONS["before"], **plain, **cut),
        "retinanet_resnet50_fpn": detection.retinanet_resnet50_fpn(
            num_classes=1 + CLASSES, topk_candidates=EVERYTHING, **plain, **cut, **size
        ),
        **{
            name: getattr(detection, name)(num_classes=1 + CLASSES, **plain, **boxes, **proposals, **drawn, **size)
            for name in TWO_STAGES
        },
    }


def scaled(model, images, deviations: dict) -> None:
    """Scales layers that predict so that the outputs of each have a standard deviation, {layer: deviation}."""
    import torch

    found: dict = {layer: [] for layer in deviations}
    handles = [layer.register_forward_hook(lambda own, _, output: found[own].append(output.flatten())) for layer in deviations]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    for layer, deviation in deviations.items():
        factor = deviation / torch.cat(found[layer]).std()
        layer.weight.data *= factor
        layer.bias.data *= factor


def tame(name: str, model, images) -> None:
    """Scales the layers that predict, those of proposals first."""
    if name in TWO_STAGES:
        of_boxes, of_anchors = model.roi_heads.box_predictor, model.rpn.head
        scaled(model, images, {of_anchors.cls_logits: 2.0, of_anchors.bbox_pred: 0.3})
        scaled(model, images, {of_boxes.cls_score: 2.0, of_boxes.bbox_pred: 1.5})
        if model.roi_heads.has_mask():
            scaled(model, images, {model.roi_heads.mask_predictor.mask_fcn_logits: 2.0})
    elif name == "retinanet_resnet50_fpn":
        scaled(model, images, {model.head.classification_head.cls_logits: 2.0, model.head.regression_head.bbox_reg: 0.3})
    else:
        parts = ((model.head.classification_head, 2.0), (model.head.regression_head, 1.5))
        scaled(model, images, {layer: deviation for part, deviation in parts for layer in part.module_list})


def raw_outputs(name: str, model, images) -> tuple[dict, list]:
    """The raw outputs of every image, f64 [B, N, …], and the detections."""
    import torch

    found: dict = {}
    if name in TWO_STAGES:
        hooks = [
            model.roi_heads.register_forward_hook(lambda _, __, output: found.update(detections=list(map(dict, output[0])))),
            model.rpn.head.register_forward_hook(lambda _, __, output: found.update(anchors=output)),
            model.roi_heads.box_predictor.register_forward_hook(lambda _, __, output: found.update(boxes=output)),
            model.rpn.register_forward_hook(lambda _, __, output: found.update(proposals=output[0])),
        ]
    else:
        hooks = [model.head.register_forward_hook(lambda _, __, output: found.update(output))]
    with torch.no_grad():
        detections = model(images)
    for hook in hooks:
        hook.remove()
    if name not in TWO_STAGES:
        return {"codes": found["bbox_regression"], "logits": found["cls_logits"]}, detections
    # Of each level [B, A·P, h, w] -> [B, h·w·A, P], in the order of the anchors.
    by_anchor = [
        torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, numbers) for x in levels], dim=1)
        for levels, numbers in zip(found["anchors"], (1, 4), strict=True)
    ]
    count = PROPOSALS["after"]
    assert all(len(each) == count for each in found["proposals"])
    logits, codes = (each.reshape(len(images), count, -1) for each in found["boxes"])
    named = {"anchor_logits": by_anchor[0], "anchor_codes": by_anchor[1], "logits": logits, "codes": codes}
    for each, before in zip(detections, found["detections"], strict=True):
        if "masks" in each:  # in the bins of the boxes, not yet on the image
            each["masks"] = before["masks"][:, 0]
    return {**named, "proposals": torch.stack(found["proposals"])}, detections


def ellipse(box: list, size: tuple) -> np.ndarray:
    """The pixels of an ellipse in a box, u8 [H, W]."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    x1, y1, x2, y2 = box
    far = ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2
    return (far <= 1).astype(np.uint8)


def projected(masks, boxes, index, bins):
    """The targets of masks [R, bins, bins] in boxes by RoI align at the centres of pixels and two points of a bin and axis.

    torchvision's own are half a pixel off, and take as many points as the size of the box asks for.
    """
    import torch
    from torchvision import ops

    rows = torch.cat([index[:, None].to(boxes), boxes], dim=1)
    return ops.roi_align(masks[:, None].to(boxes), rows, (bins, bins), 1.0, sampling_ratio=2, aligned=True)[:, 0]


def losses(model, images, name: str) -> tuple[dict, list]:
    """The terms of the loss with the statistics of `calibrate`, and the objects."""
    import torch
    from oracle import norms

    factor = SIZES[name][1] / 100
    objects = [
        {"boxes": factor * torch.tensor(boxes, dtype=torch.float64), "labels": torch.tensor(labels)}
        for boxes, labels in OBJECTS
    ]
    if name == "maskrcnn_resnet50_fpn":
        for each in objects:
            each["masks"] = torch.stack([torch.tensor(ellipse(box.tolist(), SIZES[name])) for box in each["boxes"]])
    model.train()
    for module in norms(model):
        module.eval()
    with torch.no_grad():
        return model(images, objects), objects


def main() -> None:
    """Writes the file."""
    import torch
    from oracle import calibrate
    from torchvision.models.detection import roi_heads

    assert declared()
    roi_heads.project_masks_on_boxes = projected
    torch.set_num_threads(2)
    arrays = {}
    for name, model in networks().items():
        torch.manual_seed(0)
        images = torch.rand(len(OBJECTS), 3, *SIZES[name])
        calibrate(model, list(images))
        tame(name, model, list(images))
        arrays |= {f"{name}/state/{leaf}": value.numpy().copy() for leaf, value in model.state_dict().items()}
        exact = list(images.double())
        outputs, detections = raw_outputs(name, model.double(), exact)
        arrays |= {f"{name}/{key}": value.numpy() for key, value in outputs.items()}
        arrays |= {f"{name}/{n}/{key}": each[key].numpy() for n, each in enumerate(detections) for key in each}
        arrays[f"{name}/input"] = images.numpy()
        arrays[f"{name}/signal"] = min(
            (outputs[key][0] - outputs[key][1:]).abs().max().numpy() for key in outputs if key != "proposals"
        )
        terms, objects = losses(model, exact, name)
        arrays |= {f"{name}/loss/{term}": value.numpy() for term, value in terms.items()}
        arrays |= {f"{name}/{n}/true_{key}": each[key].numpy() for n, each in enumerate(objects) for key in each}
        print(
            name,
            time.process_time(),
            [len(each["boxes"]) for each in detections],
            {term: float(value) for term, value in terms.items()},
        )
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
