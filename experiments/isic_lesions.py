"""Seven kinds of skin lesions, ISIC 2018 task 3, by EfficientNet-Lite0; ranked by balanced accuracy, as in the challenge.

Paper:    N. Codella et al., Skin lesion analysis toward melanoma detection 2018, 2019, arXiv 1902.03368; data: P. Tschandl,
          C. Rosendahl, H. Kittler, The HAM10000 dataset, 2018, arXiv 1803.10417
Command:  python launch.py --experiment=isic_lesions --dataset=isic:FOLDER --init_from=efficientnet_lite0.safetensors --new_head
Then:     python launch.py predict --workdir=RUN --images=ISIC2018_Task3_Test_Input --table=classes --to=submission.csv
Result:   not run yet.

FOLDER holds the folders and files of the challenge; no division cuts the images of a lesion. Nevi are two thirds of the images:
batches show all classes equally often, and the accuracy alone says little.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import half
from cnnlab.ops.optimizers import adam
from cnnlab.recipes.classification import classification
from cnnlab.values import Duration

experiment = partial(
    classification,
    model="efficientnet_lite0",
    data=partial(
        images,
        dataset="isic:ISIC2018",
        batch_size=32,
        image_size=224,
        normalize=half,
        augment="flip,vertical_flip,color_jitter",
        order="balanced",
    ),
    optimizer=partial(adam, lr=3e-4),
    metrics="balanced_accuracy,auc",
    headline="balanced_accuracy",
    duration=Duration(20, "epochs"),
)
