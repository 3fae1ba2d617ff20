"""Any network of the zoo on the digits of scikit-learn at 32x32, with the stem for small images where it has one.

Data:     scikit-learn, load_digits (E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, UCI 1998)
Command:  python launch.py --experiment=zoo_digits --model=mobilenet_v2
Result:   test accuracy in % at --width=0.25, 2 seeds: ResNet-18 98.2 ± 0.2, MobileNet-v2 94.2 ± 2.8, VGG-11 with batch norm
          46.1 ± 8.5, SqueezeNet 13.6 ± 4.7 at this learning rate, which was not tuned; 1 to 2 min a seed on 2 CPU cores beside
          other work. The full widths were not measured.
"""

from functools import partial
from typing import Any

from cnnlab.core import Experiment
from cnnlab.data import DATASETS
from cnnlab.data.augment import AUGMENTS
from cnnlab.data.normalize import NORMALIZERS
from cnnlab.knobs import parameters
from cnnlab.models import MODELS
from cnnlab.ops.losses import LOSSES
from cnnlab.ops.optimizers import OPTIMIZERS, momentum
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.recipes.classification import classification
from cnnlab.values import Choice, Count, Duration, Fraction


def _small(model: Any) -> Any:
    """The model with its stem for small images, where it has one."""
    return partial(model, stem="small") if any(name == "stem" for name, *_ in parameters(model)) else model


SMALL = {name: _small(model) for name, model in MODELS.items()}
"""Every model, ready for images of 32x32."""


def experiment(
    *,
    model: Choice[SMALL] = "resnet18",
    optimizer: Choice[OPTIMIZERS] = partial(momentum, lr=0.01),
    schedule: Choice[SCHEDULES] = "cosine",
    augment: Choice[AUGMENTS] = "none",
    batch_size: Count = 32,
    duration: Duration = Duration(10, "epochs"),
    validation: Fraction = 0.1,
) -> Experiment:
    """The digits by a network of the zoo.

    Args:
        model: network.
        optimizer: how it moves.
        schedule: learning rate over training, relative to its peak.
        augment: random changes of the training images, on the device.
        batch_size: examples a step over all devices.
        duration: length of training; --steps, --epochs and --examples set it.
        validation: share of the training split set aside.
    """
    return classification(
        model=model,
        dataset=DATASETS["digits"],
        loss=LOSSES["cross_entropy"],
        optimizer=optimizer,
        schedule=schedule,
        augment=augment,
        normalize=NORMALIZERS["standard"],
        batch_size=batch_size,
        duration=duration,
        validation=validation,
        image_size=32,
    )
