"""Checks of what dbt has published: closed months that changed, and marts that wait since something failed.

They are steps of their own after dbt's, since dbt publishes after its last test.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from granary.dagster.resources import Warehouse
from granary.dbt.manifest_nodes import is_mart, published_schema, relation
from granary.dbt.run_events import Event, Problem, emit
from granary.warehouse.connection import connect, query
from granary.warehouse.environment_errors import plainly

CLOSED_MONTHS, EVERYTHING = "closed_months_kept", "everything_published"
PUBLISH_CHECKS = (CLOSED_MONTHS, EVERYTHING)
ASSET = dg.AssetKey(["ops", "restatements"])
SHOWN = 20
"""Rows that a page lists before it breaks off."""
RESTATED = """
    select
        mart, to_char(business_month, 'YYYY-MM'), previous_row_count, row_count, differences::text,
        concat_ws('; ',
            'loads ' || coalesce(
                array_to_string(load_ids[1:20], ', '),
                case when erasure_ids is null then 'none: a model changed' else 'none' end
            ),
            'erasures ' || array_to_string(erasure_ids[1:20], ', ')),
        is_by_erasure
    from {relation}
    where is_latest_publish
    order by is_by_erasure, mart, business_month
"""
WAITING = "select mart from ops.unpublished where schema_name = $1 group by mart order by mart"
HOLDS = "select split_part(node, '.', 3), reason from ops.publish_holds where schema_name = $1 order by since, node"
COLUMNS = ("mart", "month", "rows before", "rows", "differences", "cause")


def publish_checks(manifest: Mapping[str, Any]) -> dg.AssetChecksDefinition:
    """Return both checks, made by one step."""
    nodes = manifest["nodes"].values()
    (restatements,) = (relation(node) for node in nodes if node["name"] == ASSET.path[-1])
    schema = published_schema(next(node for node in nodes if is_mart(node)))

    @dg.multi_asset_check(
        name="publishing",
        specs=[
            dg.AssetCheckSpec(
                CLOSED_MONTHS, asset=ASSET, description="The last publish changed no closed month, unless by erasures."
            ),
            dg.AssetCheckSpec(EVERYTHING, asset=ASSET, description="Nothing that was built waits to be published."),
        ],
    )
    def publishing(warehouse: Warehouse) -> Iterator[dg.AssetCheckResult]:
        try:
            with connect(warehouse.settings, role="transformer") as connection:
                restated = query(connection, RESTATED.format(relation=restatements))
                waiting = [str(mart) for (mart,) in query(connection, WAITING, schema)]
                holds = [f"{node} {reason}" for node, reason in query(connection, HOLDS, schema)]
        except Exception as failure:
            if (error := plainly(failure)) is None:
                raise
            emit(Problem(f"what was published cannot be checked: {error.what}", error.where, error.todo))
            raise dg.Failure(str(error), allow_retries=False) from failure
        yield from (closed_months(restated), everything(waiting, holds))

    return publishing


def closed_months(restated: list[tuple[Any, ...]]) -> dg.AssetCheckResult:
    """Return the check of the last publish: a warning with rows and sums for each closed month that it changed.

    Of months that an erasure explains to the cent there is no warning, and they are listed.
    """
    words = "; ".join(
        f"{mart} {month}: {before} rows, now {now}; {differences}; {cause}"
        for mart, month, before, now, differences, cause, is_by_erasure in restated[:SHOWN]
        if not is_by_erasure
    )
    records = [dg.TableRecord(dict(zip(COLUMNS, map(str, row[:-1]), strict=True))) for row in restated[:SHOWN]]
    table = dg.MetadataValue.table(records, dg.TableSchema([dg.TableColumn(name) for name in COLUMNS]))
    return result(CLOSED_MONTHS, words, {"months restated": len(restated), "restated": table})


def everything(waiting: list[str], holds: list[str]) -> dg.AssetCheckResult:
    """Return the check that what was built is what people read."""
    words = f"{', '.join(waiting)}: not published, since {', '.join(holds[:SHOWN]) or 'no run asked for it'}"
    return result(EVERYTHING, words if waiting else "", {"waiting": ", ".join(waiting) or "nothing"})


def result(name: str, warning: str, metadata: Mapping[str, Any]) -> dg.AssetCheckResult:
    """Return a check that warns, unless there is nothing to say, and tell the listener."""
    label = f"{name}: {warning}" if warning else name
    severity = "warn" if warning else ""
    emit(Event("checked", "dbt", label, "ops", passed=not warning, severity=severity, asset=ASSET.path[-1]))  # type: ignore[arg-type]
    return dg.AssetCheckResult(
        asset_key=ASSET,
        check_name=name,
        passed=not warning,
        severity=dg.AssetCheckSeverity.WARN,
        description=warning or None,
        metadata=metadata,
    )
