"""Selects classes and training examples of a source, for transfer and for learning from few labels."""

import dataclasses

import numpy as np

from cnnlab.data.kinds import Label
from cnnlab.data.source import Source, Split, shuffled
from cnnlab.digests import combined_digest
from cnnlab.errors import UsageError
from cnnlab.text import counted


def select(source: Source, *, classes: tuple[int, ...] = (), examples_per_class: int | None = None) -> Source:
    """Returns the source with some of its classes, renumbered from 0 in the order given, and few training examples of each.

    Held-out splits keep all examples of the classes. The training examples kept are the same for every seed.

    Args:
        classes: numbers of the classes to keep; (): all.
        examples_per_class: number of training examples of each class to keep; None: all.
    """
    if not classes and examples_per_class is None:
        return source
    if "label" not in source.kinds:
        raise UsageError(
            f"--only_classes and --examples_per_class choose examples by their label, and {source.name} has no column `label` "
            f"(its columns: {', '.join(source.kinds)}).\nLeave them out."
        )
    count = len(source.class_names)
    kept = classes or tuple(range(count))
    if len(set(kept)) < max(2, len(kept)) or not all(0 <= number < count for number in kept):
        raise UsageError(
            f"--only_classes={','.join(map(str, kept))}: give two or more different numbers of the {count} classes of "
            f"{source.name}, counted from 0."
        )
    # Held-out splits keep all examples, so that results from few labels are measured on the same test set.
    parts = {
        split: _select_examples(part, kept, examples_per_class if split == "train" else None)
        for split, part in source.splits.items()
    }
    sizes = [f"{len(parts[split]):,} of {counted(len(part), f'{split} example')}" for split, part in source.splits.items()]
    remark = f"{source.name}: {len(kept)} of {count} classes are kept, with {', '.join(sizes)}"
    return dataclasses.replace(
        source,
        remarks=(*source.remarks, remark),
        splits=parts,
        kinds={**source.kinds, "label": Label(tuple(source.class_names[number] for number in kept))},
        fingerprint=combined_digest(source.fingerprint, f"classes {kept} examples {examples_per_class}"),
    )


def _select_examples(part: Split, classes: tuple[int, ...], each: int | None) -> Split:
    """Returns the examples of some classes, in their order; `each` of every class where that is a number."""
    order = shuffled(len(part.labels), 0x5E1EC7, len(part.labels))
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
