"""What `granary status` looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingestion.freshness import Freshness, freshness
from warehouse import server
from warehouse.connection import connect, query
from warehouse.forgotten import entries

if TYPE_CHECKING:
    from warehouse.connection import Connection
    from warehouse.settings import Settings

LOADS = """
select distinct on (source, table_name)
    source, table_name, status, unit, error, finished_at,
    (
        select coalesce(sum(a.rows_loaded), 0)::bigint from ops.load_audit as a
        where a.source = l.source and a.table_name = l.table_name and a.finished_at > now() - interval '1 day'
            and a.status = 'loaded'
    ) as rows_today,
    (
        select count(*) from ops.quarantine as q where q.source = l.source and q.table_name = l.table_name
            and q.status = 'open'
    ) as quarantined,
    (
        select coalesce(sum(a.rows_forgotten), 0)::bigint from ops.load_audit as a
        where a.source = l.source and a.table_name = l.table_name
    ) as forgotten
from ops.load_audit as l
order by source, table_name, load_id desc
"""

RELATIONS = """
select n.nspname::text as layer, count(*) as relations,
    coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint as rows_about,
    sum(pg_total_relation_size(c.oid))::bigint as bytes
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
where c.relkind in ('r', 'v', 'm', 'p')
    and (
        n.nspname like 'raw\\_%'
        or n.nspname in ('staging', 'intermediate', 'snapshots', 'seeds', 'build', 'marts', 'personal', 'ops')
    )
group by n.nspname
order by n.nspname
"""


@dataclass(frozen=True)
class Health:
    """The server, the last load of each table, what each schema holds, and the households that are forgotten.

    `erasures_open` are those of which something is left, or that the database does not know, being an older dump.
    """

    running: bool
    server: str
    loads: tuple[dict[str, Any], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    erasures: int = 0
    erasures_open: int = 0

    @property
    def well(self) -> bool:
        """Whether the server is up, no table's last load failed, and no source is silent for longer than agreed."""
        return self.running and not any(load["status"] == "failed" or load["is_late"] for load in self.loads)


def look(settings: Settings) -> Health:
    """Ask the server; a server that is down is an answer, not an error."""
    place = f"{'external' if settings.external else 'embedded'}, {settings.host}, database {settings.database}"
    if not server.running(settings):
        return Health(False, place)
    with connect(settings) as connection:
        if not query(connection, "select 1 where to_regclass('ops.load_audit') is not null"):
            return Health(True, place)
        late = {(one.source, one.table): one for one in freshness(settings)}
        loads = tuple(load | _age(late.get((load["source"], load["table_name"]))) for load in _rows(connection, LOADS))
        layers = _rows(connection, RELATIONS)
        if not query(connection, "select 1 where to_regclass('ops.erasures') is not null"):
            return Health(True, place, loads, layers)
        finished = dict(query(connection, "select subject, finished_at is not null from ops.erasures"))
        subjects = {*finished, *(entry.subject for entry in entries(settings))}
        return Health(True, place, loads, layers, len(subjects), sum(not finished.get(one) for one in subjects))


def _age(one: Freshness | None) -> dict[str, Any]:
    """Return what is told of a table's freshness; a table without a contract has none."""
    return {"fresh_at": one.fresh_at if one else None, "is_late": bool(one and one.is_late), "late": one and str(one)}


def _rows(connection: Connection, sql: str) -> tuple[dict[str, Any], ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql.encode())
        names = [column.name for column in cursor.description or ()]
        return tuple(dict(zip(names, row, strict=True)) for row in cursor)
