"""OpenLineage events of an invocation of dbt: of each table that it built, and of its publish."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import psycopg

from granary.dbt.catalog import Catalog
from granary.dbt.known_lineage import KnownLineage
from granary.dbt.manifest_nodes import BUILT, PUBLISHED, relation
from granary.warehouse import openlineage
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import notify
from granary.warehouse.openlineage import Dataset, Work, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from granary.warehouse.run_ledger import Run
    from granary.warehouse.settings import Settings
    from granary.warehouse.steps import Step

PUBLISHES = """
    select publish_id, schema_name, marts, rows_inserted, started_at, finished_at
    from ops.publishes where invocation_id = $1 order by publish_id
"""


def emit(settings: Settings, run: Run, steps: Sequence[Step], manifest: Mapping[str, Any], target: Path) -> None:
    """Send what an invocation built and published, if events go anywhere; `target` has its compiled SQL."""
    if not openlineage.is_on():
        return
    try:
        with closing(connect(settings, role="transformer", autocommit=True)) as connection:
            catalog = Catalog(connection)
            works = [*_tables(settings, run, steps, manifest, target, catalog)]
            for row in query(connection, PUBLISHES, run.run_id):
                works.append(_publish(settings, run, catalog, *row[1:]))
    except (GranaryError, psycopg.Error, OSError) as error:
        notify(f"warning: OpenLineage events are not sent: {type(error).__name__}")
        return
    openlineage.emit(works)


def _tables(
    settings: Settings,
    run: Run,
    steps: Sequence[Step],
    manifest: Mapping[str, Any],
    target: Path,
    catalog: Catalog,
) -> Iterator[Work]:
    nodes = {**manifest.get("nodes", {}), **manifest.get("sources", {})}
    built = {
        step.name: step for step in steps if step.kind in ("model", "seed", "snapshot") and step.status != "skipped"
    }
    known = KnownLineage(settings)
    checks: dict[str, dict[str, bool]] = {}
    for test in steps:
        if test.kind == "test" and test.relation and test.status != "skipped":
            checks.setdefault(test.relation, {})[test.name] = test.status == "succeeded"
    for node in nodes.values():
        step = built.get(node["name"])
        if step is None or node["resource_type"] != step.kind:
            continue
        parents = [relation(nodes[one]) for one in node["depends_on"].get("nodes", ()) if one in nodes]
        path = target / "compiled" / node["package_name"] / node["original_file_path"]
        sql = path.read_text() if path.is_file() else ""
        columns = {name: catalog.columns(name) for name in parents}
        lineage = known.of(node, sql, columns) if node["resource_type"] in ("model", "snapshot") else {}
        inputs = {name: table(settings, name, columns=columns[name]) for name in parents}
        made_from = {
            column: [(inputs[name].namespace, inputs[name].name, parent) for name, parent in origins]
            for column, origins in lineage.items()
        }
        where = relation(node)
        made = table(
            settings,
            where,
            columns=catalog.columns(where, again=True),
            made_from=made_from,
            rows=step.row_count,
            checks=checks.get(where, {}),
        )
        yield _work(run, step, list(inputs.values()), made)
    known.keep()


def _work(run: Run, step: Step, inputs: Sequence[Dataset], made: Dataset) -> Work:
    ended = step.finished_at or run.finished_at or datetime.now(timezone.utc)
    return Work(
        kind=step.kind,
        name=step.name,
        run_id=run.run_id,
        started_at=step.started_at or ended - timedelta(seconds=step.seconds),
        finished_at=ended,
        inputs=inputs,
        outputs=[made],
        error=(step.cause or "failed") if step.status == "failed" else None,
        parent=(run.run_id, f"dbt {run.name}"),
    )


def _publish(
    settings: Settings, run: Run, catalog: Catalog, schema: str, marts: Sequence[str], rows: int, *times: datetime
) -> Work:
    """Return a publish: each mart from the table that was built, column by column."""
    prefix = schema.removesuffix(PUBLISHED)
    inputs, outputs = [], []
    for mart in marts:
        columns = catalog.columns(f"{schema}.{mart}", again=True)
        built = table(settings, f"{prefix}{BUILT}.{mart}", columns=columns)
        inputs.append(built)
        made_from = {column: [(built.namespace, built.name, column)] for column in columns}
        outputs.append(replace(table(settings, f"{schema}.{mart}", columns=columns), made_from=made_from))
    if len(outputs) == 1:
        outputs = [replace(outputs[0], rows=rows)]
    began, ended = times
    parent = (run.run_id, f"{run.kind} {run.name}")
    return Work("publish", f"publish {schema}", run.run_id, began, ended, inputs, outputs, parent=parent)
