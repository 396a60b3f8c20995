"""What is in the way of capturing a source, and what could be better at its server."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from granary.cdc.mysql.catalog import check_server as check_mysql
from granary.cdc.mysql.catalog import look as look_mysql
from granary.cdc.mysql.server import Server
from granary.cdc.postgres.catalog import (
    PUBLICATION,
    check_rights,
    check_server,
    look,
    may_publish,
    publication_sql,
)
from granary.cdc.postgres.origin import Origin
from granary.cdc.status import status
from granary.sources.attempt import clock, of_error
from granary.sources.config import setting
from granary.sources.spec import BinlogCapture
from granary.warehouse.errors import GranaryError
from granary.warehouse.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.sources.spec import Capture, Source
    from granary.warehouse.settings import Settings

SLOTS = """
select count(*)::int, current_setting('max_replication_slots')::int, current_setting('max_slot_wal_keep_size'),
    count(*) filter (where slot_name = $1)::int
from pg_replication_slots
"""
SHORT_SECONDS = 24 * 3_600
"""A log that is kept for less is gone after a night in which nothing was captured."""


def examine(settings: Settings, source: Source) -> Iterator[Finding]:
    """Yield what is found, problems of the server first; a capture that has begun says how it stands."""
    assert source.capture is not None
    capture = source.capture
    try:
        if isinstance(capture, BinlogCapture):
            yield from _binlog(settings, source, capture)
        else:
            yield from _slot(settings, source, capture)
    except GranaryError as error:
        yield of_error(error, source.name)
        return
    standing = status(settings, source)
    for alarm in standing.alarms:
        begun = standing.phase not in ("never captured", "snapshot")
        yield Finding(alarm, source.name, "", f"granary capture {source.name}", "problem" if begun else "hint")


def _slot(settings: Settings, source: Source, capture: Capture) -> Iterator[Finding]:
    with Origin(setting(settings, capture.setting), capture, f"source {source.name}") as origin:
        check_server(origin)
        yield from clock(origin.where, datetime.fromisoformat(origin.server().clock).timestamp())
        used, most, kept, ours = origin.query(SLOTS, capture.slot)[0]
        if used >= most and not ours:
            todo = f"run `alter system set max_replication_slots = {most + 4}` there and restart it, or drop one"
            yield Finding("no replication slot is free", origin.where, f"{used} of {most}", todo)
        if kept == "-1":
            todo = "run `alter system set max_slot_wal_keep_size = '64GB'` there, with what its disk can spare"
            what = "a capture that stands still keeps the source's log without a limit"
            yield Finding(what, origin.where, "max_slot_wal_keep_size = -1", todo, "hint")
        if origin.query(PUBLICATION, capture.publication):
            look(origin, source.tables)
        else:
            yield _unpublished(origin, source)
            for table in source.tables:
                try:
                    check_rights(origin, table)
                except GranaryError as error:
                    yield of_error(error, table.name)


def _unpublished(origin: Origin, source: Source) -> Finding:
    what = f"there is no publication {origin.capture.publication}"
    if may_publish(origin, source.tables):
        return Finding(f"{what} yet", origin.where, "", f"the first `granary capture {source.name}` makes it", "hint")
    todo = f"have the tables' owner run: {publication_sql(origin, source.tables)}"
    return Finding(f"{what}, and our role may not make it", origin.where, "", todo)


def _binlog(settings: Settings, source: Source, capture: BinlogCapture) -> Iterator[Finding]:
    server = Server(setting(settings, capture.setting), capture, source.name)
    try:
        check_mysql(server)
        yield from clock(server.where, datetime.fromisoformat(server.now().clock).timestamp())
        found = server.variables("expire_logs_days", "binlog_expire_logs_seconds")
        days = float(found.get("expire_logs_days") or 0)
        seconds = float(found.get("binlog_expire_logs_seconds") or 0) or 86_400 * days
        if 0 < seconds < SHORT_SECONDS:
            todo = "run `set global binlog_expire_logs_seconds = 259200` there, and put it into its configuration"
            yield Finding("the source throws its log away soon", server.where, f"after {seconds:,.0f} s", todo, "hint")
        look_mysql(server, source.tables)
    finally:
        server.close()
