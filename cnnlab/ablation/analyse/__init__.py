"""What the results of a study say: statistics, summary, verdicts."""
