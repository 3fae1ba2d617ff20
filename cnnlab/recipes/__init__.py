"""What experiments fill in with defaults of their own: one recipe for each kind of task."""
