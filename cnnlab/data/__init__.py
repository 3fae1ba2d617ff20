"""Data sets (sources), how they become batches (images.py, pipeline.py) and how training examples are varied (variations/).

Importing this module imports NumPy and nothing heavier: each source imports its reader inside its own function, so that a
machine without TFDS or grain can still run experiments on arrays.
"""

from cnnlab.data.arrays import digits
from cnnlab.data.cityscapes import cityscapes
from cnnlab.data.coco_files import coco
from cnnlab.data.csv_files import csv_table
from cnnlab.data.folders import folder
from cnnlab.data.isic import isic
from cnnlab.data.mask_folders import masks
from cnnlab.data.npz_files import npz
from cnnlab.data.nuclei import nuclei
from cnnlab.data.photos import blank, photos, sample_photos
from cnnlab.data.procedural import gaussians, smooth_noise, stripes, xor
from cnnlab.data.scenes import scenes
from cnnlab.data.sequences import adding, recall
from cnnlab.data.tfds_sets import tfds
from cnnlab.data.voc_folders import voc

DATASETS = {
    "digits": digits,
    "tfds": tfds,
    "folder": folder,
    "csv": csv_table,
    "isic": isic,
    "cityscapes": cityscapes,
    "masks": masks,
    "coco": coco,
    "voc": voc,
    "nuclei": nuclei,
    "npz": npz,
    "xor": xor,
    "stripes": stripes,
    "gaussians": gaussians,
    "smooth_noise": smooth_noise,
    "scenes": scenes,
    "adding": adding,
    "recall": recall,
    "photos": photos,
    "sample_photos": sample_photos,
    "blank": blank,
}
"""The functions that open a data set, by name; those of `tfds:NAME`, `folder:PATH` and the like take what follows."""
