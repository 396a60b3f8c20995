"""Look, group, tell: once, or for as long as somebody lets it."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import psycopg

from granary.alerting import incidents, probes, queue
from granary.alerting.config import load
from granary.alerting.grouping import Graph, graph_of
from granary.warehouse.connection import connect, lock, query, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.waits import LockHeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from granary.alerting.config import Config
    from granary.warehouse.settings import Settings

LOCK = "incidents"
EVERY_SECONDS = 15
"""How often it is looked: within 30 seconds of the run that could know, an incident is there."""


@dataclass(frozen=True)
class Watched:
    """What one look came to: how many incidents changed and are open, what was sent, and what could not be asked."""

    changed: int
    open: int
    sent: int
    blind: Mapping[str, str]


def once(
    settings: Settings, config: Config, *, now: datetime | None = None, remote: bool = True, deliver: bool = True
) -> Watched:
    """Look, bring the incidents up to that, and tell whom it concerns.

    Args:
        settings: the warehouse.
        config: who is told what.
        now: the time, if it is not the server's.
        remote: whether to ask other machines, too; without, what is known of them stays as it is.
        deliver: whether to send what is due.

    Raises:
        GranaryError: the warehouse does not answer, or somebody holds the tables of incidents.
    """
    found = probes.look(settings, config.rules, now=now, remote=remote)
    try:
        with connect(settings) as connection:
            lock(connection, LOCK, probes.LOCK_SECONDS)
            open_before = query(connection, "select 1 from ops.incidents where closed_at is null limit 1")
            graph = graph_of(settings) if found.signals or open_before else Graph({})
            changes = incidents.update(connection, found, graph, config)
            queue.put(connection, changes, found.now, config)
            left = query(connection, "select count(*) from ops.incidents where closed_at is null")[0][0]
            connection.commit()
    except LockHeldError:
        raise
    except psycopg.Error as error:
        raise GranaryError(f"incidents cannot be kept: {reason(error)}", "ops.incidents", "`granary up`") from None
    sent = queue.deliver(settings, config, now=now) if deliver else 0
    return Watched(len(changes), int(left), sent, found.blind)


def follow(
    settings: Settings,
    config: Callable[[], Config],
    stop: Event,
    *,
    every: float = EVERY_SECONDS,
    report: Callable[[Watched | GranaryError], None] = lambda _: None,
) -> None:
    """Do so again and again until `stop` is set. What fails is reported and tried again: a server that is away, too.

    `config` is asked each time, so that a change of the file counts at once.
    """
    while not stop.is_set():
        try:
            report(once(settings, config()))
        except GranaryError as error:
            report(error)
        except psycopg.Error as error:
            report(GranaryError(f"the warehouse broke off: {reason(error)}", todo="it is tried again"))
        stop.wait(every)


def follow_until_ended(
    settings: Settings, words: Callable[[Watched | GranaryError], str], *, every: float = EVERY_SECONDS
) -> None:
    """Do so until Ctrl-C or SIGTERM, and print the words for each look; what stays the same is said once."""
    stop, said = Event(), [""]
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())

    def report(done: Watched | GranaryError) -> None:
        now = words(done)
        if now and said != [now]:
            print(now, file=sys.stderr if isinstance(done, GranaryError) else sys.stdout, flush=True)
        said[:] = [now]

    follow(settings, load, stop, every=every, report=report)
