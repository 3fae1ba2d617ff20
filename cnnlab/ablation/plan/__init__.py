"""What a study compares: arms, levels, designs, rungs, and the checks before anything runs."""
