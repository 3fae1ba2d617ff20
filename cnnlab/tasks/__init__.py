"""What is optimised: each task is a function that takes modules and losses and returns a `core.Task`."""
