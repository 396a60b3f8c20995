"""The marts as one publish left them: a session that sees one publish, and what changed between two.

Everything that carries marts elsewhere (the twin, exports, deliveries) reads them by this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from granary.warehouse.connection import connect, query, quote_name
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from granary.warehouse.connection import ArrowConnection, Connection
    from granary.warehouse.settings import Settings

    Session = TypeVar("Session", Connection, ArrowConnection)

SNAPSHOT = r"-c default_transaction_isolation=repeatable\ read -c default_transaction_read_only=on -c TimeZone=UTC"
"""Settings of a session that sees one publish, as libpq takes them."""
TRIES = 20
LAST = "select max(publish_id) from ops.publishes where schema_name = $1"
LINE = """
    select publish_id, coalesce(shows, publish_id), shows is null and is_kept
    from ops.publishes where schema_name = $1 and (is_kept or publish_id = (
        select max(last.publish_id) from ops.publishes as last where last.schema_name = $1
    ))
    order by publish_id
"""
ERASURES = """
    select count(*) || ' until ' || coalesce(max(finished_at)::text, '-')
    from ops.erasures where finished_at is not null
"""


@dataclass(frozen=True)
class Event:
    """A publish, or an undo or redo: its number, the publish that the marts are as since, and whether that is kept."""

    number: int
    shows: int
    is_kept: bool


def line(connection: Connection, schema: str) -> tuple[Event, ...]:
    """Return the publishes of a schema that are kept, in order, and at the end what came last."""
    return tuple(Event(*row) for row in query(connection, LINE, schema))


def erasures(connection: Connection) -> str:
    """Return a text that is another once somebody more is forgotten."""
    return str(query(connection, ERASURES)[0][0])


def changed(history: str, columns: Sequence[str], before: int, after: int) -> str:
    """Return a query for the rows of a mart in which two publishes differ, told by some columns of theirs.

    Args:
        history: the table of what publishes changed in the mart, as SQL.
        columns: such as its key, or what it is partitioned by.
        before: the number of one publish that is kept.
        after: that of the other; which is the earlier one does not matter.
    """
    low, high = min(before, after), max(before, after)
    return (
        f"select distinct {', '.join(map(quote_name, columns))} from {history}"
        f" where (_came > {low} and _came <= {high}) or (_gone > {low} and _gone <= {high})"
    )


def at_one_publish(settings: Settings, schema: str, mart: str, opened: Callable[[], Session]) -> tuple[Session, int]:
    """Return a transaction that sees all marts as they are after one publish, and that publish.

    Publishes are single transactions: if the last one is the same before and after the snapshot was taken, it is what
    the snapshot sees.

    Args:
        settings: the warehouse.
        schema: that of the marts.
        mart: what messages call the reason of this.
        opened: opens a session with the settings of `SNAPSHOT`.

    Raises:
        UsageError: nothing was published yet.
        GranaryError: publishes follow each other too fast.
    """
    for _ in range(TRIES):
        before = _last(settings, schema)
        session = opened()
        try:
            query(session, "select 1")
            if before is not None and _last(settings, schema) == before:
                return session, before
        except BaseException:
            session.close()
            raise
        session.close()
        if before is None:
            raise UsageError("nothing was published there yet", mart, "`granary run` publishes")
    raise GranaryError("publishes follow each other too fast", mart, "run this again")


def _last(settings: Settings, schema: str) -> int | None:
    with connect(settings) as connection:
        ((found,),) = query(connection, LAST, schema)
    return None if found is None else int(found)
