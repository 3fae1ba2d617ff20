"""Takes the network out of what training programs save around it: containers, prefixes, averages and optimiser states.

What is taken off, chosen or left out is described in one line each.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cnnlab.interop.scheme import Leaves, first_few

AVERAGED = ("state_dict_ema", "model_ema", "model_ema_state_dict", "ema_state_dict", "ema_model", "ema_weights", "ema")
"""Entries that hold averaged weights."""

CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model_dict", "network_state_dict", "weights")
"""Entries that hold the weights of the last step."""

WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "trunk", "base_model")
"""Prefixes that data parallelism, compilation and modules around a network add to every name."""

TRAINING = (
    *("optimizer", "optimizers", "optimizer_state", "optimizer_state_dict", "optimizer_states", "optim", "opt_state"),
    *("lr_scheduler", "lr_schedulers", "scheduler", "scheduler_state_dict", "scaler", "amp_scaler", "grad_scaler"),
    *("callbacks", "loops", "epoch", "step", "global_step", "iteration", "n_averaged", "best_acc1", "best_acc", "loss"),
    *("rng_state", "random_state", "args", "hyper_parameters"),
)
"""Entries of a training program that are no part of the network."""


DEEPEST = 100
"""Largest depth to which dicts and lists of a file may be nested."""
MOST_ENTRIES = 2_000_000
"""Largest number of entries in all dicts and lists of a file: lists that hold one another have any number in a few bytes."""


def flattened(tree: Any, is_leaf: Callable[[Any], bool]) -> Iterator[tuple[str, Any]]:
    """Yields (name with dots, tensor) of nested dicts and lists in their order; what is no tensor is left out.

    Raises ValueError where there are more entries, or more deeply nested ones, than any network has.
    """
    waiting, seen = [("", tree, 0)], 0
    while waiting:
        above, entry, depth = waiting.pop()
        if is_leaf(entry):
            yield above, entry
            continue
        items: list[tuple[Any, Any]] = []
        if isinstance(entry, Mapping | list | tuple):
            seen += len(entry)
            if depth > DEEPEST or seen > MOST_ENTRIES:
                raise ValueError(f"it has over {MOST_ENTRIES} entries, or entries that are nested over {DEEPEST} deep")
            items = list(entry.items() if isinstance(entry, Mapping) else enumerate(entry))
        waiting += [(f"{above}.{name}" if above else str(name), inner, depth + 1) for name, inner in reversed(items)]


def network_of(leaves: Leaves) -> tuple[Leaves, list[str]]:
    """Returns (the leaves of the network without the names around them, what was done in one line each).

    Prefixes that all leaves have in common are stripped until nothing changes.
    """
    stripped, left_out, notes = "", [], []
    while True:
        training = [name for name in leaves if _top(name) in TRAINING]
        if training and len(training) < len(leaves):
            left_out += training
            leaves = {name: leaf for name, leaf in leaves.items() if _top(name) not in TRAINING}
        tops = {_top(name) for name in leaves}
        averaged = next((top for top in AVERAGED if top in tops), None)
        raw = tops & {*CONTAINERS, *WRAPPERS}
        if averaged and raw and tops == {averaged, *raw}:
            left = sum(_top(name) != averaged for name in leaves)
            notes.append(f"the averaged weights ({averaged}) are taken and {left} of {', '.join(sorted(raw))} left out")
            leaves = _below(leaves, averaged)
        elif len(tops) == 1 and (top := next(iter(tops))) in {*AVERAGED, *CONTAINERS, *WRAPPERS}:
            if not all("." in name for name in leaves):
                break
            notes += [f"these are averaged weights ({top})"] if top in AVERAGED else []
            stripped += f"{top}."
            leaves = _below(leaves, top)
        else:
            break
    notes += [f"the prefix {stripped} of all names is stripped"] if stripped else []
    notes += [f"{len(left_out)} leaves of training are left out: {first_few(left_out[:3])}"] if left_out else []
    return leaves, notes


def views(leaves: Leaves) -> Iterator[tuple[Leaves, str]]:
    """Yields other readings of names whose prefixes are not known, with what was done: (leaves, line).

    Parts of a network may have prefixes of their own ("backbone." and "head."), or a second network may be in the file.
    """
    if any("/" in name for name in leaves):
        return
    tops = list(dict.fromkeys(_top(name) for name in leaves if "." in name))
    shortened = {name.partition(".")[2]: leaf for name, leaf in leaves.items()}
    if all("." in name for name in leaves) and len(shortened) == len(leaves):
        yield shortened, f"the first part of every name is taken off: {first_few([f'{top}.' for top in tops[:4]])}"
    for top in tops:
        inside = _below(leaves, top)
        rest = {name: leaf for name, leaf in leaves.items() if _top(name) != top}
        if rest and not inside.keys() & rest.keys():
            yield {**inside, **rest}, f"the prefix {top}. is taken off where it is"
    for top in tops:
        inside, others = network_of(_below(leaves, top))
        left = len(leaves) - len(inside)
        if inside and left:
            yield inside, "; ".join([f"only what is below {top}. is taken, and {left} other leaves are left out", *others])


def _top(name: str) -> str:
    return name.partition(".")[0]


def _below(leaves: Leaves, top: str) -> Leaves:
    return {name.partition(".")[2]: leaf for name, leaf in leaves.items() if name.startswith(f"{top}.")}
