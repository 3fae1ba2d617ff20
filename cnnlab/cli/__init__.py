"""The command line: every verb is a function, and its keyword-only arguments are its run flags."""
