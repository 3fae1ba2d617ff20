"""Benchmarks: `python -m benchmarks` measures on a CPU, `python -m benchmarks.accelerator` on a GPU or TPU."""
