"""Proves that trained parameters are numbers: a finite loss does not, since XLA:CPU turns NaN to 0 in relu before a pooling."""

import jax
import numpy as np

from cnnlab.core import TrainState
from cnnlab.errors import DivergedError

NAMED = 3
"""Leaves that the error names; of the others it gives the number."""


def require_finite(host: TrainState, step: int) -> TrainState:
    """Returns the host state; raises DivergedError, with the names of leaves, where parameters or averages are not finite."""
    trees = {"params": host.params, "average": host.average}
    bad = [
        "/".join(str(getattr(entry, "key", entry)) for entry in path)
        for path, leaf in jax.tree.leaves_with_path(trees)
        if not np.isfinite(leaf).all()
    ]
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise DivergedError(
            f"{', '.join(bad[:NAMED])}{more} hold numbers that are not finite at step {step}: training diverged.\n"
            "Try a smaller --lr, a --clip_norm, or a warm-up of the schedule; the last good checkpoint is kept."
        )
    return host
