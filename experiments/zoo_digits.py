"""Any network of the zoo on the digits of scikit-learn at 32x32, with its stem for small images if it has one.

Data:     scikit-learn, load_digits (E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, UCI 1998)
Command:  python launch.py --experiment=zoo_digits --model=mobilenet_v2
Result:   test accuracy in % at --width=0.25, 2 seeds: ResNet-18 98.2 ± 0.2, MobileNet-v2 94.2 ± 2.8, VGG-11 with batch norm
          46.1 ± 8.5, SqueezeNet 13.6 ± 4.7. The learning rate was not tuned. The full widths were not measured. 1 to 2 min a
          seed on 2 CPU cores while other programs ran.
"""

from functools import partial
from typing import Any

from cnnlab.choices import parameters
from cnnlab.data.images import images
from cnnlab.models import MODELS
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration, with_options


def _small(model: Any) -> Any:
    """Returns the model with its stem for small images, if it has one."""
    return partial(model, stem="small") if any(name == "stem" for name, *_ in parameters(model)) else model


SMALL = {name: _small(model) for name, model in MODELS.items()}
"""All models, each with its stem for small images if it has one."""

experiment = partial(
    with_options(classification, model=SMALL),
    model="resnet18",
    data=partial(images, dataset="digits", batch_size=32, image_size=32),
    optimizer=partial(momentum, lr=0.01),
    duration=Duration(10, "epochs"),
)
