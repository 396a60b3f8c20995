"""What the command, the job and the schedule do: the tables of which raw rows are old, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from granary.dbt import manifest as dbt_manifest
from granary.load.api import find
from granary.sources.discovery import SOURCES
from granary.sources.select import select
from granary.tiering import archive, policy
from granary.tiering.restore import restore
from granary.warehouse.connection import connect, failure
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from granary.sources.spec import Table
    from granary.tiering.archive import Moved
    from granary.tiering.restore import Restored
    from granary.warehouse.settings import Settings

Chosen = list[tuple[str, "Table"]]


def chosen(names: Sequence[str], *, every: bool = False) -> Chosen:
    """Return the tables that a person means: without `every`, of those with `archive_after`.

    Raises:
        GranaryError: there is no such table, or one that is named by itself has no `archive_after`.
    """
    found = [(source, find(source, table)[1]) for source, table in select(names, usable=not names)]
    if every:
        return found
    policies = [(source, table) for source, table in found if table.archive_after]
    alone = [name for name in names if name not in SOURCES]
    without = [f"{source}.{table.name}" for source, table in found if not table.archive_after]
    if missing := [name for name in alone if name in without]:
        todo = "set it in the contract, such as archive_after=timedelta(days=400)"
        raise GranaryError("the table has no archive_after", missing[0], todo)
    return policies


def archived(
    settings: Settings, tables: Chosen, *, dry_run: bool = False, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Moved], list[GranaryError]]:
    """Move what is old of these tables; return what was done, and why some could not be."""
    done: list[Moved] = []
    failures: list[GranaryError] = []
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings)) if tables else {}
    for source, table in tables:
        try:
            readers = policy.readers(manifest, source, table.name)
            with connect(settings, role="transformer") as connection:
                newest = policy.newest_seen(connection, source, table.name, readers)
            before = archive.oldest_kept(settings, table)
            done.append(archive.archive(settings, source, table, before, newest, dry_run=dry_run, say=say))
        except (GranaryError, psycopg.Error) as error:
            failures.append(_shown(error, f"{source}.{table.name}"))
    return done, failures


def moved_again(
    settings: Settings, names: Sequence[str], say: Callable[[str], None] = lambda _: None
) -> list[GranaryError]:
    """Move what is old of tables (SOURCE.TABLE) of which rows came back for a build; return why some could not be."""
    tables = [(source, table) for source, table in chosen(names, every=True) if table.archive_after] if names else []
    return archived(settings, tables, say=say)[1]


def restored(
    settings: Settings,
    tables: Chosen,
    *,
    since: str | None = None,
    until: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Restored], list[GranaryError]]:
    """Bring back what was moved of these tables; return what was done, and why some could not be."""
    done: list[Restored] = []
    failures: list[GranaryError] = []
    for source, table in tables:
        try:
            done.append(restore(settings, source, table, since=since, until=until, say=say))
        except (GranaryError, psycopg.Error) as error:
            failures.append(_shown(error, f"{source}.{table.name}"))
    return done, failures


def _shown(error: GranaryError | psycopg.Error, place: str) -> GranaryError:
    return error if isinstance(error, GranaryError) else failure(error, place)
