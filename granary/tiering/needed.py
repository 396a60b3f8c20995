"""What a build needs of archived raw rows comes back before it goes on: it names them where it refuses to work.

Only the files that it names come back. Models that were built meanwhile are not built again; the refusal is made before
a model computes anything.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from granary.dbt.runner import BuildError
from granary.sources.discovery import SOURCES
from granary.tiering import records
from granary.tiering.restore import bring_back
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import Target
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from granary.dbt.run_events import Problem
    from granary.tiering.records import Archive
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

FILES = re.compile(r"archived files: (\d+(?:, \d+)*)")
"""What a refusal says (`ops.refuse_archived`, the macro `refuse_archived`): the numbers of the files."""
LEFT_FREE = 0.1
"""The share of the disk that is free which rows that come back must leave."""


def numbers(problems: Iterable[Problem]) -> set[int]:
    """Return which files a build that failed needs."""
    found = (number for one in problems for listed in FILES.findall(one.what) for number in listed.split(", "))
    return {int(number) for number in found}


def brought_back(
    settings: Settings,
    problems: Iterable[Problem],
    *,
    keys: Settings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Bring back the rows that a build needs, by the problems that it ended with.

    Returns:
        The tables (SOURCE.TABLE) of which rows came back: if any, the build can be tried again.

    Raises:
        GranaryError: a file cannot be read, or the disk has no room for the rows.
    """
    wanted = numbers(problems)
    if not wanted:
        return []
    with connect(settings) as connection:
        files = [one for one in _held(connection) if one.archive_id in wanted]
    _check_room(settings, files)
    done: list[str] = []
    for place, one in enumerate(files, 1):
        name = f"{one.source}.{one.table}"
        table = SOURCES[one.source].table(one.table)
        say(
            f"the build needs archived rows of {name}, {one.data_from} to {one.data_until}:"
            f" {plural(one.rows, 'row')} to bring back (file {place} of {len(files)})"
        )
        if bring_back(settings, Target(one.source, one.table, table.schema, table.key), one, keys or settings):
            done.append(name)
    return sorted(set(done))


def built(
    settings: Settings,
    build: Callable[[Settings], None],
    *,
    keys: Settings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Build, and bring back what that needs of archived rows; return the tables of which rows came back.

    Raises:
        BuildError: the build failed for another reason.
        GranaryError: see `brought_back`.
    """
    tables: set[str] = set()
    while True:
        try:
            build(settings)
        except BuildError as error:
            more = brought_back(settings, error.problems, keys=keys, say=say)
            if not more:
                raise
            tables.update(more)
        else:
            return sorted(tables)


def _held(connection: Connection) -> list[Archive]:
    return [
        one
        for one in records.archives(connection)
        if one.source in SOURCES and any(table.name == one.table for table in SOURCES[one.source].tables)
    ]


def _check_room(settings: Settings, files: list[Archive]) -> None:
    """Refuse to fill the disk of the embedded server.

    Raises:
        GranaryError: the rows would.
    """
    size = sum(one.raw_bytes for one in files)
    if settings.external or not size:
        return
    free = shutil.disk_usage(settings.home).free
    if size > free * (1 - LEFT_FREE):
        what = f"the build needs {size / 1e9:,.1f} GB of archived rows, and {free / 1e9:,.1f} GB are free"
        raise GranaryError(what, str(settings.home), "make room, or build fewer days")
