"""The names that people give to the parts of a data set: train, validation and test in their usual spellings."""

import re
from collections.abc import Iterable

SPLITS = ("train", "validation", "test")
SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""{spelling: split}. `eval` is validation: where there is no test split, validation serves as it in any case."""
AROUND = r"set|split|data|dataset|images?|imgs?|pictures?|\d+"
"""What may follow such a name: train_set, val2017, test-images."""


def split_named(name: str) -> str | None:
    """Returns the split that a name means, whatever its case: train, validation or test; None for any other name."""
    words = re.sub(r"[^a-z0-9]+", "", name.lower())
    match = re.fullmatch(rf"({'|'.join(SPELLINGS)})(?:{AROUND})*", words)
    return SPELLINGS[match[1]] if match else None


def named_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns {split: the names that mean it}, in the order train, validation, test, for the splits that are named."""
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in names:
        if (split := split_named(name)) is not None:
            found[split].append(name)
    return {split: given for split, given in found.items() if given}
