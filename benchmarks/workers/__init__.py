"""What the workers of the benchmark do, each in a process of its own (measure.py)."""
