"""Masks as run lengths in the form of COCO's results, which its tools read. NumPy alone."""

import numpy as np

BITS, LOW, MORE, ASCII = 5, 0x1F, 0x20, 48
"""Bits of a character, those of the number, the one that says that more follow, and the character of zero."""


def run_lengths(mask: np.ndarray) -> np.ndarray:
    """Returns the lengths of the runs of a mask bool [H, W], column by column, the first one of pixels outside: i64 [n]."""
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(np.concatenate([[0], changes, [flat.size]]))


def as_text(lengths: np.ndarray) -> str:
    """Returns run lengths as the text `counts` of COCO's segmentations.

    From the fourth on a length is the difference to the one before the last. A number is written from its lowest five bits on,
    each with a bit that says whether more follow; of the last one the highest bit is the sign (rleToString of COCO's maskApi).
    """
    values = np.asarray(lengths, np.int64).copy()
    values[3:] -= np.asarray(lengths, np.int64)[1:-2]
    letters = []
    for value in values.tolist():
        more = True
        while more:
            part, value = value & LOW, value >> BITS
            more = value != (-1 if part & 0x10 else 0)
            letters.append(chr(ASCII + (part | MORE if more else part)))
    return "".join(letters)


def segmentation(mask: np.ndarray) -> dict[str, object]:
    """Returns {"size": [H, W], "counts": text} of a mask bool [H, W], the segmentation of an object in COCO's results."""
    return {"size": [int(side) for side in mask.shape], "counts": as_text(run_lengths(mask))}
