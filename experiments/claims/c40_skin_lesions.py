"""Claim C40: accuracy misleads where classes are unbalanced; balanced accuracy does not. Skin lesions by ImageNet's features.

Paper:    K. Brodersen, C. S. Ong, K. Stephan, J. Buhmann, The balanced accuracy and its posterior distribution, 2010; data:
          P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, 2018, arXiv 1803.10417: 400 images of 7 classes
Command:  python launch.py ablate --experiment=c40_skin_lesions --weights=efficientnet_lite0.safetensors
          --dataset=csv:labels.csv --dataset.labels=dx --dataset.below=images --eval_every="100 steps" --save_every="100 steps"
Result:   supported in part; docs/claims/c40.md has the numbers.

A linear classifier on the features of EfficientNet-Lite0 learns 160 lesions, with the plain loss or with one in which every
class has the same weight in all. Another 160 are measured (the split called validation, by which nothing is chosen); the
seed of each run divides them, the same in both arms. If accuracy misleads, the two metrics have to put the classifiers in
different orders: the plain one ahead by the accuracy at the shares of HAM10000, where two of three images are nevi, and the
weighted one ahead by balanced accuracy. That accuracy is the mean of the recalls of the classes by their shares there, since
the sample has 37.5 % nevi. The two orders are what decides; what a mistake costs in practice no metric here knows.

The smallest effect of interest is two points, three of the 160 images. What is exact about the two metrics, c40_prevalence has.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast, on
from cnnlab.ablation.plan.study import BASELINE, Card, Figure, StudySpec
from cnnlab.core import Dataset, Experiment
from cnnlab.data.images import images
from cnnlab.metric import SHARE, Metric
from cnnlab.ops import metrics_of_counts as of_counts
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.tasks import measures
from cnnlab.tasks.class_weights import ClassWeights
from cnnlab.tasks.measures import Measure, Scored
from cnnlab.values import Count, Duration, PathText, Positive
from experiments.claims.c22_transfer import FewImages, as_published, network
from experiments.claims.c40_prevalence import COUNTS

AT_SHARES = "accuracy_at_ham10000"
"""Name of the accuracy at the shares of HAM10000."""


def accuracy_at_ham10000(class_names: Sequence[str]) -> Measure:
    """The accuracy that the recalls of the classes give at their shares in HAM10000; at equal shares for other classes."""
    shares = np.array([COUNTS.get(name, 1) for name in class_names], np.float64)

    def compute(scored: Scored) -> dict[str, float]:
        recall = np.nan_to_num(of_counts.recall(scored.counts))  # 0 for a class that is nowhere
        return {AT_SHARES: float(shares @ recall / shares.sum())}

    return Measure((Metric(AT_SHARES, SHARE, higher_is_better=True),), compute)


def experiment(
    *,
    class_weights: ClassWeights = None,
    weights: PathText | None = None,
    data: FewImages = partial(
        images, dataset="csv:isic2018_sample/labels.csv", image_size=96, validation=0.5, split_seed="run"
    ),
    batch_size: Count = 16,
    lr: Positive = 0.01,
    duration: Duration = Duration(100, "steps"),
) -> Experiment:
    """A linear classifier on the features of EfficientNet-Lite0, ranked by balanced accuracy.

    Args:
        class_weights: weights of the classes in the loss: balanced, or numbers; none: all images count alike.
        weights: file of EfficientNet-Lite0's weights; none: features of random weights.
        data: images with labels.
        batch_size: number of examples in a step.
        lr: learning rate of Adam at the start of a cosine schedule.
        duration: length of training; --steps, --epochs and --examples_seen set it.
    """

    def batches(shuffle: Any = "none") -> Dataset:
        made: Dataset = data(shuffle, batch_size=batch_size, normalize=as_published)
        return made

    made: Experiment = knobs.resolve(classification, {}).call(
        model=network,
        data=batches,
        class_weights=class_weights,
        optimizer=partial(adam, lr=lr),
        duration=duration,
        init_from=weights,
        new_head=weights is not None,
        frozen=("features",),
        metrics=(measures.balanced_accuracy, measures.f1, measures.auc, accuracy_at_ham10000),
        headline="balanced_accuracy",
    )
    return made


WEIGHTED = "class_weights=balanced"
SMALLEST = 0.02
"""Smallest effect of interest, as a share."""

study = StudySpec(
    question="Do accuracy and balanced accuracy rank a plain and a class-weighted classifier of skin lesions alike?",
    claim="C40",
    vary=("class_weights:none,balanced",),
    seeds=8,
    metric="validation/balanced_accuracy",
    allow=("splits",),
    inputs=("weights", "data.dataset"),
    smallest_effect=SMALLEST,
    verdict=every(
        contrast("C40", WEIGHTED, "better", "By balanced accuracy the class-weighted classifier is ahead", smallest=SMALLEST),
        on(
            f"validation/{AT_SHARES}",
            contrast("C40", WEIGHTED, "worse", "By accuracy at HAM10000's shares the plain one is ahead", smallest=SMALLEST),
        ),
        shown=(
            on("validation/accuracy", contrast("C40", WEIGHTED, "worse", "At the shares of the sample it is, too")),
            on("validation/f1", contrast("C40", WEIGHTED, "better", "By F1, a mean over the classes, the weighted is ahead")),
            on("validation/auc", contrast("C40", WEIGHTED, "better", "By the area under the ROC curve it is, too")),
        ),
        requires=(
            at_least("C40", BASELINE, 0.25, "The plain classifier is above guessing, 1/7"),
            at_least("C40", WEIGHTED, 0.25, "The weighted classifier is, too"),
        ),
        scope="400 skin lesions at 96x96, divided anew by each seed, a linear classifier on EfficientNet-Lite0's features",
    ),
    card=Card(
        published="The challenge ranks by balanced accuracy (Codella et al. 2019). No number for such a pair of classifiers.",
        would_change="Two classifiers that both metrics put in the same order, or whose balanced accuracies are equal.",
        quick="--seeds=2",
        figure=Figure(),
        deviations=(
            "Cut to two cores and to the 400 images at hand: 37.5 % nevi in place of 67 %, images of 96x96, 100 steps. The "
            "seeds divide the same images, so the intervals hold for these."
        ),
    ),
)
