"""Ablation studies: many runs that differ by design, and statistics of their differences."""
