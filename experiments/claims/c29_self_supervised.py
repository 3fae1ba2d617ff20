"""Claim C29: self-supervised features beat random ones under a linear probe. Rotations and views of CIFAR-10, without labels.

Paper:    S. Gidaris, P. Singh, N. Komodakis, Unsupervised representation learning by predicting image rotations, 2018,
          arXiv 1803.07728
          T. Chen, S. Kornblith, M. Norouzi, G. Hinton, A simple framework for contrastive learning of visual representations,
          2020, arXiv 2002.05709
Command:  python launch.py ablate --experiment=c29_self_supervised --data_dir=DIR
Result:   absent (smaller than of interest); docs/claims/c29.md has the numbers.

A small network sees 10,000 images for 10 epochs and tells by how many quarter turns they were turned, or which two views are
of one image, or, as a bound, the class. Then it is frozen, and a logistic regression with 100 labels a class reads the output
of its second block of three, averaged over 4x4 cells. The arm that the claim is about keeps its random weights; another one
does so on images that were whitened (ZCA), which helps random filters. A seed draws the weights, the batches and the labelled
images, the same labelled images for all arms. The penalty of the regression is chosen on a fifth of these.

What is fixed in advance: the second block decides, since the features of the last one belong to the pretext task; other layers
and nearest neighbours are shown. Nothing was tuned.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.convnet import ConvNet
from cnnlab.models.norms import batch_norm
from cnnlab.recipes.pretexts import rotation
from cnnlab.recipes.probe import pretrained_probe
from cnnlab.recipes.starts import contrastive, puzzle, random, supervised
from cnnlab.values import Duration, with_options

STARTS = {
    "random": random,
    "rotation": partial(puzzle, pretext=rotation),
    "contrastive": contrastive,
    "supervised": supervised,
}
# Running statistics of 0.99 would still hold their initial values after a few hundred steps.
NETWORK = partial(ConvNet, widths=(32, 64, 128), depth=1, norm=partial(batch_norm, momentum=0.9, epsilon=1e-5))

experiment = partial(
    with_options(pretrained_probe, start=STARTS),
    start="random",
    model=NETWORK,
    data=partial(images, dataset="tfds:cifar10", batch_size=128, validation=0.0),
    images_per_class=1000,
    duration=Duration(10, "epochs"),
    layers=("stage2", "stage1", "stage3", "features"),
    examples_per_class=100,
    examples_seed="run",
)

VARY = ("start:random,rotation,contrastive,supervised,random", "data.normalize:standard,standard,standard,standard,zca")
"""The arms; the first one has random weights."""


def named(start: str, normalize: str = "standard") -> str:
    """Returns the name of the arm with a start and a normalisation."""
    wanted = {"start": start, "data.normalize": normalize}
    return next(arm.name for arm in zip_levels(parse_vary(VARY)) if wanted.items() <= arm.knobs.items())


RANDOM = named("random")
SMALLEST = 0.1
"""Smallest effect of interest, as a share: ten points."""

study = StudySpec(
    question="With 100 labels a class, does a linear probe read more from a network that was trained without labels?",
    claim="C29",
    vary=VARY,
    design="zip",
    seeds=5,
    metric="test/accuracy",
    allow=("data", "steps"),
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C29", named("rotation"), "better", "Features that tell rotations beat random ones", against=RANDOM),
        contrast("C29", named("contrastive"), "better", "Features that match views beat random ones", against=RANDOM),
        shown=(
            contrast(
                "C29",
                named("rotation"),
                "better",
                "Features that tell rotations beat random ones of whitened images",
                against=named("random", "zca"),
            ),
            contrast("C29", named("supervised"), "better", "Features that tell classes beat random ones", against=RANDOM),
            *(
                on(f"test/{metric}", contrast("C29", named(start), "better", says, against=RANDOM))
                for start in ("rotation", "contrastive")
                for metric, says in (
                    ("knn_accuracy", f"By neighbours, those of {start} beat random ones"),
                    ("accuracy_features", f"At the last layer, those of {start} beat random ones"),
                )
            ),
        ),
        requires=(
            on(
                "test/pretext_accuracy",
                at_least("C29", named("rotation"), 0.5, "Half of the rotations are told, chance is 25 %"),
            ),
            on("test/pretext_spread", at_least("C29", named("contrastive"), 0.5, "The projections have not collapsed")),
        ),
        scope="10,000 images of CIFAR-10, a network of three convolutions, 10 epochs of Adam, labels drawn anew by each seed",
    ),
    card=Card(
        published="Gidaris et al. (2018) report for CIFAR-10 that convolutions trained on the second block of a network that "
        "tells rotations come close to the same network trained with labels, all labels being used.",
        would_change="Random features that are as good, or worse by less than ten points.",
        deviations="Three convolutions, 10,000 images and 10 epochs; a linear probe with 1,000 labels.",
        quick="--seeds=1 --steps=20",
        figure=Figure(),
    ),
)
