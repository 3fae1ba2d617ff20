"""LeNet-5 (modern form, 61,706 parameters) on the digits of scikit-learn, enlarged to 32x32, with random shifts.

Paper:    Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998
Command:  python launch.py --experiment=lenet5_digits --seeds=5
Result:   test accuracy 0.9928 ± 0.0015 over 5 seeds. At --lr=0.05 one seed of seven kills its units and stays at chance;
          `check` finds it.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.ops.optimizers import momentum
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="lenet5",
    data=partial(images, dataset="digits", image_size=32, augment="shift"),
    optimizer=partial(momentum, lr=0.02),
    duration=Duration(60, "epochs"),
)
