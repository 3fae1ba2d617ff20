"""Recipes, one for each kind of task. An experiment is a recipe with default knobs of its own (functools.partial)."""
