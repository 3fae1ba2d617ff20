"""Claim C55: a network that learns what a larger one says classifies better than one that learns the labels alone. MNIST.

Paper:    G. Hinton, O. Vinyals, J. Dean, Distilling the knowledge in a neural network, 2015, arXiv 1503.02531, section 3; that
          images without labels will do: C. Bucila, R. Caruana, A. Niculescu-Mizil, Model compression, KDD 2006
Command:  python launch.py ablate --experiment=c55_distillation
Result:   supported in part; docs/claims/c55.md has the numbers.

Of 1,000 images, 100 of each class drawn by the seed, the labels are known. LeNet-5 learns from them for 600 steps; then a
network of 32 hidden units takes 1000 steps, from the labels alone, from labels and soft targets of the same images, or also
from the soft targets of three other images for each labelled one, whose labels nothing reads. A fourth arm has a teacher that
is as small as the student: what it gains comes from other images and from soft targets, not from a larger network.

The smallest effect of interest is 0.2 points with the same images, about a quarter of the 0.72 points that the source gains on
MNIST, and one point with other images, a quarter of what lies between the two networks.

Pilots on seeds 100 and 101, which the study does not use, had 88.9 and 89.3 % from the labels alone, 89.8 and 89.5 % with soft
targets of the same images, 92.2 and 91.4 % with those of others, and 88.2 and 88.2 % by a small teacher. LeNet-5 had 94.0 %.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import bounded, contrast, on
from cnnlab.ablation.plan.designs import zip_levels
from cnnlab.ablation.plan.levels import parse_vary
from cnnlab.ablation.plan.study import BASELINE, Card, Figure, StudySpec
from cnnlab.data.images import images
from cnnlab.models.lenet import LeNet5
from cnnlab.models.mlp import MLP
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.distillation import distillation
from cnnlab.values import Duration, with_options

SMALL = partial(MLP, widths=(32,))
"""The student: 25,450 parameters."""
TEACHERS = {"lenet5": LeNet5, "small": SMALL}
"""LeNet-5 with 61,706, or another network of the student's kind."""

experiment = partial(
    with_options(distillation, teacher=TEACHERS),
    model=SMALL,
    teacher="lenet5",
    data=partial(images, dataset="tfds:mnist", batch_size=32, validation=0.0),
    examples_per_class=100,
    examples_seed="run",
    optimizer=partial(adam, lr=0.003, schedule="cosine"),
    teacher_duration=Duration(600, "steps"),
    duration=Duration(1000, "steps"),
)

VARY = ("soft_weight:0,0.9,0.9,0.9", "unlabelled_ratio:0,0,3,3", "teacher:lenet5,lenet5,lenet5,small")
"""The arms; the first learns from the labels alone."""
ALONE, SAME, OTHERS, SMALL_TEACHER = (arm.name for arm in zip_levels(parse_vary(VARY)))
TEACHER = "test/teacher_accuracy"
SMALLEST, SMALLEST_OF_OTHERS = 0.002, 0.01
"""Smallest effects of interest, as shares of the test images."""

study = StudySpec(
    question="With 1,000 labels of MNIST, does a small network learn more from a larger one than from the labels alone?",
    claim="C55",
    vary=VARY,
    design="zip",
    seeds=8,
    metric="test/accuracy",
    allow=("data", "splits"),
    verdict=every(
        contrast("C55", SAME, "better", "Soft targets of the same images beat labels alone", against=ALONE, smallest=SMALLEST),
        contrast(
            "C55",
            OTHERS,
            "better",
            "With soft targets of images without labels the student is better still",
            against=SAME,
            smallest=SMALLEST_OF_OTHERS,
        ),
        shown=(
            contrast("C55", SMALL_TEACHER, "worse", "A teacher as small as the student helps less", against=OTHERS),
            bounded(
                "C55",
                SMALL_TEACHER,
                "not better",
                SMALLEST,
                "With it the student is not better than with the labels alone",
                against=ALONE,
                source="a quarter of the gain of the source",
            ),
        ),
        requires=(
            at_least("C55", ALONE, 0.8, "The labels alone teach more than eight of ten images"),
            on(
                TEACHER,
                contrast("C55", SAME, "better", "LeNet-5 is a better teacher than the small network", against=SMALL_TEACHER),
            ),
            on(TEACHER, at_least("C55", OTHERS, 0.92, "LeNet-5 learns more than 92 of 100 images")),
        ),
        scope="MNIST with 1,000 labels drawn by each seed, 32 hidden units taught by LeNet-5 at a temperature of 4, 1000 steps",
    ),
    card=Card(
        published=(
            "Hinton et al. (2015), section 3: on MNIST two layers of 800 units make 146 errors of 10,000, and 74 with soft "
            "targets at a temperature of 20 of a regularised network of two layers of 1200 units, which makes 67."
        ),
        would_change="A student that learns from soft targets and gains less than 0.2 points over the labels alone.",
        quick="--seeds=1",
        figure=Figure(),
        deviations=(
            "1,000 labels in place of 60,000, a convolutional teacher and a smaller student, none regularised. The arms "
            "take as many steps; those with other images see four times as many. Weight and temperature, 0.9 and 4, were not "
            "tuned."
        ),
    ),
)
assert ALONE == BASELINE
