"""The bytes of a network by layer and stage: as f32, without its zeros, as codes of few values, as Huffman codes of these."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from cnnlab.compressed import F32_BYTES, gaps, network
from cnnlab.compressed.container import Shared, Size

FORMS = ("f32", "pruned", "shared", "coded")
"""The forms in which a layer is counted, from the largest to the smallest."""


@dataclasses.dataclass(frozen=True)
class LayerSize:
    """An array of a network: what stays of it, and what it takes in each form."""

    name: str
    shape: tuple[int, ...]
    kept: int
    """Numbers that are not 0 in the end."""
    size: Size
    """What it takes in the file."""
    bytes: Mapping[str, int]
    """{one of FORMS: bytes}."""

    @property
    def numbers(self) -> int:
        """The number of its numbers."""
        return math.prod(self.shape)

    @property
    def value_bits(self) -> float:
        """Bits of a weight's code in the file on average, fillers included; of a number that is stored as it is, all."""
        return 8 * (self.size.codes + self.size.plain) / max(1, self.size.entries)

    @property
    def gap_bits(self) -> float:
        """Bits of the gap before it; 0 where there are none."""
        return 8 * self.size.gaps / max(1, self.size.entries)


@dataclasses.dataclass(frozen=True)
class NetworkSize:
    """All arrays of a network, and the file."""

    layers: tuple[LayerSize, ...]
    file: int
    """Bytes of the file, every one of them."""

    def total(self, form: str) -> int:
        """Returns the bytes of all arrays in one of FORMS."""
        return sum(layer.bytes[form] for layer in self.layers)

    @property
    def numbers(self) -> int:
        """The number of all numbers."""
        return sum(layer.numbers for layer in self.layers)

    @property
    def steps(self) -> list[tuple[str, int]]:
        """(what, bytes) from f32 to the whole file: the waterfall."""
        forms = {
            "as f32": "f32",
            "pruned, without zeros": "pruned",
            "few values, codes of one length": "shared",
            "Huffman codes": "coded",
        }
        return [*((text, self.total(form)) for text, form in forms.items()), ("the whole file, with its header", self.file)]


def sizes_of(
    pruned: Mapping[str, np.ndarray], shared: Mapping[str, np.ndarray], coded: Mapping[str, Size], file: int
) -> NetworkSize:
    """Returns what the arrays of a network take in each form.

    Args:
        pruned: arrays by name after pruning.
        shared: the same with few values, as the file has them.
        coded: what each takes in the file.
        file: bytes of the file.
    """
    without_zeros = network.packed(pruned, {})[1]
    rows = []
    for name, leaf in shared.items():
        size, form = coded[name], network.stored(leaf)
        taken = {
            "f32": F32_BYTES * leaf.size,
            "pruned": without_zeros[name].total,
            "shared": codes_of_one_length(form) if isinstance(form, Shared) else size.total,
            "coded": size.total,
        }
        rows.append(LayerSize(name, leaf.shape, int(np.count_nonzero(leaf)), size, taken))
    return NetworkSize(tuple(rows), file)


def codes_of_one_length(array: Shared) -> int:
    """Returns the bytes of an array as codes and gaps of as many bits each, with the codebook: the form before Huffman codes.

    Gaps have that number of bits with which the array takes least (Han et al. 2016, section 2: 5 or 8).
    """
    values = len(array.codebook)
    book = F32_BYTES * values
    if array.positions is None:
        return book + math.ceil(len(array.codes) * _bits(values) / 8)
    counts = {bits: len(gaps.to_gaps(array.positions, bits)[0]) for bits in range(1, gaps.MOST_BITS + 1)}
    return book + min(math.ceil(entries * (_bits(values + 1) + bits) / 8) for bits, entries in counts.items())


def _bits(codes: int) -> int:
    """Returns the bits of one of so many codes, at least one."""
    return max(1, math.ceil(math.log2(max(1, codes))))
