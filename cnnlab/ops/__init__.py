"""Pure functions of arrays: losses, metrics, distributions, initialisers, convolution and pooling.

This room imports nothing of cnnlab but errors and values; ops/cpu holds measured forms of convolution and pooling for CPUs.
"""
