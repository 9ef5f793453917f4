"""Where Cases run; one file an engine."""
