"""What `granary status` looks at."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from granary.alerting.incidents import load as incidents
from granary.cli.publish_state import PublishState, publish_state
from granary.load.freshness import Freshness, freshness
from granary.privacy.suppression_list import entries
from granary.sources.discovery import BROKEN
from granary.sources.select import select
from granary.supervisor.state import ServiceState, read
from granary.warehouse import certificate, listen, server
from granary.warehouse.connection import connect, query, quote_relation

if TYPE_CHECKING:
    from collections.abc import Collection

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

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
select n.nspname::text as layer, count(*) filter (where not c.relispartition) as relations,
    coalesce(sum(greatest(c.reltuples, 0)) filter (where c.relkind <> 'p'), 0)::bigint as rows_about,
    sum(pg_total_relation_size(c.oid))::bigint as bytes
from pg_class as c
inner join pg_class as whole on whole.oid = coalesce(pg_partition_root(c.oid), c.oid)
inner join pg_namespace as n on n.oid = whole.relnamespace
where c.relkind in ('r', 'v', 'm', 'p')
    and (
        n.nspname like 'raw\\_%'
        or n.nspname in (
            'staging', 'intermediate', 'snapshots', 'seeds', 'build', 'marts', 'personal', 'archive',
            'publish_history', 'ops'
        )
    )
group by n.nspname
order by n.nspname
"""


@dataclass(frozen=True)
class Health:
    """The server, the last load of each table, what each schema holds, and how many are forgotten.

    `erasures_open` are those of which something is left, or that the database does not know, being an older dump.
    """

    running: bool
    server: str
    loads: tuple[dict[str, Any], ...] = ()
    layers: tuple[dict[str, Any], ...] = ()
    erasures: int = 0
    erasures_open: int = 0
    unusable: tuple[str, ...] = ()
    """Sources whose modules cannot be used, and why."""
    lost: tuple[str, ...] = ()
    """Raw tables that are gone with the rows that they held, or empty."""
    marts: PublishState = field(default_factory=PublishState)
    services: tuple[ServiceState, ...] = ()
    """What `granary serve` keeps at work, if it does."""
    listening: str | None = None
    """Where the embedded server lets colleagues in, by TLS or not, and until when its certificate is valid."""
    certificate_ends: datetime | None = None
    incidents: tuple[dict[str, Any], ...] = ()
    """Those that are open, the gravest and oldest first."""
    twin: tuple[dict[str, Any], ...] = ()
    """Per copy of the columnar twin of the marts: its publish, and how many it does not have, for how many seconds."""

    @property
    def certificate_expires(self) -> bool:
        """Whether clients will soon be right to refuse the server's certificate."""
        soon = datetime.now(timezone.utc) + certificate.RENEWED
        return self.certificate_ends is not None and self.certificate_ends < soon

    @property
    def door(self) -> tuple[str, ...]:
        """What there is to say of how colleagues come in."""
        if not self.listening:
            return ()
        until = f", certificate until {self.certificate_ends:%Y-%m-%d}" if self.certificate_ends else ""
        said = f"Colleagues are let in at {self.listening}{until}."
        soon = "The server's certificate is about to expire: renew its file, or start the server again to make another."
        return (said, soon) if self.certificate_expires else (said,)

    @property
    def twin_said(self) -> tuple[str, ...]:
        """What there is to say of the columnar twin."""
        if not self.twin:
            return ()
        seconds = max(one["seconds"] for one in self.twin)
        if not any(one["publish_count"] for one in self.twin):
            return ("The columnar twin has all that is published.",)
        return (f"The columnar twin is behind what is published, for {seconds:,.0f} s: `granary twin`.",)

    @property
    def well(self) -> bool:
        """Whether the server and all services are up, every source is whole and in time, the marts are what was built.

        What was loaded by a source or a table that is no longer declared does not count.
        """
        failed = any((load["status"] == "failed" and load["declared"]) or load["is_late"] for load in self.loads)
        down = any(one.status != "up" for one in self.services)
        return self.running and not (
            self.certificate_expires or down or failed or self.unusable or self.lost or self.marts.problems
        )


