"""Claim C37: skip connections sharpen the segmentation of FCN-32s. FCN-32s, 16s and 8s on ResNet-18, scenes of digits.

Paper:    J. Long, E. Shelhamer, T. Darrell, Fully convolutional networks for semantic segmentation, 2015, arXiv 1411.4038,
          table 2 and figure 4
Command:  python launch.py ablate --experiment=c37_fcn_strides
Result:   supported at small scale; docs/claims/c37.md has the numbers.

The claim is about borders, so the endpoint is the boundary IoU (B. Cheng et al., Boundary IoU, 2021, arXiv 2103.16562), the IoU
of the inner borders of all masks; the mIoU is a part of its own. All three networks have the same encoder, train from scratch
on the same scenes in the same order, and enlarge their scores by fixed bilinear interpolation, so that they differ in the maps
that are scored alone. Masks are the boxes of digits, of one class: the strokes of digits are so thin that FCN-32s learned
nothing of them on seed 100 (IoU 0.02; FCN-8s 0.65), as c37_oracle_strides leads to expect, which says what a perfect network of
each stride could reach. Scenes have 128x128 pixels, on which FCN-32s has 4x4 scores; of its 2x2 scores for 64x64 pixels it made
little more than background on seed 100 (mIoU 0.46, three optimisers and 1,200 steps alike). Pilots of this setting on seed 100,
which the study does not use, had boundary IoU 0.389 (FCN-32s) and 0.543 (FCN-8s).
"""

from functools import partial

import numpy as np

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data import DATASETS
from cnnlab.data.images import images
from cnnlab.data.kinds import Mask
from cnnlab.data.scenes import scenes
from cnnlab.data.source import Source, Split, digest_splits
from cnnlab.models.fcn import fcn8s, fcn16s, fcn32s
from cnnlab.models.resnet import resnet18
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.segmentation import segmentation
from cnnlab.values import Count, Duration, with_options

NETWORKS = {
    name: partial(network, backbone=partial(resnet18, width=0.25), dropout=0.0)
    for name, network in (("fcn32s", fcn32s), ("fcn16s", fcn16s), ("fcn8s", fcn8s))
}
"""The three forms on one encoder of 16 to 128 channels, whose deepest maps are 32 pixels apart."""


def figures(*, examples: Count = 2000, size: Count = 128, data_seed: int = 0) -> Source:
    """Draws scenes of one or two digits with two classes, background and digit; a digit is all of its box.

    Args:
        examples: size of the training split; the test split has a quarter of it.
        size: height and width of a scene in pixels.
        data_seed: seed of the scenes.
    """
    drawn = scenes(examples=examples, size=size, sides=(0.4, 0.7), most_objects=2, clutter=2, data_seed=data_seed)
    splits = {}
    for split, part in drawn.splits.items():
        boxes = part.columns["objects"]
        mask = np.zeros(part.columns["segmentation"].shape, np.uint8)
        for number, place in np.argwhere(boxes["valid"]):
            left, top, right, bottom = boxes["corners"][number, place].astype(int)
            mask[number, top:bottom, left:right] = 1
        splits[split] = Split({"image": part.columns["image"], "segmentation": mask})
    kinds = {"image": drawn.kinds["image"], "segmentation": Mask(("background", "digit"))}
    return Source("figures", splits, kinds, digest_splits("figures", splits))


PIPELINE = with_options(images, dataset={**DATASETS, "figures": figures})

experiment = partial(
    with_options(segmentation, model=NETWORKS, data={"images": PIPELINE}),
    model="fcn32s",
    data=partial(
        PIPELINE,
        dataset="figures",
        batch_size=8,
        validation=0.0,
        augment=(),
    ),
    losses="cross_entropy,dice",
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    duration=Duration(400, "steps"),
)

MIOU = "test/miou"


def sharper(arm: str, says: str, against: str = "baseline", smallest: float | None = None) -> Rule:
    """Returns the comparison of boundary IoU."""
    return contrast("C37", arm, "better", says, against=against, smallest=smallest)


study = StudySpec(
    question="Do the scores of finer maps sharpen the borders of an FCN's masks?",
    claim="C37",
    vary=("model:fcn32s,fcn16s,fcn8s",),
    seeds=6,
    metric="test/boundary_iou",
    verdict=every(
        sharper("model=fcn8s", "FCN-8s has sharper borders than FCN-32s", smallest=0.02),
        on(MIOU, contrast("C37", "model=fcn8s", "better", "FCN-8s has the higher mIoU", against="baseline", smallest=0.01)),
        shown=(
            sharper("model=fcn16s", "FCN-16s has sharper borders than FCN-32s"),
            sharper("model=fcn8s", "FCN-8s has sharper borders than FCN-16s", "model=fcn16s"),
        ),
        requires=(
            on(
                MIOU,
                at_least("C37", "baseline", 0.5, "FCN-32s finds digits: background alone has about 0.36"),
            ),
        ),
        scope="scenes of 128x128 with one or two digits, ResNet-18 of a quarter of its channels, 400 steps from scratch",
    ),
    card=Card(
        published=(
            "Long et al. (2015), table 2, on a part of the validation images of PASCAL VOC 2011: FCN-32s 59.4 mIoU, FCN-16s "
            "62.4, FCN-8s 62.7."
        ),
        would_change="Borders of FCN-8s that are sharper by less than 2 points of boundary IoU.",
        quick="--seeds=1",
        figure=Figure(),
        deviations=(
            "Scenes of digits in place of photos, a narrow ResNet-18 from scratch in place of VGG-16 with weights of ImageNet; "
            "each form is trained from the beginning, not from the coarser one. Boundary IoU is from a later work."
        ),
    ),
)
