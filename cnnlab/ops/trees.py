"""Nested dicts of arrays, addressed by paths: "layer/sublayer/leaf"."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from cnnlab.errors import UsageError


def flatten(tree: Any) -> dict[str, Any]:
    """Returns {"a/b/c": leaf} for nested dicts."""
    return {"/".join(entry.key for entry in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def named_leaves(tree: Any) -> dict[str, Any]:
    """Returns {readable path: leaf} of a tree of any nodes: `params/classifier/conv1/kernel`."""
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def replaced(tree: Any, given: Mapping[str, Any]) -> Any:
    """Returns a tree of any nodes with the leaves that are given by path, as `named_leaves` has it, in place of its own."""
    return jax.tree.map_with_path(lambda path, leaf: given.get(_name(path), leaf), tree)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dicts for {"a/b/c": leaf}: the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *above, last = path.split("/")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree


def partition(tree: Any, chosen: Callable[[str], bool]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divides a tree into (the leaves whose path is chosen, the others), both nested."""
    leaves = flatten(tree)
    parts = ({path: leaf for path, leaf in leaves.items() if chosen(path) is wanted} for wanted in (True, False))
    first, second = (unflatten(part) for part in parts)
    return first, second


def join(trees: Iterable[Any]) -> dict[str, Any]:
    """Merges nested dicts that have no leaf in common."""
    return unflatten({path: leaf for tree in trees for path, leaf in flatten(tree).items()})


def matches(pattern: str, path: str) -> bool:
    """Returns whether a regular expression matches a whole path or all of it down to some slash: `stage1_.*`, `.*/bias`."""
    return re.fullmatch(f"(?:{pattern})(?:/.*)?", path) is not None


def valued_pattern(text: str, read: Callable[[str], Any], *, form: str) -> tuple[str, Any]:
    """Returns (pattern, value) of a text REGEX=VALUE.

    Args:
        text: what was given.
        read: returns a value of its text; ValueError for one that is none.
        form: how the error begins and what it expects, `--lr_multipliers: {} is not REGEX=FACTOR …`, with the text for {}.
    """
    pattern, _, value = text.rpartition("=")
    try:
        if not pattern:
            raise ValueError(text)
        return pattern, read(value)
    except ValueError:
        raise UsageError(form.format(repr(text))) from None


def by_kernel(params: Any, default: Any, chosen: Iterable[tuple[str, Any]], *, knob: str) -> dict[str, Any]:
    """Returns {path of a kernel: the value of the first pattern that matches it, else `default`}.

    Kernels are the parameters with two axes and more; biases and the scales of norms have fewer.

    Args:
        params: nested parameters.
        default: value of the kernels that no pattern matches.
        chosen: (pattern, value) pairs.
        knob: the flag that gave the patterns; UsageError names it where one matches no kernel.
    """
    pairs = list(chosen)
    kernels = [path for path, leaf in flatten(params).items() if len(leaf.shape) > 1]
    require_match([pattern for pattern, _ in pairs], kernels, knob=knob)
    return {path: next((value for pattern, value in pairs if matches(pattern, path)), default) for path in kernels}


def require_match(patterns: Sequence[str], paths: Iterable[str], *, knob: str) -> None:
    """Raises UsageError for a pattern that is no regular expression or matches no path; `knob` is the flag that gave it."""
    paths = list(paths)
    for pattern in patterns:
        try:
            found = any(matches(pattern, path) for path in paths)
        except re.error as error:
            raise UsageError(f"--{knob}: {pattern!r} is no regular expression ({error}).") from None
        if not found:
            layers = list(dict.fromkeys(path.split("/")[0] for path in paths))
            shown = ", ".join(layers[:10]) + (f", … ({len(layers)} in all)" if len(layers) > 10 else "")
            raise UsageError(
                f"--{knob}: {pattern!r} matches no layer.\nIt has to match a whole name, as .* does. Layers: {shown}."
            )
