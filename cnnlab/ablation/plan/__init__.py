"""Plans a study: arms, levels, designs, rungs, and the checks before anything runs."""
