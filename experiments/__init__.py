"""Experiments, one file each; `python launch.py list` shows them. A variant is a partial of a recipe, never a copy."""
