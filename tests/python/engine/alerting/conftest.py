"""A warehouse that the tests of a file share, emptied for each; a receiver; and a project of 41 models."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from granary.alerting import grouping, watch
from granary.alerting.config import Channel, Config
from granary.warehouse.connection import connect, execute, query
from tests.python.support import receivers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings
    from tests.python.conftest import Make

NOW = datetime(2026, 3, 12, 6, 0, tzinfo=timezone.utc)
EMPTIED = (
    "ops.incidents, ops.alerts, ops.signals, ops.load_audit, ops.quarantine, ops.files_not_loaded, ops.schema_changes,"
    " ops.builds, ops.publish_holds, ops.publishes, ops.published_months, ops.published_marts,"
    " ops.whole_builds, ops.runs, ops.steps, ops.lags, ops.objectives, ops.anomalies, ops.backups, ops.backup_state,"
    " ops.twin_state, ops.deliveries, ops.delivery_batches, ops.delivered_rows"
)


@pytest.fixture(scope="module")
def shared(make_warehouse: Make, request: pytest.FixtureRequest) -> Settings:
    return make_warehouse(request.module.__name__.rpartition(".")[2])


@pytest.fixture
def watched(shared: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the warehouse without any record, and have lineage be that of the 41 models below."""
    monkeypatch.setenv("GRANARY_HOME", str(shared.home))
    monkeypatch.setenv("PGDATABASE", shared.database)
    run(shared, f"truncate {EMPTIED} restart identity")
    monkeypatch.setattr(watch, "graph_of", lambda _: grouping.Graph(manifest()))
    return shared


@pytest.fixture
def receiver() -> Iterator[receivers.Receiver]:
    with receivers.web() as found:
        yield found


@pytest.fixture
def chat(receiver: receivers.Receiver, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Return a policy under which the receiver is told of everything."""
    monkeypatch.setenv("THE_CHAT", receiver.url)
    return to_chat()


def to_chat(**more: Any) -> Config:
    channels = {"chat": Channel("chat", "slack", {"url": "THE_CHAT"})}
    return Config(channels=channels, tell={"warning": ("chat",), "critical": ("chat",)}, **more)


def run(settings: Settings, statement: str, *parameters: object) -> None:
    with connect(settings, autocommit=True) as connection:
        execute(connection, statement, *parameters)


def rows(settings: Settings, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    with connect(settings) as connection:
        return query(connection, sql, *parameters)


@pytest.fixture
def ask(watched: Settings) -> Callable[..., list[tuple[Any, ...]]]:
    return lambda sql, *parameters: rows(watched, sql, *parameters)


def loaded(settings: Settings, table: str, status: str, at: datetime, error: str | None = None, rows: int = 5) -> None:
    """Have the ledger say that a load of a table of the tills has ended at some time."""
    read = rows if status == "loaded" else 0
    run(
        settings,
        "insert into ops.load_audit (load_id, run_id, source, table_name, unit, fingerprint, status, rows_read,"
        " rows_loaded, rows_quarantined, rows_deleted, bytes, seconds, error, started_at, finished_at)"
        " values (nextval('ops.load_id'), 'r', 'till', $1, 'u', $2, $3, $4, $4, 0, 0, 0, 0, $5, $6, $6)",
        table,
        f"{status} {at}",
        status,
        read,
        error,
        at,
    )


def built(settings: Settings, at: datetime, **failures: str) -> None:
    """Have dbt have ended at some time, with these nodes and how each failed."""
    told = ", ".join(f'{{"node": "{name}", "status": "{status}", "rows": null}}' for name, status in failures.items())
    run(
        settings,
        "insert into ops.builds (invocation_id, schema_name, command, finished_at, failures, warnings)"
        " values ($1, 'marts', 'build', $2, $3, '[]')",
        str(at),
        at,
        f"[{told}]",
    )


def manifest(models: int = 40) -> dict[str, Any]:
    """Return a project as dbt tells of it: receipts > stg > 37 models > 2 marts; a dashboard and a metric."""
    parents: dict[str, list[str]] = {
        "source.shop.till.receipts": [],
        "model.shop.stg_receipts": ["source.shop.till.receipts"],
    }
    for number in range(1, models):
        before = "model.shop.stg_receipts" if number == 1 else f"model.shop.m{number - 1}"
        parents[f"model.shop.m{number}"] = [before]
    last = f"model.shop.m{models - 1}"
    marts = {f"model.shop.m{number}" for number in (models - 2, models - 1)}
    parents |= {
        "source.shop.till.prices": [],
        "test.shop.m2_unique": ["model.shop.m2"],
        "exposure.shop.sales_page": [last],
        "metric.shop.sales": [f"model.shop.m{models - 2}"],
    }
    nodes: dict[str, dict[str, Any]] = {kind: {} for kind in ("sources", "nodes", "exposures", "metrics")}
    for unique_id in parents:
        kind, _, *names = unique_id.split(".")
        node: dict[str, Any] = {"resource_type": kind, "name": names[-1], "config": {}}
        if kind == "source":
            node["source_name"] = names[0]
        if kind == "model":
            node["config"] = {"schema": "build" if unique_id in marts else "staging", "group": "analytics"}
        if kind == "test":
            node["attached_node"] = parents[unique_id][0]
        if kind == "exposure":
            node |= {"type": "dashboard", "label": "Sales"}
        nodes[{"source": "sources", "exposure": "exposures", "metric": "metrics"}.get(kind, "nodes")][unique_id] = node
    groups = {"group.shop.analytics": {"name": "analytics", "owner": {"name": "Analytics"}}}
    return {**nodes, "parent_map": parents, "groups": groups}
