"""Names of types that everything shares: statuses, and where tasks may stand."""

from __future__ import annotations

from typing import Literal, TypeAlias

Status: TypeAlias = Literal["pending", "running", "completed", "failed", "skipped", "paused", "cancelled", "aborted"]
"""How a node stands. ``pending`` as an outcome says: it would run (a dry run ends nodes so)."""

RunStatus: TypeAlias = Literal["created", "running", "completed", "failed", "paused", "aborted", "interrupted"]
"""How a run stands. ``interrupted`` is cancelled, Ctrl-C, a signal, a full disk, or an owner that died."""

StopReason: TypeAlias = Literal["cancel", "timeout"]
"""Why a running task is asked to stop."""

OnError: TypeAlias = Literal["halt", "continue"]
"""Whether the first failed item of a fan-out stops the ones after it."""

OnFailure: TypeAlias = Literal["halt", "continue"]
"""Whether a failed step stops its list, or only the steps that wait for it."""

Verdict: TypeAlias = Literal["approve", "reject"]
"""What an option of a gate means."""

OnReject: TypeAlias = Literal["abort", "skip", "retry"]
"""What a rejected gate does: end the run for good, go on with the choice in its output, or ask again."""

OnExhausted: TypeAlias = Literal["complete", "fail"]
"""How a loop ends that had all its turns while its condition still holds."""

Order: TypeAlias = Literal["items", "longest-first"]
"""In which order the items of a fan-out start; their results stand in item order in any case."""

Changed: TypeAlias = Literal["ask", "keep", "rerun"]
"""What a resume does with finished work whose code changed since."""

Warmth: TypeAlias = Literal["none", "kernel", "modules"]
"""What the kernels of a notebook have in common: nothing, the kernel's own imports, or those of the cells too."""
