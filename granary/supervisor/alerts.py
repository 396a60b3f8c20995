"""`python -m granary.supervisor.alerts`: look what is wrong and tell whom it concerns, until it is ended."""

from __future__ import annotations

import signal
import sys
from threading import Event
from typing import TYPE_CHECKING

from granary.alerting import config, watch
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from granary.alerting.watch import Watched


def main() -> None:
    """Watch the environment's warehouse; what fails is said once, and tried again."""
    stop, said = Event(), [""]
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())

    def report(done: Watched | GranaryError) -> None:
        words = str(done) if isinstance(done, GranaryError) else ""
        if words and said != [words]:
            print(f"granary: {words}", file=sys.stderr, flush=True)
        said[:] = [words]

    watch.follow(Settings.load(), config.load, stop, report=report)


if __name__ == "__main__":
    main()
