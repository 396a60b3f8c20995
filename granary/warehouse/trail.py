"""The audit trail: who changed what (`ops.audit_trail`), and what people's logins have asked (the server's log).

Postgres knows who reads only by its log. So the statements of people, who are given a login by `granary roles grant`,
are logged; those of the warehouse's own roles are not, which the run ledger knows. Nobody but a superuser can turn that
off. Literals are never shown: they can be personal.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psycopg

from granary.warehouse.connection import connect, execute, query, quote_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

LOG = "postgres.log"
LARGEST_LOG = 50_000_000
"""Bytes of the server's log after which the next is begun; the one before it is kept."""
LINE = re.compile(
    r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC \[\d+\] (?P<login>\S+) (?P<application>.*?) ?"
    r"LOG:  (?:statement|execute [^:]*): (?P<sql>.*)"
)
LITERALS = re.compile(r"\$(\w*)\$.*?(?:\$\1\$|$)|[eEuU]?&?'(?:[^'\\]|''|\\.)*(?:'|$)", re.DOTALL)
NUMBERS = re.compile(r"(?<![\w$.])\d[\d_.]*(?:e[-+]?\d+)?\b", re.IGNORECASE)
SHOWN = 400


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did: when, who by the server's knowledge, who by the process's own word, and what."""

    at: datetime
    login: str
    role: str
    person: str | None
    application: str | None
    client: str | None
    action: str
    object: str
    details: str | None


def changes(settings: Settings, since: datetime, who: str | None = None) -> list[Entry]:
    """Return what was changed since then, the newest first; of one login, role or person if `who` says so."""
    sql = (
        "select at, login, role, person, application, client, action, object, details from ops.audit_trail"
        " where at >= $1 and ($2::text is null or $2 in (login, role, person)) order by entry_id desc"
    )
    with connect(settings) as connection:
        execute(connection, "select ops.note_roles()")
        connection.commit()
    with connect(settings, role="auditor") as connection:
        return [Entry(*row) for row in query(connection, sql, since, who)]


def log_reads(connection: Connection, person: str) -> bool:
    """Have what a person's login asks logged; return whether this server lets us."""
    try:
        with connection.transaction():
            execute(connection, f"alter role {quote_name(person)} set log_statement = 'all'")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def reads(settings: Settings, since: datetime, who: str | None = None) -> list[Entry]:
    """Return what people's logins have asked of the embedded server since then, the newest first, without literals."""
    log = settings.home / LOG
    found = [
        entry
        for path in (log.with_suffix(".log.1"), log)
        for entry in _parsed(path)
        if entry.at >= since and who in (None, entry.login)
    ]
    found.sort(key=lambda entry: entry.at)  # of one millisecond the log's own order stays
    return found[::-1]


def _parsed(log: Path) -> Iterator[Entry]:
    if not log.exists():
        return
    with log.open(errors="replace") as lines:
        found, text = None, ""
        for line in lines:
            if line.startswith("\t"):  # a statement of several lines goes on so
                text += " " + line.strip()
                continue
            if found:
                yield _entry(found, text)
            found = LINE.match(line)
            text = found["sql"] if found else ""
        if found:
            yield _entry(found, text)


def _entry(line: re.Match[str], sql: str) -> Entry:
    at = datetime.fromisoformat(line["at"]).replace(tzinfo=timezone.utc)
    shown = " ".join(without_literals(sql).split())
    return Entry(at, line["login"], line["login"], None, line["application"] or None, None, "read", shown[:SHOWN], None)


def without_literals(sql: str) -> str:
    """Return a statement with a mark in place of each text and number in it."""
    return NUMBERS.sub("…", LITERALS.sub("'…'", sql))


def begin_log(settings: Settings) -> bool:
    """Begin the embedded server's log anew if it is large; return whether that was so.

    The server keeps the file open and appends to it: it is copied and emptied.
    """
    log = settings.home / LOG
    if settings.external or not log.exists() or log.stat().st_size < LARGEST_LOG:
        return False
    before = log.with_suffix(".log.1")
    before.unlink(missing_ok=True)
    before.touch(mode=0o600)
    shutil.copyfile(log, before)
    with log.open("r+b") as file:
        file.truncate()
    return True
