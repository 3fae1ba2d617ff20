"""The step, the loop and their neighbours: one of each, for every task. Nothing here knows a model, a task or a data set."""
