"""One file per study or claim; `python launch.py list` shows them. A variant is a partial of a recipe, never a copy."""