def look(settings: Settings) -> Health:
    """Ask the server; a server that is down is an answer, not an error."""
    place = f"{'external' if settings.external else 'embedded'}, {settings.host}, database {settings.database}"
    services = read(settings)
    listening = None if settings.external else listen.load(settings.home)
    door: dict[str, Any] = {}
    if listening:
        door = {"listening": str(listening), "certificate_ends": None}
        if listening.tls:
            door["certificate_ends"] = certificate.ends(settings.home, listening)
    if not server.running(settings):
        return Health(False, place, services=services, **door)
    with connect(settings) as connection:
        if not query(connection, "select 1 where to_regclass('ops.load_audit') is not null"):
            return Health(True, place, services=services, **door)
        declared = set(select([], changes=True))
        unusable = {name: str(error) for name, error in BROKEN.items()}
        late = {(one.source, one.table): one for one in freshness(settings)}
        loads = tuple(
            load
            | {"declared": (pair := (load["source"], load["table_name"])) in declared or pair[0] in unusable}
            | _age(late.get((load["source"], load["table_name"])))
            for load in _rows(connection, LOADS)
        )
        found = Health(
            True,
            place,
            loads,
            _rows(connection, RELATIONS),
            unusable=tuple(unusable.values()),
            lost=_lost(settings, declared),
            marts=publish_state(connection),
            services=services,
            **door,
            incidents=_incidents(connection),
            twin=_twin(connection),
        )
        if not query(connection, "select 1 where to_regclass('ops.erasures') is not null"):
            return found
        finished = dict(query(connection, "select subject, finished_at is not null from ops.erasures"))
        subjects = {*finished, *(entry.subject for entry in entries(settings))}
        unfinished = sum(not finished.get(one) for one in subjects)
        return replace(found, erasures=len(subjects), erasures_open=unfinished)


def _lost(settings: Settings, declared: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Return the raw tables that are gone, or empty, while their loads had brought rows; the next load repairs that.

    It is asked as the loader: what a loader has put in the place of a table must not run as the owner.
    """
    found = []
    with connect(settings, role="loader") as connection:
        if not query(connection, "select 1 where to_regclass('ops.raw_tables') is not null"):
            return ()
        for source, table, rows in query(
            connection, "select source, table_name, row_count from ops.raw_tables where row_count > 0 order by 1, 2"
        ):
            relation = quote_relation(f"raw_{source}", table)
            if (source, table) not in declared:
                continue
            there = query(connection, "select to_regclass($1) is not null", relation) == [(True,)]
            if not there or not query(connection, f"select 1 from {relation} limit 1"):
                state = "is empty" if there else "is gone"
                found.append(f"raw_{source}.{table} {state}, and held {rows:,} rows: `granary load {source}.{table}`")
    return tuple(found)


def _incidents(connection: Connection) -> tuple[dict[str, Any], ...]:
    """Return number, severity, cause and beginning of the incidents that are open."""
    if not query(connection, "select 1 where to_regclass('ops.incidents') is not null"):
        return ()
    names = ("incident_id", "severity", "cause", "since")
    found = incidents(connection, "where closed_at is null order by severity, opened_at")
    return tuple({name: getattr(one, name) for name in names} for one in found)


def _twin(connection: Connection) -> tuple[dict[str, Any], ...]:
    """Return how far the columnar twin is behind, if there is one."""
    if not query(connection, "select 1 where to_regclass('ops.twin_lag') is not null"):
        return ()
    return _rows(connection, "select copy, publish_id, publish_count, seconds from ops.twin_lag order by copy")


def _age(one: Freshness | None) -> dict[str, Any]:
    """Return a table's freshness in words; a table without a contract has none."""
    return {"fresh_at": one.fresh_at if one else None, "is_late": bool(one and one.is_late), "late": one and str(one)}


def _rows(connection: Connection, sql: str) -> tuple[dict[str, Any], ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql.encode())
        names = [column.name for column in cursor.description or ()]
        return tuple(dict(zip(names, row, strict=True)) for row in cursor)
