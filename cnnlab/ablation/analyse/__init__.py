"""Analyses the results of a study: statistics, summary, verdicts."""
