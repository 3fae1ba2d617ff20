"""Figures: pure functions from NumPy arrays to matplotlib figures, in one style.

They use neither pyplot nor global state, so they may be drawn in any thread (one figure in one thread at a time); matplotlib
is imported by the first call. Every page is laid out in inches, without a layout engine, so that the same input gives the
same picture.

Letters in shapes: N images or filters, H W space, C channels, K classes.
"""

from cnnlab.figures.bars import bars
from cnnlab.figures.checks import training_check
from cnnlab.figures.confusion import confusion_matrix
from cnnlab.figures.curves import learning_curves
from cnnlab.figures.grids import filters, image_grid
from cnnlab.figures.latent import code_plane, tiles
from cnnlab.figures.page import BAD, GOOD, as_pixels, class_labels, save
from cnnlab.figures.precision_recall import precision_recall
from cnnlab.figures.reliability import reliability_diagram
from cnnlab.figures.robustness import robustness
from cnnlab.figures.sheets import animate, sheet

__all__ = [
    "BAD",
    "GOOD",
    "animate",
    "as_pixels",
    "bars",
    "class_labels",
    "code_plane",
    "confusion_matrix",
    "filters",
    "image_grid",
    "learning_curves",
    "precision_recall",
    "reliability_diagram",
    "robustness",
    "save",
    "sheet",
    "tiles",
    "training_check",
]
