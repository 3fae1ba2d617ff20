"""Ablation studies: many runs that differ by design, and what can be said of their differences."""
