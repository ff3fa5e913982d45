"""Notebooks: runs one notebook with parameters, reads its results, and writes it as it was executed."""
