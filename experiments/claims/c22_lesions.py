"""Claim C22, on skin lesions: transfer from a larger data set helps when labels are few.

Data:     P. Tschandl, C. Rosendahl, H. Kittler, The HAM10000 dataset, 2018, arXiv 1803.10417: 400 images of 7 classes
Command:  python launch.py ablate --experiment=c22_lesions --weights=efficientnet_lite0.safetensors --dataset=csv:labels.csv
          --dataset.labels=dx --dataset.below=images --eval_every="100 steps" --save_every="100 steps"
Result:   not shown; docs/claims/c22.md has the numbers.

As c22_transfer, with pictures that are unlike those of ImageNet. The seed of each run divides 320 images into those that are
trained on, 32 or 160 with the classes' own shares, and those that are measured, 288 or 160: the split called validation, by
which nothing is chosen. The largest class, nevi, has 37.5 % of the images, which is what guessing gives.
"""

from functools import partial

from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import contrast
from cnnlab.ablation.plan.study import Card, Figure, StudySpec
from cnnlab.data.images import images
from experiments.claims.c22_transfer import experiment as from_few_labels

experiment = partial(
    from_few_labels,
    data=partial(images, dataset="csv:isic2018_sample/labels.csv", image_size=48, validation=0.9, split_seed="run"),
    batch_size=16,
)

SMALLEST = 0.02
"""Smallest effect of interest, as a share: six of the 288 images that are measured."""
STARTS = {"linear_probe": "a linear probe of ImageNet's features", "fine_tuned": "fine-tuning ImageNet's weights"}

study = StudySpec(
    question="With 32 labelled skin lesions, and with 160, are the weights of ImageNet a better start than random ones?",
    claim="C22",
    vary=("start:scratch,linear_probe,fine_tuned", "validation:0.9,0.5"),
    seeds=5,
    metric="validation/accuracy",
    allow=("data", "splits"),
    inputs=("weights", "data.dataset"),
    smallest_effect=SMALLEST,
    verdict=every(
        *(
            contrast(
                "C22", f"start={start}", "better", f"With 32 labels, {words} is better than a random start", smallest=SMALLEST
            )
            for start, words in STARTS.items()
        ),
        shown=tuple(
            contrast(
                "C22",
                f"start={start}, validation=0.5",
                "better",
                f"With 160 labels, {words} is better than a random start",
                against="validation=0.5",
                smallest=SMALLEST,
            )
            for start, words in STARTS.items()
        ),
        requires=(
            at_least("C22", "start=fine_tuned, validation=0.5", 0.4, "With 160 labels fine-tuning is above guessing, 37.5 %"),
        ),
        scope="400 skin lesions at 48x48, EfficientNet-Lite0, 100 steps of Adam, divided anew by each seed",
    ),
    card=Card(
        published="None on such images: Donahue et al. 2014, Yosinski et al. 2014 and Kornblith et al. 2019 transfer to "
        "photos.",
        would_change="A random start that is as good with 32 labels as a start from the weights.",
        quick="--seeds=1",
        figure=Figure(title="Few labelled skin lesions: weights of ImageNet against a random start"),
        deviations=(
            "Accuracy counts all images alike, though classes differ in size: who answers `nevus` always is right in 37.5 %. "
            "Images are 48x48."
        ),
    ),
)
