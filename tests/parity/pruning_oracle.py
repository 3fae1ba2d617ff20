"""Writes what torch.nn.utils.prune keeps, and how long Huffman's codes of bitarray are; runs in an environment of its own.

    python pruning_oracle.py FILE

The file holds layers NAME/kernel [O, I] or [O, C, h, w] of torch, and the masks of the same shape at each density: l1/NAME of
l1_unstructured, all/NAME of global_unstructured over all of them, and ln1/NAME and ln2/NAME of ln_structured along the outputs.
Counts of symbols are counts/N, and the bits of the best code bits/N. test_pruning.py, which has no torch, reads the densities.
"""

import sys

import numpy as np

DENSITIES = (0.75, 0.4, 0.1)
LAYERS = {"conv": (12, 5, 3, 3), "grouped": (8, 1, 5, 5), "dense": (20, 60), "output": (10, 20)}
NORMS = (1, 2)
CODES = 12


def main() -> None:
    """Writes the file."""
    import bitarray.util
    import torch
    from torch.nn.utils import prune

    random, arrays = np.random.default_rng(0), {}

    class Layer(torch.nn.Module):
        def __init__(self, kernel: np.ndarray) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.from_numpy(kernel.copy()))

    for name, shape in LAYERS.items():
        arrays[f"{name}/kernel"] = random.normal(size=shape).astype(np.float32)
    for density in DENSITIES:
        layers = {name: Layer(arrays[f"{name}/kernel"]) for name in LAYERS}
        # An amount that is an integer is a number of weights, here of those that go; a share would be rounded by torch.
        for name, layer in layers.items():
            size = layer.weight.numel()
            prune.l1_unstructured(layer, "weight", size - int(np.ceil(density * size)))
            arrays[f"l1/{name}/{density}"] = layer.weight_mask.numpy()
        layers = {name: Layer(arrays[f"{name}/kernel"]) for name in LAYERS}
        gone = sum(each.weight.numel() - int(np.ceil(density * each.weight.numel())) for each in layers.values())
        prune.global_unstructured([(each, "weight") for each in layers.values()], prune.L1Unstructured, amount=gone)
        arrays |= {f"all/{name}/{density}": each.weight_mask.numpy() for name, each in layers.items()}
        for norm in NORMS:
            for name in LAYERS:
                layer = Layer(arrays[f"{name}/kernel"])
                units = len(layer.weight)
                prune.ln_structured(layer, "weight", units - int(np.ceil(density * units)), n=norm, dim=0)
                arrays[f"ln{norm}/{name}/{density}"] = layer.weight_mask.numpy()
    for number in range(CODES):
        counts = random.integers(0, 200, random.integers(2, 200))
        counts[random.random(len(counts)) < 0.2] = 0
        counts[:2] += 1
        code = bitarray.util.huffman_code({symbol: int(count) for symbol, count in enumerate(counts) if count})
        arrays[f"counts/{number}"] = counts
        arrays[f"bits/{number}"] = np.array(sum(len(word) * int(counts[symbol]) for symbol, word in code.items()))
    np.savez(sys.argv[1], **arrays)


if __name__ == "__main__":
    main()
