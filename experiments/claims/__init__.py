"""Claims of the literature, each a study with a declared test."""
