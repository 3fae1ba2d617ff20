"""Pure functions of arrays: losses, metrics, distributions, initialisers, convolution and pooling.

This room imports of cnnlab only errors, values, inputs and own; ops/cpu holds measured forms of convolution and pooling for
CPUs.
"""
