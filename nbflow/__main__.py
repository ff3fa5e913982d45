"""The command line: ``nbflow``, and ``python -m nbflow``."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from . import early

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and end the process; a kernel that it is likely to need is begun before all else."""
    early.begin(sys.argv[1:])
    gc.disable()  # what is loaded stays; a verb that works for long enables it
    try:
        from .cli import main as run

        run()
    finally:
        early.end()


if __name__ == "__main__":
    main()
