"""The network of a state as named arrays, as files have it, and back.

Names are "params/layer/leaf" and "batch_stats/layer/leaf", those of what is evaluated, and those of the ranges of a quantised
network (ops/quantize.py).
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cnnlab.core import CLASSIFIER, FROZEN, PRETEXT, REGRESSOR, SEGMENTER, TEACHER, TRUNK, Task, TrainState
from cnnlab.engine.averages import evaluated
from cnnlab.engine.checkpoint import STATISTICS
from cnnlab.ops.quantize import COLLECTION
from cnnlab.ops.trees import named_leaves

COLLECTIONS = ("params/", "batch_stats/", f"{COLLECTION}/")
"""Prefixes of the names in files of cnnlab."""


SCALES = "scales/"
"""Prefix of the name of a kernel's scales, where a file has its codes (core.Task.codes) in its place."""


def weights_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Renames the leaves of a state to "params/layer/leaf" and "batch_stats/layer/leaf".

    It takes the averages where there are some, and nothing of a teacher and of what serves to compare with it. The layers of a
    classifier, or segmenter, and the frozen ones form one network, which has no other state than its statistics.
    Of a pretext task it takes the trunk, by the names that its layers have in a network of classification, without the head.
    """
    owned = "average/" if any(path.startswith("average/") for path in state) else "params/"
    state = {path: leaf for path, leaf in state.items() if path.split("/")[1:2] not in ([TEACHER], [REGRESSOR])}
    found = {path.removeprefix(owned): leaf for path, leaf in state.items() if path.startswith(owned)}
    is_network = {path.partition("/")[0] for path in found} - {FROZEN} in ({CLASSIFIER}, {SEGMENTER})
    if is_network:
        found = {path.partition("/")[2]: leaf for path, leaf in found.items()}
    rest = {
        path.removeprefix(prefix): leaf
        for prefix in ("model_state/", STATISTICS)  # the averages last: they take the place of the raw statistics
        for path, leaf in state.items()
        if path.startswith(prefix) and (not is_network or path.removeprefix(prefix).startswith(COLLECTIONS))
    }
    found = {**{f"params/{path}": leaf for path, leaf in found.items()}, **rest}
    trunk = {f"params/{PRETEXT}/{TRUNK}/": "params/", f"batch_stats/{TRUNK}/": "batch_stats/"}
    if not any(path.startswith(next(iter(trunk))) for path in found):
        return found
    places = [(path, old, new) for path in found for old, new in trunk.items() if path.startswith(old)]
    return {new + path.removeprefix(old): found[path] for path, old, new in places}


def network_of(state: TrainState) -> dict[str, np.ndarray]:
    """Returns what `weights_of` does of a host state."""
    return weights_of(named_leaves(state))


def state_of(shapes: TrainState, found: Mapping[str, np.ndarray]) -> TrainState:
    """Returns a host state that is evaluated as the one of which `network_of` gave the arrays; what trains it is zeros.

    Raises ValueError where an array is missing that evaluation needs, such as those of a teacher, or has another shape.

    Args:
        shapes: the state as shapes.
        found: arrays by the names of `network_of`.
    """
    wanted = named_leaves(shapes)
    names = weights_of({path: path for path in wanted})  # as every renaming, it moves whatever stands for an array
    given = {path: found[name] for name, path in names.items() if name in found}
    owned = "average/" if shapes.average else "params/"
    needed = [path for path in wanted if path.startswith((owned, "model_state/", STATISTICS))]
    if shapes.average_statistics:
        needed = [path for path in needed if f"{STATISTICS}{path.removeprefix('model_state/')}" not in wanted]
    if missing := [path for path in needed if path not in given]:
        raise ValueError(f"it lacks {len(missing)} of {len(needed)} arrays, the first is {missing[0]}")
    for path, leaf in given.items():
        if (leaf.shape, leaf.dtype) != (wanted[path].shape, wanted[path].dtype):
            raise ValueError(f"{path} is {leaf.dtype} {list(leaf.shape)}, and the network wants {list(wanted[path].shape)}")
    filled = [given[path] if path in given else np.zeros(leaf.shape, leaf.dtype) for path, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(shapes), filled)


def with_codes(leaves: Mapping[str, np.ndarray], task: Task, state: TrainState) -> dict[str, np.ndarray]:
    """Returns arrays of a network with the codes of its kernels, i8, and their scales, where its task has any.

    Args:
        leaves: arrays by the names of `network_of`.
        task: what was trained.
        state: host state.
    """
    codes = {} if task.codes is None else task.codes(*evaluated(state))
    return {
        **leaves,
        **{name: np.asarray(each) for name, (each, _) in codes.items()},
        **{f"{SCALES}{name}": np.asarray(scale) for name, (_, scale) in codes.items()},
    }


def without_codes(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays in which kernels stand for their codes again: the inverse of `with_codes`, but for the codes' rounding."""
    scales = {name.removeprefix(SCALES): leaf for name, leaf in leaves.items() if name.startswith(SCALES)}
    found = {name: leaf for name, leaf in leaves.items() if not name.startswith(SCALES)}
    # [..., O] · [O]
    return found | {name: found[name].astype(np.float32) * scale for name, scale in scales.items() if name in found}
