"""Who started this process, as far as a process can say."""

from __future__ import annotations

import getpass
import os

STARTED_BY = "GRANARY_STARTED_BY"
"""What a run tells the processes that it starts: who started it."""


def starter() -> str:
    """Return who started this process: what the run around it says, else the user of the system."""
    if named := os.environ.get(STARTED_BY):
        return named
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"
