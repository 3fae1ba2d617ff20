"""Receptive fields of every layer, from one walk over the network's jaxpr."""
