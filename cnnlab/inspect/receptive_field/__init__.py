"""Computes the receptive fields of all layers in one walk over the jaxpr of a network.

views.py has the description of the pixels that an array depends on (a view), rules.py one rule for each primitive, from the
views of its operands to that of its result, and walk.py applies the rules to a program.
"""
