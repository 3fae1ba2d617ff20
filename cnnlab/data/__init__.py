"""Where examples come from (sources), how they become batches (images.py, pipeline.py) and how they are varied (augment.py).

Importing this module imports NumPy and nothing heavier: each source imports its reader inside its own function, so that a
machine without TFDS or grain runs experiments on arrays as they are.
"""

from cnnlab.data.arrays import digits, npz
from cnnlab.data.folders import folder
from cnnlab.data.procedural import gaussians, stripes, xor
from cnnlab.data.tfds_sets import tfds

DATASETS = {
    "digits": digits,
    "tfds": tfds,
    "folder": folder,
    "npz": npz,
    "xor": xor,
    "stripes": stripes,
    "gaussians": gaussians,
}
"""Openers by name; `tfds:NAME`, `folder:PATH` and `npz:PATH` take what follows the colon."""
