"""Files of networks whose weights are pruned and shared: codebooks, gaps between the weights that stay, Huffman codes.

Pure functions of NumPy arrays. Nothing here trains or knows a network, and reading a file imports no jax.
"""
