"""Skin lesions of seven classes, few of them: ImageNet's features against a random start, with weighted classes.

Data:     P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, 2018, arXiv 1803.10417: 400 images of 7 classes
Command:  python launch.py --experiment=isic_sample --start=features --weights=efficientnet_lite0.safetensors
Study:    python launch.py ablate --experiment=isic_sample --weights=efficientnet_lite0.safetensors --dataset=csv:labels.csv
          --dataset.labels=dx --dataset.below=images --eval_every="100 steps" --save_every="100 steps"
Result:   validation balanced accuracy over 3 seeds: 33.9 ± 3.3 % from a random start, 35.7 ± 3.9 % with ImageNet's features,
          40.5 ± 4.7 % fine-tuned; the differences are undecided (p = 0.69 and 0.08). All nine runs: 9 min on 2 busy CPU cores.

The study of the course's final assignment at the size of two CPU cores: images of 64x64, 100 steps. The seed of a run divides
320 images into 192 that are trained on and 128 that are measured, the split called validation, by which nothing is chosen; the
starts of a seed share the division. Every class has the same weight in the loss, and balanced accuracy, the headline of the
challenge, is what is compared: who always answers with the largest class has 14.3 %. For the whole challenge there is
isic_lesions; claims on such images are C22 and C40.
"""

from functools import partial
from typing import Any

from cnnlab import knobs
from cnnlab.ablation.plan.study import StudySpec
from cnnlab.core import Dataset, Experiment
from cnnlab.data.images import images
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.tasks import measures
from cnnlab.tasks.class_weights import ClassWeights
from cnnlab.values import Choice, Count, Duration, PathText
from experiments.claims.c22_transfer import (
    FewImages,
    Start,
    as_published,
    fine_tuned,
    linear_probe,
    network,
    require_weights,
    scratch,
)

STARTS = {"scratch": scratch, "features": linear_probe, "fine_tuned": fine_tuned}


def experiment(
    *,
    start: Choice[STARTS] = "scratch",
    weights: PathText | None = None,
    class_weights: ClassWeights = "balanced",
    data: FewImages = partial(
        images, dataset="csv:isic2018_sample/labels.csv", image_size=64, validation=0.4, split_seed="run"
    ),
    batch_size: Count = 16,
    duration: Duration = Duration(100, "steps"),
) -> Experiment:
    """EfficientNet-Lite0 learns a few skin lesions, from a random start or from ImageNet's weights.

    Args:
        start: where the network starts, and which layers are trained; features: a new last layer alone.
        weights: file of the network's weights; a random start needs none.
        class_weights: weights of the classes in the loss: balanced, or numbers; none: all images count alike.
        data: images with labels.
        batch_size: number of examples in a step.
        duration: length of training; --steps, --epochs and --examples_seen set it.
    """
    chosen: Start = start()
    require_weights(chosen, weights)

    def batches(shuffle: Any = "none") -> Dataset:
        made: Dataset = data(shuffle, batch_size=batch_size, normalize=as_published)
        return made

    made: Experiment = knobs.resolve(classification, {}).call(
        model=network,
        data=batches,
        class_weights=class_weights,
        optimizer=partial(adam, lr=chosen.lr),
        duration=duration,
        init_from=weights if chosen.has_weights else None,
        new_head=chosen.has_weights,
        frozen=chosen.frozen,
        metrics=(measures.balanced_accuracy, measures.auc),
        headline="balanced_accuracy",
    )
    return made


study = StudySpec(
    question="Do ImageNet's features recognise skin lesions better than a network that learns from 192 of them alone?",
    vary=("start:scratch,features,fine_tuned",),
    seeds=3,
    metric="validation/balanced_accuracy",
    allow=("splits",),
    inputs=("weights", "data.dataset"),
    smallest_effect=0.02,
)
