"""What was restored, compared with its own records: marts, raw tables, positions, and who is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from granary.cdc import status as capture_status
from granary.privacy import locator
from granary.privacy.locations import locate
from granary.privacy.suppression_list import suppressed
from granary.sources.discovery import SOURCES
from granary.tiering import records as tiering
from granary.warehouse.connection import connect, query, quote_relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

MARTS = """
    select
        shown.schema_name || '.' || found.mart, found.publish_id, found.row_count, found.found_row_count, found.is_same
    from (select distinct publishes.schema_name from ops.publishes as publishes) as shown
    cross join lateral ops.verify_marts(shown.schema_name) as found
    order by 1
"""
RAW_TABLES = """
    select source, table_name, row_count, to_regclass(format('%I.%I', 'raw_' || source, table_name)) is not null
    from ops.raw_tables
    order by 1, 2
"""
LEDGER = """
    with loads as (
        select load_id, rows_loaded from ops.load_audit
        where source = $1 and table_name = $2 and status = 'loaded' and superseded_by is null and rows_loaded > 0
            and archive_id is null
    ),

    held as (select _load_id as load_id, count(*) as row_count from {relation} group by _load_id)

    select count(*)
    from loads
    full outer join held on loads.load_id = held.load_id
    where loads.rows_loaded is distinct from held.row_count
"""
POSITIONS = "select source, table_name, load_id, value from ops.watermarks order by 1, 2"
COUNTED = ("replace_unit", "append")


@dataclass(frozen=True)
class Check:
    """One comparison: of what, whether it passed, and what was found."""

    what: str
    subject: str
    passed: bool
    detail: str


def marts(connection: Connection) -> list[Check]:
    """Compare each published mart with the rows and the digest that the ledger of publishes has of it."""
    found = []
    for mart, publish, expected, rows, is_same in query(connection, MARTS):
        detail = f"{rows:,} rows, digest of publish {publish}" if rows is not None else "it is not there"
        if rows is not None and not is_same:
            detail = f"its digest is another than that of publish {publish}"
            detail = f"{rows:,} rows, and publish {publish} has {expected:,}" if rows != expected else detail
        found.append(Check("mart", mart, is_same, detail))
    return found


def raw(connection: Connection) -> list[Check]:
    """Compare each raw table with the ledger of loads: the rows that it is to hold, and those of each load."""
    found = []
    for source, table, expected, is_there in query(connection, RAW_TABLES):
        relation, name = quote_relation(f"raw_{source}", str(table)), f"raw_{source}.{table}"
        if not is_there:
            found.append(Check("raw", name, not expected, "it is not there"))
            continue
        ((rows,),) = query(connection, f"select count(*) from {relation}")
        wrong = 0
        if _counts(source, table):
            ((wrong,),) = query(connection, LEDGER.format(relation=relation), source, table)
        detail = f"{rows:,} rows" + (f", {expected:,} by the ledger" if rows != expected else "")
        detail += f", {wrong:,} loads have others than it says" if wrong else ""
        found.append(Check("raw", name, rows == expected and not wrong, detail))
    return found


def archives(connection: Connection, settings: Settings) -> list[Check]:
    """Look for the files that have raw rows of the ledger: whether each is there, of its size, and has its loads' rows.

    `settings` are those of the living warehouse, which knows the credentials of the places.
    """
    if query(connection, "select to_regclass('ops.archives') is null") == [(True,)]:
        return []  # a backup of an earlier version
    found: dict[str, list[str]] = {}
    total: dict[str, tuple[int, int]] = {}
    for one in tiering.archives(connection):
        name = f"raw_{one.source}.{one.table}"
        files, rows = total.get(name, (0, 0))
        loaded = sum(tiering.loads_in(connection, one.archive_id).values())
        total[name] = files + 1, rows + loaded
        wrong = found.setdefault(name, [])
        try:
            size = one.files(settings).names(one.path.rpartition("/")[0]).get(one.path)
        except GranaryError as error:
            wrong.append(f"{one.place} cannot be asked: {error.what}")
            continue
        if size is None:
            wrong.append(f"{one.path} is not in {one.place}")
        elif size != one.bytes:
            wrong.append(f"{one.path} has {size:,} bytes instead of {one.bytes:,}")
        elif loaded > one.rows:
            wrong.append(f"{one.path} has {one.rows:,} rows, and the ledger {loaded:,}")
    return [
        Check("archive", name, not wrong, wrong[0] if wrong else f"{total[name][1]:,} rows in {total[name][0]:,} files")
        for name, wrong in found.items()
    ]


def positions(connection: Connection, aside: Settings, living: Settings) -> list[Check]:
    """Compare how far sources were read with the living warehouse, and captures with what their source still has."""
    restored = {(row[0], row[1]): (int(row[2]), str(row[3])) for row in query(connection, POSITIONS)}
    try:
        with connect(living) as other:
            now = {(row[0], row[1]): (int(row[2]), str(row[3])) for row in query(other, POSITIONS)}
    except (GranaryError, psycopg.Error):
        now = dict(restored)
    found = []
    for (source, table), (load_id, _) in restored.items():
        ahead = load_id > now.get((source, table), (load_id, ""))[0]
        words = "ahead of the warehouse" if ahead else "as far as the warehouse, or behind it: the rest is loaded again"
        found.append(Check("position", f"{source}.{table}", not ahead, words))
    for spec in SOURCES.values():
        if spec.capture is not None:
            found.append(_capture(aside, spec.name))
    return found


def forgotten(connection: Connection, settings: Settings) -> list[Check]:
    """Look for everybody who is forgotten in every place that has keys of data subjects."""
    wanted = suppressed(connection, settings)
    if wanted is None:
        return [Check("forgotten", "nobody", True, "nobody was forgotten yet")]
    where = locate(settings)
    left = sorted(set[str]().union(*locator.present(connection, wanted, where, where.places).values()))
    detail = f"{len(wanted.hashes):,} forgotten" + (f", and somebody is in {', '.join(left)}" if left else "")
    return [Check("forgotten", "everywhere", not left, detail)]


def _capture(settings: Settings, source: str) -> Check:
    try:
        status = capture_status.status(settings, SOURCES[source])
    except GranaryError as error:
        return Check("capture", source, True, f"not asked: {error.what}")
    # The source's slot may be past what was stored at the destination: then the capture says so and copies anew.
    words = "; ".join(status.alarms) or f"its source has everything since {status.lsn}"
    return Check("capture", source, True, words)


def _counts(source: str, table: str) -> bool:
    """Return whether the rows of a table are each of one load: not where later ones take rows over by their key."""
    spec = SOURCES.get(source)
    if spec is None or spec.is_captured:
        return False
    return any(one.name == table and one.disposition in COUNTED and not one.key for one in spec.tables)
