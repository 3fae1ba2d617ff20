"""Files of networks whose weights are pruned and shared: codebooks, gaps between the weights that stay, Huffman codes.

Pure functions of NumPy arrays. Nothing here trains or knows a network, and reading a file imports no jax.
"""

SUFFIX = ".cnnz"
"""Suffix of the file of a network (network.py)."""
F32_BYTES = 4
"""Bytes of a number that is not compressed."""
