"""`python -m granary.supervisor.warehouse`: the embedded server as a service, up for as long as this process is."""

from __future__ import annotations

import signal
import sys
import time
from typing import NoReturn

from granary.warehouse import server
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import plan
from granary.warehouse.settings import Settings

LOOK_SECONDS = 1.0


def keep(settings: Settings) -> NoReturn:
    """Start the server, or take on one that is up; stop it when asked to end.

    Raises:
        GranaryError: it does not start, or it has ended.
    """
    try:
        server.up(settings)
        layout = plan(settings.home)
        while server.postmaster(layout):
            time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        server.down(settings)
        sys.exit(0)
    raise GranaryError("the embedded server has ended", str(layout.log), "it is started again")


def main() -> None:
    """Keep the server of the environment's warehouse."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.default_int_handler)
    try:
        keep(Settings.load())
    except GranaryError as error:
        sys.exit(f"granary: {error}")


if __name__ == "__main__":
    main()
