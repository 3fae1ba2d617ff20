"""Trains the runs of a study: scheduler, workers, launchers, reproduction."""
