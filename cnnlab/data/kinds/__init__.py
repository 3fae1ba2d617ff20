"""The kinds of columns: what a column of a data set holds. A new kind is a subclass of `Kind` in a file of its own.

Importing this module imports NumPy and nothing heavier.
"""

from cnnlab.data.kinds.boxes import Boxes
from cnnlab.data.kinds.extent import Extent
from cnnlab.data.kinds.image import Image
from cnnlab.data.kinds.instance_masks import InstanceMasks
from cnnlab.data.kinds.kind import Kind
from cnnlab.data.kinds.label import Label
from cnnlab.data.kinds.mask import Mask
from cnnlab.data.kinds.multi_label import MultiLabel
from cnnlab.data.kinds.name import Name
from cnnlab.data.kinds.points import Points
from cnnlab.data.kinds.proposals import Proposals
from cnnlab.data.kinds.target import Target
from cnnlab.data.kinds.tokens import Tokens

__all__ = [
    "Boxes",
    "Extent",
    "Image",
    "InstanceMasks",
    "Kind",
    "Label",
    "Mask",
    "MultiLabel",
    "Name",
    "Points",
    "Proposals",
    "Target",
    "Tokens",
]
