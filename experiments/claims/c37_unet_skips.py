"""Claim C37, for U-Net: what its decoder loses without the features of the encoder, by borders and by mIoU. Scenes of digits.

Paper:    O. Ronneberger, P. Fischer, T. Brox, U-Net: Convolutional networks for biomedical image segmentation, 2015, arXiv
          1505.04597; that skip connections refine an FCN's masks say J. Long, E. Shelhamer, T. Darrell, 2015, arXiv 1411.4038
Command:  python launch.py ablate --experiment=c37_unet_skips
Result:   not shown; docs/claims/c37.md has the numbers. With 200 steps seeds differ by more than the arms do.

One part is left out: with --model.skips=false the decoder is given the features from below alone. It then has fewer weights;
so a wider U-Net without skips, with more weights than the one that has them, is an arm of its own. Scenes and endpoints are
those of c37_fcn_strides. Pilots of 400 steps on seed 100, which the study does not use, had boundary IoU 0.619 with skips,
0.529 without and 0.550 with the wider network; the study takes half the steps to be repeated in less time.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.models.unet import UNet
from cnnlab.ops.optimizers import adam
from cnnlab.values import Duration, with_options
from experiments.claims import c37_fcn_strides as strides

NETWORKS = {
    "with_skips": partial(UNet, width=8, levels=4),
    "without": partial(UNet, width=8, levels=4, skips=False),
    "without_wider": partial(UNet, width=10, levels=4, skips=False),
}
"""U-Nets whose deepest maps are 16 pixels apart."""

experiment = partial(
    with_options(strides.experiment, model=NETWORKS),
    model="with_skips",
    optimizer=partial(adam, lr=0.006, schedule="cosine"),
    duration=Duration(200, "steps"),
)

WITHOUT, WIDER = "model=without", "model=without_wider"

study = StudySpec(
    question="What does U-Net lose at the borders of masks without its skip connections?",
    claim="C37",
    vary=("model:with_skips,without,without_wider",),
    seeds=6,
    metric="test/boundary_iou",
    verdict=every(
        contrast("C37", WITHOUT, "worse", "Without skips borders are less sharp", against="baseline", smallest=0.02),
        contrast("C37", WIDER, "worse", "So they are with more weights than skips cost", against="baseline", smallest=0.02),
        on(
            strides.MIOU,
            contrast("C37", WITHOUT, "worse", "Without skips the mIoU is lower", against="baseline", smallest=0.01),
        ),
        requires=(on(strides.MIOU, at_least("C37", "baseline", 0.5, "U-Net finds digits: background alone has about 0.36")),),
        scope="scenes of 128x128 with one or two digits, a U-Net of 8 to 128 channels, 200 steps from scratch",
    ),
    card=Card(
        published="Long et al. (2015), table 2: FCN-32s 59.4 mIoU, FCN-8s 62.7. The paper on U-Net has no such number.",
        would_change="A U-Net without skips whose boundary IoU is less than 2 points lower.",
        quick="--seeds=1",
        figure=Figure(),
        deviations="A padded U-Net with batch normalisation, an eighth of its channels, on scenes of digits.",
    ),
)
