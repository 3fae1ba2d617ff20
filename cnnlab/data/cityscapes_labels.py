"""The labels of Cityscapes.

Names, numbers, categories and colours are those of the public table of the data set's authors: labels.py in
github.com/mcordts/cityscapesScripts (Cordts et al. 2016, arXiv:1604.01685, section 3.1).
"""

from typing import NamedTuple

from cnnlab.data.kinds.mask import IGNORE


class CityLabel(NamedTuple):
    """One label of the annotated images."""

    name: str
    id: int
    """The number in the files …_gtFine_labelIds.png, and in those of a submission."""
    train_id: int
    """The number of the class that networks learn; IGNORE: it does not count."""
    category: str
    colour: tuple[int, int, int]


LABELS = (
    CityLabel("unlabeled", 0, IGNORE, "void", (0, 0, 0)),
    CityLabel("ego vehicle", 1, IGNORE, "void", (0, 0, 0)),
    CityLabel("rectification border", 2, IGNORE, "void", (0, 0, 0)),
    CityLabel("out of roi", 3, IGNORE, "void", (0, 0, 0)),
    CityLabel("static", 4, IGNORE, "void", (0, 0, 0)),
    CityLabel("dynamic", 5, IGNORE, "void", (111, 74, 0)),
    CityLabel("ground", 6, IGNORE, "void", (81, 0, 81)),
    CityLabel("road", 7, 0, "flat", (128, 64, 128)),
    CityLabel("sidewalk", 8, 1, "flat", (244, 35, 232)),
    CityLabel("parking", 9, IGNORE, "flat", (250, 170, 160)),
    CityLabel("rail track", 10, IGNORE, "flat", (230, 150, 140)),
    CityLabel("building", 11, 2, "construction", (70, 70, 70)),
    CityLabel("wall", 12, 3, "construction", (102, 102, 156)),
    CityLabel("fence", 13, 4, "construction", (190, 153, 153)),
    CityLabel("guard rail", 14, IGNORE, "construction", (180, 165, 180)),
    CityLabel("bridge", 15, IGNORE, "construction", (150, 100, 100)),
    CityLabel("tunnel", 16, IGNORE, "construction", (150, 120, 90)),
    CityLabel("pole", 17, 5, "object", (153, 153, 153)),
    CityLabel("polegroup", 18, IGNORE, "object", (153, 153, 153)),
    CityLabel("traffic light", 19, 6, "object", (250, 170, 30)),
    CityLabel("traffic sign", 20, 7, "object", (220, 220, 0)),
    CityLabel("vegetation", 21, 8, "nature", (107, 142, 35)),
    CityLabel("terrain", 22, 9, "nature", (152, 251, 152)),
    CityLabel("sky", 23, 10, "sky", (70, 130, 180)),
    CityLabel("person", 24, 11, "human", (220, 20, 60)),
    CityLabel("rider", 25, 12, "human", (255, 0, 0)),
    CityLabel("car", 26, 13, "vehicle", (0, 0, 142)),
    CityLabel("truck", 27, 14, "vehicle", (0, 0, 70)),
    CityLabel("bus", 28, 15, "vehicle", (0, 60, 100)),
    CityLabel("caravan", 29, IGNORE, "vehicle", (0, 0, 90)),
    CityLabel("trailer", 30, IGNORE, "vehicle", (0, 0, 110)),
    CityLabel("train", 31, 16, "vehicle", (0, 80, 100)),
    CityLabel("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    CityLabel("bicycle", 33, 18, "vehicle", (119, 11, 32)),
)
"""All labels but the license plate, whose number -1 no image of 8 bits holds: its pixels do not count."""

TRAINED = tuple(sorted((label for label in LABELS if label.train_id != IGNORE), key=lambda label: label.train_id))
"""The labels of the 19 classes, by their numbers."""
CLASSES = tuple(label.name for label in TRAINED)
COLOURS = tuple(label.colour for label in TRAINED)
CATEGORIES = tuple(label.category for label in TRAINED)
"""The category of each class: flat, construction, object, nature, sky, human or vehicle."""
LABEL_IDS = tuple(label.id for label in TRAINED)
"""The number of each class in a submission."""
IMAGE_ENDING, MASK_ENDING = "_leftImg8bit", "_gtFine_labelIds"
