"""The twin follows publishes: after a run, and every few seconds while `granary serve` is at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from granary.twin import config, sync
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from granary.warehouse.settings import Settings

EVERY_SECONDS = 2.0
LOOKS = 30
"""After so many looks all that the twin has is compared with the ledger, and not only the last publish."""


def follow(settings: Settings, say: Callable[[str], None]) -> bool:
    """Bring the twin to what was published; return whether it is. What fails is said: nobody's run fails for it."""
    try:
        if (wanted := config.load(settings)) is not None:
            sync.sync(settings, wanted, say=say)
    except (GranaryError, psycopg.Error, OSError) as error:
        say(f"the twin is not brought on: {error if isinstance(error, GranaryError) else type(error).__name__}")
        return False
    return True


def keep_following(settings: Settings, say: Callable[[str], None], stop: Event) -> None:
    """Follow until `stop` is set. Of failures that repeat themselves the first is said."""
    said: list[str] = []
    looks = 0
    while not stop.is_set():
        try:
            if looks % LOOKS == 0 or sync.is_due(settings):
                words: list[str] = []
                follow(settings, words.append)
                if words != said:
                    for one in words:
                        say(one)
                said = words
        except (GranaryError, psycopg.Error, OSError):
            pass  # the warehouse is down: its own service says so
        looks += 1
        stop.wait(EVERY_SECONDS)
