"""A run and its folder: identity, lock, training from start or resume to the end, and what is written meanwhile."""
