"""Executors: where tasks run. They keep the contract of ``concurrent.futures``."""
