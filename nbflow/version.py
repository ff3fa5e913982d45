"""The version of nbflow."""

__version__ = "0.1.0"
