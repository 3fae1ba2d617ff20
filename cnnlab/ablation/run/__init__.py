"""How the runs of a study are trained: scheduler, workers, launchers, reproduction."""
