"""The source tables that rows were traced to: their loads, the units that these landed, and the rows in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from granary.warehouse import provenance
from granary.warehouse.connection import Connection, query, quote_name
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from granary.explain.archived import Away
    from granary.explain.links import Model
    from granary.explain.plan import Followed, Plan

LOAD = "load_id"


@dataclass(frozen=True)
class LoadRows:
    """What one load contributed: how many of its rows, and which (as ranges), where raw still holds them.

    `gone` are rows that raw does not hold any more under this load; `raw_rows` is what raw holds of the load in all, or
    the file `archive` instead of it.
    """

    load: provenance.Load
    used: int
    rows: str
    gone: int
    raw_rows: int
    archive: str = ""


@dataclass(frozen=True)
class Origin:
    """A source table that the rows were traced to; `loads` are the first of the `load_count` that contributed."""

    source: str
    table: str
    relation: str
    used: int
    gone: int
    load_count: int
    loads: tuple[LoadRows, ...]
    units: tuple[str, ...]
    differences: tuple[str, ...]


def origins(connection: Connection, route: Plan, tables: Mapping[str, str], limit: int, away: Away) -> list[Origin]:
    """Return what each source table contributed; of the first `limit` loads also which rows."""
    return [_origin(connection, route, model, tables, limit, away) for model in route.models if model.source]


def _origin(
    connection: Connection, route: Plan, model: Model, tables: Mapping[str, str], limit: int, away: Away
) -> Origin:
    assert model.source is not None
    source, table = model.source
    held = tables[model.node]
    used = _counts(connection, f"select {LOAD}, count(*) from {held} group by {LOAD}")
    gone: dict[int, int] = {}
    for followed in route.into(model):
        if LOAD in followed.link.match:
            for load_id, number in _gone(connection, followed, tables).items():
                gone[load_id] = gone.get(load_id, 0) + number
    ids = sorted({*used, *gone})
    ledger = provenance.loads(connection, ids)
    shown = [load_id for load_id in ids if load_id in ledger][:limit]
    away.fetch(model, ids)
    raw = provenance.raw_rows(connection, source, table, ids) | away.rows_of(model)
    keyed = provenance.has_key(connection, source, table)
    loads = tuple(
        LoadRows(
            ledger[load_id],
            used.get(load_id, 0) + gone.get(load_id, 0),
            ranges(_rows(connection, held, load_id)),
            gone.get(load_id, 0),
            raw.get(load_id, 0),
            away.file_of(load_id),
        )
        for load_id in shown
    )
    return Origin(
        source=source,
        table=table,
        relation=f"raw_{source}.{table}",
        used=sum(used.values()),
        gone=sum(gone.values()),
        load_count=len(ids),
        loads=loads,
        units=tuple(sorted({load.unit for load in ledger.values()})),
        differences=tuple(_differences(ids, ledger, raw, keyed=keyed)),
    )


def _gone(connection: Connection, followed: Followed, tables: Mapping[str, str]) -> dict[int, int]:
    """Count, by load, the rows whose source rows raw does not hold any more."""
    same = " and ".join(f"this.{quote_name(name)} = {text}" for name, text in followed.link.match.items())
    return _counts(
        connection,
        f"select this.{LOAD}, count(*) from {tables[followed.child.node]} as this where this.{LOAD} is not null"
        f" and not exists (select from {tables[followed.parent.node]} as parent where {same}) group by this.{LOAD}",
    )


def _counts(connection: Connection, sql: str) -> dict[int, int]:
    return {int(load_id): int(number) for load_id, number in query(connection, sql)}


def _rows(connection: Connection, held: str, load_id: int) -> list[int]:
    rows = query(connection, f"select load_row from {held} where {LOAD} = $1 order by load_row", load_id)
    return [int(row[0]) for row in rows]


def _differences(
    ids: Sequence[int], ledger: Mapping[int, provenance.Load], raw: Mapping[int, int], *, keyed: bool
) -> Iterator[str]:
    """Say where raw is not what the ledger says. Rows that are merged by key move on to later loads by right."""
    for load_id in ids:
        load = ledger.get(load_id)
        if load is None:
            yield f"load {load_id} is not in the ledger"
            continue
        held = raw.get(load_id, 0)
        if load.superseded_by is not None:
            yield (
                f"load {load_id} of {load.unit} was replaced by load {load.superseded_by}, which the mart does not hold"
                " yet: `granary run` builds it"
            )
        elif load.fingerprint and (held > load.rows_loaded or (held < load.rows_loaded and not keyed)):
            yield (
                f"raw_{load.source}.{load.table} holds {plural(held, 'row')} of load {load_id} ({load.unit}),"
                f" and the ledger says {load.rows_loaded:,} were loaded"
            )


def ranges(rows: Sequence[int]) -> str:
    """Return ascending numbers as ranges: 1-3, 7, 9-10."""
    if not rows:
        return ""
    parts, first = [], rows[0]
    for number, following in [*pairwise(rows), (rows[-1], None)]:
        if following != number + 1:
            parts.append(str(first) if first == number else f"{first}-{number}")
            first = following if following is not None else first
    return ", ".join(parts)
