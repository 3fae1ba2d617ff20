"""Selects classes and training examples of a source, for transfer and for learning from few labels."""

import dataclasses

import numpy as np

from cnnlab.data.few_labels import EXAMPLES
from cnnlab.data.kinds import Label
from cnnlab.data.source import Source, Split, drawn
from cnnlab.digests import combined_digest
from cnnlab.errors import UsageError
from cnnlab.text import counted
from cnnlab.values import OF_RUN, DrawSeed


def select(
    source: Source, *, classes: tuple[int, ...] = (), examples_per_class: int | None = None, seed: DrawSeed = None
) -> Source:
    """Returns the source with some of its classes, renumbered from 0 in the order given, and few training examples of each.

    Held-out splits keep all examples of the classes.

    Args:
        classes: numbers of the classes to keep; (): all.
        examples_per_class: number of training examples of each class to keep; None: all.
        seed: seed by which these are drawn; None: the usual draw. By OF_RUN all are kept, of which each run draws its own
            (draws.py).
    """
    if not classes and examples_per_class is None:
        return source
    if "label" not in source.kinds:
        raise UsageError(
            f"--only_classes and --examples_per_class choose examples by their label, and {source.name} has no column `label` "
            f"(its columns: {', '.join(source.kinds)}).\nLeave them out."
        )
    if seed == OF_RUN and not classes:
        return source
    each = None if seed == OF_RUN else examples_per_class
    count = len(source.class_names)
    kept = classes or tuple(range(count))
    if len(set(kept)) < max(2, len(kept)) or not all(0 <= number < count for number in kept):
        raise UsageError(
            f"--only_classes={','.join(map(str, kept))}: give two or more different numbers of the {count} classes of "
            f"{source.name}, counted from 0."
        )
    # Held-out splits keep all examples, so that results from few labels are measured on the same test set.
    parts = {
        split: _select_examples(part, kept, each if split == "train" else None, seed) for split, part in source.splits.items()
    }
    sizes = [f"{len(parts[split]):,} of {counted(len(part), f'{split} example')}" for split, part in source.splits.items()]
    how = "" if each is None or seed is None else f" drawn by {seed}"
    remark = f"{source.name}: {len(kept)} of {count} classes are kept, with {', '.join(sizes)}"
    return dataclasses.replace(
        source,
        remarks=(*source.remarks, remark),
        splits=parts,
        kinds={**source.kinds, "label": Label(tuple(source.class_names[number] for number in kept))},
        fingerprint=combined_digest(source.fingerprint, f"classes {kept} examples {each}{how}"),
    )


def _select_examples(part: Split, classes: tuple[int, ...], each: int | None, seed: DrawSeed) -> Split:
    """Returns the examples of some classes, in their order; `each` of every class, drawn by a seed, where that is a number."""
    order = drawn(len(part.labels), EXAMPLES, seed if isinstance(seed, int) else None)
    positions = []
    for number in classes:
        found = order[part.labels[order] == number]
        if each is not None and len(found) < each:
            raise UsageError(
                f"--examples_per_class={each}: class {number} has {len(found)} training examples. Give a smaller number."
            )
        positions.append(found[:each])
    chosen = np.sort(np.concatenate(positions))
    # A label becomes its rank among the kept classes, and the rank its place in the order given.
    labels = np.searchsorted(np.sort(classes), part.labels[chosen])
    return part.at(chosen).having(label=np.argsort(classes, kind="stable").astype(np.int32)[labels])
