"""`python -m granary.supervisor.twin`: have the twin of the marts follow what is published, until ended."""

from __future__ import annotations

import signal
import sys
from threading import Event

from granary.twin.follower import keep_following
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings


def main() -> None:
    """Follow the publishes of the environment's warehouse."""
    stop = Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    try:
        keep_following(Settings.load(), lambda words: print(f"granary: {words}", file=sys.stderr, flush=True), stop)
    except GranaryError as error:
        sys.exit(f"granary: {error}")


if __name__ == "__main__":
    main()
