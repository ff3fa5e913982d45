"""Run one notebook over many parameter sets: in parallel, resumable, and honest about what happened."""

from __future__ import annotations

__version__ = "0.1.0"
