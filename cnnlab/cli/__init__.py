"""The verbs of launch.py as functions; their keyword arguments are the run flags."""
