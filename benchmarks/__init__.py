"""Benchmarks: each file is a command; `python -m benchmarks.accelerator` is the one for a GPU or TPU."""
