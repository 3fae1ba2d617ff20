"""The step, the loop, checkpoints and strategies: one for all tasks. Nothing here knows a model, a task or a data set."""
