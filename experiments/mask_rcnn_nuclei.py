"""Mask R-CNN finds every single nucleus of cells in microscope images, fluorescence and histology, by 120 images.

Paper:    K. He, G. Gkioxari, P. Dollár, R. Girshick, Mask R-CNN, 2017, arXiv 1703.06870; a small encoder with group
          normalisation and a feature pyramid in place of ResNet, from scratch
Data:     a part of the Data Science Bowl 2018 (J. C. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018
          Data Science Bowl, 2019): 160 images, 40 of which are the test split
Command:  python launch.py --experiment=mask_rcnn_nuclei --dataset=nuclei:PATH --dataset.instances
Result:   mask AP50 0.792, AP 0.455 on the 40 test images, one seed (a watershed: 0.711, 0.357); AP50 0.816 of fluorescence,
          0.538 of histology, three images (0.759, 0.361); of nuclei that touch another one AP50 0.423, recall 0.588 (0.384,
          0.591); 405 steps, 10 min 42 s of CPU time.

Images keep their size, and training sees crops of 128x128. The watershed is the one of watershed_nuclei, which learns nothing.
"""

from functools import partial

from cnnlab.data.images import images
from cnnlab.data.normalize import half
from cnnlab.data.resize import canvas
from cnnlab.models.mask_rcnn import MaskRCNN
from cnnlab.ops.optimizers import muon
from cnnlab.recipes.detection import detection
from cnnlab.values import Duration

experiment = partial(
    detection,
    model=partial(
        MaskRCNN, anchor_scales=(2.0, 3.5), anchor_samples=256, proposals=300, region_samples=128, mask_bins=7, mask_depth=2
    ),
    data=partial(
        images,
        dataset="nuclei:stage1_train",
        image_fit=canvas,
        batch_size=8,
        validation=0.0,
        normalize=half,
        augment="random_crop,flip,quarter_turns",
    ),
    optimizer=partial(muon, lr=0.02, schedule="cosine"),
    duration=Duration(27, "epochs"),
)
