"""Reporters: what people see of a run, in a notebook, in a terminal, and in a log."""
