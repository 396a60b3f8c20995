"""Named points between two durable states, at which a harness may kill the process.

A mark costs a look into an empty dictionary. Armed by GRANARY_KILL_AT="before-commit" or "mid-copy:7" (the seventh
time), the process kills itself there with SIGKILL, which nothing can catch: what `make chaos` repeats by the hundred.
"""

from __future__ import annotations

import os
import signal

ARMED: dict[str, int] = {}
"""Point -> how many more times it is passed until the process ends there."""


def arm(points: str) -> None:
    """Arm points, as in "mid-copy:7 after-commit"."""
    for point in points.split():
        name, _, times = point.partition(":")
        ARMED[name] = int(times or 1)


def fault_point(point: str) -> None:
    """Mark a named point; an armed one ends the process."""
    if point in ARMED:
        ARMED[point] -= 1
        if not ARMED[point]:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("GRANARY_KILL_AT", ""))
