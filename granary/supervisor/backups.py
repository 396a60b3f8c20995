"""`python -m granary.supervisor.backups`: store the log, and make backups and drills when they are due, until ended."""

from __future__ import annotations

import signal
import sys
from threading import Event

from granary.backup.config import load
from granary.backup.service import EVERY_SECONDS, Service
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings


def main() -> None:
    """Look after the backups of the environment's warehouse."""
    stop = Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    try:
        service = Service(
            Settings.load(), load(), lambda words: print(f"granary: {words}", file=sys.stderr, flush=True)
        )
    except GranaryError as error:
        sys.exit(f"granary: {error}")
    try:
        while not stop.is_set():
            service.round()
            stop.wait(EVERY_SECONDS)
        service.round()  # what was written until now
    finally:
        service.end()


if __name__ == "__main__":
    main()
