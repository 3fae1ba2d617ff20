"""Tasks, the problems that are optimised: each is a function that takes modules and losses and returns a `core.Task`."""
