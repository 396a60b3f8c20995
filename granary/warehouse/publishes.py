"""Publishes that the marts can be shown as: which there are, back to one, forward, and views of one beside the marts.

The work is done by the server (migrations/history.sql); docs/engine/undo.md says what is kept.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from psycopg.errors import RaiseException

from granary.warehouse.connection import connect, query, reason
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.faults import fault_point
from granary.warehouse.project import project_vars
from granary.warehouse.run_ledger import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

KEPT = """
    select publish_id, finished_at, cardinality(marts), rows_inserted, rows_deleted,
        publish_id = ops.shown_publish(schema_name)
    from ops.publishes where schema_name = $1 and is_kept
    order by publish_id desc
"""
SHOWN_AT = """
    select coalesce(shows, publish_id) from ops.publishes where schema_name = $1 and finished_at <= $2
    order by publish_id desc limit 1
"""
LOCK = "select ops.take_lock(ops.publish_lock($1), 'publishing', true)"


@dataclass(frozen=True)
class Publish:
    """A publish that the marts can be shown as; `marts` is how many it wrote."""

    publish_id: int
    finished_at: datetime
    marts: int
    rows_inserted: int
    rows_deleted: int
    is_shown: bool


@dataclass(frozen=True)
class Changed:
    """What became of a mart when another publish was shown: rows that came and went."""

    mart: str
    rows_inserted: int
    rows_deleted: int


@dataclass(frozen=True)
class Shown:
    """The marts are as this publish left them. `newest` is the newest one that they can be shown as."""

    publish: Publish
    newest: int
    marts: tuple[Changed, ...]


@dataclass(frozen=True)
class AsOf:
    """A schema with a view of each of these marts as a publish left it."""

    publish: Publish
    schema: str
    marts: tuple[str, ...]


def kept(settings: Settings, schema: str = "marts") -> tuple[Publish, ...]:
    """Return the publishes that the marts can be shown as, the newest first."""
    with connect(settings, role="transformer") as connection:
        return _kept(connection, schema)


def find(settings: Settings, which: str, schema: str = "marts") -> Publish:
    """Return a publish that is kept, by its number or a time at which it was shown.

    Raises:
        GranaryError: it is not kept.
        UsageError: it is neither a number nor a time.
    """
    with connect(settings, role="transformer") as connection:
        return _found(connection, schema, which)


def undo(settings: Settings, steps: int, schema: str = "marts") -> Shown:
    """Show all marts as they were so many publishes before the one that is shown; readers see them before or after.

    Raises:
        GranaryError: so many are not kept; somebody wrote to a mart; or another publish is at work for two minutes.
    """
    return _show(settings, schema, -steps)


def redo(settings: Settings, steps: int | None, schema: str = "marts") -> Shown:
    """Show all marts as so many publishes after the one that is shown left them; None: as the newest one did.

    Raises:
        GranaryError: nothing was undone, or not so many; see also `undo`.
    """
    return _show(settings, schema, steps)


def release(settings: Settings, schema: str = "marts") -> bool:
    """Let the next publish follow what an undo shows, and give up what was undone; return whether one held it."""
    recorder = Recorder(settings, "publish", "release")
    with _publishing(settings, schema) as connection:
        ((held,),) = query(connection, "select ops.release_undo($1)", schema)
    if held:
        recorder.end()
    return bool(held)


def as_of(settings: Settings, which: str, schema: str = "marts") -> AsOf:
    """Make a schema with a view of each mart as a publish left it, given by its number or a time at which it was shown.

    Raises:
        GranaryError: it is not kept.
        UsageError: it is neither a number nor a time.
    """
    with _publishing(settings, schema) as connection:
        publish = _found(connection, schema, which)
        ((made, marts),) = query(
            connection, "select schema, marts from ops.show_as_of($1, $2)", schema, publish.publish_id
        )
    return AsOf(publish, str(made), tuple(marts))


def drop_as_of(settings: Settings, which: str, schema: str = "marts") -> bool:
    """Drop the views of a publish; return whether there were any.

    Raises:
        GranaryError: the publish is not kept, or somebody's view stands on one of them.
        UsageError: it is neither a number nor a time.
    """
    with _publishing(settings, schema) as connection:
        publish = _found(connection, schema, which).publish_id
        place = "select to_regnamespace(quote_ident(ops.as_of_schema($1, $2)))::text"
        ((there,),) = query(connection, place, schema, publish)
        ((dropped,),) = query(connection, "select ops.drop_as_of($1, $2)", schema, publish)
    if there and not dropped:
        raise GranaryError(
            "its views are in use: somebody reads them, or has views on them", str(there), "then run this again"
        )
    return bool(dropped)


def _show(settings: Settings, schema: str, steps: int | None) -> Shown:
    recorder = Recorder(settings, "publish", "undo" if steps is not None and steps < 0 else "redo")
    with _publishing(settings, schema) as connection:
        found = _kept(connection, schema)
        place = next((place for place, one in enumerate(found) if one.is_shown), None)
        if place is None:
            raise GranaryError(
                "there is no publish to go back to", schema, "what publishes change is kept from the next one on"
            )
        wanted = 0 if steps is None else place - steps
        if wanted == place or not 0 <= wanted < len(found):
            back = wanted >= place and steps is not None
            count = len(found) - 1 - place if back else place
            there = f"{count or 'no'} publish{'' if count == 1 else 'es'} {'before' if back else 'after'}"
            raise GranaryError(
                f"{there} the one that is shown ({found[place].publish_id}) can be shown",
                schema,
                "`granary publish` lists them",
            )
        target = found[wanted]
        rows = query(
            connection,
            "select mart, rows_inserted, rows_deleted from ops.show_publish($1, $2, $3)",
            schema,
            target.publish_id,
            recorder.run.run_id,
        )
        fault_point("undo-before-commit")
    changed = tuple(Changed(*row) for row in rows)
    recorder.count(sum(one.rows_inserted + one.rows_deleted for one in changed))
    recorder.end()
    return Shown(target, found[0].publish_id, changed)


def _kept(connection: Connection, schema: str) -> tuple[Publish, ...]:
    return tuple(Publish(*row) for row in query(connection, KEPT, schema))


def _found(connection: Connection, schema: str, which: str) -> Publish:
    publishes = {one.publish_id: one for one in _kept(connection, schema)}
    if which.isdecimal():
        number = int(which)
    else:
        rows = query(connection, SHOWN_AT, schema, _moment(which))
        if not rows:
            raise GranaryError(f"nothing had been published at {which}", schema, "`granary publish` lists what was")
        number = int(rows[0][0])
    if number not in publishes:
        span = f"kept are {min(publishes)} to {max(publishes)}" if publishes else "none is"
        raise GranaryError(f"publish {number} is not kept: {span}", schema, "`granary publish` lists them")
    return publishes[number]


def _moment(text: str) -> datetime:
    """Return the time that a person typed, in the project's time zone if it has none of its own; of a date its end."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if len(text) == len("2026-01-01"):
            found = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is neither the number of a publish nor a time; write 118, 2026-03-11 or '2026-03-11 09:30'"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(str(project_vars().get("time_zone", "UTC"))))


@contextmanager
def _publishing(settings: Settings, schema: str) -> Iterator[Connection]:
    """Yield a transaction that has the lock of publishing; it is committed at the end."""
    with connect(settings, role="transformer") as connection:
        try:
            query(connection, LOCK, schema)
            yield connection
        except RaiseException as error:
            raise GranaryError(reason(error), schema, "see `granary guide undo`") from None
        connection.commit()
